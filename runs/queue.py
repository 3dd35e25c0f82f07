"""The queue: settings that wait in the adapters' folder to be trained one after another, some not before a time.

What it does: keeps entries in one JSON file, from any number of pages, programs and commands at once. Guarantee: each change is made under a lock
of the operating system, which ends with its process, so nothing is lost and no entry is started twice; only one process, the owner, starts
entries, and a dead owner is replaced; the file is written whole, so a restart goes on where it was. Price: one look at a small file a second.
"""

from __future__ import annotations

import os
import platform
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import IO, Any

from .state import process_is_alive, process_start_time
from .store import RunFolder, write_json

# the WebUI's LoRA menu hides names with this ending
FILE, LOCK_FILE = ".training_pro_queue.json", ".training_pro_queue_lock.json"
WAITING, RUNNING, DONE, FAILED = "waiting", "running", "done", "failed"
MAX_ENTRIES = 200
OWNER_SECONDS = 120.0  # an owner on another machine that was silent for so long is taken for dead
_HEARTBEAT_SECONDS = 30.0
DIED_WORDS = "The program that trained it was closed or crashed. Open it under Runs: with a checkpoint it can go on."


@dataclass(frozen=True)
class Owner:
    """A process that works on the queue.

    Attributes:
        pid: its number; ``started`` when it began, in seconds since the epoch: numbers are given again.
        machine: where it runs.
        seen: when it last looked, in seconds since the epoch.
    """

    pid: int = 0
    started: float = 0.0
    machine: str = ""
    seen: float = 0.0

    @classmethod
    def me(cls) -> Owner:
        """This process, now."""
        return cls(os.getpid(), process_start_time(), platform.node(), time.time())

    @property
    def is_alive(self) -> bool:
        """Whether it runs still."""
        if not self.pid:
            return False
        if self.machine != platform.node():
            return time.time() - self.seen < OWNER_SECONDS
        return process_is_alive(self.pid, self.started)

    def is_same(self, other: Owner) -> bool:
        """Whether both are one process."""
        return (self.pid, self.machine) == (other.pid, other.machine) and abs(self.started - other.started) < 2.0


@dataclass(frozen=True)
class Entry:
    """One training that waits, runs or ran.

    Attributes:
        id: what it is called in requests.
        name: of the adapter it makes.
        config: all its settings, as in ``training_parameters.json``.
        model: name of the model it is meant for; "" = whichever there is.
        start_at: not before this time, in seconds since the epoch; None = as soon as it is its turn.
        state: waiting, running, done or failed.
        error: how it failed or ended, in words.
        word: why it is not started though it is its turn.
        folder: of its run, once it has begun.
        owner: the process that trains it.
    """

    id: str
    name: str
    config: dict[str, Any] = field(default_factory=dict)
    model: str = ""
    start_at: float | None = None
    state: str = WAITING
    error: str = ""
    word: str = ""
    folder: str = ""
    owner: Owner = field(default_factory=Owner)


@dataclass(frozen=True)
class QueueState:
    """All of it.

    Attributes:
        entries: in their order.
        is_paused: nothing further is started.
        goes_on: a failed entry does not stop the next.
        word: why the queue paused itself.
        owner: the process that starts entries.
    """

    entries: tuple[Entry, ...] = ()
    is_paused: bool = False
    goes_on: bool = True
    word: str = ""
    owner: Owner = field(default_factory=Owner)

    def get(self, entry_id: str) -> Entry:
        """The entry of that id.

        Raises:
            ValueError: there is none any more.
        """
        for entry in self.entries:
            if entry.id == entry_id:
                return entry
        raise ValueError("Queue: that entry is not there any more. Look at the list again.")

    @property
    def waiting(self) -> list[Entry]:
        """Those that were not started yet."""
        return [entry for entry in self.entries if entry.state == WAITING]

    def with_entry(self, changed: Entry) -> QueueState:
        """The same with one entry changed."""
        return replace(self, entries=tuple(changed if entry.id == changed.id else entry for entry in self.entries))


class Queue:
    """The queue of an adapters' folder.

    Args:
        adapters_dir: the folder; made with the first entry.
    """

    def __init__(self, adapters_dir: Path) -> None:
        self.adapters_dir = adapters_dir
        self.path = adapters_dir / FILE

    @property
    def stamp(self) -> tuple[int, int]:
        """Changes whenever the file does; (0, 0) if there is none."""
        try:
            stat = self.path.stat()
        except OSError:
            return 0, 0
        return stat.st_mtime_ns, stat.st_size

    def read(self) -> QueueState:
        """The queue now; empty if there is no file.

        Raises:
            ValueError: the file is damaged; it is not touched.
        """
        import json

        try:
            data = json.loads(self.path.read_text(encoding="utf-8"))
            return _from_plain(data)
        except FileNotFoundError:
            return QueueState()
        except (ValueError, TypeError, AttributeError, KeyError) as error:
            raise ValueError(f"Queue: {self.path} is damaged ({error}). Move it away to begin a new queue.") from error

    @contextmanager
    def _changing(self) -> Iterator[list[QueueState]]:
        """The queue under the lock; what the one element is replaced by is written."""
        self.adapters_dir.mkdir(parents=True, exist_ok=True)
        with _locked(self.adapters_dir / LOCK_FILE):
            before = self.read()
            held = [before]
            yield held
            if held[0] != before:
                write_json(self.path, asdict(held[0]))

    # --- what a user asks for ------------------------------------------------------------------------------------------------------

    def add(self, name: str, config: dict[str, Any], *, model: str = "", start_at: float | None = None) -> Entry:
        """Put settings at the end.

        Args:
            name: of the adapter.
            config: all settings.
            model: the model they are meant for; "" = whichever there is.
            start_at: seconds since the epoch; None = as soon as it is its turn.

        Raises:
            ValueError: the queue is full, or its file is damaged.
            OSError: the file cannot be written.
        """
        entry = Entry(uuid.uuid4().hex[:12], name, config, model, start_at)
        with self._changing() as held:
            if len(held[0].entries) >= MAX_ENTRIES:
                raise ValueError(f"Queue: it holds {MAX_ENTRIES} entries already. Remove those that are done.")
            held[0] = replace(held[0], entries=(*held[0].entries, entry))
        return entry

    def remove(self, entry_id: str) -> Entry:
        """Take an entry out; its run, if there was one, stays.

        Raises:
            ValueError: it is running, or not there.
        """
        with self._changing() as held:
            entry = held[0].get(entry_id)
            if entry.state == RUNNING and entry.owner.is_alive:
                raise ValueError(f"Queue: {entry.name} is being trained. Press Stop and keep first.")
            held[0] = replace(held[0], entries=tuple(other for other in held[0].entries if other.id != entry_id))
        return entry

    def remove_ended(self) -> int:
        """Take out all that are done or failed; how many."""
        with self._changing() as held:
            left = tuple(entry for entry in held[0].entries if entry.state in (WAITING, RUNNING))
            num_gone = len(held[0].entries) - len(left)
            held[0] = replace(held[0], entries=left)
        return num_gone

    def move(self, entry_id: str, by: int) -> None:
        """Move a waiting entry up (-1) or down (+1) among those that wait.

        Raises:
            ValueError: it does not wait any more.
        """
        with self._changing() as held:
            entry, entries = held[0].get(entry_id), list(held[0].entries)
            if entry.state != WAITING:
                raise ValueError(f"Queue: {entry.name} does not wait any more, so it has no place to move to.")
            places = [number for number, other in enumerate(entries) if other.state == WAITING]
            here = next(rank for rank, place in enumerate(places) if entries[place].id == entry_id)
            there = min(max(here + by, 0), len(places) - 1)
            entries[places[here]], entries[places[there]] = entries[places[there]], entries[places[here]]
            held[0] = replace(held[0], entries=tuple(entries))

    def pause(self, paused: bool) -> None:
        """Start nothing further, or go on; what is being trained goes on in both cases."""
        with self._changing() as held:
            held[0] = replace(held[0], is_paused=paused, word="")

    def go_on_after_failures(self, goes_on: bool) -> None:
        """Whether a failed entry lets the next begin; otherwise the queue pauses."""
        with self._changing() as held:
            held[0] = replace(held[0], goes_on=goes_on)

    def again(self, entry_id: str) -> None:
        """Let an entry that has ended wait once more, at once.

        Raises:
            ValueError: it has not ended.
        """
        with self._changing() as held:
            entry = held[0].get(entry_id)
            if entry.state in (WAITING, RUNNING):
                raise ValueError(f"Queue: {entry.name} is {entry.state}, so it cannot be put back.")
            others = tuple(other for other in held[0].entries if other.id != entry_id)
            fresh = Entry(entry.id, entry.name, entry.config, entry.model)
            held[0] = replace(held[0], entries=(*others, fresh))

    # --- what the process that trains asks for -------------------------------------------------------------------------------------

    def own(self, me: Owner) -> bool:
        """Become or stay the process that starts entries; entries of dead processes are marked as failed.

        Returns:
            Whether it is this one; False while another one lives.
        """
        state = self.read()
        orphans = any(entry.state == RUNNING and not entry.owner.is_alive for entry in state.entries)
        is_idle = not any(entry.state in (WAITING, RUNNING) for entry in state.entries)
        is_fresh = is_idle or me.seen - state.owner.seen < _HEARTBEAT_SECONDS
        if state.owner.is_same(me) and is_fresh and not orphans:
            return True
        if not state.owner.is_same(me) and state.owner.is_alive:
            return False
        with self._changing() as held:
            state = held[0]
            if not state.owner.is_same(me) and state.owner.is_alive:
                return False
            for entry in state.entries:
                if entry.state == RUNNING and not entry.owner.is_alive:
                    state = _after_end(state, entry, FAILED, DIED_WORDS)
            held[0] = replace(state, owner=me)
        return True

    def leave(self, me: Owner) -> None:
        """Let another process start entries."""
        with self._changing() as held:
            if held[0].owner.is_same(me):
                held[0] = replace(held[0], owner=Owner())

    def claim(self, entry_id: str, me: Owner) -> Entry | None:
        """Begin with an entry; None if it is not this process's turn with it any more."""
        with self._changing() as held:
            state = held[0]
            found = [entry for entry in state.waiting if entry.id == entry_id]
            busy = any(entry.state == RUNNING for entry in state.entries)
            if not found or busy or state.is_paused or not state.owner.is_same(me):
                return None
            entry = replace(found[0], state=RUNNING, owner=me, word="", error="")
            held[0] = state.with_entry(entry)
        return entry

    def say(self, entry_id: str, word: str) -> None:
        """Why an entry is not started though it is its turn."""
        if any(entry.id == entry_id and entry.word != word for entry in self.read().entries):
            with self._changing() as held:
                for entry in held[0].waiting:
                    if entry.id == entry_id:
                        held[0] = held[0].with_entry(replace(entry, word=word))

    def wait_again(self, entry_id: str, word: str) -> None:
        """An entry could not begin just now and keeps its place."""
        with self._changing() as held:
            held[0] = held[0].with_entry(replace(held[0].get(entry_id), state=WAITING, word=word, owner=Owner()))

    def began(self, entry_id: str, folder: RunFolder) -> None:
        """The entry's run has a folder."""
        with self._changing() as held:
            held[0] = held[0].with_entry(replace(held[0].get(entry_id), name=folder.name, folder=str(folder.path)))

    def end(self, entry_id: str, state: str, words: str) -> None:
        """The entry's run is over: done or failed."""
        with self._changing() as held:
            held[0] = _after_end(held[0], held[0].get(entry_id), state, words)


def _after_end(state: QueueState, entry: Entry, ended: str, words: str) -> QueueState:
    state = state.with_entry(replace(entry, state=ended, error=words, word="", owner=Owner()))
    if ended == FAILED and not state.goes_on:
        word = f"{entry.name} failed, so the queue paused itself. Take the tick from 'Pause the queue' to go on."
        state = replace(state, is_paused=True, word=word)
    return state


def _from_plain(data: dict[str, Any]) -> QueueState:
    """From the file; fields of a later version are left out."""

    def known(kind: Callable[..., Any], values: dict[str, Any]) -> dict[str, Any]:
        names = {entry.name for entry in fields(kind)}  # type: ignore[arg-type]
        return {name: value for name, value in values.items() if name in names}

    def owner(values: dict[str, Any]) -> Owner:
        return Owner(**known(Owner, values))

    entries = []
    for values in data["entries"]:
        entries.append(Entry(**{**known(Entry, values), "owner": owner(values.get("owner", {}))}))
    return QueueState(**{**known(QueueState, data), "entries": tuple(entries), "owner": owner(data.get("owner", {}))})


# --- a lock that ends with its process ---------------------------------------------------------------------------------------------


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("a+b") as file:
        _lock(file)
        try:
            yield
        finally:
            _unlock(file)


if os.name == "nt":
    import msvcrt

    def _lock(file: IO[bytes]) -> None:
        file.seek(0)
        msvcrt.locking(file.fileno(), msvcrt.LK_LOCK, 1)  # type: ignore[attr-defined,unused-ignore]  # tries for ten seconds

    def _unlock(file: IO[bytes]) -> None:
        file.seek(0)
        msvcrt.locking(file.fileno(), msvcrt.LK_UNLCK, 1)  # type: ignore[attr-defined,unused-ignore]

else:
    import fcntl

    def _lock(file: IO[bytes]) -> None:
        fcntl.flock(file, fcntl.LOCK_EX)

    def _unlock(file: IO[bytes]) -> None:
        fcntl.flock(file, fcntl.LOCK_UN)
