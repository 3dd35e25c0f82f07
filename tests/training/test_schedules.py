"""Schedules in real trainings: the optimizer's rates beside transformers' own, resume, and the ramp-down that waits for the loss."""

from pathlib import Path
from typing import Any

import pytest
import trials
from training_pro.custom_scheduler import SCHEDULES
from training_pro.runs.checkpoints import find_checkpoints

RATE = 0.02
# name -> (settings, transformers' arguments from the number of steps)
ORACLES: dict[str, tuple[dict[str, Any], Any]] = {
    "linear": ({}, lambda steps: {}),
    "constant": ({}, lambda steps: {}),
    "constant_with_warmup": ({}, lambda steps: {}),
    "cosine": ({}, lambda steps: {}),
    "cosine_with_restarts": ({"lr_cycles": 2}, lambda steps: {"num_cycles": 2}),
    "cosine_with_min_lr": ({"lr_floor": 0.3}, lambda steps: {"min_lr_rate": 0.3}),
    "polynomial": ({"lr_power": 2}, lambda steps: {"power": 2}),
    "inverse_sqrt": ({}, lambda steps: {}),
    "warmup_stable_decay": ({"lr_decay_share": 0.4}, lambda steps: {"num_decay_steps": round(0.4 * steps)}),
}


def wanted_rates(name: str, num_steps: int, warmup_steps: int, arguments: dict[str, Any]) -> list[float]:
    """transformers' rates of the steps 1 to ``num_steps``."""
    import torch
    from transformers import get_scheduler

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=RATE)
    numbers = {"num_warmup_steps": warmup_steps, "num_training_steps": num_steps}
    scheduler = get_scheduler(name, optimizer, **numbers, scheduler_specific_kwargs=arguments)
    rates = []
    for _ in range(num_steps):
        rates.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    return rates


def rates_of(seen: list[tuple[Any, ...]]) -> list[float]:
    """The optimizer's rate in each step; one for all groups."""
    assert all(len(set(step[3])) == 1 for step in seen)
    return [step[3][0] for step in seen]


@pytest.mark.parametrize("name", ORACLES)
def test_the_optimizer_has_transformers_rates(tmp_path: Path, name: str) -> None:
    """9 rows in batches of 2, 1.5 epochs: 5 steps, then 2, which is not half as many."""
    extra, arguments = ORACLES[name]
    training = {"schedule": name, "epochs": 1.5, "warmup_steps": 2, "learning_rate": RATE, **extra}
    with trials.watched() as seen:
        outcome, events = trials.run(trials.settings(tmp_path, 9, training=training))
    plan = events.all("plan")[0]
    assert (outcome.status, plan["steps_per_epoch"], len(seen)) == ("finished", [5, 2], 7)
    wanted = wanted_rates(name, 7, 2, arguments(7))
    assert rates_of(seen) == pytest.approx(wanted, rel=1e-9)
    assert [entry["lr"] for entry in events.all("step")] == rates_of(seen)
    assert dict(plan["learning_rates"]).keys() == set(range(8))  # what Check draws is what happens
    assert [rate for _, rate in plan["learning_rates"]][:7] == rates_of(seen)


def test_accumulation_and_a_warm_up_by_share(tmp_path: Path) -> None:
    training = {"schedule": "cosine", "epochs": 2.4, "warmup_steps": 0, "warmup_share": 0.3, "learning_rate": RATE}
    with trials.watched() as seen:
        _, events = trials.run(trials.settings(tmp_path, 17, training=training, batching={"gradient_accumulation": 2}))
    num_steps = events.all("plan")[0]["num_steps"]
    assert num_steps == len(seen) > 8
    assert rates_of(seen) == pytest.approx(wanted_rates("cosine", num_steps, round(0.3 * num_steps), {}), rel=1e-9)


@pytest.mark.parametrize("name", ["warmup_stable_decay", "FP_3epoch_raise_hold_fall"])
def test_a_resumed_run_goes_on_with_the_same_rates(tmp_path: Path, name: str) -> None:
    training = {"schedule": name, "epochs": 1.5, "lr_decay_share": 0.4}
    with trials.watched() as whole:
        trials.run(trials.settings(tmp_path, 9, training=training, run={"adapters_dir": str(tmp_path / "whole")}))
    with trials.watched() as parts:
        trials.run(trials.settings(tmp_path, 9, training=training), stop_at=3)
        trials.run(trials.settings(tmp_path, 9, training=training, adapter={"if_exists": "resume"}))
    assert len(set(rates_of(whole))) > 3
    assert parts == whole


def test_check_and_run_warn_of_what_a_schedule_cannot_do(tmp_path: Path) -> None:
    training = {"schedule": "FP_raise_fall_creative", "epochs": 1, "warmup_steps": 2}
    _, events = trials.run(trials.settings(tmp_path, training=training))
    warnings = [entry["text"] for entry in events.all("message") if entry["level"] == "warning"]
    assert any("a warm-up has no effect with FP_raise_fall_creative. Got: 2." in text for text in warnings)
    training = {"schedule": "FP_3epoch_raise_hold_fall", "epochs": 1, "warmup_steps": 0}
    _, events = trials.run(trials.settings(tmp_path, adapter={"if_exists": "new name"}, training=training))
    assert "It takes thirds of the run instead." in events.texts()


# --- the ramp-down that waits for the loss -------------------------------------------------------------------------------------

# 10 rows in batches of 2: 5 steps an epoch, 30 in all; the smoothed loss is known after 10 steps and always under 100
RAMP = {"schedule": "loss_triggered_ramp_down", "epochs": 6, "warmup_steps": 2, "lr_trigger_loss": 100.0, "lr_ramp_share": 0.5}
RAMP_RATES = [0, 0.01, *[0.02] * 9, *(0.02 * part for part in (0.8, 0.6, 0.4, 0.2))]


def test_the_rate_comes_down_when_the_loss_has(tmp_path: Path) -> None:
    with trials.watched() as seen:
        outcome, events = trials.run(trials.settings(tmp_path, training=RAMP))
    assert rates_of(seen) == pytest.approx(RAMP_RATES)
    assert (outcome.status, outcome.step) == ("finished", 15)
    assert outcome.message == "The learning rate has come down to 0, as Ramp-down at loss asked."
    assert "Step 10: the smoothed loss" in events.texts()
    assert "reached Ramp-down at loss 100. The learning rate comes down now." in events.texts()
    assert find_checkpoints(outcome.folder)[-1].marker["trigger_step"] == 10


@pytest.mark.parametrize("stop", [7, 10, 12])
def test_a_ramp_down_is_resumed_exactly(tmp_path: Path, stop: int) -> None:
    """Before the trigger, at it and after it."""
    with trials.watched() as whole:
        trials.run(trials.settings(tmp_path, training=RAMP, run={"adapters_dir": str(tmp_path / "whole")}))
    with trials.watched() as parts:
        trials.run(trials.settings(tmp_path, training=RAMP), stop_at=stop)
        outcome, _ = trials.run(trials.settings(tmp_path, training=RAMP, adapter={"if_exists": "resume"}))
    assert len(whole) == outcome.step == 15
    assert parts == whole


def test_a_loss_that_stays_above_changes_nothing(tmp_path: Path) -> None:
    training = {**RAMP, "epochs": 3, "lr_trigger_loss": 1e-6}
    with trials.watched() as seen:
        outcome, events = trials.run(trials.settings(tmp_path, training=training))
    assert rates_of(seen) == pytest.approx([0, 0.01, *[0.02] * 13])
    assert outcome.message == "The training is finished."
    assert find_checkpoints(outcome.folder)[-1].marker["trigger_step"] is None
    assert "Ramp-down" not in events.texts()


def test_another_schedule_takes_no_notice_of_the_value(tmp_path: Path) -> None:
    training = {**RAMP, "schedule": "constant", "epochs": 3}
    with trials.watched() as seen:
        trials.run(trials.settings(tmp_path, training=training))
    assert rates_of(seen) == [0.02] * 15


@pytest.mark.parametrize("name", SCHEDULES)
def test_check_accepts_every_schedule(tmp_path: Path, name: str) -> None:
    config = trials.settings(tmp_path, training={"schedule": name, "lr_trigger_loss": 1.0})
    assert config.problems() == []


def test_a_ramp_down_without_a_loss_is_a_problem(tmp_path: Path) -> None:
    (problem,) = trials.settings(tmp_path, training={"schedule": "loss_triggered_ramp_down"}).problems()
    assert (problem.field, problem.value) == ("training.lr_trigger_loss", 0)
    assert "waits for a loss" in str(problem)


@pytest.mark.parametrize("name", sorted(set(SCHEDULES) - {"FP_step_decay_with_warmup"}))
def test_a_new_plan_does_not_make_the_rate_jump(name: str) -> None:
    """After step 150 of 300 the rest is planned with fewer steps: the rate goes on from where it was and ends where it should."""
    from training_pro.custom_scheduler import Schedule
    from training_pro.hybrid_batching import RunPlan
    from training_pro.training.trainer import schedule_factor

    size = (1.0, 1.0, 1.0)
    plans = [RunPlan((100, 100, 100), size, 1, 1, 4, 400), RunPlan((100, 100, 30), size, 1, 1, 4, 400)]
    factor = schedule_factor(Schedule(name, RATE, 20, by_epochs=True), lambda: plans[0])
    before = [factor(step) for step in (0, 20, 150)]
    end = factor(300)
    plans.pop(0)
    assert [factor(step) for step in (0, 20, 150)] == before
    assert factor(230) == end
