"""The list of runs, one run opened, several compared: as HTML. Pure functions of summaries, states and configurations.

Everything that comes from outside (names, data, messages) is escaped.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from ...config import RunConfig
from ...runs.state import DIED, RunState
from ...runs.store import RunFolder
from ...runs.summary import RunSummary
from .. import words
from ..charts.columns import StepColumns
from ..charts.plots import Curve, chart
from ..charts.run import points_of, run_charts
from ..check.report import data_facts, facts_table
from ..fields import write_number
from ..live.samples import samples_html
from ..live.status import RunView, status_html
from ..log_lines import log_html

NO_RUNS = '<div id="tph-runs" class="tph-card"><p class="tph-muted">There are no runs yet. They appear here once one is started.</p></div>'
NO_DETAILS = '<div id="tph-run-details"></div>'
NUM_COLORS = 6
_STATUS_WORDS = {"": "adapter only", DIED: "ended without a word"}
_HEADS = ("Name", "State", "Steps", "Loss", "Evaluation", "Data", "Took", "Last seen")
_OWN_TO_EACH = ("adapter.name", "adapter.if_exists", "run.adapters_dir")


def choice_label(run: RunSummary) -> str:
    """A run in the drop-down: name, how it stands, its loss."""
    parts = [run.name, _STATUS_WORDS.get(run.status, run.status)]
    return " · ".join([*parts, f"loss {words.loss(run.loss)}"] if run.loss is not None else parts)


def runs_html(runs: Sequence[RunSummary]) -> str:
    """Runs as a table in ``#tph-runs``, in the order in which they come."""
    if not runs:
        return NO_RUNS
    heads = "".join(f'<th scope="col">{word}</th>' for word in _HEADS)
    rows = "".join(_row(run) for run in runs)
    return (
        f'<div id="tph-runs" class="tph-card"><div class="tph-scroll"><table class="tph-table tph-list tph-stacked"><thead><tr>{heads}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div></div>"
    )


def _row(run: RunSummary) -> str:
    steps = f"{run.step:,}" + (f" of {run.num_steps:,}" if run.num_steps else "") if run.status else ""
    state = f'<span class="tph-badge tph-is-{run.status or "idle"}">{_STATUS_WORDS.get(run.status, run.status)}</span>'
    cells = [
        f"<b>{escape(run.name)}</b>",
        state + ("" if run.has_adapter or not run.status else ' <span class="tph-muted">no adapter</span>'),
        steps,
        words.loss(run.loss) if run.status else "",
        "" if run.eval_loss is None else words.loss(run.eval_loss),
        escape(run.data),
        words.duration(run.updated - run.started) if run.started else "",
        words.moment(run.updated) if run.updated else "",
    ]
    body = "".join(f'<td data-label="{label}">{cell}</td>' for label, cell in zip(_HEADS, cells, strict=True))
    return f'<tr data-run="{escape(run.name)}">{body}</tr>'


# --- one run -------------------------------------------------------------------------------------------------------------------


def details_html(folder: RunFolder, state: RunState, config: RunConfig | None, columns: StepColumns | None = None) -> str:
    """One run: how it ended, its curves, its data and the settings that are not the usual ones.

    Args:
        folder: the run's.
        state: what its diary says.
        config: its parameters; None if there are none that can be read.
        columns: of its steps, where somebody keeps them.
    """
    view = RunView(state, folder.path, has_adapter=folder.has_adapter)
    parts = [
        status_html(view, is_live=False) if state.status else "",
        run_charts(state, columns, is_live=False),
        samples_html(state.samples),
    ]
    if state.report:
        parts.append(_card("Data", facts_table(data_facts(state.report))))
    if config is not None:
        settings = facts_table(unusual_settings(config)) + _folded("All settings", facts_table(all_settings(config)))
        parts.append(_card("Settings that are not the usual ones", settings))
    if not state.status:
        parts.insert(0, _card(folder.name, '<p class="tph-muted">An adapter without a diary of ours.</p>'))
    elif state.log:
        parts.append(f'<div class="tph-card" data-part="tph-log">{_folded("Log", log_html(state.log))}</div>')
    return f'<div id="tph-run-details" data-runs="1">{"".join(parts)}</div>'


def _folded(title: str, body: str) -> str:
    return f'<details class="tph-rows"><summary>{escape(title)}</summary>{body}</details>'


def all_settings(config: RunConfig) -> list[tuple[str, str]]:
    """Label and value of every setting, in the order of the form."""
    return [(info.label, setting_words(getattr(getattr(config, info.section), info.key))) for info in RunConfig.settings()]


def unusual_settings(config: RunConfig) -> list[tuple[str, str]]:
    """Label and value of the settings that differ from their defaults."""
    found = []
    for info in RunConfig.settings():
        value = getattr(getattr(config, info.section), info.key)
        if value != info.default and info.field not in _OWN_TO_EACH:
            found.append((info.label, setting_words(value)))
    return found


def setting_words(value: Any) -> str:
    """A setting's value for people."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, float):
        return write_number(value)
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value)) or "–"
    return str(value) if value not in (None, "") else "–"


# --- several runs --------------------------------------------------------------------------------------------------------------


def compare_html(runs: Sequence[tuple[RunFolder, RunState, RunConfig | None]]) -> str:
    """Several runs: their curves over each other, and the settings in which they differ."""
    names = [folder.name for folder, _, _ in runs]
    longest = max((float(state.plan.get("num_epochs") or 0) for _, state, _ in runs), default=0.0)
    charts = [
        chart("Smoothed loss", _curves(runs, "steps", "smoothed_loss"), longest),
        chart("Evaluation loss", _curves(runs, "evaluations", "loss", dots=True), longest),
    ]
    drawn = "".join(charts) + '<p class="tph-axis">epochs</p>' if any(charts) else '<p class="tph-muted">No steps to draw.</p>'
    results = _grid(names, result_rows([state for _, state, _ in runs]))
    rows = differing_settings([config for _, _, config in runs])
    settings = _grid(names, rows) if rows else '<p class="tph-muted">The settings are the same.</p>'
    body = _card("Curves", f'<div class="tph-compared">{drawn}</div>') + _card("Results", results)
    return f'<div id="tph-run-details" data-runs="{len(runs)}">{body}{_card("Settings that differ", settings)}</div>'


def _curves(
    runs: Sequence[tuple[RunFolder, RunState, RunConfig | None]], events: str, key: str, *, dots: bool = False
) -> list[Curve]:
    return [
        Curve(folder.name, f"tph-color-{number % NUM_COLORS}", points_of(getattr(state, events), key), dots=dots)
        for number, (folder, state, _) in enumerate(runs)
    ]


def result_rows(states: Sequence[RunState]) -> list[tuple[str, list[str]]]:
    """What came out: a label and a value for each run."""
    losses = [[event["loss"] for event in state.evaluations if isinstance(event.get("loss"), (int, float))] for state in states]
    took = [state.updated - state.started if state.updated > state.started else None for state in states]
    return [
        ("State", [_STATUS_WORDS.get(state.status, state.status) for state in states]),
        ("Steps", [words.count(state.last_step.get("step", 0)) for state in states]),
        ("Loss", [words.loss(state.last_step.get("smoothed_loss")) for state in states]),
        ("Evaluation loss", [words.loss(found[-1] if found else None) for found in losses]),
        ("Best evaluation loss", [words.loss(min(found) if found else None) for found in losses]),
        ("Took", [words.duration(seconds) or "–" for seconds in took]),
    ]


def differing_settings(configs: Sequence[RunConfig | None]) -> list[tuple[str, list[str]]]:
    """The settings in which runs differ: a label and a value for each run; "?" where its parameters are not known."""
    rows = []
    for info in RunConfig.settings():
        values = [
            None if config is None else setting_words(getattr(getattr(config, info.section), info.key)) for config in configs
        ]
        if len({value for value in values if value is not None}) > 1 and info.field not in _OWN_TO_EACH:
            rows.append((info.label, ["?" if value is None else value for value in values]))
    return rows


# --- pieces --------------------------------------------------------------------------------------------------------------------


def _card(title: str, body: str) -> str:
    return f'<div class="tph-card"><p><b>{escape(title)}</b></p>{body}</div>'


def _grid(names: Sequence[str], rows: Sequence[tuple[str, list[str]]]) -> str:
    heads = "".join(f'<th class="tph-color-{number % NUM_COLORS}">{escape(name)}</th>' for number, name in enumerate(names))
    body = "".join(
        f"<tr><th>{escape(label)}</th>{''.join(f'<td>{escape(value)}</td>' for value in values)}</tr>" for label, values in rows
    )
    return f'<div class="tph-scroll"><table class="tph-table tph-list"><thead><tr><th></th>{heads}</tr></thead><tbody>{body}</tbody></table></div>'
