"""The queue as HTML. Pure functions of its state; everything that comes from outside (names, words, models) is escaped."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from ...runs.queue import FAILED, RUNNING, WAITING, Entry, QueueState
from .. import words

NO_QUEUE = '<div id="tph-queue"><p class="tph-muted">Nothing waits. Settings of the form that are added here are trained one after another.</p></div>'
_HEADS = ("Name", "State", "Start", "Model")
_STATE_CLASSES = {WAITING: "idle", RUNNING: "running", FAILED: "failed"}


def entry_label(number: int, entry: Entry) -> str:
    """An entry in the drop-down: its place, name and state."""
    return f"{number}. {entry.name} · {entry.state}"


def entry_choices(entries: Sequence[Entry]) -> list[tuple[str, str]]:
    """(label, id) of all entries, in their order."""
    return [(entry_label(number, entry), entry.id) for number, entry in enumerate(entries, 1)]


def queue_html(state: QueueState, now: float) -> str:
    """All entries in ``#tph-queue``, in their order.

    Args:
        state: the queue.
        now: seconds since the epoch.
    """
    if not state.entries:
        return NO_QUEUE
    heads = "".join(f'<th scope="col">{word}</th>' for word in _HEADS)
    rows = "".join(_row(number, entry, now) for number, entry in enumerate(state.entries, 1))
    table = f'<table class="tph-table tph-list tph-stacked"><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>'
    return f'<div id="tph-queue">{_head(state)}<div class="tph-scroll">{table}</div></div>'


def _head(state: QueueState) -> str:
    if state.is_paused and state.word:
        return f'<p class="tph-error" role="alert">{escape(state.word)}</p>'
    if state.is_paused:
        return "<p>The queue is paused: nothing further is started.</p>"
    if state.waiting and not state.owner.is_alive:
        return '<p class="tph-muted">No program works on the queue now. It goes on as soon as one shows this page.</p>'
    return ""


def _row(number: int, entry: Entry, now: float) -> str:
    badge = f'<span class="tph-badge tph-is-{_STATE_CLASSES.get(entry.state, "finished")}">{escape(entry.state)}</span>'
    cells = [f"{number}. <b>{escape(entry.name)}</b>", badge, escape(start_words(entry, now)), escape(entry.model or "any")]
    row = f'<tr data-entry="{escape(entry.id)}" data-state="{escape(entry.state)}">'
    row += "".join(f'<td data-label="{label}">{cell}</td>' for label, cell in zip(_HEADS, cells, strict=True)) + "</tr>"
    said = entry.error or entry.word
    if not said:
        return row
    style = "tph-error" if entry.state == FAILED else "tph-muted"
    return f'{row}<tr class="tph-said"><td colspan="{len(_HEADS)}" class="{style}">{escape(said)}</td></tr>'


def start_words(entry: Entry, now: float) -> str:
    """When an entry begins, for people."""
    if entry.state != WAITING:
        return ""
    if entry.start_at is None or entry.start_at <= now:
        return "when it is its turn"
    return f"not before {words.moment(entry.start_at)}"
