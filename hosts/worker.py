"""A run in the background: one worker thread per process, whatever page or command started it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from ..config import RunConfig
from ..runs import registry
from ..runs.registry import RunHandle
from ..runs.store import RunFolder

LoadModel = Callable[[], tuple[Any, Any]]


def start_run(config: RunConfig, load_model: LoadModel, *, around: Callable[[], Any] | None = None) -> RunHandle:
    """Start a run and return as soon as its folder is open.

    Args:
        config: all settings.
        load_model: gives model and tokenizer, called in the worker.
        around: makes a context manager that is entered for the time of the run (the WebUI's locks, for example).

    Raises:
        ConfigError, ValueError, OSError: it cannot start; nothing was touched.
        RunBusyError: another run is going on.
    """
    config.require_valid()
    handle = registry.claim(config.adapter.name)
    opened = threading.Event()
    errors: list[BaseException] = []

    def on_folder(folder: RunFolder) -> None:
        handle.folder, handle.name = folder, folder.name
        opened.set()

    def work() -> None:
        from contextlib import nullcontext

        from ..training.job import run_job

        try:
            with around() if around else nullcontext():
                run_job(config, load_model, on_folder=on_folder)
        except BaseException as error:
            errors.append(error)
            handle.error = str(error)
        finally:
            registry.release()
            opened.set()

    handle.thread = threading.Thread(target=work, name=f"training {config.adapter.name}", daemon=True)
    handle.thread.start()
    opened.wait()
    if errors and handle.folder is None:
        raise errors[0]
    return handle
