"""What differs between the gradio versions that the tab runs on: 4.37.2, the WebUI's fork of it, and 6.

Tried on gradio 4.37.2, 4.37.2+custom.20 and 6.31. Nothing else in this room asks for a version.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any


def accepted(target: Callable[..., Any], **arguments: Any) -> dict[str, Any]:
    """Those of the arguments that this version's function or component takes."""
    names = inspect.signature(target).parameters
    return {name: value for name, value in arguments.items() if name in names}


def event_options(**options: Any) -> dict[str, Any]:
    """Arguments of an event of the page: not offered as an API, without a veil over its outputs, any number at a time.

    Args:
        **options: what this event has differently.
    """
    import gradio as gr

    # gradio 6 has api_visibility, gradio 4 hides an event that has no API name
    hidden = {"api_visibility": "private"}
    private = accepted(gr.Blocks.load, **hidden) or {"api_name": False}
    return {"show_progress": "hidden", "concurrency_limit": None, **private, **options}


def rest_when_idle(page: Any) -> None:
    """Let gradio 6 look for work twenty times a second, as gradio 4 does; a thousand times take 7 % of a core from a run.

    Args:
        page: gr.Blocks before its launch; a later ``queue()`` undoes it.
    """
    for name, seconds in (("sleep_when_free", 0.05), ("progress_update_sleep_when_free", 0.1)):
        if getattr(page._queue, name, seconds) < seconds:
            setattr(page._queue, name, seconds)


def html_block(value: str, **options: Any) -> Any:
    """A piece of HTML without frame or padding."""
    import gradio as gr

    return gr.HTML(value, **options, **accepted(gr.HTML, padding=False, container=False, apply_default_css=False))
