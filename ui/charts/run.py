"""The charts of a run: loss, gains, learning rate, gradient norm, tokens per second and memory, over what the page's user chose.

Guarantee: all charts of a run have the same x axis, phases, switches and checkpoints at the same places. Price: see plots.py and
columns.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...evaluation.phase_table import GAIN_TITLES
from ...runs.state import RunState, phase_stretches
from .. import words
from .axes import ChartChoice, XAxis, x_axis
from .columns import Numbers, StepColumns
from .plots import Curve, Ground, Point, chart

NO_CHARTS = '<div id="tph-curve"></div>'
_SMALL_POINTS = 300
# style, title, column, begin at 0, may be logarithmic
_SMALL = (
    ("tph-rate", "Learning rate", "lr", True, True),
    ("tph-norm", "Gradient norm", "grad_norm", True, True),
    ("tph-speed", "Tokens per second", "tokens_per_second", True, False),
    ("tph-memory", "Memory", "memory", False, False),
)


def points_of(events: Sequence[dict[str, Any]], key: str) -> list[Point]:
    """(epoch, value) of the events that have the value; a loss of NaN is written as None and leaves no point."""
    points = []
    for event in events:
        x, y = event.get("epoch"), event.get(key)
        if isinstance(x, (int, float)) and isinstance(y, (int, float)):
            points.append((float(x), float(y)))
    return points


def run_charts(
    state: RunState, columns: StepColumns | None = None, choice: ChartChoice | None = None, *, is_live: bool = True
) -> str:
    """All charts of a run in ``#tph-curve``; empty while there is nothing to draw yet.

    Args:
        state: the run.
        columns: of its steps, where somebody keeps them.
        choice: what the page's user chose.
        is_live: they are the page's one live part and have the id; else they are a card among others, with ``data-part``.
    """
    choice = choice or ChartChoice()
    columns = (StepColumns() if columns is None else columns).take(state.steps)
    axis = x_axis(state, columns, choice)
    ground = _ground(state, axis)
    loss = chart(
        "Loss",
        [
            Curve("each step", "tph-raw", _column(axis, columns["loss"])),
            Curve("smoothed", "tph-smooth", _column(axis, columns["smoothed_loss"])),
            Curve("evaluation", "tph-eval", _events(axis, state.evaluations), dots=True),
        ],
        is_log=choice.is_log,
        ground=ground,
    )
    bare = Ground(ground.low, ground.high, ground.bands, ground.switches, has_legend=False)
    small = [
        chart(
            title,
            [Curve("", style, points)],
            from_zero=from_zero,
            is_log=choice.is_log and can_log,
            ground=bare,
            limit=_SMALL_POINTS,
        )
        for style, title, points, from_zero, can_log in _small_curves(axis, columns)
    ]
    gains = _gain_chart(state, axis, bare)
    if not (loss or gains or any(small)):
        return NO_CHARTS if is_live else ""
    body = f'{loss}{gains}<div class="tph-small-charts">{"".join(small)}</div>'
    place = 'id="tph-curve"' if is_live else 'class="tph-card" data-part="tph-curve"'
    return f'<div {place}>{body}<p class="tph-axis">{axis.unit}</p></div>'


def _small_curves(axis: XAxis, columns: StepColumns) -> list[tuple[str, str, Any, bool, bool]]:
    """The curves of one line each; memory in the unit that suits it."""
    found = []
    for style, title, name, from_zero, can_log in _SMALL:
        heights = columns[name]
        if name == "memory" and np.isfinite(heights).any():
            unit, size = ("GB", 2.0**30) if np.nanmax(heights) >= 2.0**30 else ("MB", 2.0**20)
            title, heights = f"Memory ({unit})", heights / size
        found.append((style, title, _column(axis, heights), from_zero, can_log))
    return found


def _column(axis: XAxis, heights: Numbers) -> Any:
    """The steps that tell this number, shape (points, 2)."""
    known = np.isfinite(heights)
    return np.column_stack([axis.steps[known], heights[known]])


def _events(axis: XAxis, events: Sequence[dict[str, Any]], key: str = "loss") -> list[Point]:
    found = [(axis.place(event), event.get(key)) for event in events]
    return [(x, float(y)) for x, y in found if x is not None and isinstance(y, (int, float))]


def _gain_chart(state: RunState, axis: XAxis, ground: Ground) -> str:
    """What the conversation tells the model over the run; empty where nobody measured it."""
    curves = []
    for name, title in GAIN_TITLES.items():
        found = [{**entry, "mean": (entry.get("gains", {}).get(name) or {}).get("mean")} for entry in state.understanding]
        curves.append(Curve(title, f"tph-gain-{name}", _events(axis, found, "mean"), dots=True))
    return chart("Context understanding (nats per reply token)", curves, ground=ground)


def _ground(state: RunState, axis: XAxis) -> Ground:
    """The phases, if there were several, where each began and why, and the checkpoints."""
    stretches = phase_stretches(state)
    bands, switches = [], []
    for event, end in stretches if len(stretches) > 1 else []:
        begin, until, name = axis.place(event), axis.place(end), str(event.get("phase", "?"))
        if begin is not None and until is not None:
            bands.append((begin, until, name))
            switches.append((begin, f"{name} from step {event.get('step', '?')} on: {event.get('cause') or 'as planned'}"))
    marks = [(x, checkpoint_words(event)) for event in state.checkpoints if (x := axis.place(event)) is not None]
    return Ground(axis.low, axis.high, bands, switches[1:], marks)


def checkpoint_words(event: dict[str, Any]) -> str:
    """One checkpoint of the diary in words."""
    return f"checkpoint of step {words.count(event.get('step', '?'))}"
