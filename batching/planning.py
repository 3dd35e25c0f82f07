"""From the course and the journal to the plan: walks through the run once, without making its batches.

What it does: applies the journal's switches where they stand and the course's transitions where they are due, and cuts the epochs into
stretches. Guarantee: what lies before ``history`` is told by the journal alone, so other transitions change only what is to come. Price:
an epoch within which a phase begins is ordered for it; all others are only counted.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from .batches import Stretch
from .course import Course
from .journal import Switch
from .orders import Orders, Stretches
from .plan import Past, RunPlan, Segment

HAIR = 1e-9  # of an epoch


@dataclass
class _Mix:
    """A phase that fades out."""

    before: str
    begin: float
    span: float

    def shares(self, begin: float, end: float) -> tuple[float, float]:
        return (begin - self.begin) / self.span, (end - self.begin) / self.span


@dataclass
class _Walk:
    """Where the walk is."""

    stage: int = 0
    stage_begin: float = 0.0
    stage_step: int = 0
    mix: _Mix | None = None
    step: int = 0
    progress: float = 0.0
    segments: list[Segment] = field(default_factory=list)
    switches: list[Switch] = field(default_factory=list)


class Planner:
    """Plans a run.

    Args:
        orders: the entries, in their orders.
        course: phases and transitions.
        num_epochs: epochs; the last may be a part.
        past: where the run begins, if it continues one of another order: the rest of that epoch is a part of one.
    """

    def __init__(self, orders: Orders, course: Course, num_epochs: float, past: Past | None = None) -> None:
        self._orders = orders
        self._course = course
        self._sizes = epoch_sizes(num_epochs)
        self._window = orders.frame.window
        self._past = past or Past(0, 0.0)

    def plan(self, journal: list[Switch], history: int = 0, *, earliest: bool = False) -> tuple[RunPlan, tuple[Stretches, ...]]:
        """The run.

        Args:
            journal: switches that are decided.
            history: batches that were trained when the journal was saved; before them nothing is planned anew.
            earliest: let losses end phases as early as they could, else as late.

        Returns:
            The plan, and the stretches of each epoch.
        """
        facts = sorted(journal, key=lambda switch: switch.place)
        walk, steps = self._after_past()
        stretches: list[Stretches] = [()] * len(steps)
        for epoch in range(len(steps), len(self._sizes)):
            first = sum(steps)
            stretches.append(self._walk_epoch(walk, epoch, (walk.step - first) * self._window, facts, history, earliest))
            steps.append(walk.step - first)
        frame = self._orders.frame
        accumulation = frame.window // frame.world_size
        entries = len(self._orders.entries)
        plan = RunPlan(
            tuple(steps),
            self._sizes,
            accumulation,
            frame.world_size,
            frame.batch_size,
            entries,
            tuple(walk.segments),
            tuple(walk.switches),
        )
        return plan, tuple(stretches)

    def _after_past(self) -> tuple[_Walk, list[int]]:
        """Where the plan begins, and the steps of the epochs that were over by then (as if all steps had been alike)."""
        past, walk = self._past, _Walk()
        if not past.steps:
            return walk, []
        phase = self._course.phases[past.stage]
        walk.stage, walk.stage_begin, walk.stage_step = past.stage, past.stage_begin, past.stage_step
        walk.step, walk.progress = past.steps, past.epochs
        walk.segments.append(Segment(0, 0, past.steps * self._window, phase, past.stage, 0.0, past.epochs, is_past=True))
        num_over = next(
            (epoch for epoch in range(len(self._sizes)) if self._end_of(epoch) > past.epochs + HAIR), len(self._sizes)
        )
        ends = [round(past.steps * min(1.0, self._end_of(epoch) / past.epochs)) for epoch in range(num_over)]
        if num_over and (num_over == len(self._sizes) or past.epochs - self._end_of(num_over - 1) < HAIR):
            ends[-1] = past.steps
        return walk, [end - begin for begin, end in zip([0, *ends], ends, strict=False)]

    def _end_of(self, epoch: int) -> float:
        return sum(self._sizes[: epoch + 1])

    def _walk_epoch(self, walk: _Walk, epoch: int, position: int, facts: list[Switch], history: int, earliest: bool) -> Stretches:
        begin = sum(self._sizes[:epoch])
        walk.progress = max(walk.progress, begin)
        done = max(0.0, self._past.epochs - begin)  # of the first epoch after the past
        stretches: Stretches = ()
        while True:
            here = [fact for fact in facts if fact.place == (epoch, position)]
            for fact in here:
                self._apply(walk, fact)
            self._switch_if_due(walk, epoch, position, history, earliest)
            later = [fact for fact in facts if fact.epoch == epoch and fact.position > position]
            size = next((fact.epoch_size for fact in later if fact.epoch_size is not None), self._sizes[epoch])
            end = max(begin + size, walk.progress)
            stretches = (*stretches, self._stretch(walk, position, size - done, end))
            num_steps = self._orders.count(epoch, stretches) // self._window
            taken = min(
                num_steps,
                *((fact.position - position) // self._window for fact in later[:1]),
                self._due_in(walk, num_steps, end, history, earliest),
            )
            self._add_segment(walk, epoch, stretches[-1], taken, num_steps, end)
            position += taken * self._window
            if taken == num_steps and all(fact.position != position for fact in later):
                return stretches

    def _stretch(self, walk: _Walk, position: int, size: float, end: float) -> Stretch:
        phase = self._course.phases[walk.stage]
        if walk.mix and walk.progress >= walk.mix.begin + walk.mix.span - HAIR:
            walk.mix = None
        if walk.mix is None:
            return Stretch(position, phase, size)
        return Stretch(position, phase, size, walk.mix.before, walk.mix.shares(walk.progress, end))

    def _add_segment(self, walk: _Walk, epoch: int, stretch: Stretch, taken: int, num_steps: int, end: float) -> None:
        progress = end if taken == num_steps else walk.progress + (end - walk.progress) * taken / num_steps
        if taken:
            where = epoch, stretch.position, taken * self._window, stretch.phase, walk.stage
            walk.segments.append(Segment(*where, walk.progress, progress, stretch.before))
        walk.step += taken
        walk.progress = progress

    # --- switches --------------------------------------------------------------------------------------------------------------

    def _apply(self, walk: _Walk, switch: Switch) -> None:
        if switch.epoch_size is None and switch.stage != walk.stage:
            walk.switches.append(switch)
            before = self._course.phases[walk.stage]
            walk.mix = _Mix(before, walk.progress, switch.gradual) if switch.gradual > 0 else None
            walk.stage, walk.stage_begin, walk.stage_step = switch.stage, walk.progress, walk.step

    def _switch_if_due(self, walk: _Walk, epoch: int, position: int, history: int, earliest: bool) -> None:
        while walk.step * self._window >= history and walk.stage < self._course.last_stage:
            epochs, steps = self._course.planned_end(walk.stage, earliest=earliest)
            if walk.progress < walk.stage_begin + epochs - HAIR and walk.step < walk.stage_step + steps:
                return
            stage = walk.stage + 1
            cause, gradual = self._course.planned_cause(walk.stage), self._course.gradual_into(stage)
            phase = self._course.phases[stage]
            self._apply(walk, Switch(epoch, position, stage, phase, cause, gradual, is_planned=True))

    def _due_in(self, walk: _Walk, num_steps: int, end: float, history: int, earliest: bool) -> int:
        """Steps from here to the next planned switch, at least 1; more than there are if none is due in this epoch."""
        epochs, steps = self._course.planned_end(walk.stage, earliest=earliest)
        due: float = walk.stage_step + steps - walk.step
        if math.isfinite(epochs) and end > walk.progress:
            part = (walk.stage_begin + epochs - walk.progress) / (end - walk.progress)
            due = min(due, math.ceil(part * num_steps - HAIR))
        first = -(-history // self._window) - walk.step
        return int(min(max(due, first, 1), num_steps + 1)) if math.isfinite(due) else num_steps + 1


def epoch_sizes(num_epochs: float) -> tuple[float, ...]:
    """1.0 for each whole epoch, and the part that is left."""
    whole = int(num_epochs)
    part = num_epochs - whole
    return (1.0,) * whole + ((part,) if part > HAIR or not whole else ())
