"""How far the reading of data is: a share of the bytes, and words.

Guarantee: the share never falls; it is told at once at the beginning and at the end, and about ten times a second between.
"""

from __future__ import annotations

import time
from collections.abc import Callable

# called with the share done, 0 to 1, and what is being done: "a.jsonl: 12,300 rows". May raise to stop the preparation.
Progress = Callable[[float, str], None]

INTERVAL_SECONDS = 0.1


class Meter:
    """Tells the progress of a reading of many files.

    Args:
        progress: whom to tell; None = nobody.
        total: bytes there are to read.
        clock: seconds.
    """

    def __init__(self, progress: Progress | None, total: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._progress = progress
        self._total = total
        self._clock = clock
        self._told = float("-inf")
        self._share = 0.0
        self.done_before = 0

    def tick(self, num_bytes: int, what: Callable[[], str]) -> None:
        """Tell it, if the last time is long enough ago.

        Args:
            num_bytes: read so far, beside ``done_before``.
            what: makes the words, where they are needed.
        """
        if self._progress is None or self._clock() - self._told < INTERVAL_SECONDS:
            return
        self._told = self._clock()
        self._share = max(self._share, min((self.done_before + num_bytes) / max(self._total, 1), 1.0))
        self._progress(self._share, what())

    def finish(self, what: str) -> None:
        """Tell that everything is read."""
        if self._progress is not None:
            self._progress(1.0, what)
