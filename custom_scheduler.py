"""Learning-rate schedules: planned progress in, factor of the base learning rate out.

Every schedule is a pure function ``Progress -> factor`` in one table. Progress is counted in planned epochs, never in a step count
guessed at the start, so a schedule still ends where it should when the plan of the run changes.

To add one: write a function, add a line to :data:`SCHEDULES`, add a row to ``tests/test_custom_scheduler.py``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Progress:
    """How far a run has come, by its plan.

    Attributes:
        epoch: epochs done plus the share of the current epoch's planned steps, in epochs.
        num_epochs: epochs of the whole run.
        warmup_epochs: length of the warm-up, in epochs.
        step: optimizer steps done.
        num_steps: planned optimizer steps of the whole run.
        base_lr: the learning rate that a factor of 1 stands for.
        options: further numbers that a schedule reads by name.
    """

    epoch: float
    num_epochs: float
    warmup_epochs: float = 0.0
    step: int = 0
    num_steps: int = 0
    base_lr: float = 1.0
    options: Mapping[str, float] = field(default_factory=dict)


def _half_cosine(share: float) -> float:
    """From 1 at share 0 down to 0 at share 1; shares outside are clamped."""
    return 0.5 * (1.0 + math.cos(math.pi * min(max(share, 0.0), 1.0)))


def _warmup(progress: Progress, longest: float = math.inf) -> float:
    """Linear from 0 to 1 over the warm-up, at most ``longest`` epochs long."""
    length = min(progress.warmup_epochs, longest)
    return min(progress.epoch / length, 1.0) if length > 0 else 1.0


def _share_after_warmup(progress: Progress) -> float:
    """0 at the end of the warm-up, 1 at the end of the run."""
    rest = progress.num_epochs - progress.warmup_epochs
    return (progress.epoch - progress.warmup_epochs) / rest if rest > 0 else 1.0


def constant(progress: Progress) -> float:
    """Always 1; a warm-up has no effect."""
    return 1.0


def constant_with_warmup(progress: Progress) -> float:
    """Linear warm-up, then 1."""
    return _warmup(progress)


def linear(progress: Progress) -> float:
    """Linear warm-up, then linearly down to 0 at the end of the run."""
    if progress.epoch < progress.warmup_epochs:
        return _warmup(progress)
    return max(0.0, 1.0 - _share_after_warmup(progress))


def cosine(progress: Progress) -> float:
    """Linear warm-up, then half a cosine down to 0 at the end of the run."""
    if progress.epoch < progress.warmup_epochs:
        return _warmup(progress)
    return _half_cosine(_share_after_warmup(progress))


def fp_low_epoch_annealing(progress: Progress) -> float:
    """Warm-up within the first epoch, full rate to its end, then half a cosine over the rest; one epoch: constant."""
    if progress.epoch <= 1 or progress.num_epochs <= 1:
        return _warmup(progress, longest=1.0)
    return _half_cosine((progress.epoch - 1) / (progress.num_epochs - 1))


def fp_half_time_annealing(progress: Progress) -> float:
    """Warm-up, full rate to the middle of the run, then half a cosine down to its end."""
    half = progress.num_epochs / 2
    if progress.epoch <= half:
        return _warmup(progress, longest=half)
    return _half_cosine((progress.epoch - half) / half)


def fp_raise_fall_creative(progress: Progress) -> float:
    """Up along a cosine to the middle of the run, down to its end; a warm-up has no effect."""
    half = progress.num_epochs / 2
    return 0.5 * (1.0 + math.cos(math.pi * (progress.epoch - half) / half))


def fp_3epoch_raise_hold_fall(progress: Progress) -> float:
    """Raise in the first epoch, hold in the second, fall over the rest; under 3 epochs: thirds of the run."""
    raise_end, hold_end = (1.0, 2.0) if progress.num_epochs >= 3 else (progress.num_epochs / 3, progress.num_epochs * 2 / 3)
    if progress.epoch < raise_end:
        return math.sin(math.pi / 2 * progress.epoch / raise_end)
    if progress.epoch <= hold_end:
        return 1.0
    share = (progress.epoch - hold_end) / (progress.num_epochs - hold_end)
    return max(0.0, math.cos(math.pi / 2 * min(share, 1.0)))


def fp_step_decay_with_warmup(progress: Progress) -> float:
    """Warm-up within the first epoch, then halved at the end of every epoch."""
    if progress.epoch < min(progress.warmup_epochs, 1.0):
        return _warmup(progress, longest=1.0)
    return 0.5 ** math.floor(progress.epoch)


SCHEDULES: dict[str, Callable[[Progress], float]] = {
    "FP_low_epoch_annealing": fp_low_epoch_annealing,
    "FP_half_time_annealing": fp_half_time_annealing,
    "FP_raise_fall_creative": fp_raise_fall_creative,
    "FP_3epoch_raise_hold_fall": fp_3epoch_raise_hold_fall,
    "FP_step_decay_with_warmup": fp_step_decay_with_warmup,
    "linear": linear,
    "constant": constant,
    "constant_with_warmup": constant_with_warmup,
    "cosine": cosine,
}
