"""What the user asks of a run that goes on: every control, its effect at the next step, and what stands in the diary."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trials
from hypothesis import given
from hypothesis import strategies as st
from training_pro.runs.checkpoints import choose_checkpoint, find_checkpoints
from training_pro.runs.control import Control, ControlReader, change_control
from training_pro.runs.state import read_state
from training_pro.runs.store import RunFolder
from training_pro.training.controls import Controls, agree, from_numbers, to_numbers

numbers = st.none() | st.floats(0, 100)
counts = st.integers(0, 1000)
CONTROLS = st.builds(
    Control,
    stop=st.booleans(),
    save_requests=counts,
    stop_at_loss=numbers,
    phase_requests=counts,
    discard=st.booleans(),
    stop_at_epoch=numbers,
    evaluate_requests=counts,
    pause=st.booleans(),
    lr_scale=st.floats(0.001, 100),
)


@given(CONTROLS)
def test_wishes_travel_between_ranks_as_numbers(control: Control) -> None:
    """All fields there are, whatever is added; also their kinds."""
    again = from_numbers(to_numbers(control))
    assert again == control
    assert [type(value) for value in vars(again).values()] == [type(value) for value in vars(control).values()]


def test_one_process_sends_nothing() -> None:
    assert agree(SimpleNamespace(num_processes=1), Control(stop=True), True, False) == (Control(stop=True), (True, False))


def test_each_press_counts_once(tmp_path: Path) -> None:
    events = trials.Events()
    controls = Controls(ControlReader(tmp_path / "control.json"), events)
    alone = SimpleNamespace(num_processes=1, is_main_process=True)
    controls.take(alone, 1)
    assert not controls.is_asked("save_requests")
    change_control(tmp_path / "control.json", save_requests=2)
    controls.take(alone, 2)
    assert [controls.is_asked("save_requests") for _ in range(2)] == [True, False]
    assert not controls.is_asked("evaluate_requests")
    controls.take(alone, 3)
    assert events.all("control") == [{"name": "save_requests", "value": 2, "step": 2}]


def at(tmp_path: Path, changes: dict[int, dict[str, Any]]) -> trials.Events:
    """A listener that changes controls right after steps, as a page does."""
    events = trials.Events()
    control = tmp_path / "loras/trial/control.json"
    for step, change in changes.items():
        events.on(step, lambda change=change: change_control(control, **change))  # type: ignore[misc]
    return events


def told(events: trials.Events) -> list[tuple[str, Any, int]]:
    return [(entry["name"], entry["value"], entry["step"]) for entry in events.all("control")]


# --- stops ---------------------------------------------------------------------------------------------------------------------


def test_stop_at_loss_is_set_changed_and_cleared_on_the_way(tmp_path: Path) -> None:
    events = at(tmp_path, {10: {"stop_at_loss": 0.001}, 11: {"stop_at_loss": 0}, 12: {"stop_at_loss": 50.0}})
    outcome, _ = trials.run(trials.settings(tmp_path, checkpoints={"stop_at_loss": 0.002}), events=events)
    assert (outcome.status, outcome.step) == ("finished", 12)
    assert outcome.message.endswith("reached Stop at loss 50.")
    assert told(events) == [("stop_at_loss", 0.001, 10), ("stop_at_loss", 0, 11), ("stop_at_loss", 50.0, 12)]
    events = at(tmp_path, {11: {"stop_at_loss": 0}})  # the setting's own, cleared before the window is full
    config = trials.settings(tmp_path, adapter={"if_exists": "replace"}, checkpoints={"stop_at_loss": 50.0})
    events.on(3, lambda: change_control(tmp_path / "loras/trial/control.json", stop_at_loss=0))
    outcome, _ = trials.run(config, events=events)
    assert (outcome.status, outcome.step) == ("finished", 13)


def test_stop_at_epoch(tmp_path: Path) -> None:
    """Five steps an epoch. The rate stays the one of the whole plan; resuming goes on as if there had been no stop."""
    with trials.watched() as whole:
        wanted, _ = trials.run(trials.settings(tmp_path, adapter={"name": "whole"}))
    with trials.watched() as seen:
        outcome, events = trials.run(trials.settings(tmp_path, checkpoints={"stop_at_epoch": 1.2}))
        assert (outcome.status, outcome.step, outcome.adapter_saved) == ("finished", 6, True)
        assert outcome.message == "Epoch 1.20 of 2.5 reached Stop at epoch 1.2."
        assert events.all("checkpoint")[-1]["cause"] == "stop"
        again, _ = trials.run(trials.settings(tmp_path, adapter={"if_exists": "resume"}, checkpoints={"stop_at_epoch": 1.0}))
        assert (again.status, again.step) == ("failed", 0)
        assert "checkpoint-6 is at epoch 1.20 already. Got: 1." in again.message
        last, _ = trials.run(trials.settings(tmp_path, adapter={"if_exists": "resume"}))
    assert last.status == "finished", last.message
    assert seen == whole
    assert trials.same(trials.weights(last.folder), trials.weights(wanted.folder))


def test_stop_at_epoch_on_the_way(tmp_path: Path) -> None:
    events = at(tmp_path, {2: {"stop_at_epoch": 2.0}, 4: {"stop_at_epoch": 1.4}})
    outcome, _ = trials.run(trials.settings(tmp_path), events=events)
    assert (outcome.status, outcome.step) == ("finished", 7)
    outcome, _ = trials.run(  # cleared
        trials.settings(tmp_path, adapter={"name": "trial", "if_exists": "replace"}, checkpoints={"stop_at_epoch": 1}),
        events=at(tmp_path, {4: {"stop_at_epoch": 0}}),
    )
    assert (outcome.status, outcome.step) == ("finished", 13)


# --- saves, evaluations, the learning rate -------------------------------------------------------------------------------------


def test_save_now_and_resume_from_it_exactly(tmp_path: Path) -> None:
    with trials.watched() as whole:
        wanted, _ = trials.run(trials.settings(tmp_path, adapter={"name": "whole"}))
    events = at(tmp_path, {3: {"save_requests": 1}, 7: {"stop": True}})
    trials.run(trials.settings(tmp_path), events=events)
    names = [checkpoint.path.name for checkpoint in find_checkpoints(RunFolder(tmp_path / "loras/trial"))]
    assert names == ["checkpoint-3-user", "checkpoint-5", "checkpoint-7"]
    assert not (tmp_path / "loras/trial/.saving").exists()
    with trials.watched() as seen:
        adapter = {"if_exists": "resume", "resume_from": "checkpoint-3-user"}
        last, events = trials.run(trials.settings(tmp_path, adapter=adapter))
    assert last.status == "finished", last.message
    assert events.all("run_started")[0]["resumed_from_step"] == 3
    assert seen == whole[3:]
    assert trials.same(trials.weights(last.folder), trials.weights(wanted.folder))
    state = read_state(last.folder)
    assert [entry["step"] for entry in state.steps] == list(range(1, 14))


def test_the_newest_checkpoint_is_the_one_saved_last(tmp_path: Path) -> None:
    """A run that was resumed from an older checkpoint saves newer ones with fewer steps."""
    trials.run(trials.settings(tmp_path), stop_at=7)
    adapter = {"if_exists": "resume", "resume_from": "checkpoint-5"}
    folder = RunFolder(tmp_path / "loras/trial")
    trials.run(trials.settings(tmp_path, adapter=adapter), stop_at=6)
    assert [checkpoint.step for checkpoint in find_checkpoints(folder)] == [5, 7, 6]
    assert choose_checkpoint(folder, "").step == 6
    with pytest.raises(
        ValueError, match="Resume from: there is no whole checkpoint 'checkpoint-9' in .* There are: checkpoint-5, "
    ):
        trials.run(trials.settings(tmp_path, adapter={"if_exists": "resume", "resume_from": "checkpoint-9"}))


def test_evaluate_now(tmp_path: Path) -> None:
    events = at(tmp_path, {2: {"evaluate_requests": 1}, 3: {"evaluate_requests": 3}})
    trials.run(trials.settings(tmp_path, data={"eval_share": 0.2}, training={"epochs": 1}), events=events)
    assert [entry["step"] for entry in events.all("evaluation")] == [0, 2, 3, 4]
    events = at(tmp_path, {2: {"evaluate_requests": 1}})
    config = trials.settings(tmp_path, adapter={"if_exists": "replace"}, training={"epochs": 1})
    outcome, _ = trials.run(config, events=events)
    assert outcome.status == "finished"
    assert "Evaluate now: this run has no evaluation data." in events.texts()


def test_the_scale_of_the_learning_rate(tmp_path: Path) -> None:
    """It multiplies the schedule from the next step on, is written with each step, and goes on after a resume."""
    with trials.watched() as plain:
        trials.run(trials.settings(tmp_path, adapter={"name": "plain"}))
    changes = {2: {"lr_scale": 0.5}, 9: {"lr_scale": 3}}
    with trials.watched() as whole:
        wanted, events = trials.run(trials.settings(tmp_path), events=at(tmp_path, changes))
    factors = [1.0] * 2 + [0.5] * 7 + [3.0] * 4
    for step, usual, factor, event in zip(whole, plain, factors, events.all("step"), strict=True):
        assert step[3] == pytest.approx([rate * factor for rate in usual[3]], rel=1e-12)
        assert (event["lr"], event["lr_scale"]) == (step[3][0], factor)
    assert told(events) == [("lr_scale", 0.5, 2), ("lr_scale", 3, 9)]
    weights = trials.weights(wanted.folder)

    with trials.watched() as parts:
        config = trials.settings(tmp_path, adapter={"if_exists": "replace"})
        trials.run(config, events=at(tmp_path, {2: {"lr_scale": 0.5}, 6: {"stop": True}}))
        config = trials.settings(tmp_path, adapter={"if_exists": "resume"})
        last, events = trials.run(config, events=at(tmp_path, {9: {"lr_scale": 3}}))
    assert parts == whole
    assert trials.same(trials.weights(last.folder), weights)
    assert told(events) == [("lr_scale", 0.5, 6), ("lr_scale", 3, 9)]
    assert "Learning rate scale: 0.5, as it was at checkpoint-6." in events.texts()
    assert read_state(last.folder).controls["lr_scale"] == 3


# --- a control file that a user edits by hand ----------------------------------------------------------------------------------


def test_bad_values_never_end_a_run(tmp_path: Path) -> None:
    control = tmp_path / "loras/trial/control.json"
    contents = {
        2: {"lr_scale": 0.5},
        3: {"lr_scale": "fast", "stop_at_loss": -1, "stop_at_epoch": [], "pause": "yes", "save_requests": 1.5, "stop": 1},
        4: {"lr_scale": "fast"},
        5: [1, 2],
        6: "{",
        7: {"lr_scale": 0, "stop_at_loss": "0,001", "unknown": 1},
    }
    events = trials.Events()
    for step, content in contents.items():
        text = content if isinstance(content, str) else json.dumps(content)
        events.on(step, lambda text=text: control.write_text(text))  # type: ignore[misc]
    outcome, _ = trials.run(trials.settings(tmp_path), events=events)
    assert (outcome.status, outcome.step) == ("finished", 13)
    assert told(events) == [("lr_scale", 0.5, 2), ("stop_at_loss", 0.001, 7)]
    warnings = [entry["text"] for entry in events.all("message") if "control.json" in entry["text"]]
    assert len(warnings) == 8  # each once: six values, no object (twice the same), a scale of 0
    assert sum("Learning rate scale: this cannot be used. Got: 'fast'." in text for text in warnings) == 1
