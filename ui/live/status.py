"""A run's state as HTML: status line, bar, messages, result. Pure functions of the state.

Everything that comes from outside (names, prompts, answers, messages) is escaped.
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from itertools import islice
from pathlib import Path
from typing import Any

from ...runs.state import DIED, DISCARDED, FAILED, FINISHED, INTERRUPTED, RUNNING, RunState
from .. import words
from ..fields import write_number
from .facts import LiveFacts
from .phases import phase_words

CONNECTING, IDLE, PAUSED = "connecting", "idle", "paused"
_TITLES = {
    CONNECTING: "Connecting",
    IDLE: "No run yet",
    RUNNING: "Running",
    PAUSED: "Paused",
    FINISHED: "Finished",
    INTERRUPTED: "Interrupted",
    DISCARDED: "Discarded",
    FAILED: "Failed",
    DIED: "Ended without a word",
}
_KEPT_MESSAGES = 8
PHASE, _WIDE = "Phase", ' class="tph-wide"'
_LOOK_BACK = 2000  # steps: memory is told once a second


@dataclass(frozen=True)
class RunView:
    """What the page shows of one run.

    Attributes:
        state: what the diary says.
        folder: the run's folder; None if it has none.
        has_adapter: whether a trained adapter lies there.
        in_webui: the result is applied in the WebUI's Model tab.
        is_stopping: the user asked it to stop, and to keep what it has learned or (``is_discarding``) not.
        is_pausing: the user asked it to pause.
        live: what its controls show.
    """

    state: RunState
    folder: Path | None = None
    has_adapter: bool = False
    in_webui: bool = False
    is_stopping: bool = False
    is_discarding: bool = False
    is_pausing: bool = False
    live: LiveFacts = LiveFacts()


def status_html(view: RunView | None, *, is_live: bool = True) -> str:
    """The live part of the page: ``#tph-status`` with data-status, and ``#tph-result`` at the end of a run.

    Args:
        view: the run; None if there is none.
        is_live: it is the one part of the page that changes by itself, so it has the ids and is read out; else it has ``data-part``.
    """
    if view is None:
        hint = "Choose the data, press Check, then Start training. The progress appears here, also after a reload of the page."
        return _card(IDLE, f'<p class="tph-muted">{hint}</p>')
    state = view.state
    status = state.status or RUNNING
    body = [_head(view, status), _bar(state, status), _facts(state, status), _end_words(view, status), _diagnosis(state)]
    body.append(_messages(state.messages))
    return _card(PAUSED if _stands_still(view) else status, "".join(body), is_live) + _result(view, status, is_live)


def _named(name: str, is_live: bool) -> str:
    """The attribute by which a part is found; an id comes but once on a page."""
    return f'id="{name}"' if is_live else f'data-part="{name}"'


def _stands_still(view: RunView) -> bool:
    return view.state.is_live and view.state.is_paused


def connecting_html() -> str:
    """What stands there until the page has heard from the server."""
    return _card(CONNECTING, '<p class="tph-muted">Looking for a run …</p>')


def _card(status: str, body: str, is_live: bool = True) -> str:
    """The card; ``data-status`` of a run that is paused is running, as it is."""
    badge = f'<span class="tph-badge tph-is-{status}">{_TITLES.get(status, escape(status))}</span>'
    is_paused = ' data-paused="true"' if status == PAUSED else ""
    shown = RUNNING if is_paused else escape(status)
    role = ' role="status"' if is_live else ""
    return f'<div {_named("tph-status", is_live)} class="tph-card" data-status="{shown}"{is_paused}{role}>{badge}{body}</div>'


def _head(view: RunView, status: str) -> str:
    state = view.state
    name = f'<b class="tph-name">{escape(state.name)}</b>'
    if status == RUNNING:
        return f'{name}<span class="tph-stage">{escape(_stage(view))}</span>' + _paused_words(view)
    ended = f'<span class="tph-stage">{words.moment(state.updated)}</span>' if state.updated else ""
    return name + ended


def _stage(view: RunView) -> str:
    """What the run does now, in words."""
    state = view.state
    if view.is_discarding:
        return "stopping after this step, discarding what was learned"
    if view.is_stopping:
        return "stopping after this step, saving what was learned"
    if _stands_still(view):
        return f"Paused at step {words.count(state.last_step.get('step', 0))}"
    if view.is_pausing and state.steps:
        return "pausing after this step"
    return state.detail or state.stage or "starting"


def _paused_words(view: RunView) -> str:
    if not _stands_still(view) or not view.in_webui:
        return ""
    return "<p>The chat answers with the half-trained model until you press Resume.</p>"


def progress_share(state: RunState) -> float:
    """How much of the run is done, 0 to 1; before it begins, how much of the data is read."""
    if state.share is not None:
        return max(0.0, min(1.0, state.share))
    num_steps, step = state.plan.get("num_steps"), state.last_step.get("step")
    if not isinstance(num_steps, (int, float)) or not isinstance(step, (int, float)) or num_steps <= 0:
        return 0.0
    return max(0.0, min(1.0, step / num_steps))


def _bar(state: RunState, status: str) -> str:
    share = 1.0 if status == FINISHED else progress_share(state)
    number = f"{share:.1%}".replace(".0%", "%")
    return (
        f'<div class="tph-bar" role="progressbar" aria-label="Progress" aria-valuemin="0" aria-valuemax="100" '
        f'aria-valuenow="{share * 100:.0f}"><div style="width:{number}"></div></div>'
    )


def status_facts(state: RunState, status: str) -> list[tuple[str, str]]:
    """Pairs of words and value for the status line; what is not known yet is left out."""
    step, plan = state.last_step, state.plan
    facts: list[tuple[str, Any]] = []
    if step:
        facts.append(("Step", words.count(step.get("step")) + _of(plan, "num_steps")))
        facts.append(("Epoch", f"{step.get('epoch') or 0:.2f}" + _of(plan, "num_epochs")))
        smoothed = step.get("smoothed_loss")
        facts.append(("Loss", words.loss(step.get("loss") if smoothed is None else smoothed)))
        if isinstance(step.get("lr"), (int, float)):
            facts.append(("Learning rate", write_number(float(f"{step['lr']:.3g}"))))
    elif plan:
        facts.append(("Steps", words.count(plan.get("num_steps", "?"))))
    if state.checkpoints:
        facts.append(("Last checkpoint", f"step {words.count(state.checkpoints[-1].get('step'))}"))
    if state.evaluations:
        facts.append(("Evaluation loss", words.loss(state.evaluations[-1].get("loss"))))
    if status == RUNNING and step:
        if step.get("tokens_per_second"):
            facts.append(("Tokens/s", words.count(round(step["tokens_per_second"]))))
        if memory := _memory(state):
            facts.append(("Memory", words.size(memory)))
        if step.get("time_left") is not None:
            facts.append(("Time left", words.duration(step["time_left"])))
    elif status != RUNNING and state.started and state.updated > state.started:
        facts.append(("Took", words.duration(state.updated - state.started)))
    if phase := phase_words(state):
        facts.append((PHASE, phase))
    return [(label, str(value)) for label, value in facts]


def _memory(state: RunState) -> float:
    """Bytes, as they were told last; 0 if nobody told."""
    told = (step["memory"] for step in islice(reversed(state.steps), _LOOK_BACK) if step.get("memory"))
    return float(next(told, 0.0))


def _of(plan: dict[str, Any], key: str) -> str:
    value = plan.get(key)
    return f" of {value:,g}" if isinstance(value, float) else f" of {value:,}" if isinstance(value, int) else ""


def _facts(state: RunState, status: str) -> str:
    entries = "".join(
        f"<div{_WIDE if label == PHASE else ''}><dt>{label}</dt><dd>{escape(value)}</dd></div>"
        for label, value in status_facts(state, status)
    )
    return f'<dl class="tph-facts">{entries}</dl>' if entries else ""


def _end_words(view: RunView, status: str) -> str:
    end, state = view.state.end, view.state
    message, remedy = str(end.get("message") or ""), str(end.get("remedy") or "")
    if status == DIED:
        message = "The process that trained is gone: it was closed, or it crashed, or the system ended it for want of memory."
        remedy = _after_death(state)
    if status in (FAILED, DIED):
        message = message or "The run failed."
        return f'<p class="tph-error" role="alert">{escape(message)}</p>' + (f"<p>{escape(remedy)}</p>" if remedy else "")
    text = " ".join(part for part in (message, remedy) if part)
    return f"<p>{escape(text)}</p>" if text else ""


def _diagnosis(state: RunState) -> str:
    """What the curves showed at the end."""
    entries = "".join(
        f'<li data-kind="{escape(str(found.get("kind", "")))}"><b>{escape(str(found.get("kind", "")))}</b>: '
        f"{escape(str(found.get('words', '')))} {escape(str(found.get('advice', '')))}</li>"
        for found in state.diagnosis
    )
    return f'<ul class="tph-messages" data-part="diagnosis">{entries}</ul>' if entries else ""


def _after_death(state: RunState) -> str:
    if not state.checkpoints:
        return "It had saved no checkpoint. Press Start training to begin anew."
    step = state.checkpoints[-1].get("step", "?")
    return f"A checkpoint of step {step} is there: choose 'resume' under 'If the name exists' and press Start training to go on from it."


def _messages(messages: list[dict[str, Any]]) -> str:
    shown = messages[-_KEPT_MESSAGES:]
    if not shown:
        return ""
    entries = [f'<li class="tph-level-{_level(entry)}">{escape(str(entry.get("text", "")))}</li>' for entry in shown]
    if len(messages) > len(shown):
        entries.insert(0, f'<li class="tph-muted">{len(messages) - len(shown)} earlier messages are in events.jsonl.</li>')
    return f'<ul class="tph-messages">{"".join(entries)}</ul>'


def _level(message: dict[str, Any]) -> str:
    level = str(message.get("level", "info")).lower()
    return level if level in ("info", "warning", "error") else "info"


def _result(view: RunView, status: str, is_live: bool) -> str:
    is_saved = view.has_adapter
    if view.folder is None or status not in (FINISHED, INTERRUPTED, FAILED) or (status == FAILED and not is_saved):
        return ""
    name = escape(view.folder.name)
    parts = [f"<p><b>{name}</b> is saved.</p>" if is_saved else "<p>No adapter was saved.</p>"]
    if is_saved and view.in_webui:
        path = f"Model tab &gt; LoRA(s) &gt; refresh &gt; choose <b>{name}</b> &gt; Apply LoRAs"
        parts.append(f"<p>To use it: {path}. The loaded model itself is unchanged.</p>")
    parts.append(f'<p class="tph-path"><code>{escape(str(view.folder))}</code></p>')
    style = "tph-good" if is_saved else "tph-bad"
    return f'<div {_named("tph-result", is_live)} class="tph-card {style}">{"".join(parts)}</div>'
