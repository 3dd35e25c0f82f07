"""When a run saves a checkpoint by itself, and what each one is called.

What it does: looks at each step (and each evaluation) and names the cause of a save, if there is one: the run's end, an epoch's end, a
loss that has fallen, time that has passed, a number of steps, the best evaluation so far.

Guarantee: what is decided depends on the numbers it is told alone, on no clock of its own; a run that was killed and resumed decides as one that
was not (:meth:`SaveWatch.state` is in every checkpoint). Price: a few comparisons per step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..runs.checkpoints import USER

END, STOP, EPOCH, FALL, MINUTES, STEPS, BEST = "end", "stop", "epoch", "fall", "minutes", "steps", "best"


@dataclass(frozen=True)
class SaveRules:
    """What the user wants to be saved.

    Attributes:
        every_steps: 0 = off.
        every_epoch: at each epoch's end.
        every_minutes: after so many minutes of training without a checkpoint; 0 = off.
        fall: share by which the smoothed loss must have fallen since the last such save, 0 to 1; 0 = off.
        fall_start: the first such save comes at or under this loss; 0 = the fall is counted from the first stable loss.
        best_eval: whenever an evaluation is better than all before it.
    """

    every_steps: int = 0
    every_epoch: bool = False
    every_minutes: float = 0.0
    fall: float = 0.0
    fall_start: float = 0.0
    best_eval: bool = False


@dataclass(frozen=True)
class StepFacts:
    """What is known after an optimizer step.

    Attributes:
        step: optimizer steps done.
        is_last: the plan ends here.
        at_epoch_end: an epoch is over.
        smoothed_loss: mean over the last steps.
        is_stable: those are as many as the mean is meant to have.
        time_is_up: :meth:`SaveWatch.time_is_up`, as all processes agreed upon.
    """

    step: int
    is_last: bool = False
    at_epoch_end: bool = False
    smoothed_loss: float = 0.0
    is_stable: bool = False
    time_is_up: bool = False


class SaveWatch:
    """Decides on saves while a run goes on.

    Args:
        rules: what the user wants.
    """

    def __init__(self, rules: SaveRules) -> None:
        self.rules = rules
        self._target: float | None = rules.fall_start or None
        self._best: float | None = None
        self._seconds = 0.0

    def add_time(self, seconds: float) -> None:
        """Training time has passed; pauses are none."""
        self._seconds += seconds

    @property
    def time_is_up(self) -> bool:
        """Whether the last checkpoint is so old that the next step saves one."""
        minutes = self.rules.every_minutes
        return minutes > 0 and self._seconds >= 60 * minutes

    def saved(self) -> None:
        """A checkpoint was written, for whatever cause."""
        self._seconds = 0.0

    def cause(self, facts: StepFacts, *, asked: bool = False, stops: bool = False) -> str:
        """Why a checkpoint is saved after a step; "" if none is. Call it once for each step.

        Args:
            facts: of the step.
            asked: the user wants one now.
            stops: the run ends here before its plan does.
        """
        rules = self.rules
        has_fallen = self._has_fallen(facts)
        ways = {
            USER: asked,
            STOP: stops,
            END: facts.is_last,
            EPOCH: facts.at_epoch_end and rules.every_epoch,
            FALL: has_fallen,
            STEPS: rules.every_steps > 0 and facts.step % rules.every_steps == 0,
            MINUTES: facts.time_is_up,
        }
        return next((cause for cause, holds in ways.items() if holds), "")

    def _has_fallen(self, facts: StepFacts) -> bool:
        """Whether the loss has come down far enough; the next target is then that much lower."""
        rules = self.rules
        if not rules.fall or not facts.is_stable:
            return False
        if self._target is None:
            self._target = facts.smoothed_loss * (1 - rules.fall)
            return False
        if facts.smoothed_loss > self._target:
            return False
        self._target = facts.smoothed_loss * (1 - rules.fall)
        return True

    def evaluated(self, loss: float) -> bool:
        """An evaluation after at least one step; whether it is saved as the best so far."""
        is_best = self._best is None or loss < self._best  # NaN is never better
        if is_best and loss == loss:
            self._best = loss
        return self.rules.best_eval and is_best and loss == loss

    def state(self) -> dict[str, Any]:
        """For a checkpoint. The time since the last one is 0 by then."""
        return {"fall_target": self._target, "best": self._best, "fall_rules": [self.rules.fall, self.rules.fall_start]}

    def load(self, state: dict[str, Any]) -> None:
        """From a checkpoint; with other settings for the fall of the loss, that begins anew."""
        if state.get("fall_rules") == [self.rules.fall, self.rules.fall_start]:
            self._target = state.get("fall_target")
        self._best = state.get("best")


def checkpoint_name(step: int, cause: str) -> str:
    """Name of a checkpoint's folder; the user's own are told apart, and never deleted by a run."""
    return f"checkpoint-{step}-{USER}" if cause == USER else f"checkpoint-{step}"
