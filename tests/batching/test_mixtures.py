"""Gradual transitions: the share of the next phase grows from 0 to 1, and every entry is trained once."""

from itertools import pairwise

import batching_cases as cases
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from training_pro.batching.batches import Frame, Stretch
from training_pro.batching.forming import Former, How
from training_pro.batching.making import deal, make_batches, mean_share
from training_pro.hybrid_batching import PHASES, Course, Entries, HybridBatchSampler, Transition


def conversations(num: int = 400) -> Entries:
    """Of 1 to 5 exchanges; three of them can be joined."""
    sizes = [1 + number * 7 % 5 for number in range(num)]
    lengths = [10 + number * 37 % 90 for number in range(sum(sizes))]
    entries = Entries(lengths, group=np.repeat(np.arange(num), sizes))
    entries.join_length = cases.joining(entries, 160)
    return entries


def is_new(sampler: HybridBatchSampler) -> np.ndarray:
    """Whether each batch of the run belongs to the phase that grows in or has done so."""
    flags = []
    for segment in sampler.plan.segments:
        batches = next(made for begin, _, made in sampler.parts(segment.epoch) if begin == segment.position)
        flags.append(batches.is_new[: segment.num_batches] & (segment.stage > 0))
    return np.concatenate(flags)


@pytest.mark.parametrize("phase", ["shuffled", "paired", "sequential"])
@pytest.mark.parametrize("span", [0.5, 1.0, 2.0])
def test_the_share_grows_evenly_from_0_to_1(phase: str, span: float) -> None:
    course = Course(("length", phase), (Transition(epochs=0.5, gradual=span),))
    sampler = HybridBatchSampler(conversations(), batch_size=4, num_epochs=3, phase=course)
    new, window = is_new(sampler), sampler.plan.window
    progress = np.array([sampler.plan.epoch_at((batch + 0.5) / window) for batch in range(len(new))])
    assert not new[progress < 0.5].any()
    assert new[progress > 0.5 + span + 0.02].all()
    for begin, end in pairwise(np.linspace(0.5, 0.5 + span, 6)):
        part = new[(progress >= begin) & (progress < end)]
        assert part.mean() == pytest.approx(((begin + end) / 2 - 0.5) / span, abs=0.13)
    for epoch in range(3):
        assert sorted(cases.entries_of(sampler.epoch_batches(epoch))) == list(range(len(sampler.entries)))


def test_new_batches_are_joined_and_in_order_old_ones_by_length() -> None:
    entries = conversations()
    frame = Frame(4, 2)
    stretch = Stretch(0, "sequential", 1.0, "length", (0.0, 1.0))
    made = make_batches(Former(entries, How()), np.arange(len(entries)), len(entries), stretch, frame, np.random.default_rng(0))
    batches = list(made.items(0, len(made), 0))
    new = [batch for batch, flag in zip(batches, made.is_new, strict=True) if flag]
    old = [batch for batch, flag in zip(batches, made.is_new, strict=True) if not flag]
    ranks = entries.rank[cases.entries_of(new)]
    assert (np.diff(ranks) > 0).all()
    assert any(isinstance(item, tuple) for batch in new for item in batch)
    assert all(isinstance(item, int) for batch in old for item in batch)
    assert len(new) / len(batches) == pytest.approx(0.5, abs=0.03)
    spread = np.mean([np.ptp(entries.lengths[batch]) for batch in old])
    assert spread < 0.1 * np.ptp(entries.lengths)


@settings(max_examples=300, deadline=None)
@given(
    cases.entry_sets(most=80),
    st.sampled_from(list(PHASES)),
    st.sampled_from(list(PHASES)),
    st.tuples(st.floats(-0.5, 1.5), st.floats(0, 2.5)).filter(lambda shares: shares[0] <= shares[1]),
    st.tuples(st.integers(1, 6), st.integers(1, 5)),
    st.data(),
)
def test_properties_of_a_mixture(
    entries: Entries, new: str, old: str, shares: tuple[float, float], sizes: tuple[int, int], data: st.DataObject
) -> None:
    remaining = np.array(sorted(data.draw(st.sets(st.integers(0, len(entries) - 1)))), dtype=np.int64)
    count = data.draw(st.integers(0, len(entries)))
    batch_size, window = sizes
    stretch = Stretch(0, new, 1.0, old, shares)
    former = Former(entries, How(packing=data.draw(cases.packings())))
    made = make_batches(former, remaining, count, stretch, Frame(batch_size, window), np.random.default_rng(1))
    batches = list(made.items(0, len(made), 0))
    trained = cases.entries_of(batches)
    assert len(trained) == len(set(trained)) == min(count, len(remaining))
    assert set(trained) <= set(remaining.tolist())
    assert len(batches) % window == 0
    assert len(batches) <= -(-len(trained) // (batch_size * window)) * window  # no more than single entries need
    assert all(1 <= len(batch) <= batch_size for batch in batches)
    assert set(made.drawn(len(made)).tolist()) == set(trained)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=60).map(sorted), st.data())
def test_batches_are_dealt_out_as_the_shares_say(shares: list[float], data: st.DataObject) -> None:
    num_new = data.draw(st.integers(0, len(shares)))
    if num_new and not sum(shares):
        num_new = 0
    flags = deal(np.array(shares), num_new)
    assert flags.sum() == num_new
    if sum(shares) and num_new <= sum(shares):  # nowhere more than a batch ahead or behind
        expected = np.cumsum(shares) * num_new / sum(shares)
        assert np.abs(np.cumsum(flags) - expected).max() <= 1


def test_shares_by_hand() -> None:
    assert deal(np.array([0.1, 0.3, 0.5, 0.7, 0.9]), 2).tolist() == [False, False, True, False, True]
    assert mean_share(Stretch(0, "sequential", 1.0)) == 1
    assert mean_share(Stretch(0, "sequential", 1.0, "length", (0.0, 1.0))) == pytest.approx(0.5)
    assert mean_share(Stretch(0, "sequential", 1.0, "length", (0.0, 2.0))) == pytest.approx(0.75)
    assert mean_share(Stretch(0, "sequential", 1.0, "length", (-1.0, 0.0))) == 0
