"""When the training loss lets the next phase begin.

What it does: smooths the loss over the last optimizer steps, each weighted by its trained tokens. Guarantee: one noisy step triggers
nothing: the loss must be in the range whichever step of the window is left out. Price: a switch comes up to a window's steps after the
loss has fallen.
"""

from __future__ import annotations

from .course import SMOOTHING_STEPS, Course


class LossWindow:
    """Loss of the last optimizer steps of a phase.

    Args:
        num_steps: how many, at least 2.
    """

    def __init__(self, num_steps: int = SMOOTHING_STEPS) -> None:
        if num_steps < 2:
            raise ValueError(f"Smoothing: one step alone must not trigger a switch. Got: {num_steps}. Take at least 2 steps.")
        self._num_steps = num_steps
        self._steps: list[tuple[float, int]] = []

    def add(self, loss_sum: float, num_trained: int) -> None:
        """Take in a step: the sum of its losses over its trained tokens (all ranks), and their number."""
        if num_trained:
            self._steps = [*self._steps, (loss_sum, num_trained)][-self._num_steps :]

    def clear(self) -> None:
        """Another phase begins: its losses count alone."""
        self._steps = []

    @property
    def is_full(self) -> bool:
        """Whether all steps are there."""
        return len(self._steps) == self._num_steps

    @property
    def mean(self) -> float:
        """Nats per trained token; NaN before the first step."""
        trained = sum(number for _, number in self._steps)
        return sum(loss for loss, _ in self._steps) / trained if trained else float("nan")

    @property
    def highest_without_one(self) -> float:
        """The mean without the step that lowers it most."""
        loss, trained = sum(part for part, _ in self._steps), sum(number for _, number in self._steps)
        return max((loss - part) / (trained - number) for part, number in self._steps)

    def state(self) -> list[list[float]]:
        """For a checkpoint."""
        return [[loss, number] for loss, number in self._steps]

    def load(self, state: list[list[float]]) -> None:
        """From a checkpoint; of a longer window the newest steps."""
        self._steps = [(float(loss), int(number)) for loss, number in state][-self._num_steps :]


def loss_cause(course: Course, stage: int, epochs_in_stage: float, window: LossWindow) -> str:
    """Why the loss ends a phase now, in words; "" if it does not.

    Args:
        course: phases and transitions.
        stage: the phase that trains.
        epochs_in_stage: since it began.
        window: its losses.
    """
    if stage >= course.last_stage or course.transitions[stage].by != "loss" or not window.is_full:
        return ""
    low, high = course.transitions[stage].loss_range
    if epochs_in_stage < course.earliest_by_loss(stage) or window.highest_without_one > high:
        return ""
    where = "below" if window.mean < low else "in"
    return f"smoothed loss {window.mean:.3f} is {where} the range {low:g} to {high:g}"
