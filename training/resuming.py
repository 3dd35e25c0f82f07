"""Whether a checkpoint can be continued exactly by a run, and what a changed number of epochs does to it."""

from __future__ import annotations

import filecmp
import shutil
from typing import Any

from .. import train_utils
from ..config import RunConfig
from ..hybrid_batching import HybridBatchSampler, RunPlan
from ..runs.checkpoints import Checkpoint, differences
from ..runs.store import ADAPTER_FILES, RunFolder
from .setup import RunSetup


def identity_of(config: RunConfig, setup: RunSetup, model: Any) -> dict[str, Any]:
    """What must be the same for an exact continuation.

    Args:
        model: the base model, before an adapter is put on it.
    """
    plan, adapter = setup.sampler.plan, config.adapter
    return {
        "data": setup.prepared.fingerprint,
        "num_samples": plan.num_entries,
        "seed": config.training.seed,
        "world_size": plan.world_size,
        "accumulation": plan.accumulation,
        "batch_size": plan.batch_size,
        "model": f"{train_utils.model_identity(model)}, {train_utils.count_parameters(model)[1]} parameters",
        "adapter": f"rank {adapter.rank}, alpha {adapter.alpha:g}, {', '.join(sorted(setup.targets))}",
        "optimizer": config.training.optimizer,
    }


def refuse_changes(checkpoint: Checkpoint, identity: dict[str, Any]) -> None:
    """Raise if a checkpoint cannot be continued exactly.

    Raises:
        ValueError: with everything that changed.
    """
    changed = differences(checkpoint, identity)
    if changed:
        raise ValueError(
            f"If the name exists: {checkpoint.path.name} cannot be resumed exactly: {'; '.join(changed)}. "
            f"Put these settings back, or choose 'continue' to train the adapter further with the new ones (a new order and a "
            f"fresh optimizer)."
        )


def take_finished_adapter(folder: RunFolder, checkpoint: Checkpoint, plan: RunPlan) -> None:
    """For a run that has no steps left: make its last checkpoint the adapter, if saving that had failed.

    Raises:
        ValueError: the adapter is there already, so nothing is left to do.
    """
    names = [name for name in ADAPTER_FILES if not _is_same(folder, checkpoint, name)]
    if not names:
        raise ValueError(
            f"Epochs: this run is finished ({checkpoint.step} of {plan.num_steps} steps), there is nothing to resume. "
            f"Got: {plan.num_epochs:g}. Raise Epochs, or choose 'continue', 'replace' or 'new name'."
        )
    for name in names:
        part = folder.path / f".{name}.tmp"
        shutil.copyfile(checkpoint.path / name, part)
        part.replace(folder.path / name)


def _is_same(folder: RunFolder, checkpoint: Checkpoint, name: str) -> bool:
    path = folder.path / name
    if name.endswith(".json"):  # the order of target modules in it is not fixed
        return path.is_file()
    return path.is_file() and filecmp.cmp(path, checkpoint.path / name, shallow=False)


def moved_entries(checkpoint: Checkpoint, sampler: HybridBatchSampler, lengths: list[int]) -> tuple[int, int]:
    """Samples of the present epoch that another number of epochs moves: an epoch that was planned as a part is cut differently.

    Args:
        checkpoint: where the run stands.
        sampler: the batches by the present settings.
        lengths: tokens of each sample.

    Returns:
        How many samples of this epoch are left out, and how many come twice.
    """
    plan = sampler.plan
    num_epochs = checkpoint.marker.get("num_epochs", plan.num_epochs)
    if num_epochs == plan.num_epochs:
        return 0, 0
    before = HybridBatchSampler(
        lengths,
        batch_size=plan.batch_size,
        num_epochs=num_epochs,
        accumulation=plan.accumulation,
        world_size=plan.world_size,
        seed=int(checkpoint.marker["identity"]["seed"]),
    )
    then, now = _trained_in_epoch(before, checkpoint.step), _trained_in_epoch(sampler, checkpoint.step)
    return len(now - then), len(then - now)


def _trained_in_epoch(sampler: HybridBatchSampler, step: int) -> set[int]:
    """Entries of the epoch that step belongs to, up to and with that step."""
    ends = sampler.plan.epoch_ends
    epoch = next(number for number, end in enumerate(ends) if step <= end)
    steps = step - (ends[epoch - 1] if epoch else 0)
    batches = sampler.epoch_batches(epoch)[: steps * sampler.plan.accumulation * sampler.plan.world_size]
    return {entry for batch in batches for entry in batch if entry >= 0}
