"""The state of a run, computed from its diary: what the page, the command line and the list of runs show."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from typing import Any

from .events import read_events
from .store import RunFolder

RUNNING, FINISHED, INTERRUPTED, FAILED, DIED = "running", "finished", "interrupted", "failed", "died"
DISCARDED = "discarded"


@dataclass
class RunState:
    """Where a run is. Lists grow as the diary does.

    Attributes:
        status: running, finished, interrupted, failed, discarded, died, or "" before the first event.
        stage: what it is doing, in words; ``detail`` says more, ``share`` how much of it is done (0 to 1), where that is known.
        steps: all step events since the (last) start; evaluations, checkpoints, phases, messages, samples likewise.
        understanding: measurements of context understanding (see evaluation.understanding).
        phase_table: the phases in numbers, as they were at the end (see evaluation.phase_table).
        diagnosis: what the curves showed at the end: kind, words, advice (see evaluation.diagnosis).
        controls: what the user asked for while it ran: the newest value of each control.
        is_paused: it waits between two steps until the user lets it go on.
        paused_seconds: how long it has waited so in this start, not counting a pause that still lasts.
        log: everything that is told line by line, of all starts that a resumed run builds on (see LOGGED).
    """

    name: str = ""
    status: str = ""
    stage: str = ""
    detail: str = ""
    share: float | None = None
    started: float = 0.0
    updated: float = 0.0
    pid: int = 0
    process_started: float = 0.0
    report: dict[str, Any] = field(default_factory=dict)
    plan: dict[str, Any] = field(default_factory=dict)
    steps: list[dict[str, Any]] = field(default_factory=list)
    evaluations: list[dict[str, Any]] = field(default_factory=list)
    checkpoints: list[dict[str, Any]] = field(default_factory=list)
    phases: list[dict[str, Any]] = field(default_factory=list)
    messages: list[dict[str, Any]] = field(default_factory=list)
    samples: list[dict[str, Any]] = field(default_factory=list)
    understanding: list[dict[str, Any]] = field(default_factory=list)
    phase_table: list[dict[str, Any]] = field(default_factory=list)
    diagnosis: list[dict[str, Any]] = field(default_factory=list)
    controls: dict[str, Any] = field(default_factory=dict)
    is_paused: bool = False
    paused_seconds: float = 0.0
    log: list[dict[str, Any]] = field(default_factory=list)
    end: dict[str, Any] = field(default_factory=dict)

    @property
    def last_step(self) -> dict[str, Any]:
        """The newest step event, or an empty one."""
        return self.steps[-1] if self.steps else {}

    @property
    def is_live(self) -> bool:
        """Whether the run is going on."""
        return self.status == RUNNING


_LISTS = {
    "step": "steps",
    "evaluation": "evaluations",
    "checkpoint": "checkpoints",
    "message": "messages",
    "sample": "samples",
    "phase": "phases",
    "understanding": "understanding",
}
_KEPT = ("steps", "evaluations", "checkpoints", "phases", "samples", "understanding")  # by a resumed run
LOGGED = frozenset(
    ("run_started", "stage", "message", "phase", "evaluation", "checkpoint", "control", "paused", "unpaused", "run_ended")
)


def apply_event(state: RunState, event: dict[str, Any]) -> None:
    """Let one event change the state."""
    kind = event["event"]
    state.updated = event.get("t", state.updated)
    if kind == "run_started":
        _restart(state, event)
    elif kind in _LISTS:
        getattr(state, _LISTS[kind]).append(event)
    elif kind == "stage":
        state.stage, state.detail, state.share = event.get("stage", ""), event.get("detail", ""), event.get("share")
    elif kind == "prepared":
        state.report = event.get("report", {})
    elif kind == "plan":
        state.plan = event
    elif kind == "phase_table":
        state.phase_table = event.get("rows", [])
    elif kind == "diagnosis":
        state.diagnosis = event.get("findings", [])
    elif kind == "control":
        state.controls[str(event.get("name"))] = event.get("value")
    elif kind in ("paused", "unpaused"):
        state.is_paused = kind == "paused"
        state.paused_seconds += event.get("seconds") or 0.0
    elif kind == "run_ended":
        state.status, state.end, state.is_paused = event.get("status", FAILED), event, False
    if kind in LOGGED and event.get("share") is None:  # how far the reading of the data is, is no line
        state.log.append(event)


def _restart(state: RunState, event: dict[str, Any]) -> None:
    """A new start in the same folder: a resumed run keeps the steps it builds on, another start begins anew."""
    resumed = event.get("resumed_from_step")
    kept = {name: getattr(state, name) for name in _KEPT} if resumed is not None else {}
    log = state.log if resumed is not None else []
    fresh = RunState(name=event.get("name", ""), status=RUNNING, started=event.get("t", 0.0), updated=event.get("t", 0.0))
    fresh.pid, fresh.process_started = event.get("pid", 0), event.get("process_started", 0.0)
    state.__dict__.update(fresh.__dict__)
    state.log = log
    for name, entries in kept.items():
        setattr(state, name, [entry for entry in entries if entry.get("step", 0) <= resumed])
    # what was the end of the former start is on the way now
    state.samples = [{**entry, "when": "step"} if entry.get("when") == "after" else entry for entry in state.samples]


def phase_stretches(state: RunState) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """The phases that were trained: the event with which each began, and where it ended (``step`` and ``epoch``).

    A phase that was about to begin when the run ended is none of them.
    """
    last = state.last_step
    began: list[dict[str, Any]] = []
    for event in state.phases:
        is_another = not began or event["stage"] != began[-1]["stage"]
        if is_another and last and event["step"] < last["step"]:
            began.append(event)
    ends = [*began[1:], {"step": last.get("step", 0), "epoch": last.get("epoch", 0.0)}]
    return list(zip(began, ends, strict=False))


def process_is_alive(pid: int, started: float) -> bool:
    """Whether the process that wrote the diary still runs (not another one with its number)."""
    if pid == os.getpid() and not started:
        return True
    import psutil

    try:
        return abs(psutil.Process(pid).create_time() - started) < 2.0
    except psutil.Error:
        return False


def process_start_time() -> float:
    """When this process started, in seconds since the epoch."""
    import psutil

    try:
        return float(psutil.Process().create_time())
    except psutil.Error:
        return time.time()


class RunReader:
    """Follows a run's diary; each :meth:`read` takes in only what is new."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self._offset = 0
        self._state = RunState(name=folder.name)

    def read(self) -> RunState:
        """The state now."""
        events, self._offset = read_events(self.folder.events, self._offset)
        for event in events:
            apply_event(self._state, event)
        if self._state.status == RUNNING and not process_is_alive(self._state.pid, self._state.process_started):
            self._state.status = DIED
        return self._state


def read_state(folder: RunFolder) -> RunState:
    """The state of a run, read from the start of its diary."""
    return RunReader(folder).read()
