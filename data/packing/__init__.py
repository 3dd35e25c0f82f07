"""Samples to packs: which samples share one row, so that a row of the cutoff's length is full of tokens.

What it does: :data:`PACKERS` are pure functions of the samples' lengths (and, for ``related``, of vectors of their content) and the
seed. A pack is a list of sample numbers; it becomes one row in data.collate, and the sampler shuffles the packs each epoch.

Guarantee: every sample stands in exactly one pack, whole; the lengths of a pack add up to at most the capacity; the same input and
seed give the same packs. Price: see each packer. ``fill`` is the share of the capacity that holds tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    Lengths = Sequence[int] | np.ndarray

Packs = list[list[int]]
Packer = Callable[..., Packs]
Progress = Callable[[float, str], None]


@dataclass(frozen=True)
class Packing:
    """Packs and what there is to say about them.

    Attributes:
        packs: numbers of the samples of each pack.
        lengths: tokens of each pack.
        capacity: tokens that a pack can hold.
        num_fallbacks: samples that ``related`` had to place though none was far enough from the last ones.
    """

    packs: Packs
    lengths: list[int]
    capacity: int
    num_fallbacks: int = 0

    @property
    def num_samples(self) -> int:
        """Samples in all packs."""
        return sum(map(len, self.packs))

    @property
    def fill(self) -> float:
        """Share of the capacity of all packs that holds tokens; 0 if there is no pack."""
        return sum(self.lengths) / max(1, self.capacity * len(self.packs))

    def lines(self) -> list[str]:
        """The packs in short sentences, for the report."""
        lines = [f"{self.num_samples} samples in {len(self.packs)} packs of at most {self.capacity} tokens, {self.fill:.1%} full"]
        if self.num_fallbacks:
            share = self.num_fallbacks / max(1, self.num_samples)
            lines.append(
                f"{self.num_fallbacks} samples ({share:.0%}) follow a nearer one than Distance of related samples asks for: "
                f"none was far enough"
            )
        return lines


def pack(
    name: str,
    lengths: Lengths,
    capacity: int,
    *,
    seed: int = 0,
    vectors: np.ndarray | None = None,
    threshold: float = 0.3,
    window: int = 4,
    progress: Progress | None = None,
) -> Packing:
    """Pack by the name of a packer, and count.

    Args:
        name: in :data:`PACKERS`.
        lengths: tokens of each sample.
        capacity: tokens that a pack can hold (the cutoff).
        seed: decides everything that is left open.
        vectors: (samples, dimensions), for the packers in :data:`NEEDS_VECTORS`.
        threshold: ``related``: least cosine distance to each of the last picks, 0 to 2.
        window: ``related``: number of last picks that are looked at.
        progress: called as (share done, what) by packers that take long.

    Raises:
        ValueError: an unknown name, a sample that is longer than the capacity, or vectors that do not fit.
    """
    if name not in PACKERS:
        raise ValueError(f"Packing: {name!r} is unknown. Choose from {', '.join(PACKERS)}.")
    counts: dict[str, int] = {}
    options: dict[str, Any] = {"threshold": threshold, "window": window, "counts": counts, "progress": progress}
    tokens = [int(length) for length in lengths]
    packs = PACKERS[name](tokens, capacity, seed=seed, vectors=vectors, **options)
    pack_lengths = [sum(tokens[sample] for sample in samples) for samples in packs]
    return Packing(packs, pack_lengths, capacity, counts.get("fallbacks", 0))


def check_lengths(lengths: Lengths, capacity: int) -> None:
    """Refuse what no packer could place.

    Raises:
        ValueError: a sample is empty or longer than the capacity.
    """
    if not len(lengths):
        return
    longest, shortest = max(lengths), min(lengths)
    if longest > capacity:
        raise ValueError(
            f"Packing: the longest sample has {longest} tokens, a pack holds {capacity}. "
            f"Raise Maximum context length (Cutoff) to {longest}, or leave out samples that are longer."
        )
    if shortest < 1:
        raise ValueError(f"Packing: a sample has {shortest} tokens. Each sample needs at least one: leave empty ones out.")


# --- the packers ---------------------------------------------------------------------------------------------------------------


def none(lengths: Lengths, capacity: int, **options: Any) -> Packs:
    """Each sample alone::

        A A A | B | C C | D D D D          capacity 4: 4 packs

    Price: a row is as full as its sample is long.
    """
    check_lengths(lengths, capacity)
    return [[sample] for sample in range(len(lengths))]


def ordered(lengths: Lengths, capacity: int, **options: Any) -> Packs:
    """Neighbours are joined while they fit; the order of the data stays (next fit)::

        A A A | B C C . | D D D D          capacity 4: A has no room for B and is closed; B and C share a pack

    For data whose neighbours belong together. Price: with conversations of mixed length 5 to 25 % of the capacity stays empty.
    """
    check_lengths(lengths, capacity)
    packs: Packs = []
    space = 0
    for sample, length in enumerate(lengths):
        if length > space or not packs:
            packs.append([])
            space = capacity
        packs[-1].append(sample)
        space -= int(length)
    return packs


def best_fit(lengths: Lengths, capacity: int, *, seed: int = 0, **options: Any) -> Packs:
    """The fewest packs: best-fit decreasing over the whole data set::

        D D D D | A A A B | C C . .        capacity 4: the longest first, each to where the least space is left

    Equal lengths are dealt in an order that the seed draws, so who stands with whom says nothing about the order of the data.
    Price: neighbours in the data are torn apart; below a second for a million samples (see data.packing.bins).
    """
    from .bins import best_fit_packs

    check_lengths(lengths, capacity)
    return best_fit_packs(lengths, capacity, seed)


def related(
    lengths: Lengths,
    capacity: int,
    *,
    seed: int = 0,
    vectors: np.ndarray | None = None,
    threshold: float = 0.3,
    window: int = 4,
    counts: dict[str, int] | None = None,
    progress: Progress | None = None,
) -> Packs:
    """Samples on related subjects, but not the same again, share a pack that they all may look at (threshold-filtering packing)::

        cats  cats'  dogs  horses | boats  rivers ...       cats' says nearly the same as cats: it is passed over
        cats  dogs  horses        | boats  rivers  ...      and comes when the walk returns

    A walk goes from the last sample to the nearest unvisited one whose cosine distance to each of the last ``window`` picks is over
    ``threshold``; if there is none, to the nearest (counted as ``fallbacks`` in ``counts``). The walk is cut where a pack is full.
    Source: arXiv 2408.09327. Price: each sample is compared with each, so time grows with the square of their number (see
    data.packing.walk); packs are as full as those of ``ordered``.

    Raises:
        ValueError: a sample is too long, or the vectors are missing, of another number, or not finite.
    """
    from .walk import related_walk

    check_lengths(lengths, capacity)
    if vectors is None or len(vectors) != len(lengths):
        got = "none" if vectors is None else f"{len(vectors)} vectors for {len(lengths)} samples"
        raise ValueError(
            f"Packing: 'related' needs one vector for each sample. Got: {got}. Prepare the data again, or choose another Packing."
        )
    order, num_fallbacks = related_walk(vectors, seed=seed, threshold=threshold, window=window, progress=progress)
    if counts is not None:
        counts["fallbacks"] = num_fallbacks
    cut = ordered([int(lengths[sample]) for sample in order], capacity)
    return [[order[place] for place in places] for places in cut]


# name on the form -> packer(lengths, capacity, *, seed, vectors, threshold, window)
PACKERS: dict[str, Packer] = {"none": none, "ordered": ordered, "best_fit": best_fit, "related": related}
NEEDS_VECTORS = ("related",)
