"""What memory a run needs and how large its batches could be, from its settings and data; before the model is changed.

Guarantee: the same estimate for Check and run (evaluation.memory). The route is not tried yet, so the one that the model is likely to take
counts. Price: a walk over the modules.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..adapting.optimizers import bytes_per_parameter
from ..config import RunConfig
from ..evaluation.memory import Learning, Work, estimate_memory, largest_batch
from ..hybrid_batching import HybridBatchSampler
from ..train_utils import Size, Wish
from .attention import attention_configs
from .optimizers import OptimizerChoice
from .routes import stateful_layers
from .step import FLAT, PADDED

FLOAT32_BYTES = 4


def learning_of(wish: Wish, size: Size, model: Any, choice: OptimizerChoice) -> Learning:
    """What is learned on a model by a method."""
    own = {weight.element_size() for weight in model.parameters() if weight.is_floating_point()}
    is_full, is_sparse = wish.method == "full", wish.method == "sift"
    in_float32 = is_full and wish.full_weights == "float32"
    # a model in float32 is trained in place; what is given back afterwards is kept beside it
    weight_bytes = 0.0 if is_full and wish.full_copy == "disk" and own == {FLOAT32_BYTES} else float(FLOAT32_BYTES)
    if is_full and not in_float32:
        weight_bytes = float(max(own, default=FLOAT32_BYTES))
    if is_sparse:  # value, index, and what the base had
        weight_bytes = 2.0 * FLOAT32_BYTES + max(own, default=FLOAT32_BYTES)
    return Learning(
        num_trained=size.num_trained,
        adapted=tuple(place.path for place in wish.targets.places),
        everything=is_full or is_sparse,
        dropout=0.0 if is_full or is_sparse else wish.dropout,
        head=is_full or wish.train_head,
        embeddings=is_full or wish.train_embeddings,
        weight_bytes=weight_bytes,
        gradient_bytes=float(max(own, default=FLOAT32_BYTES)) if is_full and not in_float32 else float(FLOAT32_BYTES),
        state_bytes=bytes_per_parameter(choice.name, momentum=choice.values.get("momentum", 0.0)),
        stream_bytes=FLOAT32_BYTES if in_float32 else 0,
    )


def memory_needs(
    config: RunConfig, model: Any, learning: Learning, sampler: HybridBatchSampler, precision: str, lengths: Sequence[int]
) -> dict[str, int]:
    """Bytes by part for the largest batch of a run (evaluation.memory), ``limit``: how many may be in use, the model's own included, and
    ``largest_batch``: how many of the run's entries at once would fit into that.

    Args:
        lengths: tokens of each entry.
    """
    # joined conversations are longer than any entry of its own
    longest = sampler.longest_items()[0][0]
    rows = list(lengths) if longest <= max(lengths) else [longest] * len(lengths)
    is_flat = config.batching.route in ("auto", FLAT) and attention_configs(model) and not stateful_layers(model)

    def work(of: Sequence[int]) -> Work:
        return Work(
            tuple(of),
            layout=FLAT if is_flat else PADDED,
            checkpointing=config.training.gradient_checkpointing,
            precision=precision,
            accumulation=sampler.plan.accumulation,
        )

    rows.sort(reverse=True)
    found = estimate_memory(model, learning, work(rows[: sampler.plan.batch_size]))
    # the model is there already; what a computer has free is beside it, what a GPU's figure says includes it
    is_gpu = next(model.parameters()).device.type == "cuda"
    limit = found["available"] + (0 if is_gpu else found["weights"])
    return {**found, "limit": limit, "largest_batch": largest_batch(model, learning, work, rows, limit)}
