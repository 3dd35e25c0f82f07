"""Schedules: values by hand from their formulas, and transformers' own as oracles."""

import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from training_pro.custom_scheduler import SCHEDULES, Progress
from training_pro.hybrid_batching import HybridBatchSampler, RunPlan

ROOT_HALF = math.sqrt(0.5)


def factor(name: str, epoch: float, num_epochs: float, warmup: float = 0.0) -> float:
    return SCHEDULES[name](Progress(epoch=epoch, num_epochs=num_epochs, warmup_epochs=warmup))


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
}


def test_every_schedule_has_values() -> None:
    assert set(VALUES) == set(SCHEDULES)


@pytest.mark.parametrize(
    ("name", "epoch", "num_epochs", "warmup", "expected"), [(name, *row) for name, rows in VALUES.items() for row in rows]
)
def test_values_by_hand(name: str, epoch: float, num_epochs: float, warmup: float, expected: float) -> None:
    assert factor(name, epoch, num_epochs, warmup) == pytest.approx(expected, abs=1e-12)


@given(st.sampled_from(list(SCHEDULES)), st.floats(0, 1), st.floats(0.1, 20), st.floats(0, 1))
def test_factors_stay_between_0_and_1(name: str, share: float, num_epochs: float, warmup_share: float) -> None:
    assert -1e-12 <= factor(name, share * num_epochs, num_epochs, warmup_share * num_epochs) <= 1 + 1e-12


@pytest.mark.parametrize("name", ["linear", "cosine", "FP_low_epoch_annealing", "FP_half_time_annealing"])
@pytest.mark.parametrize("warmup", [0.0, 0.3])
def test_schedules_that_end_at_0_and_do_not_jump(name: str, warmup: float) -> None:
    values = [factor(name, step / 200, 5, warmup) for step in range(1001)]
    assert max(values) == 1
    assert values[-1] == pytest.approx(0, abs=1e-12)
    jumps = [abs(after - before) for before, after in zip(values, values[1:], strict=False)]
    assert max(jumps) < 0.02
    after_warmup = values[100:]
    assert after_warmup == sorted(after_warmup, reverse=True)


# --- transformers as an oracle -------------------------------------------------------------------------------------------------

ORACLES = ("linear", "cosine", "constant", "constant_with_warmup")


def transformers_factors(name: str, num_steps: int, warmup_steps: int) -> list[float]:
    import torch
    from transformers import get_scheduler

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = get_scheduler(name, optimizer, num_warmup_steps=warmup_steps, num_training_steps=num_steps)
    factors = []
    for _ in range(num_steps + 1):
        factors.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    return factors


def our_factors(schedule: Callable[[Progress], float], plan: RunPlan, warmup_steps: int) -> list[float]:
    return [
        schedule(Progress(plan.epoch_at(step), plan.num_epochs, plan.epoch_at(warmup_steps), step, plan.num_steps))
        for step in range(plan.num_steps + 1)
    ]


@pytest.mark.parametrize("name", ORACLES)
@pytest.mark.parametrize(
    ("num_entries", "batch_size", "accumulation", "num_epochs", "warmup_steps"),
    [
        (40, 4, 1, 3, 0),
        (40, 4, 1, 3, 7),
        (40, 4, 2, 3, 12),
        (40, 4, 1, 2.5, 5),
        (40, 4, 1, 0.5, 2),
        (41, 4, 2, 2, 3),
        (8, 8, 1, 1, 0),
    ],
)
def test_transformers_agrees_at_every_step(
    name: str, num_entries: int, batch_size: int, accumulation: int, num_epochs: float, warmup_steps: int
) -> None:
    sampler = HybridBatchSampler([1] * num_entries, batch_size=batch_size, accumulation=accumulation, num_epochs=num_epochs)
    plan = sampler.plan
    expected = transformers_factors(name, plan.num_steps, warmup_steps)
    assert len(expected) == plan.num_steps + 1 > 1
    if name != "constant" and warmup_steps:
        assert expected[0] == 0
    assert our_factors(SCHEDULES[name], plan, warmup_steps) == pytest.approx(expected, abs=1e-12)
