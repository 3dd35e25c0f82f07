"""A run that has no steps left, but whose result could not be saved: it is made from the last checkpoint.

Guarantee: what is there already and equal is left alone, and said; files appear whole or not at all. Price: the result is written once more
beside the old one to compare them.
"""

from __future__ import annotations

import filecmp
import shutil

from ..hybrid_batching import RunPlan
from ..runs.checkpoints import Checkpoint
from ..runs.store import RunFolder
from ..train_utils import Fitted


def take_finished_result(folder: RunFolder, checkpoint: Checkpoint, plan: RunPlan, fitted: Fitted) -> None:
    """Make the result of a folder from a checkpoint that was taken up.

    Raises:
        ValueError: the result is there already, so nothing is left to do.
        OSError: it cannot be written.
    """
    made = folder.path / ".finished"
    shutil.rmtree(made, ignore_errors=True)
    made.mkdir()
    try:
        fitted.result(made)
        names = [path.name for path in sorted(made.iterdir()) if not _is_there(folder, path.name)]
        if not names:
            raise ValueError(
                f"Epochs: this run is finished ({checkpoint.step} of {plan.num_steps} steps), there is nothing to resume. "
                f"Got: {plan.num_epochs:g}. Raise Epochs, or choose 'continue', 'replace' or 'new name'."
            )
        for name in names:
            (made / name).replace(folder.path / name)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _is_there(folder: RunFolder, name: str) -> bool:
    path = folder.path / name
    if not name.endswith(".safetensors"):  # the order of what stands in the others is not fixed
        return path.is_file()
    return path.is_file() and filecmp.cmp(path, folder.path / ".finished" / name, shallow=False)
