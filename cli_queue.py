"""The command line's part of the queue: list it, add settings to it, take an entry out. A page of the tab trains what waits."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any


def add_queue_commands(
    command: Callable[..., argparse.ArgumentParser], read_options: Callable[[argparse.Namespace], Any]
) -> None:
    """Add ``queue`` with its own commands to the parser.

    Args:
        command: adds one command: (name, run, help).
        read_options: gives the configuration that a command line means.
    """
    sub = command("queue", run_list, "Show the queue, or change it: list, add, remove.")
    _adapters_dir(sub)
    parts = sub.add_subparsers(title="what to do (default: list)")

    def part(name: str, run: Callable[[argparse.Namespace], int], help: str) -> argparse.ArgumentParser:
        made = parts.add_parser(name, help=help, description=help)
        made.set_defaults(run=run)
        _adapters_dir(made, default=argparse.SUPPRESS)  # said before or behind the part's name
        return made

    part("list", run_list, "Show what waits, runs and ran.")
    add = part("add", lambda options: run_add(options, read_options), "Let settings wait; a page of the tab trains them.")
    add.add_argument("config", help="YAML or JSON file with the settings, or a training_parameters.json")
    add.add_argument("--model", help="folder of a Hugging Face model instead of the one in the file")
    add.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change a setting, e.g. --set epochs=2")
    add.add_argument("--at", default="", metavar="TIME", help="not before: 22:30, 'tomorrow 7:00' or '2026-01-31 22:30'")
    part("remove", run_remove, "Take an entry out.").add_argument("number", type=int, help="its place in the list, from 1")


def _adapters_dir(parser: argparse.ArgumentParser, default: str = "loras") -> None:
    parser.add_argument("--adapters-dir", default=default, help="folder of the adapters (default: loras)")


def _queue(options: argparse.Namespace) -> Any:
    from .runs.queue import Queue

    return Queue(Path(options.adapters_dir).expanduser().absolute())


def run_list(options: argparse.Namespace) -> int:
    """Show the queue."""
    import time

    from .runs.queue import WAITING

    queue = _queue(options)
    state = queue.read()
    if not state.entries:
        print(f"Nothing waits in {queue.adapters_dir}.")
    for number, entry in enumerate(state.entries, 1):
        begins = ""
        if entry.state == WAITING and entry.start_at is not None:
            begins = time.strftime("  not before %Y-%m-%d %H:%M", time.localtime(entry.start_at))
        print(f"{number:3} {entry.name:30} {entry.state:8}{begins}".rstrip())
        if entry.error or entry.word:
            print(f"    {entry.error or entry.word}")
    if state.is_paused:
        print(state.word or "The queue is paused.")
    return 0


def run_add(options: argparse.Namespace, read_options: Callable[[argparse.Namespace], Any]) -> int:
    """Let the settings of a file wait.

    Raises:
        ValueError: they have problems, the name is taken, or the time is none.
    """
    from .hosts.standalone import model_title
    from .runs.queue_entry import add_to_queue
    from .runs.start_times import parse_start

    moment, queue, config = parse_start(options.at), _queue(options), read_options(options)
    config.run.adapters_dir = str(queue.adapters_dir)
    entry = add_to_queue(queue, config, model=model_title(config.model.path), start_at=moment)
    print(f"{entry.name} waits in {queue.path}. A page trains it: the WebUI's tab, or training-pro serve.")
    return 0


def run_remove(options: argparse.Namespace) -> int:
    """Take an entry out.

    Raises:
        ValueError: there is no such entry, or it is being trained.
    """
    queue = _queue(options)
    entries = queue.read().entries
    if not 1 <= options.number <= len(entries):
        raise ValueError(f"There is no entry {options.number}: the queue has {len(entries)}. See: training-pro queue list")
    entry = queue.remove(entries[options.number - 1].id)
    print(f"{entry.name} was taken out. Its run, if it had one, stays.")
    return 0
