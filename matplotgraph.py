"""The graph of a run: loss and learning rate over epochs, as a picture and as data; phases are shaded where there are several, checkpoints
are marked at the foot, and what the conversation tells the model stands below where it was measured.

Reads the run's state (made from its diary) and nothing else, so the graph of a finished, interrupted or died run can be drawn at any
time. matplotlib draws without a screen.
"""

from __future__ import annotations

import textwrap
from itertools import accumulate
from pathlib import Path
from typing import Any

from .runs.state import RunState, phase_stretches
from .runs.store import RunFolder, write_json

_SHOWN_EPOCHS = 30  # of more, the borders would hide the curve
_SHADES = ("#e0ecf8", "#fdeedd", "#e7f4e4")  # of the phases, in turn
_CAUSE_WIDTH = 48  # characters that fit along the left axis
# gain -> words, colour, mark and line: to be told apart in print as well
_GAINS = {
    "context": ("context gain", "#1f5fa8", "o", "-"),
    "order": ("order gain", "#c2410c", "s", "--"),
    "distance": ("distance gain", "#4d7c0f", "^", ":"),
}


def graph_points(state: RunState) -> list[dict[str, Any]]:
    """One point per optimizer step: epoch, step, loss, smoothed_loss, learning_rate; evaluation points carry eval_loss, measurements of
    context understanding ``gains``: name -> mean and standard error.
    """
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
    points += [{"epoch": entry["epoch"], "step": entry["step"], "eval_loss": entry["loss"]} for entry in state.evaluations]
    return points + [
        {
            "epoch": entry["epoch"],
            "step": entry["step"],
            "gains": {name: {key: gain.get(key) for key in ("mean", "error")} for name, gain in entry.get("gains", {}).items()},
        }
        for entry in state.understanding
    ]


def draw_graph(state: RunState) -> Any:
    """A matplotlib figure: loss (raw, smoothed, evaluation) on the left axis, learning rate on the right; gains in a panel below."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    has_gains = any(entry.get("gains") for entry in state.understanding)
    figure = Figure(figsize=(10, 7.5 if has_gains else 5.5), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    left, *below = figure.subplots(1 + has_gains, 1, sharex=True, squeeze=False, height_ratios=[3, 1.2][: 1 + has_gains])[:, 0]
    right = left.twinx()
    epochs = [entry["epoch"] for entry in state.steps]
    left.plot(epochs, _numbers(state.steps, "loss"), color="#9db7d5", linewidth=1, label="loss")
    left.plot(epochs, _numbers(state.steps, "smoothed_loss"), color="#1f5fa8", linewidth=2, label="loss, smoothed")
    if state.evaluations:
        places = [entry["epoch"] for entry in state.evaluations]
        left.plot(places, _numbers(state.evaluations, "loss"), "o-", color="#c2410c", linewidth=1.5, label="evaluation loss")
    right.plot(epochs, _numbers(state.steps, "lr"), color="#4d7c0f", linewidth=1.5, linestyle="--", label="learning rate")
    _draw_phases(left, state)
    _draw_checkpoints(left, state)
    for axes in below:
        _draw_gains(axes, state)
    [left, *below][-1].set_xlabel("epochs")
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


def _draw_gains(axes: Any, state: RunState) -> None:
    """What the conversation tells the model, with its standard error, over the same epochs."""
    for name, (label, colour, mark, line) in _GAINS.items():
        found = [(entry["epoch"], entry["gains"][name]) for entry in state.understanding if name in entry.get("gains", {})]
        if found:
            gains = [gain for _, gain in found]
            spread = [abs(value) for value in _numbers(gains, "error")]
            style = {"color": colour, "marker": mark, "linestyle": line, "markersize": 4, "linewidth": 1.3, "capsize": 2}
            axes.errorbar([epoch for epoch, _ in found], _numbers(gains, "mean"), yerr=spread, label=label, **style)
    _draw_phases(axes, state, with_words=False)
    axes.axhline(0, color="#64748b", linewidth=0.8)
    axes.set_ylabel("gain (nats per\nreply token)")
    axes.grid(alpha=0.25)
    handles, labels = axes.get_legend_handles_labels()
    curves = [number for number, label in enumerate(labels) if not label.startswith("phase: ")]
    axes.legend([handles[number] for number in curves], [labels[number] for number in curves], loc="best", ncols=3, fontsize=8)


def _draw_phases(axes: Any, state: RunState, *, with_words: bool = True) -> None:
    """Shade the phases and mark each switch with its cause, if there was more than one phase."""
    stretches = phase_stretches(state)
    if len(stretches) < 2:
        return
    for number, (event, end) in enumerate(stretches):
        begin, shade = event["epoch"], _SHADES[number % len(_SHADES)]
        axes.axvspan(begin, end["epoch"], color=shade, linewidth=0, zorder=0, label=f"phase: {event['phase']}")
        if not number:
            continue
        axes.axvline(begin, color="#64748b", linewidth=1, linestyle=":")
        if with_words:
            _write_cause(axes, event, is_early=begin < stretches[-1][1]["epoch"] / 2)


def _draw_checkpoints(axes: Any, state: RunState) -> None:
    """A mark at the foot for each checkpoint; those that the user asked for are filled, so that print tells them apart too."""
    for label, is_filled in (("checkpoint", False), ("checkpoint, yours", True)):
        found = [entry for entry in state.checkpoints if (entry.get("cause") == "user") is is_filled]
        places = [entry["epoch"] for entry in found if entry.get("epoch") is not None]
        if places:
            style = {
                "marker": "^",
                "markersize": 7,
                "markeredgecolor": "#334155",
                "linestyle": "none",
                "clip_on": False,
                "zorder": 5,
            }
            colour = "#334155" if is_filled else "white"
            axes.plot(
                places, [0.0] * len(places), markerfacecolor=colour, label=label, transform=axes.get_xaxis_transform(), **style
            )


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
        color="#334155",
        bbox={"facecolor": "white", "alpha": 0.7, "linewidth": 0, "pad": 1},  # readable where it crosses a curve
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
