"""Switches within a run: each epoch stays a permutation in whole windows, and a resumed run is the rest of the uninterrupted one."""

import json
from collections import Counter

import batching_cases as cases
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from training_pro.hybrid_batching import Course, HybridBatchSampler, Transition

LOOK_AHEAD = st.integers(0, 9)


def check_epochs(sampler: HybridBatchSampler, batches: list) -> None:
    """Every epoch is a permutation (or as large a part of it as planned) in whole windows."""
    plan, num = sampler.plan, len(sampler.entries)
    for size, part in zip(plan.epoch_sizes, cases.by_epoch(sampler, batches), strict=True):
        entries = cases.entries_of(part)
        assert max(Counter(entries).values()) == 1
        left_out = set(range(num)) - set(entries)
        if sampler.course.leave_out_overlaps:
            assert size < 1 or all(sampler.entries.overlap[entry] for entry in left_out)
        else:
            assert len(entries) == (num if size == 1 else max(1, round(num * size)))
        assert len(part) % plan.window == 0
        assert all(1 <= len(batch) <= plan.batch_size for batch in part)


@settings(max_examples=300, deadline=None)
@given(cases.samplers(), LOOK_AHEAD, st.sets(st.integers(1, 30), max_size=3))
def test_every_entry_once_an_epoch_through_any_switch(sampler: HybridBatchSampler, ahead: int, asked: set[int]) -> None:
    most = len(sampler)
    progress = [0.0]

    def after_step(step: int) -> None:
        if step in asked:
            sampler.next_phase(step, "asked")
        progress.append(sampler.plan.epoch_at(step))

    batches = cases.train(sampler, ahead, after_step)
    assert len(batches) == sampler.plan.num_batches <= most == len(sampler)
    assert list(sampler) == batches  # what was drawn is what the journal says
    assert [batch for epoch in range(len(sampler.plan.epoch_sizes)) for batch in sampler.epoch_batches(epoch)] == batches
    check_epochs(sampler, batches)
    # progress never stands still or jumps back, and what was said of it stays true
    assert all(before < after for before, after in zip(progress, progress[1:], strict=False))
    assert progress == pytest.approx([sampler.plan.epoch_at(step) for step in range(len(progress))])
    assert progress[-1] == pytest.approx(sampler.plan.num_epochs)


@settings(max_examples=300, deadline=None)
@given(cases.samplers(), LOOK_AHEAD, st.sets(st.integers(1, 30), max_size=3), st.data())
def test_a_resumed_run_is_the_rest_of_the_whole_one(
    sampler: HybridBatchSampler, ahead: int, asked: set[int], data: st.DataObject
) -> None:
    states: dict[int, str] = {}

    def after_step(step: int) -> None:
        if step in asked:
            sampler.next_phase(step, "asked")
        states[step] = json.dumps(sampler.state_dict(step * sampler.plan.window))

    batches = cases.train(sampler, ahead, after_step)
    stop = data.draw(st.sampled_from(sorted(states)))
    resumed = cases.again(sampler)
    resumed.load_state_dict(json.loads(states[stop]), from_start=True)
    done = stop * resumed.plan.window
    ask_again = {step for step in asked if step > stop}

    def asked_again(step: int) -> None:
        if step in ask_again:
            resumed.next_phase(step, "asked")

    assert cases.train(resumed, ahead, asked_again, first=stop) == batches[done:]
    assert resumed.plan.segments == sampler.plan.segments
    # one that skips nothing begins where the state was taken, and only once
    shortened = cases.again(sampler)
    shortened.load_state_dict(json.loads(json.dumps(sampler.state_dict(done))))
    assert list(shortened) == batches[done:]
    assert list(shortened) == batches


@settings(max_examples=200, deadline=None)
@given(cases.samplers(), LOOK_AHEAD, st.sets(st.integers(1, 30), max_size=2), cases.EPOCHS, st.data())
def test_another_number_of_epochs_moves_no_entry(
    sampler: HybridBatchSampler, ahead: int, asked: set[int], num_epochs: float, data: st.DataObject
) -> None:
    states = {}

    def after_step(step: int) -> None:
        if step in asked:
            sampler.next_phase(step, "asked")
        states[step] = sampler.state_dict(step * sampler.plan.window)

    batches = cases.train(sampler, ahead, after_step)
    stop = data.draw(st.sampled_from(sorted(states)))
    resumed = cases.again(sampler, num_epochs=num_epochs)
    resumed.load_state_dict(states[stop], from_start=True)
    if resumed.plan.num_steps <= stop:
        return  # finished, there is nothing to go on with
    whole = list(resumed)
    assert whole[: stop * resumed.plan.window] == batches[: stop * resumed.plan.window]
    assert len(whole) <= len(resumed)
    ends = [sampler.plan.epoch_of(stop), len(resumed.plan.epoch_sizes)]
    for epoch, part in enumerate(cases.by_epoch(resumed, whole)[: max(ends)]):
        entries = cases.entries_of(part)
        assert not entries or max(Counter(entries).values()) == 1
        if resumed.plan.epoch_sizes[epoch] == 1 and not resumed.course.leave_out_overlaps:
            assert len(entries) == len(resumed.entries)


# --- literally -----------------------------------------------------------------------------------------------------------------


def hybrid(num: int = 24, **changes) -> HybridBatchSampler:
    """24 entries of 1 to 24 tokens, batches of 2, length and then sequential after one epoch; two epochs are 24 steps."""
    options = {"batch_size": 2, "num_epochs": 2, "phase": Course(("length", "sequential"), (Transition(epochs=1.0),))}
    return HybridBatchSampler(range(1, num + 1), **{**options, **changes})


def phases(sampler: HybridBatchSampler) -> list[tuple[str, int, int]]:
    return [(part.phase, part.epoch, part.num_batches) for part in sampler.plan.segments]


def test_one_epoch_by_length_then_in_order() -> None:
    sampler = hybrid()
    assert phases(sampler) == [("length", 0, 12), ("sequential", 1, 12)]
    assert all(second - first == 1 for first, second in map(sorted, sampler.epoch_batches(0)))
    assert sorted(sampler.epoch_batches(0)[0]) == [22, 23]  # the longest first
    assert sampler.epoch_batches(1) == [[first, first + 1] for first in range(0, 24, 2)]


@pytest.mark.parametrize(
    ("drawn", "accumulation", "world_size", "position"), [(5, 1, 1, 5), (5, 4, 1, 8), (5, 2, 2, 8), (8, 4, 1, 8), (1, 3, 2, 6)]
)
def test_the_position_is_rounded_up_to_whole_windows(drawn: int, accumulation: int, world_size: int, position: int) -> None:
    sampler = hybrid(48, accumulation=accumulation, world_size=world_size)
    switch = sampler.next_phase(0, "asked", num_drawn=drawn)
    assert switch is not None
    assert (switch.epoch, switch.position, switch.phase, switch.cause) == (0, position, "sequential", "asked")
    first, rest = sampler.epoch_batches(0)[:position], sampler.epoch_batches(0)[position:]
    left = sorted(set(range(48)) - set(cases.entries_of(first)))
    assert cases.entries_of(rest) == left  # in original order, and only those
    assert first == hybrid(48, accumulation=accumulation, world_size=world_size).epoch_batches(0)[:position]


def test_a_switch_at_the_end_of_an_epoch_begins_with_the_next() -> None:
    sampler = hybrid(phase=Course(("length", "sequential"), (Transition("loss", latest=2.0),)))
    switch = sampler.next_phase(9, "asked", num_drawn=12)
    assert switch is not None
    assert (switch.epoch, switch.position) == (1, 0)
    assert sampler.epoch_batches(1) == hybrid().epoch_batches(1)


def test_where_no_switch_is_possible() -> None:
    sampler = hybrid()
    assert sampler.next_phase(3, "asked", num_drawn=24) is None  # all is drawn
    assert sampler.next_phase(3, "asked", num_drawn=13) is None  # drawn into the second phase already
    assert sampler.next_phase(20, "asked", num_drawn=21) is None  # that is the last phase
    assert sampler.state_dict(0)["journal"] == []
    assert sampler.next_phase(3, "asked", num_drawn=5) is not None
    assert sampler.next_phase(4, "asked", num_drawn=6) is None  # decided, and drawn into


def test_two_requests_before_the_first_takes_effect() -> None:
    course = Course(("length", "shuffled", "sequential"), (Transition(epochs=1.0), Transition(epochs=1.0)))
    sampler = hybrid(num_epochs=3, phase=course)
    assert sampler.next_phase(2, "first", num_drawn=6) is not None
    assert sampler.next_phase(3, "second", num_drawn=6) is None  # step 3 still trains the first phase, whose successor is decided
    assert phases(sampler)[:2] == [("length", 0, 6), ("shuffled", 0, 6)]
    # the next planned transition counts from where the phase really began
    assert phases(sampler)[2:] == [("shuffled", 1, 6), ("sequential", 1, 6), ("sequential", 2, 12)]


def test_the_state_in_json() -> None:
    sampler = hybrid(phase=Course(("length", "shuffled", "sequential"), (Transition(epochs=0.25), Transition(epochs=1.0))))
    entry = {"epoch": 0, "position": 3, "stage": 1, "phase": "shuffled", "cause": "after 0.25 epochs"}
    more = {"gradual": 0.0, "epoch_size": None, "is_planned": True}
    assert sampler.state_dict(3)["journal"] == []  # not yet trained in it: other settings may still change it
    assert sampler.state_dict(4)["journal"] == [{**entry, **more}]


def test_other_transitions_change_only_what_is_to_come() -> None:
    state = hybrid().state_dict(14)  # two steps into the second phase
    later = hybrid(phase=Course(("length", "sequential"), (Transition(epochs=1.5),)))
    later.load_state_dict(state, from_start=True)
    assert list(later) == list(hybrid())
    state = hybrid().state_dict(8)
    earlier = hybrid(phase=Course(("length", "sequential"), (Transition(epochs=0.25),)))
    assert phases(earlier)[0] == ("length", 0, 3)
    earlier.load_state_dict(state, from_start=True)
    assert phases(earlier)[:2] == [("length", 0, 8), ("sequential", 0, 4)]  # overdue: at once
    assert list(earlier)[:8] == list(hybrid())[:8]
    longer = hybrid(phase=Course(("length", "sequential"), (Transition(epochs=1.5),)))
    earlier = hybrid()  # due at an epoch's begin that is behind
    earlier.load_state_dict(longer.state_dict(14), from_start=True)
    assert phases(earlier) == [("length", 0, 12), ("length", 1, 2), ("sequential", 1, 10)]
    assert list(earlier)[:14] == list(longer)[:14]


def test_an_epoch_that_was_planned_as_a_part_is_completed() -> None:
    before = hybrid(num_epochs=1.5)
    after = hybrid(num_epochs=3)
    after.load_state_dict(before.state_dict(18), from_start=True)  # the half epoch is over
    assert list(after)[:18] == list(before)
    assert sorted(cases.entries_of(after.epoch_batches(1))) == list(range(24))
    assert after.state_dict(20)["journal"][-1]["cause"] == "Epochs changed from 1.5 to 3"
    assert after.plan.steps_per_epoch == (12, 12, 12)
    assert [after.plan.epoch_at(step) for step in (12, 18, 24)] == [1.0, 1.5, 2.0]


def test_a_state_from_before_there_were_phases() -> None:
    sampler = HybridBatchSampler([1] * 9, batch_size=2)
    sampler.load_state_dict({"batches_done": 2, "seed": 0, "num_entries": 9})
    assert list(sampler) == list(HybridBatchSampler([1] * 9, batch_size=2))[2:]
