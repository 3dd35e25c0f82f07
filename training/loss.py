"""The loss: summed over trained positions, divided by all trained tokens of the optimizer step.

Guarantee: over an accumulation window and over ranks, gradient and logged loss are the mean over all trained tokens, each counting
the same, whatever batch it came in. Price of the meter: two additions per batch, one transfer to the host per optimizer step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..data.chat import IGNORE

if TYPE_CHECKING:
    import torch


def summed_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Sum of the cross-entropies at trained positions, computed in float32 at least.

    Args:
        logits: (batch, seq, vocabulary); position t predicts token t + 1.
        labels: (batch, seq); -100 where nothing is trained.

    Returns:
        A scalar with gradient; 0 if no position is trained.
    """
    import torch

    targets = labels[:, 1:]
    trained = targets != IGNORE
    chosen = logits[:, :-1][trained]
    chosen = chosen.to(torch.promote_types(chosen.dtype, torch.float32))
    return torch.nn.functional.cross_entropy(chosen, targets[trained], reduction="sum")


@dataclass(frozen=True)
class StepLoss:
    """What one optimizer step (or one evaluation) saw, over all ranks."""

    loss_sum: float
    num_trained: int
    num_tokens: int

    @property
    def mean(self) -> float:
        """Loss per trained token, in nats."""
        return self.loss_sum / self.num_trained if self.num_trained else float("nan")


class LossMeter:
    """Adds up losses and tokens between two readings, without waiting for the device."""

    def __init__(self, accelerator: Any) -> None:
        self._accelerator = accelerator
        self._sums: Any = None

    def add(self, loss_sum: torch.Tensor, labels: torch.Tensor, num_tokens: torch.Tensor) -> None:
        """One batch of this rank.

        Args:
            loss_sum: what :func:`summed_loss` gave.
            labels: (batch, seq).
            num_tokens: scalar, tokens of the batch without padding.
        """
        import torch

        trained = (labels[:, 1:] != IGNORE).sum().double()
        batch = torch.stack([loss_sum.detach().double(), trained, num_tokens.double()])
        self._sums = batch if self._sums is None else self._sums + batch

    def read(self) -> StepLoss:
        """The sums since the last reading, over all ranks; must be called on all of them."""
        sums = self._sums
        self._sums = None
        if sums is None:
            return StepLoss(float("nan"), 0, 0)
        if self._accelerator.num_processes > 1:
            sums = self._accelerator.reduce(sums, reduction="sum")
        loss, trained, tokens = sums.tolist()
        return StepLoss(loss, int(trained), int(tokens))
