"""Batches of a stretch of an epoch: one phase, or two of which the second grows in.

Guarantee: a pure function of (entries, stretch, generator); batches are a whole number of windows, at most as many as single entries
would need; each chosen entry is trained in exactly one. Price: some arrays of 8 bytes an entry, for the stretch that is being trained.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .cutting import cut_sizes
from .entries import Entries, Flags, Integers
from .padding import padded_tokens
from .rows import Rows

# an entry, a filler (negative), joined entries, ("context", entries before it, an entry), or ("pack", several of these)
Item = int | tuple[Any, ...]


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
        batch_size: most rows of a batch.
        window: batches of an optimizer step, over all ranks.
        world_size: ranks.
    """

    batch_size: int
    window: int
    world_size: int = 1

    def cut(self, num_rows: int) -> Integers:
        """Rows of each batch."""
        return cut_sizes(num_rows, self.batch_size, self.window)


@dataclass(frozen=True)
class Batches:
    """Batches of a stretch, from its begin to the end of its epoch.

    Attributes:
        rows: units, or packs of them, in the order in which they are trained.
        sizes: rows of each batch, shape (batches,); 0 is a filler.
        is_new: whether each batch belongs to the stretch's phase, not to the one that fades out, shape (batches,).
        known: all entries of the run.
    """

    rows: Rows
    sizes: Integers
    is_new: Flags
    known: Entries

    def __len__(self) -> int:
        return len(self.sizes)

    @cached_property
    def borders(self) -> Integers:
        """Batch b holds the rows ``borders[b]`` to ``borders[b + 1]``."""
        return np.concatenate(([0], np.cumsum(self.sizes)))

    def drawn(self, num_batches: int) -> Integers:
        """Entries that the first batches train."""
        units = self.rows.units
        return units.entries[: units.borders[self.num_units(num_batches)]]

    def num_units(self, num_batches: int) -> int:
        """Samples in the first batches."""
        return self.rows.num_units(int(self.borders[num_batches]))

    def items(self, first: int, last: int, filler: int) -> Iterator[list[Item]]:
        """The batches from ``first`` to ``last``, without ``last``."""
        borders = self.borders[first : last + 1].tolist()
        for start, end in zip(borders, borders[1:], strict=False):
            yield self.rows.items(start, end, self.known) or [-1 - filler]

    def padded(self) -> Integers:
        """Tokens of each batch if it is padded to its longest row, shape (batches,)."""
        return padded_tokens(self.rows.tokens, self.sizes)

    def tokens(self) -> Integers:
        """Tokens of each batch without padding, shape (batches,)."""
        return np.diff(np.concatenate(([0], np.cumsum(self.rows.tokens)))[self.borders])
