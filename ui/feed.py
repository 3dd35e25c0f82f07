"""One reader of a run's diary for all open pages of this process.

Guarantee: pages that show the same run share one state, which grows with the diary; whoever looks at it holds the feed's lock, so that no
page sees half a change. Price: a diary of 100,000 steps is held in memory once, and let go of when the last page that shows it is closed.
"""

from __future__ import annotations

import threading
from pathlib import Path
from weakref import WeakValueDictionary

from ..runs.state import RunReader, RunState
from ..runs.store import RunFolder
from .charts.columns import StepColumns


class RunFeed:
    """The state of one run, and its steps as columns.

    Attributes:
        lock: held while the state is read or looked at.
        columns: of the steps that were drawn last.
    """

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self.lock = threading.RLock()
        self.columns = StepColumns()
        self._reader = RunReader(folder)

    def read(self) -> RunState:
        """The state now; look at it only while holding the lock."""
        with self.lock:
            return self._reader.read()


_feeds: WeakValueDictionary[tuple[Path, int], RunFeed] = WeakValueDictionary()
_feeds_lock = threading.Lock()


def feed_of(folder: RunFolder) -> RunFeed:
    """The feed of a run; the same object for everybody who asks while somebody holds it.

    Raises:
        OSError: the run has no diary.
    """
    # 'replace' moves the old folder away and begins a new diary in its place: another file under the same name
    key = (folder.path, folder.events.stat().st_ino)
    with _feeds_lock:
        feed = _feeds.get(key)
        if feed is None:
            feed = _feeds[key] = RunFeed(folder)
    return feed
