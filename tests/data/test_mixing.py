"""Mixes of sources: counts by a closed formula, evenly interleaved, drawn by seed, and shared by ranks without losing an entry."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from training_pro.data.mixing import MIXES, interleave, mix
from training_pro.hybrid_batching import HybridBatchSampler

SIZES = st.lists(st.integers(1, 60), min_size=1, max_size=5)
WEIGHTS = st.lists(st.floats(0.05, 20), min_size=5, max_size=5)
SEEDS = st.integers(0, 2**32)
DRAWN = ("first exhausted", "all exhausted")


def sources_of(sizes: list[int]) -> np.ndarray:
    return np.repeat(np.arange(len(sizes)), sizes)


def mixed(sizes: list[int], weights: list[float], mode: str, seed: int = 0, **options) -> np.ndarray:
    source = sources_of(sizes)
    return mix(source, np.ones(len(source), dtype=np.int64), weights, mode, seed, **options)


# --- literally -----------------------------------------------------------------------------------------------------------------


def test_everything_once_in_order() -> None:
    assert mixed([3, 2], [5.0, 1.0], "all").tolist() == [0, 1, 2, 3, 4]


def test_first_exhausted_literally() -> None:
    indices = mixed([4, 3], [2.0, 1.0], "first exhausted")
    assert np.flatnonzero(indices < 4).tolist() == [0, 2, 3, 5]
    assert indices[indices < 4].tolist() == [0, 1, 2, 3]
    assert len(set(indices.tolist())) == 6


def test_all_exhausted_literally() -> None:
    indices = mixed([2, 6], [1.0, 1.0], "all exhausted")
    assert indices.tolist() == [0, 2, 1, 3, 0, 4, 1, 5, 0, 6, 1, 7]


def test_a_source_never_vanishes() -> None:
    assert sorted(Counter(sources_of([100, 3])[mixed([100, 3], [1000.0, 1.0], "first exhausted")]).items()) == [(0, 100), (1, 1)]


def test_sources_without_samples_are_passed_over() -> None:
    source = np.array([0, 0, 2, 2, 2])
    assert sorted(mix(source, np.ones(5, dtype=np.int64), [1.0, 0.0, 1.0], "first exhausted", 0).tolist())[:2] == [0, 1]
    assert mix(source[:0], source[:0], [1.0], "all exhausted", 0).tolist() == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mode": "zigzag"}, "Mix: 'zigzag' is unknown. Choose from all, first exhausted, all exhausted"),
        ({"unit": "words"}, "Weights count: 'words' is unknown. Choose from samples, tokens"),
        ({"weights": [1.0, 0.0]}, "Mix: a weight must be more than 0. Got: 0"),
        ({"weights": [1.0, float("nan")]}, "Mix: a weight must be more than 0. Got: nan"),
        ({"weights": [1.0, float("inf")]}, "Mix: a weight must be more than 0. Got: inf"),
    ],
)
def test_what_cannot_be_mixed(change: dict, message: str) -> None:
    settings = {"weights": [1.0, 1.0], "mode": "first exhausted", "unit": "samples", **change}
    with pytest.raises(ValueError, match=message):
        mixed([2, 2], settings["weights"], settings["mode"], unit=settings["unit"])


# --- properties ----------------------------------------------------------------------------------------------------------------


@given(SIZES, WEIGHTS, SEEDS, st.sampled_from(DRAWN))
def test_counts_follow_the_formula(sizes: list[int], weights: list[float], seed: int, mode: str) -> None:
    rounds = (min if mode == "first exhausted" else max)(size / weight for size, weight in zip(sizes, weights, strict=False))
    expected = [max(1, round(weight * rounds)) for _, weight in zip(sizes, weights, strict=False)]
    source = sources_of(sizes)
    indices = mixed(sizes, weights, mode, seed)
    assert np.bincount(source[indices], minlength=len(sizes)).tolist() == expected
    times = np.bincount(indices, minlength=len(source))
    for number, size in enumerate(sizes):
        own = times[source == number]
        assert own.max() - own.min() <= 1  # whole passes and at most a part of one
        assert own.sum() == expected[number]
        if mode == "first exhausted":
            assert expected[number] <= size
        else:
            assert expected[number] >= size


@given(SIZES, WEIGHTS, SEEDS, st.sampled_from(DRAWN), st.sampled_from(("samples", "tokens")))
def test_order_within_a_source_is_kept(sizes: list[int], weights: list[float], seed: int, mode: str, unit: str) -> None:
    source = sources_of(sizes)
    lengths = np.random.default_rng(seed).integers(1, 50, len(source))
    indices = mix(source, lengths, weights, mode, seed, unit=unit)
    for number in range(len(sizes)):
        own = indices[source[indices] == number]
        begins = np.flatnonzero(np.diff(own) <= 0) + 1
        for part in np.split(own, begins):
            assert (np.diff(part) > 0).all()
        times = np.bincount(own, minlength=len(source))[source == number]
        assert len(begins) + 1 == times.max()  # a pass begins again only when it was whole


@given(SIZES, WEIGHTS, SEEDS, st.sampled_from(DRAWN))
def test_every_stretch_holds_the_sources_in_their_proportions(
    sizes: list[int], weights: list[float], seed: int, mode: str
) -> None:
    which = sources_of(sizes)[mixed(sizes, weights, mode, seed)]
    num = len(sizes)
    for number in range(num):
        so_far = np.cumsum(which == number)
        due = so_far[-1] * np.arange(1, len(which) + 1) / len(which)
        assert np.abs(so_far - due).max() <= 0.5 + num  # half an entry of its own, and one of each of the others


@given(st.lists(st.integers(20, 80), min_size=2, max_size=4), WEIGHTS, SEEDS, st.sampled_from(DRAWN))
def test_shares_of_tokens(sizes: list[int], weights: list[float], seed: int, mode: str) -> None:
    source = sources_of(sizes)
    lengths = np.random.default_rng(seed).integers(1, 100, len(source))
    totals = np.bincount(source, weights=lengths)
    rounds = (min if mode == "first exhausted" else max)(total / weight for total, weight in zip(totals, weights, strict=False))
    indices = mix(source, lengths, weights, mode, seed, unit="tokens")
    tokens = np.bincount(source[indices], weights=lengths[indices], minlength=len(sizes))
    for number in range(len(sizes)):
        assert abs(tokens[number] - weights[number] * rounds) <= lengths.max()


@given(SIZES, WEIGHTS, SEEDS, st.sampled_from(DRAWN))
def test_the_same_seed_gives_the_same(sizes: list[int], weights: list[float], seed: int, mode: str) -> None:
    state = np.random.get_state()[1].copy()
    first = mixed(sizes, weights, mode, seed)
    assert (np.random.get_state()[1] == state).all()
    assert mixed(sizes, weights, mode, seed).tolist() == first.tolist()


def test_seeds_differ_and_nothing_favours_the_head() -> None:
    draws = [mixed([10, 400], [1.0, 10.0], "first exhausted", seed) for seed in range(30)]
    assert len({tuple(draw.tolist()) for draw in draws}) == 30
    chosen = np.concatenate([draw[draw >= 10] for draw in draws]) - 10
    assert len(chosen) == 3000
    assert 180 < chosen.mean() < 220  # of 0 to 399: the middle
    assert np.histogram(chosen, bins=4, range=(0, 400))[0].min() > 600


def test_groups_are_drawn_whole_but_for_one() -> None:
    source = sources_of([10, 300])
    groups = np.arange(310) // 10
    indices = mix(source, np.ones(310, dtype=np.int64), [1.0, 9.5], "first exhausted", 3, groups=groups)
    sizes = Counter(groups[indices[indices >= 10]].tolist())
    assert sum(sizes.values()) == 95
    assert sorted(sizes.values()) == [5] + [10] * 9


def test_interleaving_by_size() -> None:
    sizes = np.array([30, 30, 10, 10, 10, 10, 10, 10])
    assert interleave([np.array([0, 1]), np.arange(2, 8)], sizes).tolist() == [2, 0, 3, 4, 5, 1, 6, 7]


# --- ranks ---------------------------------------------------------------------------------------------------------------------


@given(
    st.lists(st.integers(4, 40), min_size=1, max_size=3),
    WEIGHTS,
    st.sampled_from(tuple(MIXES)),
    st.integers(1, 4),
    st.integers(1, 3),
    st.integers(1, 3),
    SEEDS,
)
def test_ranks_share_every_entry_once_an_epoch(
    sizes: list[int], weights: list[float], mode: str, world_size: int, batch_size: int, accumulation: int, seed: int
) -> None:
    entries = mixed(sizes, weights, mode, seed)
    num_epochs = 2
    options = {"batch_size": batch_size, "accumulation": accumulation, "world_size": world_size, "seed": seed}
    sampler = HybridBatchSampler([5] * len(entries), num_epochs=num_epochs, **options)
    batches = list(sampler)
    ranks = [batches[rank::world_size] for rank in range(world_size)]  # as accelerate deals them
    assert len({len(own) for own in ranks}) == 1
    per_epoch = [steps * accumulation for steps in sampler.plan.steps_per_epoch]
    begin = 0
    for length in per_epoch:
        drawn = [index for own in ranks for batch in own[begin : begin + length] for index in batch if index >= 0]
        assert Counter(drawn) == Counter(range(len(entries)))
        begin += length
    assert begin == len(ranks[0])
