"""The queue's file: order, states, owners; what many processes do to it at once."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from training_pro import ROOT
from training_pro.runs import queue as queue_module
from training_pro.runs.queue import DONE, FAILED, RUNNING, WAITING, Owner, Queue
from training_pro.runs.store import RunFolder

GONE = Owner(2**22 - 3, 1.0, Owner.me().machine, time.time())


@pytest.fixture
def queue(tmp_path: Path) -> Queue:
    return Queue(tmp_path / "loras")


def names(queue: Queue) -> list[str]:
    return [entry.name for entry in queue.read().entries]


def add(queue: Queue, *wanted: str) -> list[str]:
    """Add entries; their ids."""
    return [queue.add(name, {"adapter": {"name": name}}).id for name in wanted]


def test_nothing_there(queue: Queue) -> None:
    assert queue.read().entries == ()
    assert queue.stamp == (0, 0)
    assert not queue.adapters_dir.exists()


def test_added_and_read_again(queue: Queue) -> None:
    entry = queue.add("größe", {"adapter": {"name": "größe"}}, model="llama", start_at=12.5)
    again = Queue(queue.adapters_dir).read()
    assert again.entries == (entry,)
    assert (entry.state, entry.model, entry.start_at, entry.config["adapter"]["name"]) == (WAITING, "llama", 12.5, "größe")
    assert queue.stamp != (0, 0)


def test_its_files_do_not_show_in_the_webuis_list(queue: Queue) -> None:
    add(queue, "a")
    found = [path.name for path in queue.adapters_dir.iterdir()]
    assert len(found) == 2
    assert all(name.endswith(".json") for name in found)


def test_moved_and_removed(queue: Queue) -> None:
    a, b, c = add(queue, "a", "b", "c")
    queue.move(c, -1)
    assert names(queue) == ["a", "c", "b"]
    queue.move(a, +1)
    queue.move(a, +1)
    queue.move(a, +1)
    assert names(queue) == ["c", "b", "a"]
    assert queue.remove(b).name == "b"
    assert names(queue) == ["c", "a"]
    with pytest.raises(ValueError, match="not there any more"):
        queue.remove(b)


def test_what_has_begun_keeps_its_place(queue: Queue) -> None:
    a, b, c = add(queue, "a", "b", "c")
    queue.own(Owner.me())
    queue.claim(b, Owner.me())
    queue.move(c, -1)
    assert names(queue) == ["c", "b", "a"]
    with pytest.raises(ValueError, match="b does not wait any more"):
        queue.move(b, -1)
    with pytest.raises(ValueError, match="b is being trained. Press Stop and keep first"):
        queue.remove(b)
    with pytest.raises(ValueError, match="b is running, so it cannot be put back"):
        queue.again(b)
    with pytest.raises(ValueError, match="a is waiting, so it cannot be put back"):
        queue.again(a)


@given(st.lists(st.tuples(st.integers(0, 4), st.sampled_from([-1, 1])), max_size=12))
def test_moving_loses_nothing(tmp_path_factory: pytest.TempPathFactory, moves: list[tuple[int, int]]) -> None:
    queue = Queue(tmp_path_factory.mktemp("queue"))
    ids, expected = add(queue, *"abcde"), list("abcde")
    for number, by in moves:
        here = expected.index("abcde"[number])
        there = min(max(here + by, 0), 4)
        expected[here], expected[there] = expected[there], expected[here]
        queue.move(ids[number], by)
    assert names(queue) == expected


def test_one_entry_after_the_other(queue: Queue, tmp_path: Path) -> None:
    me = Owner.me()
    a, b = add(queue, "a", "b")
    assert queue.claim(a, me) is None  # it does not own the queue
    assert queue.own(me)
    claimed = queue.claim(a, me)
    assert claimed is not None
    assert claimed.state == RUNNING
    assert queue.claim(a, me) is None
    assert queue.claim(b, me) is None  # one is running
    queue.began(a, RunFolder(tmp_path / "a-2"))
    queue.end(a, DONE, "The training is finished.")
    first = queue.read().get(a)
    assert (first.name, first.folder, first.state, first.error) == (
        "a-2",
        str(tmp_path / "a-2"),
        DONE,
        "The training is finished.",
    )
    queue.pause(True)
    assert queue.claim(b, me) is None
    queue.pause(False)
    assert queue.claim(b, me) is not None


@pytest.mark.parametrize("goes_on", [True, False])
def test_after_a_failure(queue: Queue, goes_on: bool) -> None:
    me = Owner.me()
    a, b = add(queue, "a", "b")
    queue.go_on_after_failures(goes_on)
    queue.own(me)
    queue.claim(a, me)
    queue.end(a, FAILED, "no such file")
    state = queue.read()
    assert state.is_paused is not goes_on
    assert ("a failed, so the queue paused itself" in state.word) is not goes_on
    assert (queue.claim(b, me) is not None) is goes_on
    queue.pause(False)
    assert queue.read().word == ""


def test_once_more(queue: Queue) -> None:
    a, _ = add(queue, "a", "b")
    queue.own(Owner.me())
    queue.claim(a, Owner.me())
    queue.end(a, FAILED, "no such file")
    queue.again(a)
    assert names(queue) == ["b", "a"]
    assert (queue.read().get(a).state, queue.read().get(a).error) == (WAITING, "")


def test_ended_ones_are_taken_out(queue: Queue) -> None:
    a, b, _ = add(queue, "a", "b", "c")
    for entry_id, state in ((a, DONE), (b, FAILED)):
        queue.end(entry_id, state, "")
    assert queue.remove_ended() == 2
    assert names(queue) == ["c"]


# --- processes -------------------------------------------------------------------------------------------------------------------


def test_a_living_owner_stays(queue: Queue) -> None:
    import os

    add(queue, "a")
    parent = os.getppid()
    other = Owner(parent, psutil.Process(parent).create_time(), Owner.me().machine, time.time())
    assert queue.own(other)
    assert not queue.own(Owner.me())
    queue.leave(other)
    assert queue.own(Owner.me())


def test_a_dead_owner_is_replaced_and_its_entry_is_marked(queue: Queue) -> None:
    a, b = add(queue, "a", "b")
    data = json.loads(queue.path.read_text())
    data["owner"] = data["entries"][0]["owner"] = vars(GONE)
    data["entries"][0]["state"] = RUNNING
    queue.path.write_text(json.dumps(data))
    assert queue.claim(b, Owner.me()) is None
    assert queue.own(Owner.me())
    state = queue.read()
    assert state.get(a).state == FAILED
    assert "was closed or crashed" in state.get(a).error
    assert state.get(b).state == WAITING
    assert queue.claim(b, Owner.me()) is not None


def test_an_owner_on_another_machine_lives_as_long_as_it_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    other = Owner(1, 1.0, "another-machine", time.time())
    assert other.is_alive
    assert not Owner(1, 1.0, "another-machine", time.time() - queue_module.OWNER_SECONDS - 1).is_alive
    assert not Owner().is_alive
    assert not GONE.is_alive
    assert not other.is_same(Owner.me())


def test_looking_writes_nothing(queue: Queue) -> None:
    add(queue, "a")
    queue.own(Owner.me())
    before = queue.stamp
    queue.own(Owner.me())
    queue.say(queue.read().entries[0].id, "")
    assert queue.stamp == before


RACE = """
import sys, time
from pathlib import Path
sys.path.append({root!r})
from training_pro.runs.queue import Owner, Queue
queue, me, won = Queue(Path({folder!r})), Owner.me(), []
while not Path({go!r}).exists():
    time.sleep(0.005)
for number in range(20):
    queue.add(f"{{me.pid}}-{{number}}", {{}})
for entry in queue.read().entries:
    if queue.own(me) and queue.claim(entry.id, me):
        won.append(entry.id)
        queue.end(entry.id, "done", "")
print(" ".join(won))
"""


def test_two_processes_lose_nothing_and_start_nothing_twice(queue: Queue, tmp_path: Path) -> None:
    shared = add(queue, *"abcdefgh")
    go = tmp_path / "go"
    code = RACE.format(root=str(ROOT / "import_root"), folder=str(queue.adapters_dir), go=str(go))
    processes = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    time.sleep(0.5)
    go.touch()
    won = [process.communicate(timeout=60)[0].split() for process in processes]
    assert all(process.returncode == 0 for process in processes)
    started = won[0] + won[1]
    assert len(started) == len(set(started))
    assert set(shared) <= set(started)
    assert len(queue.read().entries) == 8 + 40


# --- what can be wrong -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["{", "[]", '{"entries": 3}', '{"entries": [{"name": "a"}]}', "null"])
def test_a_damaged_file_is_not_touched(queue: Queue, text: str) -> None:
    queue.adapters_dir.mkdir()
    queue.path.write_text(text)
    with pytest.raises(ValueError, match="is damaged .* Move it away to begin a new queue"):
        queue.read()
    with pytest.raises(ValueError, match="is damaged"):
        add(queue, "a")
    assert queue.path.read_text() == text


def test_fields_of_a_later_version_are_left_out(queue: Queue) -> None:
    add(queue, "a")
    data: dict[str, Any] = json.loads(queue.path.read_text())
    data["new"] = data["entries"][0]["new"] = data["owner"]["new"] = 1
    queue.path.write_text(json.dumps(data))
    assert names(queue) == ["a"]


def test_it_holds_only_so_many(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue_module, "MAX_ENTRIES", 2)
    add(queue, "a", "b")
    with pytest.raises(ValueError, match="it holds 2 entries already"):
        add(queue, "c")
