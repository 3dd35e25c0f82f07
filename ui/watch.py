"""Follows the run that the page shows: the one of this process if there is one, else the newest in the adapters' folder.

Guarantee: what is shown comes from the run's folder, so a page that is opened or reloaded later, a second page, and a page of another
process show the same. Price: two looks at the disk a second for each open page.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

from ..runs import registry
from ..runs.control import read_control
from ..runs.registry import RunHandle
from ..runs.state import DIED, FAILED, RUNNING, RunReader, RunState
from ..runs.store import RunFolder, list_runs
from .host import Host
from .phase_table import phase_table_html
from .plots import run_charts
from .status import RunView, status_html

POLL_SECONDS = 0.5
CHART_SECONDS = 2.0  # charts of a live run are drawn at most so often
HEARTBEAT_SECONDS = 5.0  # gradio notices only at a yield that the page is gone


def newest_run(adapters_dir: Path) -> RunFolder | None:
    """The run with the newest diary; None if there is none."""
    found = [(folder.events.stat().st_mtime, folder) for folder in list_runs(adapters_dir) if folder.events.is_file()]
    return max(found, key=lambda pair: pair[0])[1] if found else None


def shown_handle() -> RunHandle | None:
    """This process's job, if it is starting or got as far as a folder; a start that was refused is none."""
    handle = registry.latest()
    return handle if handle is not None and (handle.folder is not None or registry.is_busy()) else None


def shown_run(host: Host) -> RunFolder | None:
    """The folder of the run that the page shows, and that its buttons act on; None if there is none yet."""
    handle = shown_handle()
    return handle.folder if handle is not None else newest_run(host.adapters_dir())


class RunFollower:
    """Reads the shown run again and again; one for each open page."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._reader: RunReader | None = None
        self._key: tuple[Path, int] | None = None
        self._newest: RunFolder | None = None
        self._next_look = 0.0

    def read(self) -> RunView | None:
        """The shown run now; None if there is none."""
        handle = shown_handle()
        folder = handle.folder if handle is not None else self._newest_folder()
        if folder is None or not folder.events.is_file():
            return self._without_diary(handle, folder)
        was_busy = registry.is_busy()
        state = self._read_diary(folder)
        if state.status == RUNNING and state.pid == os.getpid() and not was_busy and not registry.is_busy():
            # the process lives but its job is gone without a last word
            state.status = DIED
        if state.status == DIED and handle is not None and handle.error:
            state.status, state.end = FAILED, {"message": handle.error}
        is_live = state.status == RUNNING
        return RunView(
            state,
            folder.path,
            has_adapter=not is_live and bool(state.end.get("adapter", True)) and folder.has_adapter,
            in_webui=self._host.in_webui,
            is_stopping=is_live and read_control(folder.control).stop,
        )

    def _newest_folder(self) -> RunFolder | None:
        now = time.monotonic()
        if now >= self._next_look:
            self._newest, self._next_look = newest_run(self._host.adapters_dir()), now + 2.0
        return self._newest

    def _without_diary(self, handle: RunHandle | None, folder: RunFolder | None) -> RunView | None:
        if handle is None:
            return None
        name = folder.name if folder else handle.name
        if registry.is_busy():
            return RunView(RunState(name=name, status=RUNNING, stage="starting"))
        message = handle.error or "It ended before it began; the log of the program may say why."
        return RunView(RunState(name=name, status=FAILED, end={"message": message}), folder.path if folder else None)

    def _read_diary(self, folder: RunFolder) -> RunState:
        # 'replace' moves the old folder away and begins a new diary in its place: another file under the same name
        key = (folder.path, folder.events.stat().st_ino)
        if self._reader is None or key != self._key:
            self._reader, self._key = RunReader(folder), key
        return self._reader.read()


class PageRenderer:
    """Turns views into the page's HTML and says what has changed since the last time."""

    def __init__(self) -> None:
        self._status = self._charts = ""
        self._drawn_at, self._drawn_for = 0.0, (-1, -1, "")

    def render(self, view: RunView | None, now: float) -> tuple[str | None, str | None]:
        """(status, charts) as HTML; None for what is as it was.

        Args:
            view: the run.
            now: seconds on any clock that only goes forward.
        """
        status = status_html(view)
        charts = self._draw(view, now)
        changed = (status if status != self._status else None, charts if charts != self._charts else None)
        self._status, self._charts = status, charts
        return changed

    def _draw(self, view: RunView | None, now: float) -> str:
        if view is None:
            return '<div id="tph-curve"></div>'
        state = view.state
        drawn_for = (
            len(state.steps),
            len(state.evaluations) + len(state.understanding),
            f"{view.folder} {state.status} {state.started}",
        )
        if drawn_for == self._drawn_for:
            return self._charts
        is_due = drawn_for[2] != self._drawn_for[2] or now - self._drawn_at >= CHART_SECONDS
        if not is_due:
            return self._charts
        self._drawn_at, self._drawn_for = now, drawn_for
        return run_charts(state) + phase_table_html(state)


async def live_html(host: Host) -> AsyncIterator[tuple[str | None, str | None]]:
    """(status, charts) whenever one of them has changed, and (None, None) now and then so that a closed page is noticed."""
    follower, renderer = RunFollower(host), PageRenderer()
    last_word = -HEARTBEAT_SECONDS
    while True:
        changed = await asyncio.to_thread(lambda: renderer.render(follower.read(), time.monotonic()))
        if changed != (None, None) or time.monotonic() - last_word >= HEARTBEAT_SECONDS:
            last_word = time.monotonic()
            yield changed
        await asyncio.sleep(POLL_SECONDS)
