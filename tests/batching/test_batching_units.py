"""Original order, neighbours, and which entries are joined."""

import batching_cases as cases
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from training_pro.batching.forming import Former, How
from training_pro.batching.units import Units, choose_ranks, spans
from training_pro.hybrid_batching import Entries


def units_of(units: Units) -> list[list[int]]:
    return [units.entries[start:end].tolist() for start, end in zip(units.borders, units.borders[1:], strict=False)]


def form(phase: str, entries: Entries, remaining: list[int] | None = None, *, leave_out: bool = False, seed: int = 0) -> Units:
    chosen = np.arange(len(entries)) if remaining is None else np.asarray(sorted(remaining), dtype=np.int64)
    return Former(entries, How(leave_out)).rows(phase, chosen, len(chosen), np.random.default_rng(seed)).units


# --- original order ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("group", "place", "original", "chain"),
    [
        (None, None, [0, 1, 2, 3], [0, 1, 2, 3]),
        ([7, 7, 3, 3], None, [0, 1, 2, 3], [0, 0, 1, 1]),  # groups as they come, whatever their number is
        ([7, 3, 7, 3], None, [0, 2, 1, 3], [0, 0, 1, 1]),
        ([5, 5, 5, 5], [2, 0, 3, 1], [1, 3, 0, 2], [0, 0, 0, 0]),
        ([5, 5, 5, 5], [0, 1, 0, 1], [0, 1, 2, 3], [0, 0, 1, 1]),  # the same conversation twice: two copies of it
        ([5, 5, 5, 5], [0, 0, 1, 1], [0, 2, 1, 3], [0, 0, 1, 1]),
    ],
)
def test_original_order(group: list[int] | None, place: list[int] | None, original: list[int], chain: list[int]) -> None:
    entries = Entries([1, 1, 1, 1], group=group, place=place)
    assert entries.original.tolist() == original
    assert entries.chain.tolist() == chain
    assert entries.rank[entries.original].tolist() == [0, 1, 2, 3]


def test_what_stands_between_separates() -> None:
    entries = Entries(
        [1] * 6, group=[0, 0, 0, 0, 1, 1], place=[0, 1, 3, 4, 0, 1], overlap=[False, True, False, True, False, False]
    )
    everything = np.arange(6)
    assert entries.neighbours(everything).tolist() == [False, True, False, True, False, True]
    some = np.array([0, 3, 4, 5])  # 1 and 2 were drawn before
    assert entries.neighbours(some).tolist() == [False, False, False, True]
    entries = Entries([1] * 4, group=[0] * 4, overlap=[False, True, False, False])
    assert entries.neighbours(np.array([0, 2, 3])).tolist() == [False, False, True]
    assert entries.neighbours(np.array([0, 2, 3]), entries.overlap).tolist() == [False, True, True]


def test_no_entries() -> None:
    with pytest.raises(ValueError, match="Data set: there are no samples to make batches of. Check the data."):
        Entries([])


# --- joined --------------------------------------------------------------------------------------------------------------------


def talks(limit: int = 100, **more) -> Entries:
    """Conversations of 3, 1 and 4 exchanges of 10, 20, 30 ... tokens."""
    entries = Entries([10, 20, 30, 40, 5, 5, 5, 5], group=[0, 0, 0, 1, 2, 2, 2, 2], **more)
    entries.join_length = cases.joining(entries, limit)
    return entries


def test_runs_are_as_long_as_they_may_be_and_in_order() -> None:
    assert units_of(form("sequential", talks())) == [[0, 1, 2], [3], [4, 5, 6, 7]]
    assert form("sequential", talks()).tokens.tolist() == [60, 40, 20]
    assert units_of(form("sequential", talks(limit=30))) == [[0, 1], [2], [3], [4, 5, 6, 7]]
    assert units_of(form("sequential", talks(limit=14))) == [[0], [1], [2], [3], [4, 5], [6, 7]]
    assert units_of(form("sequential", talks(), [0, 2, 4, 5, 7])) == [[0], [2], [4, 5], [7]]


def test_runs_without_joining_are_single_entries_in_order() -> None:
    entries = Entries([1, 1, 1, 1], group=[1, 0, 1, 0])
    assert units_of(form("sequential", entries)) == [[0], [2], [1], [3]]


def test_overlaps_can_be_left_out_of_runs() -> None:
    entries = Entries([9, 8, 7, 6], group=[0] * 4, overlap=[False, True, False, False])
    entries.join_length = cases.joining(entries, 100)
    units = form("sequential", entries, leave_out=True)  # this hook counts every entry, so what was left out separates
    assert (units_of(units), units.tokens.tolist()) == ([[0], [2, 3]], [9, 13])
    entries.join_without_overlaps = cases.joining(entries, 100, skip_overlaps=True)
    units = form("sequential", entries, leave_out=True)
    assert (units_of(units), units.tokens.tolist()) == ([[0, 2, 3]], [22])
    assert sorted(units_of(form("paired", entries, leave_out=True))) == [[0, 1], [2, 3]]
    nothing_else = Entries([9, 8], overlap=[True, True])
    assert units_of(form("sequential", nothing_else, leave_out=True)) == [[0], [1]]


def test_pairs() -> None:
    units = form("paired", talks())
    assert sorted(units_of(units)) == [[0, 1], [2], [3], [4, 5], [6, 7]]
    assert sorted(units_of(form("paired", talks(limit=25)))) == [[0], [1], [2], [3], [4, 5], [6, 7]]
    assert sorted(units_of(form("paired", talks(), [1, 2, 3, 5, 7]))) == [[1, 2], [3], [5], [7]]
    orders = {tuple(map(tuple, units_of(form("paired", talks(), seed=seed)))) for seed in range(20)}
    assert len(orders) > 5  # shuffled


@settings(max_examples=200, deadline=None)
@given(cases.entry_sets(), st.data())
def test_properties_of_joined_units(entries: Entries, data: st.DataObject) -> None:
    remaining = data.draw(st.sets(st.integers(0, len(entries) - 1)))
    for phase, most in (("sequential", len(entries)), ("paired", 2)):
        units = form(phase, entries, sorted(remaining), seed=data.draw(st.integers(0, 3)))
        parts = units_of(units)
        assert sorted(entry for part in parts for entry in part) == sorted(remaining)
        contexts = [0] * len(parts) if units.contexts is None else units.contexts.tolist()
        for part, tokens, count in zip(parts, units.tokens.tolist(), contexts, strict=True):
            seen = [*entries.before(part[0], count), *part]
            assert 1 <= len(part) <= len(seen) <= most
            assert set(seen) <= remaining
            assert min(count, len(part) - 1) == 0
            ranks = entries.rank[seen]
            assert np.diff(ranks).tolist() == [1] * (len(seen) - 1)  # nothing between them
            assert len(set(entries.chain[ranks])) == 1
            assert tokens == entries.lengths[seen].sum()
            if len(part) > 1:
                assert entries.join_length is not None
                assert entries.join_length(part[0], len(part)) == tokens
        if phase == "sequential":
            assert [entry for part in parts for entry in part] == sorted(remaining, key=lambda entry: entries.rank[entry])


# --- a part of the entries -----------------------------------------------------------------------------------------------------


@given(cases.entry_sets(), st.integers(0, 50), st.integers(0, 3))
def test_a_part_is_whole_groups_but_one(entries: Entries, count: int, seed: int) -> None:
    everyone = np.arange(len(entries))
    ranks = choose_ranks(entries, everyone, count, np.random.default_rng(seed))
    assert len(ranks) == min(count, len(entries))
    assert (np.diff(ranks) > 0).all()
    sizes = np.bincount(entries.chain)
    taken = np.bincount(entries.chain[ranks], minlength=len(sizes))
    cut = np.flatnonzero((taken > 0) & (taken < sizes))
    assert len(cut) <= 1
    for chain in cut:  # of that one, the first entries
        first = np.flatnonzero(entries.chain == chain)[0]
        assert ranks[entries.chain[ranks] == chain].tolist() == list(range(first, first + taken[chain]))


def test_a_part_comes_from_all_over_the_data() -> None:
    entries = Entries([1] * 1000, group=[number // 4 for number in range(1000)])
    ranks = choose_ranks(entries, np.arange(1000), 500, np.random.default_rng(0))
    assert 200 < (ranks < 500).sum() < 300


def test_spans() -> None:
    assert spans(np.array([5, 0, 9]), np.array([2, 0, 3])).tolist() == [5, 6, 9, 10, 11]
    assert spans(np.array([], dtype=int), np.array([], dtype=int)).tolist() == []
