"""Entries to the batches of a stretch: by one phase, or by two of which the second grows in ("gradual").

How a mixture is made: groups drawn by seed become units of the new phase, as many as its share of the batches over the stretch asks for;
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
from .entries import Entries, Flags, Integers
from .phases import PHASES, BatchShape, Phase
from .units import Generator, Units, choose_ranks, spans

SHARE_POINTS = 1000


def make_batches(
    entries: Entries,
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
        entries: all of the run.
        remaining: those of the epoch that were not drawn yet, rising.
        count: how many of them this epoch still trains.
        stretch: its phase, or two.
        frame: sizes that are the same for the whole run.
        rng: decides everything that is drawn.
        longest_first: let the longest units come first, where a phase groups by length.
    """
    count = max(0, min(count, len(remaining)))
    share = mean_share(stretch)
    if 0.0 < share < 1.0:
        chosen = entries.original[choose_ranks(entries, remaining, count, rng)]
        return _Mixture(entries, stretch, frame, rng).batches(chosen, share)
    phase = PHASES[stretch.phase if share >= 1.0 else stretch.before]
    units = phase.form(entries, remaining, count, rng, frame.leave_out_overlaps)
    sizes = frame.cut(len(units))
    order = phase.arrange(units.tokens, BatchShape(sizes, frame.world_size, longest_first), rng)
    return Batches(units.take(order), sizes, np.full(len(sizes), share >= 1.0))


def mean_share(stretch: Stretch) -> float:
    """Share of the stretch's phase over all of it."""
    if not stretch.before:
        return 1.0
    return float(stretch.share_at((np.arange(SHARE_POINTS) + 0.5) / SHARE_POINTS).mean())


class _Mixture:
    """Two phases in one stretch."""

    def __init__(self, entries: Entries, stretch: Stretch, frame: Frame, rng: Generator) -> None:
        self._entries = entries
        self._stretch = stretch
        self._frame = frame
        self._rng = rng

    def batches(self, chosen: Integers, share: float) -> Batches:
        """Batches of the chosen entries (in original order)."""
        frame = self._frame
        new = self._new_units(chosen, share)
        old = self._form(PHASES[self._stretch.before], chosen[~np.isin(chosen, new.entries)])
        num_batches = len(frame.cut(len(new) + len(old)))
        new_sizes = np.full(len(new) // frame.batch_size, frame.batch_size, dtype=np.int64)
        old_sizes = fill_sizes(len(old), num_batches - len(new_sizes), frame.batch_size, frame.window)
        units = self._arranged(old, old_sizes, self._stretch.before).joined_with(
            self._arranged(new, new_sizes, self._stretch.phase)
        )
        # the old phase's are dealt out: where it has no share any more, none of them may come
        old_shares = 1 - self._stretch.share_at((np.arange(num_batches) + 0.5) / max(1, num_batches))
        return _dealt(units, old_sizes, new_sizes, ~deal(old_shares, len(old_sizes)))

    def _new_units(self, chosen: Integers, share: float) -> Units:
        """Units of the new phase for its share of the batches; only as many as fill whole batches."""
        phase = PHASES[self._stretch.phase]
        per_entry = len(self._form(phase, chosen)) / max(1, len(chosen)) if phase.joins else 1.0
        # so that new batches are `share` of all: x entries make x * per_entry units, the others one each
        wanted = round(share * len(chosen) / (per_entry * (1 - share) + share))
        picked = self._entries.original[choose_ranks(self._entries, np.sort(chosen), wanted, self._rng)]
        units = self._form(phase, picked)
        return units.take(np.arange(len(units) // self._frame.batch_size * self._frame.batch_size))

    def _form(self, phase: Phase, chosen: Integers) -> Units:
        return phase.form(self._entries, np.sort(chosen), len(chosen), self._rng, self._frame.leave_out_overlaps)

    def _arranged(self, units: Units, sizes: Integers, name: str) -> Units:
        return units.take(PHASES[name].arrange(units.tokens, BatchShape(sizes), self._rng))


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


def _dealt(units: Units, old_sizes: Integers, new_sizes: Integers, is_new: Flags) -> Batches:
    """Batches of units that stand old ones first, then new ones."""
    sizes = np.empty(len(is_new), dtype=np.int64)
    starts = np.empty(len(is_new), dtype=np.int64)
    both = np.concatenate((old_sizes, new_sizes))
    begins = np.cumsum(both) - both
    for flag, part in ((False, slice(0, len(old_sizes))), (True, slice(len(old_sizes), None))):
        sizes[is_new == flag], starts[is_new == flag] = both[part], begins[part]
    return Batches(units.take(spans(starts, sizes)), sizes, is_new)
