"""By length, where some units belong behind others: an entry, and the next one that has it as context.

Such units are a bundle. Bundles are sorted by their longest unit; those of two units fill the batches first, single ones the rest, so that
few bundles lie across the border of two rows of batches. Rows that share a bundle stay side by side when rows come in random order::

    bundles ab cd ef, single ones g h i, batches of 3        abc | def | ghi        the rows abc and def share cd
    in random order                                          ghi | abc | def

Guarantee: no bundle is torn apart; padding as :mod:`.padding` says, of batches so arranged. Price: two or three sorts; the first row has
the longest units of one kind (bundles or single ones), not always of both.
"""

from __future__ import annotations

import numpy as np

from .entries import Flags, Integers
from .padding import within_bound
from .units import Generator, spans


def tied_by_length(tokens: Integers, tied: Flags, by_rows: Integers, longest_first: bool, rng: Generator) -> Integers:
    """Order of the units.

    Args:
        tokens: of each unit, shape (units,); bundles in random order.
        tied: units that belong behind the one before, shape (units,).
        by_rows: units of each batch, shape (rows, batches of a row).
        longest_first: let the longest units be the first row.
        rng: draws the order of the rows.
    """
    starts = np.flatnonzero(~tied)
    sizes = np.diff(starts, append=len(tokens))
    longest = np.maximum.reduceat(tokens, starts)
    order = _sorted(tokens, starts, sizes, longest, by_rows, longest_first)
    row_ends = np.cumsum(by_rows.sum(axis=1))
    begins_bundle = np.append(~tied[order], True)  # behind the last unit there are only empty rows
    is_free = np.append(True, begins_bundle[row_ends[:-1]])
    rows = _shuffled_rows(by_rows, is_free, longest_first, rng)
    row_sizes = by_rows.sum(axis=1)
    return order[spans((row_ends - row_sizes)[rows], row_sizes[rows])]


def _sorted(
    tokens: Integers, starts: Integers, sizes: Integers, longest: Integers, by_rows: Integers, longest_first: bool
) -> Integers:
    """Units with the bundles sorted by length, within windows of rows as large as the bound of padding asks for."""
    num_rows, first_row = len(by_rows), int(by_rows[0].sum())
    per_row = len(tokens) / num_rows
    base = np.argsort(-sizes, kind="stable")
    in_front = np.zeros(len(starts), dtype=bool)
    if longest_first:
        in_front[_longest_row(sizes, longest, first_row)] = True

    def sort(rows_per_window: int) -> Integers:
        ends = np.cumsum(sizes[base])
        window = ((ends - sizes[base]) // (per_row * rows_per_window)).astype(np.int64)
        bundles = base[np.lexsort((longest[base], window, -sizes[base], ~in_front[base]))]
        return spans(starts[bundles], sizes[bundles])

    return within_bound(sort, num_rows, tokens, by_rows.ravel())


def _longest_row(sizes: Integers, longest: Integers, first_row: int) -> Integers:
    """Bundles of one size that fill a row and are longer than those of another."""
    best, found = -1, np.arange(0)
    for size in np.unique(sizes).tolist():
        members = np.flatnonzero(sizes == size)
        members = members[np.argsort(-longest[members], kind="stable")][: max(1, first_row // size)]
        padded = int(longest[members[0]]) * min(first_row, len(members) * size)
        if padded > best:
            best, found = padded, members
    return found


def _shuffled_rows(by_rows: Integers, is_free: Flags, longest_first: bool, rng: Generator) -> Integers:
    """Rows in random order: those that share a bundle side by side, each at a place of its own size."""
    chunk_starts = np.flatnonzero(is_free)
    chunk_sizes = np.diff(chunk_starts, append=len(by_rows))
    kind = np.cumsum(np.append(True, np.any(np.diff(by_rows, axis=0) != 0, axis=1))) - 1
    first_kind, last_kind = kind[chunk_starts], kind[chunk_starts + chunk_sizes - 1]
    order = np.arange(len(chunk_starts))
    for one in np.unique(kind).tolist():
        movable = np.flatnonzero((first_kind == one) & (last_kind == one))
        if longest_first:
            movable = movable[movable > 0]
        order[movable] = rng.permutation(movable)
    return spans(chunk_starts[order], chunk_sizes[order])
