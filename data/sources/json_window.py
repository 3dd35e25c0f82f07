"""A stretch of a long text that moves forward: positions count from the text's beginning, memory holds the stretch only.

Guarantee: lines and columns are those of the whole text. Price: what a caller has left behind is gone; a value that is longer than the
window makes it grow until the value fits.
"""

from __future__ import annotations

from typing import TextIO

PIECE_CHARS = 1 << 20


class Window:
    """A text that is read piece by piece.

    Args:
        stream: the text, from its beginning.
        piece_chars: characters read at once.

    Attributes:
        text: what is held.
        base: position of its first character.
        is_complete: the text's end is in it.
        last_char: the last character so far that is not blank.
    """

    def __init__(self, stream: TextIO, piece_chars: int = PIECE_CHARS) -> None:
        self._stream = stream
        self._piece_chars = piece_chars
        self._line, self._known = 1, 0  # the line of one position
        self._line_begin = 0  # where the line of `base` begins
        self.text, self.base = "", 0
        self.is_complete = False
        self.last_char = ""
        self.fill()

    @property
    def end(self) -> int:
        """Position behind what is held."""
        return self.base + len(self.text)

    def fill(self) -> bool:
        """Hold more; at least as much again, so that a long value is not decoded once for each piece. False at the end."""
        if self.is_complete:
            return False
        more = self._stream.read(max(self._piece_chars, len(self.text)))
        self.is_complete = not more
        self.text += more
        self.last_char = more.rstrip()[-1:] or self.last_char
        return bool(more)

    def drop(self, position: int) -> None:
        """Forget what stands before a position, if that is a piece at least."""
        assert position <= self.end, "a position that was not read"
        if position - self.base >= self._piece_chars:
            self.line_of(position)
            newline = self.text.rfind("\n", 0, position - self.base)
            self._line_begin = self._line_begin if newline < 0 else self.base + newline + 1
            self.text, self.base = self.text[position - self.base :], position

    def skip_to(self, position: int) -> None:
        """Read on to a position and forget what stands before it."""
        while position > self.end and not self.is_complete:
            self.drop(self.end)
            self.fill()
        self.drop(min(position, self.end))

    def has(self, position: int) -> bool:
        """Whether there is a character at a position; reads on to it."""
        while position >= self.end:
            if not self.fill():
                return False
        return True

    def char(self, position: int) -> str:
        """The character at a position; empty behind the end."""
        return self.text[position - self.base] if self.has(position) else ""

    def line_of(self, position: int) -> int:
        """The 1-based line of a position in the window; quick for rising positions."""
        known, here = self._known - self.base, position - self.base
        if here < known:
            return self._line - self.text.count("\n", here, known)
        self._line, self._known = self._line + self.text.count("\n", known, here), position
        return self._line

    def column_of(self, position: int) -> int:
        """The 1-based column of a position in the window."""
        newline = self.text.rfind("\n", 0, position - self.base)
        return position - (self._line_begin if newline < 0 else self.base + newline + 1) + 1


def has_inner_newline(stream: TextIO, piece_chars: int = PIECE_CHARS) -> bool:
    """Whether there is a line break between the first and the last character that are not blank; reads as far as needed."""
    begun = broken = False
    while piece := stream.read(piece_chars):
        if broken and piece.strip():
            return True
        if not begun:
            piece = piece.lstrip()
            begun = bool(piece)
        body = piece.rstrip()
        if "\n" in body:
            return True
        broken = broken or (begun and "\n" in piece[len(body) :])
    return False
