"""Entries, courses and runs that tests of batching draw; and a consumer that reads ahead as data loaders do."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import Any

from hypothesis import strategies as st
from training_pro.hybrid_batching import PHASES, Course, Entries, HybridBatchSampler, Transition

EPOCHS = st.sampled_from([0.1, 0.5, 1.0, 1.5, 2.0, 3.0, 3.25])


def joining(entries: Entries, limit: int, *, leave_out: bool = False) -> Callable[[int, int], int | None]:
    """Joined samples are as long as their parts together, at most ``limit``."""
    skipped = entries.overlap if leave_out and not entries.overlap.all() else entries.overlap & False

    def join_length(first: int, count: int) -> int | None:
        rest = entries.original[entries.rank[first] :]
        total = int(entries.lengths[rest[~skipped[rest]][:count]].sum())
        return total if total <= limit else None

    return join_length


@st.composite
def entry_sets(draw: st.DrawFn, *, leave_out: bool = False, most: int = 40) -> Entries:
    """Up to 40 entries in groups, in any order, some of them overlaps; half of the sets can be joined."""
    lengths = draw(st.lists(st.integers(1, 50), min_size=1, max_size=most))
    num = len(lengths)
    group = draw(st.none() | st.lists(st.integers(0, 6), min_size=num, max_size=num))
    overlap = draw(st.none() | st.lists(st.booleans(), min_size=num, max_size=num))
    entries = Entries(lengths, group=group, overlap=overlap)
    if draw(st.booleans()):
        entries.join_length = joining(entries, draw(st.integers(20, 150)), leave_out=leave_out)
    return entries


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
    return Course(tuple(phases), tuple(draw(transitions()) for _ in phases[1:]), draw(st.booleans()))


@st.composite
def samplers(draw: st.DrawFn) -> HybridBatchSampler:
    """Any run."""
    course = draw(courses())
    numbers = {name: draw(st.integers(1, 4)) for name in ("batch_size", "accumulation", "world_size")}
    entries = draw(entry_sets(leave_out=course.leave_out_overlaps))
    return HybridBatchSampler(entries, num_epochs=draw(EPOCHS), seed=draw(st.integers(0, 3)), phase=course, **numbers)


def again(sampler: HybridBatchSampler, **changes: Any) -> HybridBatchSampler:
    """Another sampler of the same run, not yet begun."""
    plan = sampler.plan
    options = {"batch_size": plan.batch_size, "accumulation": plan.accumulation, "world_size": plan.world_size}
    more = {"num_epochs": plan.num_epochs, "seed": sampler._seed, "phase": sampler.course}
    return HybridBatchSampler(sampler.entries, **{**options, **more, **changes})  # type: ignore[arg-type]


def entries_of(batches: list[Any]) -> list[int]:
    """Entries of batches in order, without fillers."""
    items = [item if isinstance(item, tuple) else (item,) for batch in batches for item in batch]
    return [entry for item in items for entry in item if entry >= 0]


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
