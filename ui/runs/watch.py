"""Keeps the page of runs as it is on the disk, for as long as the page is open: the list of runs and the queue.

Guarantee: a second page, a reloaded one and one of another program show the same without a press. Price: one look at the runs' folders for
all open pages of a process, at most every two seconds and at most a hundredth of the time.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...runs.summary import RunList, RunSummary

POLL_SECONDS, HEARTBEAT_SECONDS = 1.0, 5.0
_LEAST_SECONDS, _SHARE = 2.0, 0.01


class SharedRuns:
    """The runs of a folder, read for all pages together."""

    def __init__(self, adapters_dir: Callable[[], Path]) -> None:
        self._adapters_dir = adapters_dir
        self._list = RunList()
        self._lock = threading.Lock()
        self._found: list[RunSummary] = []
        self._next = 0.0

    def read(self, *, anew: bool = False) -> list[RunSummary]:
        """All runs, newest first.

        Args:
            anew: look at the disk now, whatever was seen a moment ago.
        """
        with self._lock:
            begun = time.monotonic()
            if anew or begun >= self._next:
                self._found = self._list.read(self._adapters_dir())
                ended = time.monotonic()
                self._next = ended + max(_LEAST_SECONDS, (ended - begun) / _SHARE)
            return list(self._found)


@dataclass
class ListSession:
    """What one open page remembers of its list.

    Attributes:
        order: in which it shows the runs; "" = the first there is.
    """

    order: str = ""

    def __deepcopy__(self, memo: Any) -> ListSession:
        """Gradio gives each page a copy of what the page was made with: a new session."""
        return ListSession()


async def changes(look: Callable[[], list[tuple[Any, Any]]]) -> AsyncIterator[list[Any]]:
    """What has changed, whenever something has, and nothing now and then, so that a closed page is noticed.

    Args:
        look: (what tells a change, update) for each output.

    Yields:
        One update for each output; None for what is as it was.
    """
    shown: list[Any] = []
    spoken = time.monotonic()
    while True:
        found = await asyncio.to_thread(look)
        news = [update if not shown or stamp != shown[place] else None for place, (stamp, update) in enumerate(found)]
        shown = [stamp for stamp, _ in found]
        if any(update is not None for update in news) or time.monotonic() - spoken >= HEARTBEAT_SECONDS:
            spoken = time.monotonic()
            yield news
        await asyncio.sleep(POLL_SECONDS)
