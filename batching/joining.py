"""Neighbours to units: joined into one sample, or, where no single rendering can train them all, each a sample with the ones before it
as unlabelled context.

How a run of neighbours is taken apart (``join_length`` and ``context_length`` say what is possible)::

    e1 e2 e3 e4 e5    all can be joined, four at most fit      [e1 e2 e3 e4] [e5]
    e1 e2 e3 e4 e5    none can, two and a half fit             [e1] [e1 | e2] [e1 e2 | e3] [e2 e3 | e4] [e3 e4 | e5]
    in pairs                                                   [e1] [e1 | e2]   [e3] [e3 | e4]   [e5]

Guarantee: each entry is trained in exactly one unit; context reaches back as far as it may, and never across what is not a neighbour or
was left out. Price: a call or two of the hooks for each entry.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .entries import ContextLength, Entries, Integers
from .units import Units, singles


def join_neighbours(entries: Entries, chosen: Integers, most: int, *, left_out: bool = False) -> Units:
    """Units of entries in original order.

    Args:
        entries: all of the run.
        chosen: those that are trained, in original order.
        most: entries that are joined or seen together, at most.
        left_out: overlaps are not among them, and separate nothing.
    """
    if not entries.can_join:
        return singles(entries, chosen)
    found = _Joining(entries, chosen, most, left_out).units()
    ends, tokens, contexts = (np.asarray(numbers, dtype=np.int64) for numbers in found)
    borders = np.concatenate((np.zeros(1, dtype=np.int64), ends))
    return Units(chosen, borders, tokens, contexts if contexts.any() else None)


class _Joining:
    """The walk over the chosen entries; names are looked up once, since it is the longest part of planning."""

    def __init__(self, entries: Entries, chosen: Integers, most: int, left_out: bool) -> None:
        ranks, skip = entries.rank[chosen], left_out and entries.join_without_overlaps is not None
        follows = entries.neighbours(ranks, entries.overlap if skip else None)
        places = np.arange(len(chosen))
        self._most = most
        self._numbers: list[int] = chosen.tolist()
        self._lengths: list[int] = entries.lengths[chosen].tolist()
        # the place behind the last neighbour of each
        ends = np.append(np.flatnonzero(~follows), len(chosen))
        self._run_ends: list[int] = ends[np.searchsorted(ends, places, side="right")].tolist()
        # context is what stands right before, so nothing that was left out may lie between
        follows[1:] &= np.diff(ranks) == 1
        self._first_of_run: list[int] = np.maximum.accumulate(np.where(follows, 0, places)).tolist()
        self._join = entries.join_without_overlaps if skip else entries.join_length
        self._context = entries.context_length

    def units(self) -> tuple[list[int], list[int], list[int]]:
        """End, tokens and context of each unit."""
        found: tuple[list[int], list[int], list[int]] = ([], [], [])
        (add_end, add_tokens, add_context) = (numbers.append for numbers in found)
        numbers, lengths, run_ends, most, join = self._numbers, self._lengths, self._run_ends, self._most, self._join
        start, num, firsts, has_context = 0, len(numbers), self._first_of_run, self._context is not None
        while start < num:
            end, length = start + 1, lengths[start]
            last = run_ends[start]
            if end < last and join is not None:
                last = min(last, start + most)
                while end < last:
                    joined = join(numbers[start], end - start + 1)
                    if joined is None:
                        break
                    length, end = joined, end + 1
            add_end(end)
            add_tokens(length)
            add_context(0)
            if has_context and end < num and firsts[end] <= start:  # the next one has this one right before it
                for count, length in self._behind(start, end):
                    end += 1
                    add_end(end)
                    add_tokens(length)
                    add_context(count)
            start = end
        return found

    def _behind(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Context and tokens of each unit that has the one from ``start`` to ``end`` (and in order, all before it) as context."""
        context, firsts, num = self._context, self._first_of_run, len(self._numbers)
        assert context is not None
        # in pairs only the pair's own; else all that came before in the run
        first = start if self._most < num else firsts[start]
        last, reach = min(num, start + self._most), end - start
        while end < last and first >= firsts[end]:
            count, length = most_context(context, self._numbers[end], end - first, reach)
            if not count:
                return
            yield count, length
            end, reach = end + 1, count + 1


def most_context(context_length: ContextLength, entry: int, most: int, guess: int) -> tuple[int, int]:
    """The largest context that fits, and the tokens with it; (0, 0) if none does.

    Args:
        context_length: see :class:`training_pro.batching.entries.Entries`.
        entry: what is trained.
        most: entries that there are before it, at least 1.
        guess: looked at first; near the answer for few calls.
    """
    count = most if guess >= most else max(1, guess)
    found = context_length(entry, count)
    if found is not None and count == most:  # mostly so, as long as all fits
        return count, found
    fits, fails, tokens, step = 0, most + 1, 0, 1
    while True:
        if found is None:
            fails = count
        else:
            fits, tokens = count, found
        if fails - fits == 1:
            return fits, tokens
        if not fits:
            count, step = max(1, fails - step), 2 * step
        elif fails > most:
            count, step = min(most, fits + step), 2 * step
        else:
            count = (fits + fails) // 2
        found = context_length(entry, count)
