"""What happened in a run, line by line with times, as HTML: messages, controls, checkpoints, stages, phases, evaluations. Pure functions.

Guarantee: newest first; the newest NEWEST_SHOWN are shown, the others counted; everything from outside is escaped. Price: none.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from html import escape
from typing import Any

from ..runs.control import LABELS
from . import words
from .fields import write_number

NEWEST_SHOWN = 200
# why a checkpoint was saved
CAUSES = {
    "user": "you asked for it",
    "stop": "the run was stopped",
    "end": "end of the run",
    "epoch": "end of an epoch",
    "steps": "every n steps",
    "minutes": "every n minutes",
    "fall": "the loss fell",
    "best": "best evaluation",
}


def log_html(events: Sequence[dict[str, Any]]) -> str:
    """The lines of a run; a word where there are none.

    Args:
        events: of the diary (see runs.events), oldest first.
    """
    lines = [(event, text) for event in events if (text := line_of(event))]
    if not lines:
        return '<p class="tph-muted">Nothing yet.</p>'
    shown = lines[-NEWEST_SHOWN:][::-1]
    entries = "".join(_entry(event, text) for event, text in shown)
    if len(lines) > len(shown):
        entries += f'<li class="tph-muted">{len(lines) - len(shown):,} earlier lines are in events.jsonl.</li>'
    return f'<ol class="tph-log" reversed>{entries}</ol>'


def _entry(event: dict[str, Any], text: str) -> str:
    moment = float(event.get("t") or 0.0)
    level = str(event.get("level", "info")).lower()
    style = f' class="tph-level-{level}"' if level in ("warning", "error") else ""
    clock = time.strftime("%H:%M:%S", time.localtime(moment))
    return f'<li{style}><time title="{words.moment(moment)}">{clock}</time> {escape(text)}</li>'


def line_of(event: dict[str, Any]) -> str:
    """One event in words; empty if it is none for the log."""
    make = _WORDS.get(str(event.get("event", "")))
    return make(event) if make else ""


def control_words(name: str, value: Any) -> str:
    """What a control asks for, in the form's words."""
    label = LABELS.get(name, name)
    if name == "pause":
        return "Pause" if value else "Resume"
    if name in ("stop_at_loss", "stop_at_epoch"):
        return f"{label}: {_set_to(value)}"
    if name == "lr_scale" and isinstance(value, (int, float)):
        return f"{label}: {write_number(float(value))}"
    return label


def _set_to(value: Any) -> str:
    if isinstance(value, (int, float)):
        return write_number(float(value)) if value else "off"
    return "as configured"


def _step(event: dict[str, Any], joint: str = " at") -> str:
    step = event.get("step")
    return f"{joint} step {words.count(step)}" if isinstance(step, int) else ""


def _started(event: dict[str, Any]) -> str:
    resumed = event.get("resumed_from_step")
    return "The run begins." if resumed is None else f"The run goes on from the checkpoint of step {words.count(resumed)}."


def _phase(event: dict[str, Any]) -> str:
    cause = f" ({event['cause']})" if event.get("cause") else ""
    return f"Phase {event.get('phase', '?')} begins{_step(event, ' after')}{cause}."


def _checkpoint(event: dict[str, Any]) -> str:
    cause = CAUSES.get(str(event.get("cause")), str(event.get("cause") or "cause unknown"))
    return f"Checkpoint{_step(event, ' of')} saved: {event.get('folder', '?')} ({cause})."


def _ended(event: dict[str, Any]) -> str:
    return f"The run ended, {event.get('status', 'failed')}: {event.get('message') or 'without a word'}"


_WORDS: dict[str, Callable[[dict[str, Any]], str]] = {
    "run_started": _started,
    "stage": lambda event: str(event.get("detail") or event.get("stage") or ""),
    "message": lambda event: str(event.get("text") or ""),
    "phase": _phase,
    "evaluation": lambda event: f"Evaluation{_step(event)}: loss {words.loss(event.get('loss'))}.",
    "checkpoint": _checkpoint,
    "control": lambda event: f"{control_words(str(event.get('name')), event.get('value'))}{_step(event)}.",
    "paused": lambda event: f"Paused{_step(event)}.",
    "unpaused": lambda event: f"Goes on{_step(event)}, after {words.duration(event.get('seconds')) or 'a pause'}.",
    "run_ended": _ended,
}
