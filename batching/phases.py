"""The phases: how entries become units, and in which order the units are trained.

What it does: one table. A phase forms units (:mod:`.units`) and arranges them for batches of given sizes. Guarantee: both are pure
functions of what they are given; ``length`` pads at most one percentage point more than sorting everything would. Price: ``length``
sorts a few times, 0.1 s a million units each.

To add one: write what forms and what arranges, add a line to :data:`PHASES`, add a row to ``tests/batching/test_phases.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from .entries import Integers
from .units import Form, Generator, ordered_runs, shuffled_pairs, shuffled_singles, spans

MOST_EXTRA_PADDING = 0.01
FIRST_ROWS_PER_WINDOW = 64


class BatchShape(NamedTuple):
    """The batches that units are arranged for.

    Attributes:
        sizes: units of each batch, shape (batches,); 0 is a filler.
        row: batches that ranks train at the same time; they should take equally long.
        longest_first: let the longest units be the first batches.
    """

    sizes: Integers
    row: int = 1
    longest_first: bool = False


# (tokens of units, batches, generator) -> order of the units
Arrange = Callable[[Integers, BatchShape, Generator], Integers]


class Phase(NamedTuple):
    """How a phase orders entries."""

    form: Form
    arrange: Arrange
    joins: bool
    is_ordered: bool


def as_formed(tokens: Integers, shape: BatchShape, rng: Generator) -> Integers:
    """The order in which the units came."""
    return np.arange(len(tokens))


def by_length(tokens: Integers, shape: BatchShape, rng: Generator) -> Integers:
    """Units of like length into one batch, batches in random order.

    Units (which come in random order) are sorted within grouping windows, so that batches differ from epoch to epoch; windows grow until
    the batches pad at most :data:`MOST_EXTRA_PADDING` more than with everything sorted. The batches of a row are of like length too.
    With ``longest_first`` the longest units of all are the first row: if it fits into memory, every other batch does.
    """
    if not len(tokens):
        return np.arange(0)
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

    batches, rows = by_rows.ravel(), FIRST_ROWS_PER_WINDOW
    order = sort(min(rows, num_rows))
    share, best = padding_share(tokens[order], batches), None
    while share > MOST_EXTRA_PADDING and rows < num_rows:  # as little would do whatever the best is
        best = sort(num_rows) if best is None else best
        if share <= padding_share(tokens[best], batches) + MOST_EXTRA_PADDING:
            break
        rows *= 2
        order = sort(rows) if rows < num_rows else best
        share = padding_share(tokens[order], batches)
    return order


def padding_share(tokens: Integers, sizes: Integers) -> float:
    """Padding over all tokens of padded batches.

    Args:
        tokens: of the units in order, shape (units,).
        sizes: units of each batch, shape (batches,).
    """
    padded = int(padded_tokens(tokens, sizes).sum())
    return 1 - int(tokens.sum()) / padded if padded else 0.0


def padded_tokens(tokens: Integers, sizes: Integers) -> Integers:
    """Tokens of each batch if it is padded to its longest unit, shape (batches,); fillers count 0."""
    found = np.zeros(len(sizes), dtype=np.int64)
    filled = sizes > 0
    if filled.any():
        starts = (np.cumsum(sizes) - sizes)[filled]
        found[filled] = np.maximum.reduceat(tokens, starts) * sizes[filled]
    return found


# name of a phase -> how it orders entries
PHASES: dict[str, Phase] = {
    "shuffled": Phase(shuffled_singles, as_formed, joins=False, is_ordered=False),
    "length": Phase(shuffled_singles, by_length, joins=False, is_ordered=False),
    "paired": Phase(shuffled_pairs, by_length, joins=True, is_ordered=False),
    "sequential": Phase(ordered_runs, as_formed, joins=True, is_ordered=True),
}
