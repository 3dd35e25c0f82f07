"""Context: where entries cannot be joined, each is trained once, behind as much of what came before as fits."""

from collections import Counter
from typing import Any

import batching_cases as cases
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from training_pro.batching.joining import join_neighbours, most_context
from training_pro.hybrid_batching import Entries, HybridBatchSampler


def talks(limit: int = 100, joins: Any = lambda chain: False) -> Entries:
    """Conversations of 5, 1 and 3 exchanges of 10 tokens."""
    entries = Entries([10] * 9, group=[0] * 5 + [1] + [2] * 3)
    cases.with_context(entries, limit, joins)
    return entries


def items(entries: Entries, chosen: list[int], most: int) -> list[Any]:
    units = join_neighbours(entries, np.array(chosen, dtype=np.int64), most)
    return list(units.items(0, len(units), entries))


def behind(*context: int) -> Any:
    return lambda entry: ("context", context, entry)


EVERYONE = list(range(9))


@pytest.mark.parametrize(
    ("limit", "most", "expected"),
    [
        (
            100,
            9,
            [0, behind(0)(1), behind(0, 1)(2), behind(0, 1, 2)(3), behind(0, 1, 2, 3)(4), 5, 6, behind(6)(7), behind(6, 7)(8)],
        ),
        (30, 9, [0, behind(0)(1), behind(0, 1)(2), behind(1, 2)(3), behind(2, 3)(4), 5, 6, behind(6)(7), behind(6, 7)(8)]),
        (15, 9, EVERYONE),
        (100, 2, [0, behind(0)(1), 2, behind(2)(3), 4, 5, 6, behind(6)(7), 8]),
    ],
)
def test_as_much_context_as_fits(limit: int, most: int, expected: list[Any]) -> None:
    assert items(talks(limit), EVERYONE, most) == expected


def test_context_is_only_what_is_trained_in_the_same_run_of_neighbours() -> None:
    """0 and 1 were drawn before, 6 is left out: what remains begins anew, as joined samples do."""
    assert items(talks(), [2, 3, 4, 5, 7, 8], 9) == [2, behind(2)(3), behind(2, 3)(4), 5, 7, behind(7)(8)]


def test_groups_that_are_joined_beside_groups_that_are_not() -> None:
    assert items(talks(joins=lambda chain: chain == 0), EVERYONE, 9) == [(0, 1, 2, 3, 4), 5, 6, behind(6)(7), behind(6, 7)(8)]
    assert items(talks(joins=lambda chain: chain == 0), EVERYONE, 2) == [(0, 1), (2, 3), 4, 5, 6, behind(6)(7), 8]


def test_context_behind_a_joined_sample() -> None:
    """The first three can be joined, not the fourth: it has them as context, and the fifth has all."""
    entries = Entries([10] * 5, group=[0] * 5)
    cases.with_context(entries, 100)
    joined = cases.joining(entries, 100)
    entries.join_length = lambda first, count: joined(first, count) if first + count <= 3 else None
    assert items(entries, list(range(5)), 5) == [(0, 1, 2), behind(0, 1, 2)(3), behind(0, 1, 2, 3)(4)]


def test_tokens_of_context_count() -> None:
    units = join_neighbours(talks(30), np.arange(9), 9)
    assert units.tokens.tolist() == [10, 20, 30, 30, 30, 10, 10, 20, 30]
    assert units.num_joined(len(units)) == 6
    assert units.tied is not None
    assert units.tied.tolist() == [False, True, True, True, True, False, False, True, True]


@settings(max_examples=300, deadline=None)
@given(st.integers(1, 40), st.integers(-5, 45), st.integers(0, 40))
def test_the_largest_context_is_found(most: int, guess: int, largest: int) -> None:
    asked: list[int] = []

    def context_length(entry: int, count: int) -> int | None:
        assert 1 <= count <= most
        asked.append(count)
        return 100 + count if count <= largest else None

    found = most_context(context_length, 7, most, guess)
    wanted = min(largest, most)
    assert found == ((wanted, 100 + wanted) if wanted else (0, 0))
    assert max(Counter(asked).values()) == 1
    assert len(asked) <= 2 + 2 * np.log2(most + 1)


@pytest.mark.parametrize(("limit", "calls"), [(10_000, 1.1), (300, 1.6), (60, 2.3), (25, 2.1)])
def test_a_few_calls_for_each_entry(limit: int, calls: float) -> None:
    rng = np.random.default_rng(0)
    entries = Entries(rng.integers(5, 40, 2000), group=np.repeat(np.arange(100), 20))
    cases.with_context(entries, limit)
    num_calls = 0

    def counted(hook: Any) -> Any:
        def call(*numbers: int) -> int | None:
            nonlocal num_calls
            num_calls += 1
            result: int | None = hook(*numbers)
            return result

        return call

    entries.join_length, entries.context_length = counted(entries.join_length), counted(entries.context_length)
    join_neighbours(entries, np.arange(2000), 2000)
    assert 0 < num_calls <= calls * 2000


@pytest.mark.parametrize("batch_size", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("accumulation", [1, 2, 3])
def test_pairs_stay_neighbours_through_every_batch(batch_size: int, accumulation: int) -> None:
    rng = np.random.default_rng(batch_size)
    sizes = rng.integers(1, 7, 60)
    entries = Entries(rng.integers(5, 40, sizes.sum()), group=np.repeat(np.arange(60), sizes))
    cases.with_context(entries, 60)
    sampler = HybridBatchSampler(entries, batch_size=batch_size, num_epochs=2, accumulation=accumulation, phase="paired")
    orders = []
    for epoch in range(2):
        order = [item for batch in sampler.epoch_batches(epoch) for item in batch]
        assert sorted(cases.entries_of(sampler.epoch_batches(epoch))) == list(range(len(entries)))
        for before, item in zip(order, order[1:], strict=False):
            if isinstance(item, tuple):
                assert item[1] == (before,)
        orders.append(order)
    assert sum(isinstance(item, tuple) for item in orders[0]) > 40
    assert orders[0] != orders[1]


def test_the_order_of_a_conversation_is_kept_with_its_contexts() -> None:
    batches = HybridBatchSampler(talks(), batch_size=2, phase="sequential").epoch_batches(0)
    assert batches[:2] == [[0, behind(0)(1)], [behind(0, 1)(2), behind(0, 1, 2)(3)]]
    assert cases.entries_of(batches) == EVERYONE
