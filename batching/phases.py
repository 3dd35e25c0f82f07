"""The phases: how entries become units, how these are packed, and in which order they are trained.

What it does: one table. A phase forms units (:mod:`.units`), packs them where the run packs (:mod:`.rows`) and arranges the rows for
batches of given sizes. Guarantee: all are pure functions of what they are given; ``length`` pads at most one percentage point more than
sorting everything would. Price: ``length`` sorts a few times, 0.1 s a million units each.

To add one: write what forms, what packs and what arranges, add a line to :data:`PHASES`, add a row to ``tests/batching/test_phases.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from .entries import Entries, Flags, Integers
from .joining import join_neighbours
from .padding import within_bound
from .rows import Packing, Rows, pack_alike, pack_freely, pack_in_order
from .tied import tied_by_length
from .units import Generator, Units, singles, spans


class BatchShape(NamedTuple):
    """The batches that units (or packs of them) are arranged for.

    Attributes:
        sizes: units of each batch, shape (batches,); 0 is a filler.
        row: batches that ranks train at the same time; they should take equally long.
        longest_first: let the longest units be the first batches.
        tied: units that belong behind the one before, shape (units,); None = none does.
    """

    sizes: Integers
    row: int = 1
    longest_first: bool = False
    tied: Flags | None = None


# (entries, chosen ones, overlaps are left out, join in original order) -> units
Form = Callable[[Entries, Integers, bool, bool], Units]
# (units, how rows are filled, seed) -> rows
Pack = Callable[[Units, Packing, int], Rows]
# (tokens of units, batches, generator) -> order of the units
Arrange = Callable[[Integers, BatchShape, Generator], Integers]


class Phase(NamedTuple):
    """How a phase orders entries.

    Attributes:
        form: entries to units; those of one that joins or is ordered come in original order.
        pack: units to rows.
        arrange: order of the rows, which come in random order unless the phase is ordered.
        joins: a unit may have several entries.
        is_ordered: it keeps the original order.
    """

    form: Form
    pack: Pack
    arrange: Arrange
    joins: bool
    is_ordered: bool


def single_units(entries: Entries, chosen: Integers, left_out: bool, join_in_order: bool) -> Units:
    """Every entry alone."""
    return singles(entries, chosen)


def paired_units(entries: Entries, chosen: Integers, left_out: bool, join_in_order: bool) -> Units:
    """Two neighbours each, left-over ones single."""
    return join_neighbours(entries, chosen, 2)


def units_in_order(entries: Entries, chosen: Integers, left_out: bool, join_in_order: bool) -> Units:
    """As many neighbours each as can be joined, in original order; or single entries in original order."""
    return join_neighbours(entries, chosen, len(entries), left_out=left_out) if join_in_order else singles(entries, chosen)


def as_formed(tokens: Integers, shape: BatchShape, rng: Generator) -> Integers:
    """The order in which the units came."""
    return np.arange(len(tokens))


def by_length(tokens: Integers, shape: BatchShape, rng: Generator) -> Integers:
    """Units of like length into one batch, batches in random order.

    Units (which come in random order) are sorted within grouping windows, so that batches differ from epoch to epoch; windows grow until
    the batches pad hardly more than with everything sorted (see :mod:`.padding`). The batches of a row are of like length too.
    With ``longest_first`` the longest units of all are the first row: if it fits into memory, every other batch does.
    Units that are tied: see :func:`training_pro.batching.tied.tied_by_length`.
    """
    if not len(tokens):
        return np.arange(0)
    if shape.tied is not None and shape.tied.any():
        return tied_by_length(tokens, shape.tied, shape.sizes.reshape(-1, shape.row), shape.longest_first, rng)
    sizes = shape.sizes.reshape(-1, shape.row)
    sequence = rng.permutation(len(sizes))
    base, first = np.arange(len(tokens)), 0
    if shape.longest_first:
        sequence = np.concatenate(([0], sequence[sequence != 0]))
        first = int(sizes[0].sum())
        longest = np.argsort(-tokens, kind="stable")[:first]
        base = np.concatenate((longest, np.delete(base, longest)))
    by_rows = sizes[sequence]
    order = _grouped(tokens, base, first, by_rows)
    # from the sequence of rows to their places
    starts = np.cumsum(by_rows.sum(axis=1)) - by_rows.sum(axis=1)
    placed = np.empty(len(sizes), dtype=np.int64)
    placed[sequence] = starts
    return order[spans(placed, sizes.sum(axis=1))]


def _grouped(tokens: Integers, base: Integers, first: int, by_rows: Integers) -> Integers:
    """Units sorted within windows of rows, as large as the bound asks for; the ``first`` ones stay in front."""
    num_rows, row_sizes = len(by_rows), by_rows.sum(axis=1)
    row_of = np.repeat(np.arange(num_rows), row_sizes)

    def sort(rows_per_window: int) -> Integers:
        window = row_of // rows_per_window + 1
        window[:first] = 0
        return base[np.lexsort((tokens[base], window))]

    return within_bound(sort, num_rows, tokens, by_rows.ravel())


# name of a phase -> how it orders entries
PHASES: dict[str, Phase] = {
    "shuffled": Phase(single_units, pack_freely, as_formed, joins=False, is_ordered=False),
    "length": Phase(single_units, pack_alike, by_length, joins=False, is_ordered=False),
    "paired": Phase(paired_units, pack_freely, by_length, joins=True, is_ordered=False),
    "sequential": Phase(units_in_order, pack_in_order, as_formed, joins=True, is_ordered=True),
}
