"""What the page shows of the run that goes on: status, controls, curves, checkpoints, samples and log, in the order of their use.

Guarantee: everything shown comes from the run's folder through the page's stream; choosing another axis only changes this page. Price: two
streams for each open page (see watch.py): what changes at every step, and the rest.
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import Any

from ..charts.axes import AXES, FROM_TO, RANGES, SCALES, ChartChoice, read_range
from ..charts.run import NO_CHARTS
from ..compat import event_options, html_block
from ..host import Host
from ..log_lines import log_html
from ..session import PageSession
from .checkpoints import CheckpointsPart, build_checkpoints
from .controls import LiveControls, build_controls
from .facts import LiveFacts
from .status import connecting_html

NO_RANGE_NOTE = '<div id="tph-range-note"></div>'


@dataclass
class Monitor:
    """The components, and how they take in what has changed.

    Attributes:
        session: gr.State with the page's :class:`PageSession`.
        live: the status.
        choosing: holds the choice of axis, scale and range.
        log_box: the closed group around the log.
    """

    session: Any
    live: Any
    controls: LiveControls
    choosing: Any
    curve: Any
    checkpoints: CheckpointsPart
    samples: Any
    log: Any
    log_box: Any

    @property
    def at_steps(self) -> list[Any]:
        """What :meth:`updates` may change at every step. Gradio makes each output of an event anew at each word of it, changed or not."""
        return [self.live, self.choosing, self.curve]

    @property
    def seldom(self) -> list[Any]:
        """Everything else that :meth:`updates` may change."""
        checkpoints = [self.checkpoints.box, self.checkpoints.table, self.checkpoints.chosen]
        controls = [self.controls.card, self.controls.planned, self.controls.note, *self.controls.parts.values()]
        return [*controls, *checkpoints, self.samples, self.log, self.log_box]

    @property
    def buttons(self) -> list[Any]:
        """Buttons whose press may start the page's stream again."""
        return self.controls.buttons

    def updates(self, changed: dict[str, Any], before: LiveFacts | None) -> dict[Any, Any]:
        """Component -> update.

        Args:
            changed: parts of the page (see :meth:`PageRenderer.render`).
            before: what the controls showed until now; None if nothing yet.
        """
        import gradio as gr

        updates: dict[Any, Any] = {}
        for name, component in (("status", self.live), ("charts", self.curve), ("samples", self.samples), ("log", self.log)):
            if name in changed:
                updates[component] = changed[name]
        if "charts" in changed:
            updates[self.choosing] = gr.update(visible=changed["charts"] != NO_CHARTS)
        if "log" in changed:
            updates[self.log_box] = gr.update(visible=changed["log"] != log_html([]))
        if "checkpoints" in changed:
            table, choices = changed["checkpoints"]
            updates[self.checkpoints.box] = gr.update(visible=bool(choices))
            updates[self.checkpoints.table] = table
            updates[self.checkpoints.chosen] = gr.update(choices=choices)
        if "live" in changed:
            updates |= self.controls.updates(changed["live"], before)
        return updates


def build_monitor(host: Host) -> Monitor:
    """Create the components in the current Blocks context and wire what concerns only them."""
    import gradio as gr

    session = gr.State(PageSession())
    live = html_block(connecting_html(), elem_id="tph-live")
    controls = build_controls(host, session)
    choosing = _build_choosing(session)
    curve = html_block(NO_CHARTS, elem_id="tph-curve-box")
    samples = html_block("", elem_id="tph-samples-box")
    checkpoints = build_checkpoints(host, session)
    with gr.Accordion("Log", open=False, visible=False, elem_id="tph-log", elem_classes=["tph-group"]) as log_box:
        log = html_block(log_html([]), elem_id="tph-log-box")
    return Monitor(session, live, controls, choosing, curve, checkpoints, samples, log, log_box)


def _build_choosing(session: Any) -> Any:
    """The choice of axis, scale and range; returns what holds it."""
    import gradio as gr

    first = ChartChoice()
    common: dict[str, Any] = {"elem_classes": ["tph-field"], "interactive": True, "min_width": 90}
    with gr.Column(visible=False, elem_classes=["tph-choosing"]) as choosing:
        with gr.Row(elem_classes=["tph-chart-choice"]):
            axis = gr.Dropdown(list(AXES), value=first.axis, label="Curves by", elem_id="tph-axis", **common)
            scale = gr.Dropdown(list(SCALES), value=next(iter(SCALES)), label="Scale", elem_id="tph-scale", **common)
            span = gr.Dropdown(list(RANGES), value=first.span, label="Range", elem_id="tph-range", **common)
        with gr.Row(visible=False, elem_classes=["tph-chart-choice", "tph-ends"]) as ends:
            begin = gr.Textbox(label="From", placeholder="begin", max_lines=1, elem_id="tph-range-from", **common)
            end = gr.Textbox(label="To", placeholder="end", max_lines=1, elem_id="tph-range-to", **common)
        note = html_block(NO_RANGE_NOTE, elem_id="tph-range-note-box")
    fields, shown = [session, axis, scale, span, begin, end], [ends, note]
    for dropdown in (axis, scale, span):
        dropdown.input(choose, fields, shown, **event_options())
    for text in (begin, end):
        text.submit(choose, fields, shown, **event_options())
        text.blur(choose, fields, shown, **event_options())
    return choosing


def choose(page: PageSession, axis: str | None, scale: str | None, span: str | None, begin: str, end: str) -> list[Any]:
    """Take in how the page's user wants to see the curves; the page's stream draws them so at its next look."""
    import gradio as gr

    span = span if span in RANGES else RANGES[0]
    low, high, problem = read_range(begin, end) if span == FROM_TO else (None, None, "")
    if not problem:
        page.choice = ChartChoice(axis if axis in AXES else AXES[0], SCALES.get(scale or "", False), span, low, high)
    said = f'<div id="tph-range-note"><p class="tph-error" role="alert">{escape(problem)}</p></div>' if problem else NO_RANGE_NOTE
    return [gr.update(visible=span == FROM_TO), said]
