"""Entries to the batches of a stretch: by one phase, or by two of which the second grows in ("gradual").

How a mixture is made: groups drawn by seed become rows of the new phase, as many as its share of the batches over the stretch asks for;
the others stay with the old phase; then both sequences of batches are dealt out so that the new one's share grows evenly::

    share   0 ........................ 1
    batches o o o o n o o n o n n o n n n n        o = old phase, n = new phase

Guarantee: see :mod:`.batches`. Price of a mixture: the new phase is formed twice.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .batches import Batches, Frame, Stretch
from .cutting import fill_sizes
from .entries import Flags, Integers
from .forming import Former
from .phases import PHASES, BatchShape
from .rows import Rows
from .units import Generator, choose_ranks, spans

SHARE_POINTS = 1000


def make_batches(
    former: Former,
    remaining: Integers,
    count: int,
    stretch: Stretch,
    frame: Frame,
    rng: Generator,
    *,
    longest_first: bool = False,
) -> Batches:
    """Order a stretch.

    Args:
        former: makes rows of all the run's entries.
        remaining: entries of the epoch that were not drawn yet, rising.
        count: how many of them this epoch still trains.
        stretch: its phase, or two.
        frame: sizes that are the same for the whole run.
        rng: decides everything that is drawn.
        longest_first: let the longest rows come first, where a phase groups by length.
    """
    count = max(0, min(count, len(remaining)))
    share = mean_share(stretch)
    if 0.0 < share < 1.0:
        entries = former.entries
        chosen = entries.original[choose_ranks(entries, remaining, count, rng)]
        return _Mixture(former, stretch, frame, rng).batches(chosen, share)
    name = stretch.phase if share >= 1.0 else stretch.before
    rows = former.rows(name, remaining, count, rng)
    sizes = frame.cut(len(rows))
    arranged = _arranged(rows, name, BatchShape(sizes, frame.world_size, longest_first), rng)
    return Batches(arranged, sizes, np.full(len(sizes), share >= 1.0), former.entries)


def _arranged(rows: Rows, name: str, shape: BatchShape, rng: Generator) -> Rows:
    phase = PHASES[name]
    return rows if phase.is_ordered else rows.take(phase.arrange(rows.tokens, shape._replace(tied=rows.tied), rng))


def mean_share(stretch: Stretch) -> float:
    """Share of the stretch's phase over all of it."""
    if not stretch.before:
        return 1.0
    return float(stretch.share_at((np.arange(SHARE_POINTS) + 0.5) / SHARE_POINTS).mean())


class _Mixture:
    """Two phases in one stretch."""

    def __init__(self, former: Former, stretch: Stretch, frame: Frame, rng: Generator) -> None:
        self._former = former
        self._stretch = stretch
        self._frame = frame
        self._rng = rng

    def batches(self, chosen: Integers, share: float) -> Batches:
        """Batches of the chosen entries (in original order)."""
        frame = self._frame
        new = self._new_rows(chosen, share)
        old = self._form(self._stretch.before, chosen[~np.isin(chosen, new.units.entries)])
        num_batches = len(frame.cut(len(new) + len(old)))
        new_sizes = np.full(len(new) // frame.batch_size, frame.batch_size, dtype=np.int64)
        old_sizes = fill_sizes(len(old), num_batches - len(new_sizes), frame.batch_size, frame.window)
        rows = _arranged(old, self._stretch.before, BatchShape(old_sizes), self._rng).joined_with(
            _arranged(new, self._stretch.phase, BatchShape(new_sizes), self._rng)
        )
        # the old phase's are dealt out: where it has no share any more, none of them may come
        old_shares = 1 - self._stretch.share_at((np.arange(num_batches) + 0.5) / max(1, num_batches))
        is_new = ~deal(old_shares, len(old_sizes))
        return _dealt(Batches(rows, np.concatenate((old_sizes, new_sizes)), is_new, self._former.entries), len(old_sizes))

    def _new_rows(self, chosen: Integers, share: float) -> Rows:
        """Rows of the new phase for its share of the batches; only as many as fill whole batches."""
        entries = self._former.entries
        new, old = (self._per_entry(name, chosen) for name in (self._stretch.phase, self._stretch.before))
        # so that new batches are `share` of all: x entries make x * new rows, the others old rows each
        wanted = round(share * len(chosen) * old / (new * (1 - share) + share * old)) if len(chosen) else 0
        picked = entries.original[choose_ranks(entries, np.sort(chosen), wanted, self._rng)]
        rows = self._form(self._stretch.phase, picked)
        return rows.take(np.arange(len(rows) // self._frame.batch_size * self._frame.batch_size))

    def _per_entry(self, name: str, chosen: Integers) -> float:
        """Rows of a phase for each entry."""
        if not len(chosen) or not (self._former.how.packing or (PHASES[name].joins and self._former.entries.can_join)):
            return 1.0
        return len(self._form(name, chosen)) / len(chosen)

    def _form(self, name: str, chosen: Integers) -> Rows:
        return self._former.rows(name, np.sort(chosen), len(chosen), self._rng)


def deal(shares: NDArray[np.float64], num: int) -> Flags:
    """Which batches are of a phase: exactly ``num``, as dense as the shares say.

    Args:
        shares: share of the phase at each batch, shape (batches,).
        num: how many batches it has.
    """
    num_batches, total = len(shares), float(shares.sum())
    weights = (shares / total * num).tolist() if total else [0.0] * num_batches
    flags = np.zeros(num_batches, dtype=bool)
    owed, left = 0.0, num
    for batch, weight in enumerate(weights):
        owed += weight
        if left and (owed >= 0.5 or left == num_batches - batch):
            flags[batch] = True
            owed, left = owed - 1, left - 1
    return flags


def _dealt(made: Batches, num_old: int) -> Batches:
    """Batches whose sizes and rows stand old ones first, then new ones, in the places that ``is_new`` gives them."""
    begins = np.cumsum(made.sizes) - made.sizes
    sizes, starts = np.empty_like(made.sizes), np.empty_like(made.sizes)
    for flag, part in ((False, slice(0, num_old)), (True, slice(num_old, None))):
        sizes[made.is_new == flag], starts[made.is_new == flag] = made.sizes[part], begins[part]
    return Batches(made.rows.take(spans(starts, sizes)), sizes, made.is_new, made.known)
