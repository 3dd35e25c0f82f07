"""Checkpoints of a run: which are whole, which is the newest, and whether one fits the run that wants to resume.

A checkpoint counts only if its marker ``training_pro.json`` is there: it is written last, after everything else was.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .store import RunFolder, read_json, write_json

MARKER = "training_pro.json"
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
        marker: what was written with it: identity, epoch, loss, cause.
    """

    path: Path
    step: int
    marker: dict[str, Any]


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
    for path in folder.path.glob("checkpoint-*"):
        match, marker = _NAME.match(path.name), read_json(path / MARKER)
        if match and isinstance(marker, dict):
            found.append(Checkpoint(path, int(match[1]), marker))
    return sorted(found, key=lambda checkpoint: checkpoint.step)


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


def differences(checkpoint: Checkpoint, identity: dict[str, Any]) -> list[str]:
    """Why an exact continuation is impossible: one sentence for each thing that differs."""
    before = checkpoint.marker.get("identity", {})
    return [
        f"{words} changed (then {before.get(key)!r}, now {identity.get(key)!r})"
        for key, words in IDENTITY_WORDS.items()
        if before.get(key) != identity.get(key)
    ]


def delete_old(folder: RunFolder, keep_last: int) -> list[Path]:
    """Delete all but the newest checkpoints; those a user asked for stay. 0 keeps all.

    Returns:
        The folders that were deleted.
    """
    automatic = [checkpoint for checkpoint in find_checkpoints(folder) if checkpoint.marker.get("cause") != "user"]
    old = automatic[:-keep_last] if keep_last else []
    for checkpoint in old:
        shutil.rmtree(checkpoint.path, ignore_errors=True)
    return [checkpoint.path for checkpoint in old]
