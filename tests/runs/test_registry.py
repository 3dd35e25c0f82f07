"""One job at a time in a process, and a handle on it for pages that come later."""

import contextlib
import threading
from collections.abc import Iterator

import pytest
from training_pro.runs import registry
from training_pro.runs.registry import RunBusyError, RunHandle, claim, is_busy, latest, release


@pytest.fixture(autouse=True)
def _leave_it_free() -> Iterator[None]:
    assert not is_busy()
    yield
    release()


def test_one_at_a_time() -> None:
    handle = claim("veltmor")
    assert (handle.name, handle.folder, handle.error, is_busy()) == ("veltmor", None, "", True)
    with pytest.raises(
        RunBusyError, match="The run 'veltmor' is going on. Wait for its end or press Stop and keep; two cannot share"
    ):
        claim("other")
    assert latest() is handle
    release()
    assert (is_busy(), latest()) == (False, handle)
    assert claim("other") is latest()


def test_busy_without_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    claim("x")
    monkeypatch.setattr(registry, "_current", None)
    with pytest.raises(RunBusyError, match="The run 'another run' is going on"):
        claim("y")


def test_releasing_twice_is_no_error() -> None:
    claim("x")
    release()
    release()
    assert not is_busy()


def test_a_job_may_end_in_another_thread() -> None:
    claim("x")
    thread = threading.Thread(target=release)
    thread.start()
    thread.join()
    assert not is_busy()


def test_only_one_of_many_threads_wins() -> None:
    won: list[str] = []
    barrier = threading.Barrier(8)

    def race(name: str) -> None:
        barrier.wait()
        with contextlib.suppress(RunBusyError):
            won.append(claim(name).name)

    threads = [threading.Thread(target=race, args=(str(number),)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1


def test_a_handle_knows_whether_its_worker_lives() -> None:
    wait = threading.Event()
    handle = RunHandle("x")
    assert not handle.is_alive
    handle.thread = threading.Thread(target=wait.wait)
    assert not handle.is_alive
    handle.thread.start()
    assert handle.is_alive
    wait.set()
    handle.thread.join()
    assert not handle.is_alive
