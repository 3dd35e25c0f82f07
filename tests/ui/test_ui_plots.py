"""Curves: thinning keeps peaks, numbers land where they should, nothing breaks on little or odd data."""

import random
import re
import xml.etree.ElementTree as ElementTree

import pytest
from training_pro.ui.charts.axes import log_ticks, nice_ticks, tick_words
from training_pro.ui.charts.plots import MAX_POINTS, Curve, Ground, chart, thin


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


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [(0.1, 10, [0.1, 1, 10]), (1, 30, [1, 2, 5, 10, 20]), (2.1, 2.9, [2.2, 2.4, 2.6, 2.8]), (1e-9, 1e9, None)],
)
def test_ticks_of_logarithmic_heights(low: float, high: float, ticks: list[float] | None) -> None:
    found = log_ticks(low, high)
    assert all(low <= tick <= high for tick in found)
    assert len(found) <= 8
    if ticks is not None:
        assert found == pytest.approx(ticks)


def test_numbers_along_an_axis() -> None:
    assert tick_words([0, 0.0002, 0.5, 12, 9000, 100_000]) == ["0", "2e-4", "0.5", "12", "9000", "100,000"]


def heights(html: str, style: str) -> list[float]:
    path = re.search(rf'tph-line {style}" d="([^"]*)"', html)
    assert path
    return [float(pair.split()[1]) for pair in path[1].lstrip("M").split("L")]


def test_logarithmic_heights_are_even_for_equal_factors_and_leave_out_what_has_none() -> None:
    points = [(0.0, 0.0), (1.0, 100.0), (2.0, 10.0), (3.0, 1.0), (4.0, -1.0)]
    top, middle, bottom = heights(chart("x", [Curve("", "tph-raw", points)], 4.0, is_log=True), "tph-raw")
    assert middle - top == pytest.approx(bottom - middle, abs=0.2)
    linear = heights(chart("x", [Curve("", "tph-raw", points)], 4.0), "tph-raw")
    assert linear[2] - linear[1] > 5 * (linear[3] - linear[2])  # no such thing where they are linear


def test_the_ground_of_a_chart() -> None:
    ground = Ground(
        10.0,
        20.0,
        [(0.0, 15.0, "length"), (15.0, 30.0, "seq<")],
        [(15.0, "seq< here"), (25.0, "far")],
        [(12.5, "cp 1"), (5.0, "cp 0")],
    )
    html = chart("x", [Curve("", "tph-raw", [(0.0, 99.0), (10.0, 1.0), (20.0, 2.0), (21.0, 99.0)])], ground=ground)
    tree = ElementTree.fromstring(html)
    rects = [(entry.get("class"), entry.get("x"), entry.get("width")) for entry in tree.iter("rect")]
    assert rects == [("tph-band tph-band-0", "0.0", "500.0"), ("tph-band tph-band-1", "500.0", "500.0")]
    lines = {entry.get("class"): entry.get("d") for entry in tree.iter("path")}
    assert lines["tph-switch"] == "M500.0 0V300"
    assert lines["tph-mark"] == "M250.0 279V300"
    assert html.count('class="tph-switch"') == html.count('class="tph-mark" d') == 1  # the others are outside
    assert len(heights(html, "tph-raw")) == 2  # what is outside does not stretch the heights
    assert "seq&lt;" in html
    assert ">checkpoint</span>" in html
