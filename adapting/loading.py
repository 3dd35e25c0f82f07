"""Reading model folders: what can go wrong with files, and silence while it goes right.

Guarantee: nothing here imports a heavy library before it is called. Price: none.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


def loading_errors() -> tuple[type[Exception], ...]:
    """What transformers, peft and safetensors raise for files that are missing, damaged or do not fit."""
    from safetensors import SafetensorError

    return OSError, ValueError, KeyError, RuntimeError, SafetensorError


@contextmanager
def quiet_progress() -> Iterator[None]:
    """transformers' own progress bars off, for a while: they would stand between ours."""
    from transformers.utils import logging as transformers_logging

    was_on = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if was_on:
            transformers_logging.enable_progress_bar()
