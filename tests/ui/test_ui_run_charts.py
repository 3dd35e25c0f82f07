"""The charts of a run: what they show, along which axis, and that a long run is drawn quickly."""

import random
import re
import time
import xml.etree.ElementTree as ElementTree
from typing import Any

import numpy as np
import pytest
from training_pro.runs.state import RunState, apply_event
from training_pro.ui.charts.axes import ALL, FROM_TO, LAST_HALF, LAST_STEPS, ChartChoice, read_range, x_axis
from training_pro.ui.charts.columns import StepColumns
from training_pro.ui.charts.run import NO_CHARTS, run_charts


def step_event(number: int, of: int = 10, **more: Any) -> dict[str, Any]:
    return {"step": number, "epoch": number / of, "loss": 2.0, "smoothed_loss": 2.0, "lr": 1e-4, "seconds": 30.0, **more}


def long_run(count: int) -> RunState:
    rng = random.Random(0)
    steps = [
        step_event(n, count, loss=rng.random(), grad_norm=rng.random(), tokens_per_second=1e3 + n, seconds=0.1, memory=1e9)
        for n in range(1, count + 1)
    ]
    return RunState(steps=steps, plan={"num_epochs": 1.0, "num_steps": count})


def test_charts_of_a_run_skip_nan_and_show_all_curves() -> None:
    steps = [step_event(n, loss=None if n == 3 else 2.0, grad_norm=1.0, tokens_per_second=9.0) for n in range(1, 11)]
    steps[4]["memory"] = 3 * 2**29
    state = RunState(steps=steps, evaluations=[{"step": 10, "epoch": 1.0, "loss": 2.5}], plan={"num_epochs": 2.0})
    html = run_charts(state)
    ElementTree.fromstring(html)
    shown = ["tph-raw", "tph-smooth", "tph-eval", "tph-rate", "tph-norm", "tph-speed", "tph-memory"]
    assert re.findall(r'<path class="tph-line (tph-\w+)"', html) == shown
    assert "NaN" not in html
    assert "Memory (GB)" in html
    raw = re.search(r'tph-line tph-raw" d="([^"]*)"', html)
    assert raw
    assert raw[1].count("L") == 8
    assert run_charts(RunState()) == NO_CHARTS


def test_phases_and_checkpoints_stand_under_the_curves() -> None:
    state = RunState(steps=[step_event(n) for n in range(1, 11)], plan={"num_epochs": 1.0})
    state.phases = [{"step": 0, "epoch": 0.0, "phase": "length", "stage": 0}]
    state.checkpoints = [{"step": 5, "epoch": 0.5, "folder": "checkpoint-5", "cause": "user"}]
    html = run_charts(state)
    assert "tph-band-" not in html  # one phase is no news
    assert 'class="tph-mark" d="M500.0 279V300"' in html
    state.phases.append({"step": 5, "epoch": 0.5, "phase": "sequential", "stage": 1, "cause": "loss < 2"})
    html = run_charts(state)
    assert 'class="tph-band tph-band-1" x="500.0"' in html
    assert "sequential from step 5 on: loss &lt; 2" in html
    assert html.count('class="tph-switch"') == html.count("<figure")  # in each chart
    assert html.count('class="tph-mark" d') == 1  # checkpoints at the loss only


@pytest.mark.parametrize(
    ("choice", "unit", "low", "high"),
    [
        (ChartChoice(), "epochs", 0, 2),
        (ChartChoice("step"), "optimizer steps", 0, 400),
        (ChartChoice("time"), "minutes of training (without pauses)", 0, 100),
        (ChartChoice("step", span=LAST_HALF), "optimizer steps", 100, 200),
        (ChartChoice("step", span=LAST_STEPS), "optimizer steps", 100, 200),
        (ChartChoice("epoch", span=LAST_STEPS), "epochs", 0.5, 1),
        (ChartChoice("step", span=FROM_TO, begin=20, end=30), "optimizer steps", 20, 30),
        (ChartChoice("step", span=FROM_TO, end=30), "optimizer steps", 0, 30),
        (ChartChoice("step", span=FROM_TO, begin=900), "optimizer steps", 900, 901),
    ],
)
def test_the_axis(choice: ChartChoice, unit: str, low: float, high: float) -> None:
    state = RunState(steps=[step_event(n, 200) for n in range(1, 201)], plan={"num_epochs": 2.0, "num_steps": 400})
    axis = x_axis(state, StepColumns().take(state.steps), choice)
    assert (axis.unit, axis.low, axis.high) == (unit, pytest.approx(low), pytest.approx(high))
    run_charts(state, choice=choice)  # also where nothing is in the range


def test_the_same_thing_stands_at_the_same_place_on_each_axis() -> None:
    state = RunState(steps=[step_event(n, 200, seconds=60.0) for n in range(1, 201)])
    event = {"step": 50, "epoch": 0.25}
    for axis_name, place in (("step", 50), ("epoch", 0.25), ("time", 50 / 60)):
        axis = x_axis(state, StepColumns().take(state.steps), ChartChoice(axis_name))
        assert axis.place(event) == pytest.approx(place)
        assert axis.steps[49] == pytest.approx(place)


@pytest.mark.parametrize(
    ("begin", "end", "found", "words"),
    [
        ("", "", (None, None), ""),
        (" 1,5 ", "20", (1.5, 20.0), ""),
        ("", "7", (None, 7.0), ""),
        ("soon", "", (None, None), "From: that is no number. Got: 'soon'"),
        ("1", "nan", (None, None), "To: that is no number"),
        ("5", "5", (None, None), "To: it must be more than From"),
    ],
)
def test_a_typed_range(begin: str, end: str, found: tuple[Any, Any], words: str) -> None:
    low, high, problem = read_range(begin, end)
    assert (low, high) == found
    assert words in problem
    assert bool(words) == bool(problem)


def test_columns_follow_the_diary_and_begin_anew_with_a_new_start() -> None:
    state, columns = RunState(), StepColumns()
    apply_event(state, {"event": "run_started", "t": 1.0})
    for number in (1, 2, 3):
        apply_event(state, {"event": "step", **step_event(number, loss=float(number), seconds=2.0)})
        columns.take(state.steps)
    assert columns["loss"].tolist() == [1, 2, 3]
    assert columns.seconds.tolist() == [2, 4, 6]
    assert np.isnan(columns["memory"]).all()
    apply_event(state, {"event": "run_started", "t": 2.0, "resumed_from_step": 1})
    for number in (2, 3):
        apply_event(state, {"event": "step", **step_event(number, loss=10.0 * number, seconds=1.0)})
    assert columns.take(state.steps)["loss"].tolist() == [1, 20, 30]
    assert columns.seconds.tolist() == [2, 3, 4]


def test_each_step_is_walked_through_once() -> None:
    steps = [step_event(n) for n in range(1, 6)]
    columns = StepColumns().take(steps)
    steps[0]["loss"] = 99.0
    steps.append(step_event(6))
    assert columns.take(steps)["loss"].tolist() == [2.0] * 6


def test_a_long_run_stays_small_and_is_drawn_quickly() -> None:
    state, columns = long_run(100_000), StepColumns()
    begun = time.thread_time()
    first = run_charts(state, columns)
    took = time.thread_time() - begun
    assert len(first) < 90_000
    assert took < 1.5
    state.steps.append(step_event(100_001, 100_000))
    begun = time.thread_time()
    run_charts(state, columns)
    assert time.thread_time() - begun < 0.25 * max(took, 0.4)


def test_peaks_of_a_long_run_are_kept_in_the_part_that_is_shown() -> None:
    state = long_run(100_000)
    state.steps[77_777]["loss"] = 50.0
    for choice in (
        ChartChoice(),
        ChartChoice("step", span=LAST_HALF),
        ChartChoice("step", span=FROM_TO, begin=77_000, end=78_000),
    ):
        raw = re.search(r'tph-line tph-raw" d="([^"]*)"', run_charts(state, choice=choice))
        assert raw
        highest = min(float(pair.split()[1]) for pair in raw[1].lstrip("M").split("L"))
        assert highest < 20  # near the top: the peak is there
    assert ChartChoice().span == ALL
