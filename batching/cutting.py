"""How many units each batch of an epoch has: whole windows, no more than the units need.

Guarantee: batches are full but for the last windows, which share what is left evenly; no batch is larger than the batch size; the number
of batches is the smallest whole number of windows that holds all units. Price: a window for which there are too few units has fillers
(size 0). The module :mod:`training_pro.hybrid_batching` draws it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .entries import Integers


def fit_accumulation(num_entries: int, batch_size: int, accumulation: int, world_size: int = 1) -> int:
    """Gradient accumulation that the data can fill: lowered if one step would need more entries than there are."""
    return max(1, min(accumulation, num_entries // (batch_size * world_size)))


def count_batches(num_units: int, batch_size: int, window: int) -> int:
    """Batches of :func:`cut_sizes`."""
    return -(-num_units // (batch_size * window)) * window


def cut_sizes(num_units: int, batch_size: int, window: int) -> Integers:
    """Units of each batch, shape (batches,); 0 is a filler.

    Args:
        num_units: all that are trained.
        batch_size: most units of a batch.
        window: batches of one optimizer step, over all ranks.
    """
    per_window = batch_size * window
    num_full, rest = divmod(num_units, per_window)
    num_shared = window if rest else 0
    if 0 < rest < window and num_full and per_window + rest >= 2 * window:
        num_full, num_shared = num_full - 1, 2 * window
    full = np.full(num_full * window, batch_size, dtype=np.int64)
    return np.concatenate((full, even_sizes(num_units - num_full * per_window, num_shared)))


def even_sizes(num_units: int, num_parts: int) -> Integers:
    """Sizes that differ by at most one, larger ones first, shape (parts,)."""
    if not num_parts:
        return np.zeros(0, dtype=np.int64)
    size, larger = divmod(num_units, num_parts)
    return size + (np.arange(num_parts) < larger).astype(np.int64)


def fill_sizes(num_units: int, num_batches: int, batch_size: int, window: int) -> Integers:
    """Units of each of a given number of batches: full ones first, then at least a window that shares the rest evenly.

    As many of the last batches share as it takes to leave none empty.
    """
    missing = num_batches * batch_size - num_units
    needed = -(-missing // (batch_size - 1)) if batch_size > 1 else num_batches
    num_shared = min(num_batches, max(window, needed))
    num_full = num_batches - num_shared
    full = np.full(num_full, batch_size, dtype=np.int64)
    return np.concatenate((full, even_sizes(num_units - num_full * batch_size, num_shared)))


def cut_batches(order: Sequence[int], batch_size: int, window: int, filler: int) -> list[list[int]]:
    """Cut an order into batches, a whole number of windows of them.

    Args:
        order: entries in the order in which they are trained.
        batch_size: most entries of a batch.
        window: batches of one optimizer step, over all ranks.
        filler: entry that completes a window where entries run out; it appears as ``-1 - filler``.

    Returns:
        Batches; each entry stands in exactly one, no batch is empty or larger than ``batch_size``.
    """
    entries = [int(entry) for entry in order]
    borders = [0, *np.cumsum(cut_sizes(len(entries), batch_size, window)).tolist()]
    batches = [entries[start:end] for start, end in zip(borders, borders[1:], strict=False)]
    return [batch or [-1 - filler] for batch in batches]
