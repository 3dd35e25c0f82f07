"""Stop and discard: a run's folder becomes what it was before the start.

What it does: remembers which checkpoints lay in the folder when the run began; discarding removes all others. The adapter itself is only
written at a run's end, so the one of a former run is still in its place, but for 'replace', where it comes back out of its backup.

Guarantee: nothing that was there before the start is removed, and the sentence that is shown names everything that was. Price: none.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from ..runs.checkpoints import checkpoint_rows
from ..runs.store import RunFolder


@dataclass(frozen=True)
class Before:
    """What there was before a run began.

    Attributes:
        checkpoints: names of the checkpoints in its folder.
        backup: where an adapter and a run of the same name were moved to; None if there were none.
        replaced: the former adapter is no more in the run's folder.
    """

    checkpoints: frozenset[str] = frozenset()
    backup: Path | None = None
    replaced: bool = False


def backups(adapters_dir: Path, name: str) -> set[Path]:
    """Folders to which runs of a name were moved."""
    return set(adapters_dir.glob(f"{name}-backup-*-np"))


def look_before(folder: RunFolder, new_backups: set[Path]) -> Before:
    """To be called when the folder of a run is open and nothing is trained yet."""
    backup = max(new_backups, default=None)
    names = frozenset(row.path.name for row in checkpoint_rows(folder))
    return Before(names, backup, replaced=backup is not None and not folder.has_adapter)


def discard(folder: RunFolder, before: Before) -> str:
    """Remove what a run has made.

    Args:
        folder: of the run.
        before: of :func:`look_before`.

    Returns:
        What was done, in sentences.

    Raises:
        OSError: something cannot be removed or brought back.
    """
    made = [row.path for row in checkpoint_rows(folder) if row.path.name not in before.checkpoints]
    for path in made:
        shutil.rmtree(path)
    removed = (
        f"{len(made)} checkpoint{'s' if len(made) != 1 else ''} of this run removed" if made else "this run had no checkpoint"
    )
    words = [f"Discarded: nothing was saved, {removed}."]
    if before.replaced and before.backup is not None:
        for file in RunFolder(before.backup).result_files:
            shutil.copy2(file, folder.path / file.name)
    if folder.has_adapter:
        words.append("The adapter that was there before is in its place.")
    if before.backup is not None:
        words.append(f"The former checkpoints and diary are in {before.backup.name}.")
    elif left := [row for row in checkpoint_rows(folder) if row.is_complete]:
        words.append(
            f"{len(left)} checkpoint{'s' if len(left) != 1 else ''} from before the start stay; 'resume' goes on from there."
        )
    return " ".join(words)
