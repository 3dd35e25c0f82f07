"""The graph of a run: loss and learning rate over epochs, as a picture and as data; phases are shaded where there are several.

Reads the run's state (made from its diary) and nothing else, so the graph of a finished, interrupted or died run can be drawn at any
time. matplotlib draws without a screen.
"""

from __future__ import annotations

import textwrap
from itertools import accumulate
from pathlib import Path
from typing import Any

from .runs.state import RunState
from .runs.store import RunFolder, write_json

_SHOWN_EPOCHS = 30  # of more, the borders would hide the curve
_SHADES = ("#e0ecf8", "#fdeedd", "#e7f4e4")  # of the phases, in turn
_CAUSE_WIDTH = 48  # characters that fit along the left axis


def graph_points(state: RunState) -> list[dict[str, Any]]:
    """One point per optimizer step: epoch, step, loss, smoothed_loss, learning_rate; evaluation points carry eval_loss."""
    points = [
        {
            "epoch": entry["epoch"],
            "step": entry["step"],
            "loss": entry["loss"],
            "smoothed_loss": entry.get("smoothed_loss"),
            "learning_rate": entry.get("lr"),
        }
        for entry in state.steps
    ]
    return points + [{"epoch": entry["epoch"], "step": entry["step"], "eval_loss": entry["loss"]} for entry in state.evaluations]


def draw_graph(state: RunState) -> Any:
    """A matplotlib figure: loss (raw, smoothed, evaluation) on the left axis, learning rate on the right."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 5.5), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    left = figure.add_subplot()
    right = left.twinx()
    epochs = [entry["epoch"] for entry in state.steps]
    left.plot(epochs, _numbers(state.steps, "loss"), color="#9db7d5", linewidth=1, label="loss")
    left.plot(epochs, _numbers(state.steps, "smoothed_loss"), color="#1f5fa8", linewidth=2, label="loss, smoothed")
    if state.evaluations:
        places = [entry["epoch"] for entry in state.evaluations]
        left.plot(places, _numbers(state.evaluations, "loss"), "o-", color="#c2410c", linewidth=1.5, label="evaluation loss")
    right.plot(epochs, _numbers(state.steps, "lr"), color="#4d7c0f", linewidth=1.5, linestyle="--", label="learning rate")
    _draw_phases(left, state)
    left.set_xlabel("epochs")
    left.set_ylabel("loss (nats per trained token)")
    left.set_ylim(bottom=0)
    right.set_ylabel("learning rate")
    right.set_ylim(bottom=0)
    right.ticklabel_format(axis="y", style="sci", scilimits=(-2, 2))
    left.grid(alpha=0.25)
    left.set_title(f"{state.name}: {len(state.steps)} steps")
    handles = [*left.get_legend_handles_labels()[0], *right.get_legend_handles_labels()[0]]
    left.legend(handles=handles, loc="upper right")
    return figure


def phase_stretches(state: RunState) -> list[tuple[dict[str, Any], float, float]]:
    """The phases that were trained: the event with which each began, and the epochs of its begin and its end.

    A phase that was about to begin when the run ended is none of them.
    """
    last = state.last_step
    began: list[dict[str, Any]] = []
    for event in state.phases:
        is_another = not began or event["stage"] != began[-1]["stage"]
        if is_another and last and event["step"] < last["step"]:
            began.append(event)
    ends = [*(event["epoch"] for event in began[1:]), last.get("epoch", 0.0)]
    return [(event, event["epoch"], end) for event, end in zip(began, ends, strict=False)]


def _draw_phases(axes: Any, state: RunState) -> None:
    """Shade the phases and mark each switch with its cause, if there was more than one phase."""
    stretches = phase_stretches(state)
    if len(stretches) < 2:
        return
    for number, (event, begin, end) in enumerate(stretches):
        shade = _SHADES[number % len(_SHADES)]
        axes.axvspan(begin, end, color=shade, linewidth=0, zorder=0, label=f"phase: {event['phase']}")
        if not number:
            continue
        axes.axvline(begin, color="#64748b", linewidth=1, linestyle=":")
        _write_cause(axes, event, is_early=begin < stretches[-1][2] / 2)


def _write_cause(axes: Any, event: dict[str, Any], *, is_early: bool) -> None:
    """Words along the line of a switch, on the side where there is more room."""
    gradual = f", gradually over {event['gradual']:g} epochs" if event.get("gradual") else ""
    words = f"{event['phase']} from here: {event.get('cause') or 'cause unknown'}{gradual}"
    axes.annotate(
        textwrap.fill(words, _CAUSE_WIDTH),
        xy=(event["epoch"], 0.02),
        xycoords=("data", "axes fraction"),
        xytext=(3 if is_early else -3, 0),
        textcoords="offset points",
        rotation=90,
        ha="left" if is_early else "right",
        va="bottom",
        fontsize=8,
        color="#475569",
        parse_math=False,  # a "$" is no formula
    )


def _numbers(entries: list[dict[str, Any]], key: str) -> list[float]:
    return [float("nan") if entry.get(key) is None else entry[key] for entry in entries]


def save_graph(folder: RunFolder, state: RunState) -> str:
    """Write training_graph.json and training_graph.png.

    Returns:
        A sentence for the user if the picture had to be left out, since matplotlib is not installed; else an empty text.
    """
    write_json(folder.graph_data, graph_points(state))
    if not state.steps:
        return ""
    try:
        draw_graph(state).savefig(folder.graph)
    except ImportError:
        return f"There is no picture of the graph ({folder.graph.name}): it needs matplotlib, pip install matplotlib."
    return ""


def draw_schedule(plan: dict[str, Any]) -> Any:
    """A matplotlib figure of the learning rate over a planned run.

    Args:
        plan: with ``learning_rates``, (optimizer step, learning rate) in rising steps, and ``schedule``.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.5), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    steps, rates = zip(*plan["learning_rates"], strict=True)
    axes.plot(steps, rates, color="#4d7c0f", linewidth=1.5)
    for end in accumulate(plan["steps_per_epoch"][:-1]) if len(plan["steps_per_epoch"]) <= _SHOWN_EPOCHS else ():
        axes.axvline(end, color="#94a3b8", linewidth=0.8, linestyle=":")
    axes.set_xlabel("optimizer steps (dotted: ends of epochs)")
    axes.set_ylabel("learning rate")
    axes.set_ylim(bottom=0)
    axes.set_xlim(0, steps[-1])
    axes.ticklabel_format(axis="y", style="sci", scilimits=(-2, 2))
    axes.grid(alpha=0.25)
    axes.set_title(str(plan["schedule"]))
    return figure


def save_schedule(path: Path, plan: dict[str, Any]) -> str:
    """Draw the learning rate over a planned run into a file; its ending says the format.

    Returns:
        A sentence for the user if there is no picture, since matplotlib is not installed; else an empty text.

    Raises:
        ValueError: matplotlib has no such format.
        OSError: the file cannot be written.
    """
    try:
        draw_schedule(plan).savefig(path)
    except ImportError:
        return f"There is no picture ({path.name}): it needs matplotlib, pip install matplotlib."
    return ""
