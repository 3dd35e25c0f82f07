"""Curves of a run as inline SVG: loss raw and smoothed, evaluation loss, gains, learning rate, over epochs. Pure functions of numbers.

Guarantee: every peak and every dip stays visible however long the run is, since thinning keeps the lowest and the highest point of each
stretch. Price: lines are stretched to the page's width by the browser, so the numbers at the axes are HTML beside the SVG.
Colours come from CSS variables, so the curves fit a light and a dark page.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from ..evaluation.phase_table import GAIN_TITLES
from ..runs.state import RunState
from .fields import write_number

Point = tuple[float, float]
MAX_POINTS = 600
_WIDTH, _HEIGHT = 1000.0, 300.0


@dataclass(frozen=True)
class Curve:
    """One line of a chart.

    Attributes:
        label: words of the legend.
        style: CSS class that gives colour and width.
        points: (x, y) in rising x.
        dots: draw a dot at each point as well.
    """

    label: str
    style: str
    points: Sequence[Point]
    dots: bool = False


def thin(points: Sequence[Point], limit: int = MAX_POINTS) -> list[Point]:
    """At most ``limit`` of the points, in order: the ends, and of each stretch between them the lowest and the highest.

    Args:
        points: (x, y) in rising x.
        limit: at least 4.
    """
    if len(points) <= limit:
        return list(points)
    inner = points[1:-1]
    num_stretches = (limit - 2) // 2
    kept = [points[0]]
    for number in range(num_stretches):
        stretch = inner[number * len(inner) // num_stretches : (number + 1) * len(inner) // num_stretches]
        low = min(range(len(stretch)), key=lambda index: stretch[index][1])
        high = max(range(len(stretch)), key=lambda index: stretch[index][1])
        kept += [stretch[index] for index in sorted({low, high})]
    return [*kept, points[-1]]


def nice_ticks(low: float, high: float, count: int = 4) -> list[float]:
    """About ``count`` round numbers from low to high, in steps of 1, 2 or 5 times a power of ten."""
    if not high > low:
        return [low]
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = power * next(factor for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [float(f"{number * step:.12g}") for number in range(first, last + 1)]


def points_of(events: Sequence[dict[str, object]], key: str) -> list[Point]:
    """(epoch, value) of the events that have the value; a loss of NaN is written as None and leaves no point."""
    points = []
    for event in events:
        x, y = event.get("epoch"), event.get(key)
        if isinstance(x, (int, float)) and isinstance(y, (int, float)):
            points.append((float(x), float(y)))
    return points


def chart(title: str, curves: Sequence[Curve], max_x: float, *, from_zero: bool = False) -> str:
    """One chart as HTML.

    Args:
        title: words above it.
        curves: lines to draw; those without points are left out.
        max_x: right end of the x axis, in epochs.
        from_zero: begin the y axis at 0.
    """
    curves = [Curve(curve.label, curve.style, thin(curve.points), curve.dots) for curve in curves if curve.points]
    if not curves:
        return ""
    heights = [y for curve in curves for _, y in curve.points]
    low, high = 0.0 if from_zero else min(heights), max(heights)
    margin = (high - low) * 0.06 or abs(high) * 0.1 or 1.0
    low, high = low if from_zero else low - margin, high + margin
    max_x = max(max_x, *(x for curve in curves for x, _ in curve.points)) or 1.0
    y_ticks, x_ticks = nice_ticks(low, high), nice_ticks(0.0, max_x, 5)

    def place(point: Point) -> Point:
        return point[0] / max_x * _WIDTH, (1 - (point[1] - low) / (high - low)) * _HEIGHT

    grid = "".join(f'<path class="tph-grid" d="M0 {place((0, y))[1]:.1f}H{_WIDTH:.0f}"/>' for y in y_ticks)
    lines = "".join(_line(curve, [place(point) for point in curve.points]) for curve in curves)
    y_words = "".join(f'<span style="top:{place((0, y))[1] / _HEIGHT:.2%}">{write_number(y)}</span>' for y in y_ticks)
    x_words = "".join(f'<span style="left:{x / max_x:.2%}">{write_number(x)}</span>' for x in x_ticks)
    legend = "".join(f'<span class="{curve.style}">{escape(curve.label)}</span>' for curve in curves)
    return (
        f'<figure class="tph-chart"><figcaption><b>{escape(title)}</b><span class="tph-legend">{legend}</span></figcaption>'
        f'<div class="tph-y">{y_words}</div>'
        f'<svg viewBox="0 0 {_WIDTH:.0f} {_HEIGHT:.0f}" preserveAspectRatio="none" role="img" aria-label="{escape(title)}">'
        f'{grid}{lines}</svg><div class="tph-x">{x_words}</div></figure>'
    )


def _line(curve: Curve, places: Sequence[Point]) -> str:
    if len(places) == 1 or curve.dots:
        # a line of no length with round ends: a dot that stays round when the picture is stretched
        dots = "".join(f"M{x:.1f} {y:.1f}h0" for x, y in places)
        extra = f'<path class="tph-line tph-dot {curve.style}" d="{dots}"/>'
    else:
        extra = ""
    path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
    return f'<path class="tph-line {curve.style}" d="{path}"/>{extra}'


def _gain_chart(state: RunState, max_x: float) -> str:
    """What the conversation tells the model over the epochs; empty where nobody measured it."""
    curves = []
    for name, title in GAIN_TITLES.items():
        found = [(entry.get("epoch"), entry.get("gains", {}).get(name, {}).get("mean")) for entry in state.understanding]
        points = [(float(x), float(y)) for x, y in found if isinstance(x, (int, float)) and isinstance(y, (int, float))]
        curves.append(Curve(title, f"tph-gain-{name}", points, dots=True))
    return chart("Context understanding (nats per reply token)", curves, max_x)


def run_charts(state: RunState) -> str:
    """Loss, gains and learning rate of a run over its epochs; a word while there is nothing to draw yet."""
    steps = state.steps
    num_epochs = state.plan.get("num_epochs")
    max_x = float(num_epochs) if isinstance(num_epochs, (int, float)) else 0.0
    loss = chart(
        "Loss",
        [
            Curve("each step", "tph-raw", points_of(steps, "loss")),
            Curve("smoothed", "tph-smooth", points_of(steps, "smoothed_loss")),
            Curve("evaluation", "tph-eval", points_of(state.evaluations, "loss"), dots=True),
        ],
        max_x,
    )
    rate = chart("Learning rate", [Curve("", "tph-rate", points_of(steps, "lr"))], max_x, from_zero=True)
    gains = _gain_chart(state, max_x)
    if not loss and not rate:
        return '<div id="tph-curve"></div>'
    return f'<div id="tph-curve">{loss}{gains}{rate}<p class="tph-axis">epochs</p></div>'
