"""LoRA+ (arXiv 2402.12354): the matrices B of a LoRA, which begin at zero, learn at a higher rate than the matrices A.

Guarantee: the same parameters in the same groups as peft's own optimizer for it; nothing else changes. Price: none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Group = dict[str, Any]


def with_lora_plus(model: Any, groups: Sequence[Group], ratio: float) -> list[Group]:
    """Split the groups of an optimizer so that matrices B have a rate of their own.

    Args:
        model: the fitted model.
        groups: with ``params``, ``lr`` and what else an optimizer takes.
        ratio: rate of B / rate of A; 0 or 1 leaves the groups as they are.

    Returns:
        Groups with the same parameters; those of B have ``lr`` x ratio.
    """
    if ratio in (0, 1):
        return [dict(group) for group in groups]
    up = {id(weight) for name, weight in model.named_parameters() if "lora_B" in name or "lora_embedding_B" in name}
    split = []
    for group in groups:
        others = [weight for weight in group["params"] if id(weight) not in up]
        faster = [weight for weight in group["params"] if id(weight) in up]
        split += [{**group, "params": others}] if others else []
        split += [{**group, "params": faster, "lr": group["lr"] * ratio}] if faster else []
    return split
