"""The plan of a run: epochs, phases and optimizer steps, before it starts and again after each switch.

Guarantee: progress in epochs is a function of the step that only rises, meets every epoch's end exactly and does not jump where the plan
is made again; what depends on it (learning rate, time left) stays where it belongs. Price: none.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

from .journal import Switch


@dataclass(frozen=True)
class Segment:
    """A part of an epoch in which one phase trains (or grows in).

    Attributes:
        epoch: counted from 0.
        position: batch of the epoch at which it begins, over all ranks.
        num_batches: over all ranks.
        phase: name in PHASES.
        stage: number of the phase.
        begin: progress at its begin, in epochs.
        end: progress at its end, in epochs.
        before: phase that fades out meanwhile; "" = none.
        is_past: it was trained in another order that is not known here (see :class:`Past`).
    """

    epoch: int
    position: int
    num_batches: int
    phase: str
    stage: int
    begin: float
    end: float
    before: str = ""
    is_past: bool = False


@dataclass(frozen=True)
class Past:
    """Where a run stood when it was continued with another order: other data, seed, or sizes of steps.

    Attributes:
        steps: optimizer steps that were done.
        epochs: progress then.
        stage: number of the phase.
        stage_begin: progress when that phase began.
        stage_step: optimizer steps done when it began.
    """

    steps: int
    epochs: float
    stage: int = 0
    stage_begin: float = 0.0
    stage_step: int = 0


@dataclass(frozen=True)
class RunPlan:
    """The whole run, as it is planned now.

    Attributes:
        steps_per_epoch: optimizer steps of each epoch; the last may be a part of one.
        epoch_sizes: length of each epoch in epochs: 1.0, or the part that is left for the last.
        accumulation: batches of one optimizer step on one rank.
        world_size: ranks.
        batch_size: most units of a batch.
        num_entries: entries of an epoch.
        segments: what trains when; empty = each epoch evenly.
        switches: between phases, those to come included.
    """

    steps_per_epoch: tuple[int, ...]
    epoch_sizes: tuple[float, ...]
    accumulation: int
    world_size: int
    batch_size: int
    num_entries: int
    segments: tuple[Segment, ...] = ()
    switches: tuple[Switch, ...] = ()

    @cached_property
    def epoch_ends(self) -> tuple[int, ...]:
        """Optimizer step after which each epoch is over."""
        return tuple(accumulate(self.steps_per_epoch))

    @property
    def window(self) -> int:
        """Batches of one optimizer step, over all ranks."""
        return self.accumulation * self.world_size

    @property
    def num_steps(self) -> int:
        """Optimizer steps of the run."""
        return self.epoch_ends[-1]

    @property
    def num_epochs(self) -> float:
        """Epochs of the run."""
        return sum(self.epoch_sizes)

    @property
    def num_batches(self) -> int:
        """Batches of the run, over all ranks."""
        return self.num_steps * self.window

    @cached_property
    def _knots(self) -> tuple[list[int], list[float]]:
        """Steps and the progress after them; between two of them progress is even."""
        if self.segments:
            steps = list(accumulate((segment.num_batches // self.window for segment in self.segments), initial=0))
            return steps, [self.segments[0].begin, *(segment.end for segment in self.segments)]
        return [0, *self.epoch_ends], [0.0, *accumulate(self.epoch_sizes)]

    def epoch_at(self, step: float) -> float:
        """Progress after ``step`` optimizer steps: epochs done plus the share of the current epoch that is trained."""
        steps, epochs = self._knots
        index = min(bisect_right(steps, step), len(steps) - 1)
        part = (step - steps[index - 1]) / max(1, steps[index] - steps[index - 1])
        return epochs[index] if part >= 1 else epochs[index - 1] + part * (epochs[index] - epochs[index - 1])

    def segment_at(self, step: int) -> Segment:
        """What the step that follows ``step`` finished ones trains; after the end, the last."""
        assert self.segments, "a plan without segments"
        return self.segments[min(bisect_right(self._knots[0], step), len(self.segments)) - 1]

    def step_of(self, switch: Switch) -> int:
        """Finished optimizer steps at which a switch takes effect."""
        return (self.epoch_ends[switch.epoch - 1] if switch.epoch else 0) + switch.position // self.window

    def place_of(self, batches: int) -> tuple[int, int]:
        """Epoch (from 0) and batch in it, of the batch that follows ``batches`` others; at the run's end an epoch beyond the last."""
        epoch = bisect_right(self.epoch_ends, batches // self.window)
        return epoch, batches - (self.epoch_ends[epoch - 1] * self.window if epoch else 0)

    def epoch_of(self, step: int) -> int:
        """Epoch (from 0) to which a finished step belongs."""
        return bisect_left(self.epoch_ends, step)
