"""Which run a page shows: the one of this process if there is one, else the newest in the adapters' folder."""

from __future__ import annotations

from pathlib import Path

from ..runs import registry
from ..runs.registry import RunHandle
from ..runs.store import RunFolder, list_runs
from .host import Host


def newest_run(adapters_dir: Path) -> RunFolder | None:
    """The run with the newest diary; None if there is none."""
    found = [(folder.events.stat().st_mtime, folder) for folder in list_runs(adapters_dir) if folder.events.is_file()]
    return max(found, key=lambda pair: pair[0])[1] if found else None


def shown_handle() -> RunHandle | None:
    """This process's job, if it is starting or got as far as a folder; a start that was refused is none."""
    handle = registry.latest()
    return handle if handle is not None and (handle.folder is not None or registry.is_busy()) else None


def shown_run(host: Host) -> RunFolder | None:
    """The folder of the run that the page shows, and that its buttons act on; None if there is none yet."""
    handle = shown_handle()
    return handle.folder if handle is not None else newest_run(host.adapters_dir())
