"""Curves: thinning keeps peaks, numbers land where they should, nothing breaks on little or odd data."""

import random
import re
import xml.etree.ElementTree as ElementTree

import pytest
from training_pro.runs.state import RunState
from training_pro.ui.plots import MAX_POINTS, Curve, chart, nice_ticks, run_charts, thin


@pytest.mark.parametrize("count", [0, 1, 2, 599, 600, 601, 5000, 100_000])
def test_thinning_keeps_ends_peaks_and_order(count: int) -> None:
    points = [(float(x), random.Random(x).random()) for x in range(count)]
    if count > 1000:
        points[count // 3] = (points[count // 3][0], 99.0)
        points[count // 2] = (points[count // 2][0], -99.0)
    kept = thin(points)
    assert len(kept) <= MAX_POINTS
    assert kept == sorted(kept)
    assert set(kept) <= set(points)
    if points:
        assert (kept[0], kept[-1]) == (points[0], points[-1])
        assert max(y for _, y in kept) == max(y for _, y in points)
        assert min(y for _, y in kept) == min(y for _, y in points)
    if count <= MAX_POINTS:
        assert kept == points


def test_thinning_keeps_each_of_many_peaks() -> None:
    peaks = range(500, 100_000, 1000)
    points = [(float(x), 5.0 if x in peaks else 1.0) for x in range(100_000)]
    kept = thin(points)
    assert sum(y == 5.0 for _, y in kept) == len(peaks) == 100


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [(0, 3, [0, 1, 2, 3]), (0, 1, [0, 0.5, 1]), (0.7, 2.9, [1, 2]), (0, 3e-4, [0, 1e-4, 2e-4, 3e-4]), (2, 2, [2])],
)
def test_ticks_are_round_numbers(low: float, high: float, ticks: list[float]) -> None:
    assert nice_ticks(low, high) == pytest.approx(ticks)


def test_a_chart_is_well_formed_and_escaped() -> None:
    html = chart("a <b> & c", [Curve("<x>", "tph-raw", [(0.0, 1.0), (1.0, 3.0)])], 2.0)
    tree = ElementTree.fromstring(html)
    assert tree.tag == "figure"
    assert "<x>" not in html
    path = next(entry for entry in tree.iter("path") if entry.get("class") == "tph-line tph-raw")
    numbers = [float(number) for number in re.findall(r"[\d.]+", path.get("d", ""))]
    # from the left edge to the middle, from near the bottom to near the top
    assert numbers[0] == 0
    assert numbers[2] == 500
    assert numbers[1] > 200 > 100 > numbers[3]


def test_one_point_is_a_dot_and_none_is_nothing() -> None:
    assert "tph-dot" in chart("loss", [Curve("", "tph-raw", [(0.5, 2.0)])], 1.0)
    assert chart("loss", [Curve("", "tph-raw", [])], 1.0) == ""
    assert run_charts(RunState()) == '<div id="tph-curve"></div>'


def test_charts_of_a_run_skip_nan_and_show_all_curves() -> None:
    steps = [{"epoch": n / 10, "loss": None if n == 3 else 2.0, "smoothed_loss": 2.0, "lr": 1e-4} for n in range(1, 11)]
    state = RunState(steps=steps, evaluations=[{"epoch": 1.0, "loss": 2.5}], plan={"num_epochs": 2.0})
    html = run_charts(state)
    ElementTree.fromstring(html)
    assert re.findall(r'<path class="tph-line (tph-\w+)"', html) == ["tph-raw", "tph-smooth", "tph-eval", "tph-rate"]
    assert "NaN" not in html
    raw = re.search(r'tph-line tph-raw" d="([^"]*)"', html)
    assert raw
    assert raw[1].count("L") == 8


def test_a_long_run_stays_small() -> None:
    steps = [{"epoch": n / 1e5, "loss": random.Random(n).random(), "smoothed_loss": 1.0, "lr": 1e-4} for n in range(100_000)]
    assert len(run_charts(RunState(steps=steps))) < 60_000
