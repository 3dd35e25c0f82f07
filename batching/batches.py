"""Batches of a stretch of an epoch: one phase, or two of which the second grows in.

Guarantee: a pure function of (entries, stretch, generator); batches are a whole number of windows, at most as many as single entries
would need; each chosen entry stands in exactly one. Price: some arrays of 8 bytes an entry, for the stretch that is being trained.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .cutting import cut_sizes
from .entries import Flags, Integers
from .phases import padded_tokens
from .units import Units

Item = int | tuple[int, ...]  # an entry, a filler (negative), or joined entries


class Stretch(NamedTuple):
    """A part of an epoch that is ordered at once.

    Attributes:
        position: batch of the epoch at which it begins.
        phase: name in PHASES.
        size: planned size of the epoch, in epochs.
        before: phase that fades out meanwhile; "" = none.
        shares: share of ``phase`` at the stretch's begin and at the epoch's end, growing evenly; values outside 0 to 1 are clamped.
    """

    position: int
    phase: str
    size: float
    before: str = ""
    shares: tuple[float, float] = (1.0, 1.0)

    def share_at(self, parts: NDArray[np.float64]) -> NDArray[np.float64]:
        """Share of ``phase`` at some parts (0 to 1) of the stretch."""
        begin, end = self.shares
        return np.clip(begin + (end - begin) * parts, 0.0, 1.0)


class Frame(NamedTuple):
    """What all batches of a run have in common.

    Attributes:
        batch_size: most units of a batch.
        window: batches of an optimizer step, over all ranks.
        world_size: ranks.
        leave_out_overlaps: see :class:`training_pro.batching.course.Course`.
    """

    batch_size: int
    window: int
    world_size: int = 1
    leave_out_overlaps: bool = False

    def cut(self, num_units: int) -> Integers:
        """Units of each batch."""
        return cut_sizes(num_units, self.batch_size, self.window)


@dataclass(frozen=True)
class Batches:
    """Batches of a stretch, from its begin to the end of its epoch.

    Attributes:
        units: in the order in which they are trained.
        sizes: units of each batch, shape (batches,); 0 is a filler.
        is_new: whether each batch belongs to the stretch's phase, not to the one that fades out, shape (batches,).
    """

    units: Units
    sizes: Integers
    is_new: Flags

    def __len__(self) -> int:
        return len(self.sizes)

    @cached_property
    def borders(self) -> Integers:
        """Batch b holds the units ``borders[b]`` to ``borders[b + 1]``."""
        return np.concatenate(([0], np.cumsum(self.sizes)))

    def drawn(self, num_batches: int) -> Integers:
        """Entries of the first batches."""
        return self.units.entries[: self.units.borders[self.borders[num_batches]]]

    def items(self, first: int, last: int, filler: int) -> Iterator[list[Item]]:
        """The batches from ``first`` to ``last``, without ``last``."""
        borders = self.borders[first : last + 1].tolist()
        for start, end in zip(borders, borders[1:], strict=False):
            yield self._items(start, end) or [-1 - filler]

    def _items(self, start: int, end: int) -> list[Item]:
        units = self.units
        if units.are_single:
            return list(units.entries[start:end].tolist())
        borders = units.borders[start : end + 1].tolist()
        parts = [units.entries[begin:stop].tolist() for begin, stop in zip(borders, borders[1:], strict=False)]
        return [part[0] if len(part) == 1 else tuple(part) for part in parts]

    def padded(self) -> Integers:
        """Tokens of each batch if it is padded to its longest unit, shape (batches,)."""
        return padded_tokens(self.units.tokens, self.sizes)

    def tokens(self) -> Integers:
        """Tokens of each batch without padding, shape (batches,)."""
        return np.diff(np.concatenate(([0], np.cumsum(self.units.tokens)))[self.borders])
