"""The tab as a page of its own, for use without the WebUI.

    page = build_page(host)
    page.launch(**launch_options(), server_port=...)

Gradio 4 takes style sheet and theme when the page is made, gradio 6 when it is launched: build_page and launch_options give each its own.
"""

from __future__ import annotations

from typing import Any

from .compat import accepted, rest_when_idle
from .css import CSS
from .host import Host
from .tab import build_tab

_PAGE_CSS = (
    CSS
    + """
.gradio-container { max-width: 1500px !important; overflow: clip !important; }
.tph-title { margin: 4px 0 0; font-size: 20px; font-weight: 650; }
footer { display: none !important; }
"""
)
_FONTS = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"]


def _look() -> dict[str, Any]:
    import gradio as gr

    # gradio's own fonts would be asked from another machine
    return {"css": _PAGE_CSS, "theme": gr.themes.Default(font=_FONTS, font_mono=["ui-monospace", "Consolas", "monospace"])}


def build_page(host: Host, title: str = "Training PRO Hybrid") -> Any:
    """A page (gr.Blocks) with the tab in it, not launched yet.

    Args:
        host: the place where the tab lives.
        title: name of the page.
    """
    import gradio as gr

    from .compat import html_block

    with gr.Blocks(title=title, analytics_enabled=False, **accepted(gr.Blocks, **_look())) as page:
        html_block(f'<h1 class="tph-title">{title}</h1>')
        build_tab(host)
    rest_when_idle(page)
    return page


def launch_options() -> dict[str, Any]:
    """Arguments for ``page.launch()`` that this gradio version takes there."""
    import gradio as gr

    return accepted(gr.Blocks.launch, **_look(), show_api=False, quiet=True)
