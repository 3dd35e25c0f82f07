"""Entries to batches: the whole run as one planned sequence, in one phase or in several that follow each other.

What it does: orders the entries of every epoch as the phases say (:mod:`training_pro.batching.phases`), cuts them into batches, and knows
before the run how many optimizer steps each epoch and each phase has. One sampler serves all ranks: rank r takes every world-size-th batch.

Guarantee: the order is a pure function of (entries, seed, epoch, journal of switches); no global random state is read or changed. In an
epoch every entry is trained exactly once, also where a phase begins within it: the new phase orders only what was not drawn yet. Every
epoch is a whole number of accumulation windows (accumulation x world size batches), so no gradient is left over, an optimizer step
belongs to one epoch and one phase, and a resumed run meets the same batches. Price: a few batches of the last windows of an epoch are
smaller than the batch size; a switch takes effect behind the batches that are already drawn.

How the end of an epoch is cut, batch size 4, accumulation 2 (letters are entries, | separates batches, || windows)::

    abcd|efgh || ijkl|m...   5 entries are left for 2 batches:  abcd|efgh || ijk|lm
    abcd|efgh || i...        1 entry for 2 batches: the last two windows are shared evenly:  abc|de || fg|hi
    a|b || c|-               batch size 1, nothing to share: a filler (negative index, no label) completes the window
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from .batching.batches import Batches, Frame, Item
from .batching.course import MODES, Course, Transition
from .batching.cutting import count_batches, cut_batches, fit_accumulation
from .batching.entries import Entries
from .batching.facts import PlanRow, plan_rows, switch_ranges
from .batching.journal import Switch, from_plain, to_plain
from .batching.orders import Orders, part_of
from .batching.phases import PHASES
from .batching.plan import RunPlan, Segment
from .batching.planning import HAIR, Planner, epoch_sizes


class HybridBatchSampler:
    """Batches of the whole run, all epochs in one sequence, for all ranks.

    A batch is a list of what the data set takes as an index: a number for an entry, ``-1 - number`` for a filler, a tuple of numbers for
    entries that are joined into one sample.

    Args:
        entries: what is ordered, or only the tokens of each entry.
        batch_size: most units of a batch (True Batch Size).
        num_epochs: epochs; a part such as 0.5 trains that part of the entries, drawn by seed.
        accumulation: batches of one optimizer step on one rank (see :func:`fit_accumulation`).
        world_size: ranks.
        seed: decides every order, together with the epoch.
        phase: name in :data:`PHASES`, or the course through several.

    Raises:
        ValueError: no entries, or an unknown phase.
    """

    def __init__(
        self,
        entries: Entries | Sequence[int],
        *,
        batch_size: int,
        num_epochs: float = 1.0,
        accumulation: int = 1,
        world_size: int = 1,
        seed: int = 0,
        phase: str | Course = "shuffled",
    ) -> None:
        self.entries = entries if isinstance(entries, Entries) else Entries(entries)
        self.course = phase if isinstance(phase, Course) else Course((phase,))
        for name in self.course.phases:
            if name not in PHASES:
                raise ValueError(f"Batching mode: {name!r} is unknown. Choose from {', '.join(PHASES)}.")
        self.batch_size = None  # batches differ in size: accelerate must not complete them
        self.drop_last = False
        self._seed = seed
        self._filler = int(self.entries.lengths.argmin())
        frame = Frame(batch_size, accumulation * world_size, world_size, self.course.leave_out_overlaps)
        self._orders = Orders(self.entries, frame, seed)
        self._planner = Planner(self._orders, self.course, num_epochs)
        self._longest = sum(
            count_batches(part_of(len(self.entries), size), batch_size, frame.window) for size in epoch_sizes(num_epochs)
        )
        self._journal: list[Switch] = []
        self._history = 0
        self._position = 0
        self.num_drawn = 0
        self._replan()

    def _replan(self) -> None:
        self.plan, self._stretches = self._planner.plan(self._journal, self._history)
        self._epoch: tuple[int, list[tuple[int, int, Batches]]] = (-1, [])

    # --- batches ---------------------------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        """Most batches that the run can have, whatever its switches do; it may end earlier, where its plan ends."""
        return self._longest

    def __iter__(self) -> Iterator[list[Item]]:
        position, self._position = self._position, 0
        self.num_drawn = position
        while position < self.plan.num_batches:
            plan = self.plan
            for batch in self._rest_of_epoch(*plan.place_of(position)):
                position += 1
                self.num_drawn = position
                yield batch
                if self.plan is not plan:  # a switch has changed what follows
                    break

    def _rest_of_epoch(self, epoch: int, place: int) -> Iterator[list[Item]]:
        for begin, end, batches in self.parts(epoch):
            yield from batches.items(max(place - begin, 0), max(end - begin, 0), self._filler)

    def parts(self, epoch: int) -> list[tuple[int, int, Batches]]:
        """The stretches of an epoch: the batches of the epoch at which each begins and ends, and its own batches."""
        if self._epoch[0] != epoch:
            stretches = self._stretches[epoch]
            begins = [stretch.position for stretch in stretches]
            ends = [*begins[1:], self.plan.steps_per_epoch[epoch] * self.plan.window]
            made = [self._orders.batches(epoch, stretches[: number + 1]) for number in range(len(stretches))]
            self._epoch = epoch, list(zip(begins, ends, made, strict=True))
        return self._epoch[1]

    def epoch_batches(self, epoch: int) -> list[list[Item]]:
        """All batches of one epoch (counted from 0), in order."""
        return list(self._rest_of_epoch(epoch, 0))

    # --- switches --------------------------------------------------------------------------------------------------------------

    def next_phase(self, step: int, cause: str, *, num_drawn: int | None = None) -> Switch | None:
        """Let the next phase begin as soon as possible: behind the last batch that is drawn, at a whole window.

        Must be called alike on all ranks, between two optimizer steps.

        Args:
            step: optimizer steps done.
            cause: in words, for the journal.
            num_drawn: batches drawn over all ranks; None = by this sampler.

        Returns:
            What was written into the journal; None if there is no next phase, it begins within the batches that are drawn already, or
            none are left to draw.
        """
        drawn = self.num_drawn if num_drawn is None else num_drawn
        window = self.plan.window
        position = max(-(-drawn // window), step) * window
        stage = self.stage_at(step) + 1
        if stage > self.course.last_stage or position >= self.plan.num_batches or self.stage_at(position // window) >= stage:
            return None
        switch = Switch(*self.plan.place_of(position), stage, self.course.phases[stage], cause, self.course.gradual_into(stage))
        self._journal.append(switch)
        self._replan()
        return switch

    @property
    def journal(self) -> tuple[Switch, ...]:
        """Switches that are decided, in order of decision; those to come by plan are in :attr:`plan`."""
        return tuple(self._journal)

    def stage_at(self, step: int) -> int:
        """Number of the phase that trains the step after ``step`` finished ones."""
        return self.plan.segment_at(step).stage

    def plan_rows(self) -> list[PlanRow]:
        """The plan in numbers: steps, tokens and padding of each phase in each epoch."""
        return plan_rows(self.plan, self.parts)

    def earliest_plan(self) -> RunPlan:
        """The plan if every loss that is waited for comes as early as it still may; :attr:`plan` has them as late as they may."""
        return self._planner.plan(self._passed(self.num_drawn), self.num_drawn, earliest=True)[0]

    def _passed(self, batches: int) -> list[Switch]:
        """The journal, and what was planned within the first batches."""
        window, journal = self.plan.window, self._journal
        planned = [switch for switch in self.plan.switches if switch.is_planned and switch not in journal]
        passed = [switch for switch in planned if self.plan.step_of(switch) * window < batches]
        return sorted([*journal, *passed], key=lambda switch: switch.place)

    # --- to go on later --------------------------------------------------------------------------------------------------------

    def state_dict(self, batches_done: int) -> dict[str, Any]:
        """What is needed to go on after ``batches_done`` batches (counted over all ranks)."""
        return {
            "batches_done": batches_done,
            "seed": self._seed,
            "num_entries": len(self.entries),
            "num_epochs": self.plan.num_epochs,
            "journal": to_plain(self._passed(batches_done)),
        }

    def load_state_dict(self, state: dict[str, Any], *, from_start: bool = False) -> None:
        """Let the next iteration begin where the state was taken, by the order of that run.

        Where the run has another number of epochs now and was within its last one, the rest of that epoch is ordered anew.

        Args:
            state: of :meth:`state_dict`.
            from_start: let it begin with the first batch nevertheless, for those who skip batches themselves.

        Raises:
            ValueError: the state belongs to other data or another seed.
        """
        for key, present, label in (("seed", self._seed, "Seed"), ("num_entries", len(self.entries), "number of samples")):
            if state[key] != present:
                raise ValueError(f"Resume: the {label} was {state[key]}, now it is {present}. Use the same data and seed.")
        done = int(state["batches_done"])
        self._journal, self._history = from_plain(state.get("journal", [])), done
        self._replan()
        self._note_other_size(float(state.get("num_epochs", self.plan.num_epochs)), done)
        self._position = 0 if from_start else done

    def _note_other_size(self, num_epochs: float, done: int) -> None:
        """Write into the journal that the epoch in which a run stands was planned with another size."""
        before = Planner(self._orders, self.course, num_epochs).plan(self._journal, self._history)[0]
        step = -(-done // before.window)
        epoch = before.epoch_of(step)
        if not step or epoch >= min(len(before.epoch_sizes), len(self.plan.epoch_sizes)):
            return
        size = before.epoch_sizes[epoch]
        if abs(size - self.plan.epoch_sizes[epoch]) < HAIR:
            return
        position = (step - (before.epoch_ends[epoch - 1] if epoch else 0)) * before.window
        segment = before.segment_at(step - 1)
        cause = f"Epochs changed from {num_epochs:g} to {self.plan.num_epochs:g}"
        self._journal.append(Switch(epoch, position, segment.stage, segment.phase, cause, epoch_size=size))
        self._longest += before.window
        self._replan()


__all__ = [
    "MODES",
    "PHASES",
    "Course",
    "Entries",
    "HybridBatchSampler",
    "PlanRow",
    "RunPlan",
    "Segment",
    "Switch",
    "Transition",
    "cut_batches",
    "fit_accumulation",
    "switch_ranges",
]
