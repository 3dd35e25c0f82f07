"""What a user may choose of the charts: the x axis, its range, and whether heights are linear or logarithmic; and round numbers along axes.

Guarantee: everything that stands at a step (losses, checkpoints, phases) stands at the same place whatever the axis is; a range that
cannot be read is said and nothing is hidden for it. Price: none.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...runs.control import as_number
from ...runs.state import RunState
from ..fields import write_number
from .columns import Numbers, StepColumns

AXES = ("epoch", "step", "time")
SCALES = {"linear": False, "log": True}
ALL, LAST_HALF, LAST_STEPS, FROM_TO = "all", "last half", "last 100 steps", "from – to"
RANGES = (ALL, LAST_HALF, LAST_STEPS, FROM_TO)
_FEW_STEPS = 100
_TIME_UNITS = (("hours", 3600.0, 2 * 3600.0), ("minutes", 60.0, 120.0), ("seconds", 1.0, 0.0))


@dataclass
class ChartChoice:
    """How a page shows the curves.

    Attributes:
        axis: one of AXES.
        is_log: heights are logarithmic, where they can be.
        span: one of RANGES; with FROM_TO from ``begin`` to ``end``, in the axis' unit; None = open.
    """

    axis: str = "epoch"
    is_log: bool = False
    span: str = ALL
    begin: float | None = None
    end: float | None = None

    @property
    def key(self) -> tuple[Any, ...]:
        """What the charts must be drawn anew for."""
        return (self.axis, self.is_log, self.span, self.begin, self.end)


@dataclass
class XAxis:
    """Where the things of a run stand from left to right.

    Attributes:
        unit: words below the axis.
        low: its left end, ``high`` its right end.
        steps: place of each step, shape (steps,).
    """

    unit: str
    low: float
    high: float
    steps: Numbers
    _kind: str = "epoch"
    _numbers: Numbers = field(default_factory=lambda: np.zeros(0))

    def place(self, event: dict[str, Any]) -> float | None:
        """Where an event with ``step`` and ``epoch`` stands; None if it does not say."""
        value = event.get("epoch" if self._kind == "epoch" else "step")
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            return None
        if self._kind != "time":
            return float(value)
        numbers, times = np.concatenate([[0.0], self._numbers]), np.concatenate([[0.0], self.steps])
        return float(np.interp(value, numbers, times))

    def is_inside(self, x: float) -> bool:
        """Whether a place is in the range that is shown."""
        return self.low <= x <= self.high


def x_axis(state: RunState, columns: StepColumns, choice: ChartChoice) -> XAxis:
    """The axis of a run's charts: as long as its plan, unless a part is chosen."""
    steps, unit, planned = columns["step"], "epochs", _number(state.plan.get("num_epochs"))
    places = columns["epoch"]
    if choice.axis == "step":
        unit, places, planned = "optimizer steps", steps, _number(state.plan.get("num_steps"))
    elif choice.axis == "time":
        places, planned = columns.seconds, 0.0
        done = float(places[-1]) if len(places) else 0.0
        word, factor = next((word, seconds) for word, seconds, least in _TIME_UNITS if done >= least)
        unit, places = f"{word} of training (without pauses)", places / factor
    known = places[np.isfinite(places)]
    first, last = (float(known[0]), float(known[-1])) if len(known) else (0.0, 0.0)
    low, high = 0.0, max(planned, last)
    if choice.span == LAST_HALF:
        low, high = last / 2, last
    elif choice.span == LAST_STEPS:
        low, high = (float(known[-_FEW_STEPS - 1]) if len(known) > _FEW_STEPS else min(first, 0.0)), last
    elif choice.span == FROM_TO:
        low, high = (low if choice.begin is None else choice.begin), (high if choice.end is None else choice.end)
    if not high > low:
        high = low + 1.0
    return XAxis(unit, low, high, places, choice.axis, steps)


def _number(value: Any) -> float:
    return float(value) if isinstance(value, (int, float)) else 0.0


def read_range(begin: str, end: str) -> tuple[float | None, float | None, str]:
    """The two ends of a range as they were typed, and what is wrong with them ("" = nothing); an empty one is open."""
    found: list[float | None] = []
    for label, text in (("From", begin), ("To", end)):
        text = str(text or "").strip().replace(",", ".")
        number = as_number(text)
        if text and number is None:
            return None, None, f"{label}: that is no number. Got: {text!r}. Write for example 100, or nothing."
        found.append(number)
    low, high = found
    if low is not None and high is not None and high <= low:
        return None, None, f"To: it must be more than From. Got: {high:g}, From is {low:g}."
    return low, high, ""


# --- round numbers -------------------------------------------------------------------------------------------------------------


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


def log_ticks(low: float, high: float) -> list[float]:
    """Round numbers from low to high (both above 0) for logarithmic heights: powers of ten, with 2 and 5 between them where there is room."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    for factors in ((1,), (1, 2, 5)):
        found = [float(f"{factor * 10.0**power:.12g}") for power in range(first, last + 1) for factor in factors]
        shown = [number for number in found if low * (1 - 1e-9) <= number <= high * (1 + 1e-9)]
        if len(shown) > 2:
            return shown[:: math.ceil(len(shown) / 8)]
    return nice_ticks(low, high)


def tick_words(values: Sequence[float]) -> list[str]:
    """Numbers along an axis, as people write them."""
    return [f"{value:,.0f}" if abs(value) >= 10_000 else write_number(value) for value in values]
