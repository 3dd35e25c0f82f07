"""The diary: lines that are whole are read once each, whatever a crash or a writer in the middle left."""

import json
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from training_pro.runs.events import EventWriter, read_events


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "events.jsonl"


def kinds(path: Path, offset: int = 0) -> list[str]:
    return [event["event"] for event in read_events(path, offset)[0]]


def test_events_come_back(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training_pro.runs.events.time.time", lambda: 12.34567)
    emit = EventWriter(path)
    emit("step", step=1, loss=0.5, where=Path("x"))
    emit("message", text="größer\u2028\n")
    assert path.read_text(encoding="utf-8").startswith('{"t": 12.346, "event": "step", "step": 1, "loss": 0.5, "where": "x"}\n')
    events, offset = read_events(path)
    assert events[1] == {"t": 12.346, "event": "message", "text": "größer\u2028\n"}
    assert offset == path.stat().st_size


def test_each_call_reads_what_is_new(path: Path) -> None:
    emit = EventWriter(path)
    emit("a")
    events, offset = read_events(path)
    assert [event["event"] for event in events] == ["a"]
    assert read_events(path, offset) == ([], offset)
    emit("b")
    emit("c")
    assert kinds(path, offset) == ["b", "c"]


def test_no_diary(path: Path) -> None:
    assert read_events(path) == ([], 0)
    assert read_events(path, 7) == ([], 7)


def test_a_line_that_is_still_being_written_waits(path: Path) -> None:
    whole, half = b'{"event": "a"}\n', '{"event": "b", "text": "größ'.encode()
    path.write_bytes(whole + half[:-1])  # in the middle of a letter
    events, offset = read_events(path)
    assert ([event["event"] for event in events], offset) == (["a"], len(whole))
    path.write_bytes(whole + half + b'er"}\n')
    assert read_events(path, offset)[0] == [{"event": "b", "text": "größer"}]


@pytest.mark.parametrize("damaged", [b'{"event": "x"', b"\xff\xfe", b"[1]", b'{"no": 1}', b"", b"null", b'"event"'])
def test_a_damaged_line_costs_itself_only(path: Path, damaged: bytes) -> None:
    path.write_bytes(b'{"event": "a"}\n' + damaged + b'\n{"event": "b"}\n')
    assert kinds(path) == ["a", "b"]


def test_a_diary_goes_on_after_a_crash(path: Path) -> None:
    path.write_bytes(b'{"event": "a"}\n{"event": "st')
    emit = EventWriter(path)
    emit("run_started")
    assert kinds(path) == ["a", "run_started"]
    EventWriter(path)("step")
    assert path.read_bytes().count(b"\n") == 4  # a line break is added only where one is missing


def test_numbers_that_json_does_not_have(path: Path) -> None:
    EventWriter(path)("step", loss=float("nan"), more={"a": [float("inf"), 1.5, (float("-inf"), "x")]}, n=3)
    event = json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(f"{name} in the file"))
    assert (event["loss"], event["more"], event["n"]) == (None, {"a": [None, 1.5, [None, "x"]]}, 3)


def test_without_a_path_nothing_is_written() -> None:
    emit = EventWriter(None)
    emit("step")
    emit.close()


def test_after_the_end_events_are_dropped(path: Path) -> None:
    emit = EventWriter(path)
    emit("a")
    emit.close()
    emit("b")
    emit.close()
    assert kinds(path) == ["a"]


def test_several_threads_write_whole_lines(path: Path) -> None:
    emit = EventWriter(path)
    threads = [threading.Thread(target=lambda n=n: [emit("x", text=str(n) * 300) for _ in range(50)]) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    texts = [event["text"] for event in read_events(path)[0]]
    assert len(texts) == 200
    assert {text: texts.count(text) for text in texts} == {str(n) * 300: 50 for n in range(4)}


LINES = st.sampled_from(
    [
        b'{"event": "a", "n": 1}',
        b'{"event": "b", "t": "x\\ny"}',
        b"",
        b"{",
        b"3",
        b'{"n": 2}',
        b'{"event": 1},{"event": 2}',
        b"\xff",
        b"[]",
        b"null",
    ]
)


@given(st.lists(LINES, max_size=8))
def test_read_at_once_equals_line_by_line(tmp_path_factory: pytest.TempPathFactory, lines: list[bytes]) -> None:
    path = tmp_path_factory.mktemp("diary") / "events.jsonl"
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    expected = []
    for line in lines:
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict) and "event" in event:
            expected.append(event)
    assert read_events(path)[0] == expected
