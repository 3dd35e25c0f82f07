"""A run in a line: what a list of runs shows, without reading the whole diary.

What it does: finds the last event of each kind that matters from the end of the diary. Guarantee: what it says equals what
:class:`training_pro.runs.state.RunReader` computes from the whole diary, and a run of this process whose job is gone has died. Price: the diary's bytes are searched backwards (a run of
100,000 steps in some hundredths of a second), and only if the file has changed since the last time.
"""

from __future__ import annotations

import json
import math
import mmap
import os
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from . import registry
from .checkpoints import find_checkpoints
from .state import DIED, FAILED, RUNNING, process_is_alive
from .store import RunFolder, list_runs, read_json


@dataclass(frozen=True)
class RunSummary:
    """One run.

    Attributes:
        folder: its folder.
        status: running, finished, interrupted, failed, died; "" for an adapter without a diary.
        data: names of its data, as far as its parameters tell.
        started: seconds since the epoch; 0 if not known. ``updated`` likewise, of the last event.
        step: optimizer steps done, ``num_steps`` of so many planned (0 = not planned yet).
        loss: smoothed training loss at the last step; ``eval_loss`` at the last evaluation.
        message: how it ended, in words.
        has_adapter: whether a trained adapter lies there.
        num_checkpoints: whole checkpoints.
    """

    folder: RunFolder
    status: str = ""
    data: str = ""
    started: float = 0.0
    updated: float = 0.0
    step: int = 0
    num_steps: int = 0
    loss: float | None = None
    eval_loss: float | None = None
    message: str = ""
    has_adapter: bool = False
    num_checkpoints: int = 0

    @property
    def name(self) -> str:
        """Name of the adapter."""
        return self.folder.name

    @property
    def is_unfinished(self) -> bool:
        """Whether `resume` could go on with it."""
        return self.status not in ("", RUNNING, "finished") and self.num_checkpoints > 0


class RunList:
    """The runs of a folder; remembers what has not changed."""

    def __init__(self) -> None:
        self._known: dict[Path, tuple[tuple[Any, ...], RunSummary]] = {}

    def read(self, adapters_dir: Path) -> list[RunSummary]:
        """All runs and adapters, newest first."""
        found = {folder.path: self._summary(folder) for folder in list_runs(adapters_dir)}
        self._known = {path: known for path, known in self._known.items() if path in found}
        return sorted(found.values(), key=lambda run: run.updated or run.folder.path.stat().st_mtime, reverse=True)

    def _summary(self, folder: RunFolder) -> RunSummary:
        stamp = _stamp(folder)
        known = self._known.get(folder.path)
        # whether a process still lives is not written on any disk
        if known is None or known[0] != stamp or known[1].status == RUNNING:
            known = (stamp, summarize(folder))
            self._known[folder.path] = known
        return known[1]


def _stamp(folder: RunFolder) -> tuple[Any, ...]:
    stamp: list[Any] = []
    for path in (folder.events, folder.parameters, folder.path):
        try:
            stat = path.stat()
            stamp += [stat.st_mtime_ns, stat.st_size]
        except OSError:
            stamp.append(None)
    return tuple(stamp)


def summarize(folder: RunFolder) -> RunSummary:
    """One run in a line."""
    rest: dict[str, Any] = {
        "data": data_words(read_json(folder.parameters)),
        "has_adapter": folder.has_adapter,
        "num_checkpoints": len(find_checkpoints(folder)),
    }
    with closing(_Diary(folder.events)) as diary:
        begin = diary.last("run_started")
        if begin is None:
            return RunSummary(folder, **rest)
        started, from_here = begin
        plan, end, last = (diary.event(kind, from_here) for kind in ("plan", "run_ended", ""))
        step, evaluation = (_last_of_run(diary, kind, started, from_here) for kind in ("step", "evaluation"))
    status = str(end.get("status", FAILED)) if end else RUNNING
    if status == RUNNING and not _is_going_on(int(started.get("pid", 0)), started.get("process_started", 0.0)):
        status = DIED
    return RunSummary(
        folder,
        status,
        started=started.get("t", 0.0),
        updated=last.get("t", 0.0),
        step=step.get("step", 0),
        num_steps=plan.get("num_steps", 0),
        loss=step.get("smoothed_loss"),
        eval_loss=evaluation.get("loss"),
        message=str(end.get("message", "")),
        **rest,
    )


def _is_going_on(pid: int, process_started: float) -> bool:
    """Whether the process lives that wrote a diary without an end; in this one a job must be running too."""
    return registry.is_busy() if pid == os.getpid() else process_is_alive(pid, process_started)


def other_process(folder: RunFolder) -> int:
    """Number of another process that trains in this folder now; 0 if there is none."""
    with closing(_Diary(folder.events)) as diary:
        begin = diary.last("run_started")
        if begin is None or diary.last("run_ended", begin[1]):
            return 0
    pid = int(begin[0].get("pid", 0))
    return pid if pid != os.getpid() and process_is_alive(pid, begin[0].get("process_started", 0.0)) else 0


def is_going_on(folder: RunFolder) -> bool:
    """Whether a run uses this folder now, in this process or another; also one that is only starting."""
    handle = registry.latest()
    if registry.is_busy() and handle is not None:
        # before its folder is open a run has only the name that was asked for
        is_own = handle.folder.path == folder.path if handle.folder is not None else handle.name == folder.name
        if is_own:
            return True
    return summarize(folder).status == RUNNING


def _last_of_run(diary: _Diary, kind: str, started: dict[str, Any], begin: int) -> dict[str, Any]:
    """The last event of a kind since the run's start, or of what it was resumed from, and so on to a start that was none."""
    end, limit = None, math.inf
    while True:
        found = diary.until(kind, limit, begin, end)
        resumed = started.get("resumed_from_step")
        before = diary.last("run_started", 0, begin)
        if found or resumed is None or before is None:
            return found
        limit, end = min(limit, float(resumed)), begin
        started, begin = before


def data_words(parameters: Any) -> str:
    """Names of the files that a run was trained on."""
    if not isinstance(parameters, dict):
        return ""
    data = parameters.get("data")
    found = [data.get("dataset"), *(data.get("more_datasets") or []), data.get("text_file")] if isinstance(data, dict) else []
    # Training PRO's files and those of the WebUI's own tab
    found += [parameters.get("dataset"), parameters.get("raw_text_file")]
    names = [PurePath(str(entry)).name for entry in found if entry and entry != "None"]
    return ", ".join(dict.fromkeys(names))


class _Diary:
    """Events of a file, looked up from its end."""

    def __init__(self, path: Path) -> None:
        try:
            with path.open("rb") as file:
                # an empty file cannot be mapped
                self._data: Any = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if file.seek(0, 2) else b""
        except OSError:
            self._data = b""
        self._end = self._data.rfind(b"\n") + 1

    def close(self) -> None:
        """Let go of the file: where it is open, Windows does not let it be deleted."""
        if not isinstance(self._data, bytes):
            self._data.close()

    def last(self, kind: str, begin: int = 0, end: int | None = None) -> tuple[dict[str, Any], int] | None:
        """The last event of a kind ("" = of any) between two offsets, and where its line begins."""
        end = self._end if end is None else end
        mark = f'"event": "{kind}"'.encode() if kind else b'"event": "'
        while True:
            place = self._data.rfind(mark, begin, end)
            if place < 0:
                return None
            first = self._data.rfind(b"\n", begin, place) + 1 or begin
            try:
                event = json.loads(self._data[first : self._data.find(b"\n", place)])
            except ValueError:
                event = None
            if isinstance(event, dict) and (not kind or event.get("event") == kind):
                return event, first
            end = first
            if end <= begin:
                return None

    def event(self, kind: str, begin: int) -> dict[str, Any]:
        """The last event of a kind behind an offset, or an empty one."""
        found = self.last(kind, begin)
        return found[0] if found else {}

    def until(self, kind: str, step: float, begin: int, end: int | None) -> dict[str, Any]:
        """The last event of a kind between two offsets that belongs to a step or to one before it; or an empty one."""
        while found := self.last(kind, begin, end):
            if found[0].get("step", 0) <= step:
                return found[0]
            end = found[1]
        return {}
