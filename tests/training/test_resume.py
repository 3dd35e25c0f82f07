"""A run that is stopped and resumed is the run that was never stopped: the same batches, losses, rates and weights, to the bit."""

import gc
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tiny
import trials
from training_pro.runs.checkpoints import find_checkpoints
from training_pro.runs.state import read_state
from training_pro.runs.store import RunFolder

GOES_ON = {"adapter": {"if_exists": "resume"}}


def resumed(**changes: Any) -> dict[str, Any]:
    return {**changes, "adapter": {"if_exists": "resume", **changes.get("adapter", {})}}


@pytest.mark.parametrize(
    ("accumulation", "num_steps", "stops"),
    [(1, 13, [1, 3, 5, 12]), (3, 5, [1, 2, 4])],  # 5 steps an epoch: 3 is in its middle, 5 at its end
)
@pytest.mark.parametrize("workers", [0, 2])
def test_it_goes_on_as_if_nothing_had_happened(
    tmp_path: Path, accumulation: int, num_steps: int, stops: list[int], workers: int
) -> None:
    changes: dict[str, Any] = {"batching": {"gradient_accumulation": accumulation}}
    changes["run"] = {"workers": workers, "adapters_dir": str(tmp_path / "whole")}
    with trials.watched() as whole:
        outcome, events = trials.run(trials.settings(tmp_path, **changes))
    assert (outcome.status, outcome.step, len(whole)) == ("finished", num_steps, num_steps)
    assert len({step[2] for step in whole}) == num_steps  # the losses differ, so equal ones mean something

    for stop in stops if workers == 0 else stops[1:2]:
        changes["run"] = {"workers": workers, "adapters_dir": str(tmp_path / f"stop-{stop}")}
        with trials.watched() as parts:
            first, _ = trials.run(trials.settings(tmp_path, **changes), stop_at=stop)
            assert (first.status, first.step) == ("interrupted", stop)
            second, later = trials.run(trials.settings(tmp_path, **resumed(**changes)))
        assert (second.status, second.step) == ("finished", num_steps)
        assert parts == whole
        kept = ("step", "epoch", "loss", "smoothed_loss", "lr", "grad_norm", "tokens", "trained_tokens")
        assert [[entry[key] for key in kept] for entry in later.all("step")] == [
            [entry[key] for key in kept] for entry in events.all("step")[stop:]
        ]
        assert trials.same(trials.weights(outcome.folder), trials.weights(second.folder))


def test_twice_interrupted(tmp_path: Path) -> None:
    with trials.watched() as whole:
        outcome, _ = trials.run(trials.settings(tmp_path, run={"adapters_dir": str(tmp_path / "whole")}))
    with trials.watched() as parts:
        trials.run(trials.settings(tmp_path), stop_at=4)
        trials.run(trials.settings(tmp_path, **resumed()), stop_at=7)
        last, _ = trials.run(trials.settings(tmp_path, **resumed()))
    assert parts == whole
    assert trials.same(trials.weights(outcome.folder), trials.weights(last.folder))


@pytest.mark.parametrize("case", ["resume 1", "resume 3"])
@pytest.mark.parametrize("rank", [0, 1])
def test_two_processes_go_on_too(two_ranks: Any, case: str, rank: int) -> None:
    folder, seen = two_ranks
    whole, first, second = (seen[rank][case][part] for part in ("whole", "first", "second"))
    assert [part["status"] for part in (whole, first, second)] == ["finished", "interrupted", "finished"]
    assert len(whole["seen"]) == whole["step"] > first["step"] > 0
    assert first["seen"] + second["seen"] == whole["seen"]
    assert second["steps"] == [] or [step["loss"] for step in first["steps"] + second["steps"]] == [
        step["loss"] for step in whole["steps"]
    ]
    accumulation, workers = {"resume 1": (1, 0), "resume 3": (3, 2)}[case]
    place = folder / f"resume-{accumulation}-{workers}-"
    assert trials.same(trials.weights(f"{place}whole/trial"), trials.weights(f"{place}parts/trial"))


def test_two_processes_see_different_batches(two_ranks: Any) -> None:
    """Both ranks together train each sample once an epoch."""
    _, seen = two_ranks
    first, second = (seen[rank]["resume 1"]["whole"]["seen"] for rank in range(2))
    assert [step[2] for step in first] == [step[2] for step in second]  # the loss is everybody's
    rows = [str(ids) for step in first[:3] + second[:3] for batch in step[1] for ids in batch]
    assert len(rows) == len(set(rows)) == 10


# --- what fits no checkpoint ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the run 'trial' was stopped at step 3 of 13."""
    folder = tmp_path_factory.mktemp("stopped")
    outcome, _ = trials.run(trials.settings(folder), stop_at=3)
    assert outcome.status == "interrupted"
    return folder


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"num_rows": 12}, "the data or how they are prepared changed"),
        ({"data": {"cutoff": 200}}, "the data or how they are prepared changed"),
        ({"data": {"eval_share": 0.2}}, "the number of samples changed"),
        ({"training": {"seed": 7}}, r"Seed changed \(then 42, now 7\)"),
        ({"training": {"optimizer": "sgd"}}, "Optimizer changed"),
        ({"batching": {"true_batch_size": 3}}, r"True Batch Size changed \(then 2, now 3\)"),
        ({"batching": {"gradient_accumulation": 2}}, r"Gradient Accumulation Steps changed \(then 1, now 2\)"),
        ({"adapter": {"rank": 8}}, "the adapter's settings .* changed .*rank 4.*rank 8"),
        ({"adapter": {"alpha": 8}}, "the adapter's settings"),
        ({"adapter": {"targets": ["q-v"]}}, "the adapter's settings"),
    ],
)
def test_what_changed_is_said(stopped: Path, change: dict[str, Any], words: str) -> None:
    parameters = (stopped / "loras/trial/training_parameters.json").read_text()
    outcome, _ = trials.run(trials.settings(stopped, **resumed(**change)))
    assert outcome.status == "failed"
    assert re.search(words, outcome.message), outcome.message
    assert "cannot be resumed exactly" in outcome.message
    assert "continue" in outcome.message
    assert (stopped / "loras/trial/training_parameters.json").read_text() == parameters  # still those of the run


def test_another_number_of_processes_is_said(two_ranks: Any) -> None:
    folder, _ = two_ranks
    place = {"adapters_dir": str(folder / "resume-1-0-parts")}
    outcome, _ = trials.run(trials.settings(folder, **resumed(run=place, training={"epochs": 9})))
    assert outcome.status == "failed"
    assert "the number of processes (GPUs) changed (then 2, now 1)" in outcome.message


def test_another_model_is_said(stopped: Path) -> None:
    outcome, _ = trials.run(trials.settings(stopped, **GOES_ON), tiny.model(num_hidden_layers=1))
    assert "the base model changed" in outcome.message


def test_without_a_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is nothing to resume at"):
        trials.run(trials.settings(tmp_path, **GOES_ON))
    outcome, _ = trials.run(trials.settings(tmp_path, training={"epochs": 1}))
    for path in outcome.folder.path.glob("checkpoint-*"):
        shutil.rmtree(path)
    with pytest.raises(ValueError, match="there is no checkpoint in .* to resume from"):
        trials.run(trials.settings(tmp_path, **GOES_ON))


# --- settings that may change --------------------------------------------------------------------------------------------------


def test_a_finished_run_has_nothing_to_resume_but_more_epochs_go_on(tmp_path: Path) -> None:
    outcome, _ = trials.run(trials.settings(tmp_path, training={"epochs": 1}))
    assert (outcome.status, outcome.step) == ("finished", 5)
    again, _ = trials.run(trials.settings(tmp_path, **resumed(training={"epochs": 1})))
    assert again.status == "failed"
    assert "this run is finished (5 of 5 steps)" in again.message
    assert "Raise Epochs" in again.message

    with trials.watched() as parts:
        more, events = trials.run(trials.settings(tmp_path, **resumed(training={"epochs": 3})))
    assert (more.status, more.step) == ("finished", 15)
    assert "left out" not in events.texts()
    with trials.watched() as whole:
        trials.run(trials.settings(tmp_path, run={"adapters_dir": str(tmp_path / "whole")}, training={"epochs": 3}))
    assert [step[1] for step in parts] == [step[1] for step in whole[5:]]  # the same batches
    assert [step[3] for step in parts] == [step[3] for step in whole[5:]]  # the rates of the new plan
    assert [entry["lr"] for entry in events.all("step")] == [step[3][0] for step in parts]


def test_an_epoch_that_was_planned_as_a_part_is_completed(tmp_path: Path) -> None:
    """Half an epoch of 10 samples is 5 in 3 steps of 2; the other 5 are 3 more steps."""
    with trials.watched() as steps:
        first, _ = trials.run(trials.settings(tmp_path, training={"epochs": 1.5}))
        assert first.step == 8
        more, events = trials.run(trials.settings(tmp_path, **resumed(training={"epochs": 2})))
    assert (more.status, more.step) == ("finished", 11)
    assert "Epochs changed from 1.5 to 2: the rest of this epoch is cut anew; each sample is still trained once" in events.texts()
    assert [entry["epoch"] for entry in events.all("step")][-1] == 2
    samples = [tuple(sample) for step in steps for batch in step[1] for sample in batch]
    assert len(set(samples)) == 10
    assert sorted(samples[10:]) == sorted(samples[:10])


def test_another_learning_rate_and_decay_take_effect(stopped: Path, tmp_path: Path) -> None:
    shutil.copytree(stopped / "loras", tmp_path / "loras")
    changes = {"learning_rate": 0.005, "weight_decay": 0.5, "schedule": "constant"}
    config = trials.settings(stopped, **resumed(training=changes, run={"adapters_dir": str(tmp_path / "loras")}))
    decays: list[float] = []
    with trials.watched() as seen:
        events = trials.Events()
        events.on(5, lambda: decays.extend(group["weight_decay"] for group in _optimizer().param_groups))
        trials.run(config, events=events, stop_at=6)
    assert [step[3] for step in seen] == [[0.005]] * 3
    assert 0.5 in decays


def _optimizer() -> Any:
    """That of the one trainer that runs."""
    from training_pro.training.trainer import PlannedTrainer

    return next(entry for entry in gc.get_objects() if isinstance(entry, PlannedTrainer) and entry.optimizer).optimizer


def test_the_adapter_of_a_finished_run_that_could_not_be_saved(tmp_path: Path) -> None:
    outcome, _ = trials.run(trials.settings(tmp_path, training={"epochs": 1}))
    adapter = outcome.folder.path / "adapter_model.safetensors"
    learned = adapter.read_bytes()
    adapter.unlink()
    again, _ = trials.run(trials.settings(tmp_path, **resumed(training={"epochs": 1})))
    assert (again.status, again.adapter_saved) == ("finished", True)
    assert "its adapter was made from checkpoint-5" in again.message
    assert adapter.read_bytes() == learned


# --- killed processes ----------------------------------------------------------------------------------------------------------

KILLED = """
import os, signal, sys
import trials
from pathlib import Path
from training_pro.training.trainer import PlannedTrainer

save = PlannedTrainer._save_scaler
def save_scaler(self, folder):
    if self.state.global_step == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    save(self, folder)
PlannedTrainer._save_scaler = save_scaler
trials.run(trials.settings(Path(sys.argv[1]), checkpoints={"save_every_steps": 2}))
"""


def test_killed_in_the_middle_of_a_save(tmp_path: Path) -> None:
    """What is there then: a whole checkpoint of step 2, a part of that of step 4, and half a line in the diary."""
    trials.chat_rows(tmp_path, 10)
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], env=trials.environment(), capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr[-3000:]
    folder = RunFolder(tmp_path / "loras/trial")
    assert (folder.path / "checkpoint-4/adapter_model.safetensors").is_file()
    assert (folder.path / "checkpoint-4/optimizer.pt").is_file()
    assert [checkpoint.step for checkpoint in find_checkpoints(folder)] == [2]
    assert read_state(folder).status == "died"
    (folder.path / "checkpoint-4/left-over").write_text("of the killed process")
    with folder.events.open("a") as file:
        file.write('{"t": 1.5, "event": "st')

    every_two = {"checkpoints": {"save_every_steps": 2}}
    with trials.watched() as parts:
        outcome, _ = trials.run(trials.settings(tmp_path, **resumed(**every_two)))
    with trials.watched() as whole:
        reference, _ = trials.run(trials.settings(tmp_path, run={"adapters_dir": str(tmp_path / "whole")}, **every_two))
    assert parts == whole[2:]
    assert trials.same(trials.weights(outcome.folder), trials.weights(reference.folder))
    state = read_state(folder)
    assert state.status == "finished"
    assert [entry["step"] for entry in state.steps] == list(range(1, 14))


def test_a_part_of_a_checkpoint_is_written_anew(tmp_path: Path) -> None:
    config = trials.settings(tmp_path, training={"epochs": 1})
    part = tmp_path / "loras/trial/checkpoint-5"
    events = trials.Events()

    def leave_a_part() -> None:
        part.mkdir(parents=True)
        (part / "optimizer.pt").write_bytes(b"half")
        (part / "left-over").touch()

    events.on(2, leave_a_part)
    outcome, _ = trials.run(config, events=events)
    assert [checkpoint.step for checkpoint in find_checkpoints(outcome.folder)] == [5]
    assert not (part / "left-over").exists()
    assert (part / "optimizer.pt").stat().st_size > 1000
