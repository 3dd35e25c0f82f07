"""The live controls: what one may ask of a run while it goes on, and the values it stops at.

The buttons write into the run's folder (runs/control.py); the run reads that at every step. What applies is shown, and nothing else.

Guarantee: a button acts on the run that the page shows, its answer says what will happen, a wrong value is said at its field, and
discarding asks once more. Where the host says that nothing may be changed, nothing is. Price: none while nobody presses.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from html import escape
from typing import Any

from ...runs.control import LABELS, Control, as_number, change_control, control_problem, read_control
from ...runs.state import RunState
from .. import words
from ..compat import event_options, html_block
from ..fields import element_id, write_number
from ..host import Host
from ..questions import build_question
from ..session import PageSession
from .facts import PAUSE, RESUME, VALUES, LiveFacts
from .phases import next_phase

NO_NOTE = '<div id="tph-control-note"></div>'
# (the run's state, present wishes) -> wishes that change, and a word to the user; raises ValueError for what cannot be
Wish = Callable[[RunState, Control], tuple[dict[str, Any], str]]
_HINTS = {"stop_at_loss": "off", "stop_at_epoch": "off", "lr_scale": "1"}
# two presses at once must not lose one another's wish
_writing = threading.Lock()


def field_id(name: str) -> str:
    """HTML id of the field of a value."""
    return element_id(f"live.{name}")


def note_html(text: str, problem_of: str = "", is_problem: bool = False) -> str:
    """A word under the controls.

    Args:
        text: the word.
        problem_of: name of the value that is wrong; its field is marked.
        is_problem: nothing was done.
    """
    style = ' class="tph-error" role="alert"' if is_problem or problem_of else ' role="status"'
    frame = "border-color:var(--tph-bad)!important;box-shadow:0 0 0 1px var(--tph-bad)!important"
    mark = f"<style>#{field_id(problem_of)} :is(input,textarea){{{frame}}}</style>" if problem_of else ""
    return f'<div id="tph-control-note" data-problem="{problem_of}"><p{style}>{escape(text)}</p>{mark}</div>'


# --- wishes --------------------------------------------------------------------------------------------------------------------


def _now(state: RunState) -> str:
    return "now" if state.is_paused else "after this step"


def pause_wish(label: str, in_webui: bool, state: RunState, control: Control) -> tuple[dict[str, Any], str]:
    """Pause or go on: what the button said when it was pressed."""
    if label == RESUME:
        return {"pause": False}, "The run goes on."
    chat = " Meanwhile the chat answers with the half-trained model." if in_webui else ""
    return {"pause": True}, f"The run stands still after this step, until you press Resume.{chat}"


def save_wish(state: RunState, control: Control) -> tuple[dict[str, Any], str]:
    """A checkpoint."""
    return {
        "save_requests": control.save_requests + 1
    }, f"A checkpoint is saved {_now(state)}; it is yours and never deleted by itself."


def evaluate_wish(state: RunState, control: Control) -> tuple[dict[str, Any], str]:
    """An evaluation."""
    wish = {"evaluate_requests": control.evaluate_requests + 1}
    _require("evaluate_requests", wish["evaluate_requests"], state)
    return dict(wish), f"The held-out samples are evaluated {_now(state)}."


def phase_wish(state: RunState, control: Control) -> tuple[dict[str, Any], str]:
    """The next phase, if the run has one."""
    name = next_phase(state) if state.plan else ""
    if not name:
        raise ValueError("This run has no further phase." if state.plan else "The run has not planned its phases yet.")
    note = f"The phase '{name}' begins as soon as the batches that are already drawn are trained."
    return {"phase_requests": control.phase_requests + 1}, note


def stop_wish(state: RunState, control: Control) -> tuple[dict[str, Any], str]:
    """End, and keep what was learned."""
    return {"stop": True}, f"The run ends {_now(state)} and keeps what was learned."


def discard_wish(state: RunState, control: Control) -> tuple[dict[str, Any], str]:
    """End, and keep nothing."""
    return {"discard": True}, f"The run ends {_now(state)}. What it learned and its checkpoints are thrown away."


def value_wish(name: str, text: str, state: RunState, control: Control) -> tuple[dict[str, Any], str]:
    """Another value in force from the next step on; an emptied field means off, and 1 for the scale."""
    number = as_number(text) if text else (1.0 if name == "lr_scale" else 0.0)
    _require(name, text if number is None else number, state)
    assert number is not None, "what is no number has been refused"
    return {name: number}, _value_words(name, number, state)


def _value_words(name: str, number: float, state: RunState) -> str:
    if name == "lr_scale":
        if number == 1:
            return "The learning rate is the schedule's own from the next step on."
        return f"The schedule's learning rate is multiplied by {write_number(number)} from the next step on."
    label = LABELS[name]
    if not number:
        return f"{label} is off now."
    if name == "stop_at_epoch":
        return f"The run ends at epoch {write_number(number)} and keeps what was learned."
    loss = state.last_step.get("smoothed_loss")
    now = f"; it is {words.loss(loss)} now" if loss is not None else ""
    return f"The run ends when the smoothed loss is at or under {write_number(number)}{now}."


def _require(name: str, value: Any, state: RunState) -> None:
    """Raise what is wrong with a wish, in the form's words."""
    if problem := control_problem(name, value, state):
        raise ValueError(problem)


# --- components ----------------------------------------------------------------------------------------------------------------


@dataclass
class LiveControls:
    """The components, and what their buttons do.

    Attributes:
        card: holds all of them; shown while a run is live.
        parts: name -> component: pause, save, evaluate, phase, and the names of VALUES.
        planned: holds what needs a plan.
        buttons: all of them, for others that listen to presses.
        note: the word under them.
    """

    host: Host
    card: Any
    planned: Any
    parts: dict[str, Any]
    buttons: list[Any]
    note: Any

    def updates(self, facts: LiveFacts, before: LiveFacts | None) -> dict[Any, Any]:
        """What changes on the page; a field that somebody may be typing into only if its value in force has changed."""
        import gradio as gr

        def changed(name: str) -> bool:
            return before is None or getattr(facts, name) != getattr(before, name)

        updates: dict[Any, Any] = {}
        for name, component in (("is_live", self.card), ("is_planned", self.planned)):
            if changed(name):
                updates[component] = gr.update(visible=getattr(facts, name))
        for name, key in (("is_planned", "save"), ("can_evaluate", "evaluate"), ("can_switch", "phase")):
            if changed(name):
                updates[self.parts[key]] = gr.update(visible=getattr(facts, name))
        if changed("pause_label") or changed("is_planned"):
            updates[self.parts["pause"]] = gr.update(value=facts.pause_label, visible=facts.is_planned)
        for place, name in enumerate(VALUES):
            if before is None or facts.values[place] != before.values[place]:
                updates[self.parts[name]] = gr.update(value=facts.values[place])
        if before is not None and before.is_live and not facts.is_live:
            updates[self.note] = NO_NOTE
        return updates

    def pause(self, page: PageSession, label: str) -> str:
        """Pause or go on, as the button says."""
        return self.press(partial(pause_wish, label, self.host.in_webui), page)

    def set_value(self, name: str, page: PageSession, text: str | None) -> str:
        """Another value in force; the answer, or what is wrong at the field."""
        return self.press(partial(value_wish, name, str(text or "").strip()), page, name)

    def ask_discard(self, page: PageSession) -> list[Any]:
        """The question before everything is thrown away."""
        import gradio as gr

        try:
            _, state = self._live(page)
        except (ValueError, OSError) as error:
            return [note_html(str(error), is_problem=True), gr.update(visible=False), ""]
        step = words.count(state.last_step.get("step", 0))
        question = f"Throw away what {state.name} has learned in {step} steps, with its checkpoints? This cannot be undone."
        return [NO_NOTE, gr.update(visible=True), f'<p id="tph-discard-question" role="alert">{escape(question)}</p>']

    def discard(self, page: PageSession) -> list[Any]:
        """End the shown run and keep nothing."""
        import gradio as gr

        return [self.press(discard_wish, page), gr.update(visible=False)]

    def go_on(self) -> list[Any]:
        """Discard nothing."""
        import gradio as gr

        return [NO_NOTE, gr.update(visible=False)]

    def _live(self, page: PageSession) -> tuple[Any, RunState]:
        if reason := self.host.read_only():
            raise ValueError(reason)
        folder, state = page.run(self.host)
        if not state.is_live:
            raise ValueError("Nothing is running.")
        return folder, state

    def press(self, wish: Wish, page: PageSession, problem_of: str = "") -> str:
        """Ask something of the shown run; the answer.

        Args:
            wish: what is asked for.
            page: which run it shows.
            problem_of: name of the value that is marked if it is wrong.
        """
        try:
            folder, state = self._live(page)
        except (ValueError, OSError) as error:
            return note_html(str(error), is_problem=True)
        try:
            with _writing:
                changes, note = wish(state, read_control(folder.control))
                change_control(folder.control, **changes)
        except ValueError as error:
            return note_html(str(error), problem_of, is_problem=True)
        except OSError as error:
            return note_html(f"This could not be written to {folder.control}: {error}. Is the disk full?", is_problem=True)
        return note_html(note)


def build_controls(host: Host, session: Any) -> LiveControls:
    """Create the controls in the current Blocks context and wire them.

    Args:
        host: the place where the page lives.
        session: gr.State with the page's :class:`PageSession`.
    """
    import gradio as gr

    parts: dict[str, Any] = {}
    with gr.Column(visible=False, elem_id="tph-controls", elem_classes=["tph-group"]) as card:
        with gr.Row(elem_classes=["tph-buttons", "tph-button-grid"]):
            for name, label in (("pause", PAUSE), ("save", LABELS["save_requests"])):
                parts[name] = gr.Button(label, visible=False, elem_id=f"tph-{name}-button", min_width=100)
            for name, label in (("evaluate", LABELS["evaluate_requests"]), ("phase", LABELS["phase_requests"])):
                parts[name] = gr.Button(label, visible=False, elem_id=f"tph-{name}-button", min_width=100)
            stop = gr.Button(LABELS["stop"], variant="stop", elem_id="tph-stop-button", min_width=100)
            discard = gr.Button(f"{LABELS['discard']} …", variant="stop", elem_id="tph-discard-button", min_width=100)
        asking = build_question("tph-discard", "tph-discard-box", "Discard for good", "Go on training")
        question, asked, really, keep = asking
        with gr.Row(visible=False, elem_classes=["tph-values"]) as planned:
            appliers = [_build_value(name, parts) for name in VALUES]
        note = html_block(NO_NOTE, elem_id="tph-control-note-box")
    buttons = [parts["pause"], parts["save"], parts["evaluate"], parts["phase"], stop, discard, really]
    controls = LiveControls(host, card, planned, parts, buttons, note)
    parts["pause"].click(controls.pause, [session, parts["pause"]], note, **event_options())
    wishes = ((parts["save"], save_wish), (parts["evaluate"], evaluate_wish), (parts["phase"], phase_wish), (stop, stop_wish))
    for button, wish in wishes:
        button.click(partial(controls.press, wish), session, note, **event_options())
    discard.click(controls.ask_discard, session, [note, question, asked], **event_options())
    really.click(controls.discard, session, [note, question], **event_options())
    keep.click(controls.go_on, None, [note, question], **event_options())
    for name, apply in zip(VALUES, appliers, strict=True):
        handler = partial(controls.set_value, name)
        for trigger in (parts[name].submit, apply.click):
            trigger(handler, [session, parts[name]], note, **event_options())
    return controls


def _build_value(name: str, parts: dict[str, Any]) -> Any:
    """A small field with its Apply button; the button is returned."""
    import gradio as gr

    with gr.Row(elem_classes=["tph-value"]):
        parts[name] = gr.Textbox(
            label=LABELS[name],
            placeholder=_HINTS[name],
            max_lines=1,
            elem_id=field_id(name),
            elem_classes=["tph-field"],
            interactive=True,
            scale=3,
            min_width=60,
        )
        return gr.Button("Apply", elem_id=f"{field_id(name)}-apply", elem_classes=["tph-apply"], scale=0, min_width=60)
