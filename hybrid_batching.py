"""Entries to batches: the whole run as one planned sequence, in one phase or in several that follow each other.

What it does: orders the entries of every epoch as the phases say (:mod:`training_pro.batching.phases`), cuts them into batches, and knows
before the run how many optimizer steps each epoch and each phase has. One sampler serves all ranks: rank r takes every world-size-th batch.

Guarantee: the order is a pure function of (entries, seed, epoch, journal of switches); no global random state is read or changed. In an
epoch every entry is trained exactly once, also where a phase begins within it: the new phase orders only what was not drawn yet, and
packs only that. Every
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
from dataclasses import asdict
from typing import Any

from .batching.batches import Batches, Frame, Item
from .batching.course import MODES, Course, Transition
from .batching.cutting import count_batches, cut_batches, fit_accumulation
from .batching.entries import Entries
from .batching.facts import PlanRow, plan_rows, switch_ranges
from .batching.forming import Former, How
from .batching.journal import Switch, from_plain, to_plain
from .batching.orders import Orders, part_of
from .batching.phases import PHASES
from .batching.plan import Past, RunPlan, Segment
from .batching.planning import HAIR, Planner, epoch_sizes
from .batching.rows import Packing


class HybridBatchSampler:
    """Batches of the whole run, all epochs in one sequence, for all ranks.

    A batch is a list of what the data set takes as an index: a number for an entry, ``-1 - number`` for a filler, a tuple of numbers for
    entries that are joined into one sample, ``("context", numbers, number)`` for an entry with others before it that are not trained
    again, ``("pack", items)`` for several of these in one row.

    Args:
        entries: what is ordered, or only the tokens of each entry.
        batch_size: most samples of a batch (True Batch Size); with packing: packs.
        num_epochs: epochs; a part such as 0.5 trains that part of the entries, drawn by seed.
        accumulation: batches of one optimizer step on one rank (see :func:`fit_accumulation`).
        world_size: ranks.
        seed: decides every order, together with the epoch.
        phase: name in :data:`PHASES`, or the course through several.
        packing: how samples are put into rows; None = each is one.

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
        packing: Packing | None = None,
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
        frame = Frame(batch_size, accumulation * world_size, world_size)
        how = How(self.course.leave_out_overlaps, self.course.join_in_order, packing)
        self._former = Former(self.entries, how, seed)
        self._orders = Orders(self._former, frame, seed)
        self._num_epochs = num_epochs
        self._past: Past | None = None
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
        return self._longest + (self._past.steps * self.plan.window if self._past else 0)

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
        parts = self.parts(epoch)
        begins = parts[0][0] if parts else self.plan.steps_per_epoch[epoch] * self.plan.window
        for _ in range(place, begins):  # trained in another order; whoever resumes skips them
            yield [-1 - self._filler]
        for begin, end, batches in parts:
            yield from batches.items(max(place - begin, 0), max(end - begin, 0), self._filler)

    def parts(self, epoch: int) -> list[tuple[int, int, Batches]]:
        """The stretches of an epoch: the batches of the epoch at which each begins and ends, and its own batches."""
        if self._epoch[0] != epoch:
            stretches = self._stretches[epoch]
            begins = [stretch.position for stretch in stretches]
            ends = [*begins[1:], self.plan.steps_per_epoch[epoch] * self.plan.window][: len(begins)]
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
        packing = self._former.how.packing
        return plan_rows(self.plan, self.parts, packing.capacity if packing else 0)

    @property
    def has_past(self) -> bool:
        """Whether the run continues one of another order (see :meth:`continue_after`)."""
        return self._past is not None

    @property
    def is_packed(self) -> bool:
        """Whether a batch is made of packs."""
        return self._former.how.packing is not None

    def most_rows(self) -> int:
        """Samples (with packing: packs) of an epoch, of the phase that has most of them."""
        former = self._former
        return max(len(former.whole(name)) if former.changes_number(name) else len(self.entries) for name in self.course.phases)

    def joins(self, name: str) -> bool:
        """Whether a phase, over a whole epoch, trains any entry together with another."""
        units = self._former.whole(name).units if self.entries.can_join else None
        return units is not None and units.num_joined(len(units)) > 0

    def longest_items(self) -> list[tuple[int, Item]]:
        """The longest row of each phase that trains, with its tokens: what needs the most memory."""
        found = []
        for name in dict.fromkeys(self.course.phases):
            rows = self._former.whole(name)
            place = int(rows.tokens.argmax())
            found.append((int(rows.tokens[place]), rows.items(place, place + 1, self.entries)[0]))
        return sorted(found, key=lambda pair: -pair[0])

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
            "past": asdict(self._past) if self._past else None,
            "place": asdict(self._place(batches_done)),
        }

    def _place(self, batches_done: int) -> Past:
        """Where the run stands, for those who continue it with another order."""
        plan, step = self.plan, batches_done // self.plan.window
        stage, past = self.stage_at(min(step, plan.num_steps - 1)), self._past
        began = next((plan.step_of(switch) for switch in plan.switches if switch.stage == stage), None)
        if began is None and past and past.stage == stage:
            return Past(step, plan.epoch_at(step), stage, past.stage_begin, past.stage_step)
        return Past(step, plan.epoch_at(step), stage, plan.epoch_at(began or 0), began or 0)

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
        self._begin_after(Past(**state["past"]) if state.get("past") else None)
        self._note_other_size(float(state.get("num_epochs", self.plan.num_epochs)), done)
        self._position = 0 if from_start else done

    def continue_after(self, past: Past) -> None:
        """Go on where a run of another order stood: other data, another seed, or steps of another size.

        The rest of the epoch within which it stood is a part of one, drawn from all entries. The next iteration begins with as many batches
        to skip as the past has steps.

        Args:
            past: where that run stood; a stage that this course does not have counts as the first, from the run's begin.
        """
        if past.stage > self.course.last_stage:
            past = Past(past.steps, past.epochs)
        self._journal, self._history, self._position = [], past.steps * self.plan.window, 0
        self._begin_after(past)

    def _begin_after(self, past: Past | None) -> None:
        self._past = past
        self._planner = Planner(self._orders, self.course, self._num_epochs, past)
        self._replan()

    def _note_other_size(self, num_epochs: float, done: int) -> None:
        """Write into the journal that the epoch in which a run stands was planned with another size."""
        before = Planner(self._orders, self.course, num_epochs, self._past).plan(self._journal, self._history)[0]
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
    "Packing",
    "Past",
    "PlanRow",
    "RunPlan",
    "Segment",
    "Switch",
    "Transition",
    "cut_batches",
    "fit_accumulation",
    "switch_ranges",
]
