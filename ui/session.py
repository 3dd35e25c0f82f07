"""What one open page remembers: how it shows the curves, and which run it shows.

An object of it lives in a gr.State, which gradio gives each page for its own; the page's stream and its buttons get the same one.

Guarantee: a button acts on the run that its page shows, and on no other: where another one has begun meanwhile, it says so and does
nothing. Price: none.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..runs.registry import is_busy
from ..runs.state import RunState
from ..runs.store import RunFolder
from .charts.axes import ChartChoice
from .feed import RunFeed, feed_of
from .host import Host
from .shown import shown_run


@dataclass
class PageSession:
    """One open page.

    Attributes:
        choice: how it shows the curves.
        folder: of the run that it shows; None if it shows none (yet), ``started`` when that run began, seconds since the epoch.
        feed: of that run.
    """

    choice: ChartChoice = field(default_factory=ChartChoice)
    folder: Path | None = None
    started: float = 0.0
    feed: RunFeed | None = None

    def __deepcopy__(self, memo: Any) -> PageSession:
        """Gradio gives each page a copy of what the page was made with: a new session."""
        return PageSession()

    def run(self, host: Host) -> tuple[RunFolder, RunState]:
        """The run that the page shows, as its diary says now.

        Raises:
            ValueError: there is none, or another one has taken its place; in words.
        """
        folder = shown_run(host)
        if folder is None:
            raise ValueError("The run is still starting. Try again in a moment." if is_busy() else "Nothing is running.")
        try:
            self.feed = feed_of(folder)
            state = self.feed.read()
        except OSError:
            state = RunState()
        if self.folder is not None and (folder.path != self.folder or state.started != self.started):
            shown = self.folder.name if self.folder != folder.path else f"an earlier start of {folder.name}"
            raise ValueError(
                f"Nothing was done: this page still showed {shown}, but {folder.name} runs now. Look at it and press again."
            )
        return folder, state
