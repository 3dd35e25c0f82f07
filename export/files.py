"""Writing results: a folder or a file appears whole or not at all, nothing is overwritten, and the disk is asked first.

Price: while it is written, the result lies beside its place under a name that begins with a dot.
"""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

SPARE_SHARE = 1.02  # headers, tokenizer and configuration beside the weights
SPARE_BYTES = 16 << 20


def refuse_existing(target: Path, option: str) -> None:
    """Raise if something lies at ``target``.

    Args:
        option: how the user names another place, e.g. ``--out``.
    """
    if target.exists():
        raise ValueError(f"{target} exists, and nothing is overwritten. Remove it, or name another place with {option}.")


def require_space(target: Path, num_bytes: int) -> None:
    """Raise if the disk of ``target`` has no room for a result of ``num_bytes``.

    Raises:
        ValueError: with what is needed and what is free.
    """
    place = next(parent for parent in (target, *target.parents) if parent.exists())
    needed, free = int(num_bytes * SPARE_SHARE) + SPARE_BYTES, shutil.disk_usage(place).free
    if free < needed:
        raise ValueError(
            f"There is not enough space for {target}: {gigabytes(needed)} are needed, {gigabytes(free)} are free. "
            f"Make room, or name a place on another disk with --out."
        )


def gigabytes(num_bytes: int) -> str:
    """A size for people."""
    return f"{num_bytes / 1e9:.1f} GB" if num_bytes >= 1e8 else f"{num_bytes / 1e6:.1f} MB"


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """A folder to write into; it gets its name at the end, and is removed when something fails.

    Raises:
        ValueError: ``target`` exists.
    """
    with _unfinished(target, Path.rename) as unfinished:
        unfinished.mkdir()
        yield unfinished


@contextmanager
def new_file(target: Path) -> Iterator[Path]:
    """A file to write; it gets its name at the end, and is removed when something fails.

    Raises:
        ValueError: ``target`` exists.
    """
    with _unfinished(target, Path.replace) as unfinished:
        yield unfinished


@contextmanager
def _unfinished(target: Path, give_name: Callable[[Path, Path], Path]) -> Iterator[Path]:
    """A place beside the target that becomes the target at the end."""
    refuse_existing(target, "--out")
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(f".{target.name}.unfinished-{uuid.uuid4().hex[:8]}")
    try:
        yield unfinished
        refuse_existing(target, "--out")
        give_name(unfinished, target)
    finally:
        if unfinished.is_dir():
            shutil.rmtree(unfinished, ignore_errors=True)
        else:
            unfinished.unlink(missing_ok=True)
