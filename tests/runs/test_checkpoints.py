"""Checkpoints: only whole ones count, in the order of their steps, and what a user asked for is never deleted."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest
from training_pro.runs.checkpoints import (
    IDENTITY_WORDS,
    MARKER,
    Checkpoint,
    delete_old,
    differences,
    find_checkpoints,
    mark_complete,
    newest_checkpoint,
)
from training_pro.runs.store import RunFolder


def make(folder: Path, name: str, marker: dict[str, Any] | None = None) -> Path:
    path = folder / name
    path.mkdir()
    (path / "model.safetensors").touch()
    if marker is not None:
        mark_complete(path, marker)
    return path


def names(checkpoints: list[Checkpoint]) -> list[str]:
    return [checkpoint.path.name for checkpoint in checkpoints]


def test_whole_checkpoints_in_the_order_of_their_steps(tmp_path: Path) -> None:
    for name in ("checkpoint-100", "checkpoint-20", "checkpoint-3", "checkpoint-20-user"):
        make(tmp_path, name, {"cause": "epoch"})
    make(tmp_path, "checkpoint-200")  # no marker: the save did not end
    make(tmp_path, "checkpoint-x", {})
    make(tmp_path, "checkpoint-30.tmp", {})
    (make(tmp_path, "checkpoint-300") / MARKER).write_text('{"half":')
    (make(tmp_path, "checkpoint-400") / MARKER).write_text("[]")
    (tmp_path / "checkpoint-500").touch()
    found = find_checkpoints(RunFolder(tmp_path))
    assert [checkpoint.step for checkpoint in found] == [3, 20, 20, 100]
    assert names(found)[0] == "checkpoint-3"
    assert found[-1] == Checkpoint(tmp_path / "checkpoint-100", 100, {"cause": "epoch"})
    assert newest_checkpoint(RunFolder(tmp_path)) == found[-1]


def test_nothing_to_resume_from(tmp_path: Path) -> None:
    make(tmp_path, "checkpoint-7")
    with pytest.raises(ValueError, match="If the name exists: there is no checkpoint in .* to resume from. Choose 'continue'"):
        newest_checkpoint(RunFolder(tmp_path))


IDENTITY = {key: f"{key} 1" for key in IDENTITY_WORDS}


def test_the_same_run_differs_in_nothing(tmp_path: Path) -> None:
    assert differences(Checkpoint(tmp_path, 1, {"identity": IDENTITY}), dict(IDENTITY)) == []


@pytest.mark.parametrize("key", IDENTITY_WORDS)
def test_what_differs_is_said_with_both_values(tmp_path: Path, key: str) -> None:
    (text,) = differences(Checkpoint(tmp_path, 1, {"identity": IDENTITY}), {**IDENTITY, key: 2})
    assert text == f"{IDENTITY_WORDS[key]} changed (then '{key} 1', now 2)"


def test_all_differences_at_once(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path, 1, {"identity": {**IDENTITY, "seed": 1, "batch_size": 4}})
    assert differences(checkpoint, {**IDENTITY, "seed": 2, "batch_size": 8}) == [
        "Seed changed (then 1, now 2)",
        "True Batch Size changed (then 4, now 8)",
    ]
    assert len(differences(Checkpoint(tmp_path, 1, {}), IDENTITY)) == len(IDENTITY_WORDS)


@pytest.mark.parametrize(
    ("keep_last", "deleted"),
    [(0, []), (1, [1, 3, 5]), (2, [1, 3]), (3, [1]), (4, []), (9, [])],
)
def test_old_checkpoints_are_deleted_but_not_the_users(tmp_path: Path, keep_last: int, deleted: list[int]) -> None:
    for step, cause in ((1, "epoch"), (2, "user"), (3, "steps"), (4, "user"), (5, "epoch"), (7, "epoch")):
        make(tmp_path, f"checkpoint-{step}", {"cause": cause})
    unfinished = make(tmp_path, "checkpoint-6")
    folder = RunFolder(tmp_path)
    assert delete_old(folder, keep_last) == [tmp_path / f"checkpoint-{step}" for step in deleted]
    assert {checkpoint.step for checkpoint in find_checkpoints(folder)} == {1, 2, 3, 4, 5, 7} - set(deleted)
    assert unfinished.is_dir()


def test_everything_is_on_the_disk_before_a_checkpoint_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "deep").mkdir()
    files = [tmp_path / "optimizer.pt", tmp_path / "deep/adapter.safetensors"]
    for file in files:
        file.write_bytes(b"1")
    synced: dict[int, bool] = {}
    monkeypatch.setattr(os, "fsync", lambda number: synced.setdefault(os.fstat(number).st_ino, (tmp_path / MARKER).exists()))
    mark_complete(tmp_path, {})
    assert [synced[file.stat().st_ino] for file in files] == [False, False]
    assert synced[(tmp_path / MARKER).stat().st_ino] is True


def test_a_disk_that_fails_leaves_no_marker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "optimizer.pt").write_bytes(b"1")

    def full(number: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        mark_complete(tmp_path, {})
    assert not (tmp_path / MARKER).exists()


def test_a_file_system_without_fsync_is_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(number: int) -> None:
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, "fsync", refused)
    mark_complete(tmp_path, {"step": 1})
    assert (tmp_path / MARKER).is_file()
