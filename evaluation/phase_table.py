"""The phases of a run in numbers, from its diary: what each cost and what it brought.

Guarantee: losses are means over trained tokens, rates count the seconds of optimizer steps only (no evaluation, no save), padding is what
was computed, evaluation loss and gains are those of the last measurement in the phase, with the step at which it was made. A resumed run
has the rows of the whole run. Price: one walk through the steps.

Columns of a row (None where nothing was measured)::

    phase, cause                          its name and why it began; "before" for the model before the first step
    begin, end, num_steps                 epochs done, optimizer steps
    loss, eval_loss, eval_step            nats per trained token
    tokens, trained_tokens, seconds       tokens_per_second, trained_tokens_per_second
    padding_share                         of the computed tokens; flat rows have none
    gains, gains_step, history_loss       name -> mean, error, ... (see evaluation.understanding), and the loss with the full history
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..data.words import counted
from ..runs.state import phase_stretches
from .text_table import aligned

if TYPE_CHECKING:
    from ..runs.state import RunState

BEFORE = "before"
HISTORY = "loss with history"  # of whole conversations, where the evaluation may be of single exchanges
GAIN_TITLES = {"context": "context gain", "order": "order gain", "distance": "distance gain"}
TITLES = ("phase", "epochs", "steps", "loss", "evaluation loss", "tokens/s", "trained tokens/s", "padding")


def phase_rows(state: RunState) -> list[dict[str, Any]]:
    """The rows of a run: the model before it, if it was measured, then each phase that was trained."""
    rows = []
    measured = _measured(state, -1, 0)
    if measured["eval_loss"] is not None or measured["gains"]:
        rows.append({"phase": BEFORE, "cause": "", **_trained([], {}, {}), **measured})
    stretches = phase_stretches(state)
    if not stretches and state.steps:  # a diary of a time before there were phases
        stretches = [({"phase": str(state.plan.get("batching") or "training"), "step": 0, "epoch": 0.0}, state.last_step)]
    for begin, end in stretches:
        steps = [entry for entry in state.steps if begin["step"] < entry["step"] <= end["step"]]
        measured = _measured(state, begin["step"], end["step"])
        rows.append({"phase": begin["phase"], "cause": begin.get("cause", ""), **_trained(steps, begin, end), **measured})
    return rows


def _trained(steps: list[dict[str, Any]], begin: dict[str, Any], end: dict[str, Any]) -> dict[str, Any]:
    """What the steps of a phase add up to."""
    tokens, trained, seconds, padding = (
        sum(entry.get(name) or 0 for entry in steps) for name in ("tokens", "trained_tokens", "seconds", "padding")
    )
    known = [entry for entry in steps if entry.get("loss") is not None and entry.get("trained_tokens")]
    weight = sum(entry["trained_tokens"] for entry in known)
    has_padding = any("padding" in entry for entry in steps)
    return {
        **{"begin": begin.get("epoch", 0.0), "end": end.get("epoch", 0.0), "num_steps": len(steps)},
        "loss": _rounded(sum(entry["loss"] * entry["trained_tokens"] for entry in known), weight, 6),
        **{"tokens": tokens, "trained_tokens": trained, "seconds": round(seconds, 3)},
        "tokens_per_second": _rounded(tokens, seconds, 1),
        "trained_tokens_per_second": _rounded(trained, seconds, 1),
        "padding_share": _rounded(padding, tokens + padding, 5) if has_padding else None,
    }


def _rounded(amount: float, by: float, digits: int) -> float | None:
    return round(amount / by, digits) if by else None


def _measured(state: RunState, begin: int, end: int) -> dict[str, Any]:
    """The last measurements behind step ``begin`` and not behind ``end``."""
    evaluation, understanding = (_last(entries, begin, end) for entries in (state.evaluations, state.understanding))
    return {
        **{"eval_loss": evaluation.get("loss"), "eval_step": evaluation.get("step")},
        **{"gains": understanding.get("gains") or {}, "gains_step": understanding.get("step")},
        "history_loss": understanding.get("loss"),
    }


def _last(entries: list[dict[str, Any]], begin: int, end: int) -> dict[str, Any]:
    return next((entry for entry in reversed(entries) if begin < entry["step"] <= end), {})


def table_cells(rows: list[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Titles and cells as people read them; an empty cell where nothing was measured, no column for gains that nobody measured."""
    gains = [name for name in GAIN_TITLES if any(name in (row.get("gains") or {}) for row in rows)]
    if not gains:
        return list(TITLES), [_cells(row) for row in rows]
    titles = [*TITLES, HISTORY, *(GAIN_TITLES[name] for name in gains)]
    more = [[_number(row.get("history_loss"), ".4f"), *(gain_words(row["gains"].get(name)) for name in gains)] for row in rows]
    return titles, [[*_cells(row), *found] for row, found in zip(rows, more, strict=True)]


def _cells(row: dict[str, Any]) -> list[str]:
    is_before = row["phase"] == BEFORE
    return [
        str(row["phase"]),
        "" if is_before else f"{row['begin']:.2f} to {row['end']:.2f}",
        "" if is_before else f"{row['num_steps']:,}",
        _number(row["loss"], ".4f"),
        _number(row["eval_loss"], ".4f"),
        _number(row["tokens_per_second"], ",.0f"),
        _number(row["trained_tokens_per_second"], ",.0f"),
        _number(row["padding_share"], ".1%"),
    ]


def gain_words(gain: dict[str, Any] | None) -> str:
    """Mean and standard error of a gain, for example ``0.214 ± 0.031``; empty if there is none."""
    if not gain or gain.get("mean") is None:
        return ""
    error = gain.get("error")
    return f"{gain['mean']:.3f}" + ("" if error is None else f" ± {error:.3f}")


def _number(value: float | None, layout: str) -> str:
    return "" if value is None else format(value, layout)


def basis(rows: list[dict[str, Any]]) -> str:
    """What the gains rest on and how they are counted, in a sentence; empty without gains."""
    gains: dict[str, Any] = next((row["gains"] for row in reversed(rows) if row.get("gains")), {})
    counts = "; ".join(
        f"{GAIN_TITLES[name]}: {counted(gain['num_replies'], 'replies', ',')} of "
        f"{counted(gain['num_conversations'], 'conversations', ',')}, {counted(gain['num_tokens'], 'tokens', ',')}"
        for name, gain in gains.items()
        if name in GAIN_TITLES
    )
    return f"Gains are nats per reply token that the full history saves, ± standard error. {counts}." if counts else ""


def changes(rows: list[dict[str, Any]]) -> list[str]:
    """By how much the gains have moved since the first measurement, phase by phase, reply by reply; nothing without it."""
    lines = []
    for row in rows:
        known = {name: gain for name, gain in (row.get("gains") or {}).items() if gain.get("change") is not None}
        if known:
            words = (
                f"{name} {gain['change']:+.3f}"
                + (f" ± {gain['change_error']:.3f}" if gain.get("change_error") is not None else "")
                for name, gain in known.items()
            )
            lines.append(f"{row['phase']}: {', '.join(words)}")
    return lines


def text_table(rows: list[dict[str, Any]]) -> list[str]:
    """The table as aligned lines, with what it rests on."""
    titles, cells = table_cells(rows)
    lines = aligned([titles, *cells])
    lines += [basis(rows)] if basis(rows) else []
    moved = changes(rows)
    return lines + [f"Gains since the first measurement: {'; '.join(moved)}."] * bool(moved)
