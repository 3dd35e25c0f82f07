"""Training PRO's "Train only after": nothing up to and with the first place of a text is trained.

Guarantee: decided by characters, not by token ids: a text is found however it is tokenized. A token that holds the end of that text
and more behind it is not trained. A sample without the text is trained as if nothing were set, as Training PRO did, and counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def unescaped(text: str) -> str:
    r"""The text as the user means it: ``\n`` is a line break, ``\t`` a tabulator, ``\\`` a backslash.

    >>> unescaped("Response:\\n")
    'Response:\n'
    """
    kept = text.replace("\\\\", "\0")
    return kept.replace("\\n", "\n").replace("\\r", "\r").replace("\\t", "\t").replace("\0", "\\")


def place_after(text: str, marker: str) -> int | None:
    """The character behind the first place of the marker; None if it is not there.

    >>> place_after("Q: two\\nA: 2", "A:")
    9
    """
    start = text.find(marker)
    return None if start < 0 else start + len(marker)


def first_token_after(ids: Sequence[int], marker: str, tokenizer: Any) -> int | None:
    """The first token behind the marker, where only token ids are known: found by what the tokens say together.

    Args:
        ids: tokens of one text block.
        marker: the text, not empty.
        tokenizer: that made the ids.

    Returns:
        The smallest number of tokens whose text holds the marker; None if not even all of them do.
    """

    def holds(count: int) -> bool:
        return marker in tokenizer.decode(list(ids[:count]), skip_special_tokens=False, clean_up_tokenization_spaces=False)

    if not holds(len(ids)):
        return None
    low, high = 1, len(ids)
    while low < high:
        middle = (low + high) // 2
        if holds(middle):
            high = middle
        else:
            low = middle + 1
    return low
