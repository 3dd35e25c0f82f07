"""What settings need before they may wait in the queue: asked by the tab and by the command line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from .checkpoints import newest_checkpoint
from .queue import Entry, Queue
from .store import RunFolder, folder_problem

if TYPE_CHECKING:
    from ..config import RunConfig


def name_problem(queue: Queue, config: RunConfig) -> str:
    """Why an adapter of that name could not be begun when it is its turn, in words; empty if it could.

    Args:
        queue: what waits already.
        config: valid settings.
    """
    name, if_exists = config.adapter.name, config.adapter.if_exists
    if any(entry.name == name for entry in queue.read().waiting):
        if if_exists == "stop":
            return f"Name: an entry of the queue makes {name!r} already. Choose another name."
        return ""  # it finds what the earlier one leaves
    place = Path(config.run.adapters_dir).expanduser().absolute()
    if problem := folder_problem(place, name, if_exists):
        return problem
    if if_exists == "resume":
        try:
            newest_checkpoint(RunFolder(place / name))
        except ValueError as error:
            return str(error)
    return ""


def add_to_queue(queue: Queue, config: RunConfig, *, model: str, start_at: float | None) -> Entry:
    """Let settings wait.

    Args:
        queue: where.
        config: all settings.
        model: name of the model they are meant for; "" = whichever there is.
        start_at: not before this time, in seconds since the epoch; None = as soon as it is their turn.

    Raises:
        ConfigError: the settings have problems.
        ValueError: the name is taken, or the queue is full.
        OSError: the queue cannot be written.
    """
    from ..config.places import with_absolute_places  # not above: the WebUI loads this room at its start

    config.require_valid()
    config = with_absolute_places(config)
    if problem := name_problem(queue, config):
        raise ValueError(problem)
    return queue.add(config.adapter.name, config.to_dict(), model=model, start_at=start_at)
