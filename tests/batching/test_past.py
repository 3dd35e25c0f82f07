"""A run that goes on with another order: it begins where the old one stood, and from there on it is exact again."""

import json

import batching_cases as cases
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from training_pro.hybrid_batching import Course, HybridBatchSampler, Past, Transition


def skipped(sampler: HybridBatchSampler, steps: int) -> list:
    """What is trained after the steps that whoever resumes skips."""
    batches = list(sampler)
    window = sampler.plan.window
    assert all(len(batch) == 1 and batch[0] < 0 for batch in batches[: steps * window])
    return batches[steps * window :]


def plain(num: int = 24, **changes) -> HybridBatchSampler:
    return HybridBatchSampler(range(1, num + 1), **{"batch_size": 2, "num_epochs": 3, **changes})


def test_the_rest_of_an_epoch_is_a_part_of_it() -> None:
    """18 of 36 steps were done; now batches are twice as large: 3 more steps in this epoch, 6 in the next."""
    sampler = plain(batch_size=4, seed=9)
    sampler.continue_after(Past(18, 1.5))
    plan = sampler.plan
    assert plan.steps_per_epoch == (12, 9, 6)
    assert plan.num_steps == 27 <= len(sampler)
    assert [plan.epoch_at(step) for step in (0, 9, 18, 21, 27)] == [0.0, 0.75, 1.5, 2.0, 3.0]
    rest = skipped(sampler, 18)
    assert len(set(cases.entries_of(rest[:3]))) == 12
    assert sorted(cases.entries_of(rest[3:])) == list(range(24))
    assert [row.num_steps for row in sampler.plan_rows()] == [3, 6]


@pytest.mark.parametrize(
    ("steps", "epochs", "steps_per_epoch"), [(7, 1.0, (7, 12, 12)), (14, 2.0, (7, 7, 12)), (30, 3.0, (10, 10, 10))]
)
def test_at_the_end_of_an_epoch(steps: int, epochs: float, steps_per_epoch: tuple[int, ...]) -> None:
    sampler = plain()
    sampler.continue_after(Past(steps, epochs))
    assert sampler.plan.steps_per_epoch == steps_per_epoch
    assert sampler.plan.epoch_at(steps) == epochs
    assert sampler.plan.epoch_at(sampler.plan.num_steps) == 3.0
    assert len(skipped(sampler, steps)) == sum(steps_per_epoch) - steps


def test_a_run_that_is_over() -> None:
    sampler = plain(num_epochs=1)
    sampler.continue_after(Past(40, 1.5))
    assert sampler.plan.num_steps == 40
    assert skipped(sampler, 40) == []


def hybrid(**changes) -> HybridBatchSampler:
    course = Course(("length", "paired", "sequential"), (Transition(epochs=1.0), Transition(epochs=0.5)))
    return plain(**{"phase": course, **changes})


def test_phases_go_on_where_they_were() -> None:
    sampler = hybrid()
    sampler.continue_after(Past(15, 1.25, stage=1, stage_begin=1.0, stage_step=12))
    assert [(part.phase, part.begin) for part in sampler.plan.segments] == [
        ("paired", 0.0),  # the past, under the name of its last phase
        ("paired", 1.25),
        ("sequential", 1.5),
        ("sequential", 2.0),
    ]
    again = hybrid()
    again.continue_after(Past(15, 1.25))  # what the first phase should have ended by is over: at once
    assert [part.phase for part in again.plan.segments] == ["length", "paired", "sequential", "sequential"]
    assert [part.begin for part in again.plan.segments] == pytest.approx([0, 1.25, 1.75, 2], abs=1e-6)
    fewer = plain(phase="length")
    fewer.continue_after(Past(15, 1.25, stage=2, stage_begin=1.0, stage_step=12))
    assert {part.phase for part in fewer.plan.segments} == {"length"}


def test_a_state_says_where_the_run_stood() -> None:
    sampler = hybrid()
    assert sampler.state_dict(15)["place"] == {"steps": 15, "epochs": 1.25, "stage": 1, "stage_begin": 1.0, "stage_step": 12}
    assert sampler.state_dict(0)["place"] == {"steps": 0, "epochs": 0.0, "stage": 0, "stage_begin": 0.0, "stage_step": 0}
    sampler.continue_after(Past(15, 1.25, 1, 1.0, 12))
    assert sampler.state_dict(16)["place"] == {
        "steps": 16,
        "epochs": pytest.approx(4 / 3),
        "stage": 1,
        "stage_begin": 1.0,
        "stage_step": 12,
    }


@settings(max_examples=200, deadline=None)
@given(cases.samplers(), st.integers(1, 30), st.floats(0.01, 1), st.sets(st.integers(1, 40), max_size=2), st.data())
def test_a_continued_run_is_exact_from_there_on(
    sampler: HybridBatchSampler, steps: int, share: float, asked: set[int], data: st.DataObject
) -> None:
    past = Past(steps, share * sampler.plan.num_epochs, data.draw(st.integers(0, 3)))
    sampler.continue_after(past)
    plan = sampler.plan
    assert plan.epoch_at(steps) == pytest.approx(past.epochs)
    # where all that is left are overlaps that are left out, the run is over
    assert plan.num_steps == steps or plan.epoch_at(plan.num_steps) == pytest.approx(plan.num_epochs)
    states = {}

    def after_step(step: int) -> None:
        if step in asked and step >= steps:
            sampler.next_phase(step, "asked")
        states[step] = json.dumps(sampler.state_dict(step * sampler.plan.window))

    ahead = data.draw(st.integers(0, 5))
    batches = cases.train(sampler, ahead, after_step)
    assert len(batches) == sampler.plan.num_batches <= len(sampler)
    first = past.epochs
    for epoch, part in enumerate(cases.by_epoch(sampler, batches)):
        trained = cases.entries_of(part)
        assert len(trained) == len(set(trained))
        if epoch >= first and sampler.plan.epoch_sizes[epoch] == 1 and not sampler.course.leave_out_overlaps:
            assert len(trained) == len(sampler.entries)
    later = [step for step in states if step >= steps]
    if not later:
        return
    stop = data.draw(st.sampled_from(later))
    resumed = cases.again(sampler)
    resumed.load_state_dict(json.loads(states[stop]), from_start=True)

    def asked_again(step: int) -> None:
        if step in asked and step > stop:
            resumed.next_phase(step, "asked")

    assert cases.train(resumed, ahead, asked_again, first=stop) == batches[stop * plan.window :]
    assert resumed.plan.segments == sampler.plan.segments
