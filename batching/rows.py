"""Rows: what stands side by side in a batch. Without packing a row is a unit, with packing several of them behind each other.

How units are packed: in a phase by length those of like length (within a factor of two) together; in a phase in original order as they
come; else as the packer likes, but an entry and the context that was trained before it stay together::

    capacity 8, by length    8 | 5 | 4 4 | 3 3 | 2 2 2 2
    in original order        2 5 | 4 3 | 8 | 2 2 ...

Guarantee: each unit stands in exactly one row, whole; with packing no row has more tokens than the capacity. Price: the packer's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from .entries import Entries, Flags, Integers
from .units import Generator, Units, spans

# (tokens of units, capacity, seed=...) -> numbers of the units of each row
Packer = Callable[..., Sequence[Sequence[int]]]


@dataclass(frozen=True)
class Packing:
    """How rows are filled.

    Attributes:
        capacity: tokens that a row can hold.
        packer: for phases whose order is free.
        ordered: for phases in original order; it must keep the order.
    """

    capacity: int
    packer: Packer
    ordered: Packer


@dataclass(frozen=True)
class Rows:
    """Units in rows.

    Attributes:
        units: those of all rows behind each other.
        borders: row r holds the units ``borders[r]`` to ``borders[r + 1]``, shape (rows + 1,); None = each unit is a row.
    """

    units: Units
    borders: Integers | None = None

    def __len__(self) -> int:
        return len(self.units) if self.borders is None else len(self.borders) - 1

    @cached_property
    def tokens(self) -> Integers:
        """Of each row, shape (rows,)."""
        if self.borders is None:
            return self.units.tokens
        return np.diff(np.concatenate(([0], np.cumsum(self.units.tokens)))[self.borders])

    @property
    def tied(self) -> Flags | None:
        """Rows that belong behind the one before, since their first unit does; None = none does."""
        tied = self.units.tied
        return tied if tied is None or self.borders is None else tied[self.borders[:-1]]

    def num_units(self, num_rows: int) -> int:
        """Units of the first rows."""
        return num_rows if self.borders is None else int(self.borders[num_rows])

    def trained(self) -> list[list[int]]:
        """Entries of each row."""
        borders = self.units.borders if self.borders is None else self.units.borders[self.borders]
        entries, places = self.units.entries.tolist(), borders.tolist()
        return [entries[start:end] for start, end in zip(places, places[1:], strict=False)]

    def take(self, order: Integers) -> Rows:
        """Some rows, in another order."""
        if self.borders is None:
            return Rows(self.units.take(order))
        sizes = np.diff(self.borders)[order]
        return Rows(self.units.take(spans(self.borders[:-1][order], sizes)), np.concatenate(([0], np.cumsum(sizes))))

    def shuffled(self, rng: Generator) -> Rows:
        """In random order; what is tied stays together."""
        tied = self.tied
        if tied is None:
            return self.take(rng.permutation(len(self)))
        starts = np.flatnonzero(~tied)
        drawn = rng.permutation(len(starts))
        return self.take(spans(starts[drawn], np.diff(starts, append=len(self))[drawn]))

    def joined_with(self, other: Rows) -> Rows:
        """These and then the other's."""
        units = self.units.joined_with(other.units)
        if self.borders is None and other.borders is None:
            return Rows(units)
        ours, theirs = (np.arange(len(one.units) + 1) if one.borders is None else one.borders for one in (self, other))
        return Rows(units, np.concatenate((ours, theirs[1:] + ours[-1])))

    def items(self, first: int, last: int, known: Entries) -> list[Any]:
        """What the data set takes for each of some rows: the item of its unit, or ("pack", items)."""
        if self.borders is None:
            return list(self.units.items(first, last, known))
        borders = self.borders[first : last + 1].tolist()
        items = list(self.units.items(borders[0], borders[-1], known))
        parts = [items[start - borders[0] : end - borders[0]] for start, end in zip(borders, borders[1:], strict=False)]
        return [part[0] if len(part) == 1 else ("pack", tuple(part)) for part in parts]


def pack_in_order(units: Units, packing: Packing, seed: int) -> Rows:
    """As they come."""
    return _rows(units, _packed(units.tokens, packing.ordered, packing.capacity, seed))


def pack_alike(units: Units, packing: Packing, seed: int) -> Rows:
    """Units of like length together: more than half of the capacity, more than a quarter, and so on; longer ones first."""
    halves = packing.capacity / 2.0 ** np.arange(1, max(2, int(packing.capacity).bit_length() + 1))
    number = np.searchsorted(-halves, -units.tokens, side="right")  # how often it could be doubled
    found = []
    for members in (np.flatnonzero(number == one) for one in np.unique(number)):
        members = members[np.argsort(-units.tokens[members], kind="stable")]
        packed = _packed(units.tokens[members], packing.packer, packing.capacity, seed)
        found.append((members[packed[0]], packed[1]))
    return _rows(units, (np.concatenate([order for order, _ in found]), np.concatenate([sizes for _, sizes in found])))


def pack_freely(units: Units, packing: Packing, seed: int) -> Rows:
    """As the packer likes. What is tied goes as one; where it is longer than a row, its units are rows of their own, behind each other."""
    tied = units.tied
    if tied is None:
        return _rows(units, _packed(units.tokens, packing.packer, packing.capacity, seed))
    starts = np.flatnonzero(~tied)
    sizes, tokens = np.diff(starts, append=len(units)), np.add.reduceat(units.tokens, starts)
    fits = np.flatnonzero(tokens <= packing.capacity)
    order, row_sizes = _packed(tokens[fits], packing.packer, packing.capacity, seed)
    bundles = fits[order]
    of_row = np.repeat(np.arange(len(row_sizes)), row_sizes)
    in_rows = np.bincount(of_row, weights=sizes[bundles], minlength=len(row_sizes)).astype(np.int64)
    too_long = np.flatnonzero(tokens > packing.capacity)
    alone = spans(starts[too_long], sizes[too_long])
    behind = np.concatenate((spans(starts[bundles], sizes[bundles]), alone))
    return _rows(units, (behind, np.concatenate((in_rows, np.ones(len(alone), dtype=np.int64)))))


def _packed(tokens: Integers, packer: Packer, capacity: int, seed: int) -> tuple[Integers, Integers]:
    """Numbers of the units row by row, and how many each row has."""
    packs = packer(tokens.tolist(), capacity, seed=seed)
    sizes = np.fromiter(map(len, packs), dtype=np.int64, count=len(packs))
    order = np.fromiter((unit for pack in packs for unit in pack), dtype=np.int64, count=int(sizes.sum()))
    assert len(order) == len(tokens), "a packer has left something out"
    return order, sizes


def _rows(units: Units, packed: tuple[Integers, Integers]) -> Rows:
    order, sizes = packed
    return Rows(units.take(order), np.concatenate((np.zeros(1, dtype=np.int64), np.cumsum(sizes))))
