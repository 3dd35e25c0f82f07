"""The state of a run from its diary: every status, resumes, and processes that died."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
from training_pro.runs import state as module
from training_pro.runs.events import EventWriter
from training_pro.runs.state import (
    DIED,
    FAILED,
    FINISHED,
    INTERRUPTED,
    RUNNING,
    RunReader,
    RunState,
    apply_event,
    phase_stretches,
    process_is_alive,
    process_start_time,
    read_state,
)
from training_pro.runs.store import RunFolder

OURS = {"pid": os.getpid(), "process_started": process_start_time()}


def event(kind: str, t: float = 5.0, **fields: Any) -> dict[str, Any]:
    return {"event": kind, "t": t, **fields}


def after(*events: dict[str, Any]) -> RunState:
    state = RunState()
    for entry in events:
        apply_event(state, entry)
    return state


START = event("run_started", t=1.0, name="veltmor", **OURS, resumed_from_step=None)


def test_before_the_first_event(tmp_path: Path) -> None:
    state = read_state(RunFolder(tmp_path / "veltmor"))
    assert (state.name, state.status, state.is_live, state.last_step) == ("veltmor", "", False, {})


def test_a_run_in_numbers() -> None:
    plan, report = event("plan", num_steps=2), {"num_samples": 3}
    steps = [event("step", t=2.0, step=1, loss=1.0), event("step", t=3.0, step=2, loss=0.5)]
    others = [event(kind, step=2) for kind in ("evaluation", "checkpoint", "message", "sample", "phase", "understanding")]
    stage = event("stage", t=4.0, stage="saving", detail="adapter")
    state = after(START, plan, event("prepared", report=report), *steps, *others, stage)
    assert (state.status, state.is_live, state.started, state.updated) == (RUNNING, True, 1.0, 4.0)
    assert (state.plan, state.report, state.steps, state.last_step) == (plan, report, steps, steps[-1])
    lists = [state.evaluations, state.checkpoints, state.messages, state.samples, state.phases, state.understanding]
    assert lists == [[other] for other in others]
    assert (state.stage, state.detail, state.pid) == ("saving", "adapter", os.getpid())


def test_the_share_of_a_stage_is_that_of_the_last_one() -> None:
    reading = event("stage", stage="preparing", detail="a.jsonl: 100 rows", share=0.25)
    assert after(START, reading).share == 0.25
    assert after(START, reading, event("stage", stage="training", detail="")).share is None


def test_the_table_of_the_phases() -> None:
    assert after(START, event("phase_table", rows=[{"phase": "length"}])).phase_table == [{"phase": "length"}]
    assert after(START, event("phase_table", rows=[{"phase": "length"}]), START).phase_table == []


def test_stretches_of_phases() -> None:
    def phase(step: int, stage: int) -> dict[str, Any]:
        return event("phase", step=step, epoch=step / 2, phase=str(stage), stage=stage)

    taken = [event("step", step=number, epoch=number / 2) for number in (1, 2, 3, 4)]
    state = after(START, phase(0, 0), *taken[:3], phase(2, 1), phase(2, 1), taken[3], phase(4, 2))
    found = [(begin["stage"], begin["step"], end["step"], end["epoch"]) for begin, end in phase_stretches(state)]
    assert found == [(0, 0, 2, 1.0), (1, 2, 4, 2.0)]  # the third was about to begin
    assert phase_stretches(after(START, phase(0, 0))) == []


@pytest.mark.parametrize("status", [FINISHED, INTERRUPTED, FAILED])
def test_every_end(status: str) -> None:
    end = event("run_ended", status=status, message="why")
    state = after(START, end)
    assert (state.status, state.end, state.is_live) == (status, end, False)


def test_an_end_without_a_status_is_a_failure() -> None:
    assert after(START, event("run_ended")).status == FAILED


def test_unknown_events_only_tell_the_time() -> None:
    assert vars(after(START, event("later_kind", t=9.0))) == {**vars(after(START)), "updated": 9.0}


def steps(*numbers: int, kind: str = "step") -> list[dict[str, Any]]:
    return [event(kind, step=number) for number in numbers]


def test_a_resumed_run_keeps_the_steps_it_builds_on() -> None:
    first = [
        *steps(1, 2, 3, 4, 5),
        *steps(2, 4, kind="evaluation"),
        *steps(3, 5, kind="checkpoint"),
        *steps(0, 3, 4, kind="phase"),
        *steps(0, 2, 4, kind="understanding"),
        event("message", text="old"),
    ]
    end = event("run_ended", status=INTERRUPTED)
    state = after(START, *first, end, {**START, "t": 50.0, "resumed_from_step": 3}, *steps(4))
    assert [entry["step"] for entry in state.steps] == [1, 2, 3, 4]
    assert [entry["step"] for entry in state.evaluations] == [2]
    assert [entry["step"] for entry in state.checkpoints] == [3]
    assert [entry["step"] for entry in state.phases] == [0, 3]
    assert [entry["step"] for entry in state.understanding] == [0, 2]
    assert (state.messages, state.end, state.status, state.started) == ([], {}, RUNNING, 50.0)


def test_a_run_resumed_from_its_beginning_keeps_no_step() -> None:
    assert after(START, *steps(1, 2), {**START, "resumed_from_step": 0}).steps == []


def test_another_start_begins_anew() -> None:
    state = after(START, *steps(1, 2), event("run_ended", status=FINISHED), event("prepared", report={"a": 1}), START, *steps(1))
    assert ([entry["step"] for entry in state.steps], state.report, state.status) == ([1], {}, RUNNING)


# --- processes -----------------------------------------------------------------------------------------------------------------


def test_this_process_is_alive() -> None:
    assert process_is_alive(**{"pid": os.getpid(), "started": process_start_time()})
    assert process_is_alive(os.getpid(), 0.0)  # a diary that does not say when


def test_another_process_with_our_number_was_not_us() -> None:
    """In a container every start has the same number."""
    assert not process_is_alive(os.getpid(), process_start_time() - 3600)


def test_a_process_that_ended() -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    started = psutil.Process(process.pid).create_time()
    assert process_is_alive(process.pid, started)
    assert not process_is_alive(process.pid, started - 3600)
    process.communicate(b"\n")
    assert not process_is_alive(process.pid, started)


def test_the_start_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    assert process_start_time() == psutil.Process().create_time()

    def refuse() -> None:
        raise psutil.AccessDenied

    monkeypatch.setattr(psutil, "Process", refuse)
    monkeypatch.setattr(module.time, "time", lambda: 7.0)
    assert process_start_time() == 7.0


# --- following a diary ---------------------------------------------------------------------------------------------------------


def test_a_reader_takes_in_only_what_is_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = RunFolder(tmp_path)
    emit, reader = EventWriter(folder.events), RunReader(folder)
    emit("run_started", name="x", **OURS)
    emit("step", step=1)
    assert [entry["step"] for entry in reader.read().steps] == [1]
    seen: list[str] = []
    monkeypatch.setattr(module, "apply_event", lambda state, entry: seen.append(entry["event"]))
    emit("step", step=2)
    reader.read()
    reader.read()
    assert seen == ["step"]


def test_a_run_whose_process_died(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    process = subprocess.Popen([sys.executable, "-c", ""])
    started = psutil.Process(process.pid).create_time()
    process.wait()
    emit = EventWriter(folder.events)
    emit("run_started", name="x", pid=process.pid, process_started=started)
    emit("step", step=1)
    state = read_state(folder)
    assert (state.status, state.is_live, len(state.steps)) == (DIED, False, 1)
    emit("run_started", name="x", **OURS, resumed_from_step=1)  # it is resumed in this process
    assert read_state(folder).status == RUNNING


def test_a_reader_sees_a_died_run_come_back(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    emit = EventWriter(folder.events)
    emit("run_started", name="x", pid=os.getpid(), process_started=process_start_time() - 3600)
    reader = RunReader(folder)
    assert reader.read().status == DIED
    emit("run_started", name="x", **OURS)
    assert reader.read().status == RUNNING
    emit("run_ended", status=FINISHED)
    assert reader.read().status == FINISHED


def test_a_run_that_died_while_it_wrote_can_be_resumed(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.events.write_text(json.dumps({**START, "process_started": 1.0}) + '\n{"event": "st', encoding="utf-8")
    assert read_state(folder).status == DIED
    EventWriter(folder.events)("run_started", name="x", **OURS, resumed_from_step=0)
    assert read_state(folder).status == RUNNING
