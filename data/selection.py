"""Which samples are used, held out and trained: shares drawn by seed over whole conversations and sections, the mix on top.

Guarantee: a conversation, or a section of a text, is used or left out, trained or held out as a whole. Only where a source has too few
of them for the share are single blocks drawn instead; then an overlap block stays only where the blocks on both sides of it do, so that
nothing held out is trained. What is held out is decided before mixing: no repetition of a sample is on both sides.
Price: some bytes of numbers a sample; tokens are not touched.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Units:
    """What belongs together, of every stored sample in order.

    Attributes:
        source: number of the origin, shape (samples,).
        unit: number of the conversation or section, shape (samples,); never shared by two sources.
        overlap: blocks that only repeat their neighbours' text, shape (samples,).
    """

    source: np.ndarray
    unit: np.ndarray
    overlap: np.ndarray


@dataclass(frozen=True)
class Choice:
    """What becomes of the stored samples.

    Attributes:
        used: within the shares that are used, shape (samples,), bool.
        trained: used and not held out, shape (samples,), bool.
        entries: stored samples in the order of the mix, repeats included, shape (entries,).
        held_out: stored samples for evaluation.
    """

    used: np.ndarray
    trained: np.ndarray
    entries: np.ndarray
    held_out: np.ndarray


def use_shares(units: Units, shares: Sequence[float], seed: int) -> np.ndarray:
    """Samples that are used, shape (samples,), bool: of each source its share.

    Args:
        units: of all samples.
        shares: part of each source, above 0, at most 1.
        seed: decides which.
    """
    used = np.ones(len(units.source), dtype=bool)
    for number, share in enumerate(shares):
        own = np.flatnonzero(units.source == number)
        if share < 1 and len(own):
            used[own] = _drawn(units, own, share, np.random.default_rng([seed, 0, number]), at_least=1)[0]
    return used


def hold_out(units: Units, candidates: np.ndarray, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Divide the samples that are used into trained and held-out ones.

    Args:
        units: of all samples.
        candidates: samples that are used, shape (samples,), bool.
        share: part of each source that is held out.
        seed: decides which.

    Returns:
        Two arrays of shape (samples,), bool: trained, held out. Overlap blocks at the border between both are in neither.

    Raises:
        ValueError: there is only one sample.
    """
    sources = np.unique(units.source[candidates]).tolist()
    places = {number: np.flatnonzero(candidates & (units.source == number)) for number in sources}
    largest = max(sources, key=lambda number: (_num_drawable(units, places[number], share), -number))
    held_out, trained = np.zeros(len(candidates), dtype=bool), candidates.copy()
    is_any = any(round(_num_drawable(units, own, share) * share) for own in places.values())
    for number, own in places.items():
        at_least = int(not is_any and number == largest)
        chosen, whole = _drawn(units, own, share, np.random.default_rng([seed, 1, number]), at_least=at_least, leave=1)
        held_out[own] = chosen
        trained[own] = whole & ~chosen
    if not held_out.any() or not trained.any():
        raise ValueError(
            f"Evaluation share: there is only one sample, so none can be held out. Got: {share}. Set it to 0 or add data."
        )
    return trained, held_out


def _num_drawable(units: Units, own: np.ndarray, share: float) -> int:
    """Conversations and sections of a source; its blocks, where those are too few for the share."""
    number = len(np.unique(units.unit[own]))
    return number if number * share >= 1 else int((~units.overlap[own]).sum())


def _drawn(
    units: Units, own: np.ndarray, share: float, rng: np.random.Generator, *, at_least: int, leave: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Draw a share of a source.

    Args:
        own: places of the source's samples.
        at_least: fewest that are drawn.
        leave: fewest that are not drawn.

    Returns:
        Two arrays of shape (own,), bool: drawn; and False for overlap blocks at the border of drawn and not drawn.
    """
    unit, overlap = units.unit[own], units.overlap[own]
    names = np.unique(unit)
    if len(names) * share >= 1:
        number = min(max(at_least, round(len(names) * share)), len(names) - leave)
        return np.isin(unit, rng.permutation(names)[:number]), np.ones(len(own), dtype=bool)
    blocks = np.flatnonzero(~overlap)
    number = max(0, min(max(at_least, round(len(blocks) * share)), len(blocks) - leave))
    chosen = np.zeros(len(own), dtype=bool)
    chosen[rng.permutation(blocks)[:number]] = True
    before, behind = _nearest_blocks(unit, overlap)
    same = chosen[before] == chosen[behind]
    return np.where(overlap, same & chosen[before], chosen), ~overlap | same


def _nearest_blocks(unit: np.ndarray, overlap: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each sample the places of the blocks of its section before and behind it that are no overlaps; the other one at an end."""
    places = np.arange(len(unit))
    before = np.maximum.accumulate(np.where(overlap, -1, places))
    behind = np.minimum.accumulate(np.where(overlap, len(unit), places)[::-1])[::-1]
    no_before = (before < 0) | (unit[np.maximum(before, 0)] != unit)
    no_behind = (behind == len(unit)) | (unit[np.minimum(behind, len(unit) - 1)] != unit)
    first = np.where(no_before, behind, before)
    last = np.where(no_behind, before, behind)
    alone = no_before & no_behind
    return np.where(alone, places, first), np.where(alone, places, last)
