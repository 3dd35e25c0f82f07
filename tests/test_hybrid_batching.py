"""The planned run: every epoch a permutation in whole windows, and a resumed run the tail of the whole one."""

import random
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from training_pro.hybrid_batching import PHASES, HybridBatchSampler, RunPlan, cut_batches, fit_accumulation

LETTERS = "abcdefghijklmnopqrstuvwxyz"


def drawn(batches: list[list[int]], window: int) -> str:
    """Batches as in the module's docstring: letters, ``|`` between batches, ``||`` between windows, ``-x`` for a filler."""
    texts = ["".join(LETTERS[entry] if entry >= 0 else f"-{LETTERS[-1 - entry]}" for entry in batch) for batch in batches]
    windows = ["|".join(texts[start : start + window]) for start in range(0, len(texts), window)]
    return " || ".join(windows)


# --- the cut of an epoch -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("num_entries", "batch_size", "window", "expected"),
    [
        (13, 4, 2, "abcd|efgh || ijk|lm"),
        (9, 4, 2, "abc|de || fg|hi"),
        (3, 1, 2, "a|b || c|-a"),
        (8, 4, 2, "abcd|efgh"),
        (16, 4, 2, "abcd|efgh || ijkl|mnop"),
        (1, 4, 1, "a"),
        (5, 4, 1, "abcd || e"),
        (2, 4, 3, "a|b|-a"),
        (5, 2, 2, "ab|c || d|e"),
        (7, 2, 3, "ab|c|d || e|f|g"),
        (4, 1, 3, "a|b|c || d|-a|-a"),
        (0, 4, 2, ""),
    ],
)
def test_cut_batches(num_entries: int, batch_size: int, window: int, expected: str) -> None:
    assert drawn(cut_batches(range(num_entries), batch_size, window, filler=0), window) == expected


def test_a_cut_keeps_the_order_it_is_given() -> None:
    assert cut_batches([3, 1, 2, 0, 4], 2, 1, filler=9) == [[3, 1], [2, 0], [4]]
    assert cut_batches([5], 2, 3, filler=9) == [[5], [-10], [-10]]


sizes = st.integers(1, 9)


@given(st.permutations(range(40)), st.integers(0, 40), sizes, sizes, st.integers(0, 39))
def test_properties_of_a_cut(order: list[int], num_entries: int, batch_size: int, window: int, filler: int) -> None:
    order = order[:num_entries]
    batches = cut_batches(order, batch_size, window, filler)
    assert [entry for batch in batches for entry in batch if entry >= 0] == order
    assert len(batches) % window == 0
    assert all(1 <= len(batch) <= batch_size for batch in batches)
    fillers = [batch for batch in batches if min(batch) < 0]
    assert all(batch == [-1 - filler] for batch in fillers)
    assert len(batches) == -(-num_entries // (batch_size * window)) * window  # no window more than the entries need
    # fillers only where sharing the last two windows could not fill every batch
    full = batch_size * window
    rest = num_entries % full
    shares_two = 0 < rest < window and num_entries >= full and full + rest >= 2 * window
    assert len(fillers) == (window - rest if 0 < rest < window and not shares_two else 0)
    # what is left over is shared evenly, larger batches first; all before is full
    num_shared = 2 * window if shares_two else window if rest else 0
    lengths = [len(batch) if min(batch) >= 0 else 0 for batch in batches]
    full_part, shared = lengths[: len(lengths) - num_shared], lengths[len(lengths) - num_shared :]
    assert set(full_part) <= {batch_size}
    assert shared == sorted(shared, reverse=True)
    assert not shared or shared[0] - shared[-1] <= 1


@pytest.mark.parametrize(
    ("num_entries", "batch_size", "accumulation", "world_size", "expected"),
    [(100, 4, 8, 1, 8), (10, 4, 8, 1, 2), (10, 4, 8, 2, 1), (3, 4, 8, 1, 1), (32, 4, 8, 1, 8), (31, 4, 8, 1, 7), (1, 1, 1, 1, 1)],
)
def test_accumulation_that_fits(num_entries: int, batch_size: int, accumulation: int, world_size: int, expected: int) -> None:
    assert fit_accumulation(num_entries, batch_size, accumulation, world_size) == expected


# --- the whole run -------------------------------------------------------------------------------------------------------------


@st.composite
def samplers(draw: st.DrawFn) -> HybridBatchSampler:
    lengths = draw(st.lists(st.integers(1, 50), min_size=1, max_size=40))
    epochs = draw(st.sampled_from([0.1, 0.5, 1.0, 1.5, 2.0, 3.0, 3.25]))
    whole = {name: draw(st.integers(1, 4)) for name in ("batch_size", "accumulation", "world_size")}
    return HybridBatchSampler(lengths, num_epochs=epochs, seed=draw(st.integers(0, 5)), **whole)


def same(sampler: HybridBatchSampler, **changes) -> HybridBatchSampler:
    """Another sampler of the same settings."""
    plan = sampler.plan
    options = {
        **{"batch_size": plan.batch_size, "accumulation": plan.accumulation, "world_size": plan.world_size},
        **{"num_epochs": plan.num_epochs, "seed": sampler._seed},
    }
    return HybridBatchSampler(sampler.entries, **{**options, **changes})


@given(samplers())
def test_each_epoch_is_a_permutation_in_whole_windows(sampler: HybridBatchSampler) -> None:
    plan = sampler.plan
    window = plan.accumulation * plan.world_size
    for epoch, size in enumerate(plan.epoch_sizes):
        batches = sampler.epoch_batches(epoch)
        entries = [entry for batch in batches for entry in batch if entry >= 0]
        assert max(Counter(entries).values()) == 1
        if size == 1:
            assert sorted(entries) == list(range(plan.num_entries))
        else:
            assert len(entries) == max(1, round(plan.num_entries * size))
        assert len(batches) == plan.steps_per_epoch[epoch] * window
        assert all(0 < len(batch) <= plan.batch_size for batch in batches)


@given(samplers())
def test_what_is_yielded_is_what_was_planned(sampler: HybridBatchSampler) -> None:
    batches = list(sampler)
    assert len(batches) == len(sampler) == sampler.plan.num_batches
    assert batches == [batch for epoch in range(len(sampler.plan.epoch_sizes)) for batch in sampler.epoch_batches(epoch)]
    assert list(sampler) == batches  # a second iteration begins anew
    assert list(same(sampler)) == batches


@given(samplers(), st.data())
def test_a_resumed_run_is_the_tail_of_the_whole_one(sampler: HybridBatchSampler, data: st.DataObject) -> None:
    batches = list(sampler)
    done = data.draw(st.integers(0, len(batches)))
    resumed = same(sampler)
    resumed.load_state_dict(sampler.state_dict(done))
    assert list(resumed) == batches[done:]
    assert list(resumed) == batches  # only the next iteration is shortened


@given(samplers())
def test_the_filler_is_the_shortest_entry(sampler: HybridBatchSampler) -> None:
    fillers = {-1 - entry for batch in sampler for entry in batch if entry < 0}
    assert fillers <= {int(np.argmin(sampler.entries.lengths))}


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    sampler = HybridBatchSampler([1] * 50, batch_size=50, num_epochs=2, seed=3)
    first, second = list(sampler)
    assert sorted(first) == sorted(second) == list(range(50))
    assert first != second
    assert first != list(range(50))
    assert next(iter(same(sampler, seed=4))) != first
    # the order of an epoch does not depend on how many epochs the run has, nor on the batches
    assert next(iter(same(sampler, num_epochs=7))) == first
    assert [entry for batch in same(sampler, num_epochs=1, batch_size=5) for entry in batch] == first


def test_an_order_that_must_not_change() -> None:
    sampler = HybridBatchSampler([5, 4, 3, 2, 1, 9], batch_size=4, num_epochs=1.5, accumulation=1, seed=42)
    order = np.random.default_rng([42, 0]).permutation(6).tolist()
    half = np.random.default_rng([42, 1]).permutation(6).tolist()[:3]
    assert list(sampler) == [order[:4], order[4:], half]
    assert sampler.plan.steps_per_epoch == (2, 1)


def test_global_randomness_is_neither_read_nor_changed() -> None:
    def orders() -> list[list[int]]:
        return list(HybridBatchSampler(range(1, 30), batch_size=3, num_epochs=2, seed=1))

    random.seed(1)
    np.random.seed(1)
    states = random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[index]
    first = orders()
    assert (random.getstate(), np.random.get_state()[1].tolist()) == states  # type: ignore[index]
    random.seed(2)
    np.random.seed(2)
    assert orders() == first


# --- the plan ------------------------------------------------------------------------------------------------------------------


def test_a_plan_in_numbers() -> None:
    plan = HybridBatchSampler([1] * 13, batch_size=4, accumulation=2, num_epochs=2.5).plan
    assert replace(plan, segments=()) == RunPlan((2, 2, 1), (1.0, 1.0, 0.5), 2, 1, 4, 13)
    assert (plan.epoch_ends, plan.num_steps, plan.num_epochs, plan.num_batches) == ((2, 4, 5), 5, 2.5, 10)
    assert [plan.epoch_at(step) for step in range(6)] == [0.0, 0.5, 1.0, 1.5, 2.0, 2.5]
    assert plan.epoch_at(1.5) == 0.75
    assert plan.epoch_at(99) == 2.5


@given(samplers())
def test_progress_rises_and_meets_the_ends_exactly(sampler: HybridBatchSampler) -> None:
    plan = sampler.plan
    progress = [plan.epoch_at(step / 4) for step in range(4 * plan.num_steps + 1)]
    assert progress[0] == 0
    assert progress[-1] == pytest.approx(plan.num_epochs)
    assert all(before < after for before, after in zip(progress, progress[1:], strict=False))
    for index, end in enumerate(plan.epoch_ends):
        assert plan.epoch_at(end) == sum(plan.epoch_sizes[: index + 1])
    assert plan.epoch_at(plan.num_steps + 5) == plan.epoch_at(plan.num_steps)


@pytest.mark.parametrize(
    ("num_epochs", "sizes"), [(3, (1.0, 1.0, 1.0)), (0.25, (0.25,)), (1.5, (1.0, 0.5)), (2.0000000001, (1.0, 1.0))]
)
def test_epochs_and_parts(num_epochs: float, sizes: tuple[float, ...]) -> None:
    assert HybridBatchSampler([1] * 8, batch_size=2, num_epochs=num_epochs).plan.epoch_sizes == pytest.approx(sizes)


@pytest.mark.parametrize("num_epochs", [0.1 + 0.2 + 0.7, 0.1 * 30, 2.9999999999])
def test_a_float_that_is_a_hair_under_a_whole_number_of_epochs(num_epochs: float) -> None:
    plan = HybridBatchSampler([1] * 8, batch_size=2, num_epochs=num_epochs).plan
    assert plan.num_epochs == pytest.approx(num_epochs)
    assert plan.num_steps == round(num_epochs) * 4


def test_a_small_part_of_few_entries_still_trains_one() -> None:
    sampler = HybridBatchSampler([1, 1, 1], batch_size=2, num_epochs=0.01)
    assert [len(batch) for batch in sampler] == [1]


# --- as a torch batch sampler --------------------------------------------------------------------------------------------------


def test_accelerate_must_not_complete_batches() -> None:
    sampler = HybridBatchSampler([1] * 5, batch_size=2)
    assert (sampler.batch_size, sampler.drop_last) == (None, False)


def test_a_dataloader_takes_it() -> None:
    torch_data = pytest.importorskip("torch.utils.data")
    sampler = HybridBatchSampler([1] * 7, batch_size=2, num_epochs=2)
    loader = torch_data.DataLoader(range(7), batch_sampler=sampler, collate_fn=list)
    assert len(loader) == 8
    assert list(loader) == list(sampler)


# --- what raises ---------------------------------------------------------------------------------------------------------------


def test_no_entries() -> None:
    with pytest.raises(ValueError, match="Data set: there are no samples to make batches of. Check the data."):
        HybridBatchSampler([], batch_size=1)


def test_an_unknown_phase() -> None:
    with pytest.raises(ValueError, match="Batching mode: 'sorted' is unknown. Choose from shuffled"):
        HybridBatchSampler([1], batch_size=1, phase="sorted")
    assert all(HybridBatchSampler([1, 2], batch_size=1, phase=name) for name in PHASES)


@pytest.mark.parametrize(
    ("lengths", "seed", "message"),
    [
        ([1, 2], 1, "Resume: the Seed was 0, now it is 1. Use the same data and seed"),
        ([1], 0, "the number of samples was 2, now it is 1"),
    ],
)
def test_a_state_of_another_run(lengths: list[int], seed: int, message: str) -> None:
    state = HybridBatchSampler([1, 2], batch_size=1).state_dict(1)
    place = {"steps": 1, "epochs": 0.5, "stage": 0, "stage_begin": 0.0, "stage_step": 0}
    more = {"journal": [], "past": None, "place": place}
    assert state == {"batches_done": 1, "seed": 0, "num_entries": 2, "num_epochs": 1.0, **more}
    with pytest.raises(ValueError, match=message):
        HybridBatchSampler(lengths, batch_size=1, seed=seed).load_state_dict(state)
