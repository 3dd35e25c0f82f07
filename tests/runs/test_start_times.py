"""Start times as people write them."""

from datetime import datetime, timedelta

import pytest
from training_pro.runs.start_times import parse_start

NOW = datetime(2026, 1, 31, 12, 0, 30)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("22:30", datetime(2026, 1, 31, 22, 30)),
        (" 7:05 ", datetime(2026, 2, 1, 7, 5)),
        ("12:00", datetime(2026, 2, 1, 12, 0)),
        ("12:00:31", datetime(2026, 1, 31, 12, 0, 31)),
        ("today 12:01", datetime(2026, 1, 31, 12, 1)),
        ("Tomorrow 0:00", datetime(2026, 2, 1)),
        ("tomorrow at 23:59", datetime(2026, 2, 1, 23, 59)),
        ("2026-02-28 06:00", datetime(2026, 2, 28, 6)),
        ("2027-1-2T06:00", datetime(2027, 1, 2, 6)),
    ],
)
def test_what_is_meant(text: str, meant: datetime) -> None:
    assert parse_start(text, NOW) == meant.timestamp()


def test_nothing_is_at_once() -> None:
    assert parse_start("  ", NOW) is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("soon", "'soon' is no time. Write it as 22:30"),
        ("7", "no time"),
        ("25:00", "there is no '25:00'"),
        ("12:60", "there is no"),
        ("2026-02-30 10:00", "there is no '2026-02-30 10:00'"),
        ("today 12:00", "'today 12:00' is over .it is 2026-01-31 12:00."),
        ("2026-01-30 23:00", "is over"),
    ],
)
def test_what_is_refused(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_start(text, NOW)


def test_now_is_this_machines() -> None:
    in_an_hour = datetime.now() + timedelta(hours=1)
    assert parse_start(f"{in_an_hour:%Y-%m-%d %H:%M:%S}") == pytest.approx(in_an_hour.timestamp(), abs=1)
