"""The table of checkpoints and what one can do with its lines: choose one to resume, make it the adapter, delete it."""

import json
import math
import os
from pathlib import Path
from typing import Any

import pytest
from training_pro.runs.checkpoints import (
    MARKER,
    best_checkpoint,
    checkpoint_rows,
    choose_checkpoint,
    delete_checkpoint,
    delete_old,
    find_checkpoints,
    use_checkpoint,
)
from training_pro.runs.events import EventWriter
from training_pro.runs.state import process_start_time
from training_pro.runs.store import RunFolder, write_json


def make(folder: Path, name: str, marker: dict[str, Any] | None, content: str = "adapter") -> Path:
    path = folder / name
    path.mkdir(parents=True)
    (path / "adapter_model.safetensors").write_text(f"{content} of {name}")
    (path / "adapter_config.json").write_text("{}")
    (path / "optimizer.pt").write_bytes(b"1" * 100)
    if marker is not None:
        write_json(path / MARKER, marker)
    return path


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """A run with four checkpoints, one of them half, and an adapter."""
    folder = tmp_path / "style"
    make(folder, "checkpoint-4", {"epoch": 1.0, "loss": 2.5, "eval_loss": 2.0, "cause": "epoch", "saved": 10})
    make(folder, "checkpoint-8", {"epoch": 2.0, "loss": 1.5, "eval_loss": 1.75, "cause": "epoch", "saved": 20})
    make(folder, "checkpoint-6-user", {"epoch": 1.5, "loss": 2.0, "cause": "user", "saved": 15})
    make(folder, "checkpoint-10", None)
    (folder / "adapter_model.safetensors").write_text("final")
    (folder / "adapter_config.json").write_text('{"r": 4}')
    return RunFolder(folder)


def start_diary(folder: RunFolder) -> None:
    """The run goes on, in this process."""
    write = EventWriter(folder.events)
    write("run_started", name=folder.name, pid=os.getpid(), process_started=process_start_time())
    write.close()


def test_the_rows(run: RunFolder) -> None:
    rows = checkpoint_rows(run)
    assert [(row.path.name, row.step, row.epoch, row.loss, row.eval_loss, row.cause) for row in rows] == [
        ("checkpoint-4", 4, 1.0, 2.5, 2.0, "epoch"),
        ("checkpoint-6-user", 6, 1.5, 2.0, None, "user"),
        ("checkpoint-8", 8, 2.0, 1.5, 1.75, "epoch"),
        ("checkpoint-10", 10, None, None, None, ""),
    ]
    assert [row.is_complete for row in rows] == [True, True, True, False]
    assert [row.is_best for row in rows] == [False, False, True, False]
    sizes = [sum(file.stat().st_size for file in row.path.iterdir()) for row in rows]
    assert [row.num_bytes for row in rows] == sizes
    assert min(sizes) > 100


def test_no_checkpoints_and_no_folder(tmp_path: Path) -> None:
    assert checkpoint_rows(RunFolder(tmp_path)) == checkpoint_rows(RunFolder(tmp_path / "nowhere")) == []


@pytest.mark.parametrize("value", ["2", None, True, math.nan, math.inf, [1]])
def test_numbers_that_are_none(tmp_path: Path, value: Any) -> None:
    path = make(tmp_path, "checkpoint-1", None)
    (path / MARKER).write_text(json.dumps({"loss": value, "eval_loss": value, "epoch": value, "saved": value}))
    (row,) = checkpoint_rows(RunFolder(tmp_path))
    assert (row.loss, row.eval_loss, row.epoch, row.is_complete, row.is_best) == (None, None, None, True, False)
    assert find_checkpoints(RunFolder(tmp_path))[0].age == (0.0, 1, "checkpoint-1")


def test_the_one_that_is_resumed(run: RunFolder) -> None:
    assert choose_checkpoint(run, "").path.name == "checkpoint-8"
    assert choose_checkpoint(run, " checkpoint-6-user ").step == 6
    for name in ("checkpoint-10", "checkpoint-5", "../style/checkpoint-4"):
        with pytest.raises(
            ValueError, match="Resume from: there is no whole checkpoint .* There are: checkpoint-4, checkpoint-6-user, "
        ):
            choose_checkpoint(run, name)


def test_the_best_one_and_the_users_stay(run: RunFolder) -> None:
    for step, loss in ((12, 1.9), (16, 1.8), (20, 1.85)):
        make(run.path, f"checkpoint-{step}", {"cause": "epoch", "eval_loss": loss, "saved": 20 + step})
    best = best_checkpoint(find_checkpoints(run))
    assert best
    assert best.step == 8
    deleted = delete_old(run, 1, keep_best=True, kept="checkpoint-12")
    assert [path.name for path in deleted] == ["checkpoint-4", "checkpoint-16"]
    assert [checkpoint.step for checkpoint in find_checkpoints(run)] == [6, 8, 12, 20]
    assert [path.name for path in delete_old(run, 1)] == ["checkpoint-8", "checkpoint-12"]
    assert best_checkpoint([]) is None


def test_a_checkpoint_becomes_the_adapter(run: RunFolder) -> None:
    words = use_checkpoint(run, run.path / "checkpoint-6-user")
    (backup,) = run.path.parent.glob("style-backup-*-np")
    assert words == (
        f"checkpoint-6-user is the adapter 'style' now. The one that was there is kept in {backup.name}. Load it anew where it is in use."
    )
    assert (run.path / "adapter_model.safetensors").read_text() == "adapter of checkpoint-6-user"
    assert (run.path / "adapter_config.json").read_text() == "{}"
    assert {path.name: path.read_text() for path in backup.iterdir()} == {
        "adapter_model.safetensors": "final",
        "adapter_config.json": '{"r": 4}',
    }
    assert not (run.path / "optimizer.pt").exists()
    assert len(checkpoint_rows(run)) == 4  # all stay
    assert [path.name for path in run.path.iterdir() if path.name.startswith(".")] == []


def test_where_there_was_no_adapter(run: RunFolder) -> None:
    (run.path / "adapter_model.safetensors").unlink()
    assert use_checkpoint(run, run.path / "checkpoint-4") == (
        "checkpoint-4 is the adapter 'style' now. Load it anew where it is in use."
    )
    assert list(run.path.parent.glob("*-backup-*")) == []


def test_a_copy_that_fails_leaves_the_former_adapter(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil

    copy = shutil.copy2

    def full(source: Any, target: Any) -> Any:
        if "checkpoint-4" in str(source):
            raise OSError(28, "No space left on device")
        return copy(source, target)

    monkeypatch.setattr(shutil, "copy2", full)
    with pytest.raises(OSError, match="No space left"):
        use_checkpoint(run, run.path / "checkpoint-4")
    assert (run.path / "adapter_model.safetensors").read_text() == "final"
    assert not (run.path / ".using-checkpoint-4").exists()


def test_a_checkpoint_that_is_no_adapter(run: RunFolder) -> None:
    (run.path / "checkpoint-4/adapter_config.json").unlink()
    with pytest.raises(
        ValueError, match="Checkpoint checkpoint-4: it holds no adapter .* press Stop and keep: that makes its result"
    ):
        use_checkpoint(run, run.path / "checkpoint-4")
    with pytest.raises(ValueError, match="Checkpoint checkpoint-10: it is not whole .* Choose another one"):
        use_checkpoint(run, run.path / "checkpoint-10")
    assert (run.path / "adapter_model.safetensors").read_text() == "final"


def test_deleting(run: RunFolder) -> None:
    delete_checkpoint(run, run.path / "checkpoint-6-user")
    delete_checkpoint(run, run.path / "checkpoint-10")  # also a half one
    assert [row.step for row in checkpoint_rows(run)] == [4, 8]


@pytest.mark.parametrize("act", [use_checkpoint, delete_checkpoint])
def test_what_is_no_checkpoint_of_the_run_is_left_alone(run: RunFolder, tmp_path: Path, act: Any) -> None:
    other = make(tmp_path / "other", "checkpoint-4", {})
    inner = make(run.path / "deep", "checkpoint-5", {})
    if os.name == "posix":
        (run.path / "checkpoint-3").symlink_to(other)
    places = [
        other,
        inner,
        run.path / "checkpoint-99",
        run.path,
        run.path / "checkpoint-3",
        run.path / "adapter_model.safetensors",
    ]
    for path in (*places, run.path / "checkpoint-4" / ".."):
        with pytest.raises(ValueError, match="there is no such checkpoint in .* Look at the table again"):
            act(run, path)
    assert (other / MARKER).is_file()
    assert (inner / MARKER).is_file()


@pytest.mark.parametrize(("act", "word"), [(use_checkpoint, "used"), (delete_checkpoint, "deleted")])
def test_not_while_the_run_goes_on(run: RunFolder, act: Any, word: str) -> None:
    start_diary(run)
    with pytest.raises(ValueError, match=f"the run is going on, so it cannot be {word} now. Wait for its end, or stop it"):
        act(run, run.path / "checkpoint-4")
    assert len(checkpoint_rows(run)) == 4
