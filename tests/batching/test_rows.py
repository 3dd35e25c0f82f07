"""Packing within phases: units whole, like lengths together, order kept, and what a switch leaves packed again."""

import batching_cases as cases
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from training_pro.batching.rows import Packing, Rows, pack_alike, pack_freely, pack_in_order
from training_pro.batching.units import Units
from training_pro.hybrid_batching import Course, Entries, HybridBatchSampler, Transition

PACKING = Packing(100, cases.mixed_up, cases.next_fit)


def units(tokens: list[int], contexts: list[int] | None = None) -> Units:
    numbers = np.arange(len(tokens))
    return Units(numbers, np.arange(len(tokens) + 1), np.array(tokens), None if contexts is None else np.array(contexts))


def tokens_of(rows: Rows) -> list[list[int]]:
    assert rows.borders is not None
    return [rows.units.tokens[start:end].tolist() for start, end in zip(rows.borders, rows.borders[1:], strict=False)]


def test_in_order() -> None:
    assert tokens_of(pack_in_order(units([30, 60, 20, 90, 5, 5]), PACKING, 0)) == [[30, 60], [20], [90, 5, 5]]


def test_alike() -> None:
    """Over 50; 26 to 50; 13 to 25; 12: each for itself, longest first."""
    rows = pack_alike(units([100, 13, 51, 50, 26, 25, 12, 40, 30]), Packing(100, cases.next_fit, cases.next_fit), 0)
    assert tokens_of(rows) == [[100], [51], [50, 40], [30, 26], [25, 13], [12]]


def test_freely_keeps_bundles_whole() -> None:
    """40 | 45 fit into a row together, 60 | 70 do not: then they are rows behind each other."""
    rows = pack_freely(units([40, 45, 60, 70, 10, 10], [0, 1, 0, 1, 0, 0]), PACKING, 3)
    found = tokens_of(rows)
    assert any(row[place : place + 2] == [40, 45] for row in found for place in range(len(row)))
    assert found[-2:] == [[60], [70]]
    assert rows.tied is not None
    assert rows.tied.tolist() == [False] * (len(found) - 1) + [True]
    for seed in range(5):
        shuffled = tokens_of(rows.shuffled(np.random.default_rng(seed)))
        assert sorted(shuffled) == sorted(found)
        assert shuffled.index([70]) == shuffled.index([60]) + 1


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 100), st.booleans()), min_size=1, max_size=60), st.integers(0, 5))
def test_properties(drawn: list[tuple[int, bool]], seed: int) -> None:
    made = units([tokens for tokens, _ in drawn], [int(tied and number > 0) for number, (_, tied) in enumerate(drawn)])
    for function in (pack_in_order, pack_alike, pack_freely):
        rows = function(made, PACKING, seed)
        assert sorted(rows.units.entries.tolist()) == list(range(len(drawn)))
        assert rows.tokens.max() <= 100
        assert rows.tokens.tolist() == [sum(row) for row in tokens_of(rows)]
        assert rows.borders is not None
        assert np.diff(rows.borders).min() >= 1
        if function is pack_in_order:
            assert rows.units.entries.tolist() == list(range(len(drawn)))
        if function is pack_alike:
            assert all(max(row) <= 2 * min(row) for row in tokens_of(rows))


def test_a_packer_that_leaves_something_out() -> None:
    with pytest.raises(AssertionError, match="left something out"):
        pack_in_order(units([1, 2]), Packing(100, cases.mixed_up, lambda lengths, capacity, seed: [[0]]), 0)


# --- in a run ------------------------------------------------------------------------------------------------------------------

COURSE = Course(("length", "paired", "sequential"), (Transition(epochs=0.7), Transition(epochs=0.8)))


def talks(num: int = 60) -> Entries:
    """Conversations of 1 to 5 exchanges; every other one can be joined, the rest have context."""
    rng = np.random.default_rng(5)
    sizes = rng.integers(1, 6, num)
    entries = Entries(rng.integers(5, 60, sizes.sum()), group=np.repeat(np.arange(num), sizes))
    cases.with_context(entries, 100, lambda chain: chain % 2 == 0)
    return entries


def run(**changes) -> HybridBatchSampler:
    return HybridBatchSampler(talks(), batch_size=2, num_epochs=3, phase=COURSE, packing=PACKING, **changes)


def has_context(sample: object) -> bool:
    return isinstance(sample, tuple) and sample[0] == "context"


def length_of(entries: Entries, item: object) -> int:
    """Tokens of an item, context included."""
    seen: list[int] = []
    for sample in cases.samples_of(item):
        seen += [*sample[1], sample[2]] if has_context(sample) else cases.trained(sample)
    return int(entries.lengths[seen].sum())


def by_segment(sampler: HybridBatchSampler) -> list[tuple[str, list]]:
    """Each phase of each epoch with its rows, without fillers."""
    batches = iter(sampler)
    return [
        (
            segment.phase,
            [row for _ in range(segment.num_batches) for row in next(batches) if not isinstance(row, int) or row >= 0],
        )
        for segment in sampler.plan.segments
    ]


def test_each_phase_packs_in_its_way() -> None:
    sampler = run()
    entries = sampler.entries
    segments = by_segment(sampler)
    assert [phase for phase, _ in segments] == ["length", "paired", "paired", "sequential", "sequential"]
    for phase, rows in segments:
        assert all(length_of(entries, row) <= 100 for row in rows)
        assert sum(isinstance(row, tuple) and row[0] == "pack" for row in rows) > len(rows) / 5
        samples = [sample for row in rows for sample in cases.samples_of(row)]
        if phase == "length":
            assert all(isinstance(sample, int) for sample in samples)
            spans = [entries.lengths[cases.samples_of(row)] for row in rows]
            assert all(span.max() <= 2 * span.min() for span in spans)
        else:
            assert any(has_context(sample) for sample in samples)
            assert any(isinstance(sample, tuple) and not has_context(sample) for sample in samples)
        if phase == "paired":
            for before, sample in zip(samples, samples[1:], strict=False):
                assert not has_context(sample) or sample[1] == (before,)
        if phase == "sequential":
            ranks = entries.rank[[entry for sample in samples for entry in cases.trained(sample)]]
            assert (np.diff(ranks) > 0).all()


def test_a_switch_packs_what_remains_again() -> None:
    sampler = HybridBatchSampler(
        talks(), batch_size=2, num_epochs=1, phase=Course(("length", "sequential"), (Transition("loss"),)), packing=PACKING
    )
    before = sampler.epoch_batches(0)
    assert sampler.next_phase(3, "asked", num_drawn=9) is not None
    after = sampler.epoch_batches(0)
    assert after[:9] == before[:9]
    left = set(range(len(sampler.entries))) - set(cases.entries_of(after[:9]))
    rest = cases.entries_of(after[9:])
    assert rest == sorted(left)
    fills = [length_of(sampler.entries, row) / 100 for batch in after[9:] for row in batch]
    assert np.mean(fills) > 0.6


def test_packs_are_made_once_for_all_whole_epochs() -> None:
    calls = []

    def counted(lengths: list[int], capacity: int, *, seed: int) -> list[list[int]]:
        calls.append(len(lengths))
        return cases.mixed_up(lengths, capacity, seed=seed)

    entries = Entries([5 + number % 45 for number in range(300)])
    packing = Packing(100, counted, cases.next_fit)
    sampler = HybridBatchSampler(entries, batch_size=2, num_epochs=4, phase="length", packing=packing)
    made = [sampler.epoch_batches(epoch) for epoch in range(4)]
    assert sum(calls) == 300
    packs = [{item for batch in batches for item in batch if isinstance(item, tuple)} for batches in made]
    assert packs[0] == packs[1] == packs[2] == packs[3] != set()
    assert made[0] != made[1] != made[2]
    assert all(sorted(cases.entries_of(batches)) == list(range(300)) for batches in made)


def test_the_plan_counts_packs() -> None:
    sampler = run()
    rows = sampler.plan_rows()
    for row, (_, mine) in zip(rows, by_segment(sampler), strict=True):
        samples = [sample for item in mine for sample in cases.samples_of(item)]
        assert (row.num_rows, row.num_units) == (len(mine), len(samples))
        assert row.num_entries == len(cases.entries_of([mine]))
        assert row.tokens == sum(length_of(sampler.entries, item) for item in mine)
        assert row.fill == pytest.approx(row.tokens / (100 * len(mine)))
        joined = sum(len(cases.trained(sample)) for sample in samples if isinstance(sample, tuple))
        assert row.num_joined == joined
        assert row.joined_share == pytest.approx(joined / row.num_entries)
    assert rows[0].joined_share == 0 < rows[2].joined_share < rows[-1].joined_share < 1


def test_most_rows_and_the_longest_of_each_phase() -> None:
    sampler = run()
    whole = {name: sampler._former.whole(name) for name in COURSE.phases}
    assert sampler.is_packed
    assert sampler.most_rows() == max(map(len, whole.values())) < len(sampler.entries)
    longest = sampler.longest_items()
    assert len(longest) == 3
    assert [tokens for tokens, _ in longest] == [length_of(sampler.entries, item) for _, item in longest]
    assert longest[0][0] == max(int(rows.tokens.max()) for rows in whole.values())
    plain = HybridBatchSampler([3, 9, 4], batch_size=2)
    assert (plain.is_packed, plain.most_rows(), plain.longest_items()) == (False, 3, [(9, 1)])
