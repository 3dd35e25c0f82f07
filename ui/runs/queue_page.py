"""The part of the page of runs that shows the queue: add the form's settings, order, remove, pause.

Guarantee: what an entry needs (valid settings, a free name) is asked when it is added and again when it begins; a host that is read-only
refuses every change on the server's side. What is shown comes from the queue's file, so all pages show the same.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from html import escape
from typing import Any

from ...config import Problem, RunConfig
from ...runs.queue import Queue, QueueState
from ...runs.queue_entry import add_to_queue
from ...runs.queue_runner import Place, ensure_runner
from ...runs.start_times import parse_start
from .. import words
from ..compat import event_options, html_block
from ..form import Form
from ..form.problems import error_problems
from ..host import Host
from .queue_html import NO_QUEUE, entry_choices, queue_html

NO_NOTE = '<div id="tph-queue-note"></div>'
EXPECTED_ERRORS = (ValueError, OSError, RuntimeError)


def obstacle(host: Host, config: RunConfig, model: str) -> str:
    """Why an entry cannot be trained now but may be later; empty if it can.

    Args:
        host: the place.
        config: the entry's settings.
        model: the one they are meant for; "" = whichever there is.
    """
    if word := host.read_only():
        return word
    if problem := host.model_facts().get("problem"):
        return f"It waits. {problem}"
    there = host.model_name(config)
    if model and there and model != there:
        return f"It waits for the model {model}; {there} is loaded now."
    return ""


@dataclass
class QueuePage:
    """Components of the part, and what its buttons do.

    Attributes:
        shown: outputs of :meth:`view`: table, drop-down of entries, the buttons' place, both ticks.
    """

    host: Host
    note: Any
    start_at: Any
    add_button: Any
    shown: list[Any]

    # --- what is shown -------------------------------------------------------------------------------------------------------------

    def queue(self) -> Queue:
        """The queue of the adapters' folder as it is now."""
        return Queue(self.host.adapters_dir())

    def view(self, state: QueueState | None = None, chosen: Any = None) -> list[Any]:
        """The queue as updates of :attr:`shown`.

        Args:
            state: the queue; None reads it.
            chosen: id of the entry that the drop-down shows; None leaves it.
        """
        import gradio as gr

        try:
            state = state or self.queue().read()
        except ValueError as error:
            broken = f'<div id="tph-queue"><p class="tph-error" role="alert">{escape(str(error))}</p></div>'
            return [broken, gr.update(choices=[]), gr.update(visible=False), gr.update(), gr.update()]
        choices = entry_choices(state.entries)
        value = {} if chosen is None else {"value": chosen if chosen in [entry_id for _, entry_id in choices] else None}
        return [
            queue_html(state, time.time()),
            gr.update(choices=choices, **value),
            gr.update(visible=bool(choices)),
            gr.update(value=state.is_paused),
            gr.update(value=state.goes_on),
        ]

    def look(self) -> list[tuple[Any, Any]]:
        """(what tells a change, update) for each of :attr:`shown`."""
        try:
            state = self.queue().read()
        except ValueError:
            return [(str(update), update) for update in self.view()]
        updates = self.view(state)
        choices = entry_choices(state.entries)
        stamps = (updates[0], choices, bool(choices), state.is_paused, state.goes_on)
        return list(zip(stamps, updates, strict=True))

    # --- what the buttons do -------------------------------------------------------------------------------------------------------

    def add(self, form: Form, start_at: str, *values: Any) -> list[Any]:
        """Let the form's settings wait: refused with all their problems, as Start would."""
        if word := self.host.read_only():
            return [note_html(word), *self.view()]
        try:
            config = self.host.complete(form.config(values))
            model = self.host.model_name(config)
            problems: list[Problem | str] = [*config.problems(), *_time_problems(start_at)]
            if problems:
                return [refusal_html(problems), *self.view()]
            moment = parse_start(start_at)
            entry = add_to_queue(self.queue(), config, model=model, start_at=moment)
        except EXPECTED_ERRORS as error:
            return [refusal_html(error_problems(error)), *self.view()]
        begins = "when it is its turn" if moment is None else f"not before {words.moment(moment)}"
        whose = "" if model else " No model is loaded, so it takes the one that is there then."
        return [note_html(f"{entry.name} was added. It begins {begins}.{whose}"), *self.view(chosen=entry.id)]

    def change(self, action: Callable[[Queue, str], str | None], chosen: str | None) -> list[Any]:
        """Change one entry and say what came of it.

        Args:
            action: does it; gives the word to show, or the id that the drop-down shows then.
            chosen: id of the entry.
        """
        if word := self.host.read_only():
            return [note_html(word), *self.view()]
        if not chosen:
            return [note_html("Choose an entry of the queue first."), *self.view()]
        try:
            said = action(self.queue(), chosen) or ""
        except EXPECTED_ERRORS as error:
            said = str(error)
        return [note_html(said), *self.view(chosen=chosen)]

    def switch(self, action: Callable[[Queue, bool], None], on: bool) -> list[Any]:
        """Set one of the ticks."""
        said = self.host.read_only()
        if not said:
            try:
                action(self.queue(), on)
            except EXPECTED_ERRORS as error:
                said = str(error)
        return [note_html(said), *self.view()]

    def wire(self, form: Form) -> None:
        """Let the button take the settings of the form."""
        inputs = [self.start_at, *form.components]
        self.add_button.click(partial(self.add, form), inputs, [self.note, *self.shown], **event_options())


def _time_problems(text: str) -> list[str]:
    try:
        parse_start(text)
    except ValueError as error:
        return [str(error)]
    return []


def _remove(queue: Queue, entry_id: str) -> str:
    return f"{queue.remove(entry_id).name} was taken out of the queue. Its run, if it had one, stays."


def _again(queue: Queue, entry_id: str) -> str:
    queue.again(entry_id)
    return "It waits once more, at the end of the queue."


def _move(by: int, queue: Queue, entry_id: str) -> str:
    queue.move(entry_id, by)
    return ""


def note_html(text: str) -> str:
    """A word of this part."""
    return f'<div id="tph-queue-note" class="tph-card" role="status"><p>{escape(text)}</p></div>' if text else NO_NOTE


def refusal_html(problems: Sequence[Problem | str]) -> str:
    """All that must be mended before the settings can wait."""
    entries = "".join(f"<li>{escape(str(problem))}</li>" for problem in problems)
    return f'<div id="tph-queue-note" class="tph-card tph-bad" role="alert"><p>Not added. To be mended first:</p><ul>{entries}</ul></div>'


def build_queue(host: Host) -> QueuePage:
    """Create the part's components in the current Blocks context, wire them, and let this process work on the queue."""
    import gradio as gr

    with gr.Column(elem_classes=["tph-group", "tph-queue-group"]):
        html_block("<h3>Queue</h3>")
        table = html_block(NO_QUEUE, elem_id="tph-queue-box")
        with gr.Column(visible=False, elem_id="tph-queue-tools") as tools:
            with gr.Row(elem_classes=["tph-queue-line"]):
                chosen = gr.Dropdown(
                    choices=[], value=None, label="Entry", elem_id="tph-queue-chosen", elem_classes=["tph-field"]
                )
                with gr.Row(elem_classes=["tph-buttons", "tph-many"]):
                    buttons = [
                        gr.Button(word, elem_id=f"tph-queue-{name}", min_width=80)
                        for name, word in (("up", "Up"), ("down", "Down"), ("remove", "Remove"), ("again", "Once more"))
                    ]
            with gr.Row(elem_classes=["tph-queue-line"]):
                paused = gr.Checkbox(False, label="Pause the queue", elem_id="tph-queue-pause", elem_classes=["tph-field"])
                goes_on = gr.Checkbox(
                    True, label="Go on after a failure", elem_id="tph-queue-goes-on", elem_classes=["tph-field"]
                )
        with gr.Row(elem_classes=["tph-queue-line"]):
            start_at = gr.Textbox(
                label="Start time",
                info="Empty: as soon as it is its turn. Or 22:30, tomorrow 7:00, 2026-01-31 22:30.",
                elem_id="tph-queue-start",
                elem_classes=["tph-field"],
                max_lines=1,
            )
            add = gr.Button("Add the form's settings", elem_id="tph-queue-add", min_width=220, scale=0)
        note = html_block(NO_NOTE, elem_id="tph-queue-note-box")
    page = QueuePage(host, note, start_at, add, [table, chosen, tools, paused, goes_on])
    _wire(page, chosen, buttons, (paused, goes_on))
    ensure_runner(Place(host.adapters_dir, host.launch, partial(obstacle, host)))
    return page


def _wire(page: QueuePage, chosen: Any, buttons: list[Any], ticks: tuple[Any, Any]) -> None:
    outputs = [page.note, *page.shown]
    actions: list[Callable[[Queue, str], str | None]] = [partial(_move, -1), partial(_move, +1), _remove, _again]
    for button, action in zip(buttons, actions, strict=True):
        button.click(partial(page.change, action), chosen, outputs, **event_options())
    for tick, switch in zip(ticks, (Queue.pause, Queue.go_on_after_failures), strict=True):
        tick.input(partial(page.switch, switch), tick, outputs, **event_options())
