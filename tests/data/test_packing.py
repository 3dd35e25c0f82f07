"""Packers: every sample once and whole, no pack over its capacity, the same seed the same packs; and what is refused."""

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from training_pro import ROOT
from training_pro.config import RunConfig
from training_pro.data.packing import NEEDS_VECTORS, PACKERS, Packing, check_lengths, pack

CAPACITY = 20
LENGTHS = st.lists(st.integers(1, CAPACITY), max_size=60)
NAMES = sorted(PACKERS)


def options(name: str, num: int) -> dict[str, Any]:
    """Vectors for the packers that need them."""
    return {"vectors": np.random.default_rng(5).standard_normal((num, 6))} if name in NEEDS_VECTORS else {}


# --- literal -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "lengths", "capacity", "expected"),
    [
        ("none", [3, 1, 2, 4], 4, [[0], [1], [2], [3]]),
        ("ordered", [3, 1, 2, 4], 4, [[0, 1], [2], [3]]),
        ("ordered", [3, 2, 1, 4], 4, [[0], [1, 2], [3]]),
        ("ordered", [4, 4, 1], 4, [[0], [1], [2]]),
        ("best_fit", [3, 2, 1, 2, 4], 4, [[0, 2], [1, 3], [4]]),
        ("best_fit", [5], 9, [[0]]),
        *[(name, [], 4, []) for name in ("none", "ordered", "best_fit")],
    ],
)
def test_packs_literally(name: str, lengths: list[int], capacity: int, expected: list[list[int]]) -> None:
    assert sorted(sorted(samples) for samples in PACKERS[name](lengths, capacity)) == expected


def test_ordered_is_in_order_also_inside() -> None:
    assert PACKERS["ordered"]([1, 1, 3, 3, 1, 1, 1], 3) == [[0, 1], [2], [3], [4, 5, 6]]


def test_related_literally() -> None:
    """Two subjects on two axes; 1 says the same as 0, so it waits until the others are visited."""
    vectors = np.array([[1.0, 0.0], [1.0, 0.001], [0.8, 0.3], [0.0, 1.0], [0.1, 1.2]])
    counts: dict[str, int] = {}
    seed = next(seed for seed in range(99) if np.random.default_rng(seed).integers(5) == 0)
    packs = PACKERS["related"]([2, 2, 2, 2, 2], 6, seed=seed, vectors=vectors, threshold=0.05, window=1, counts=counts)
    assert packs == [[0, 2, 1], [3, 4]]
    assert counts == {"fallbacks": 1}  # from 3 to 4, which says the same


# --- properties ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@given(lengths=LENGTHS, seed=st.integers(0, 5))
def test_every_sample_once_and_no_pack_too_long(name: str, lengths: list[int], seed: int) -> None:
    packing = pack(name, lengths, CAPACITY, seed=seed, **options(name, len(lengths)))
    assert sorted(sample for samples in packing.packs for sample in samples) == list(range(len(lengths)))
    assert all(packing.packs)
    assert packing.lengths == [sum(lengths[sample] for sample in samples) for samples in packing.packs]
    assert all(length <= CAPACITY for length in packing.lengths)
    assert packing.num_samples == len(lengths)


@pytest.mark.parametrize("name", NAMES)
@given(lengths=LENGTHS, seed=st.integers(0, 5))
def test_the_same_seed_gives_the_same_packs(name: str, lengths: list[int], seed: int) -> None:
    first = PACKERS[name](lengths, CAPACITY, seed=seed, **options(name, len(lengths)))
    np.random.seed(seed + 1)  # noqa: NPY002 - global randomness must not matter
    again = PACKERS[name](np.array(lengths, dtype=np.int64), CAPACITY, seed=seed, **options(name, len(lengths)))
    assert first == again
    assert all(type(sample) is int for samples in again for sample in samples)


@pytest.mark.parametrize("name", ["best_fit", "related"])
def test_another_seed_gives_other_packs(name: str) -> None:
    lengths = [3, 4, 5, 6] * 10
    packs = {str(PACKERS[name](lengths, CAPACITY, seed=seed, **options(name, 40))) for seed in range(4)}
    assert len(packs) == 4


@given(LENGTHS)
def test_ordered_keeps_the_order_and_closes_only_full_packs(lengths: list[int]) -> None:
    packs = PACKERS["ordered"](lengths, CAPACITY)
    assert [sample for samples in packs for sample in samples] == list(range(len(lengths)))
    for samples, following in zip(packs, packs[1:], strict=False):
        assert sum(lengths[sample] for sample in samples) + lengths[following[0]] > CAPACITY


# --- what is refused, what is said ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_a_sample_that_fits_nowhere(name: str) -> None:
    with pytest.raises(ValueError, match=r"the longest sample has 21 tokens, a pack holds 20\. Raise Maximum context length"):
        PACKERS[name]([3, 21], 20, **options(name, 2))
    with pytest.raises(ValueError, match="a sample has 0 tokens"):
        PACKERS[name]([3, 0], 20, **options(name, 2))


def test_check_lengths_takes_what_fits() -> None:
    check_lengths([1, 20], 20)
    check_lengths([], 20)


@pytest.mark.parametrize(
    ("vectors", "got"), [(None, "Got: none"), (np.ones((3, 2)), r"Got: 3 vectors for 2 samples"), (np.ones((0, 2)), "Got: 0")]
)
def test_related_needs_a_vector_for_each_sample(vectors: Any, got: str) -> None:
    with pytest.raises(ValueError, match=rf"'related' needs one vector for each sample\. {got}"):
        PACKERS["related"]([1, 2], 4, vectors=vectors)


def test_an_unknown_packer() -> None:
    with pytest.raises(ValueError, match="Packing: 'tetris' is unknown. Choose from none, ordered, best_fit, related"):
        pack("tetris", [1], 4)


def test_fill_and_lines() -> None:
    packing = pack("ordered", [3, 1, 2, 4], 4)
    assert packing == Packing([[0, 1], [2], [3]], [4, 2, 4], 4)
    assert packing.fill == 10 / 12
    assert packing.lines() == ["4 samples in 3 packs of at most 4 tokens, 83.3% full"]
    assert Packing([], [], 4).fill == 0
    counted = Packing([[0, 1], [2, 3]], [4, 4], 4, num_fallbacks=1)
    assert counted.lines()[1].startswith("1 samples (25%) follow a nearer one than Distance of related samples asks for")


def test_fallbacks_are_counted() -> None:
    vectors = np.array([[1.0, 0.0]] * 4)  # all say the same
    assert pack("related", [1] * 4, 4, vectors=vectors).num_fallbacks == 3
    assert pack("related", [1] * 4, 4, vectors=vectors, threshold=0).num_fallbacks == 0


def test_progress_of_a_long_walk() -> None:
    told: list[tuple[float, str]] = []
    pack("related", [1] * 3000, 4, **options("related", 3000), progress=lambda share, what: told.append((share, what)))
    assert told[:2] == [(0.0, "related samples: 0 of 3,000 compared"), (0.466, "related samples: 2,796 of 3,000 compared")]
    assert [what for _, what in told[2:]] == [f"related samples: {done},000 of 3,000" for done in (1, 2, 3)]
    assert [share for share, _ in told] == sorted(share for share, _ in told)
    assert told[-1][0] == 1.0


def test_the_settings_offer_the_tables() -> None:
    found = {info.field: info for info in RunConfig.settings()}
    assert found["batching.packing"].choices == tuple(PACKERS)
    assert set(NEEDS_VECTORS) <= set(PACKERS)
    assert (found["batching.pack_threshold"].default, found["batching.pack_window"].default) == (0.3, 4)


@pytest.mark.parametrize("module", ["packing", "packing.embedding"])
def test_the_tables_import_nothing_heavy(module: str) -> None:
    code = (
        f"import sys; sys.path.append({str(ROOT / 'import_root')!r}); import training_pro.data.{module}\n"
        "assert not {'numpy', 'torch', 'transformers', 'sentence_transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
