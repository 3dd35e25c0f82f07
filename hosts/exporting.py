"""What the tab writes after a run (merged model, GGUF), in a page's thread, when no run has the model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..runs import registry
from .engine import import_engine, model_lock


def export_result(wish: dict[str, Any], say: Callable[[str], None]) -> Path:
    """Write what a page wishes for.

    Args:
        wish: fields of ``export.commands.ExportWish``; paths as texts, "" = the usual one.
        say: told line by line what is being done.

    Returns:
        The folder or file that was written.

    Raises:
        ValueError: it cannot be done, with the remedy; or a run is going on, which needs the memory.
        OSError: the disk.
    """
    import_engine()
    from ..export.commands import ExportWish, run_export

    if registry.is_busy():
        raise ValueError("A training is going on. Write the result when it has ended: both need the memory.")
    places = {name: Path(wish[name]).expanduser() if wish.get(name) else None for name in ("base", "out", "like")}
    source = Path(wish["source"]).expanduser()
    others = {name: wish[name] for name in ("dtype", "verify") if name in wish}
    with model_lock:
        return run_export(ExportWish(wish["kind"], source, **places, **others), say)
