"""Entries to the rows of a phase: which are chosen, how they become units, how units are packed, and in which random order they come.

Guarantee: a pure function of (entries, how, seed, phase, what remains, generator). What a phase makes of all entries is formed once and
only shuffled anew in each epoch. Price: memory for the rows of each phase that trains a whole epoch.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .entries import Entries, Integers
from .phases import PHASES, Phase
from .rows import Packing, Rows
from .units import Generator, choose_ranks, singles


class How(NamedTuple):
    """What all phases of a run have in common.

    Attributes:
        leave_out_overlaps: see :class:`training_pro.batching.course.Course`.
        join_in_order: see there.
        packing: how rows are filled; None = each unit is one.
    """

    leave_out_overlaps: bool = False
    join_in_order: bool = True
    packing: Packing | None = None


class Former:
    """Rows of the phases of a run.

    Args:
        entries: all of the run.
        how: what phases have in common.
        seed: for packers.
    """

    def __init__(self, entries: Entries, how: How, seed: int = 0) -> None:
        self.entries = entries
        self.how = how
        self._seed = seed
        self._whole: dict[str, Rows] = {}

    def rows(self, name: str, remaining: Integers, count: int, rng: Generator) -> Rows:
        """Rows of a phase, in random order where it has no order of its own.

        Args:
            name: in PHASES.
            remaining: entries that may be trained, rising.
            count: how many of them are.
            rng: decides what is drawn.
        """
        entries, phase = self.entries, PHASES[name]
        is_whole = count >= len(remaining) == len(entries)
        if not phase.joins and not phase.is_ordered:
            chosen = remaining[rng.permutation(len(remaining))[:count]]
            if self.how.packing is None:
                return Rows(singles(entries, chosen))
            return (self.whole(name) if is_whole else self._formed(phase, np.sort(chosen))).shuffled(rng)
        if is_whole:
            rows = self.whole(name)
        else:
            rows = self._formed(phase, entries.original[choose_ranks(entries, self._used(phase, remaining), count, rng)])
        return rows if phase.is_ordered else rows.shuffled(rng)

    def whole(self, name: str) -> Rows:
        """Rows of all entries by a phase, not shuffled."""
        if name not in self._whole:
            phase, entries = PHASES[name], self.entries
            used = self._used(phase, np.arange(len(entries)))
            chosen = entries.original[np.sort(entries.rank[used])] if phase.joins or phase.is_ordered else used
            self._whole[name] = self._formed(phase, chosen)
        return self._whole[name]

    def changes_number(self, name: str) -> bool:
        """Whether a phase may have fewer rows than there are entries."""
        phase = PHASES[name]
        return (phase.is_ordered and self._leaves_out) or self.how.packing is not None or (phase.joins and self.entries.can_join)

    def _used(self, phase: Phase, remaining: Integers) -> Integers:
        """Without the overlaps that a phase in original order leaves out."""
        return remaining[~self.entries.overlap[remaining]] if phase.is_ordered and self._leaves_out else remaining

    @property
    def _leaves_out(self) -> bool:
        """Whether phases in original order leave something out: not where nothing else would remain."""
        overlap = self.entries.overlap
        return self.how.leave_out_overlaps and bool(overlap.any()) and not bool(overlap.all())

    def _formed(self, phase: Phase, chosen: Integers) -> Rows:
        left_out = phase.is_ordered and self._leaves_out
        units = phase.form(self.entries, chosen, left_out, self.how.join_in_order)
        packing = self.how.packing
        return Rows(units) if packing is None or not len(units) else phase.pack(units, packing, self._seed)
