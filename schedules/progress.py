"""How far a run has come, as schedules see it, and the two clocks that they run on.

Schedules whose formulas are written in epochs (Training PRO's) run on epochs. The others run on optimizer steps, as transformers
counts them; that matters where the last epoch is a part whose steps do not divide evenly. A run whose plan may change on the way gives
no ``num_steps``, and they run on epochs too: epochs done do not jump when the rest is planned anew, steps over planned steps would.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

# what a schedule can be asked for beyond its name -> value where nothing is said: transformers' own default where it has one
OPTIONS: dict[str, float] = {
    "lr_cycles": 1,  # cosines of cosine_with_restarts
    "lr_floor": 0.1,  # last factor of cosine_with_min_lr
    "lr_power": 1.0,  # exponent of polynomial
    "lr_decay_share": 0.1,  # part of the run in which warmup_stable_decay comes down
    "lr_ramp_share": 1.0,  # length of loss_triggered_ramp_down, as a share of the run up to its trigger
}


@dataclass(frozen=True)
class Progress:
    """How far a run has come, by its plan.

    Attributes:
        epoch: epochs done plus the share of the current epoch's planned steps, in epochs.
        num_epochs: epochs of the whole run.
        warmup_epochs: length of the warm-up, in epochs.
        step: optimizer steps done.
        num_steps: planned optimizer steps of the whole run; 0 = not fixed.
        base_lr: the learning rate that a factor of 1 stands for.
        options: further numbers that a schedule reads by name, see :data:`OPTIONS`.
        warmup_steps: length of the warm-up in optimizer steps; None = known in epochs only.
        trigger: epochs done when the smoothed loss came down to the value that the user gave; None = not yet.
    """

    epoch: float
    num_epochs: float
    warmup_epochs: float = 0.0
    step: int = 0
    num_steps: int = 0
    base_lr: float = 1.0
    options: Mapping[str, float] = field(default_factory=dict)
    warmup_steps: float | None = None
    trigger: float | None = None

    def option(self, name: str) -> float:
        """An option of the user's, or its default."""
        return float(self.options.get(name, OPTIONS[name]))


class Clock(NamedTuple):
    """The present, the warm-up's end and the run's end, all in optimizer steps or all in epochs.

    Attributes:
        counts_steps: whether the unit is optimizer steps.
    """

    now: float
    warmup: float
    end: float
    counts_steps: bool = False

    @property
    def is_warming_up(self) -> bool:
        """Whether the warm-up is not over yet."""
        return self.now < self.warmup

    @property
    def rise(self) -> float:
        """0 at the start, 1 from the end of the warm-up on."""
        return min(self.now / self.warmup, 1.0) if self.warmup > 0 else 1.0

    @property
    def share(self) -> float:
        """0 up to the end of the warm-up, 1 at the end of the run."""
        rest = self.end - self.warmup
        return min(max((self.now - self.warmup) / rest, 0.0), 1.0) if rest > 0 else 1.0


def in_steps(progress: Progress) -> Clock:
    """Optimizer steps, as transformers counts; epochs where the steps are not fixed."""
    if progress.num_steps and progress.warmup_steps is not None:
        return Clock(progress.step, progress.warmup_steps, progress.num_steps, counts_steps=True)
    return in_epochs(progress)


def in_epochs(progress: Progress, longest_warmup: float = math.inf) -> Clock:
    """Epochs; the warm-up lasts at most ``longest_warmup`` of them."""
    return Clock(progress.epoch, min(progress.warmup_epochs, longest_warmup), progress.num_epochs)


def half_cosine(share: float) -> float:
    """From 1 at share 0 down to 0 at share 1; shares outside are clamped."""
    return 0.5 * (1.0 + math.cos(math.pi * min(max(share, 0.0), 1.0)))
