"""The walk of threshold-filtering packing: from sample to related sample, but never to one that says nearly the same.

What it does: from the last pick it goes to the nearest unvisited sample whose cosine distance to each of the last ``window`` picks is
over ``threshold``; if there is none, to the nearest unvisited one (a fallback, counted)::

    distance to the last picks (threshold 0.3, window 2)       a      b
    c                                                        0.2    0.1     too near to both
    d                                                        0.6    0.4     the nearest that is far enough: picked
    e                                                        0.9    0.8     later

Guarantee: the walk is exactly the one that comparing with every sample at each step would give. The same vectors and seed give the
same walk, whatever the library, its number of threads and the size of the blocks: the vectors are rounded to whole numbers so small
that float32 products and sums of them are exact in any order. That moves a cosine by less than 0.001. Ties go to the lower number.
Distances are those of the vectors without what all have in common (see :func:`whole_numbers`).

Price: each sample has a list of its nearest neighbours that are far enough, and a short one of its nearest. The lists come from
products of blocks of the matrix of vectors, n^2 x dimensions multiplications (see benchmarks/RESULTS.md for seconds). Where a list
runs out, the step compares with all that are left; when that has cost as much as new lists would, they are made anew for what is
left. Memory: twice the vectors, the lists (about 300 bytes a sample) and blocks of about 200 MB.

Source: Dong, Jiang, Jin, Cheng: Threshold Filtering Packing for Supervised Fine-Tuning, arXiv 2408.09327.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

NUM_FAR, NUM_NEAR = 64, 8  # entries of a sample's lists
BLOCK = 1 << 23  # products that are held at once
_SCALE = 4000.0  # (scale + sqrt(dimensions) / 2) squared must stay below 2^24, float32's last exact whole number
_MAX_DIMENSIONS = 32_768
_COLUMN_BITS = 32
_SCAN_COST = 4  # a product of a matrix and a few vectors takes that much longer than one of two large matrices
_COMMON = 0.05  # against vectors of length 1
_NOTHING = -(2**25)  # less than any product


def related_walk(
    vectors: np.ndarray,
    *,
    seed: int = 0,
    threshold: float = 0.3,
    window: int = 4,
    progress: Callable[[float, str], None] | None = None,
    block: int = BLOCK,
) -> tuple[list[int], int]:
    """Order of all samples, and how many of them were fallbacks.

    Args:
        vectors: (samples, dimensions), of any length.
        seed: draws the first sample.
        threshold: least cosine distance, 0 to 2; 0 passes over nothing.
        window: number of last picks, at least 1.
        progress: called as (share done, what) while the samples are compared (first half) and while the walk goes on.
        block: products that are held at once; changes memory, not the result.

    Raises:
        ValueError: vectors that are no matrix of finite numbers, or a window below 1.
    """
    if window < 1:
        raise ValueError(
            f"Window of related samples: at least the last pick must be looked at. Got: {window}. Set it to 1 or more."
        )
    points = whole_numbers(vectors)
    if not len(points):
        return [], 0
    tell = progress or (lambda share, what: None)
    walk = _Walk(points, (1.0 - threshold) * _SCALE**2 if threshold > 0 else np.inf, block, tell)
    order = [int(np.random.default_rng(seed).integers(len(points)))]
    walk.visit(order[0])
    while walk.num_left:
        order.append(walk.next_sample(order[-window:]))
        walk.visit(order[-1])
        if len(order) % 1000 == 0:
            tell(0.5 + 0.5 * len(order) / len(points), f"related samples: {len(order):,} of {len(points):,}")
    return order, walk.num_fallbacks


def whole_numbers(vectors: np.ndarray) -> np.ndarray:
    """Rows of length 4000 with whole numbers as float32, so that products of them are exact: (samples, dimensions + 1).

    What all vectors have in common is taken off first: else the vectors of a language model all point the same way, and near and far
    differ by little. A small last number, the same for all, keeps vectors equal that are nothing but the common part.

    Raises:
        ValueError: not a matrix, too wide, or with numbers that are not finite.
    """
    if vectors.ndim != 2 or vectors.shape[1] > _MAX_DIMENSIONS:
        raise ValueError(
            f"Packing: 'related' needs a matrix of vectors with at most {_MAX_DIMENSIONS} dimensions. "
            f"Got: shape {vectors.shape}. Choose another embedding."
        )
    points = np.full((len(vectors), vectors.shape[1] + 1), _COMMON, dtype=np.float32)
    content = points[:, :-1]
    content[:] = vectors
    norms = _norms(content)
    if not np.isfinite(norms).all():
        raise ValueError(
            f"Packing: the vector of sample {int(np.flatnonzero(~np.isfinite(norms))[0])} has numbers that are not finite. "
            f"Check the model's weights, or choose another embedding."
        )
    content /= np.where(norms > 0, norms, 1)
    if len(points):
        content -= content.mean(axis=0, dtype=np.float64).astype(np.float32)
    points *= _SCALE / _norms(points)
    return np.rint(points, out=points)


def _norms(rows: np.ndarray) -> np.ndarray:
    """Lengths of rows, (rows, 1), summed in float64."""
    return np.sqrt(np.einsum("ij,ij->i", rows, rows, dtype=np.float64))[:, None].astype(np.float32)


class _Walk:
    """What is left to visit, and the neighbours' lists.

    Similarities are products of whole-number rows: over ``limit`` means too near.
    """

    def __init__(self, points: np.ndarray, limit: float, block: int, tell: Callable[[float, str], None]) -> None:
        self.num_left = len(points)
        self.num_fallbacks = 0
        self._points = points
        self._limit = limit
        self._block = block
        self._tell = tell
        self._unvisited = np.ones(len(points), dtype=bool)
        self._rows = np.arange(len(points))  # samples of which the lists know
        self._num_scanned = 0  # products made since then because a list ran out
        self._make_lists()

    def visit(self, sample: int) -> None:
        """Take a sample out of what is left."""
        self._unvisited[sample] = False
        self.num_left -= 1

    def next_sample(self, last: list[int]) -> int:
        """The sample that follows the last picks, which end with the current one."""
        if _SCAN_COST * self._num_scanned >= self.num_left**2:
            self._renew(last[-1])
        row = self._row_of[last[-1]]
        found = self._far_enough(self._far[row], last[:-1])
        if found < 0 and not self._far_whole[row]:
            found = self._scan(last, self._limit)
        if found >= 0:
            return found
        self.num_fallbacks += 1
        near = self._near[row]
        near = near[near >= 0]
        near = near[self._unvisited[near]]
        return int(near[0]) if len(near) else self._scan(last[-1:], np.inf)

    def _far_enough(self, candidates: np.ndarray, others: list[int]) -> int:
        """The first unvisited candidate that is far enough from the other last picks; -1 if none."""
        candidates = candidates[candidates >= 0]
        candidates = candidates[self._unvisited[candidates]]
        if others and len(candidates):
            products = self._points[candidates] @ self._points[others].T
            candidates = candidates[(products < self._limit).all(axis=1)]
        return int(candidates[0]) if len(candidates) else -1

    def _scan(self, last: list[int], limit: float) -> int:
        """The nearest to the last pick of all that are left, with products below ``limit`` to all last picks; -1 if none."""
        self._num_scanned += len(self._rows) * len(last)
        best, found = -np.inf, -1
        picks = self._points[last].T
        step = max(1, self._block // len(last))
        for start in range(0, len(self._rows), step):
            rows = self._rows[start : start + step]
            products = self._matrix[start : start + step] @ picks
            fitting = (products < limit).all(axis=1) & self._unvisited[rows]
            similar = np.where(fitting, products[:, -1], -np.inf)
            place = int(similar.argmax())
            if similar[place] > best:
                best, found = similar[place], int(rows[place])
        return found

    def _renew(self, current: int) -> None:
        """Lists of what is left, and of the current sample."""
        keep = self._unvisited.copy()
        keep[current] = True
        self._rows = np.flatnonzero(keep)
        self._num_scanned = 0
        self._make_lists()

    def _make_lists(self) -> None:
        points, rows, num = self._points, self._rows, len(self._rows)
        self._matrix = points if num == len(points) else points[rows]
        self._row_of = np.full(len(points), -1, dtype=np.int64)
        self._row_of[rows] = np.arange(num)
        self._far = np.full((num, min(NUM_FAR, num)), -1, dtype=np.int32)
        self._near = np.full((num, min(NUM_NEAR, num)), -1, dtype=np.int32)
        self._far_whole = np.zeros(num, dtype=bool)
        step = max(1, self._block // num)
        for start in range(0, num, step):
            if num == len(points):  # the first time, which takes longest
                self._tell(0.5 * start / num, f"related samples: {start:,} of {num:,} compared")
            part = slice(start, start + step)
            products = self._matrix[part] @ self._matrix.T
            self._near[part] = _largest(products, self._near.shape[1], rows)
            products[products >= self._limit] = _NOTHING
            self._far_whole[part] = (products > _NOTHING).sum(axis=1) <= self._far.shape[1]
            self._far[part] = _largest(products, self._far.shape[1], rows)


def _largest(products: np.ndarray, num: int, samples: np.ndarray) -> np.ndarray:
    """Samples of the ``num`` largest products of each row, largest first, of equal ones the lower sample first; -1 where there is nothing.

    A key holds product and column in one whole number, so that no two are equal.
    """
    columns = products.shape[1]
    keys = products.astype(np.int64)
    keys <<= _COLUMN_BITS
    keys |= np.arange(columns - 1, -1, -1)
    if num < columns:
        keys.partition(columns - num, axis=1)
        keys = keys[:, columns - num :]
    keys = np.sort(keys, axis=1)[:, ::-1]
    found = samples[columns - 1 - (keys & ((1 << _COLUMN_BITS) - 1))]
    return np.where(keys >> _COLUMN_BITS > _NOTHING, found, -1)
