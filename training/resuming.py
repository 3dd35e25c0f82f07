"""Whether a checkpoint can be continued exactly by a run, and how the run's order goes on from there."""

from __future__ import annotations

import filecmp
import shutil
from typing import Any

from .. import train_utils
from ..config import RunConfig
from ..hybrid_batching import HybridBatchSampler, RunPlan
from ..runs.checkpoints import Checkpoint, differences
from ..runs.store import ADAPTER_FILES, RunFolder
from .course import batching_identity
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
        "packing": setup.entries.identity or None,  # None: checkpoints from before there were packs say nothing either
        "batching": batching_identity(config),
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


def continue_order(checkpoint: Checkpoint, sampler: HybridBatchSampler) -> str:
    """Let the sampler have the order of the run that the checkpoint belongs to; what was trained comes first, to be skipped.

    Returns:
        What a changed number of epochs does to the epoch within which the run stands, in words; "" if nothing.
    """
    before = {"batches_done": checkpoint.step * sampler.plan.window, "seed": int(checkpoint.marker["identity"]["seed"])}
    before |= {
        "num_entries": sampler.plan.num_entries,
        "num_epochs": checkpoint.marker.get("num_epochs", sampler.plan.num_epochs),
    }
    state = checkpoint.marker.get("sampler", before)
    sampler.load_state_dict(state, from_start=True)
    changes = [switch.cause for switch in sampler.journal[len(state.get("journal", [])) :]]
    return f"{changes[0]}: the rest of this epoch is cut anew; each sample is still trained once in it." if changes else ""
