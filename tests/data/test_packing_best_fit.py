"""Best fit over a histogram: as many bins as best-fit decreasing sample by sample, and as TRL's; no trace of the data's order."""

from bisect import bisect_left, insort

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from training_pro.data.packing import bins as module
from training_pro.data.packing.bins import best_fit_packs


def naive_bins(lengths: list[int], capacity: int) -> list[int]:
    """Space left in each bin of best-fit decreasing, one sample after the other."""
    spaces: list[int] = []
    for length in sorted(lengths, reverse=True):
        at = bisect_left(spaces, length)
        space = spaces.pop(at) if at < len(spaces) else capacity
        insort(spaces, space - length)
    return sorted(spaces)


def lognormal(num: int, capacity: int = 4096) -> np.ndarray:
    return np.clip(np.random.default_rng(num).lognormal(6, 1, num), 8, capacity).astype(np.int64)


@given(st.lists(st.integers(1, 30), min_size=1, max_size=120), st.integers(30, 64), st.integers(0, 3))
def test_the_bins_of_best_fit_decreasing(lengths: list[int], capacity: int, seed: int) -> None:
    packs = best_fit_packs(lengths, capacity, seed)
    spaces = sorted(capacity - sum(lengths[sample] for sample in samples) for samples in packs)
    assert spaces == naive_bins(lengths, capacity)


@pytest.mark.parametrize("capacity", [64, 1000, 4096])
def test_as_many_bins_as_naive_on_lengths_like_real_ones(capacity: int) -> None:
    lengths = lognormal(20_000, capacity)
    packs = best_fit_packs(lengths, capacity)
    assert len(packs) == len(naive_bins(lengths.tolist(), capacity))
    assert sorted(sample for samples in packs for sample in samples) == list(range(len(lengths)))


def test_no_more_bins_than_trl() -> None:
    trl = pytest.importorskip("trl.data_utils", reason="TRL is not installed")
    import pyarrow as pa

    for num, capacity in ((3000, 4096), (3000, 700), (500, 4096)):
        lengths = lognormal(num, capacity)
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
        tokens = pa.ListArray.from_arrays(pa.array(offsets), pa.array(np.zeros(offsets[-1], dtype=np.int8)))
        theirs = trl._pack_bfd(pa.table({"input_ids": tokens}), capacity)
        assert 0 < len(best_fit_packs(lengths, capacity)) <= len(theirs)


def test_equal_lengths_are_dealt_not_taken_in_order() -> None:
    """Half of the data from one source, then half from another, all of one length: packs mix them as chance would."""
    packs = best_fit_packs([8] * 4000, 16, seed=1)
    mixed = sum((first < 2000) != (second < 2000) for first, second in packs)
    assert len(packs) == 2000
    assert 900 < mixed < 1100  # chance: 1000, standard deviation about 22
    turned = sum(first < second for first, second in packs)
    assert 900 < turned < 1100


def test_the_longest_does_not_always_come_first() -> None:
    packs = best_fit_packs([10, 2] * 1000, 12, seed=0)
    assert 400 < sum(samples[0] % 2 for samples in packs) < 600


def test_the_work_grows_with_the_distinct_lengths_not_the_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    fill = module._Bins._fill

    def counted(self: module._Bins, *arguments: object) -> int:
        calls.append(1)
        return fill(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(module._Bins, "_fill", counted)
    numbers = []
    for num in (20_000, 400_000):
        calls.clear()
        best_fit_packs(lognormal(num), 4096)
        numbers.append(len(calls))
    assert 1000 < numbers[0] < numbers[1] < 4 * numbers[0]
    assert numbers[1] < 4 * 4096


@pytest.mark.parametrize(("lengths", "bins"), [([], 0), ([64], 1), ([64] * 9, 9), ([1] * 640, 10), ([33, 32, 31] * 5, 8)])
def test_edges(lengths: list[int], bins: int) -> None:
    assert len(best_fit_packs(lengths, 64)) == bins
