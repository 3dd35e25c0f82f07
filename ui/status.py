"""A run's state as HTML: status line, bar, messages, result, samples before and after. Pure functions of the state.

Everything that comes from outside (names, prompts, answers, messages) is escaped.
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from ..runs.state import DIED, FAILED, FINISHED, INTERRUPTED, RUNNING, RunState
from . import words
from .fields import write_number
from .phases import phase_words

CONNECTING, IDLE = "connecting", "idle"
_TITLES = {
    CONNECTING: "Connecting",
    IDLE: "No run yet",
    RUNNING: "Running",
    FINISHED: "Finished",
    INTERRUPTED: "Interrupted",
    FAILED: "Failed",
    DIED: "Ended without a word",
}
_KEPT_MESSAGES = 8


@dataclass(frozen=True)
class RunView:
    """What the page shows of one run.

    Attributes:
        state: what the diary says.
        folder: the run's folder; None if it has none.
        has_adapter: whether a trained adapter lies there.
        in_webui: the result is applied in the WebUI's Model tab.
        is_stopping: the user asked it to stop.
    """

    state: RunState
    folder: Path | None = None
    has_adapter: bool = False
    in_webui: bool = False
    is_stopping: bool = False


def status_html(view: RunView | None) -> str:
    """The live part of the page: ``#tph-status`` with data-status, and ``#tph-result`` at the end of a run."""
    if view is None:
        hint = "Choose the data, press Check, then Start training. The progress appears here, also after a reload of the page."
        return _card(IDLE, f'<p class="tph-muted">{hint}</p>')
    state = view.state
    status = state.status or RUNNING
    body = [_head(view, status), _bar(state, status), _facts(state, status), _end_words(view, status), _diagnosis(state)]
    body.append(_messages(state.messages))
    return _card(status, "".join(body)) + _result(view, status)


def connecting_html() -> str:
    """What stands there until the page has heard from the server."""
    return _card(CONNECTING, '<p class="tph-muted">Looking for a run …</p>')


def _card(status: str, body: str) -> str:
    badge = f'<span class="tph-badge tph-is-{status}">{_TITLES[status]}</span>'
    return f'<div id="tph-status" class="tph-card" data-status="{status}" role="status">{badge}{body}</div>'


def _head(view: RunView, status: str) -> str:
    state = view.state
    name = f'<b class="tph-name">{escape(state.name)}</b>'
    if status == RUNNING:
        stage = state.detail or state.stage or "starting"
        if view.is_stopping:
            stage = "stopping after this step, saving what was learned"
        return f'{name}<span class="tph-stage">{escape(stage)}</span>'
    ended = f'<span class="tph-stage">{words.moment(state.updated)}</span>' if state.updated else ""
    return name + ended


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
        if step.get("time_left") is not None:
            facts.append(("Time left", words.duration(step["time_left"])))
    elif status != RUNNING and state.started and state.updated > state.started:
        facts.append(("Took", words.duration(state.updated - state.started)))
    if phase := phase_words(state):
        facts.append(("Phase", phase))
    return [(label, str(value)) for label, value in facts]


def _of(plan: dict[str, Any], key: str) -> str:
    value = plan.get(key)
    return f" of {value:,g}" if isinstance(value, float) else f" of {value:,}" if isinstance(value, int) else ""


def _facts(state: RunState, status: str) -> str:
    entries = "".join(f"<div><dt>{label}</dt><dd>{escape(value)}</dd></div>" for label, value in status_facts(state, status))
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


def _result(view: RunView, status: str) -> str:
    is_saved = view.has_adapter
    if view.folder is None or status not in (FINISHED, INTERRUPTED, FAILED) or (status == FAILED and not is_saved):
        return ""
    name = escape(view.folder.name)
    parts = [f"<p><b>{name}</b> is saved.</p>" if is_saved else "<p>No adapter was saved.</p>"]
    if is_saved and view.in_webui:
        path = f"Model tab &gt; LoRA(s) &gt; refresh &gt; choose <b>{name}</b> &gt; Apply LoRAs"
        parts.append(f"<p>To use it: {path}. The loaded model itself is unchanged.</p>")
    parts.append(f'<p class="tph-path"><code>{escape(str(view.folder))}</code></p>')
    parts.append(samples_html(view.state.samples))
    return f'<div id="tph-result" class="tph-card {"tph-good" if is_saved else "tph-bad"}">{"".join(parts)}</div>'


def samples_html(samples: list[dict[str, Any]]) -> str:
    """Answers before and after, side by side; nothing if there is no answer after the training."""
    answers: dict[str, dict[str, str]] = {}
    for sample in samples:
        answers.setdefault(str(sample.get("prompt", "")), {})[str(sample.get("when", ""))] = str(sample.get("answer", ""))
    rows = [(prompt, found.get("before", ""), found["after"]) for prompt, found in answers.items() if "after" in found]
    if not rows:
        return ""
    body = "".join(
        f'<tr><th scope="row">{escape(prompt)}</th>'
        f'<td data-label="Before">{escape(before)}</td><td data-label="After">{escape(after)}</td></tr>'
        for prompt, before, after in rows
    )
    head = "".join(f'<th scope="col">{title}</th>' for title in ("Prompt", "Before", "After"))
    return f'<table class="tph-samples"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
