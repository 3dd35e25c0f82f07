"""The tokens of a conversation, cut into the parts that its runs are made of.

Guarantee: a cut that the tokens themselves do not show (by the added token beside it) is told: ``hold`` is False. Price: slices.
"""

from __future__ import annotations

import numpy as np

from ..chat.tokens import IGNORE, Tokens
from ..sample import APPEND, PRECEDE, Joint
from .borders import Borders
from .runs import Shape


def places_of_parts(shape: Shape) -> list[int]:
    """Characters of the whole text at which parts begin and end, two for each entry (0 where it has none), behind the head's end."""
    return [len(shape.head), *(place for part in shape.parts for place in (part or (0, 0)))]


def cut_of_single(shape: Shape, text: str) -> int:
    """The character of an entry's own text at which its tail begins, or its head ends."""
    return len(text) - len(shape.tail) if shape.way == APPEND else len(shape.head)


class Pieces:
    """The tokens of a conversation, cut as a shape says.

    Args:
        shape: of its runs.
        tokens: of the whole text, and of each entry's own text if the shape has them; with the places that were asked for:
            :func:`places_of_parts` and then, for each entry, the character from which on it is trained; :func:`cut_of_single`.
        borders: of the tokenizer.
        marked: whether the text of Train only after is in each entry.

    Attributes:
        hold: the tokens show every cut.
        is_marked: the text of Train only after is in the entry.
    """

    def __init__(self, shape: Shape, tokens: list[Tokens], borders: Borders, marked: list[bool]) -> None:
        self.shape = shape
        self.is_marked = marked
        self._whole, *self._singles = tokens
        num = len(shape.parts)
        places = self._whole.places
        self._head, flat = places[0], places[1 : 1 + 2 * num]
        self._parts = [(flat[2 * entry], flat[2 * entry + 1]) for entry in range(num)]
        self._ids = np.asarray(self._whole.ids, dtype=np.int32)
        self._labels = np.full(len(self._ids), IGNORE, dtype=np.int32)
        self._whole.fill(self._labels)
        for (start, end), after in zip(self._parts, places[1 + 2 * num :], strict=True):
            self._labels[start : max(start, min(after, end))] = IGNORE
        self._tail = len(self._ids) - self._parts[-1][1] if shape.tail else 0
        self.hold = self._cuts_hold(borders)

    def _cuts_hold(self, borders: Borders) -> bool:
        shape, text = self.shape, self.shape.text
        cuts = [(len(shape.head), self._head)] if not shape.singles else []
        for part, cut in zip(shape.parts, self._parts, strict=True):
            cuts += zip(part, cut, strict=True) if part else []
        if not all(borders.holds(self._whole.ids, token, text[:place], text[place:]) for place, token in cuts):
            return False
        for single, tokens in zip(shape.singles, self._singles, strict=True):
            place = cut_of_single(shape, single)
            if not borders.holds(tokens.ids, tokens.places[0], single[:place], single[place:]):
                return False
        heads = {tuple(tokens.ids[: tokens.places[0]]) for tokens in self._singles} if shape.way == PRECEDE else ()
        return len(heads) < 2

    def _length(self, entry: int) -> int:
        """Tokens of an entry alone."""
        if self._singles:
            return len(self._singles[entry].ids)
        return self._head + self.part_length(entry) + self._tail

    def part_length(self, entry: int) -> int:
        """Tokens of an entry's part."""
        start, end = self._parts[entry]
        return end - start

    def run_length(self, first: int, last: int) -> int:
        """Tokens of a run."""
        if self.shape.way == APPEND:
            return self._length(first) + sum(map(self.part_length, range(first + 1, last + 1)))
        return self._length(last) + sum(map(self.part_length, range(first, last)))

    def single(self, entry: int) -> tuple[np.ndarray, np.ndarray]:
        """Ids and labels of an entry whose tokens are taken from the whole."""
        slices = [slice(0, self._head), slice(*self._parts[entry]), slice(len(self._ids) - self._tail, None)]
        ids, labels = (np.concatenate([values[part] for part in slices]) for values in (self._ids, self._labels))
        labels[0] = IGNORE
        return ids, labels

    def joint(self, entry: int, context: bool, most: int) -> Joint:
        """How an entry is joined."""
        shape, (start, end) = self.shape, self._parts[entry]
        if shape.way == PRECEDE:
            head, tail = self._singles[entry].places[0], 0
        elif shape.singles:
            head, tail = 0, len(self._singles[entry].ids) - self._singles[entry].places[0] if shape.tail else 0
        else:
            head, tail = self._head, self._tail
        more = ((self._ids[start:end], self._labels[start:end]),) if shape.singles and end > start else ()
        return Joint(shape.way, context, head, tail, end - start, most, more)
