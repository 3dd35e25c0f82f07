"""Whether a checkpoint can be continued exactly by a run, and how the run's order goes on from there."""

from __future__ import annotations

from typing import Any

from .. import train_utils
from ..batching.planning import HAIR
from ..config import RunConfig
from ..hybrid_batching import HybridBatchSampler, Past
from ..runs.checkpoints import IDENTITY_WORDS, Checkpoint, differences
from .course import batching_identity
from .setup import RunSetup
from .wishes import wish_identity

# what a run may resume with another value of by the user's word: it changes the order, not what is trained
MAY_CHANGE = ("data", "num_samples", "seed", "world_size", "accumulation", "batch_size", "packing", "batching")


def identity_of(config: RunConfig, setup: RunSetup, model: Any) -> dict[str, Any]:
    """What must be the same for an exact continuation.

    Args:
        model: the base model, before an adapter is put on it.
    """
    plan, parameters = setup.sampler.plan, f"{train_utils.count_parameters(model)[1]} parameters"
    return {
        "data": setup.prepared.fingerprint,
        "num_samples": plan.num_entries,
        "seed": config.training.seed,
        "world_size": plan.world_size,
        "accumulation": plan.accumulation,
        "batch_size": plan.batch_size,
        "model": ", ".join(filter(None, [train_utils.model_identity(model), parameters, train_utils.is_quantized(model)])),
        "adapter": wish_identity(config, setup.wish),
        "optimizer": config.training.optimizer,
        "packing": setup.entries.identity or None,  # None: checkpoints from before there were packs say nothing either
        "batching": batching_identity(config),
    }


def refuse_changes(checkpoint: Checkpoint, identity: dict[str, Any], *, by_word: bool = False) -> list[str]:
    """Raise if a checkpoint cannot be continued exactly.

    Args:
        checkpoint: what is resumed.
        identity: of the run that resumes it.
        by_word: the user wants to go on though the order changed (see :data:`MAY_CHANGE`).

    Returns:
        What changed, of :data:`MAY_CHANGE`; only where ``by_word`` allows it.

    Raises:
        ValueError: with everything that changed.
    """
    before = checkpoint.marker.get("identity", {})
    changed = [key for key in IDENTITY_WORDS if before.get(key) != identity.get(key)]
    fixed = [key for key in changed if key not in MAY_CHANGE]
    if not changed or (by_word and not fixed):
        return changed
    ways = ["Put these settings back"] if by_word or fixed else ["Put these settings back, switch on Resume with changes"]
    ways.append("choose 'continue' to train the adapter further with the new ones (a new order and a fresh optimizer)")
    raise ValueError(
        f"If the name exists: {checkpoint.path.name} cannot be resumed exactly: {'; '.join(differences(checkpoint, identity))}. "
        f"{', or '.join(ways)}."
    )


def continue_order(checkpoint: Checkpoint, sampler: HybridBatchSampler) -> list[str]:
    """Let the sampler have the order of the run that the checkpoint belongs to; what was trained comes first, to be skipped.

    Returns:
        What a changed number of epochs does to the epoch within which the run stands, in words; nothing if it does nothing.
    """
    before = {"batches_done": checkpoint.step * sampler.plan.window, "seed": int(checkpoint.marker["identity"]["seed"])}
    before |= {
        "num_entries": sampler.plan.num_entries,
        "num_epochs": checkpoint.marker.get("num_epochs", sampler.plan.num_epochs),
    }
    state = checkpoint.marker.get("sampler", before)
    sampler.load_state_dict(state, from_start=True)
    changes = [switch.cause for switch in sampler.journal[len(state.get("journal", [])) :]]
    return [f"{changes[0]}: the rest of this epoch is cut anew; each sample is still trained once in it."] if changes else []


def continue_changed(
    checkpoint: Checkpoint, sampler: HybridBatchSampler, changed: list[str], identity: dict[str, Any]
) -> list[str]:
    """Let the sampler begin where the checkpoint stands, with an order of its own.

    Args:
        checkpoint: what is resumed.
        sampler: of the run that resumes it.
        changed: keys of :data:`MAY_CHANGE` that differ.
        identity: of the run that resumes it.

    Returns:
        What changed and what is not exact, in sentences.
    """
    marker = checkpoint.marker
    place = marker.get("sampler", {}).get("place") or {"steps": checkpoint.step, "epochs": float(marker.get("epoch") or 0.0)}
    past = Past(**place)
    sampler.continue_after(Past(past.steps, past.epochs) if "batching" in changed else past)
    done = past.epochs % 1
    lines = [f"Resume with changes: {'; '.join(differences(checkpoint, identity))}. Weights, optimizer and learning rate go on."]
    if HAIR < done < 1 - HAIR:
        lines.append(
            f"Not exact: the samples come in a new order. The rest of this epoch ({1 - done:.0%}) is drawn from all samples, so that some "
            f"are trained twice in it and others not at all."
        )
    else:
        lines.append("Not exact: from this epoch on the samples come in a new order.")
    if {"accumulation", "batch_size", "world_size"} & set(changed):
        before = checkpoint.marker["identity"]
        then, now = (one["accumulation"] * one["batch_size"] * one["world_size"] for one in (before, identity))
        lines.append(f"Not exact: a step has up to {now} samples (then {then}); Learning Rate is not adapted to that.")
    if "world_size" in changed:
        lines.append("Not exact: with another number of processes dropout draws other random numbers.")
    if any(switch.get("gradual") for switch in marker.get("sampler", {}).get("journal", [])):
        lines.append("Not exact: if a phase was growing in gradually, it now has all batches.")
    return lines
