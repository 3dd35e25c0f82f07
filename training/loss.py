"""What a step has lost: sums over trained positions, over all trained tokens of the optimizer step.

Guarantee: over an accumulation window and over ranks, gradient and logged loss are the mean over all trained tokens, each counting
the same, whatever batch it came in. Price of the meter: two additions per batch, one transfer to the host per optimizer step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class StepLoss:
    """What one optimizer step (or one evaluation) saw, over all ranks."""

    loss_sum: float
    num_trained: int
    num_tokens: int
    num_padding: int = 0

    @property
    def mean(self) -> float:
        """Loss per trained token, in nats."""
        return self.loss_sum / self.num_trained if self.num_trained else float("nan")


class LossMeter:
    """Adds up losses and tokens between two readings, without waiting for the device."""

    def __init__(self, accelerator: Any) -> None:
        self._accelerator = accelerator
        self._sums: Any = None

    def add(self, loss_sum: torch.Tensor, num_trained: int, num_tokens: int, num_padding: int = 0) -> None:
        """One batch of this rank.

        Args:
            loss_sum: scalar, sum of the cross-entropies.
            num_trained: trained tokens.
            num_tokens: tokens without padding.
            num_padding: padding that was computed with them.
        """
        import torch

        loss = loss_sum.detach()
        if self._sums is None:
            self._sums = torch.zeros(4, dtype=torch.float32 if loss.device.type == "mps" else torch.float64, device=loss.device)
        for place, amount in enumerate((loss, num_trained, num_tokens, num_padding)):
            self._sums[place] += amount

    def read(self) -> StepLoss:
        """The sums since the last reading, over all ranks; must be called on all of them."""
        sums = self._sums
        self._sums = None
        if sums is None:
            return StepLoss(float("nan"), 0, 0)
        if self._accelerator.num_processes > 1:
            sums = self._accelerator.reduce(sums, reduction="sum")
        loss, *counts = sums.tolist()
        return StepLoss(loss, *map(int, counts))
