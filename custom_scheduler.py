"""Learning-rate schedules: planned progress in, factor of the base learning rate out.

Every schedule is a pure function ``Progress -> factor`` in one table, without torch and without a state of its own. Training PRO's own
are here, the others in ``schedules/known.py``.

Guarantee: a schedule starts, ends its warm-up and ends the run where the plan has these points, also after a run was planned anew.
Where transformers has a schedule of that name, the values are its own at every step. Price: two clocks, see ``schedules/progress.py``.

To add one: write a function whose first line says what it does, add a line to :data:`SCHEDULES`, add a row to
``tests/test_custom_scheduler.py``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from .schedules import known
from .schedules.progress import OPTIONS, Progress, half_cosine, in_epochs

__all__ = ["NO_WARMUP", "OPTIONS", "RAMP_DOWN", "SCHEDULES", "Progress", "Schedule", "schedule_notes"]


def fp_low_epoch_annealing(progress: Progress) -> float:
    """Linear warm-up within the first epoch, the full rate to its end, then half a cosine down to 0; one epoch: constant."""
    if progress.epoch <= 1 or progress.num_epochs <= 1:
        return in_epochs(progress, longest_warmup=1.0).rise
    return half_cosine((progress.epoch - 1) / (progress.num_epochs - 1))


def fp_half_time_annealing(progress: Progress) -> float:
    """Linear warm-up, the full rate to the middle of the run, then half a cosine down to 0 at its end."""
    half = progress.num_epochs / 2
    if progress.epoch <= half:
        return in_epochs(progress, longest_warmup=half).rise
    return half_cosine((progress.epoch - half) / half)


def fp_raise_fall_creative(progress: Progress) -> float:
    """Up along a cosine to the middle of the run, down along it to its end; a warm-up has no effect."""
    half = progress.num_epochs / 2
    return half_cosine(abs(progress.epoch - half) / half)


def fp_3epoch_raise_hold_fall(progress: Progress) -> float:
    """Up along a sine in the first epoch, the full rate in the second, down over the rest; a warm-up has no effect.

    With fewer than 3 epochs: thirds of the run.
    """
    raise_end, hold_end = (1.0, 2.0) if progress.num_epochs >= 3 else (progress.num_epochs / 3, progress.num_epochs * 2 / 3)
    if progress.epoch < raise_end:
        return math.sin(math.pi / 2 * progress.epoch / raise_end)
    if progress.epoch <= hold_end:
        return 1.0
    share = (progress.epoch - hold_end) / (progress.num_epochs - hold_end)
    return max(0.0, math.cos(math.pi / 2 * min(share, 1.0)))


def fp_step_decay_with_warmup(progress: Progress) -> float:
    """Linear warm-up within the first epoch, then half the rate after every epoch."""
    clock = in_epochs(progress, longest_warmup=1.0)
    return clock.rise if clock.is_warming_up else 0.5 ** math.floor(progress.epoch)


SCHEDULES: dict[str, Callable[[Progress], float]] = {
    "FP_low_epoch_annealing": fp_low_epoch_annealing,
    "FP_half_time_annealing": fp_half_time_annealing,
    "FP_raise_fall_creative": fp_raise_fall_creative,
    "FP_3epoch_raise_hold_fall": fp_3epoch_raise_hold_fall,
    "FP_step_decay_with_warmup": fp_step_decay_with_warmup,
    "linear": known.linear,
    "constant": known.constant,
    "constant_with_warmup": known.constant_with_warmup,
    "cosine": known.cosine,
    "cosine_with_restarts": known.cosine_with_restarts,
    "cosine_with_min_lr": known.cosine_with_min_lr,
    "polynomial": known.polynomial,
    "inverse_sqrt": known.inverse_sqrt,
    "warmup_stable_decay": known.warmup_stable_decay,
    "rex": known.rex,
    "one_cycle": known.one_cycle,
    "loss_triggered_ramp_down": known.loss_triggered_ramp_down,
}
NO_WARMUP = ("constant", "FP_raise_fall_creative", "FP_3epoch_raise_hold_fall")
RAMP_DOWN = "loss_triggered_ramp_down"


@dataclass(frozen=True)
class Schedule:
    """A schedule as a run uses it.

    Attributes:
        name: in :data:`SCHEDULES`.
        base_lr: the learning rate that a factor of 1 stands for.
        warmup_steps: optimizer steps.
        options: numbers by name, see :data:`OPTIONS`.
        by_epochs: the run may be planned anew on the way, so that only epochs are a steady measure of progress.
    """

    name: str
    base_lr: float
    warmup_steps: int = 0
    options: Mapping[str, float] = field(default_factory=dict)
    by_epochs: bool = False

    @property
    def words(self) -> str:
        """What the schedule does, in one sentence."""
        return (SCHEDULES[self.name].__doc__ or "").split("\n")[0]


def schedule_notes(schedule: Schedule, *, num_epochs: float, num_steps: int, first_epoch_steps: int) -> list[str]:
    """Sentences on what a user may not expect of a schedule in a run of that length.

    Args:
        schedule: with the settings.
        num_epochs: epochs of the run.
        num_steps: optimizer steps of the run.
        first_epoch_steps: optimizer steps of its first epoch.
    """
    name, warmup = schedule.name, schedule.warmup_steps
    options, notes = {**OPTIONS, **schedule.options}, []
    if warmup and name in NO_WARMUP:
        notes.append(
            f"Warmup Steps: a warm-up has no effect with {name}. Got: {warmup}. Set it to 0 or choose another LR Scheduler."
        )
    if warmup > first_epoch_steps and name in ("FP_low_epoch_annealing", "FP_step_decay_with_warmup"):
        notes.append(f"Warmup Steps: {name} warms up within the first epoch. Got: {warmup}. Used: {first_epoch_steps}.")
    if warmup > num_steps / 2 and name == "FP_half_time_annealing":
        notes.append(f"Warmup Steps: {name} warms up within the first half of the run. Got: {warmup}. Used: {num_steps / 2:g}.")
    if num_epochs < 3 and name == "FP_3epoch_raise_hold_fall":
        notes.append(
            f"LR Scheduler: {name} is made for 3 epochs or more. Got: {num_epochs:g}. It takes thirds of the run instead."
        )
    if num_epochs <= 1 and name == "FP_low_epoch_annealing":
        notes.append(f"LR Scheduler: {name} anneals after the first epoch. Epochs: {num_epochs:g}, so the rate stays constant.")
    if options["lr_cycles"] == 1 and name == "cosine_with_restarts":
        notes.append(f"LR Cycles: with 1 there is no restart, {name} is the same as cosine. Raise it to 2 or more.")
    if not warmup and name == "inverse_sqrt":
        last = 1 / math.sqrt(1 + num_steps / known.INVERSE_SQRT_STEPS)
        notes.append(
            f"Warmup Steps: without a warm-up inverse_sqrt ends at {last:.0%} of the rate. Set Warmup Steps; it sets the pace."
        )
    if name == "warmup_stable_decay" and warmup + round(options["lr_decay_share"] * num_steps) > num_steps:
        notes.append(
            f"LR Decay share: warm-up and decay are longer than the run. The decay is shortened to {num_steps - warmup} steps."
        )
    return notes
