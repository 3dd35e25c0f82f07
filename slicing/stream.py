"""A text that is read once, from its start to its end, in pieces of any size.

Guarantee: at any time only the stretch that is still needed is in memory (of a text that came whole: the text itself).
Price: offsets count from the start of the text, so every look into it subtracts the offset of what is held.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

READ_CHARS = 1 << 16  # from a file at once
HELD_CHARS = 1 << 18  # that are done with, before they are let go together


class Readable(Protocol):
    """A file opened in text mode, or what reads like one."""

    def read(self, size: int, /) -> str:
        """At most ``size`` characters; none at the end."""
        ...


TextLike = str | Readable | Iterable[str]


class Source:
    """The stretch of a text that is held: ``text[0]`` stands at ``offset`` in the whole text.

    Args:
        text: the text, a file opened in text mode, or pieces of the text in order.
    """

    def __init__(self, text: TextLike) -> None:
        self.offset = 0
        self.text = text if isinstance(text, str) else ""
        self.ended = isinstance(text, str)  # whether the end of the text is held
        self._whole = self.ended
        self._pieces = iter(()) if isinstance(text, str) else _pieces(text)

    @property
    def end(self) -> int:
        """Offset behind what is held."""
        return self.offset + len(self.text)

    def read_to(self, end: int) -> None:
        """Hold the text up to ``end``, or up to its end."""
        pieces, missing = [self.text], end - self.end
        while missing > 0 and not self.ended:
            piece = next(self._pieces, None)
            if piece is None:
                self.ended = True
            elif isinstance(piece, str):
                pieces.append(piece)
                missing -= len(piece)
            else:
                raise TypeError(
                    f"The pieces of a text must be str, but one is {type(piece).__name__}: open the file in text mode."
                )
        if len(pieces) > 1:
            self.text = "".join(pieces)

    def drop(self, start: int) -> None:
        """Let go of what lies before ``start``, if the text came in pieces and it is much."""
        if not self._whole and start > self.offset + HELD_CHARS:
            self.text = self.text[start - self.offset :]
            self.offset = start

    def slice(self, start: int, end: int) -> str:
        """``text[start:end]`` of the whole text."""
        return self.text[start - self.offset : end - self.offset]


def _pieces(text: Readable | Iterable[str]) -> Iterator[str]:
    read = getattr(text, "read", None)
    if read is None:
        assert isinstance(text, Iterable)
        return iter(text)
    return iter(lambda: read(READ_CHARS), "")
