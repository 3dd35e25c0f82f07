"""Entries, packers, courses and runs that tests of batching draw; and a consumer that reads ahead as data loaders do."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import Any

import numpy as np
from hypothesis import strategies as st
from training_pro.hybrid_batching import PHASES, Course, Entries, HybridBatchSampler, Packing, Transition

EPOCHS = st.sampled_from([0.1, 0.5, 1.0, 1.5, 2.0, 3.0, 3.25])


def joining(entries: Entries, limit: int, *, skip_overlaps: bool = False) -> Callable[[int, int], int | None]:
    """Joined samples are as long as their parts together, at most ``limit``."""

    def join_length(first: int, count: int) -> int | None:
        assert not (skip_overlaps and entries.overlap[first])
        rest = entries.original[entries.rank[first] :]
        joined = (rest[~entries.overlap[rest]] if skip_overlaps else rest)[:count]
        assert len(joined) == count, "there are not so many entries"
        total = int(entries.lengths[joined].sum())
        return total if total <= limit else None

    return join_length


def with_context(entries: Entries, limit: int, joins: Callable[[int], bool] = lambda chain: False) -> None:
    """Give entries both hooks: some groups are joined, in the others an entry has those before it as context.

    Args:
        entries: get the hooks.
        limit: tokens of a sample, at most.
        joins: number of a group -> whether its entries are joined.
    """
    join_length = joining(entries, limit)

    def is_joined(entry: int) -> bool:
        return joins(int(entries.chain[entries.rank[entry]]))

    def context_length(entry: int, count: int) -> int | None:
        assert count > 0, "a context of nothing"
        before = entries.before(entry, count)
        assert len(before) == count, "there are not so many entries before"
        total = int(entries.lengths[[*before, entry]].sum())
        return None if total > limit or is_joined(entry) else total

    entries.join_length = lambda first, count: join_length(first, count) if is_joined(first) else None
    entries.context_length = context_length


@st.composite
def entry_sets(draw: st.DrawFn, *, most: int = 40) -> Entries:
    """Up to 40 entries in groups, in any order, some of them overlaps; of some sets entries can be joined or be context."""
    lengths = draw(st.lists(st.integers(1, 50), min_size=1, max_size=most))
    num = len(lengths)
    group = draw(st.none() | st.lists(st.integers(0, 6), min_size=num, max_size=num))
    overlap = draw(st.none() | st.lists(st.booleans(), min_size=num, max_size=num))
    entries = Entries(lengths, group=group, overlap=overlap)
    kind, limit = draw(st.sampled_from(["alone", "joined", "context", "both"])), draw(st.integers(20, 150))
    if kind in ("joined", "both"):
        entries.join_without_overlaps = joining(entries, limit, skip_overlaps=True)
    if kind == "joined":
        entries.join_length = joining(entries, limit)
    elif kind != "alone":
        with_context(entries, limit, lambda chain: kind == "both" and chain % 2 == 0)
    return entries


def next_fit(lengths: list[int], capacity: int, *, seed: int) -> list[list[int]]:
    """Neighbours while they fit."""
    packs: list[list[int]] = []
    space = 0
    for number, length in enumerate(lengths):
        assert 0 < length <= capacity
        if length > space or not packs:
            packs.append([])
            space = capacity
        packs[-1].append(number)
        space -= length
    return packs


def mixed_up(lengths: list[int], capacity: int, *, seed: int) -> list[list[int]]:
    """A packer that tears neighbours apart: next fit of a random order."""
    order = np.random.default_rng(seed).permutation(len(lengths)).tolist()
    return [[order[place] for place in pack] for pack in next_fit([lengths[number] for number in order], capacity, seed=seed)]


@st.composite
def packings(draw: st.DrawFn) -> Packing | None:
    """None, or rows of some length that every unit fits into."""
    return draw(st.none() | st.sampled_from([150, 200, 400]).map(lambda capacity: Packing(capacity, mixed_up, next_fit)))


@st.composite
def transitions(draw: st.DrawFn) -> Transition:
    """Any kind, with short phases."""
    return Transition(
        draw(st.sampled_from(["epochs", "steps", "loss"])),
        epochs=draw(st.sampled_from([0.3, 0.5, 1.0, 1.25])),
        steps=draw(st.integers(1, 9)),
        minimum=draw(st.sampled_from([0.0, 0.5])),
        latest=draw(st.sampled_from([0.0, 0.7, 1.5])),
        gradual=draw(st.sampled_from([0.0, 0.0, 0.5, 1.3])),
    )


@st.composite
def courses(draw: st.DrawFn) -> Course:
    """One to three phases in any order."""
    phases = draw(st.lists(st.sampled_from(list(PHASES)), min_size=1, max_size=3))
    joins = draw(st.sampled_from([True, True, False]))
    return Course(tuple(phases), tuple(draw(transitions()) for _ in phases[1:]), draw(st.booleans()), joins)


@st.composite
def samplers(draw: st.DrawFn) -> HybridBatchSampler:
    """Any run."""
    course = draw(courses())
    numbers = {name: draw(st.integers(1, 4)) for name in ("batch_size", "accumulation", "world_size")}
    entries = draw(entry_sets())
    more = {"num_epochs": draw(EPOCHS), "seed": draw(st.integers(0, 3)), "packing": draw(packings())}
    return HybridBatchSampler(entries, phase=course, **numbers, **more)


def again(sampler: HybridBatchSampler, **changes: Any) -> HybridBatchSampler:
    """Another sampler of the same run, not yet begun."""
    plan = sampler.plan
    options = {"batch_size": plan.batch_size, "accumulation": plan.accumulation, "world_size": plan.world_size}
    more = {"num_epochs": plan.num_epochs, "seed": sampler._seed, "phase": sampler.course, "packing": sampler._former.how.packing}
    return HybridBatchSampler(sampler.entries, **{**options, **more, **changes})  # type: ignore[arg-type]


def entries_of(batches: list[Any]) -> list[int]:
    """Entries of batches in order, without fillers."""
    return [entry for batch in batches for item in batch for entry in trained(item) if entry >= 0]


def trained(item: Any) -> list[int]:
    """The entries that an item trains, in order."""
    if isinstance(item, int):
        return [item]
    if item[0] == "context":
        return [item[2]]
    return [entry for part in item[1] for entry in trained(part)] if item[0] == "pack" else list(item)


def samples_of(item: Any) -> list[Any]:
    """The samples of an item: those of a pack, else itself."""
    return list(item[1]) if isinstance(item, tuple) and item[0] == "pack" else [item]


def by_epoch(sampler: HybridBatchSampler, batches: list[Any]) -> list[list[Any]]:
    """The batches of a whole run, epoch by epoch."""
    left = iter(batches)
    return [list(islice(left, num_steps * sampler.plan.window)) for num_steps in sampler.plan.steps_per_epoch]


def train(
    sampler: HybridBatchSampler, ahead: int = 0, after_step: Callable[[int], Any] = lambda step: None, first: int = 0
) -> list[Any]:
    """Take batches as Trainer does: a window each step, with more of them drawn already.

    Args:
        ahead: batches that are drawn beyond the step's own: 1 by accelerate, workers x prefetch_factor by worker processes.
        after_step: called with the number of finished steps.
        first: steps that are skipped: drawn, but not trained.

    Returns:
        The batches that were trained.
    """
    window, trained, step = sampler.plan.window, [], 0
    drawn: list[Any] = []
    source = iter(sampler)
    while True:
        drawn += islice(source, window + ahead - len(drawn))
        if not drawn:
            return trained
        assert len(drawn) >= window, "a window is not whole"
        step += 1
        if step > first:
            trained += drawn[:window]
            after_step(step)
        del drawn[:window]
