"""Entries to units: single ones, pairs, or joined as far as they may be. A unit is one sample of a batch.

Guarantee: each chosen entry stands in exactly one unit; a unit holds neighbours of one group, in order, and only such as
``join_length`` can join. Price: where entries are joined, one call of ``join_length`` per entry.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .entries import Entries, Flags, Integers

Generator = np.random.Generator
# (entries, remaining, count, generator, leave out overlaps) -> units of `count` of the remaining entries
Form = Callable[[Entries, Integers, int, Generator, bool], "Units"]


@dataclass(frozen=True)
class Units:
    """Tuples of entries.

    Attributes:
        entries: those of all units behind each other, shape (entries,).
        borders: unit u holds ``entries[borders[u] : borders[u + 1]]``, shape (units + 1,).
        tokens: of each unit as a sample, shape (units,).
    """

    entries: Integers
    borders: Integers
    tokens: Integers

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def are_single(self) -> bool:
        """Whether no unit has more than one entry."""
        return len(self.entries) == len(self.tokens)

    def take(self, order: Integers) -> Units:
        """Some units, in another order."""
        if self.are_single:
            return Units(self.entries[order], np.arange(len(order) + 1), self.tokens[order])
        sizes = np.diff(self.borders)[order]
        borders = np.concatenate(([0], np.cumsum(sizes)))
        return Units(self.entries[spans(self.borders[:-1][order], sizes)], borders, self.tokens[order])

    def joined_with(self, other: Units) -> Units:
        """These and then the other's."""
        return Units(
            np.concatenate((self.entries, other.entries)),
            np.concatenate((self.borders, other.borders[1:] + self.borders[-1])),
            np.concatenate((self.tokens, other.tokens)),
        )


def spans(starts: Integers, sizes: Integers) -> Integers:
    """``starts[0], starts[0] + 1, ...`` (``sizes[0]`` of them), then those from ``starts[1]`` on, and so on."""
    ends = np.cumsum(sizes)
    shifts = starts - np.concatenate(([0], ends[:-1]))
    return np.arange(ends[-1] if len(ends) else 0) + np.repeat(shifts, sizes)


def singles(entries: Entries, chosen: Integers) -> Units:
    """Every entry a unit."""
    return Units(chosen, np.arange(len(chosen) + 1), entries.lengths[chosen])


def shuffled_singles(entries: Entries, remaining: Integers, count: int, rng: Generator, leave_out: bool) -> Units:
    """Single entries in an order of their own."""
    return singles(entries, remaining[rng.permutation(len(remaining))[:count]])


def shuffled_pairs(entries: Entries, remaining: Integers, count: int, rng: Generator, leave_out: bool) -> Units:
    """Two neighbours each, left-over ones single; shuffled."""
    units = _join(entries, choose_ranks(entries, remaining, count, rng), 2, None)
    return units.take(rng.permutation(len(units)))


def ordered_runs(entries: Entries, remaining: Integers, count: int, rng: Generator, leave_out: bool) -> Units:
    """As many neighbours each as can be joined, in original order; without ``join_length`` single entries in original order."""
    left_out = entries.overlap if leave_out and not entries.overlap.all() else None
    if left_out is not None:
        remaining = remaining[~left_out[remaining]]
    return _join(entries, choose_ranks(entries, remaining, count, rng), len(entries), left_out)


def choose_ranks(entries: Entries, remaining: Integers, count: int, rng: Generator) -> Integers:
    """Places in original order of ``count`` of the remaining entries: whole groups drawn over all the data, the last cut short.

    The generator is only asked where something must be chosen.
    """
    ranks: Integers = np.sort(entries.rank[remaining])
    if count >= len(ranks):
        return ranks
    chain = entries.chain[ranks]
    starts = np.flatnonzero(np.diff(chain, prepend=-1))
    sizes = np.diff(starts, append=len(ranks))
    drawn = rng.permutation(len(starts))
    before = np.cumsum(sizes[drawn]) - sizes[drawn]
    taken = np.clip(count - before, 0, sizes[drawn])
    return ranks[np.sort(spans(starts[drawn], taken))]


def _join(entries: Entries, ranks: Integers, most: int, left_out: Flags | None) -> Units:
    """Neighbours joined greedily, up to ``most`` entries a unit."""
    chosen = entries.original[ranks]
    if entries.join_length is None:
        return singles(entries, chosen)
    follows = entries.neighbours(ranks, left_out).tolist()
    numbers = chosen.tolist()
    lengths = entries.lengths[chosen].tolist()
    join_length, num = entries.join_length, len(numbers)
    borders, tokens = [0], []
    start = 0
    while start < num:
        length, end = lengths[start], start + 1
        while end < num and follows[end] and end - start < most:
            joined = join_length(numbers[start], end - start + 1)
            if joined is None:
                break
            length, end = joined, end + 1
        borders.append(end)
        tokens.append(length)
        start = end
    return Units(chosen, np.asarray(borders, dtype=np.int64), np.asarray(tokens, dtype=np.int64))
