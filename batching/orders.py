"""The batches of every epoch, from the stretches it is made of; what was made last is kept.

Guarantee: a pure function of (entries, frame, seed, epoch, stretches): a stretch orders only what the stretches before it have not drawn.
Price: memory for the stretches of an epoch or two; counting the batches of an epoch without a switch costs nothing but where entries are
joined or packed, and then once.
"""

from __future__ import annotations

from collections import OrderedDict

import numpy as np

from .batches import Batches, Frame, Stretch
from .cutting import count_batches
from .entries import Integers
from .forming import Former
from .making import make_batches

KEPT_STRETCHES = 3

Stretches = tuple[Stretch, ...]


class Orders:
    """Batches of the stretches of epochs.

    Args:
        former: makes rows of what is trained.
        frame: sizes of batches and windows.
        seed: decides every order, together with the epoch and the place of the stretch.
    """

    def __init__(self, former: Former, frame: Frame, seed: int) -> None:
        self.former = former
        self.entries = former.entries
        self.frame = frame
        self.seed = seed
        self._kept: OrderedDict[tuple[int, Stretches], Batches] = OrderedDict()
        self._counts: dict[tuple[int, Stretches], int] = {}

    def batches(self, epoch: int, stretches: Stretches) -> Batches:
        """Batches of the last of an epoch's stretches, as if it went on to the epoch's end."""
        key = epoch, stretches
        if key not in self._kept:
            self._kept[key] = self._make(epoch, stretches)
            if len(self._kept) > KEPT_STRETCHES:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return self._kept[key]

    def count(self, epoch: int, stretches: Stretches) -> int:
        """Number of those batches."""
        quick = self._quick_count(stretches) if len(stretches) == 1 else None
        if quick is not None:
            return quick
        key = epoch, stretches
        if key not in self._counts:
            self._counts[key] = len(self.batches(epoch, stretches))
        return self._counts[key]

    def _quick_count(self, stretches: Stretches) -> int | None:
        """Where the generator has no say in it."""
        stretch = stretches[0]
        num_rows = part_of(len(self.entries), stretch.size)
        if any(self.former.changes_number(name) for name in (stretch.phase, stretch.before) if name):
            if stretch.before or stretch.size < 1:
                return None
            num_rows = len(self.former.whole(stretch.phase))
        return count_batches(num_rows, self.frame.batch_size, self.frame.window)

    def _make(self, epoch: int, stretches: Stretches) -> Batches:
        position, size = stretches[-1].position, stretches[-1].size
        remaining, num_drawn = self._not_drawn(epoch, stretches)
        # a phase that begins with an epoch has the order it would have in a run of that phase alone
        place = [self.seed, epoch, position] if position else [self.seed, epoch]
        return make_batches(
            self.former,
            remaining,
            part_of(len(self.entries), size) - num_drawn,
            stretches[-1],
            self.frame,
            np.random.default_rng(place),
            longest_first=epoch == 0 and position == 0,
        )

    def _not_drawn(self, epoch: int, stretches: Stretches) -> tuple[Integers, int]:
        """Entries that the stretches before the last have left, and how many they have drawn."""
        is_left = np.ones(len(self.entries), dtype=bool)
        for number in range(1, len(stretches)):
            num_batches = stretches[number].position - stretches[number - 1].position
            is_left[self.batches(epoch, stretches[:number]).drawn(num_batches)] = False
        remaining = np.flatnonzero(is_left)
        return remaining, len(self.entries) - len(remaining)


def part_of(num_entries: int, size: float) -> int:
    """Entries of an epoch of which only a part is trained; at least one."""
    return num_entries if size >= 1 else max(1, round(num_entries * size))
