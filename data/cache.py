"""Where prepared data lie, and how a folder of them comes into being: filled beside its place, then moved there whole.

Guarantee: a folder in its place is complete; an interruption, also a kill, leaves at most a hidden folder beside it, which the next
preparation removes once its process is gone. Two processes that prepare the same do not disturb each other. Price: a disk that loses
power while it writes can still lose the last file.
"""

from __future__ import annotations

import errno
import json
import os
import platform
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .. import ROOT

OWNER = "owner.json"
_ABANDONED_SECONDS = 86_400.0  # after this a folder without an owner, or of another machine, is nobody's
_SAME_START_SECONDS = 2.0


def default_cache_dir() -> Path:
    """Where prepared data are kept: TRAINING_PRO_CACHE, the checkout's ``.cache``, or the user's cache if that is not writable."""
    chosen = os.environ.get("TRAINING_PRO_CACHE")
    base = Path(chosen) if chosen else ROOT / ".cache"
    if not chosen and not os.access(ROOT, os.W_OK):
        base = Path.home() / ".cache" / "training_pro"
    return base / "prepared"


@contextmanager
def filling(folder: Path) -> Iterator[Path]:
    """A new folder to fill, that takes its place at the end; whatever goes wrong, it is removed and the place stays empty.

    Args:
        folder: the place; a whole one holds ``report.json``.

    Raises:
        ValueError: the disk is full; says which.
    """
    remove_abandoned(folder.parent)
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.{uuid.uuid4().hex[:8]}.tmp")
    temporary.mkdir(parents=True)
    try:
        (temporary / OWNER).write_text(json.dumps(_owner()), encoding="utf-8")
        yield temporary
        (temporary / OWNER).unlink()
        try:
            temporary.replace(folder)
        except OSError:
            if not (folder / "report.json").is_file():  # else another process was faster with the same result
                raise
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise ValueError(
                f"Data set: the prepared data do not fit on the disk of {folder.parent}. Free space there, or let the environment "
                "variable TRAINING_PRO_CACHE name a folder with more."
            ) from error
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def remove_abandoned(cache: Path) -> list[str]:
    """Remove what interrupted preparations left; returns the names."""
    found = [path for path in cache.glob(".*.tmp") if path.is_dir() and _is_abandoned(path)] if cache.is_dir() else []
    for path in found:
        shutil.rmtree(path, ignore_errors=True)
    return [path.name for path in found]


def _owner() -> dict[str, object]:
    import psutil

    return {"machine": platform.node(), "pid": os.getpid(), "started": psutil.Process().create_time()}


def _is_abandoned(path: Path) -> bool:
    import psutil

    owner: dict[str, object] = {}
    with suppress(OSError, ValueError):
        owner = json.loads((path / OWNER).read_text(encoding="utf-8"))
    if owner.get("machine") != platform.node():
        with suppress(OSError):
            return time.time() - path.stat().st_mtime > _ABANDONED_SECONDS
        return False
    try:
        started = psutil.Process(int(str(owner["pid"]))).create_time()
    except (psutil.NoSuchProcess, KeyError, ValueError):
        return True
    except psutil.Error:  # there is one, of somebody else
        return False
    return abs(started - float(str(owner.get("started", 0)))) > _SAME_START_SECONDS
