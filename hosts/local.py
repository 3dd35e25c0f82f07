"""Models where no WebUI has loaded one: a folder of the user's, or the embedded small model. Loaded once per process and folder."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..config import RunConfig

_lock = threading.Lock()
_loaded: dict[tuple[str, Any], tuple[Any, Any]] = {}


def model_folder(config: RunConfig, progress: Callable[[str], None] | None = None) -> Path:
    """The folder of the configured model; the embedded one is unpacked the first time."""
    if config.model.path:
        return Path(config.model.path).expanduser().absolute()
    from .embedded_model import embedded_model_folder

    if progress is None:
        return embedded_model_folder()
    say = progress
    return embedded_model_folder(lambda share, step: say(f"embedded model, {share:.0%}: {step}"))


def load_model(config: RunConfig, progress: Callable[[str], None] | None = None) -> tuple[Any, Any]:
    """Model and tokenizer; kept, so a second run or Check need not load them again. Another model takes the place of the first.

    Raises:
        ValueError: the folder holds no usable model.
    """
    from ..train_utils import free_memory, load_base_model

    key = (str(model_folder(config, progress)), config.model.loading)
    with _lock:
        if key not in _loaded:
            _loaded.clear()
            free_memory()
            _loaded[key] = load_base_model(Path(key[0]), key[1])
        return _loaded[key]


def loader(config: RunConfig, progress: Callable[[str], None] | None = None) -> Callable[[], tuple[Any, Any]]:
    """:func:`load_model` for one configuration, to be called when it is needed."""
    return lambda: load_model(config, progress)


def loaded_model(folder: str) -> Any:
    """The model if it is loaded already (``""``: whichever is), else None; never waits for one that is being loaded."""
    for (path, _), (model, _) in list(_loaded.items()):
        if not folder or path == str(Path(folder).expanduser().absolute()):
            return model
    return None
