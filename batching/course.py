"""The course of a run: which phases follow each other, and what lets the next one begin.

What it does: holds the settings of phases and transitions, in plain values. Guarantee: light (no numpy), so that the settings can take
names and defaults from here. Price: none.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

# batching mode on the form -> its phases, in order
MODES: dict[str, tuple[str, ...]] = {
    "shuffled": ("shuffled",),
    "length": ("length",),
    "paired": ("paired",),
    "sequential": ("sequential",),
    "hybrid": ("length", "sequential"),
    "hybrid two-stage": ("length", "paired", "sequential"),
}
# the settings of the first and the second transition: what their names and their labels begin with
SWITCHES = {"switch": "Switch", "second": "Second switch"}
# what a transition goes by -> how the form calls it
TRIGGERS: dict[str, str] = {"epochs": "after epochs", "steps": "after optimizer steps", "loss": "training loss in a range"}
# ranges of the smoothed training loss (nats per token) that let the first and the second transition happen
LOSS_RANGES = ((2.0, 2.5), (1.5, 2.0))
MINIMUM_EPOCHS = 0.5
SMOOTHING_STEPS = 10


@dataclass(frozen=True)
class Transition:
    """What ends a phase.

    Attributes:
        by: name in :data:`TRIGGERS`.
        epochs: length of the phase, for ``by="epochs"``; counted from the phase's begin.
        steps: optimizer steps of the phase, for ``by="steps"``.
        loss_range: lowest and highest smoothed loss, for ``by="loss"``; below the range counts too.
        minimum: epochs that the phase lasts at least, for ``by="loss"``.
        latest: epochs after which the next phase begins whatever the loss is; 0 = never. For ``by="loss"``.
        gradual: epochs over which the share of the next phase's batches grows from 0 to 1; 0 = all at once.
        smoothing: optimizer steps over which the loss is averaged, for ``by="loss"``.
    """

    by: str = "epochs"
    epochs: float = 1.0
    steps: int = 1
    loss_range: tuple[float, float] = LOSS_RANGES[0]
    minimum: float = MINIMUM_EPOCHS
    latest: float = 0.0
    gradual: float = 0.0
    smoothing: int = SMOOTHING_STEPS

    def __post_init__(self) -> None:
        if self.by not in TRIGGERS:
            raise ValueError(f"Transition: {self.by!r} is unknown. Choose from {', '.join(TRIGGERS)}.")
        if self.by == "epochs" and not self.epochs > 0:
            raise ValueError(f"Transition after epochs: a phase lasts longer than 0 epochs. Got: {self.epochs}.")
        if self.by == "steps" and self.steps < 1:
            raise ValueError(f"Transition after optimizer steps: a phase has at least 1 step. Got: {self.steps}.")
        low, high = self.loss_range
        if self.by == "loss" and not 0 <= low <= high:
            raise ValueError(f"Transition at a loss: the range goes from the lower to the higher loss. Got: {low} to {high}.")
        if self.by == "loss" and 0 < self.latest < self.minimum:
            raise ValueError(
                f"Transition at a loss: the phase ends at the latest after {self.latest} epochs, but lasts at least {self.minimum}. "
                f"Raise the latest end or lower the shortest length."
            )
        if min(self.minimum, self.latest, self.gradual) < 0:
            raise ValueError(
                f"Transition: lengths cannot be negative. Got: at least {self.minimum}, at the latest {self.latest}, "
                f"gradually over {self.gradual} epochs."
            )


def _counted(number: float, word: str) -> str:
    """1 epoch, 2.5 epochs, 1000000 steps."""
    shown = str(number) if isinstance(number, int) else f"{number:g}"
    return f"{shown} {word}{'' if number == 1 else 's'}"


@dataclass(frozen=True)
class Course:
    """Phases and the transitions between them.

    Attributes:
        phases: names in :data:`training_pro.batching.phases.PHASES`, in order; stage 0 is the first.
        transitions: one fewer.
        leave_out_overlaps: phases in original order leave out entries that only repeat text of others.
        join_in_order: phases in original order join neighbours as far as they may; else they train single entries in order.
    """

    phases: tuple[str, ...] = ("shuffled",)
    transitions: tuple[Transition, ...] = ()
    leave_out_overlaps: bool = False
    join_in_order: bool = True

    def __post_init__(self) -> None:
        if not self.phases or len(self.transitions) != len(self.phases) - 1:
            raise ValueError(
                f"Batching mode: between {len(self.phases)} phases there are {max(0, len(self.phases) - 1)} transitions. "
                f"Got: {len(self.transitions)}."
            )

    @property
    def last_stage(self) -> int:
        """Number of the last phase."""
        return len(self.phases) - 1

    def gradual_into(self, stage: int) -> float:
        """Epochs over which stage grows in."""
        return self.transitions[stage - 1].gradual if stage else 0.0

    def earliest_by_loss(self, stage: int) -> float:
        """Epochs of stage before its loss is looked at: a mixture with the phase before says little about it."""
        return self.gradual_into(stage) + self.transitions[stage].minimum

    def planned_end(self, stage: int, *, earliest: bool = False) -> tuple[float, float]:
        """Epochs and optimizer steps after which stage is planned to end, whichever comes first; infinity where it is not.

        Args:
            stage: a phase.
            earliest: plan with the earliest moment at which a loss could end it, else with the latest.
        """
        if stage >= self.last_stage:
            return math.inf, math.inf
        transition = self.transitions[stage]
        if transition.by == "steps":
            return math.inf, transition.steps
        if transition.by == "epochs":
            return transition.epochs, math.inf
        if earliest:
            return self.earliest_by_loss(stage), math.inf
        return transition.latest or math.inf, math.inf

    def planned_cause(self, stage: int) -> str:
        """Why stage ends where it was planned to, in words."""
        transition = self.transitions[stage]
        if transition.by == "steps":
            return f"after {_counted(transition.steps, 'step')}"
        if transition.by == "epochs":
            return f"after {_counted(transition.epochs, 'epoch')}"
        return f"at the latest after {_counted(transition.latest, 'epoch')}" if transition.latest else "when the loss allows it"
