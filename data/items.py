"""What a sampler yields and :class:`data.collate.Samples` takes: plain tuples, so that batching makes them without importing this room.

    7                          entry 7; -1 - 7 is the filler of the same tokens
    (7, 8, 9)                  neighbours of one conversation, or of one section of a text, as one sample that trains all of them
    ("context", (7, 8), 9)     one sample that trains entry 9 only, with 7 and 8 before it
    ("pack", (7, (8, 9)))      several of these in one row

Entries are numbers as the run counts them: places in ``Prepared.lengths``. Guarantee: items are hashable and picklable. Price: none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

CONTEXT, PACK = "context", "pack"
Item = int | tuple[Any, ...]


def joined(entries: Sequence[int]) -> Item:
    """Neighbours as one sample that trains all of them; one alone is itself."""
    return entries[0] if len(entries) == 1 else tuple(entries)


def with_context(context: Sequence[int], entry: int) -> Item:
    """One sample that trains an entry and shows those before it."""
    return (CONTEXT, tuple(context), entry) if context else entry


def packed(items: Sequence[Item]) -> Item:
    """Several items in one row."""
    return (PACK, tuple(items))


def is_context(item: Any) -> bool:
    """Whether an item is one entry with context."""
    return isinstance(item, tuple) and len(item) == 3 and item[0] == CONTEXT


def is_pack(item: Any) -> bool:
    """Whether an item is a row of several."""
    return isinstance(item, tuple) and len(item) == 2 and item[0] == PACK


def trained_entries(item: Any) -> list[int]:
    """The entries that an item trains, in order; none of a filler.

    >>> trained_entries(("pack", (7, (8, 9), ("context", (1, 2), 3), -1)))
    [7, 8, 9, 3]
    """
    if is_pack(item):
        return [entry for part in item[1] for entry in trained_entries(part)]
    if is_context(item):
        return [int(item[2])]
    return [int(entry) for entry in (item if isinstance(item, tuple) else (item,)) if entry >= 0]
