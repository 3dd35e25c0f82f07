"""Schedules that are known from elsewhere: those of transformers, REX, one-cycle, and a ramp-down that waits for the loss.

Guarantee: where transformers has a schedule of that name, the values are its own at every step (tests compare them). The first line of
a function is shown to users.
"""

from __future__ import annotations

import math

from .progress import Progress, half_cosine, in_epochs, in_steps

POLYNOMIAL_END = 1e-7  # learning rate, not a factor
INVERSE_SQRT_STEPS = 10_000  # optimizer steps that take the place of a warm-up in inverse_sqrt where there is none
# as in torch's OneCycleLR: the peak after 30 % of the run; factors at its start and end
ONE_CYCLE_PEAK, ONE_CYCLE_START, ONE_CYCLE_END = 0.3, 1 / 25, 1 / 250_000


def constant(progress: Progress) -> float:
    """The full rate all the time; a warm-up has no effect."""
    return 1.0


def constant_with_warmup(progress: Progress) -> float:
    """Linear warm-up, then the full rate."""
    return in_steps(progress).rise


def linear(progress: Progress) -> float:
    """Linear warm-up, then in a straight line down to 0 at the end of the run."""
    clock = in_steps(progress)
    return clock.rise if clock.is_warming_up else 1.0 - clock.share


def cosine(progress: Progress) -> float:
    """Linear warm-up, then half a cosine down to 0 at the end of the run."""
    clock = in_steps(progress)
    return clock.rise if clock.is_warming_up else half_cosine(clock.share)


def cosine_with_restarts(progress: Progress) -> float:
    """Linear warm-up, then several times (LR Cycles) half a cosine from the full rate down to 0."""
    clock = in_steps(progress)
    if clock.is_warming_up:
        return clock.rise
    return 0.0 if clock.share >= 1 else half_cosine(progress.option("lr_cycles") * clock.share % 1.0)


def cosine_with_min_lr(progress: Progress) -> float:
    """Linear warm-up, then half a cosine down to a share of the rate (LR Floor) at the end of the run."""
    clock, floor = in_steps(progress), progress.option("lr_floor")
    return clock.rise if clock.is_warming_up else half_cosine(clock.share) * (1.0 - floor) + floor


def polynomial(progress: Progress) -> float:
    """Linear warm-up, then down to a rate of 1e-7 at the end of the run; LR Power 1 is a straight line, 2 falls early, 0.5 late."""
    clock, end = in_steps(progress), min(POLYNOMIAL_END / progress.base_lr, 1.0)
    return clock.rise if clock.is_warming_up else (1.0 - end) * (1.0 - clock.share) ** progress.option("lr_power") + end


def inverse_sqrt(progress: Progress) -> float:
    """Linear warm-up, then 1 over the root of the time in warm-ups: half the rate after four of them; it never reaches 0."""
    clock = in_steps(progress)
    if clock.is_warming_up:
        return clock.rise
    time = clock.now / clock.warmup if clock.warmup > 0 else 1.0 + progress.step / INVERSE_SQRT_STEPS
    return 1.0 / math.sqrt(time)


def warmup_stable_decay(progress: Progress) -> float:
    """Linear warm-up, the full rate, then half a cosine down to 0 in the last part of the run (LR Decay share)."""
    clock = in_steps(progress)
    if clock.is_warming_up:
        return clock.rise
    length = progress.option("lr_decay_share") * clock.end
    length = min(round(length) if clock.counts_steps else length, clock.end - clock.warmup)
    return half_cosine(1.0 - (clock.end - clock.now) / length) if length > 0 else float(clock.now < clock.end)


def rex(progress: Progress) -> float:
    """Linear warm-up, then a fall that begins slowly and ends steeply at 0.

    REX, "Revisiting Budgeted Training with an Improved Schedule", https://arxiv.org/abs/2107.04197.
    """
    clock = in_steps(progress)
    left = 1.0 - clock.share
    return clock.rise if clock.is_warming_up else left / (0.5 + 0.5 * left)


def one_cycle(progress: Progress) -> float:
    """From 1/25 of the rate up along a cosine until the warm-up's end (none: 30 % of the run), then down along another to almost 0.

    The 1cycle policy, https://arxiv.org/abs/1708.07120, with torch's numbers. The optimizer's momentum stays as it is.
    """
    clock = in_steps(progress)
    clock = clock if clock.warmup > 0 else clock._replace(warmup=ONE_CYCLE_PEAK * clock.end)
    low, share = (ONE_CYCLE_START, 1.0 - clock.rise) if clock.is_warming_up else (ONE_CYCLE_END, clock.share)
    return low + (1.0 - low) * half_cosine(share)


def loss_triggered_ramp_down(progress: Progress) -> float:
    """Linear warm-up, the full rate until the smoothed loss is down to Ramp-down at loss, then in a straight line down to 0.

    The way down takes LR Ramp share of the run so far, and ends with the run at the latest. Training PRO had planned it.
    """
    rise, trigger = in_epochs(progress).rise, progress.trigger
    if trigger is None or progress.epoch <= trigger:
        return rise
    length = min(progress.option("lr_ramp_share") * trigger, progress.num_epochs - trigger)
    return rise * max(0.0, 1.0 - (progress.epoch - trigger) / length) if length > 0 else 0.0
