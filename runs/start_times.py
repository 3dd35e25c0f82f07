"""Start times as people write them: ``22:30``, ``tomorrow 7:00``, ``2026-01-31 22:30``. Pure functions of the text and of now."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

_TIME = r"(?P<hour>\d{1,2}):(?P<minute>\d{2})(?::(?P<second>\d{2}))?"
_FORM = re.compile(rf"(?:(?P<day>today|tomorrow|(?P<date>\d{{4}}-\d{{1,2}}-\d{{1,2}}))[ T,]+)?(?:at\s+)?{_TIME}", re.IGNORECASE)
EXAMPLES = "22:30, tomorrow 7:00 or 2026-01-31 22:30"


def parse_start(text: str, now: datetime | None = None) -> float | None:
    """The moment that is meant, in seconds since the epoch; None for an empty text.

    A time without a day is the next one: today, or tomorrow if it is over. Seconds may be written.

    Args:
        text: what the user wrote.
        now: in this machine's zone; None = now.

    Raises:
        ValueError: it is no time, or it is over.
    """
    wanted = text.strip()
    if not wanted:
        return None
    match = _FORM.fullmatch(wanted)
    if match is None:
        raise ValueError(f"Start time: {wanted!r} is no time. Write it as {EXAMPLES}, or leave it empty.")
    now = now or datetime.now()
    day = (match["day"] or "").lower()
    try:
        date = datetime.strptime(match["date"], "%Y-%m-%d") if match["date"] else now
        moment = date.replace(
            hour=int(match["hour"]), minute=int(match["minute"]), second=int(match["second"] or 0), microsecond=0
        )
    except ValueError:
        raise ValueError(f"Start time: there is no {wanted!r}. Write it as {EXAMPLES}, or leave it empty.") from None
    if day == "tomorrow" or (not day and moment <= now):
        moment += timedelta(days=1)
    if moment <= now:
        raise ValueError(f"Start time: {wanted!r} is over (it is {now:%Y-%m-%d %H:%M}). Write a later one, or leave it empty.")
    return moment.timestamp()
