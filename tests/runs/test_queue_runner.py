"""Who works on the queue: what begins when, what waits with a word, what an entry's end leaves."""

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from began import begin_run
from training_pro.config import RunConfig
from training_pro.runs import queue_runner, registry
from training_pro.runs.events import EventWriter
from training_pro.runs.queue import DONE, FAILED, RUNNING, WAITING, Entry, Owner, Queue
from training_pro.runs.queue_runner import Place, QueueRunner, end_of, ensure_runner, stop_runner
from training_pro.runs.registry import RunBusyError, RunHandle
from training_pro.runs.state import process_start_time
from training_pro.runs.store import RunFolder, write_json


class Works:
    """A place that trains nothing: a run begins its diary and ends when the test says so."""

    def __init__(self, adapters: Path) -> None:
        self.adapters = adapters
        self.words = ""
        self.error: Exception | None = None
        self.launched: list[str] = []
        self.diary: EventWriter | None = None
        self.queue = Queue(adapters)
        self.runner = QueueRunner(Place(lambda: self.adapters, self.launch, lambda config, model: self.words))

    def launch(self, config: RunConfig) -> RunHandle:
        if self.error:
            raise self.error
        handle, folder = begin_run(self.adapters, config)
        self.diary = EventWriter(folder.events)
        self.diary("run_started", name=handle.name, pid=os.getpid(), process_started=process_start_time())
        self.launched.append(config.adapter.name)
        return handle

    def end(self, status: str = "finished", message: str = "The training is finished.") -> None:
        assert self.diary
        self.diary("run_ended", status=status, message=message, remedy="")
        self.diary.close()
        registry.release()

    def add(self, name: str, **changes: Any) -> Entry:
        data = self.adapters.parent / "data.jsonl"
        data.write_text("{}")
        options = {key: changes.pop(key) for key in ("model", "start_at") if key in changes}
        config = {"adapter": {"name": name}, "data": {"dataset": str(data)}, **changes}
        return self.queue.add(name, RunConfig.from_dict(config).to_dict() if not changes else config, **options)

    def states(self) -> list[str]:
        return [entry.state for entry in self.queue.read().entries]

    def first(self) -> Entry:
        return self.queue.read().entries[0]


@pytest.fixture
def works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Works]:
    monkeypatch.setattr(registry, "_current", None)
    yield Works(tmp_path / "loras")
    registry.release()


def test_one_after_another(works: Works) -> None:
    works.runner.tick()
    assert not works.adapters.exists()
    works.add("a")
    works.add("b")
    works.runner.tick()
    assert (works.launched, works.states()) == (["a"], [RUNNING, WAITING])
    works.runner.tick()
    assert works.launched == ["a"]
    works.end()
    works.runner.tick()
    assert (works.launched, works.states()) == (["a", "b"], [DONE, RUNNING])
    assert works.first().error == "The training is finished."
    works.end("interrupted", "Interrupted by the user.")
    works.runner.tick()
    assert works.states() == [DONE, DONE]


def test_not_before_its_time_while_others_go_first(works: Works, monkeypatch: pytest.MonkeyPatch) -> None:
    works.add("late", start_at=time.time() + 3600)
    works.add("soon")
    works.runner.tick()
    assert works.launched == ["soon"]
    works.end()
    works.runner.tick()
    assert works.states() == [WAITING, DONE]
    later = time.time() + 3601
    monkeypatch.setattr(queue_runner.time, "time", lambda: later)
    works.runner.tick()
    assert works.launched == ["soon", "late"]


def test_what_hinders_it_is_said_and_it_keeps_its_place(works: Works) -> None:
    works.add("a")
    works.words = "It waits. No model is loaded."
    works.runner.tick()
    assert (works.first().state, works.first().word) == (WAITING, "It waits. No model is loaded.")
    works.words = ""
    works.runner.tick()
    assert (works.first().state, works.first().word) == (RUNNING, "")


def test_a_failure_is_written_down_and_the_next_begins(works: Works) -> None:
    works.add("a")
    works.add("b")
    works.error = ValueError("Data set: 3 of 3 rows are broken.")
    works.runner.tick()
    assert (works.first().state, works.first().error) == (FAILED, "Data set: 3 of 3 rows are broken.")
    works.error = None
    works.runner.tick()
    assert works.launched == ["b"]
    works.end("failed", "The loss is no number at step 3.")
    works.runner.tick()
    assert [entry.error for entry in works.queue.read().entries] == [
        "Data set: 3 of 3 rows are broken.",
        "The loss is no number at step 3.",
    ]


def test_the_next_one_waits_where_the_user_wants_that(works: Works) -> None:
    works.add("a")
    works.add("b")
    works.queue.go_on_after_failures(False)
    works.error = ValueError("no")
    works.runner.tick()
    works.error = None
    works.runner.tick()
    assert works.launched == []
    works.queue.pause(False)
    works.runner.tick()
    assert works.launched == ["b"]


def test_settings_and_folder_are_looked_at_again_at_the_start(works: Works) -> None:
    works.add("a", data={"dataset": "/nowhere/x.jsonl"})
    works.add("taken")
    (works.adapters / "taken").mkdir()
    (works.adapters / "taken" / "adapter_model.safetensors").touch()
    works.runner.tick()
    works.runner.tick()
    errors = [entry.error for entry in works.queue.read().entries]
    assert "There is no such file or folder" in errors[0]
    assert "there is an adapter or run called 'taken' already" in errors[1]
    assert works.states() == [FAILED, FAILED]


def test_an_unexpected_error_is_a_failure_too(works: Works) -> None:
    works.add("a")
    works.error = KeyError("odd")
    works.runner.tick()
    assert "Unexpected error: KeyError: 'odd'" in works.first().error


def test_a_run_that_began_meanwhile(works: Works) -> None:
    works.add("a")
    works.error = RunBusyError("The run 'x' is going on.")
    works.runner.tick()
    assert (works.first().state, works.first().word) == (WAITING, "The run 'x' is going on.")


def test_a_run_of_this_process_that_was_started_by_hand(works: Works) -> None:
    works.add("a")
    registry.claim("by-hand")
    works.runner.tick()
    assert works.states() == [WAITING]
    registry.release()
    works.runner.tick()
    assert works.states() == [RUNNING]


def test_a_run_of_another_process_in_the_same_folder(works: Works) -> None:
    import os

    import psutil

    works.add("a")
    other = RunFolder(works.adapters / "headless")
    other.path.mkdir()
    write_json(other.parameters, {})
    diary = EventWriter(other.events)
    diary("run_started", name="headless", pid=os.getppid(), process_started=psutil.Process(os.getppid()).create_time())
    works.runner.tick()
    assert (works.first().state, works.first().word) == (WAITING, "It waits for the end of headless.")
    diary("run_ended", status="finished")
    diary.close()
    works.runner.tick()
    assert works.first().state == RUNNING


def test_a_paused_queue_begins_nothing(works: Works) -> None:
    works.add("a")
    works.queue.pause(True)
    works.runner.tick()
    assert works.states() == [WAITING]


def test_another_process_works_on_it(works: Works) -> None:
    import os

    import psutil

    works.add("a")
    parent = os.getppid()
    works.queue.own(Owner(parent, psutil.Process(parent).create_time(), Owner.me().machine, time.time()))
    works.runner.tick()
    assert works.states() == [WAITING]


def test_a_damaged_file_is_told_once(works: Works, caplog: pytest.LogCaptureFixture) -> None:
    works.adapters.mkdir()
    works.queue.path.write_text("{")
    works.runner.tick()
    works.runner.tick()
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "is damaged" in caplog.text


def test_an_unexpected_fault_does_not_end_the_thread(works: Works, caplog: pytest.LogCaptureFixture) -> None:
    works.runner.place = Place(lambda: 1 / 0, works.launch, lambda config, model: "")  # type: ignore[arg-type,return-value]
    works.runner.tick()
    works.runner.tick()
    assert [record.message for record in caplog.records] == ["The queue cannot be worked on: division by zero"]
    assert "ZeroDivisionError" in caplog.text


def test_a_run_without_a_last_word_has_failed(tmp_path: Path) -> None:
    handle = RunHandle("a", error="out of luck")
    assert end_of(handle) == (FAILED, "out of luck")
    handle.folder, handle.error = RunFolder(tmp_path / "none"), ""
    assert end_of(handle)[0] == FAILED
    assert "without a word" in end_of(handle)[1]


def test_one_thread_for_all_pages(works: Works) -> None:
    place = works.runner.place
    try:
        first = ensure_runner(place, seconds=0.01)
        assert ensure_runner(place, seconds=0.01) is first
        assert [thread.name for thread in threading.enumerate()].count("training queue") == 1
        works.add("a")
        deadline = time.monotonic() + 60
        while not works.launched and time.monotonic() < deadline:
            time.sleep(0.01)
        assert works.launched == ["a"]
    finally:
        stop_runner()
    assert "training queue" not in [thread.name for thread in threading.enumerate()]
