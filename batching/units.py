"""Units: a unit is one sample of a batch. An entry, neighbours that are joined into one, or an entry with those before it as context.

Guarantee: each chosen entry is trained in exactly one unit. Price: see :mod:`.joining`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from .entries import Entries, Flags, Integers

Generator = np.random.Generator


@dataclass(frozen=True)
class Units:
    """Samples, by the entries that they train.

    Attributes:
        entries: those of all units behind each other, shape (entries,).
        borders: unit u trains ``entries[borders[u] : borders[u + 1]]``, shape (units + 1,).
        tokens: of each unit as a sample, shape (units,).
        contexts: entries before each unit that it has as unlabelled context, shape (units,); None = no unit has any. A unit with context
            belongs behind the unit before it.
    """

    entries: Integers
    borders: Integers
    tokens: Integers
    contexts: Integers | None = None

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def are_single(self) -> bool:
        """Whether no unit has more than one entry."""
        return len(self.entries) == len(self.tokens)

    @property
    def are_plain(self) -> bool:
        """Whether every unit is an entry and nothing more."""
        return self.are_single and self.contexts is None

    @property
    def tied(self) -> Flags | None:
        """Units that belong behind the one before, shape (units,); None = none does."""
        return None if self.contexts is None else self.contexts > 0

    def num_joined(self, num_units: int) -> int:
        """Entries of the first units that are not alone: joined with others, or with others as context."""
        sizes = np.diff(self.borders[: num_units + 1])
        joined = int(sizes[sizes > 1].sum())
        return joined if self.contexts is None else joined + int((self.contexts[:num_units] > 0).sum())

    def take(self, order: Integers) -> Units:
        """Some units, in another order."""
        contexts = None if self.contexts is None else self.contexts[order]
        if self.are_single:
            return Units(self.entries[order], np.arange(len(order) + 1), self.tokens[order], contexts)
        sizes = np.diff(self.borders)[order]
        borders = np.concatenate(([0], np.cumsum(sizes)))
        return Units(self.entries[spans(self.borders[:-1][order], sizes)], borders, self.tokens[order], contexts)

    def joined_with(self, other: Units) -> Units:
        """These and then the other's."""
        both = [np.zeros(len(one), dtype=np.int64) if one.contexts is None else one.contexts for one in (self, other)]
        return Units(
            np.concatenate((self.entries, other.entries)),
            np.concatenate((self.borders, other.borders[1:] + self.borders[-1])),
            np.concatenate((self.tokens, other.tokens)),
            np.concatenate(both) if self.contexts is not None or other.contexts is not None else None,
        )

    def items(self, start: int, end: int, known: Entries) -> Iterator[Any]:
        """What the data set takes for each of some units: a number, a tuple of numbers, or ("context", numbers, number)."""
        if self.are_plain:
            yield from self.entries[start:end].tolist()
            return
        borders = self.borders[start : end + 1].tolist()
        contexts = [0] * (end - start) if self.contexts is None else self.contexts[start:end].tolist()
        for begin, stop, count in zip(borders, borders[1:], contexts, strict=False):
            part = self.entries[begin:stop].tolist()
            if count:
                yield ("context", known.before(part[0], count), part[0])
            else:
                yield part[0] if len(part) == 1 else tuple(part)


def spans(starts: Integers, sizes: Integers) -> Integers:
    """``starts[0], starts[0] + 1, ...`` (``sizes[0]`` of them), then those from ``starts[1]`` on, and so on."""
    ends = np.cumsum(sizes)
    shifts = starts - np.concatenate(([0], ends[:-1]))
    return np.arange(ends[-1] if len(ends) else 0) + np.repeat(shifts, sizes)


def singles(entries: Entries, chosen: Integers) -> Units:
    """Every entry a unit."""
    return Units(chosen, np.arange(len(chosen) + 1), entries.lengths[chosen])


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
