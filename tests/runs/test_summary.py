"""A run in a line: equal to what the whole diary says."""

import json
import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from training_pro.runs.events import EventWriter
from training_pro.runs.state import DIED, RUNNING, read_state
from training_pro.runs.store import RunFolder, write_json
from training_pro.runs.summary import RunList, data_words, other_process, summarize


def write(folder: Path, events: list[tuple[str, dict[str, Any]]]) -> RunFolder:
    folder.mkdir(parents=True, exist_ok=True)
    run = RunFolder(folder)
    writer = EventWriter(run.events)
    for kind, fields in events:
        writer(kind, **fields)
    writer.close()
    return run


def start(resumed: int | None = None) -> tuple[str, dict[str, Any]]:
    return "run_started", {
        "name": "a",
        "pid": os.getppid(),  # another one that lives
        "process_started": psutil.Process(os.getppid()).create_time(),
        "resumed_from_step": resumed,
    }


def step(number: int) -> tuple[str, dict[str, Any]]:
    return "step", {"step": number, "epoch": number / 10, "loss": 3.0 - number / 100, "smoothed_loss": 3.5 - number / 100}


EVENTS = st.one_of(
    st.integers(0, 40).map(step),
    st.integers(0, 40).map(lambda number: ("evaluation", {"step": number, "loss": 2.0 + number})),
    st.integers(1, 99).map(lambda number: ("plan", {"num_steps": number})),
    st.sampled_from([start(), start(7), start(20)]),
    st.sampled_from(["finished", "interrupted", "failed"]).map(
        lambda status: ("run_ended", {"status": status, "message": status})
    ),
    st.just(("message", {"level": "info", "text": 'says "event": "step" and "event": "run_started"'})),
)


@given(st.lists(EVENTS, max_size=30))
def test_equals_the_whole_diary(tmp_path_factory: pytest.TempPathFactory, events: list[tuple[str, dict[str, Any]]]) -> None:
    run = write(tmp_path_factory.mktemp("run"), [start(), *events])
    state, found = read_state(run), summarize(run)
    assert (found.status, found.step, found.loss) == (
        state.status,
        state.last_step.get("step", 0),
        state.last_step.get("smoothed_loss"),
    )
    assert found.num_steps == state.plan.get("num_steps", 0)
    assert found.eval_loss == (state.evaluations[-1]["loss"] if state.evaluations else None)
    assert (found.message, found.started, found.updated) == (state.end.get("message", ""), state.started, state.updated)


def test_a_part_of_a_line_is_not_read(tmp_path: Path) -> None:
    run = write(tmp_path / "a", [start(), step(3)])
    with run.events.open("a", encoding="utf-8") as file:
        file.write('{"t": 1, "event": "step", "step": 99')
    assert summarize(run).step == 3


def test_a_folder_without_a_diary(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "old")
    run.path.mkdir()
    write_json(run.parameters, {"dataset": "chats", "raw_text_file": "None"})
    found = summarize(run)
    assert (found.status, found.data, found.has_adapter, found.step) == ("", "chats", False, 0)
    run.events.touch()
    assert summarize(run).status == ""


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        (None, ""),
        ({"data": {"dataset": "/x/a.jsonl", "text_file": "/y/b.txt", "more_datasets": ["/z/c.json"]}}, "a.jsonl, c.json, b.txt"),
        ({"data": {"dataset": "", "text_file": ""}}, ""),
        ({"data": None}, ""),
    ],
)
def test_data_words(parameters: Any, words: str) -> None:
    assert data_words(parameters) == words


def test_the_list_notices_what_changes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_json(write(tmp_path / name, [start(), step(1)]).parameters, {})
    runs = RunList()
    assert {run.name: (run.status, run.step) for run in runs.read(tmp_path)} == {"one": (RUNNING, 1), "two": (RUNNING, 1)}
    write(tmp_path / "one", [step(2), ("run_ended", {"status": "finished"})])
    found = runs.read(tmp_path)
    assert [(run.name, run.status, run.step) for run in found] == [("one", "finished", 2), ("two", RUNNING, 1)]


def test_a_process_that_is_gone(tmp_path: Path) -> None:
    gone = ("run_started", {"name": "a", "pid": 2**22 - 3, "process_started": 1.0, "resumed_from_step": None})
    run = write(tmp_path / "a", [gone, step(1)])
    assert summarize(run).status == DIED
    assert not summarize(run).is_unfinished  # without a checkpoint there is nothing to go on from
    checkpoint = run.path / "checkpoint-1"
    checkpoint.mkdir()
    write_json(checkpoint / "training_pro.json", {"cause": "epoch"})
    assert summarize(run).is_unfinished


def test_a_job_of_this_process_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = ("run_started", {"name": "a", "pid": os.getpid(), "process_started": 0.0, "resumed_from_step": None})
    run = write(tmp_path / "a", [own, step(1)])
    assert summarize(run).status == DIED
    monkeypatch.setattr("training_pro.runs.registry.is_busy", lambda: True)
    assert summarize(run).status == RUNNING


def test_a_long_diary_is_searched_from_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = write(tmp_path / "a", [start(), ("plan", {"num_steps": 3000})])
    line = json.dumps({"t": time.time(), "event": "step", "step": 1, "smoothed_loss": 1.0})
    with run.events.open("a", encoding="utf-8") as file:
        file.write(f"{line}\n" * 3000)
    parsed: list[bytes] = []
    counting = SimpleNamespace(loads=lambda data: parsed.append(data) or json.loads(data))  # other threads use json, too
    monkeypatch.setattr("training_pro.runs.summary.json", counting)
    assert (summarize(run).step, summarize(run).num_steps) == (1, 3000)
    assert len(parsed) < 20


def test_who_else_trains_there(tmp_path: Path) -> None:
    assert other_process(RunFolder(tmp_path / "none")) == 0
    run = write(tmp_path / "a", [start(), step(1)])
    assert other_process(run) == os.getppid()
    write(run.path, [("run_ended", {"status": "finished"})])
    assert other_process(run) == 0
    gone = ("run_started", {"name": "a", "pid": 2**22 - 3, "process_started": 1.0})
    assert other_process(write(tmp_path / "b", [gone])) == 0
    own = ("run_started", {"name": "a", "pid": os.getpid(), "process_started": 0.0})
    assert other_process(write(tmp_path / "c", [own])) == 0
