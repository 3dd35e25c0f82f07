"""The training tab: form, Check, Start, live controls and the run's state, made in the current Blocks context.

The page holds no state of a run. What it shows comes from the run's folder (watch.py), what its buttons ask for goes there
(runs/control.py), and the work is done by the callables of the :class:`Host`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

from ..config import Problem, RunConfig
from ..runs.control import Control, change_control, read_control
from ..runs.registry import is_busy
from ..runs.state import RUNNING, RunState, read_state
from ..runs.store import list_runs
from .compat import event_options, html_block
from .facts import model_html
from .fields import NOTHING
from .form import Form, build_form, with_refresh
from .host import Host
from .phases import next_phase
from .preview import NO_PREVIEW, PAGE, preview_html
from .problems import NO_PROBLEMS, error_problems, problems_html
from .report import NO_REPORT, report_html
from .status import connecting_html
from .watch import live_html, shown_run

# what a user, the disk or the model can bring about; anything else is a fault of the program and goes to its log
EXPECTED_ERRORS = (ValueError, OSError, RuntimeError, ImportError)
# (the run's state, present wishes) -> wishes that change, and a word to the user
Wish = Callable[[RunState, Control], tuple[dict[str, Any], str]]


def build_tab(host: Host) -> None:
    """Create all components of the tab inside the current Blocks context.

    Args:
        host: the place where the tab lives.
    """
    import gradio as gr

    with gr.Column(elem_classes=["tph-tab"]):
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
                with gr.Row(elem_classes=["tph-buttons"], visible=False) as pages:
                    back = gr.Button("Previous samples", elem_id="tph-preview-back-button", min_width=120)
                    on = gr.Button("Next samples", elem_id="tph-preview-next-button", min_width=120)
                live = html_block(connecting_html(), elem_id="tph-live")
                curve = html_block('<div id="tph-curve"></div>', elem_id="tph-curve-box")
    actions = Actions(host, form)
    check.click(actions.check, form.components, [box, report, model, form.advanced], **event_options())
    start.click(actions.start, form.components, [box, report, model, form.advanced], **event_options())
    place = gr.State(0)
    for button, move in ((preview, 0), (back, -PAGE), (on, PAGE)):
        shown = [box, samples, pages, place, form.advanced]
        button.click(partial(actions.preview, move), [place, *form.components], shown, **event_options())
    interrupt.click(actions.interrupt, None, box, **event_options())
    save.click(actions.save_now, None, box, **event_options())
    phase.click(actions.next_phase, None, box, **event_options())
    copy_from.input(actions.copy_from, copy_from, [box, *form.components], **event_options())
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


def message_html(problems: list[Problem | str] | None = None, note: str = "", title: str = "") -> str:
    """The box beside the buttons: ``#tph-problems``, and ``#tph-note`` for a word that is no problem."""
    word = f'<p id="tph-note" role="status">{escape(note)}</p>' if note else ""
    return (problems_html(problems, title) if problems else NO_PROBLEMS) + word


def _phase_wish(state: RunState, control: Control) -> tuple[dict[str, Any], str]:
    """The wish for the next phase, if the run has one."""
    if not state.plan:
        return {}, "The run has not planned its phases yet. Try again when it trains."
    name = next_phase(state)
    if not name:
        return {}, "This run has no further phase."
    note = f"The phase '{name}' was asked for: it begins as soon as the batches that are already drawn are trained."
    return {"phase_requests": control.phase_requests + 1}, note


class Actions:
    """What the buttons do; each returns the new content of the components it belongs to."""

    def __init__(self, host: Host, form: Form) -> None:
        self._host = host
        self._form = form

    def check(self, *values: Any) -> Iterator[tuple[Any, ...]]:
        """Prepare, plan and estimate without training."""
        import gradio as gr

        config = self._form.config(values)
        problems: list[Problem | str] = list(config.problems())
        facts = model_html(self._host.model_facts())
        if problems:
            yield message_html(problems), NO_REPORT, facts, self._open_advanced(problems)
            return
        waiting = '<div id="tph-check" class="tph-card" data-status="checking"><p>Reading and counting the data …</p></div>'
        yield message_html(), waiting, facts, gr.update()
        try:
            report = report_html(self._host.check(config), config.checkpoints.save_every_steps)
        except EXPECTED_ERRORS as error:
            problems = error_problems(error)
            yield message_html(problems), NO_REPORT, facts, self._open_advanced(problems)
            return
        yield message_html(), report, facts, gr.update()

    def preview(self, move: int, place: int, *values: Any) -> Iterator[tuple[Any, ...]]:
        """Show samples as they are trained, from the first on or a page further.

        Args:
            move: samples to go on from those that are shown; 0 begins anew.
            place: first sample that is shown.
            values: of the form's fields.
        """
        import gradio as gr

        config = self._form.config(values)
        problems: list[Problem | str] = list(config.problems())
        if problems:
            yield message_html(problems), NO_PREVIEW, gr.update(visible=False), 0, self._open_advanced(problems)
            return
        if not move:
            waiting = '<div id="tph-preview" class="tph-card" data-status="reading"><p>Reading the data …</p></div>'
            yield message_html(), waiting, gr.update(visible=False), 0, gr.update()
        try:
            found = self._host.preview(config, max(0, place + move) if move else 0, PAGE)
        except EXPECTED_ERRORS as error:
            problems = error_problems(error)
            yield message_html(problems), NO_PREVIEW, gr.update(visible=False), 0, self._open_advanced(problems)
            return
        has_pages = found["num_entries"] > PAGE
        yield message_html(), preview_html(found), gr.update(visible=has_pages), found["first"], gr.update()

    def start(self, *values: Any) -> tuple[Any, ...]:
        """Start a run in the background; returns at once. The report of Check makes room for the run."""
        import gradio as gr

        config = self._form.config(values)
        facts = self._host.model_facts()
        problems: list[Problem | str] = [facts["problem"]] if facts.get("problem") else []
        problems += config.problems()
        note = ""
        if not problems:
            try:
                handle = self._host.launch(config)
                note = f"{handle.name} was started. You may close this page: the run goes on, and a page opened later shows it."
            except EXPECTED_ERRORS as error:
                problems = error_problems(error)
        report = gr.update() if problems else NO_REPORT
        return message_html(problems, note), report, model_html(facts), self._open_advanced(problems)

    def interrupt(self) -> str:
        """Ask the shown run to stop and keep what it has learned."""
        note = "Interrupt was asked for: the run ends after this step and keeps what was learned."
        return self._control(lambda state, control: ({"stop": True}, note))

    def save_now(self) -> str:
        """Ask the shown run for a checkpoint."""
        note = "A checkpoint is saved after this step."
        return self._control(lambda state, control: ({"save_requests": control.save_requests + 1}, note))

    def next_phase(self) -> str:
        """Ask the shown run to begin its next phase."""
        return self._control(_phase_wish)

    def _control(self, wish: Wish) -> str:
        folder = shown_run(self._host)
        if folder is None and is_busy():
            return message_html(note="The run is still starting. Try again in a moment.")
        state = read_state(folder) if folder else RunState()
        if folder is None or state.status != RUNNING:
            return message_html(note="Nothing is running.")
        changes, note = wish(state, read_control(folder.control))
        try:
            if changes:
                change_control(folder.control, **changes)
        except OSError as error:
            return message_html([f"The wish could not be written to {folder.control}: {error}. Is the disk full?"])
        return message_html(note=note)

    def copy_from(self, path: str | None) -> list[Any]:
        """Load the parameters of a former run into the form."""
        import gradio as gr

        unchanged = [gr.update() for _ in self._form.components]
        if path in (None, "", NOTHING):
            return [message_html(), *unchanged]
        try:
            config = RunConfig.from_file(Path(str(path)).expanduser())
        except EXPECTED_ERRORS as error:
            return [message_html(error_problems(error)), *unchanged]
        shown = {info.field for info in self._form.infos}
        bad: list[Problem | str] = [problem for problem in config.problems() if problem.field in shown]
        bad += config.notes
        title = "The parameters were copied. Have a look at:" if bad else ""
        note = "" if bad else "The parameters were copied."
        return [message_html(bad, note, title), *self._form.values(config)]

    def _open_advanced(self, problems: list[Problem | str]) -> Any:
        """The advanced group opens if a problem lies in it."""
        import gradio as gr

        advanced = {info.field for info in self._form.infos if info.advanced}
        is_hidden = any(isinstance(problem, Problem) and problem.field in advanced for problem in problems)
        return gr.update(open=True) if is_hidden else gr.update()
