"""Works on the queue: a thread of the process that shows the page starts the next entry when it is its turn.

Guarantee: at most one such thread in a process, whatever number of pages it shows and however often they are built anew; nothing is
started while any run goes on in the adapters' folder; an entry that cannot start yet keeps its place, with a word that says why; what
an entry did wrong is written to it and the next one begins, unless the user wants the queue to pause then. Price: a look at one file a second.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from . import registry
from .queue import DONE, FAILED, Entry, Owner, Queue, QueueState
from .registry import RunBusyError, RunHandle
from .state import INTERRUPTED, RUNNING, read_state
from .store import RunFolder
from .summary import RunList

if TYPE_CHECKING:
    from ..config import RunConfig

logger = logging.getLogger(__name__)

SECONDS = 1.0
GOOD_ENDS = ("finished", INTERRUPTED, "discarded")


@dataclass(frozen=True)
class Place:
    """What the queue asks of the place where it lives.

    Attributes:
        adapters_dir: where adapters live now.
        launch: starts a run in the background. Raises ValueError, OSError, RuntimeError or ImportError for what hinders it for good,
            RunBusyError if one is on.
        obstacle: (settings, name of the model they are meant for) -> why they cannot be trained now but may later; "" = they can.
    """

    adapters_dir: Callable[[], Path]
    launch: Callable[[RunConfig], RunHandle]
    obstacle: Callable[[RunConfig, str], str]


class QueueRunner:
    """Starts entries and writes down how they ended; :meth:`tick` does what there is to do now."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self._runs = RunList()
        self._training: tuple[Queue, str, RunHandle] | None = None
        self._complained = ""

    def tick(self) -> None:
        """Look once; never raises."""
        try:
            self._look()
            self._complained = ""
        except Exception as error:
            if str(error) != self._complained:  # once, not at each look
                # a folder that is away for a while, a damaged file; anything else is a fault of the program
                is_expected = isinstance(error, (OSError, ValueError))
                logger.warning("The queue cannot be worked on: %s", error or type(error).__name__, exc_info=not is_expected)
            self._complained = str(error)

    def _look(self) -> None:
        if self._training and not self._has_ended():
            return
        queue = Queue(self.place.adapters_dir())
        if queue.stamp == (0, 0):
            return
        me = Owner.me()
        if not queue.own(me):
            return
        state = queue.read()
        if state.is_paused or not state.waiting or registry.is_busy():
            return
        entry = self._next(queue, state)
        if entry is not None and (claimed := queue.claim(entry.id, me)):
            self._start(queue, claimed)

    def _next(self, queue: Queue, state: QueueState) -> Entry | None:
        """The first entry whose time has come and that nothing hinders; the others are told what does."""
        due = [entry for entry in state.waiting if entry.start_at is None or entry.start_at <= time.time()]
        others = [run.name for run in self._runs.read(queue.adapters_dir) if run.status == RUNNING] if due else []
        for entry in due:
            word = f"It waits for the end of {others[0]}." if others else self._obstacle(entry)
            queue.say(entry.id, word)
            if not word:
                return entry
        return None

    def _obstacle(self, entry: Entry) -> str:
        return self.place.obstacle(config_of_entry(entry), entry.model)

    def _start(self, queue: Queue, entry: Entry) -> None:
        try:
            config = config_of_entry(entry)
            config.require_valid()
            handle = self.place.launch(config)
        except RunBusyError as error:
            return queue.wait_again(entry.id, str(error))
        except (ValueError, OSError, RuntimeError, ImportError) as error:
            return queue.end(entry.id, FAILED, str(error) or type(error).__name__)
        except Exception as error:
            logger.exception("An entry of the queue could not be started")
            return queue.end(entry.id, FAILED, f"Unexpected error: {type(error).__name__}: {error}")
        self._training = (queue, entry.id, handle)
        if handle.folder is not None:
            queue.began(entry.id, handle.folder)

    def _has_ended(self) -> bool:
        """Whether the entry that was started is over; then how it ended is written down."""
        assert self._training is not None
        queue, entry_id, handle = self._training
        if handle.is_alive or (registry.is_busy() and registry.latest() is handle):
            return False
        self._training = None
        queue.end(entry_id, *end_of(handle))
        return True


def config_of_entry(entry: Entry) -> RunConfig:
    """An entry's settings; what this version cannot read is among their problems."""
    from ..config import RunConfig  # not above: the WebUI loads the registry's room at its start

    return RunConfig.from_dict(entry.config)


def end_of(handle: RunHandle) -> tuple[str, str]:
    """How a run ended: done or failed, and in words."""
    folder: RunFolder | None = handle.folder
    state = read_state(folder) if folder is not None else None
    status = state.status if state is not None else ""
    words = " ".join(str(state.end.get(key) or "") for key in ("message", "remedy")).strip() if state is not None else ""
    if status in GOOD_ENDS:
        return DONE, words
    return FAILED, words or handle.error or "It ended without a word; the log of the program may say why."


# --- the one thread of this process -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Thread:
    runner: QueueRunner
    stop: threading.Event
    thread: threading.Thread


_current: _Thread | None = None
_lock = threading.Lock()


def ensure_runner(place: Place, seconds: float = SECONDS) -> QueueRunner:
    """Let this process work on the queue from now on; a thread that is there already takes the new place.

    Args:
        place: what it asks.
        seconds: between two looks.
    """
    global _current
    with _lock:
        if _current is None or not _current.thread.is_alive():
            runner, stop = QueueRunner(place), threading.Event()
            thread = threading.Thread(target=_work, args=(runner, stop, seconds), name="training queue", daemon=True)
            _current = _Thread(runner, stop, thread)
            thread.start()
        _current.runner.place = place
        return _current.runner


def stop_runner() -> None:
    """End the thread, for tests and for a program that ends; what is being trained goes on."""
    global _current
    with _lock:
        if _current is not None:
            _current.stop.set()
            _current.thread.join(30)
        _current = None


def _work(runner: QueueRunner, stop: threading.Event, seconds: float) -> None:
    while not stop.wait(seconds):
        runner.tick()
