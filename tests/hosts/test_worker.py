"""The one background run of a process: problems at once, one at a time, and the lock free again however it ends."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import tiny
import trials
from training_pro.config.problems import ConfigError
from training_pro.hosts.engine import import_engine, model_lock
from training_pro.hosts.worker import start_run
from training_pro.runs import registry
from training_pro.runs.control import change_control
from training_pro.runs.registry import RunBusyError
from training_pro.runs.state import read_state


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No picture is drawn, and no test leaves a run behind."""
    monkeypatch.setattr("training_pro.matplotgraph.draw_graph", trials.no_picture)
    yield
    handle = registry.latest()
    if handle and handle.thread:
        handle.thread.join(60)
    assert not registry.is_busy()
    assert not model_lock.locked()


def loaded() -> Any:
    return tiny.model(), tiny.fresh_tokenizer()


def wait_for(handle: Any) -> Any:
    handle.thread.join(120)
    assert not handle.is_alive
    return read_state(handle.folder)


def test_it_returns_when_the_folder_is_open_and_trains_on(tmp_path: Path) -> None:
    go = threading.Event()

    def load() -> Any:
        assert go.wait(60)
        return loaded()

    handle = start_run(trials.settings(tmp_path, training={"epochs": 1}), load)
    assert handle.is_alive
    assert registry.is_busy()
    assert handle.folder is not None
    assert handle.folder.path == tmp_path / "loras/trial"
    go.set()
    assert wait_for(handle).status == "finished"
    assert (handle.error, registry.is_busy(), registry.latest()) == ("", False, handle)


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"training": {"epochs": 0}}, ConfigError, "Epochs"),
        ({"adapter": {"name": "a/b"}}, ConfigError, "Name"),
        ({"adapter": {"if_exists": "resume"}}, ValueError, "there is nothing to resume"),
        ({"adapter": {"if_exists": "continue"}}, ValueError, "there is no adapter to continue"),
    ],
)
def test_problems_are_raised_at_once(tmp_path: Path, changes: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        start_run(trials.settings(tmp_path, **changes), loaded)
    assert not registry.is_busy()


def test_a_name_that_exists_is_a_problem_at_once(tmp_path: Path) -> None:
    config = trials.settings(tmp_path, training={"epochs": 1})
    wait_for(start_run(config, loaded))
    with pytest.raises(ValueError, match="there is an adapter or run called 'trial' already"):
        start_run(config, loaded)
    again = start_run(trials.settings(tmp_path, adapter={"if_exists": "new name"}, training={"epochs": 1}), loaded)
    assert again.name == "trial-2"
    assert wait_for(again).status == "finished"


def test_a_folder_that_cannot_be_made_is_a_problem_at_once(tmp_path: Path) -> None:
    (tmp_path / "loras").mkdir()
    (tmp_path / "loras/trial").write_text("a file")
    with pytest.raises(ValueError, match="trial is a file"):
        start_run(trials.settings(tmp_path), loaded)
    assert not registry.is_busy()


def test_only_one_at_a_time(tmp_path: Path) -> None:
    go = threading.Event()

    def load() -> Any:
        assert go.wait(60)
        return loaded()

    first = start_run(trials.settings(tmp_path, adapter={"name": "first"}), load)
    with pytest.raises(RunBusyError, match="The run 'first' is going on"):
        start_run(trials.settings(tmp_path, adapter={"name": "second"}), loaded)
    assert not (tmp_path / "loras/second").exists()
    change_control(first.folder.control, stop=True)  # type: ignore[union-attr]
    go.set()
    assert wait_for(first).status == "interrupted"
    assert (
        wait_for(start_run(trials.settings(tmp_path, adapter={"name": "second"}, training={"epochs": 1}), loaded)).status
        == "finished"
    )


def test_a_run_that_fails_later_says_so_in_its_folder(tmp_path: Path) -> None:
    handle = start_run(trials.settings(tmp_path, adapter={"targets": ["nothing"]}), loaded)
    state = wait_for(handle)
    assert state.status == "failed"
    assert "no linear module called 'nothing'" in state.end["message"]
    assert handle.error == ""
    assert not registry.is_busy()


def test_a_mistake_of_ours_is_on_the_handle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(self: Any) -> None:
        raise SystemError("a mistake")

    monkeypatch.setattr(import_engine()._Run, "run", broken)
    handle = start_run(trials.settings(tmp_path), loaded)
    handle.thread.join(60)
    assert handle.error == "a mistake"
    assert "a mistake" in caplog.text
    assert not registry.is_busy()


def test_the_hosts_frame_is_left_however_it_ends(tmp_path: Path) -> None:
    inside: list[str] = []

    @contextmanager
    def around() -> Iterator[None]:
        inside.append("in")
        try:
            yield
        finally:
            inside.append("out")

    wait_for(start_run(trials.settings(tmp_path, training={"epochs": 1}), loaded, around=around))
    wait_for(start_run(trials.settings(tmp_path, adapter={"name": "other", "targets": ["nothing"]}), loaded, around=around))
    with pytest.raises(ValueError, match="already"):
        start_run(trials.settings(tmp_path), loaded, around=around)
    assert inside == ["in", "out"] * 3


def test_a_frame_that_refuses_is_a_problem_at_once(tmp_path: Path) -> None:
    @contextmanager
    def around() -> Iterator[None]:
        raise ValueError("Model: it is busy")
        yield

    with pytest.raises(ValueError, match="it is busy"):
        start_run(trials.settings(tmp_path), loaded, around=around)
    assert not (tmp_path / "loras").exists()
    assert not registry.is_busy()


def test_when_there_are_no_more_threads_the_lock_is_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            start_run(trials.settings(tmp_path), loaded)
    assert not registry.is_busy()


def test_a_model_that_cannot_be_loaded(tmp_path: Path) -> None:
    def load() -> Any:
        raise ValueError("Model: the folder is empty.")

    state = wait_for(start_run(trials.settings(tmp_path), load))
    assert (state.status, state.end["message"]) == ("failed", "Model: the folder is empty.")
