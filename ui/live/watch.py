"""Follows the run that the page shows, for as long as the page is open.

Guarantee: what is shown comes from the run's folder, so a page that is opened or reloaded later, a second page, and a page of another
process show the same. Price: four looks at the disk a second for each open page, two for each of its streams.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Collection
from contextlib import nullcontext
from typing import Any

from ...runs import registry
from ...runs.control import read_control
from ...runs.registry import RunHandle
from ...runs.state import DIED, FAILED, RUNNING, RunState
from ...runs.store import RunFolder, read_json
from ..feed import RunFeed, feed_of
from ..host import Host
from ..session import PageSession
from ..shown import newest_run, shown_handle
from .facts import LiveFacts, live_facts
from .render import PARTS, PageRenderer
from .status import RunView

POLL_SECONDS = 0.5
HEARTBEAT_SECONDS = 5.0  # gradio notices only at a yield that the page is gone


class RunFollower:
    """Reads the shown run again and again; one for each open page.

    Attributes:
        feed: of the run that was read last; None if it has no diary.
    """

    def __init__(self, host: Host) -> None:
        self._host = host
        self.feed: RunFeed | None = None
        self._newest: RunFolder | None = None
        self._next_look = 0.0
        self._parameters: tuple[Any, Any] = (None, None)

    def read(self) -> RunView | None:
        """The shown run now; None if there is none."""
        handle = shown_handle()
        folder = handle.folder if handle is not None else self._newest_folder()
        try:
            self.feed = feed_of(folder) if folder is not None else None
        except OSError:
            self.feed = None
        if folder is None or self.feed is None:
            return self._without_diary(handle, folder)
        with self.feed.lock:
            return self._with_diary(handle, folder, self.feed)

    def _with_diary(self, handle: RunHandle | None, folder: RunFolder, feed: RunFeed) -> RunView:
        was_busy = registry.is_busy()
        state = feed.read()
        if state.status == RUNNING and state.pid == os.getpid() and not was_busy and not registry.is_busy():
            # the process lives but its job is gone without a last word
            state.status = DIED
        if state.status == DIED and handle is not None and handle.error:
            state.status, state.end = FAILED, {"message": handle.error}
        if state.status != RUNNING:
            has_adapter = bool(state.end.get("adapter", True)) and folder.has_adapter
            return RunView(state, folder.path, has_adapter=has_adapter, in_webui=self._host.in_webui)
        control = read_control(folder.control)
        return RunView(
            state,
            folder.path,
            in_webui=self._host.in_webui,
            is_stopping=control.stop,
            is_discarding=control.discard,
            is_pausing=control.pause,
            live=live_facts(state, control, self._read_parameters(folder)),
        )

    def _read_parameters(self, folder: RunFolder) -> Any:
        """The run's configuration, as its file has it; read anew when the file has changed."""
        try:
            stamp = (folder.path, folder.parameters.stat().st_mtime_ns)
        except OSError:
            return None
        if stamp != self._parameters[0]:
            self._parameters = (stamp, read_json(folder.parameters))
        return self._parameters[1]

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
            return RunView(RunState(name=name, status=RUNNING, stage="starting"), live=LiveFacts(is_live=True))
        message = handle.error or "It ended before it began; the log of the program may say why."
        return RunView(RunState(name=name, status=FAILED, end={"message": message}), folder.path if folder else None)


async def live_news(host: Host, session: PageSession, parts: Collection[str] = PARTS) -> AsyncIterator[dict[str, Any]]:
    """What has changed of the page (see :meth:`PageRenderer.render`), and {} now and then so that a closed page is noticed.

    Args:
        host: the place where the page lives.
        session: of the page; it learns which run is shown.
        parts: of the page that are wanted.
    """
    follower, renderer = RunFollower(host), PageRenderer(session)
    last_word = -HEARTBEAT_SECONDS

    def look() -> dict[str, Any]:
        view = follower.read()
        session.feed = follower.feed
        session.folder, session.started = (view.folder, view.state.started) if view else (None, 0.0)
        with follower.feed.lock if follower.feed else nullcontext():
            return renderer.render(view, time.monotonic(), parts)

    while True:
        changed = await asyncio.to_thread(look)
        if changed or time.monotonic() - last_word >= HEARTBEAT_SECONDS:
            last_word = time.monotonic()
            yield changed
        await asyncio.sleep(POLL_SECONDS)
