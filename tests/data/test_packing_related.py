"""The walk over related samples: exactly the walk that comparing with every sample at each step gives."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from training_pro.data.packing import walk as module
from training_pro.data.packing.walk import related_walk, whole_numbers


def brute_walk(vectors: np.ndarray, seed: int, threshold: float, window: int) -> tuple[list[int], int]:
    """The walk's definition, one comparison with everything at each step, in float64."""
    points = whole_numbers(vectors).astype(np.float64)
    limit = (1 - threshold) * module._SCALE**2 if threshold else np.inf
    order = [int(np.random.default_rng(seed).integers(len(points)))]
    left, fallbacks = set(range(len(points))) - set(order), 0
    while left:
        products = {sample: [float(points[sample] @ points[pick]) for pick in order[-window:]] for sample in left}
        far = [sample for sample in left if all(product < limit for product in products[sample])]
        fallbacks += not far
        order.append(min(far or left, key=lambda sample: (-products[sample][-1], sample)))
        left.remove(order[-1])
    return order, fallbacks


def subjects(num: int, dim: int, seed: int, spread: float = 0.5) -> np.ndarray:
    """Points around a few centres; some stand twice."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((max(1, num // 20), dim))
    points = centres[rng.integers(len(centres), size=num)] + spread * rng.standard_normal((num, dim))
    points[num // 2 :: 7] = points[0]
    return points


@given(
    num=st.integers(1, 60),
    dim=st.integers(1, 8),
    seed=st.integers(0, 99),
    threshold=st.sampled_from([0.0, 0.05, 0.3, 0.9, 1.5, 2.0]),
    window=st.integers(1, 6),
)
def test_the_walk_is_the_brute_one(num: int, dim: int, seed: int, threshold: float, window: int) -> None:
    vectors = subjects(num, dim, seed)
    assert related_walk(vectors, seed=seed, threshold=threshold, window=window) == brute_walk(vectors, seed, threshold, window)


@pytest.mark.parametrize("threshold", [0.1, 0.6, 1.1])
@pytest.mark.parametrize("lists", [(64, 8), (3, 1)])
def test_also_where_lists_run_out_and_blocks_are_small(
    monkeypatch: pytest.MonkeyPatch, threshold: float, lists: tuple[int, int]
) -> None:
    vectors = subjects(400, 5, seed=3)
    monkeypatch.setattr(module, "NUM_FAR", lists[0])
    monkeypatch.setattr(module, "NUM_NEAR", lists[1])
    scans, renewals = [], []
    scan, make = module._Walk._scan, module._Walk._make_lists
    monkeypatch.setattr(module._Walk, "_scan", lambda self, *rest: scans.append(1) or scan(self, *rest))
    monkeypatch.setattr(module._Walk, "_make_lists", lambda self: renewals.append(1) or make(self))
    expected = brute_walk(vectors, 1, threshold, 3)
    assert related_walk(vectors, seed=1, threshold=threshold, window=3, block=1000) == expected
    assert related_walk(vectors, seed=1, threshold=threshold, window=3) == expected
    assert scans
    assert 2 < len(renewals) <= 2 + len(scans)  # each is paid for by scans, the first of each walk is not


def test_a_walk_stays_with_its_subject_but_passes_over_what_says_the_same() -> None:
    vectors = subjects(300, 12, seed=8, spread=0.3)
    order, fallbacks = related_walk(vectors, threshold=0.05)
    assert sorted(order) == list(range(300))
    cosines = whole_numbers(vectors) / module._SCALE
    steps = 1 - np.sum(cosines[order[1:]] * cosines[order[:-1]], axis=1)
    apart = 1 - cosines @ cosines.T
    assert np.median(steps) < 0.5 * np.median(apart)
    assert np.sum(steps <= 0.05) <= fallbacks < 150


def test_most_steps_need_no_scan(monkeypatch: pytest.MonkeyPatch) -> None:
    """The price: the lists answer; else each step would compare with all."""
    vectors = np.random.default_rng(0).standard_normal((3000, 32)) + 3 * np.eye(32)[np.arange(3000) % 32]
    scans = []
    scan = module._Walk._scan
    monkeypatch.setattr(module._Walk, "_scan", lambda self, *rest: scans.append(1) or scan(self, *rest))
    related_walk(vectors)
    assert len(scans) < 300


# --- whole numbers -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dim", [1, 16, 384, 4096])
def test_products_are_exact_in_float32(dim: int) -> None:
    vectors = np.random.default_rng(dim).standard_normal((40, dim)).astype(np.float32)
    vectors[1] = vectors[0]
    points = whole_numbers(vectors)
    assert points.dtype == np.float32
    exact = points.astype(np.int64) @ points.astype(np.int64).T
    assert np.array_equal((points @ points.T).astype(np.int64), exact)
    assert np.abs(exact).max() < 2**24


def test_a_cosine_moves_by_less_than_a_thousandth() -> None:
    vectors = np.random.default_rng(1).standard_normal((200, 64)) + 2  # a strong common part
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = np.concatenate([unit - unit.mean(axis=0), np.full((200, 1), module._COMMON)], axis=1)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    found = whole_numbers(vectors) / module._SCALE
    assert np.abs(found @ found.T - unit @ unit.T).max() < 1e-3
    assert abs(np.mean(unit @ unit.T)) < 0.05  # the common part is gone


def test_length_does_not_count_and_nothing_is_changed() -> None:
    vectors = subjects(50, 6, seed=2)
    before = vectors.copy()
    assert related_walk(vectors * np.linspace(0.1, 9, 50)[:, None]) == related_walk(vectors)
    assert np.array_equal(vectors, before)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_equal_vectors_are_at_distance_0(value: float) -> None:
    vectors = np.full((5, 3), value)
    assert related_walk(vectors, threshold=0.3)[1] == 4
    assert sorted(related_walk(vectors)[0]) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        (np.ones(3), r"needs a matrix of vectors with at most 32768 dimensions. Got: shape \(3,\)"),
        (np.ones((1, 40_000), dtype=np.int8), r"Got: shape \(1, 40000\)"),
        (np.array([[1.0, 2.0], [1.0, np.nan]]), "the vector of sample 1 has numbers that are not finite"),
        (np.array([[np.inf, 2.0]]), "the vector of sample 0"),
    ],
)
def test_vectors_that_do_not_fit(vectors: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        related_walk(vectors)


def test_a_window_below_one() -> None:
    with pytest.raises(ValueError, match="Window of related samples: at least the last pick must be looked at. Got: 0"):
        related_walk(np.ones((2, 2)), window=0)


@pytest.mark.parametrize(("num", "expected"), [(0, ([], 0)), (1, ([0], 0))])
def test_none_and_one(num: int, expected: tuple[list[int], int]) -> None:
    assert related_walk(np.ones((num, 3))) == expected
