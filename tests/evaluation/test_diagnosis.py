"""Diagnosis of learning curves: a curve made for each case, and silence where the data do not say."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from training_pro.evaluation.curves import changes_at_epochs, read_curve, spikes, trend
from training_pro.evaluation.diagnosis import diagnose, to_plain
from training_pro.runs.events import EventWriter
from training_pro.runs.state import RunState, read_state
from training_pro.runs.store import RunFolder

STEPS, EPOCHS = 300, 3


def run(
    loss: Callable[[float], float],
    evaluation: Callable[[float], float] | None = None,
    *,
    noise: float = 0.05,
    seed: int = 0,
    num_steps: int = STEPS,
    rate: Callable[[float], float] = lambda done: 1e-4,
    phases: list[int] | None = None,
) -> RunState:
    """A run whose loss is a function of the share that is done (0 to 1), with noise."""
    rng = np.random.default_rng(seed)
    begins = [0, *(phases or [])]
    state = RunState(
        status="finished", phases=[{"step": step, "phase": "x", "stage": stage} for stage, step in enumerate(begins)]
    )
    for step in range(1, num_steps + 1):
        done = step / num_steps
        value = loss(done) + float(rng.normal(0, noise))
        state.steps.append({"step": step, "epoch": done * EPOCHS, "loss": value, "lr": rate(done), "trained_tokens": 500})
    if evaluation:
        for part in range(1, 7):
            state.evaluations.append({"step": num_steps * part // 6, "loss": evaluation(part / 6)})
    return state


def kinds(state: RunState) -> list[str]:
    return [finding.kind for finding in diagnose(state)]


def falling(done: float) -> float:
    return 2.0 - 0.8 * done


def settled(done: float) -> float:
    return 1.5 + math.exp(-12 * done)


def by_heart(done: float) -> float:
    """Flat within an epoch, lower at each next one."""
    return (2.0, 1.2, 0.5)[min(2, int(done * EPOCHS - 1e-9))]


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (run(falling), ["still falling"]),
        (run(settled), ["plateau"]),
        (run(lambda done: 2.0), ["nothing learned"]),
        (run(lambda done: 2.0 - done + (3 * max(0.0, done - 0.5))), ["unstable"]),
        (run(lambda done: 2.0 + 3 * (round(done * STEPS) % 60 == 59), noise=0.02), ["unstable"]),
        (run(falling, lambda done: 1.8 - 0.6 * done + max(0.0, done - 0.5)), ["over-fitting"]),
        (run(by_heart), ["memorised"]),
        (run(lambda done: 0.1 + 2 * math.exp(-6 * done), lambda done: 1.9 - 0.01 * done), ["memorised"]),
        (run(settled, lambda done: settled(done) + 0.05), ["well fitted"]),
    ],
    ids=["falling", "plateau", "nothing", "rising", "spikes", "over-fitting", "staircase", "by heart", "well fitted"],
)
def test_a_curve_of_each_kind(state: RunState, expected: list[str]) -> None:
    findings = diagnose(state)
    assert [finding.kind for finding in findings] == expected
    for finding in findings:
        assert any(letter.isdigit() for letter in finding.words)  # the evidence
        assert finding.advice


def test_over_fitting_names_the_step() -> None:
    (finding,) = diagnose(run(falling, lambda done: 1.8 - 0.6 * done + max(0.0, 1.2 * (done - 0.5))))
    assert "lowest at step 150 (1.500)" in finding.words


def test_a_loss_that_is_not_finite() -> None:
    state = run(falling, num_steps=10)
    state.status, state.end = "failed", {"message": "The loss of step 11 is not finite: nan."}
    assert kinds(state) == ["unstable"]


@pytest.mark.parametrize(
    "state",
    [
        RunState(),
        run(falling, num_steps=20),
        run(falling, noise=3.0),  # the noise hides it
        run(lambda done: 2.0, noise=3.0),
        run(falling, lambda done: 1.8 - 0.6 * done + 0.2 * (done == 1.0), num_steps=20),
    ],
    ids=["empty", "short", "noisy fall", "noisy level", "short with evaluations"],
)
def test_silent_where_the_data_do_not_say(state: RunState) -> None:
    assert kinds(state) == []


def test_a_flat_end_says_nothing_where_the_rate_has_come_down() -> None:
    at_half = run(lambda done: max(1.4, 2.0 - 1.2 * done), rate=lambda done: 1e-4 if done < 0.5 else 1e-7)
    assert kinds(at_half) == ["still falling"]  # it fell as long as anything moved


def test_another_phase_is_no_trend() -> None:
    level = run(lambda done: 2.0 if done <= 0.5 else 1.2, phases=[150])
    assert "still falling" not in kinds(level)
    assert "unstable" not in kinds(run(lambda done: 1.2 if done <= 0.5 else 2.0, phases=[150]))


@pytest.mark.parametrize(("noise", "num_steps"), [(0.5, 354), (0.5, 90), (0.1, 354)])
def test_noise_alone_is_hardly_ever_a_trend(noise: float, num_steps: int) -> None:
    """Three standard errors from twelve blocks leave less than one chance in a hundred, and that only where the noise is strong."""
    trends = {"still falling", "plateau", "over-fitting", "memorised", "well fitted"}
    runs = (run(lambda done: 2.0, noise=noise, seed=seed, num_steps=num_steps) for seed in range(300))
    assert sum(bool(trends & set(kinds(state))) for state in runs) <= (3 if noise > 0.2 else 0)


def test_trend_equals_a_straight_line() -> None:
    curve = read_curve([{"step": step, "loss": 3.0 - step / 100, "epoch": step / 84} for step in range(1, 85)])
    found = trend(curve)
    assert found.change == pytest.approx(-0.84 * 11 / 12)  # from the middle of the first of twelve blocks to the last's
    assert found.error == pytest.approx(0, abs=1e-9)


def test_losses_are_weighted_by_trained_tokens() -> None:
    curve = read_curve(
        [
            {"step": 1, "loss": 1.0, "trained_tokens": 30},
            {"step": 2, "loss": 4.0, "trained_tokens": 10},
            {"step": 3, "loss": None},
        ]
    )
    assert len(curve) == 2
    assert curve.mean == pytest.approx(1.75)


def test_spikes_and_stairs() -> None:
    state = run(lambda done: 2.0 + 4 * (round(done * STEPS) == 100), noise=0.05)
    assert spikes(read_curve(state.steps)) == [100]
    stairs = changes_at_epochs(read_curve(run(by_heart, noise=0.01).steps))
    assert [change.change for change in stairs] == [pytest.approx(-0.8, abs=0.02), pytest.approx(-0.7, abs=0.02)]
    assert min(change.change for change in changes_at_epochs(read_curve(run(falling, noise=0.01).steps))) > -0.1


def test_it_goes_through_the_diary(tmp_path: Path) -> None:
    writer = EventWriter(tmp_path / "events.jsonl")
    writer("run_started", name="a", pid=1, process_started=0.0)
    writer("diagnosis", findings=to_plain(diagnose(run(falling))))
    writer.close()
    (found,) = read_state(RunFolder(tmp_path)).diagnosis
    assert found["kind"] == "still falling"
    assert set(found) == {"kind", "words", "advice"}
