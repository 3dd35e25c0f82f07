"""Where a rendered conversation may be cut and put together again without changing a token.

What it does: a tokenizer takes the added tokens out of a text first, and makes tokens of each piece between them alone. So the tokens
behind an added token do not depend on what stands before it, nor those before it on what stands behind, as long as no other added token
lies across the place and none swallows white space there.

Guarantee: where :meth:`Borders.safe` holds, ids(left + right) = ids(left) + ids(right) (tokens of right as they are behind something).
Anything else is not safe: slow tokenizers, tokens that are only found in normalised text, tokens that strip. Price: some look-ups.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class Borders:
    """The added tokens of a tokenizer, as cuts."""

    def __init__(self, tokenizer: Any) -> None:
        self._ids: dict[str, int] = {}  # tokens that part a text wherever they stand
        found: set[str] = set()
        if getattr(tokenizer, "is_fast", False) and not getattr(tokenizer, "split_special_tokens", False):
            for number, token in tokenizer.added_tokens_decoder.items():
                if token.content and not token.normalized:
                    found.add(token.content)
                    if not (token.lstrip or token.rstrip or token.single_word):
                        self._ids[token.content] = int(number)
        self._found = found
        self._lengths = sorted({len(token) for token in found}, reverse=True)
        self._beginnings = frozenset(token[:count] for token in found for count in range(1, len(token)))
        self._longest = self._lengths[0] if found else 0

    def safe(self, left: str, right: str) -> bool:
        """Whether the tokens of a text may be cut between these two parts; an empty part needs no cut."""
        if not left or not right:
            return True
        return bool(self.opens(right) or self._closes(left)) and not self._crossed(left, right)

    def opens(self, text: str) -> bool:
        """Whether a text begins with a token that is found there whatever stands before."""
        return self._token(text[: self._longest], True) in self._ids

    def holds(self, ids: Sequence[int], place: int, left: str, right: str) -> bool:
        """Whether the tokens of a text show the cut that :meth:`safe` promises, before token ``place``."""
        if not left or not right:
            return True
        opening = self._ids.get(self._token(right[: self._longest], True), -1)
        closing = self._ids.get(self._token(left[-self._longest :], False), -1)
        return (0 <= place < len(ids) and ids[place] == opening) or (0 < place <= len(ids) and ids[place - 1] == closing)

    def places(self, text: str) -> list[int]:
        """Characters of a text beside such a token, last first: where it may be cut, as far as it alone can say."""
        found: set[int] = set()
        for token in self._ids:
            start = text.find(token)
            while start >= 0:
                found |= {start, start + len(token)}
                start = text.find(token, start + 1)
        return sorted(found, reverse=True)

    def _closes(self, text: str) -> bool:
        return self._token(text[-self._longest :], False) in self._ids if self._longest else False

    def _token(self, text: str, at_start: bool) -> str:
        """The longest added token with which a text begins, or ends."""
        for length in self._lengths:
            piece = text[:length] if at_start else text[-length:]
            if piece in self._found:
                return piece
        return ""

    def _crossed(self, left: str, right: str) -> bool:
        """Whether an added token begins in one part and ends in the other."""
        for count in range(1, min(self._longest, len(left) + 1)):
            beginning = left[-count:]
            if beginning in self._beginnings and any(
                token.startswith(beginning) and right.startswith(token[count:]) for token in self._found if len(token) > count
            ):
                return True
        return False
