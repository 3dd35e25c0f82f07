"""A question before something is thrown away: its words, the button that does it, and the one that does not."""

from __future__ import annotations

from typing import Any

from .compat import html_block


def build_question(name: str, box: str, yes: str, no: str, min_width: int = 100) -> tuple[Any, Any, Any, Any]:
    """Create a hidden question in the current Blocks context.

    Args:
        name: begin of the buttons' HTML ids: ``<name>-really`` and ``<name>-keep``.
        box: HTML id of the words.
        yes: what the button says that does it.
        no: what the other one says.
        min_width: of the buttons, in pixels.

    Returns:
        What holds all of it, the words, the button that does it, the other one.
    """
    import gradio as gr

    with gr.Column(visible=False) as question:
        asked = html_block("", elem_id=box)
        with gr.Row(elem_classes=["tph-buttons"]):
            really = gr.Button(yes, variant="stop", elem_id=f"{name}-really", min_width=min_width)
            keep = gr.Button(no, elem_id=f"{name}-keep", min_width=min_width)
    return question, asked, really, keep
