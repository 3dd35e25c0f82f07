"""Checkpoints of a run: which are whole, which is the newest, whether one fits the run that wants to resume, and what a user does with one.

A checkpoint counts only if its marker ``training_pro.json`` is there: it is written last, after everything else was. Their table is made
from the markers and the sizes of the files alone.
"""

from __future__ import annotations

import errno
import math
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .state import read_state
from .store import RunFolder, backup_path, read_json, write_json

MARKER = "training_pro.json"
USER = "user"  # cause, and ending of the name, of what the user's button saved
_NAME = re.compile(r"^checkpoint-(\d+)(-\w+)?$")

# what must be the same for an exact continuation, and what a change means
IDENTITY_WORDS = {
    "data": "the data or how they are prepared",
    "num_samples": "the number of samples",
    "seed": "Seed",
    "world_size": "the number of processes (GPUs)",
    "accumulation": "Gradient Accumulation Steps",
    "batch_size": "True Batch Size",
    "model": "the base model",
    "adapter": "the adapter's settings (method, rank, alpha, target modules)",
    "optimizer": "Optimizer",
    "packing": "Packing",
    "batching": "Batching mode",
}


@dataclass(frozen=True)
class Checkpoint:
    """One whole checkpoint.

    Attributes:
        path: its folder.
        step: optimizer steps done.
        marker: what was written with it: identity, epoch, loss, eval_loss, cause, saved (seconds since the epoch).
    """

    path: Path
    step: int
    marker: dict[str, Any]

    @property
    def eval_loss(self) -> float | None:
        """Loss on the held-out samples when it was saved; None if none was measured at that step."""
        return _number(self.marker.get("eval_loss"))

    @property
    def age(self) -> tuple[float, int, str]:
        """What orders checkpoints: when they were saved. A run that was resumed from an older one saves newer ones with fewer steps."""
        return _number(self.marker.get("saved")) or 0.0, self.step, self.path.name


@dataclass(frozen=True)
class CheckpointRow:
    """A line of the table of checkpoints.

    Attributes:
        path: its folder.
        step: optimizer steps done.
        epoch: epochs done.
        loss: smoothed training loss.
        eval_loss: loss on the held-out samples at that step, if it was measured.
        cause: why it was saved: user, stop, end, epoch, steps, minutes, fall, best; "" if that is not known.
        num_bytes: its size on the disk.
        is_complete: whether it can be resumed from; one that a crash left half cannot.
        is_best: it has the lowest evaluation loss of all of them.
    """

    path: Path
    step: int
    epoch: float | None
    loss: float | None
    eval_loss: float | None
    cause: str
    num_bytes: int
    is_complete: bool
    is_best: bool


def _number(value: Any) -> float | None:
    """A finite number from a file, or None."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if is_number else None


def mark_complete(path: Path, marker: dict[str, Any]) -> None:
    """Declare a checkpoint whole, once all of it is on the disk: a power failure later leaves it whole too.

    Raises:
        OSError: the disk is full or fails.
    """
    for file in sorted(path.rglob("*")):
        if file.is_file():
            _to_disk(file)
    write_json(path / MARKER, marker)
    _to_disk(path / MARKER)
    if os.name == "posix":  # elsewhere folders cannot be opened
        _to_disk(path)


def _to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # a file system that cannot say
            raise
    finally:
        os.close(descriptor)


def find_checkpoints(folder: RunFolder) -> list[Checkpoint]:
    """Whole checkpoints, oldest first."""
    found = []
    for path, step in _folders(folder):
        marker = read_json(path / MARKER)
        if isinstance(marker, dict):
            found.append(Checkpoint(path, step, marker))
    return sorted(found, key=lambda checkpoint: checkpoint.age)


def _folders(folder: RunFolder) -> list[tuple[Path, int]]:
    """Folders with the name of a checkpoint, and the step in it."""
    named = [(path, _NAME.match(path.name)) for path in folder.path.glob("checkpoint-*") if path.is_dir()]
    return [(path, int(match[1])) for path, match in named if match]


def choose_checkpoint(folder: RunFolder, name: str) -> Checkpoint:
    """The checkpoint with that name; the newest if it is "".

    Raises:
        ValueError: there is none such.
    """
    if not name.strip():
        return newest_checkpoint(folder)
    checkpoints = find_checkpoints(folder)
    for checkpoint in checkpoints:
        if checkpoint.path.name == name.strip():
            return checkpoint
    there = ", ".join(checkpoint.path.name for checkpoint in checkpoints) or "none"
    raise ValueError(
        f"Resume from: there is no whole checkpoint {name.strip()!r} in {folder.path}. There are: {there}. "
        f"Choose one of them, or leave it empty for the newest."
    )


def newest_checkpoint(folder: RunFolder) -> Checkpoint:
    """The newest whole checkpoint.

    Raises:
        ValueError: there is none.
    """
    checkpoints = find_checkpoints(folder)
    if not checkpoints:
        raise ValueError(
            f"If the name exists: there is no checkpoint in {folder.path} to resume from. "
            f"Choose 'continue' to train the adapter further, 'replace' to begin anew, or 'new name'."
        )
    return checkpoints[-1]


def best_checkpoint(checkpoints: list[Checkpoint]) -> Checkpoint | None:
    """The one with the lowest evaluation loss, the older of equals; None if none has any."""
    measured = [(checkpoint.eval_loss, checkpoint) for checkpoint in checkpoints if checkpoint.eval_loss is not None]
    return min(measured, key=lambda pair: pair[0])[1] if measured else None


def differences(checkpoint: Checkpoint, identity: dict[str, Any]) -> list[str]:
    """Why an exact continuation is impossible: one sentence for each thing that differs."""
    before = checkpoint.marker.get("identity", {})
    return [
        f"{words} changed (then {before.get(key)!r}, now {identity.get(key)!r})"
        for key, words in IDENTITY_WORDS.items()
        if before.get(key) != identity.get(key)
    ]


def delete_old(folder: RunFolder, keep_last: int, *, keep_best: bool = False, kept: str = "") -> list[Path]:
    """Delete all but the newest checkpoints; those a user asked for stay. 0 keeps all.

    Args:
        folder: of the run.
        keep_last: how many automatic ones stay.
        keep_best: the best one of all stays too, beside them.
        kept: name of one that stays in any case.

    Returns:
        The folders that were deleted.
    """
    checkpoints = find_checkpoints(folder)
    automatic = [checkpoint for checkpoint in checkpoints if checkpoint.marker.get("cause") != USER]
    best = best_checkpoint(checkpoints) if keep_best else None
    old = automatic[:-keep_last] if keep_last else []
    deleted = [checkpoint.path for checkpoint in old if checkpoint is not best and checkpoint.path.name != kept]
    for path in deleted:
        shutil.rmtree(path, ignore_errors=True)
    return deleted


# --- what the table of checkpoints shows and does ------------------------------------------------------------------------------


def checkpoint_rows(folder: RunFolder) -> list[CheckpointRow]:
    """All checkpoints of a run by step, also those that a crash left half."""
    best = best_checkpoint(find_checkpoints(folder))
    rows = []
    for path, step in _folders(folder):
        content = read_json(path / MARKER)
        is_complete = isinstance(content, dict)
        marker: dict[str, Any] = content if isinstance(content, dict) else {}
        rows.append(
            CheckpointRow(
                path,
                step,
                epoch=_number(marker.get("epoch")),
                loss=_number(marker.get("loss")),
                eval_loss=_number(marker.get("eval_loss")),
                cause=str(marker.get("cause", "")),
                num_bytes=_size(path),
                is_complete=is_complete,
                is_best=best is not None and path == best.path,
            )
        )
    return sorted(rows, key=lambda row: (row.step, row.path.name))


def _size(path: Path) -> int:
    total = 0
    for file in path.rglob("*"):
        try:
            total += file.stat().st_size if file.is_file() else 0
        except OSError:  # deleted meanwhile
            continue
    return total


def use_checkpoint(folder: RunFolder, path: Path) -> str:
    """Make a checkpoint the adapter of its run; the adapter that was there is moved into a dated folder beside it.

    Args:
        folder: of the run.
        path: of a whole checkpoint in it.

    Returns:
        What was done, in a sentence.

    Raises:
        ValueError: the run trains, or this cannot be used as an adapter; with the remedy.
        OSError: it cannot be copied; the former adapter is in place.
    """
    path = _checkpoint_of(folder, path, "used")
    if not (path / MARKER).is_file():
        raise ValueError(f"Checkpoint {path.name}: it is not whole (its save did not end). Choose another one.")
    names = _result_names(path)
    if not names:
        raise ValueError(
            f"Checkpoint {path.name}: it holds no adapter that could be loaded (Method full keeps its weights in another form there). "
            f"Resume from it and press Stop and keep: that makes its result."
        )
    former = _move_result(folder)
    temporary = folder.path / f".using-{path.name}"
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        for name in names:
            shutil.copy2(path / name, temporary / name)
        for name in names:
            os.replace(temporary / name, folder.path / name)
    except OSError:
        for file in former.iterdir() if former else []:
            shutil.copy2(file, folder.path / file.name)
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    kept = f" The one that was there is kept in {former.name}." if former else ""
    return f"{path.name} is the adapter {folder.name!r} now.{kept} Load it anew where it is in use."


def delete_checkpoint(folder: RunFolder, path: Path) -> None:
    """Delete a checkpoint of a run that does not train.

    Raises:
        ValueError: the run trains, or the folder holds no such checkpoint.
        OSError: it cannot be deleted.
    """
    path = _checkpoint_of(folder, path, "deleted")
    (path / MARKER).unlink(missing_ok=True)  # first: what a failure leaves of it is no checkpoint
    shutil.rmtree(path)


def _checkpoint_of(folder: RunFolder, path: Path, what: str) -> Path:
    """The folder, if it is one of the run's checkpoints and the run stands still."""
    own = folder.path / path.name
    if not _NAME.match(path.name) or not own.is_dir() or own.is_symlink() or own.resolve() != path.resolve():
        raise ValueError(f"Checkpoint {path.name}: there is no such checkpoint in {folder.path}. Look at the table again.")
    if read_state(folder).is_live:
        raise ValueError(
            f"Checkpoint {path.name}: the run is going on, so it cannot be {what} now. Wait for its end, or stop it."
        )
    return own


def _result_names(path: Path) -> list[str]:
    """Names of the files in a folder that make an adapter, or what else a method leaves; none if they do not."""
    from ..config.settings_model import RESULT_FILES  # not above: the WebUI loads this room at its start

    for patterns in RESULT_FILES:
        found = [sorted(file.name for file in path.glob(pattern) if file.is_file()) for pattern in patterns]
        if all(found):
            return [name for names in found for name in names]
    return []


def _move_result(folder: RunFolder) -> Path | None:
    """Move a run's adapter into a dated folder beside it; None if there is none."""
    names = _result_names(folder.path)
    if not names:
        return None
    backup = backup_path(folder)
    backup.mkdir()
    for name in names:
        os.replace(folder.path / name, backup / name)
    return backup
