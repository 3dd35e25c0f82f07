"""The plan before the run: where phases begin, and what it says in numbers."""

import batching_cases as cases
import numpy as np
import pytest
from hypothesis import given, settings
from training_pro.hybrid_batching import Course, Entries, HybridBatchSampler, Transition, switch_ranges


def planned(*transitions: Transition, phases: tuple[str, ...] = ("length", "sequential"), **changes) -> HybridBatchSampler:
    """24 entries in batches of 2: 12 steps an epoch, 3 epochs."""
    options = {"batch_size": 2, "num_epochs": 3, "phase": Course(phases, transitions)}
    return HybridBatchSampler(range(1, 25), **{**options, **changes})


def begins(sampler: HybridBatchSampler) -> list[tuple[str, int, float]]:
    plan = sampler.plan
    return [(switch.phase, plan.step_of(switch), plan.epoch_at(plan.step_of(switch))) for switch in plan.switches]


@pytest.mark.parametrize(
    ("transition", "changes", "expected"),
    [
        (Transition(epochs=1.0), {}, (12, 1.0)),
        (Transition(epochs=0.5), {}, (6, 0.5)),
        (Transition(epochs=1.55), {}, (19, 12 / 12 + 7 / 12)),  # the first whole window at or after it
        (Transition("steps", steps=5), {}, (5, 5 / 12)),
        (Transition("steps", steps=12), {}, (12, 1.0)),
        (Transition("steps", steps=14), {}, (14, 14 / 12)),
        (Transition("steps", steps=4), {"accumulation": 3}, (4, 1.0)),
        (Transition("loss", latest=1.25), {}, (15, 1.25)),
    ],
)
def test_where_the_next_phase_begins(transition: Transition, changes: dict, expected: tuple[int, float]) -> None:
    sampler = planned(transition, **changes)
    assert begins(sampler) == [("sequential", expected[0], pytest.approx(expected[1]))]
    assert sampler.plan.segment_at(expected[0] - 1).phase == "length"
    assert sampler.plan.segment_at(expected[0]).phase == "sequential"


@pytest.mark.parametrize("transition", [Transition(epochs=3.0), Transition("steps", steps=36), Transition("loss")])
def test_a_phase_that_the_run_does_not_reach(transition: Transition) -> None:
    sampler = planned(transition)
    assert begins(sampler) == []
    assert {segment.phase for segment in sampler.plan.segments} == {"length"}


def test_two_stages_count_from_their_own_begin() -> None:
    sampler = planned(Transition(epochs=0.5), Transition("steps", steps=8), phases=("length", "shuffled", "sequential"))
    assert begins(sampler) == [("shuffled", 6, 0.5), ("sequential", 14, pytest.approx(14 / 12))]


def talks(num: int = 40, limit: int = 1000) -> Entries:
    """Conversations of 4 exchanges of 10 to 49 tokens."""
    entries = Entries([10 + number % 40 for number in range(4 * num)], group=np.repeat(np.arange(num), 4))
    entries.join_length = cases.joining(entries, limit)
    return entries


def test_joined_phases_have_fewer_steps_and_the_epochs_stay_what_they_are() -> None:
    course = Course(("length", "paired", "sequential"), (Transition(epochs=1.0), Transition(epochs=0.5)))
    sampler = HybridBatchSampler(talks(), batch_size=4, num_epochs=3, phase=course)
    plan = sampler.plan
    # 160 single entries are 40 steps, 80 pairs 20; half an epoch of pairs, then what is left joined: at most 20 conversations and a few parts
    assert plan.steps_per_epoch[0] == 40
    assert plan.segments[1].num_batches == 10
    assert plan.steps_per_epoch[2] == 10
    assert (len(sampler), plan.num_batches) == (120, sum(plan.steps_per_epoch))
    assert plan.epoch_at(40) == 1.0
    assert plan.epoch_at(50) == 1.5
    assert plan.epoch_at(sum(plan.steps_per_epoch[:2])) == 2.0
    assert plan.num_epochs == plan.epoch_at(plan.num_steps) == 3.0


def test_the_plan_in_numbers() -> None:
    course = Course(("length", "sequential"), (Transition(epochs=1.5),))
    sampler = HybridBatchSampler(talks(), batch_size=4, num_epochs=3, phase=course)
    rows = sampler.plan_rows()
    assert [(row.phase, row.epoch, row.num_steps, row.num_entries) for row in rows[:2]] == [
        ("length", 0, 40, 160),
        ("length", 1, 20, 80),
    ]
    assert (rows[3].phase, rows[3].num_units, rows[3].num_entries, rows[3].num_steps) == ("sequential", 40, 160, 10)
    assert [(row.begin, row.end) for row in rows] == [(0, 1), (1, 1.5), (1.5, 2), (2, 3)]
    for row, batches in zip(rows, _segments(sampler), strict=True):
        lengths = [[sum(sampler.entries.lengths[list(np.atleast_1d(item))]) for item in batch] for batch in batches]
        assert row.tokens == sum(map(sum, lengths))
        assert row.padded_tokens == sum(max(batch) * len(batch) for batch in lengths)
        assert row.padding_share == pytest.approx(1 - row.tokens / row.padded_tokens)
        assert row.num_units == sum(map(len, batches))


def _segments(sampler: HybridBatchSampler) -> list[list]:
    batches = iter(list(sampler))
    return [[next(batches) for _ in range(segment.num_batches)] for segment in sampler.plan.segments]


@settings(max_examples=100, deadline=None)
@given(cases.samplers())
def test_rows_add_up(sampler: HybridBatchSampler) -> None:
    rows = sampler.plan_rows()
    plan = sampler.plan
    assert sum(row.num_steps for row in rows) == plan.num_steps
    assert sum(row.num_batches for row in rows) == plan.num_batches
    assert all(row.tokens <= row.padded_tokens for row in rows)
    assert all(0 <= row.num_new_batches <= row.num_batches for row in rows)
    for epoch, batches in enumerate(cases.by_epoch(sampler, list(sampler))):
        mine = [row for row in rows if row.epoch == epoch]
        assert sum(row.num_entries for row in mine) == len(cases.entries_of(batches))


def test_a_range_where_a_loss_decides() -> None:
    transitions = Transition("loss", minimum=0.5, latest=1.0), Transition("loss", minimum=0.25)
    sampler = planned(*transitions, phases=("length", "shuffled", "sequential"))
    assert switch_ranges(sampler.plan, sampler.earliest_plan()) == [
        {"phase": "shuffled", "stage": 1, "cause": "at the latest after 1 epoch", "steps": (6, 12), "epochs": (0.5, 1.0)},
        {"phase": "sequential", "stage": 2, "cause": "when the loss allows it", "steps": (9, None), "epochs": (0.75, None)},
    ]
    batches = iter(sampler)
    for _ in range(8):
        next(batches)
    assert switch_ranges(sampler.plan, sampler.earliest_plan())[0]["steps"] == (8, 12)  # not where it could have been before
    sampler.next_phase(7, "loss")
    first, second = switch_ranges(sampler.plan, sampler.earliest_plan())
    assert (first["steps"], first["cause"]) == ((8, 8), "loss")
    assert second["steps"] == (11, None)


def test_planning_touches_no_batches_where_no_phase_begins_within_an_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*args, **kwargs):
        raise AssertionError("batches were made")

    monkeypatch.setattr("training_pro.batching.orders.make_batches", never)
    sampler = planned(Transition(epochs=1.0))
    assert sampler.plan.num_steps == 36
    with pytest.raises(AssertionError, match="batches were made"):
        list(sampler)
