"""One chart as inline SVG: curves over a ground of phases, switches and checkpoints. Pure functions of numbers.

Guarantee: every peak and every dip stays visible however long the run is, since thinning keeps the lowest and the highest point of each
stretch. Price: lines are stretched to the page's width by the browser, so the numbers at the axes are HTML beside the SVG.
Colours come from CSS variables, so the curves fit a light and a dark page.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .axes import log_ticks, nice_ticks, tick_words

Point = tuple[float, float]
Points = Sequence[Point] | NDArray[np.float64]
MAX_POINTS = 600
NUM_SHADES = 3
_WIDTH, _HEIGHT = 1000.0, 300.0
_LEAST_SHARE = 1e-9  # of the highest point: what is lower is left out of logarithmic heights


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
    points: Points
    dots: bool = False


@dataclass(frozen=True)
class Ground:
    """What lies under the curves.

    Attributes:
        low: left end of the x axis, ``high`` its right end.
        bands: (begin, end, name) of each phase.
        switches: (x, words) where a phase begins.
        marks: (x, words) of each checkpoint.
        has_legend: the legend names them.
    """

    low: float
    high: float
    bands: Sequence[tuple[float, float, str]] = ()
    switches: Sequence[tuple[float, str]] = ()
    marks: Sequence[tuple[float, str]] = ()
    has_legend: bool = True


@dataclass(frozen=True)
class _Scale:
    """From numbers to places in the picture."""

    ground: Ground
    low: float
    high: float
    is_log: bool
    ticks: list[float] = field(default_factory=list)

    def x(self, value: float) -> float:
        """From the left edge, 0 to _WIDTH."""
        return (value - self.ground.low) / (self.ground.high - self.ground.low) * _WIDTH

    def y(self, value: float) -> float:
        """From the top edge, 0 to _HEIGHT."""
        low, high, value = map(math.log10, (self.low, self.high, value)) if self.is_log else (self.low, self.high, value)
        return (1 - (value - low) / (high - low)) * _HEIGHT


def thin(points: Points, limit: int = MAX_POINTS) -> list[Point]:
    """At most ``limit`` of the points, in order: the ends, and of each stretch between them the lowest and the highest.

    Args:
        points: (x, y) in rising x; finite.
        limit: at least 4.
    """
    found = np.asarray(points, dtype=np.float64).reshape(-1, 2)
    if len(found) > limit:
        heights = found[1:-1, 1]
        num_stretches = (limit - 2) // 2
        borders = np.arange(num_stretches + 1) * len(heights) // num_stretches
        kept = {0, len(found) - 1}
        for begin, end in zip(borders[:-1].tolist(), borders[1:].tolist(), strict=True):
            stretch = heights[begin:end]
            kept |= {1 + begin + int(stretch.argmin()), 1 + begin + int(stretch.argmax())}
        found = found[sorted(kept)]
    return [(x, y) for x, y in found.tolist()]


def chart(
    title: str,
    curves: Sequence[Curve],
    max_x: float = 0.0,
    *,
    from_zero: bool = False,
    is_log: bool = False,
    ground: Ground | None = None,
    limit: int = MAX_POINTS,
) -> str:
    """One chart as HTML.

    Args:
        title: words above it.
        curves: lines to draw; those without points are left out.
        max_x: right end of the x axis, where there is no ground.
        from_zero: begin the y axis at 0 (not where it is logarithmic).
        is_log: logarithmic heights; what is not above 0 is left out then.
        ground: what lies under the curves, and the ends of the x axis; only what is between them is drawn.
        limit: points drawn of each curve.
    """
    shown = [Curve(curve.label, curve.style, _inside(curve.points, ground, is_log), curve.dots) for curve in curves]
    drawn = [Curve(curve.label, curve.style, thin(curve.points, limit), curve.dots) for curve in shown if len(curve.points)]
    if not drawn:
        return ""
    if ground is None:
        ground = Ground(0.0, max(max_x, *(curve.points[-1][0] for curve in drawn)) or 1.0)
    scale = _scale([y for curve in drawn for _, y in curve.points], ground, from_zero and not is_log, is_log)
    x_ticks = nice_ticks(ground.low, ground.high, 5)
    grid = "".join(f'<path class="tph-grid" d="M0 {scale.y(y):.1f}H{_WIDTH:.0f}"/>' for y in scale.ticks)
    lines = "".join(_line(curve, [(scale.x(x), scale.y(y)) for x, y in curve.points]) for curve in drawn)
    y_words = "".join(
        f'<span style="top:{scale.y(y) / _HEIGHT:.2%}">{word}</span>'
        for y, word in zip(scale.ticks, tick_words(scale.ticks), strict=True)
    )
    x_words = "".join(_x_word(scale.x(x) / _WIDTH, word) for x, word in zip(x_ticks, tick_words(x_ticks), strict=True))
    return (
        f'<figure class="tph-chart"><figcaption><b>{escape(title)}</b>{_legend(drawn, ground)}</figcaption>'
        f'<div class="tph-y">{y_words}</div>'
        f'<svg viewBox="0 0 {_WIDTH:.0f} {_HEIGHT:.0f}" preserveAspectRatio="none" role="img" aria-label="{escape(title)}">'
        f'{_bands(scale)}{grid}{lines}{_marks(scale)}</svg><div class="tph-x">{x_words}</div></figure>'
    )


def _inside(points: Points, ground: Ground | None, is_log: bool) -> Any:
    """The finite points within the ends of the x axis, shape (points, 2)."""
    found = np.asarray(points, dtype=np.float64).reshape(-1, 2)
    found = found[np.isfinite(found).all(axis=1)]
    if ground is not None:
        found = found[(found[:, 0] >= ground.low) & (found[:, 0] <= ground.high)]
    if is_log and len(found):
        found = found[found[:, 1] > max(0.0, _LEAST_SHARE * float(found[:, 1].max()))]
    return found


def _scale(heights: Sequence[float], ground: Ground, from_zero: bool, is_log: bool) -> _Scale:
    low, high = min(heights), max(heights)
    if is_log:
        margin = (high / low) ** 0.06 if high > low else 1.2
        low, high = low / margin, high * margin
        return _Scale(ground, low, high, True, log_ticks(low, high))
    low = 0.0 if from_zero else low
    margin = (high - low) * 0.06 or abs(high) * 0.1 or 1.0
    low, high = low if from_zero else low - margin, high + margin
    return _Scale(ground, low, high, False, nice_ticks(low, high))


def _x_word(share: float, word: str) -> str:
    at_end = ' class="tph-at-end"' if share > 0.96 else ""
    return f'<span{at_end} style="left:{share:.2%}">{word}</span>'


def _line(curve: Curve, places: Sequence[Point]) -> str:
    if len(places) == 1 or curve.dots:
        # a line of no length with round ends: a dot that stays round when the picture is stretched
        dots = "".join(f"M{x:.1f} {y:.1f}h0" for x, y in places)
        extra = f'<path class="tph-line tph-dot {curve.style}" d="{dots}"/>'
    else:
        extra = ""
    path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
    return f'<path class="tph-line {curve.style}" d="{path}"/>{extra}'


# --- the ground ----------------------------------------------------------------------------------------------------------------


def _shades(ground: Ground) -> dict[str, int]:
    """Number of the shade of each phase."""
    return {name: number % NUM_SHADES for number, name in enumerate(dict.fromkeys(name for _, _, name in ground.bands))}


def _bands(scale: _Scale) -> str:
    ground, drawn, shades = scale.ground, "", _shades(scale.ground)
    for begin, end, name in ground.bands:
        left, right = scale.x(max(begin, ground.low)), scale.x(min(end, ground.high))
        if right > left:
            size = f'x="{left:.1f}" y="0" width="{right - left:.1f}" height="{_HEIGHT:.0f}"'
            drawn += f'<rect class="tph-band tph-band-{shades[name]}" {size}><title>{escape(name)}</title></rect>'
    return drawn


def _marks(scale: _Scale) -> str:
    """Switches from top to bottom, checkpoints as short lines at the foot."""
    drawn = ""
    for style, top, entries in (("tph-switch", 0.0, scale.ground.switches), ("tph-mark", 0.93 * _HEIGHT, scale.ground.marks)):
        for x, words in entries:
            if scale.ground.low <= x <= scale.ground.high:
                path = f"M{scale.x(x):.1f} {top:.0f}V{_HEIGHT:.0f}"
                drawn += f'<path class="{style}" d="{path}"><title>{escape(words)}</title></path>'
    return drawn


def _legend(curves: Sequence[Curve], ground: Ground) -> str:
    entries = [f'<span class="{curve.style}">{escape(curve.label)}</span>' for curve in curves]
    if ground.has_legend:
        entries += [f'<span class="tph-band-{shade}">{escape(name)}</span>' for name, shade in _shades(ground).items()]
        entries += ['<span class="tph-mark">checkpoint</span>'] * bool(ground.marks)
    return f'<span class="tph-legend">{"".join(entries)}</span>'
