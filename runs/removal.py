"""Deleting a run: what would go, and doing it.

Guarantee: only folders that lie directly in the adapters' folder, never what a link points at, never one in which a run is going on. A
folder is moved out of sight first, so a run is never half there under its name. Price: it is really gone, there is no bin; for that the
user is asked before (ui.runs_page).
"""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from .store import RunFolder
from .summary import is_going_on


@dataclass(frozen=True)
class Removal:
    """What would be deleted.

    Attributes:
        num_files: all files of the folder.
        num_bytes: their size.
    """

    num_files: int
    num_bytes: int


def removal_of(folder: RunFolder) -> Removal:
    """Count what a folder holds; links count themselves, not what they point at."""
    num_files = num_bytes = 0
    for place, folders, names in os.walk(folder.path):
        for name in [*names, *(name for name in folders if os.path.islink(os.path.join(place, name)))]:
            try:
                num_bytes += os.lstat(os.path.join(place, name)).st_size
            except OSError:  # gone meanwhile
                continue
            num_files += 1
    return Removal(num_files, num_bytes)


def removal_problem(folder: RunFolder, adapters_dir: Path) -> str:
    """Why a folder is not deleted, in words; empty if it may be."""
    if folder.path.absolute().parent != adapters_dir.absolute() or folder.name in ("", ".", ".."):
        return f"{folder.path} is no run of {adapters_dir}, so it is not deleted."
    if _is_link(folder.path):
        return f"{folder.name} is a link to {os.path.realpath(folder.path)}. What links point at is not deleted; remove the link yourself."
    if not folder.path.is_dir():
        return f"{folder.name} is not there any more."
    if is_going_on(folder):
        return f"{folder.name} is going on and cannot be deleted. Stop it first."
    return ""


def remove_run(folder: RunFolder, adapters_dir: Path) -> None:
    """Delete a run's folder with everything in it, for good.

    Args:
        folder: the run's.
        adapters_dir: where it must lie.

    Raises:
        ValueError: it must not be deleted; see :func:`removal_problem`.
        OSError: it cannot be deleted, or not all of it.
    """
    if problem := removal_problem(folder, adapters_dir):
        raise ValueError(problem)
    # the beginning hides it from our lists, the ending from the WebUI's
    aside = folder.path.with_name(f".{folder.name}-deleted-{time.time_ns()}-np")
    try:
        folder.path.rename(aside)
    except OSError as error:
        raise OSError(f"{folder.name} could not be deleted: {error}. Does another program have it open?") from error
    try:
        shutil.rmtree(aside)
    except OSError as error:
        raise OSError(f"{folder.name} could not be deleted whole: {error}. What is left lies in {aside}.") from error


def _is_link(path: Path) -> bool:
    """Whether it is a link, or what Windows calls a junction."""
    return path.is_symlink() or os.path.normcase(os.path.realpath(path)) != os.path.normcase(
        os.path.join(os.path.realpath(path.parent), path.name)
    )
