"""Padding of batches, and how far units must be sorted so that there is little of it.

Guarantee: at most one percentage point more padding than with everything sorted. Price: a few sorts, 0.1 s a million units each.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .entries import Integers

MOST_EXTRA_PADDING = 0.01
FIRST_ROWS_PER_WINDOW = 64


def within_bound(sort: Callable[[int], Integers], num_rows: int, tokens: Integers, sizes: Integers) -> Integers:
    """The order by the smallest grouping windows that pad hardly more than everything sorted.

    Args:
        sort: rows of batches in a window -> order of the units.
        num_rows: all rows.
        tokens: of each unit, shape (units,).
        sizes: units of each batch, in the sequence in which the order fills them, shape (batches,).
    """
    rows = FIRST_ROWS_PER_WINDOW
    order = sort(min(rows, num_rows))
    share, best = padding_share(tokens[order], sizes), None
    while share > MOST_EXTRA_PADDING and rows < num_rows:  # as little would do whatever the best is
        best = sort(num_rows) if best is None else best
        if share <= padding_share(tokens[best], sizes) + MOST_EXTRA_PADDING:
            break
        rows *= 2
        order = sort(rows) if rows < num_rows else best
        share = padding_share(tokens[order], sizes)
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
