"""Entries to batches: the whole run as one planned sequence.

What it does: orders the entries of every epoch, cuts them into batches, and knows before the run how many optimizer steps each epoch
has. One sampler serves all ranks: rank r takes every world-size-th batch.

Guarantee: the order is a pure function of (entries, seed, epoch); no global random state is read or changed. In an epoch every entry
is trained exactly once. Every epoch is a whole number of accumulation windows (accumulation x world size batches), so no gradient is
left over, an optimizer step belongs to one epoch, and a resumed run meets the same batches. Price: a few batches of the last windows
of an epoch are smaller than the batch size.

How the end of an epoch is cut, batch size 4, accumulation 2 (letters are entries, | separates batches, || windows)::

    abcd|efgh || ijkl|m...   5 entries are left for 2 batches:  abcd|efgh || ijk|lm
    abcd|efgh || i...        1 entry for 2 batches: the last two windows are shared evenly:  abc|de || fg|hi
    a|b || c|-               batch size 1, nothing to share: a filler (negative index, no label) completes the window
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Any

import numpy as np

Order = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def shuffled(lengths: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Entries in an order of their own each epoch."""
    return rng.permutation(len(lengths))


# name on the form -> order of the entries of one epoch
PHASES: dict[str, Order] = {"shuffled": shuffled}


def fit_accumulation(num_entries: int, batch_size: int, accumulation: int, world_size: int = 1) -> int:
    """Gradient accumulation that the data can fill: lowered if one step would need more entries than there are."""
    return max(1, min(accumulation, num_entries // (batch_size * world_size)))


def cut_batches(order: Sequence[int], batch_size: int, window: int, filler: int) -> list[list[int]]:
    """Cut an order into batches, a whole number of windows of them.

    Args:
        order: entries in the order in which they are trained.
        batch_size: most entries of a batch.
        window: batches of one optimizer step, over all ranks.
        filler: entry that completes a window where entries run out; it appears as ``-1 - filler``.

    Returns:
        Batches; each entry stands in exactly one, no batch is empty or larger than ``batch_size``.
    """
    entries = [int(entry) for entry in order]
    per_window = batch_size * window
    num_full, rest = divmod(len(entries), per_window)
    num_batches = window if rest else 0
    if 0 < rest < window and num_full and per_window + rest >= 2 * window:
        num_full, num_batches = num_full - 1, 2 * window
    head, tail = entries[: num_full * per_window], entries[num_full * per_window :]
    batches = [head[start : start + batch_size] for start in range(0, len(head), batch_size)]
    batches += _share_evenly(tail, num_batches)
    return [batch or [-1 - filler] for batch in batches]


def _share_evenly(entries: list[int], num_parts: int) -> list[list[int]]:
    """Parts whose sizes differ by at most one, larger ones first; empty parts where entries run out."""
    if not num_parts:
        return []
    size, larger = divmod(len(entries), num_parts)
    borders = [0, *accumulate(size + (part < larger) for part in range(num_parts))]
    return [entries[start:end] for start, end in zip(borders, borders[1:], strict=False)]


@dataclass(frozen=True)
class RunPlan:
    """The whole run before it starts.

    Attributes:
        steps_per_epoch: optimizer steps of each epoch; the last may be a part of one.
        epoch_sizes: length of each epoch in epochs: 1.0, or the part that is left for the last.
        accumulation: batches of one optimizer step on one rank.
        world_size: ranks.
        batch_size: most entries of a batch.
        num_entries: entries of an epoch.
    """

    steps_per_epoch: tuple[int, ...]
    epoch_sizes: tuple[float, ...]
    accumulation: int
    world_size: int
    batch_size: int
    num_entries: int

    @cached_property
    def epoch_ends(self) -> tuple[int, ...]:
        """Optimizer step after which each epoch is over."""
        return tuple(accumulate(self.steps_per_epoch))

    @property
    def num_steps(self) -> int:
        """Optimizer steps of the run."""
        return self.epoch_ends[-1]

    @property
    def num_epochs(self) -> float:
        """Epochs of the run."""
        return sum(self.epoch_sizes)

    @property
    def num_batches(self) -> int:
        """Batches of the run, over all ranks."""
        return self.num_steps * self.accumulation * self.world_size

    def epoch_at(self, step: float) -> float:
        """Progress after ``step`` optimizer steps: epochs done plus the share of the current epoch's planned steps."""
        index = min(bisect_right(self.epoch_ends, step), len(self.epoch_ends) - 1)
        start = self.epoch_ends[index - 1] if index else 0
        share = min((step - start) / self.steps_per_epoch[index], 1.0)
        return sum(self.epoch_sizes[:index]) + share * self.epoch_sizes[index]


class HybridBatchSampler:
    """Batches of the whole run, all epochs in one sequence, for all ranks.

    Args:
        lengths: tokens of each entry.
        batch_size: most entries of a batch (True Batch Size).
        num_epochs: epochs; a part such as 0.5 takes the first half of that epoch's order.
        accumulation: batches of one optimizer step on one rank (see :func:`fit_accumulation`).
        world_size: ranks.
        seed: decides every order, together with the epoch.
        phase: name in :data:`PHASES`.

    Raises:
        ValueError: no entries, or an unknown phase.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        *,
        batch_size: int,
        num_epochs: float = 1.0,
        accumulation: int = 1,
        world_size: int = 1,
        seed: int = 0,
        phase: str = "shuffled",
    ) -> None:
        if not len(lengths):
            raise ValueError("Data set: there are no samples to make batches of. Check the data.")
        if phase not in PHASES:
            raise ValueError(f"Batching mode: {phase!r} is unknown. Choose from {', '.join(PHASES)}.")
        self._lengths = np.asarray(lengths)
        self._order = PHASES[phase]
        self._seed = seed
        self._window = accumulation * world_size
        self._filler = int(self._lengths.argmin())
        self._position = 0
        self.batch_size = None  # batches differ in size: accelerate must not complete them
        self.drop_last = False
        self.plan = self._make_plan(batch_size, num_epochs, accumulation, world_size)

    def _make_plan(self, batch_size: int, num_epochs: float, accumulation: int, world_size: int) -> RunPlan:
        whole = int(num_epochs)
        part = num_epochs - whole
        sizes = (1.0,) * whole + ((part,) if part > 1e-9 else ())
        num_entries = len(self._lengths)
        dummy = range(num_entries)
        steps = {
            size: len(cut_batches(dummy[: _part_of(num_entries, size)], batch_size, self._window, 0)) // self._window
            for size in set(sizes)
        }
        return RunPlan(tuple(steps[size] for size in sizes), sizes, accumulation, world_size, batch_size, num_entries)

    def epoch_batches(self, epoch: int) -> list[list[int]]:
        """All batches of one epoch (counted from 0), in order."""
        order = self._order(self._lengths, np.random.default_rng([self._seed, epoch]))
        order = order[: _part_of(len(order), self.plan.epoch_sizes[epoch])]
        return cut_batches(order.tolist(), self.plan.batch_size, self._window, self._filler)

    def __len__(self) -> int:
        return self.plan.num_batches

    def __iter__(self) -> Iterator[list[int]]:
        start, self._position = self._position, 0
        position = 0
        for epoch, num_steps in enumerate(self.plan.steps_per_epoch):
            num_batches = num_steps * self._window
            if start >= position + num_batches:
                position += num_batches
                continue
            yield from self.epoch_batches(epoch)[max(0, start - position) :]
            position += num_batches

    def state_dict(self, batches_done: int) -> dict[str, Any]:
        """What is needed to go on after ``batches_done`` batches (counted over all ranks)."""
        return {"batches_done": batches_done, "seed": self._seed, "num_entries": len(self._lengths)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Let the next iteration begin where the state was taken.

        Raises:
            ValueError: the state belongs to other data or another seed.
        """
        for key, present, label in (("seed", self._seed, "Seed"), ("num_entries", len(self._lengths), "number of samples")):
            if state[key] != present:
                raise ValueError(f"Resume: the {label} was {state[key]}, now it is {present}. Use the same data and seed.")
        self._position = int(state["batches_done"])


def _part_of(num_entries: int, size: float) -> int:
    """Entries of an epoch of which only a part is trained; at least one."""
    return num_entries if size >= 1 else max(1, round(num_entries * size))
