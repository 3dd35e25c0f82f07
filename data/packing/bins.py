"""Best-fit decreasing over a histogram of lengths.

What it does: the lengths are taken from the longest to the shortest, each sample goes into the bin where it leaves the least space.
Bins with the same space left are one group, and samples of the same length are one number, so both move together::

    capacity 10, lengths 6 6 6 4 4 3 3        groups: space left -> bins
    6 x 3   three new bins                    4 -> {0, 1, 2}
    4 x 2   two bins of the group with 4      4 -> {2}, 0 -> {0, 1}
    3 x 2   one into bin 2, one new bin       1 -> {2}, 7 -> {3}

Guarantee: as many bins as best-fit decreasing that looks at each sample for itself. Equal lengths are dealt by the seed, also the
order inside a bin.

Price: a bin that takes samples of length L keeps less than L, and less than half of the space it had: it moves at most log2(capacity)
times. So the work is O(distinct lengths + bins x log2(capacity)) on arrays, plus sorting the samples.

Source: best-fit decreasing is the textbook's (D. S. Johnson, Near-optimal bin packing algorithms, MIT 1973).
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence

import numpy as np


def best_fit_packs(lengths: Sequence[int] | np.ndarray, capacity: int, seed: int = 0) -> list[list[int]]:
    """Bins of best-fit decreasing as lists of sample numbers.

    Args:
        lengths: tokens of each sample, 1 to ``capacity``.
        capacity: tokens that a bin can hold.
        seed: deals samples of equal length, and orders each bin.
    """
    array = np.asarray(lengths, dtype=np.int64)
    if not len(array):
        return []
    rng = np.random.default_rng(seed)
    dealt = rng.permutation(len(array))
    dealt = dealt[np.argsort(-array[dealt], kind="stable")]
    values, counts = np.unique(array, return_counts=True)
    bins = np.concatenate(_Bins(capacity, int(values[0])).place_all(values[::-1].tolist(), counts[::-1].tolist()))
    mixed = rng.permutation(len(bins))
    mixed = mixed[np.argsort(bins[mixed], kind="stable")]
    samples = dealt[mixed].tolist()
    borders = np.cumsum(np.bincount(bins)).tolist()
    return [samples[start:end] for start, end in zip([0, *borders], borders, strict=False)]


class _Bins:
    """Open bins in groups of equal space."""

    def __init__(self, capacity: int, shortest: int) -> None:
        self._capacity = capacity
        self._shortest = shortest  # a bin with less space than that is closed
        self._spaces: list[int] = []  # of the groups, ascending
        self._groups: dict[int, list[np.ndarray]] = {}
        self._num_bins = 0

    def place_all(self, lengths: list[int], counts: list[int]) -> list[np.ndarray]:
        """Bin of each sample, samples ordered by length from long to short: ``counts[i]`` samples of ``lengths[i]`` tokens."""
        placed: list[np.ndarray] = []
        for length, count in zip(lengths, counts, strict=True):
            while count and (at := bisect_left(self._spaces, length)) < len(self._spaces):
                space = self._spaces.pop(at)
                bins = np.concatenate(self._groups.pop(space))
                count -= self._fill(space, bins, length, count, placed)
            if count:
                num_new = -(-count // (self._capacity // length))
                bins = np.arange(self._num_bins, self._num_bins + num_new)
                self._num_bins += num_new
                self._fill(self._capacity, bins, length, count, placed)
        return placed

    def _fill(self, space: int, bins: np.ndarray, length: int, count: int, placed: list[np.ndarray]) -> int:
        """Put up to ``count`` samples into bins with ``space`` left, as many into each as fit; returns how many."""
        each = space // length
        num_full, rest = divmod(min(count, each * len(bins)), each)
        placed.append(np.repeat(bins[:num_full], each))
        self._open(space - each * length, bins[:num_full])
        if rest:
            placed.append(np.repeat(bins[num_full : num_full + 1], rest))
            self._open(space - rest * length, bins[num_full : num_full + 1])
        self._open(space, bins[num_full + bool(rest) :])
        return num_full * each + rest

    def _open(self, space: int, bins: np.ndarray) -> None:
        if space < self._shortest or not len(bins):
            return
        if space not in self._groups:
            self._groups[space] = []
            insort(self._spaces, space)
        self._groups[space].append(bins)
