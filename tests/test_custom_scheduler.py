"""Schedules: values by hand from their formulas, transformers and torch as oracles, properties, and what users are told."""

import itertools
import json
import math
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import pytest
import trials
from hypothesis import given
from hypothesis import strategies as st
from training_pro.custom_scheduler import NO_WARMUP, OPTIONS, SCHEDULES, Progress, Schedule, schedule_notes
from training_pro.hybrid_batching import HybridBatchSampler, RunPlan
from training_pro.schedules.known import ONE_CYCLE_END, ONE_CYCLE_START

ROOT_HALF = math.sqrt(0.5)


def factor(name: str, epoch: float, num_epochs: float, warmup: float = 0.0, **more: Any) -> float:
    return SCHEDULES[name](Progress(epoch=epoch, num_epochs=num_epochs, warmup_epochs=warmup, **more))


# --- by hand -------------------------------------------------------------------------------------------------------------------

# name -> [(epoch, epochs, warm-up in epochs, factor)]
VALUES: dict[str, list[tuple[float, float, float, float]]] = {
    "FP_low_epoch_annealing": [
        *(
            (0, 3, 0, 1),
            (1, 3, 0, 1),
            (1.5, 3, 0, 0.5 + 0.5 * ROOT_HALF),
            (2, 3, 0, 0.5),
            (2.5, 3, 0, 0.5 - 0.5 * ROOT_HALF),
            (3, 3, 0, 0),
        ),
        *((0, 3, 0.5, 0), (0.25, 3, 0.5, 0.5), (0.5, 3, 0.5, 1), (0.9, 3, 0.5, 1)),
        *((0.5, 3, 2, 0.5), (1, 3, 2, 1), (2, 3, 2, 0.5)),  # a warm-up longer than the first epoch is clamped to it
        *((0, 1, 0, 1), (0.5, 1, 0, 1), (1, 1, 0, 1), (0.5, 1, 0.8, 0.625), (0.4, 0.5, 0, 1)),  # one epoch: constant
        *((1.25, 1.5, 0, 0.5), (1.5, 1.5, 0, 0)),
    ],
    "FP_half_time_annealing": [
        *((0, 4, 0, 1), (2, 4, 0, 1), (3, 4, 0, 0.5), (4, 4, 0, 0), (2.5, 4, 0, 0.5 + 0.5 * ROOT_HALF)),
        *((0, 4, 1, 0), (0.5, 4, 1, 0.5), (1.5, 4, 1, 1), (1, 4, 3, 0.5), (2, 4, 3, 1), (3, 4, 3, 0.5)),
        *((0.5, 1, 0, 1), (0.75, 1, 0, 0.5)),
    ],
    "FP_raise_fall_creative": [
        *((0, 4, 0, 0), (1, 4, 0, 0.5), (2, 4, 0, 1), (3, 4, 0, 0.5), (4, 4, 0, 0), (0.5, 4, 0, 0.5 - 0.5 * ROOT_HALF)),
        *((1, 4, 2, 0.5), (0.25, 1, 0, 0.5)),  # a warm-up has no effect
    ],
    "FP_3epoch_raise_hold_fall": [
        *((0, 3, 0, 0), (0.5, 3, 0, ROOT_HALF), (1 / 3, 3, 0, 0.5), (1, 3, 0, 1), (1.7, 3, 0, 1), (2, 3, 0, 1)),
        *((2.5, 3, 0, ROOT_HALF), (2 + 2 / 3, 3, 0, 0.5), (3, 3, 0, 0), (3.5, 5, 0, ROOT_HALF), (5, 5, 0, 0)),
        *((0.5, 3, 1, ROOT_HALF), (0.1, 0.6, 0, ROOT_HALF), (0.3, 0.6, 0, 1), (0.5, 0.6, 0, ROOT_HALF), (1, 2, 0, 1)),  # thirds
    ],
    "FP_step_decay_with_warmup": [
        *((0, 4, 0, 1), (0.99, 4, 0, 1), (1, 4, 0, 0.5), (1.99, 4, 0, 0.5), (2, 4, 0, 0.25), (3.5, 4, 0, 0.125)),
        *((0, 4, 0.5, 0), (0.25, 4, 0.5, 0.5), (0.5, 4, 0.5, 1), (0.5, 4, 3, 0.5), (1, 4, 3, 0.5)),
    ],
    "linear": [
        *((0, 4, 0, 1), (1, 4, 0, 0.75), (4, 4, 0, 0), (0, 4, 1, 0), (0.5, 4, 1, 0.5), (1, 4, 1, 1), (2.5, 4, 1, 0.5)),
        *((2, 4, 4, 0.5), (4, 4, 4, 0)),  # nothing but warm-up
    ],
    "constant": [(0, 4, 0, 1), (0, 4, 2, 1), (4, 4, 2, 1)],
    "constant_with_warmup": [(0, 4, 0, 1), (0, 4, 2, 0), (1, 4, 2, 0.5), (2, 4, 2, 1), (4, 4, 2, 1)],
    "cosine": [(0, 4, 0, 1), (2, 4, 0, 0.5), (4, 4, 0, 0), (0.5, 4, 1, 0.5), (1, 4, 1, 1), (2.5, 4, 1, 0.5), (4, 4, 1, 0)],
    "cosine_with_restarts": [(0, 4, 0, 1), (2, 4, 0, 0.5), (4, 4, 0, 0), (0.5, 4, 1, 0.5), (2.5, 4, 1, 0.5)],
    "cosine_with_min_lr": [(0, 4, 0, 1), (2, 4, 0, 0.55), (4, 4, 0, 0.1), (0, 4, 1, 0), (0.5, 4, 1, 0.5), (1, 4, 1, 1)],
    "polynomial": [(0, 4, 0, 1), (1, 4, 0, 0.75 + 0.25e-7), (4, 4, 0, 1e-7), (0, 4, 1, 0), (0.5, 4, 1, 0.5), (1, 4, 1, 1)],
    "inverse_sqrt": [(0, 8, 2, 0), (1, 8, 2, 0.5), (2, 8, 2, 1), (8, 8, 2, 0.5), (0, 4, 0, 1)],
    "warmup_stable_decay": [
        *((0, 4, 0, 1), (3.6, 4, 0, 1), (3.7, 4, 0, 0.5 + 0.5 * ROOT_HALF), (3.8, 4, 0, 0.5), (4, 4, 0, 0)),
        *((0, 4, 1, 0), (0.5, 4, 1, 0.5), (1, 4, 1, 1), (3, 4, 1, 1), (3.8, 4, 1, 0.5)),
        *((3.8, 4, 3.8, 1), (3.9, 4, 3.8, 0.5), (4, 4, 4, 0)),  # the decay has only what the warm-up leaves
    ],
    "rex": [(0, 4, 0, 1), (2, 4, 0, 2 / 3), (3, 4, 0, 0.4), (4, 4, 0, 0), (0.5, 4, 1, 0.5), (1, 4, 1, 1), (2.5, 4, 1, 2 / 3)],
    "one_cycle": [
        *((0, 4, 0, 0.04), (0.6, 4, 0, 0.52), (1.2, 4, 0, 1), (2.6, 4, 0, 0.5 + 0.5 / 250_000), (4, 4, 0, 1 / 250_000)),
        *((0, 4, 2, 0.04), (1, 4, 2, 0.52), (2, 4, 2, 1), (4, 4, 2, 1 / 250_000)),
    ],
    "loss_triggered_ramp_down": [(0, 4, 0, 1), (4, 4, 0, 1), (0, 4, 1, 0), (0.5, 4, 1, 0.5), (1, 4, 1, 1), (4, 4, 1, 1)],
}


def test_every_schedule_has_values() -> None:
    assert set(VALUES) == set(SCHEDULES)


@pytest.mark.parametrize(
    ("name", "epoch", "num_epochs", "warmup", "expected"), [(name, *row) for name, rows in VALUES.items() for row in rows]
)
def test_values_by_hand(name: str, epoch: float, num_epochs: float, warmup: float, expected: float) -> None:
    assert factor(name, epoch, num_epochs, warmup) == pytest.approx(expected, abs=1e-12)


# (name, epoch of 4, warm-up, option, its value, factor)
WITH_OPTIONS: list[tuple[str, float, float, str, float, float]] = [
    *(("cosine_with_restarts", epoch, 0, "lr_cycles", 2, value) for epoch, value in ((1, 0.5), (2, 1), (3, 0.5), (4, 0))),
    ("cosine_with_restarts", 0.5, 1, "lr_cycles", 3, 0.5),
    ("cosine_with_restarts", 2, 1, "lr_cycles", 3, 1),
    ("cosine_with_min_lr", 2, 0, "lr_floor", 0.5, 0.75),
    ("cosine_with_min_lr", 4, 0, "lr_floor", 0, 0),
    ("polynomial", 2, 0, "lr_power", 2, 0.25 + 0.75e-7),
    ("warmup_stable_decay", 3, 0, "lr_decay_share", 0.5, 0.5),
    ("warmup_stable_decay", 3.999, 0, "lr_decay_share", 0, 1),
    ("warmup_stable_decay", 4, 0, "lr_decay_share", 0, 0),
]


@pytest.mark.parametrize(("name", "epoch", "warmup", "option", "value", "expected"), WITH_OPTIONS)
def test_options(name: str, epoch: float, warmup: float, option: str, value: float, expected: float) -> None:
    assert factor(name, epoch, 4, warmup, options={option: value}) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("epoch", "num_epochs", "trigger", "share", "expected"),
    [
        *((1, 10, None, 1, 1), (1.99, 10, 2, 1, 1), (2, 10, 2, 1, 1), (3, 10, 2, 1, 0.5), (4, 10, 2, 1, 0), (9, 10, 2, 1, 0)),
        *((2.5, 10, 2, 0.5, 0.5), (3, 10, 2, 0.5, 0)),
        *((8, 10, 6, 1, 0.5), (10, 10, 6, 1, 0)),  # the way down ends with the run at the latest
        *((10, 10, 10, 1, 1),),
    ],
)
def test_the_ramp_down_waits_for_the_loss(
    epoch: float, num_epochs: float, trigger: float | None, share: float, expected: float
) -> None:
    options = {"lr_ramp_share": share}
    assert factor("loss_triggered_ramp_down", epoch, num_epochs, trigger=trigger, options=options) == pytest.approx(expected)


def test_a_ramp_down_during_the_warm_up_does_not_jump() -> None:
    values = [factor("loss_triggered_ramp_down", step / 100, 5, 2, trigger=1.0) for step in range(250)]
    assert values[100] == 0.5
    assert max(abs(after - before) for before, after in itertools.pairwise(values)) < 0.02
    assert values[200:] == [0] * 50


def test_a_polynomial_of_a_tiny_rate_does_not_rise() -> None:
    assert factor("polynomial", 0, 2, base_lr=1e-8) == factor("polynomial", 2, 2, base_lr=1e-8) == 1


# --- properties ----------------------------------------------------------------------------------------------------------------

# factor at the end of the run; those that are not listed end at 0
ENDS = {
    **{"FP_low_epoch_annealing": 0.0, "FP_step_decay_with_warmup": 0.5**5, "constant": 1.0, "constant_with_warmup": 1.0},
    **{"cosine_with_min_lr": 0.1, "polynomial": 1e-7, "inverse_sqrt": math.sqrt(0.5 / 5), "one_cycle": ONE_CYCLE_END},
    "loss_triggered_ramp_down": 1.0,
}
# factor at the start of a run with a warm-up; those that are not listed start at 0
STARTS = {"constant": 1.0, "one_cycle": ONE_CYCLE_START}
JUMPS = {"FP_step_decay_with_warmup"}


@given(
    st.sampled_from(list(SCHEDULES)),
    st.floats(0, 1),
    st.floats(0.1, 20),
    st.floats(0, 1),
    st.fixed_dictionaries(
        {
            **{"lr_cycles": st.integers(1, 9), "lr_floor": st.floats(0, 1), "lr_power": st.floats(0.1, 9)},
            **{"lr_decay_share": st.floats(0, 1), "lr_ramp_share": st.floats(0.01, 9)},
        }
    ),
    st.none() | st.floats(0, 1),
)
def test_factors_stay_between_0_and_1(
    name: str, share: float, num_epochs: float, warmup_share: float, options: dict[str, float], trigger: float | None
) -> None:
    assert set(options) == set(OPTIONS)
    more = {"options": options, "trigger": None if trigger is None else trigger * num_epochs}
    assert -1e-12 <= factor(name, share * num_epochs, num_epochs, warmup_share * num_epochs, **more) <= 1 + 1e-12


@pytest.mark.parametrize("name", SCHEDULES)
def test_starts_and_ends_and_no_jump_between(name: str) -> None:
    values = [factor(name, step / 200, 5, 0.5) for step in range(1001)]
    assert values[0] == pytest.approx(STARTS.get(name, 0.0))
    assert values[-1] == pytest.approx(ENDS.get(name, 0.0), abs=1e-12)
    assert max(values) == pytest.approx(1)
    if name not in NO_WARMUP:
        assert values[100] == pytest.approx(1)
    jumps = [abs(after - before) for before, after in itertools.pairwise(values)]
    assert (max(jumps) > 0.4) if name in JUMPS else (max(jumps) < 0.04)


@given(st.sampled_from(sorted(set(SCHEDULES) - JUMPS)), st.floats(0.5, 10), st.floats(0, 0.9), st.floats(0, 1))
def test_continuity(name: str, num_epochs: float, warmup_share: float, share: float) -> None:
    """Near any point, the factor is near; the steepest places are warm-ups, restarts (none with 1 cycle) and short decays."""
    warmup, epoch = max(warmup_share, 0.05) * num_epochs, share * num_epochs
    near = min(epoch + 1e-7 * num_epochs, num_epochs)
    assert abs(factor(name, near, num_epochs, warmup) - factor(name, epoch, num_epochs, warmup)) < 1e-3


@given(st.sampled_from(sorted(set(SCHEDULES) - set(NO_WARMUP))), st.integers(1, 40), st.integers(0, 60))
def test_a_new_plan_keeps_start_warm_up_and_end(name: str, more_epochs: int, warmup_steps: int) -> None:
    """Epochs of different numbers of steps, as after a switch: all points stay at their places, on either clock."""
    plan = RunPlan((100, 60, 10 * more_epochs), (1.0, 1.0, 1.0), 1, 1, 4, 400)
    for num_steps in (0, plan.num_steps):

        def at(step: int, num_steps: int = num_steps) -> float:
            warmup = plan.epoch_at(warmup_steps) if warmup_steps else 0.0
            place = (plan.epoch_at(step), plan.num_epochs, warmup, step, num_steps)
            return SCHEDULES[name](Progress(*place, warmup_steps=warmup_steps))

        start = 1.0 if not warmup_steps and name not in STARTS else STARTS.get(name, 0.0)
        assert at(0) == pytest.approx(start)
        if warmup_steps or name not in STARTS:
            assert at(warmup_steps) == pytest.approx(1)
        end = {"FP_step_decay_with_warmup": 0.125, "inverse_sqrt": at(plan.num_steps)}
        assert at(plan.num_steps) == pytest.approx({**ENDS, **end}.get(name, 0.0), abs=1e-12)


def test_epochs_do_not_jump_where_the_rest_is_planned_anew() -> None:
    """Without ``num_steps`` a schedule runs on epochs, whatever the number of steps."""
    before, after = (RunPlan((100, rest), (1.0, 1.0), 1, 1, 4, 400) for rest in (100, 40))
    for name in SCHEDULES:
        factors = [
            SCHEDULES[name](Progress(plan.epoch_at(100), plan.num_epochs, plan.epoch_at(20), 100, 0, warmup_steps=20))
            for plan in (before, after)
        ]
        assert factors[0] == factors[1]


def test_schedules_need_no_torch() -> None:
    code = (
        "import sys, json; from training_pro.custom_scheduler import SCHEDULES, Progress\n"
        "values = [schedule(Progress(1.5, 3, 0.5)) for schedule in SCHEDULES.values()]\n"
        "print(json.dumps([len(values), [name for name in ('torch', 'numpy', 'transformers') if name in sys.modules]]))"
    )
    done = subprocess.run([sys.executable, "-c", code], env=trials.environment(), capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [len(SCHEDULES), []]


# --- transformers and torch as oracles -----------------------------------------------------------------------------------------

BASE_LR = 3e-4

# (name, our options, transformers' arguments from the number of steps)
ORACLES: list[tuple[str, dict[str, float], Any]] = [
    *((name, {}, lambda steps: {}) for name in ("linear", "cosine", "constant", "constant_with_warmup", "inverse_sqrt")),
    *((name, {}, lambda steps: {}) for name in ("cosine_with_restarts", "polynomial")),
    ("cosine_with_restarts", {"lr_cycles": 3}, lambda steps: {"num_cycles": 3}),
    ("polynomial", {"lr_power": 2.5}, lambda steps: {"power": 2.5}),
    ("cosine_with_min_lr", {}, lambda steps: {"min_lr_rate": 0.1}),
    ("cosine_with_min_lr", {"lr_floor": 0.25}, lambda steps: {"min_lr": BASE_LR / 4}),
    ("warmup_stable_decay", {}, lambda steps: {"num_decay_steps": round(0.1 * steps)}),
    ("warmup_stable_decay", {"lr_decay_share": 0.4}, lambda steps: {"num_decay_steps": round(0.4 * steps)}),
]
RUNS = [  # entries, batch size, accumulation, epochs, warm-up steps
    *(
        (40, 4, 1, 3, 0),
        (40, 4, 1, 3, 7),
        (40, 4, 2, 3, 5),
        (40, 4, 1, 2.5, 5),
        (40, 4, 1, 0.5, 2),
        (41, 4, 2, 2, 3),
        (8, 8, 1, 1, 0),
    ),
    *(
        (41, 4, 1, 1.5, 0),
        (41, 4, 1, 1.5, 3),
        (43, 4, 3, 2.3, 5),
        (7, 2, 2, 1.7, 1),
        (100, 8, 4, 10.9, 17),
    ),  # parts do not divide evenly
]


def rates(scheduler: Any, num_steps: int) -> list[float]:
    """Rates of a torch scheduler before each step, and after the last."""
    found = []
    for _ in range(num_steps + 1):
        found.append(scheduler.get_last_lr()[0])
        scheduler.optimizer.step()
        scheduler.step()
    return found


def sgd(rate: float) -> Any:
    import torch

    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=rate)


def transformers_rates(name: str, num_steps: int, warmup_steps: int, arguments: dict[str, Any]) -> list[float]:
    from transformers import get_scheduler

    numbers = {"num_warmup_steps": warmup_steps, "num_training_steps": num_steps}
    return rates(get_scheduler(name, sgd(BASE_LR), **numbers, scheduler_specific_kwargs=arguments), num_steps)


def our_rates(name: str, plan: RunPlan, warmup_steps: int, options: dict[str, float]) -> list[float]:
    from training_pro.training.trainer import schedule_factor

    factor_at = schedule_factor(Schedule(name, BASE_LR, warmup_steps, options), lambda: plan)
    return [BASE_LR * factor_at(step) for step in range(plan.num_steps + 1)]


@pytest.mark.parametrize(("num_entries", "batch_size", "accumulation", "num_epochs", "warmup_steps"), RUNS)
@pytest.mark.parametrize(
    ("name", "options", "arguments"), ORACLES, ids=[f"{name}{options or ''}" for name, options, _ in ORACLES]
)
def test_transformers_agrees_at_every_step(
    name: str,
    options: dict[str, float],
    arguments: Any,
    num_entries: int,
    batch_size: int,
    accumulation: int,
    num_epochs: float,
    warmup_steps: int,
) -> None:
    sampler = HybridBatchSampler([1] * num_entries, batch_size=batch_size, accumulation=accumulation, num_epochs=num_epochs)
    num_steps = sampler.plan.num_steps
    expected = transformers_rates(name, num_steps, warmup_steps, arguments(num_steps))
    assert len(expected) == num_steps + 1 > 1
    assert our_rates(name, sampler.plan, warmup_steps, options) == pytest.approx(expected, abs=1e-15, rel=1e-9)


def test_transformers_has_no_further_schedule() -> None:
    """A schedule that a new transformers brings shows up here."""
    from transformers.trainer_utils import SchedulerType

    without = {
        "reduce_lr_on_plateau",  # follows evaluations, not the plan
        "greedy",  # follows the loss, not the plan
        "cosine_warmup_with_min_lr",  # cosine_with_min_lr with a start above 0
    }
    assert {entry.value for entry in SchedulerType} - set(SCHEDULES) == without


@pytest.mark.parametrize(("num_steps", "warmup_steps"), [(10, 3), (100, 30), (57, 1), (57, 56)])
def test_torchs_one_cycle_agrees_at_every_step(num_steps: int, warmup_steps: int) -> None:
    """torch counts the last step as the end; one more step puts its end where ours is."""
    import torch

    share = (warmup_steps + 1) / (num_steps + 1)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        sgd(BASE_LR), BASE_LR, total_steps=num_steps + 1, pct_start=share, cycle_momentum=False
    )
    expected = rates(scheduler, num_steps)
    assert len(set(expected)) > 1
    plan = RunPlan((num_steps,), (1.0,), 1, 1, 1, num_steps)
    assert our_rates("one_cycle", plan, warmup_steps, {}) == pytest.approx(expected, rel=1e-9)


# --- what users are told -------------------------------------------------------------------------------------------------------


def notes(name: str, epochs: float = 4, steps: int = 40, warmup: int = 0, **options: float) -> list[str]:
    schedule = Schedule(name, 1e-3, warmup, options)
    return schedule_notes(schedule, num_epochs=epochs, num_steps=steps, first_epoch_steps=min(10, steps))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        *((("FP_raise_fall_creative", 4, 40, 5), ["a warm-up has no effect with FP_raise_fall_creative. Got: 5."]),),
        *((("FP_3epoch_raise_hold_fall", 4, 40, 5), ["no effect"]), (("constant", 4, 40, 5), ["no effect"])),
        *((("FP_3epoch_raise_hold_fall", 3), []), (("FP_3epoch_raise_hold_fall", 2.9), ["Got: 2.9. It takes thirds of the run"])),
        *((("FP_low_epoch_annealing", 4, 40, 10), []), (("FP_low_epoch_annealing", 4, 40, 11), ["Got: 11. Used: 10."])),
        *(
            (("FP_low_epoch_annealing", 1, 10), ["the rate stays constant"]),
            (("FP_step_decay_with_warmup", 4, 40, 11), ["Used: 10."]),
        ),
        *((("FP_half_time_annealing", 4, 40, 20), []), (("FP_half_time_annealing", 4, 40, 21), ["Used: 20."])),
        *((("cosine_with_restarts",), ["Raise it to 2"]), (("inverse_sqrt",), ["ends at 100% of the rate"])),
        *((("inverse_sqrt", 4, 40, 4), []), (("warmup_stable_decay", 4, 40, 36), [])),
        *((("warmup_stable_decay", 4, 40, 38), ["shortened to 2 steps"]), (("cosine", 1, 40, 39), [])),
    ],
)
def test_notes(given: Sequence[Any], words: list[str]) -> None:
    found = notes(*given)
    assert len(found) == len(words)
    for note, expected in zip(found, words, strict=True):
        assert expected in note


def test_notes_follow_the_options() -> None:
    assert notes("cosine_with_restarts", lr_cycles=2) == []
    assert "shortened to 30 steps" in notes("warmup_stable_decay", warmup=10, lr_decay_share=0.9)[0]


@pytest.mark.parametrize("name", SCHEDULES)
def test_every_schedule_says_in_one_sentence_what_it_does(name: str) -> None:
    words = Schedule(name, 1e-3).words
    assert words.endswith(".")
    assert len(words) > 30
    assert ("a warm-up has no effect" in words) == (name in NO_WARMUP)
