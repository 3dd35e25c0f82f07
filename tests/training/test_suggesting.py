"""Suggestions: each rule speaks where its case is there, with its reason, and is silent elsewhere."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from training_pro.config import RunConfig
from training_pro.train_utils import METHODS, OPTIMIZERS
from training_pro.training.suggesting import Found, suggestions, usual_rate

REPORT = {
    **{"num_blocks": 0, "longest": [400, 380], "too_long": [], "num_too_long": 0, "num_cut": 0, "num_samples": 2000},
}
PLAN = {"num_steps": 600, "steps_per_epoch": [200, 200, 200], "batch_size": 4, "accumulation": 1}


def found(
    report: dict[str, Any] | None = None,
    plan: dict[str, Any] | None = None,
    memory: dict[str, Any] | None = None,
    settings: dict[str, Any] | None = None,
    **facts: Any,
) -> dict[str, tuple[Any, str]]:
    nested: dict[str, dict[str, Any]] = {"training": {"warmup_steps": 20}, "data": {"cutoff": 416}}
    for field, value in (settings or {}).items():
        section, key = field.split(".")
        nested.setdefault(section, {})[key] = value
    config = RunConfig.from_dict(nested)
    assert not config._load_problems
    return suggestions(Found(config, {**REPORT, **(report or {})}, {**PLAN, **(plan or {})}, memory or {}, **facts))


def test_good_settings_get_no_advice() -> None:
    assert found() == {}


def test_cutoff() -> None:
    assert found(settings={"data.cutoff": 512}) == {"data.cutoff": (416, "the longest sample has 400 tokens")}
    assert found({"num_blocks": 9}, settings={"data.cutoff": 512}) == {}  # texts are cut to it
    assert found({"num_cut": 9}, settings={"data.cutoff": 512}) == {}
    lost = {"num_too_long": 2, "too_long": [{"tokens": 900}, {"tokens": 1000}]}
    value, reason = found(lost, context=2048)["data.cutoff"]
    assert value == 1024
    assert "2 conversations of up to 1,000 tokens are left out now" in reason
    assert found(lost, context=512) == found(lost) == {}  # the model does not take so much, or nobody knows
    assert found({**lost, "num_too_long": 60}, context=2048) == {}  # the longest may not be in the report


def test_a_step_larger_than_the_data() -> None:
    settings = {"batching.true_batch_size": 4, "batching.gradient_accumulation": 50}
    value, reason = found(plan={"accumulation": 3}, settings=settings)["batching.gradient_accumulation"]
    assert value == 3
    assert "200 samples, more than there are" in reason
    fewer = found(plan={"batch_size": 3}, settings={"batching.true_batch_size": 8})
    assert fewer["batching.true_batch_size"] == (3, "there are no more samples than that")


def test_a_batch_that_does_not_fit() -> None:
    settings = {"batching.true_batch_size": 8, "batching.gradient_accumulation": 2}
    made = found(plan={"batch_size": 8, "accumulation": 2}, memory={"largest_batch": 5}, settings=settings)
    assert made["batching.true_batch_size"][0] == 4
    assert made["batching.gradient_accumulation"] == (4, "the 16 samples a step stay the same")
    nothing = found(memory={"largest_batch": 0})
    assert nothing["training.gradient_checkpointing"][0] is True
    assert found(memory={"largest_batch": 0}, settings={"training.gradient_checkpointing": True}) == {}


def test_a_larger_batch_on_a_gpu() -> None:
    settings = {"batching.true_batch_size": 2, "batching.gradient_accumulation": 6}
    plan, memory = {"batch_size": 2, "accumulation": 6}, {"largest_batch": 9}
    made = found(plan=plan, memory=memory, settings=settings, on_gpu=True)
    assert (made["batching.true_batch_size"][0], made["batching.gradient_accumulation"][0]) == (6, 2)
    assert found(plan=plan, memory=memory, settings=settings) == {}  # a computer's own cores gain nothing


@given(st.integers(1, 64), st.integers(1, 64), st.integers(1, 64), st.booleans())
def test_the_samples_of_a_step_stay(batch: int, accumulation: int, largest: int, on_gpu: bool) -> None:
    settings = {"batching.true_batch_size": batch, "batching.gradient_accumulation": accumulation}
    plan = {"batch_size": batch, "accumulation": accumulation}
    made = found(plan=plan, memory={"largest_batch": largest}, settings=settings, on_gpu=on_gpu)
    new = [made.get(field, (old,))[0] for field, old in settings.items()]
    assert new[0] * new[1] == batch * accumulation
    assert new[0] <= max(largest, batch if largest >= batch else 0)


@pytest.mark.parametrize(
    ("num_samples", "present", "suggested"),
    [(2000, 3, None), (2000, 6, None), (2000, 10, 3.0), (20_000, 3, 1.0), (100_000, 2, None), (100_000, 3, 1.0)]
    + [(10, 3, 10.0), (10, 6, None), (2, 3, 25.0), (60, 1, 3.0)],
)
def test_epochs(num_samples: int, present: float, suggested: float | None) -> None:
    made = found({"num_samples": num_samples}, settings={"training.epochs": present})
    assert made.get("training.epochs", (None,))[0] == suggested


def test_epochs_of_texts() -> None:
    assert "training.epochs" not in found({"num_samples": 10, "num_blocks": 10})
    dementor = {"data.dementor": True, "training.epochs": 3}
    assert found({"num_blocks": 900}, settings=dementor)["training.epochs"][0] == 1.0


@pytest.mark.parametrize(
    ("method", "optimizer", "size", "rate"),
    [
        ("lora", "adamw_torch", 135e6, 3e-4),
        ("lora", "adamw_torch", 7e9, 2e-4),
        ("dora", "paged_adamw_8bit", 70e9, 1e-4),
        ("full", "adamw_torch", 135e6, 3e-5),
        ("full", "adamw_torch", 7e9, 2e-5),
        ("full", "lion", 7e9, 4e-6),
        ("vera", "adamw_torch", 7e9, 1e-2),
        ("lora", "prodigy", 7e9, 1.0),
        ("lora", "sgd", 7e9, None),
        ("oft", "adamw_torch", 7e9, None),
    ],
)
def test_usual_learning_rates(method: str, optimizer: str, size: float, rate: float | None) -> None:
    assert usual_rate(method, optimizer, int(size)) == rate


def test_every_method_and_optimizer_is_thought_of() -> None:
    for method in METHODS:
        for name in OPTIMIZERS:
            rate = usual_rate(method, name, 10**9)
            assert rate is None or 1e-7 < rate <= 1


def test_a_learning_rate_far_from_the_usual() -> None:
    full = {"adapter.method": "full"}
    value, reason = found(settings=full, num_parameters=7 * 10**9)["training.learning_rate"]
    assert value == 2e-5
    assert reason == "0.0003 is far too high for full with adamw_torch, 7B weights"
    slow = found(settings={"training.learning_rate": 1e-6})["training.learning_rate"]
    assert slow[0] == 3e-4
    assert "very low" in slow[1]
    assert found(settings={"training.learning_rate": 6e-4}) == {}  # a user's own choice near it is left alone
    prodigy = found(settings={"training.optimizer": "prodigy"})["training.learning_rate"]
    assert prodigy == (1.0, "prodigy finds the rate itself and wants 1 here")


def test_warmup() -> None:
    assert found(settings={"training.warmup_steps": 0})["training.warmup_steps"][0] == 60
    assert found(settings={"training.warmup_steps": 0, "training.warmup_share": 0.1}) == {}
    assert found(settings={"training.warmup_steps": 0, "training.schedule": "constant"}) == {}
    value, reason = found(settings={"training.warmup_steps": 300})["training.warmup_steps"]
    assert (value, reason) == (60, "300 steps are more than the first epoch (200)")


def test_checkpoints() -> None:
    long = {"num_steps": 3000, "steps_per_epoch": [1000] * 3}
    assert found(plan=long)["checkpoints.save_every_steps"][0] == 500
    assert found(plan=long, settings={"checkpoints.save_every_steps": 250}) == {}
    value, reason = found(settings={"checkpoints.save_every_steps": 1000})["checkpoints.save_every_steps"]
    assert value == 120
    assert "the run has only 600 steps" in reason
