"""The one registry of running jobs of this process, and the lock that keeps them apart.

It lives in ``training_pro.runs.registry`` and not in script.py, because the WebUI executes script.py again at each restart of its
page while the training goes on.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

from .store import RunFolder


@dataclass
class RunHandle:
    """A run that was started in this process.

    Attributes:
        name: name of the adapter.
        folder: its folder; None until it is known.
        thread: the worker.
        error: what stopped it before its diary began.
    """

    name: str
    folder: RunFolder | None = None
    thread: threading.Thread | None = None
    error: str = ""

    @property
    def is_alive(self) -> bool:
        """Whether the worker still runs."""
        return self.thread is not None and self.thread.is_alive()


_run_lock = threading.Lock()
_current: RunHandle | None = None


class RunBusyError(RuntimeError):
    """Another run is going on in this process."""


def claim(name: str) -> RunHandle:
    """Become the one running job of this process.

    Raises:
        RunBusyError: there is one already; with its name.
    """
    global _current
    if not _run_lock.acquire(blocking=False):
        running = _current.name if _current else "another run"
        raise RunBusyError(
            f"The run {running!r} is going on. Wait for its end or press Stop and keep; two cannot share the model."
        )
    _current = RunHandle(name)
    return _current


def release() -> None:
    """The job has ended; its handle stays readable as the latest."""
    if _run_lock.locked():
        _run_lock.release()


def is_busy() -> bool:
    """Whether a job of this process is running."""
    return _run_lock.locked()


def latest() -> RunHandle | None:
    """The job that runs, or the one that ran last, in this process."""
    return _current
