"""Neighbours as one sample: how long it is, and its tokens.

How a longer sample is made (H head, T tail, P part; `data.sample.Joint` says which way a sample goes)::

    APPEND     H P1 T  +  H P2 T  +  H P3 T   ->   H P1 P2 P3 T        parts may be written otherwise than alone: then they are stored
    PRECEDE    H L1    +  H L2    +  H L3     ->   H P1 P2 L3          L is the sample without its head, P what it is before others
    ANEW       the longer samples themselves are stored with the first of them (with context: with the last)

Guarantee: what comes out equals the chat template's rendering of those messages (data.samples.exchange has proved it), or the text from
the first block's beginning to the last one's end, nothing twice and nothing lost. Lengths are known without touching a token.
Price: about 30 bytes a stored sample; a length is a few look-ups.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from ..sample import ALONE, ANEW, APPEND, PRECEDE, Joint

COLUMNS = ("input_ids", "labels", "way", "context", "head", "tail", "part", "more_ids", "more_labels")


class Joins:
    """Lengths of joined samples; entries are places in ``Prepared.lengths``.

    Args:
        entries: stored sample of each entry, shape (entries,).
        lengths: tokens of each stored sample, shape (samples,).
        numbers: columns of the stored samples (see data.stored): way, context, head, tail, part, most, group, place, overlap.
        more_lengths: tokens of the samples that were made anew: (borders of shape (samples + 1,), lengths).
        cutoff: longest sample, in tokens.
    """

    def __init__(
        self,
        entries: np.ndarray,
        lengths: np.ndarray,
        numbers: dict[str, np.ndarray],
        more_lengths: tuple[np.ndarray, np.ndarray],
        cutoff: int,
    ) -> None:
        self._entries, self._cutoff = entries, cutoff
        self._numbers, self._more = numbers, more_lengths
        self._num = len(lengths)
        self._lengths = lengths

    @property
    def can_join(self) -> bool:
        """Whether any sample can be joined with a neighbour, or have it as context."""
        return self._with_overlaps.are_any or self._without_overlaps.are_any

    def join_length(self, first: int, count: int, *, skip_overlaps: bool = False) -> int | None:
        """Tokens of an entry and the ``count - 1`` that follow it in its group as one sample that trains all of them.

        Args:
            first: the entry.
            count: entries of the sample.
            skip_overlaps: those that follow are counted without overlap blocks, which are never joined themselves.

        Returns:
            None if it is longer than the cutoff, or if no single rendering trains all of them.
        """
        return self._chains(skip_overlaps).joined(int(self._entries[first]), count)

    def context_length(self, entry: int, count: int) -> int | None:
        """Tokens of the sample that trains an entry and shows the ``count`` entries before it in its group.

        Returns:
            None if it is longer than the cutoff, or if they can be trained together (:meth:`join_length`), or not shown at all.
        """
        return self._chains(False).in_context(int(self._entries[entry]), count)

    def _chains(self, skip_overlaps: bool) -> _Chains:
        return self._without_overlaps if skip_overlaps else self._with_overlaps

    @cached_property
    def _with_overlaps(self) -> _Chains:
        return self._chains_of(np.arange(self._num))

    @cached_property
    def _without_overlaps(self) -> _Chains:
        return self._chains_of(np.flatnonzero(~self._numbers["overlap"]))

    def _chains_of(self, rows: np.ndarray) -> _Chains:
        return _Chains(rows, self._lengths, self._numbers, self._more, self._cutoff)


class _Chains:
    """Some stored samples in order, and which of them follow each other. Numbers are read one by one: memoryviews give them quickest."""

    def __init__(
        self,
        rows: np.ndarray,
        lengths: np.ndarray,
        numbers: dict[str, np.ndarray],
        more: tuple[np.ndarray, np.ndarray],
        cutoff: int,
    ) -> None:
        way, group, place, part = (numbers[name][rows] for name in ("way", "group", "place", "part"))
        follows = np.zeros(len(rows), dtype=bool)
        follows[1:] = (np.diff(group) == 0) & (np.diff(place) == np.diff(rows)) & (way[1:] != ALONE) & (way[1:] == way[:-1])
        follows &= (way != APPEND) | (part > 0)
        self._cutoff = cutoff
        self.are_any = bool(follows.any())
        # a part is added to what stands before it (APPEND), or to what comes behind it (PRECEDE)
        sums = np.concatenate(([0], np.cumsum(part, dtype=np.int64)))
        self._number = _view(np.searchsorted(rows, np.arange(len(lengths))) if len(rows) < len(lengths) else rows)
        self._num = len(rows)
        self._rows, self._way, self._chain = _view(rows), _view(way), _view(np.cumsum(~follows))
        self._lengths, self._sums = _view(lengths[rows]), _view(sums)
        self._most, self._tail = (_view(numbers[name][rows]) for name in ("most", "tail"))
        self._context = _view(numbers["context"][rows])
        self._borders, self._more = _view(more[0]), _view(more[1])

    def joined(self, row: int, count: int) -> int | None:
        first = self._number[row]
        if first == self._num or self._rows[first] != row:
            return None  # an overlap block where those are skipped
        last = first + count - 1
        if count == 1:
            return int(self._lengths[first])
        if last >= self._num or self._chain[last] != self._chain[first] or self._context[first]:
            return None
        most = self._most[first]
        if most and count > most:
            return None
        way = self._way[first]
        if way == APPEND:
            parts = self._sums[last + 1] - self._sums[first + 1]
            length = self._lengths[first] - self._tail[first] + parts + self._tail[last]
        elif way == PRECEDE:
            length = self._lengths[last] + self._sums[last] - self._sums[first]
        else:
            length = self._more[self._borders[row] + count - 2]
        return int(length) if length <= self._cutoff else None

    def in_context(self, row: int, count: int) -> int | None:
        last = self._number[row]
        first = last - count
        if first < 0 or count < 1 or count > self._most[last]:
            return None
        if self._chain[first] != self._chain[last] or not self._context[last]:
            return None
        if self._way[last] == PRECEDE:
            length = self._lengths[last] + self._sums[last] - self._sums[first]
        else:
            length = self._more[self._borders[row] + count - 1]
        return int(length) if length <= self._cutoff else None


def _view(values: np.ndarray) -> Any:
    array: Any = np.ascontiguousarray(values, dtype=np.int64)
    return memoryview(array)


# --- tokens --------------------------------------------------------------------------------------------------------------------


class Stored(NamedTuple):
    """A stored sample with what joins it; arrays are int32 of shape (tokens,)."""

    ids: np.ndarray
    labels: np.ndarray
    joint: Joint

    @property
    def part(self) -> tuple[np.ndarray, np.ndarray]:
        """Its part: stored, or a slice of the sample."""
        joint = self.joint
        if joint.more:
            return joint.more[0]
        own = slice(joint.head, joint.head + joint.part)
        return self.ids[own], self.labels[own]


Tokens = tuple[np.ndarray, np.ndarray]  # ids and labels


def read_stored(dataset: Any, entries: Sequence[int]) -> list[Stored]:
    """Samples of a dataset of data.stored.

    Args:
        dataset: with the format ``arrow`` and :data:`COLUMNS`.
        entries: their numbers in it.
    """
    table = dataset[[int(entry) for entry in entries]].combine_chunks()
    columns = {name: table[name] for name in COLUMNS}
    numbers = [columns[name].to_pylist() for name in ("way", "context", "head", "tail", "part")]
    found = []
    for number, values in enumerate(zip(*numbers, strict=True)):
        more = tuple(zip(*(_arrays(columns[name][number].values) for name in ("more_ids", "more_labels")), strict=True))
        ids, labels = (columns[name][number].values.to_numpy() for name in ("input_ids", "labels"))
        found.append(Stored(ids, labels, Joint(*values)._replace(more=more)))
    return found


def _arrays(lists: Any) -> list[np.ndarray]:
    return [one.values.to_numpy() for one in lists]


def join(samples: Sequence[Stored]) -> Tokens:
    """Neighbours as one sample that trains all of them.

    Raises:
        ValueError: they cannot be joined.
    """
    first, last = samples[0], samples[-1]
    if len(samples) == 1:
        return first.ids, first.labels
    _check(samples, first.joint, False)
    if first.joint.way == ANEW:
        return first.joint.more[len(samples) - 2]
    if first.joint.way == PRECEDE:
        return _with_last([sample.part for sample in samples[:-1]], last)
    begin, end = slice(0, len(first.ids) - first.joint.tail), slice(len(last.ids) - last.joint.tail, None)
    parts = [sample.part for sample in samples[1:]]
    return _together([(first.ids[begin], first.labels[begin]), *parts, (last.ids[end], last.labels[end])])


def in_context(context: Sequence[Stored], sample: Stored) -> Tokens:
    """One sample behind others that are not trained.

    Raises:
        ValueError: they cannot be its context.
    """
    if not context:
        return sample.ids, sample.labels
    _check([*context, sample], sample.joint, True)
    if sample.joint.way == ANEW:
        return sample.joint.more[len(context) - 1]
    return _with_last([before.part for before in context], sample)  # parts of such samples have no labels


def _with_last(parts: list[Tokens], last: Stored) -> Tokens:
    head = last.joint.head
    return _together([(last.ids[:head], last.labels[:head]), *parts, (last.ids[head:], last.labels[head:])])


def _together(parts: Sequence[Tokens]) -> Tokens:
    return np.concatenate([ids for ids, _ in parts]), np.concatenate([labels for _, labels in parts])


def _check(samples: Sequence[Stored], joint: Joint, context: bool) -> None:
    ways = {(sample.joint.way, sample.joint.context) for sample in samples}
    is_missing = joint.way == ANEW and len(joint.more) < len(samples) - 1
    if ways != {(joint.way, context)} or joint.way == ALONE or is_missing:
        what = "be the context of each other" if context else "be one sample"
        raise ValueError(f"Samples: {len(samples)} entries cannot {what}; ask Joins for the length first.")
