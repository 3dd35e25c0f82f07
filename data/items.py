"""What a sampler yields and :class:`data.collate.Samples` takes: plain tuples, so that batching makes them without importing this room.

    7                          entry 7; -1 - 7 is the filler of the same tokens
    (7, 8, 9)                  neighbours of one conversation, or of one section of a text, as one sample that trains all of them
    ("context", (7, 8), 9)     one sample that trains entry 9 only, with 7 and 8 before it
    ("pack", (7, (8, 9)))      several of these in one row

Entries are numbers as the run counts them: places in ``Prepared.lengths``. Guarantee: items are hashable and picklable. Price: none.
"""

from __future__ import annotations

from typing import Any

CONTEXT, PACK = "context", "pack"
Item = int | tuple[Any, ...]


def is_context(item: Any) -> bool:
    """Whether an item is one entry with context."""
    return isinstance(item, tuple) and len(item) == 3 and item[0] == CONTEXT


def is_pack(item: Any) -> bool:
    """Whether an item is a row of several."""
    return isinstance(item, tuple) and len(item) == 2 and item[0] == PACK
