"""Turns a run into the parts of the page, and says which of them have changed since the last time.

Guarantee: a part is made anew only when what it shows has changed; charts of a live run at most every CHART_SECONDS, and so seldom that
drawing takes no more than a fiftieth of the time, but at once when the run ends or the page's user chooses another axis. Price: what was
sent last is remembered for each open page.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from typing import Any

from ...runs.state import RunState
from ..charts.columns import StepColumns
from ..charts.run import NO_CHARTS, run_charts
from ..log_lines import log_html
from ..session import PageSession
from .checkpoints import CheckpointTable, checkpoints_html, choices_of
from .facts import LiveFacts
from .phase_table import phase_table_html
from .samples import samples_html
from .status import RunView, status_html

# what changes at every step, and what seldom does
AT_STEPS = ("status", "charts")
SELDOM = ("samples", "log", "checkpoints", "live")
PARTS = (*AT_STEPS, *SELDOM)
CHART_SECONDS = 2.0
_REST = 50  # so many times as long as the drawing took


class PageRenderer:
    """The parts of one open page."""

    def __init__(self, session: PageSession | None = None) -> None:
        self._session = session or PageSession()
        self._shown: dict[str, Any] = {}
        self._keys: dict[str, Any] = {}
        self._made: dict[str, Any] = {}
        self._table = CheckpointTable()
        self._columns = StepColumns()
        self._draw_again = 0.0
        self._drawn_for: tuple[Any, ...] = (None,)

    def render(self, view: RunView | None, now: float, parts: Collection[str] = PARTS) -> dict[str, Any]:
        """The parts that have changed: status, charts, samples and log as HTML, checkpoints (HTML, choices), live (:class:`LiveFacts`).

        Args:
            view: the run.
            now: seconds on any clock that only goes forward.
            parts: those that are wanted.
        """
        state = view.state if view else RunState()
        run = (view.folder, state.started) if view else None
        make: dict[str, Callable[[], Any]] = {
            "status": lambda: status_html(view),
            "charts": lambda: self._charts(view, now),
            "samples": lambda: self._once("samples", (run, len(state.samples)), lambda: samples_html(state.samples)),
            "log": lambda: self._once("log", (run, len(state.log)), lambda: log_html(state.log)),
            "checkpoints": lambda: self._checkpoints(view),
            "live": lambda: view.live if view else LiveFacts(),
        }
        made = {name: make[name]() for name in PARTS if name in parts}
        changed = {name: part for name, part in made.items() if name not in self._shown or self._shown[name] != part}
        self._shown |= changed
        return changed

    def _once(self, name: str, key: Any, make: Any) -> Any:
        if name not in self._made or self._keys[name] != key:
            self._keys[name], self._made[name] = key, make()
        return self._made[name]

    def _checkpoints(self, view: RunView | None) -> tuple[str, list[tuple[str, str]]]:
        if view is None or view.folder is None:
            return checkpoints_html([]), []
        news = (len(view.state.checkpoints), len(view.state.evaluations), len(view.state.log))
        rows = self._table.rows(view.folder, *news)
        return self._once("checkpoints", [id(rows), *rows], lambda: (checkpoints_html(rows), choices_of(rows)))

    def _charts(self, view: RunView | None, now: float) -> str:
        before = str(self._shown.get("charts", NO_CHARTS))
        if view is None:
            return NO_CHARTS
        state, choice = view.state, self._session.choice
        asked = (view.folder, state.status, state.started, choice.key)
        events = (
            len(state.evaluations),
            len(state.understanding),
            len(state.checkpoints),
            len(state.phases),
            len(state.phase_table),
        )
        drawn_for = (asked, len(state.steps), *events)
        is_known = self._drawn_for[0] == asked
        if drawn_for == self._drawn_for or (is_known and now < self._draw_again):
            return before
        begun = time.thread_time()
        feed = self._session.feed
        charts = run_charts(state, feed.columns if feed else self._columns, choice) + phase_table_html(state)
        self._draw_again = now + max(CHART_SECONDS, _REST * (time.thread_time() - begun))
        self._drawn_for = drawn_for
        return charts
