"""The entries of a run: how long they are, and which of them follow each other.

What it does: finds the original order (groups as they come, places inside them) once, so that phases only look it up. Guarantee: entries
count as neighbours only where nothing that was left out stands between them. Price: some arrays of 8 bytes an entry.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
Flags = NDArray[np.bool_]
# (first entry, number of entries from it on) -> tokens of them as one sample; None = they cannot be one
JoinLength = Callable[[int, int], int | None]
# (entry, number of entries before it in its group) -> tokens of the sample that trains the entry with those as unlabelled context;
# None = too long, or joining is the way
ContextLength = Callable[[int, int], int | None]


class Entries:
    """What is ordered and cut into batches.

    Args:
        lengths: tokens of each entry, shape (entries,).
        group: conversation or section of a text to which each belongs; None = each stands alone, in the order given.
        place: order inside the group; a gap means that something was left out there. None = the order given, without gaps.
        overlap: marks text blocks that only repeat what others hold too; None = none.
        join_length: ``join_length(first, count)`` gives the tokens of entry ``first`` and the ``count - 1`` that follow it in its group as
            one sample, or None where that cannot be (too long, or no single rendering trains all of them). It must depend on nothing else.
            None = entries are never joined.
        join_without_overlaps: the same for entries that are no overlaps, those that follow counted without overlaps; asked where a phase
            leaves these out. None = what was left out separates.
        context_length: ``context_length(entry, count)`` gives the tokens of the sample that trains ``entry`` and has the ``count`` entries
            before it in its group as context, or None where that is too long or where joining is the way. More context is never shorter.
            None = no entry ever has context.

    An entry that comes several times with the same group and place (a repeated data set) belongs to a copy of its group each time.

    Attributes:
        lengths: as given, int64.
        overlap: as given, or all False.
        original: entries in original order.
        rank: place of each entry in ``original``.
        chain: number of the group (or copy) of each place of ``original``, rising.
    """

    def __init__(
        self,
        lengths: Sequence[int] | Integers,
        *,
        group: Sequence[int] | Integers | None = None,
        place: Sequence[int] | Integers | None = None,
        overlap: Sequence[bool] | Flags | None = None,
        join_length: JoinLength | None = None,
        join_without_overlaps: JoinLength | None = None,
        context_length: ContextLength | None = None,
    ) -> None:
        self.lengths: Integers = np.asarray(lengths, dtype=np.int64)
        num = len(self.lengths)
        if not num:
            raise ValueError("Data set: there are no samples to make batches of. Check the data.")
        self.overlap: Flags = np.zeros(num, dtype=bool) if overlap is None else np.asarray(overlap, dtype=bool)
        self.join_length = join_length
        self.join_without_overlaps = join_without_overlaps
        self.context_length = context_length
        everyone = np.arange(num, dtype=np.int64)
        if group is None:
            self.original, self.chain, self._run = everyone, everyone, everyone
        else:
            groups = np.asarray(group, dtype=np.int64)
            places = _places(groups) if place is None else np.asarray(place, dtype=np.int64)
            self.original, self.chain, self._run = _original_order(groups, places)
        assert len(self.original) == len(self.overlap) == num, "entries: arrays of different length"
        self.rank: Integers = np.empty(num, dtype=np.int64)
        self.rank[self.original] = everyone

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def can_join(self) -> bool:
        """Whether neighbours may become one sample, or context of each other."""
        return self.join_length is not None or self.context_length is not None

    def before(self, entry: int, count: int) -> tuple[int, ...]:
        """The ``count`` entries before one in original order."""
        place = int(self.rank[entry])
        return tuple(self.original[place - count : place].tolist())

    def neighbours(self, ranks: Integers, left_out: Flags | None = None) -> Flags:
        """Which of some places in original order continue the one before.

        Args:
            ranks: rising places in ``original``, shape (chosen,).
            left_out: entries (by number) that do not separate others; None = all do.

        Returns:
            Shape (chosen,); the first is False.
        """
        counted = ranks if left_out is None else np.cumsum(~left_out[self.original])[ranks]
        run = self._run[ranks]
        found = np.zeros(len(ranks), dtype=bool)
        found[1:] = (run[1:] == run[:-1]) & (np.diff(counted) == 1)
        return found


def _places(group: Integers) -> Integers:
    """Place of each entry in its group, in the order given."""
    order = np.argsort(group, kind="stable")
    starts = np.flatnonzero(np.diff(group[order], prepend=group[order[0]] - 1))
    places = np.empty(len(group), dtype=np.int64)
    places[order] = np.arange(len(group)) - np.repeat(starts, np.diff(starts, append=len(group)))
    return places


def _original_order(group: Integers, place: Integers) -> tuple[Integers, Integers, Integers]:
    """Entries in original order, their chains (groups or copies), and their runs (parts of chains without a gap)."""
    num = len(group)
    same_place = np.lexsort((place, group))
    is_new = np.ones(num, dtype=bool)
    is_new[1:] = (np.diff(group[same_place]) != 0) | (np.diff(place[same_place]) != 0)
    firsts = np.flatnonzero(is_new)
    copy = np.empty(num, dtype=np.int64)
    copy[same_place] = np.arange(num) - np.repeat(firsts, np.diff(firsts, append=num))
    by_chain = np.lexsort((place, copy, group))
    begins = np.ones(num, dtype=bool)
    begins[1:] = (np.diff(group[by_chain]) != 0) | (np.diff(copy[by_chain]) != 0)
    # groups come in the order of their first entries
    first_entries = np.minimum.reduceat(by_chain, np.flatnonzero(begins))
    number = np.empty(len(first_entries), dtype=np.int64)
    number[np.argsort(first_entries)] = np.arange(len(first_entries))
    chain_of = number[np.cumsum(begins) - 1]
    order = np.argsort(chain_of, kind="stable")
    original, chain = by_chain[order], chain_of[order]
    follows = np.zeros(num, dtype=bool)
    follows[1:] = (np.diff(chain) == 0) & (np.diff(place[original]) == 1)
    return original, chain, np.cumsum(~follows)
