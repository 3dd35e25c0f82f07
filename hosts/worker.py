"""A run in the background: one worker thread per process, whatever page or command started it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from ..config import RunConfig
from ..runs import registry
from ..runs.registry import RunHandle
from ..runs.store import RunFolder
from .engine import import_engine, model_lock

logger = logging.getLogger(__name__)

LoadModel = Callable[[], tuple[Any, Any]]


def start_run(
    config: RunConfig, load_model: LoadModel, *, around: Callable[[], Any] | None = None, lend: Callable[..., Any] | None = None
) -> RunHandle:
    """Start a run and return as soon as its folder is open.

    Args:
        config: all settings.
        load_model: gives model and tokenizer, called in the worker.
        around: makes a context manager that is entered for the time of the run (the WebUI's locks, for example).
        lend: makes a context manager that is entered while the run is paused (see training.pausing); None = nobody uses the model then.

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
        try:
            with ExitStack() as held:

                def load() -> tuple[Any, Any]:
                    held.enter_context(model_lock)  # a Check that is going on ends first
                    return load_model()

                if around:
                    held.enter_context(around())
                more = {"lend": lend} if lend else {}
                import_engine().run_job(config, load, on_folder=on_folder, **more)
        except BaseException as error:
            errors.append(error)
            handle.error = str(error) or type(error).__name__
            if handle.folder is not None:  # nobody waits for it any more
                logger.exception("The run %s stopped on an unexpected error", handle.name)
        finally:
            registry.release()
            opened.set()

    handle.thread = threading.Thread(target=work, name=f"training {config.adapter.name}", daemon=True)
    try:
        handle.thread.start()
    except RuntimeError:  # no more threads
        handle.thread = None
        registry.release()
        raise
    opened.wait()
    if errors and handle.folder is None:
        raise errors[0]
    return handle
