"""What the tab writes after a run (merged model, GGUF), in a page's thread, when no run has the model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
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
    base, out, like = (Path(wish[name]).expanduser() if wish.get(name) else None for name in ("base", "out", "like"))
    made = ExportWish(wish["kind"], Path(wish["source"]).expanduser(), base, out, wish.get("dtype", ""), like)
    with model_lock:
        return run_export(replace(made, verify=wish.get("verify", True)), say)
