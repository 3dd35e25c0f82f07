"""Stop and discard: the folder is what it was before the start, and the user is told what happened."""

from pathlib import Path
from typing import Any

import tiny
import torch
import trials
from training_pro.runs.checkpoints import find_checkpoints
from training_pro.runs.control import change_control
from training_pro.runs.state import read_state
from training_pro.runs.store import RunFolder

EVERY_TWO = {"save_every_steps": 2, "save_every_epoch": False, "keep_last": 2}
IDS = torch.tensor([[1, 40, 41, 42, 7, 3, 60, 61]])


def content(folder: Path) -> dict[str, bytes]:
    """All files but the run's diary."""
    kept = {"events.jsonl", "control.json", "training_parameters.json", "training_log.json", "training_graph.json"}
    files = [path for path in folder.rglob("*") if path.is_file() and path.name not in kept]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def discarded(tmp_path: Path, step: int = 7, model: Any = None, **adapter: Any) -> Any:
    events = trials.Events()
    events.on(step, lambda: change_control(tmp_path / "loras/trial/control.json", discard=True))
    changes = {"adapter": adapter, "checkpoints": EVERY_TWO}
    outcome, _ = trials.run(trials.settings(tmp_path, **changes), model or tiny.model(), events=events)
    assert (outcome.status, outcome.adapter_saved) == ("discarded", False)
    state = read_state(outcome.folder)
    assert (state.status, state.end["message"], state.end["adapter"]) == ("discarded", outcome.message, "")
    assert not [entry for entry in events.all("checkpoint") if entry["step"] >= step]
    return outcome


def test_a_first_run_leaves_its_diary_only(tmp_path: Path) -> None:
    model = tiny.model().eval()
    before = model(input_ids=IDS).logits
    outcome = discarded(tmp_path, model=model)
    assert outcome.message == "Discarded: nothing was saved, 2 checkpoints of this run removed."
    assert content(outcome.folder.path) == {}
    assert torch.equal(model(input_ids=IDS).logits, before)
    again, _ = trials.run(trials.settings(tmp_path))  # the name is free
    assert again.status == "finished"


def test_before_the_first_step(tmp_path: Path) -> None:
    from training_pro.training.job import run_job

    def load() -> Any:
        change_control(tmp_path / "loras/trial/control.json", discard=True)
        return tiny.model(), tiny.fresh_tokenizer()

    outcome = run_job(trials.settings(tmp_path), load)
    assert (outcome.status, outcome.message) == ("discarded", "Discarded: nothing was saved, this run had no checkpoint.")


def test_also_at_the_last_step(tmp_path: Path) -> None:
    outcome = discarded(tmp_path, step=13)
    assert content(outcome.folder.path) == {}


def test_continue_gives_the_former_adapter_back(tmp_path: Path) -> None:
    first, _ = trials.run(trials.settings(tmp_path))
    before = trials.weights(first.folder)
    outcome = discarded(tmp_path, if_exists="continue")
    (backup,) = (tmp_path / "loras").glob("trial-backup-*-np")
    assert outcome.message == (
        "Discarded: nothing was saved, 2 checkpoints of this run removed. The adapter that was there before is in its place. "
        f"The former checkpoints and diary are in {backup.name}."
    )
    assert trials.same(trials.weights(outcome.folder), before)
    assert find_checkpoints(outcome.folder) == []
    assert find_checkpoints(RunFolder(backup))


def test_replace_gives_the_former_adapter_back(tmp_path: Path) -> None:
    first, _ = trials.run(trials.settings(tmp_path))
    before = trials.weights(first.folder)
    outcome = discarded(tmp_path, if_exists="replace")
    assert (
        "The adapter that was there before is in its place. The former checkpoints and diary are in trial-backup-"
        in outcome.message
    )
    assert trials.same(trials.weights(outcome.folder), before)


def test_a_resumed_run_is_what_it_was_before_it_was_resumed(tmp_path: Path) -> None:
    first, _ = trials.run(trials.settings(tmp_path, checkpoints=EVERY_TWO), stop_at=3)
    before = content(first.folder.path)
    assert set(before) >= {"adapter_model.safetensors", "checkpoint-2/optimizer.pt", "checkpoint-3/optimizer.pt"}
    outcome = discarded(tmp_path, step=9, if_exists="resume")
    after = content(first.folder.path)
    assert set(before) - set(after) == {name for name in before if name.startswith("checkpoint-2/")}  # rotated away on the way
    assert {name: before[name] for name in after} == after
    assert outcome.message == (
        "Discarded: nothing was saved, 2 checkpoints of this run removed. The adapter that was there before is in its place. "
        "1 checkpoint from before the start stay; 'resume' goes on from there."
    )
    with trials.watched() as rest:
        last, _ = trials.run(trials.settings(tmp_path, adapter={"if_exists": "resume"}))
    with trials.watched() as whole:
        trials.run(trials.settings(tmp_path, adapter={"name": "whole"}))
    assert last.status == "finished", last.message
    assert rest == whole[3:]
