"""Shares and held-out samples: whole conversations and sections, over the whole file, nothing on both sides."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from training_pro.data.selection import Units, hold_out, use_shares


def units(*sources: list[int], overlap: list[int] | None = None) -> Units:
    """Units by their sizes, for each source."""
    source = np.concatenate([np.full(sum(sizes), number) for number, sizes in enumerate(sources)])
    unit = np.repeat(np.arange(sum(map(len, sources))), np.concatenate(sources).astype(int))
    flags = np.zeros(len(source), dtype=bool)
    flags[overlap or []] = True
    return Units(source, unit, flags)


SOURCES = st.lists(st.lists(st.integers(1, 5), min_size=2, max_size=30), min_size=1, max_size=3)
SEEDS = st.integers(0, 1000)


def test_a_share_is_drawn_over_the_whole_file() -> None:
    chosen = [np.flatnonzero(use_shares(units([1] * 400), [0.25], seed)) for seed in range(20)]
    assert {len(one) for one in chosen} == {100}
    assert 180 < np.concatenate(chosen).mean() < 220
    assert len({tuple(one.tolist()) for one in chosen}) == 20
    assert use_shares(units([1] * 400), [0.25], 3).tolist() == use_shares(units([1] * 400), [0.25], 3).tolist()


def test_each_source_has_its_own_share() -> None:
    made = units([1] * 40, [2] * 10, [1] * 8)
    used = use_shares(made, [1.0, 0.5, 0.25], 0)
    assert np.bincount(made.source[used]).tolist() == [40, 10, 2]


@given(SOURCES, st.floats(0.01, 1), SEEDS)
def test_units_are_used_whole(sources: list, share: float, seed: int) -> None:
    made = units(*sources)
    used = use_shares(made, [share] * len(sources), seed)
    for number, sizes in enumerate(sources):
        own = made.source == number
        assert used[own].any()
        if len(sizes) * share >= 1:
            states = [set(used[made.unit == unit].tolist()) for unit in np.unique(made.unit[own])]
            assert all(len(state) == 1 for state in states)
            assert sum(state == {True} for state in states) == round(len(sizes) * share)


def test_blocks_of_a_single_section_are_drawn_with_the_overlaps_between_them() -> None:
    made = units([9], overlap=[1, 3, 5, 7])  # blocks at 0 2 4 6 8
    for seed in range(20):
        used = use_shares(made, [0.6], seed)
        assert used[::2].sum() == 3
        assert used[1::2].tolist() == [bool(used[place - 1] and used[place + 1]) for place in (1, 3, 5, 7)]


@given(SOURCES, st.floats(0.01, 0.5), SEEDS)
def test_nothing_is_on_both_sides(sources: list, share: float, seed: int) -> None:
    made = units(*sources)
    candidates = use_shares(made, [0.8] * len(sources), seed)
    if candidates.sum() < 2:
        return
    trained, held_out = hold_out(made, candidates, share, seed)
    assert held_out.any()
    assert trained.any()
    assert not (trained & held_out).any()
    assert ((trained | held_out) == candidates).all()  # no overlap blocks here
    for number in range(len(sources)):
        own = candidates & (made.source == number)
        names = np.unique(made.unit[own])
        if len(names) * share >= 1:
            assert not set(made.unit[own & trained]) & set(made.unit[own & held_out])
            assert len(set(made.unit[own & held_out])) == min(round(len(names) * share), len(names) - 1)


def test_each_source_is_held_out_in_its_own_units() -> None:
    made = units([2] * 20, [50])  # conversations, and a text of one section
    trained, held_out = hold_out(made, np.ones(90, dtype=bool), 0.1, 0)
    assert np.bincount(made.source[held_out]).tolist() == [4, 5]
    assert trained.sum() == 81


def test_one_sample_is_held_out_at_least() -> None:
    made = units([1] * 4, [3])
    trained, held_out = hold_out(made, np.ones(7, dtype=bool), 0.01, 0)
    assert (held_out.sum(), made.source[held_out].tolist()) == (1, [0])
    assert trained.sum() == 6


def test_overlaps_at_the_border_are_on_neither_side() -> None:
    made = units([9], overlap=[1, 3, 5, 7])
    for seed in range(20):
        trained, held_out = hold_out(made, np.ones(9, dtype=bool), 0.2, seed)
        (chosen,) = np.flatnonzero(held_out)
        near = {place for place in (chosen - 1, chosen + 1) if 0 <= place < 9}
        assert set(np.flatnonzero(~trained & ~held_out)) == near


def test_runs_of_repetitions_belong_to_the_blocks_around_them() -> None:
    made = units([8], overlap=[1, 2, 4, 5, 7])  # blocks at 0 3 6; the last repetition follows 6 alone
    states = set()
    for seed in range(30):
        trained, held_out = hold_out(made, np.ones(8, dtype=bool), 0.34, seed)
        states.add(tuple("t" if trained[place] else "e" if held_out[place] else "-" for place in range(8)))
    assert states == {tuple("e--tttt" + "t"), tuple("t--e--" + "tt"), tuple("tttt--" + "ee")}


def test_a_single_sample_cannot_be_divided() -> None:
    with pytest.raises(ValueError, match="Evaluation share: there is only one sample.* Got: 0.5. Set it to 0 or add data"):
        hold_out(units([1]), np.ones(1, dtype=bool), 0.5, 0)
