"""Progress is a share that never falls, told now and then."""

from training_pro.data.progress import Meter


def test_it_is_told_at_once_then_now_and_then() -> None:
    told, now = [], [0.0]
    meter = Meter(lambda share, what: told.append((share, what)), 200, clock=lambda: now[0])
    for number in range(10):
        now[0] = number * 0.04
        meter.tick(number * 10, lambda number=number: f"{number} rows")
    assert told == [(0.0, "0 rows"), (0.15, "3 rows"), (0.3, "6 rows"), (0.45, "9 rows")]
    now[0] = 1.0
    meter.tick(50, lambda: "a file read anew")
    meter.done_before = 190
    now[0] = 2.0
    meter.tick(50, lambda: "grown meanwhile")
    meter.finish("done")
    assert told[4:] == [(0.45, "a file read anew"), (1.0, "grown meanwhile"), (1.0, "done")]


def test_nobody_is_told_of_nothing() -> None:
    meter = Meter(None, 0)
    meter.tick(1, lambda: 1 / 0)
    meter.finish("done")
    told = []
    Meter(lambda share, what: told.append(share), 0).tick(0, lambda: "an empty file")
    assert told == [0.0]
