"""Items as batching makes them, and what they train, for the tests of those who take them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from training_pro.data.items import CONTEXT, PACK, Item, is_context, is_pack


def joined(entries: Sequence[int]) -> Item:
    """Neighbours as one sample that trains all of them; one alone is itself."""
    return entries[0] if len(entries) == 1 else tuple(entries)


def with_context(context: Sequence[int], entry: int) -> Item:
    """One sample that trains an entry and shows those before it."""
    return (CONTEXT, tuple(context), entry) if context else entry


def packed(items: Sequence[Item]) -> Item:
    """Several items in one row."""
    return (PACK, tuple(items))


def trained_entries(item: Any) -> list[int]:
    """The entries that an item trains, in order; none of a filler."""
    if is_pack(item):
        return [entry for part in item[1] for entry in trained_entries(part)]
    if is_context(item):
        return [int(item[2])]
    return [int(entry) for entry in (item if isinstance(item, tuple) else (item,)) if entry >= 0]
