"""The training tab: form, Check, Start, live controls and the run's state, made in the current Blocks context.

The page holds no state of a run. What it shows comes from the run's folder (watch.py), what its buttons ask for goes there
(runs/control.py), and the work is done by the callables of the :class:`Host`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

from ..runs.store import list_runs
from .actions import TRAINING, Actions, message_html
from .compat import event_options, html_block
from .facts import model_html
from .fields import NOTHING
from .form import Form, build_form, with_refresh
from .host import Host
from .preview import NO_PREVIEW, PAGE
from .report import NO_REPORT
from .runs_page import build_runs
from .status import connecting_html
from .watch import live_html


def build_tab(host: Host) -> None:
    """Create all components of the tab inside the current Blocks context.

    Args:
        host: the place where the tab lives.
    """
    import gradio as gr

    with gr.Tabs(elem_id="tph-pages") as pages:
        with gr.Tab("Training", id=TRAINING, elem_id="tph-training-page"), gr.Column(elem_classes=["tph-tab"]):
            model = html_block(model_html(host.model_facts()), elem_id="tph-model-box")
            html_block('<a href="#tph-run">To the buttons and the progress ↓</a>', elem_id="tph-jump")
            with gr.Row(elem_classes=["tph-columns"]):
                with gr.Column(scale=3, min_width=320, elem_classes=["tph-form"]):
                    copy_from = _build_copy_from(host)
                    form = build_form(host)
                with gr.Column(scale=2, min_width=320, elem_id="tph-run", elem_classes=["tph-run"]):
                    with gr.Row(elem_classes=["tph-buttons"]):
                        check = gr.Button("Check", elem_id="tph-check-button", min_width=120)
                        preview = gr.Button("Preview", elem_id="tph-preview-button", min_width=120)
                        start = gr.Button("Start training", variant="primary", elem_id="tph-start-button", min_width=120)
                    with gr.Row(elem_classes=["tph-buttons", "tph-live-buttons"]):
                        save = gr.Button("Save checkpoint now", elem_id="tph-save-button", min_width=120)
                        phase = gr.Button("Next phase now", elem_id="tph-phase-button", min_width=120)
                        interrupt = gr.Button("Interrupt", variant="stop", elem_id="tph-interrupt-button", min_width=120)
                    box = html_block(message_html(), elem_id="tph-problems-box")
                    report = html_block(NO_REPORT, elem_id="tph-check-box")
                    samples = html_block(NO_PREVIEW, elem_id="tph-preview-box")
                    with gr.Row(elem_classes=["tph-buttons"], visible=False) as turning:
                        back = gr.Button("Previous samples", elem_id="tph-preview-back-button", min_width=120)
                        on = gr.Button("Next samples", elem_id="tph-preview-next-button", min_width=120)
                    live = html_block(connecting_html(), elem_id="tph-live")
                    curve = html_block('<div id="tph-curve"></div>', elem_id="tph-curve-box")
        with gr.Tab("Runs", id="runs", elem_id="tph-runs-page") as runs_tab:
            runs = build_runs(host)
    actions = Actions(host, form)
    check.click(actions.check, form.components, [box, report, model, form.advanced], **event_options())
    start.click(actions.start, form.components, [box, report, model, form.advanced], **event_options())
    place = gr.State(0)
    for button, move in ((preview, 0), (back, -PAGE), (on, PAGE)):
        shown = [box, samples, turning, place, form.advanced]
        button.click(partial(actions.preview, move), [place, *form.components], shown, **event_options())
    interrupt.click(actions.interrupt, None, box, **event_options())
    save.click(actions.save_now, None, box, **event_options())
    phase.click(actions.next_phase, None, box, **event_options())
    copy_from.input(actions.copy_from, copy_from, [box, *form.components], **event_options())
    runs_tab.select(runs.refresh, None, runs.shown, **event_options())
    for button, resume in ((runs.use, False), (runs.resume, True)):
        outputs = [box, pages, *form.components]
        button.click(partial(actions.use_run, resume), runs.chosen, outputs, **event_options())
    _watch(host, form, model, copy_from, live, curve, [check, start, interrupt, save, phase])


def _build_copy_from(host: Host) -> Any:
    common = {
        "label": "Copy parameters from",
        "info": "A former run, or the path of a training_parameters.json or YAML file. All fields below take its values.",
        "value": NOTHING,
        "elem_id": "tph-copy_from",
        "elem_classes": ["tph-field"],
    }
    return with_refresh(common, lambda: run_choices(host))


def _watch(host: Host, form: Form, model: Any, copy_from: Any, live: Any, curve: Any, buttons: list[Any]) -> None:
    """Events of the page's opening: look again what there is, then follow the run for as long as the page is open."""
    import gradio as gr
    from gradio.context import Context

    def look_again() -> list[Any]:
        return [model_html(host.model_facts()), gr.update(choices=run_choices(host)), *form.fresh_choices()]

    async def watch() -> AsyncIterator[tuple[Any, ...]]:
        shown = ""
        async for status, charts in live_html(host):
            # the WebUI may have loaded or unloaded a model, and a run takes it and gives it back
            facts = model_html(await asyncio.to_thread(host.model_facts))
            targets = (await asyncio.to_thread(form.fresh_choices))[-1] if facts != shown else None
            news = (status, charts, facts if facts != shown else None, targets)
            shown = facts
            yield tuple(gr.update() if update is None else update for update in news)

    page = Context.root_block
    assert page is not None, "build_tab() is called inside a Blocks context"
    page.load(look_again, None, [model, copy_from, *form.choice_components], **event_options())
    # the WebUI has a button that ends all streams of its page (docs/WEBUI_COMPATIBILITY.md): ours start this one again
    gr.on(
        [page.load, *(button.click for button in buttons)],
        watch,
        None,
        [live, curve, model, form.choice_components[-1]],
        **event_options(),
    )


def run_choices(host: Host) -> list[tuple[str, str]]:
    """(name, file of parameters) of the former runs, newest first."""
    runs = [folder for folder in list_runs(host.adapters_dir()) if folder.parameters.is_file()]
    return [(NOTHING, NOTHING), *((folder.name, str(folder.parameters)) for folder in runs)]
