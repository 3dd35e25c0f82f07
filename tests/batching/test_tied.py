"""By length with bundles: none is torn apart, little is padded, and the order is another each time."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from training_pro.batching.cutting import cut_sizes
from training_pro.batching.padding import padded_tokens, padding_share
from training_pro.batching.tied import tied_by_length


def bundles(rng: np.random.Generator, num: int, most: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Tokens of units and which are tied to the one before."""
    sizes = rng.integers(1, most + 1, num)
    tied = np.ones(int(sizes.sum()), dtype=bool)
    tied[np.cumsum(sizes) - sizes] = False
    return np.clip(rng.lognormal(5, 1, len(tied)), 8, 2000).astype(np.int64), tied


@settings(max_examples=300, deadline=None)
@given(
    st.integers(1, 200),
    st.integers(1, 4),
    st.tuples(st.integers(1, 7), st.integers(1, 3), st.integers(1, 3)),
    st.booleans(),
    st.integers(0, 9),
)
def test_properties(num: int, most: int, shape: tuple[int, int, int], longest_first: bool, seed: int) -> None:
    batch_size, accumulation, world_size = shape
    rng = np.random.default_rng(seed)
    tokens, tied = bundles(rng, num, most)
    by_rows = cut_sizes(len(tokens), batch_size, accumulation * world_size).reshape(-1, world_size)
    order = tied_by_length(tokens, tied, by_rows, longest_first, rng)
    assert sorted(order.tolist()) == list(range(len(tokens)))
    at = np.empty(len(order), dtype=np.int64)
    at[order] = np.arange(len(order))
    for unit in np.flatnonzero(tied):
        assert at[unit] == at[unit - 1] + 1


@pytest.mark.parametrize(("batch_size", "window"), [(8, 4), (4, 1), (3, 2), (1, 1)])
def test_little_padding(batch_size: int, window: int) -> None:
    rng = np.random.default_rng(1)
    tokens, tied = bundles(rng, 12_000)
    sizes = cut_sizes(len(tokens), batch_size, window)
    order = tied_by_length(tokens, tied, sizes.reshape(-1, 1), False, rng)
    # the shorter unit of a bundle stands beside its longer one, whatever the batch
    starts = np.flatnonzero(~tied)
    longest = np.repeat(np.maximum.reduceat(tokens, starts), np.diff(starts, append=len(tokens)))
    assert padding_share(longest[order], sizes) <= 0.02
    assert batch_size == 1 or padding_share(longest, sizes) > 0.2


def test_rows_come_in_another_order_each_time() -> None:
    tokens, tied = bundles(np.random.default_rng(1), 2000)
    by_rows = cut_sizes(len(tokens), 4, 1).reshape(-1, 1)
    means = []
    for seed in range(2):
        order = tied_by_length(tokens, tied, by_rows, False, np.random.default_rng(seed))
        means.append([tokens[order[place : place + 4]].mean() for place in range(0, len(order), 4)])
    assert abs(np.corrcoef(*means)[0, 1]) < 0.15
    assert abs(np.corrcoef(means[0], range(len(means[0])))[0, 1]) < 0.15


@pytest.mark.parametrize("batch_size", [1, 2, 3, 4])
@pytest.mark.parametrize("seed", range(5))
def test_the_longest_come_first(batch_size: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    tokens, tied = bundles(rng, 300)
    sizes = cut_sizes(len(tokens), batch_size, 2)
    order = tied_by_length(tokens, tied, sizes.reshape(-1, 1), True, rng)
    padded = padded_tokens(tokens[order], sizes)
    first = max(padded[:2])  # a bundle may need two batches of one
    assert first >= np.sort(padded)[-3]
