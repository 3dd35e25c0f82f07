"""Numbers as people read them: durations, counts, bytes, learning rates."""

from __future__ import annotations

import time
from typing import Any


def duration(seconds: float | None) -> str:
    """1 h 5 min, 2 min 3 s, 8 s; empty if unknown."""
    if seconds is None or seconds < 0:
        return ""
    total = round(seconds)
    hours, minutes, rest = total // 3600, total // 60 % 60, total % 60
    if hours >= 48:
        return f"{hours // 24} days {hours % 24} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def count(value: Any) -> str:
    """1,234,567; other things as they are."""
    return f"{value:,}" if isinstance(value, int) else str(value)


def plural(number: int, word: str, words: str = "") -> str:
    """1 row, 2 rows."""
    return f"{number:,} {word if number == 1 else words or word + 's'}"


def size(num_bytes: float) -> str:
    """12.3 MB; steps of 1024."""
    value = float(num_bytes)
    for unit in ("bytes", "kB", "MB", "GB"):
        if abs(value) < 1024:
            return f"{value:.0f} {unit}" if unit == "bytes" or value >= 100 else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TB"


def moment(seconds: float) -> str:
    """A date and a time of day, in this machine's zone."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))


def loss(value: float | None) -> str:
    """A loss with three digits; a dash if there is none (NaN is written as None)."""
    return "–" if value is None else f"{value:.3f}"
