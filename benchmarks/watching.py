"""Highest memory of this process while something goes on; for the benchmarks beside it."""

from __future__ import annotations

import threading

MEGA = 1e6


class Peak:
    """The most memory of this process while it is open, looked at a thousand times a second.

    Attributes:
        before: bytes when it was opened.
        highest: the most bytes since then, or since the last :meth:`restart`.
    """

    def __enter__(self) -> Peak:
        return self.begin()

    def __exit__(self, *error: object) -> None:
        self.end()

    def begin(self) -> Peak:
        """Look from now on."""
        import psutil

        self._process, self._over = psutil.Process(), threading.Event()
        self.before = self.highest = self._process.memory_info().rss
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()
        return self

    def _watch(self) -> None:
        while not self._over.wait(0.001):
            self.highest = max(self.highest, self._process.memory_info().rss)

    def end(self) -> None:
        """Look no more."""
        self._over.set()
        self._watcher.join()

    @property
    def above(self) -> float:
        """MB of the highest above what was there before."""
        return max(0.0, (self.highest - self.before) / MEGA)

    def restart(self) -> None:
        """Forget the highest so far; what was there at the beginning stays the measure."""
        self.highest = 0
