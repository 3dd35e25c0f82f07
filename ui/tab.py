"""The training tab: form, Check, Start, live controls and the run's state, made in the current Blocks context.

The page holds no state of a run. What it shows comes from the run's folder (watch.py), what its buttons ask for goes there
(runs/control.py), and the work is done by the callables of the :class:`Host`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

from .actions import TRAINING, Actions, message_html
from .check.preview import NO_PREVIEW, PAGE
from .check.report import NO_REPORT
from .compat import event_options, html_block
from .facts import model_html
from .form import Form
from .form.column import build_form_column, run_choices, show_first, wire_form
from .form.suggest import build_suggestions
from .host import Host
from .live.monitor import Monitor, build_monitor
from .live.render import AT_STEPS, SELDOM
from .live.watch import live_news
from .notices import notices_html
from .runs.page import build_runs
from .session import PageSession


def build_tab(host: Host) -> None:
    """Create all components of the tab inside the current Blocks context.

    Args:
        host: the place where the tab lives.
    """
    import gradio as gr
    from gradio.context import Context

    html_block(notices_html(host), elem_id="tph-notices-box", elem_classes=["tph-tab"])
    with gr.Tabs(elem_id="tph-pages") as pages:
        with gr.Tab("Training", id=TRAINING, elem_id="tph-training-page"), gr.Column(elem_classes=["tph-tab"]):
            model = html_block(model_html(host.model_facts()), elem_id="tph-model-box")
            html_block('<a href="#tph-run">To the buttons and the progress ↓</a>', elem_id="tph-jump")
            with gr.Row(elem_classes=["tph-columns"]):
                with gr.Column(scale=3, min_width=320, elem_classes=["tph-form"]):
                    column = build_form_column(host)
                    copy_from, form = column.copy_from, column.form
                with gr.Column(scale=2, min_width=320, elem_id="tph-run", elem_classes=["tph-run"]):
                    with gr.Row(elem_classes=["tph-buttons"]):
                        check = gr.Button("Check", elem_id="tph-check-button", min_width=120)
                        preview = gr.Button("Preview", elem_id="tph-preview-button", min_width=120)
                        start = gr.Button("Start training", variant="primary", elem_id="tph-start-button", min_width=120)
                    box = html_block(message_html(), elem_id="tph-problems-box")
                    report = html_block(NO_REPORT, elem_id="tph-check-box")
                    suggestions = build_suggestions()
                    samples = html_block(NO_PREVIEW, elem_id="tph-preview-box")
                    with gr.Row(elem_classes=["tph-buttons"], visible=False) as turning:
                        back = gr.Button("Previous samples", elem_id="tph-preview-back-button", min_width=120)
                        on = gr.Button("Next samples", elem_id="tph-preview-next-button", min_width=120)
                    monitor = build_monitor(host)
        with gr.Tab("Runs", id="runs", elem_id="tph-runs-page") as runs_tab:
            runs = build_runs(host)
    actions = Actions(host, form)
    found = [box, report, model, form.advanced, *suggestions.outputs]
    show_first(check.click(actions.check, form.components, found, **event_options()))
    show_first(start.click(actions.start, form.components, found, **event_options()))
    place = gr.State(0)
    for button, move in ((preview, 0), (back, -PAGE), (on, PAGE)):
        shown = [box, samples, turning, place, form.advanced]
        show_first(button.click(partial(actions.preview, move), [place, *form.components], shown, **event_options()))
    checkpoints = monitor.checkpoints
    fields = [box, *form.components]
    checkpoints.resume.click(actions.resume_from, [monitor.session, checkpoints.chosen], fields, **event_options())
    runs_tab.select(runs.refresh, [runs.order, runs.session], runs.shown, **event_options())
    for if_exists, button in runs.to_form.items():
        outputs = [box, pages, *form.components]
        button.click(partial(actions.use_run, if_exists), runs.chosen, outputs, **event_options())
    if runs.queue:
        runs.queue.wire(form)
    page = Context.root_block
    assert page is not None, "build_tab() is called inside a Blocks context"
    wire_form(column, actions, box, suggestions, page)
    _watch(page, host, form, model, copy_from, monitor, [check, start])


def _watch(page: Any, host: Host, form: Form, model: Any, copy_from: Any, monitor: Monitor, buttons: list[Any]) -> None:
    """The page's streams: they look again what there is when the page is opened, then follow the run for as long as the page is open."""
    import gradio as gr

    def look_again() -> dict[Any, Any]:
        fresh = dict(zip(form.choice_components, form.fresh_choices(), strict=True))
        return {copy_from: gr.update(choices=run_choices(host)), **fresh}

    async def watch_steps(session: PageSession) -> AsyncIterator[dict[Any, Any]]:
        async for changed in live_news(host, session, AT_STEPS):
            yield monitor.updates(changed, None) or {monitor.live: gr.update()}

    async def watch_rest(session: PageSession) -> AsyncIterator[dict[Any, Any]]:
        facts, controls = "", None
        async for changed in live_news(host, session, SELDOM):
            updates = monitor.updates(changed, controls)
            controls = changed.get("live", controls)
            # the WebUI may have loaded or unloaded a model, and a run takes it and gives it back
            if (found := model_html(await asyncio.to_thread(host.model_facts))) != facts:
                updates |= {model: found, form.choice_components[-1]: (await asyncio.to_thread(form.fresh_choices))[-1]}
                updates |= {} if facts else await asyncio.to_thread(look_again)
                facts = found
            yield updates or {model: gr.update()}

    # the WebUI has a button that ends all streams of its page (docs/WEBUI_COMPATIBILITY.md): ours start these again
    begin = [page.load, *(button.click for button in (*buttons, *monitor.buttons))]
    rest = [*monitor.seldom, model, copy_from, *form.choice_components]
    for watch, outputs in ((watch_steps, monitor.at_steps), (watch_rest, rest)):
        gr.on(begin, watch, monitor.session, outputs, **event_options())
