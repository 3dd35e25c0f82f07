"""Runs of a conversation's stretches as the template writes them, and the parts that they are made of.

What it does: looks for a way to write every run of stretches as pieces of few renderings, and proves it by rendering the runs::

    APPEND    run(i..j) = first(i) + part(i+1) + ... + part(j) + tail         what a stretch adds does not depend on what was before
    PRECEDE   run(i..j) = head + part(i) + ... + part(j-1) + last(j)          nor on what comes behind, once something does

ChatML and its like are both: first(i) = head + part(i), last(j) = part(j). A system turn that is written into the first user turn
(Llama 2, Mistral, Gemma folded) is APPEND with first stretches of their own; templates that write the last turn otherwise (thinking that
is dropped in earlier turns, a system turn in the last user turn) are PRECEDE.

Guarantee: a shape is a guess until :meth:`Shape.proved` holds for a run: then the template renders that run to exactly those pieces.
Price: a rendering or two for each stretch where one rendering proves all beginnings of a run (:mod:`.chat_watch`); else one for each run.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from ..chat.rendering import Message, View
from ..sample import APPEND, PRECEDE
from . import Stretch
from .borders import Borders

MOST_HEADS = 8
MOST_RENDERED = 16  # entries of a run where each run has to be rendered: their number grows with the square


class Runs:
    """Renders runs of the entries of a conversation.

    Args:
        messages: the conversation as it is given to the template.
        head: number of system turns, which every run begins with.
        entries: messages of each entry; those of one exchange begin at the same message.
        view: renders.
    """

    def __init__(self, messages: Sequence[Message], head: int, entries: Sequence[Stretch], view: View) -> None:
        self.entries, self.view, self.head = entries, view, head
        self._messages = messages
        self._known: dict[tuple[int, int], str | None] = {}
        self._ends: dict[tuple[int, int], list[int] | None] = {}

    def __len__(self) -> int:
        return len(self.entries)

    def messages(self, first: int, last: int) -> Sequence[Message]:
        """The system turns and the messages from entry ``first`` to entry ``last``."""
        start, end = self.entries[first].start, self.entries[last].end
        if start == self.head and end == len(self._messages):
            return self._messages
        return [*self._messages[: self.head], *self._messages[start:end]]

    def text(self, first: int, last: int) -> str | None:
        """Their rendering; None if the template refuses them."""
        if (first, last) not in self._known:
            self._known[first, last] = self.view.quick(self.messages(first, last))
        return self._known[first, last]

    def know(self, first: int, last: int, text: str) -> None:
        """Take a rendering that was made already."""
        self._known[first, last] = text

    def ends(self, first: int, last: int) -> list[int] | None:
        """Where the runs from ``first`` to each entry up to ``last`` end in the last one, if one rendering proves it."""
        if (first, last) not in self._ends:
            self._ends[first, last] = self._find_ends(first, last)
        return self._ends[first, last]

    def _find_ends(self, first: int, last: int) -> list[int] | None:
        text = self.text(first, last)
        proved = None if text is None else self.view.edges(self.messages(first, last), text)
        if proved is None:
            return None
        shift = self.entries[first].start - self.head
        return [proved[0][self.entries[entry].end - shift] for entry in range(first, last + 1)]


@dataclass(frozen=True)
class Shape:
    """How runs are made of parts.

    Attributes:
        way: APPEND or PRECEDE.
        text: rendering of all entries.
        head: what every run begins with; APPEND with ``apart``: nothing.
        tail: what every run ends with (APPEND).
        parts: characters of the text, (start, end), of each entry's part; None for entries that have none.
        singles: rendering of each entry alone; empty where it is head + part + tail.
    """

    way: int
    text: str
    head: str
    tail: str
    parts: list[tuple[int, int] | None]
    singles: list[str]

    def part(self, entry: int) -> str:
        """The text of an entry's part; empty for none."""
        place = self.parts[entry]
        return self.text[slice(*place)] if place else ""

    def single(self, entry: int) -> str:
        """The rendering of an entry alone."""
        return self.singles[entry] if self.singles else self.head + self.part(entry) + self.tail

    def run(self, first: int, last: int) -> str:
        """The text that a run is made to."""
        if self.way == APPEND:
            begin = self.single(first)
            begin = begin[: len(begin) - len(self.tail)]
            return begin + "".join(map(self.part, range(first + 1, last + 1))) + self.tail
        return self.head + "".join(map(self.part, range(first, last))) + self.single(last)[len(self.head) :]

    def proved(self, runs: Runs, first: int, last: int) -> bool:
        """Whether the template renders the runs from ``first`` to each entry up to ``last`` so (APPEND)."""
        ends = runs.ends(first, last) if runs.text(first, last) == self.run(first, last) else None
        if ends is not None:
            sizes = [len(self.single(first)), *(len(self.part(entry)) for entry in range(first + 1, last + 1))]
            return ends == [*accumulate(sizes)]
        return all(runs.text(first, entry) == self.run(first, entry) for entry in range(first, last + 1))


def find_append(runs: Runs, text: str, borders: Borders) -> Shape | None:
    """What each entry adds behind the others, if its tokens can be cut out."""
    found = _ends(runs, text)
    if found is None:
        return None
    ends, tail = found
    first_ends, tail = _moved(text, ends, tail, borders)
    parts: list[tuple[int, int] | None] = [None, *zip(first_ends, first_ends[1:], strict=False)]
    pieces = [text[: first_ends[0]], *(text[slice(*part)] for part in parts if part)]
    if not all(borders.safe(left, right) for left, right in zip(pieces, pieces[1:], strict=False)):
        return None
    if not all(borders.safe(piece, tail) for piece in pieces):
        return None
    head = _common_head(runs, pieces, tail, borders)
    if head is not None:
        parts[0] = (len(head), first_ends[0])
        return Shape(APPEND, text, head, tail, parts, [])
    singles = [runs.text(entry, entry) or "" for entry in range(len(runs))]
    bodies = [single[: len(single) - len(tail)] for single in singles]
    if not all(body and single.endswith(tail) for body, single in zip(bodies, singles, strict=True)):
        return None
    if not all(borders.safe(body, tail) for body in bodies):
        return None
    if not all(borders.safe(body, piece) for body, piece in zip(bodies, pieces[1:], strict=False)):
        return None
    return Shape(APPEND, text, "", tail, parts, singles)


def _ends(runs: Runs, text: str) -> tuple[list[int], str] | None:
    """Where each beginning of the conversation ends in its text, and what is written behind it only where nothing follows."""
    last = len(runs) - 1
    proved = runs.ends(0, last)
    if proved is not None and proved[-1] == len(text):
        return proved, ""
    beginnings = [runs.text(0, entry) for entry in range(last)]
    if not beginnings[0]:
        return None
    tail = beginnings[0][len(os.path.commonprefix([beginnings[0], text])) :]
    closing = runs.view.renderer.token_at_end(beginnings[0])
    tail = closing if tail and len(closing) > len(tail) else tail
    ends = []
    for beginning in [*beginnings, text]:
        if not beginning or not beginning.endswith(tail) or not text.startswith(beginning[: len(beginning) - len(tail)]):
            return None
        ends.append(len(beginning) - len(tail))
    return (ends, tail) if ends == sorted(set(ends)) else None


def _moved(text: str, ends: list[int], tail: str, borders: Borders) -> tuple[list[int], str]:
    """The same cuts before the white space that all beginnings end with, if only there they are safe."""
    if tail or all(borders.safe(text[:end], text[end:]) for end in ends):
        return ends, tail
    spaces = {text[len(text[:end].rstrip()) : end] for end in ends}
    space = spaces.pop()
    return ([end - len(space) for end in ends], space) if space and not spaces else (ends, tail)


def _common_head(runs: Runs, pieces: list[str], tail: str, borders: Borders) -> str | None:
    """What stands before every part where it is the first, if its tokens can be cut off; None if parts are written otherwise there."""
    single = runs.text(1, 1)
    if single is None or not single.endswith(pieces[1] + tail):
        return None
    head = single[: len(single) - len(pieces[1] + tail)]
    if not pieces[0].startswith(head) or len(head) == len(pieces[0]):
        return None
    parts = [pieces[0][len(head) :], *pieces[1:]]
    if not all(borders.safe(head, part) and (head or borders.opens(part)) for part in parts):
        return None
    return head if borders.safe(parts[0], pieces[1]) else None


def find_precede(runs: Runs, text: str, stretch_of: Sequence[int], borders: Borders) -> Shape | None:
    """What each stretch is written to where others follow it, if its tokens can be cut out.

    Args:
        runs: of entries, several of which may belong to one stretch (each reply of it, with what stands before).
        text: rendering of all of them.
        stretch_of: number of each entry's stretch.
        borders: of the tokenizer.
    """
    last = len(runs) - 1
    firsts = [entry for entry in range(last + 1) if not entry or stretch_of[entry] != stretch_of[entry - 1]]
    ends = [runs.text(entry, last) for entry in firsts]
    singles = [runs.text(entry, entry) for entry in range(last + 1)]
    if not all(ends) or not all(singles):
        return None
    for head in _heads([*map(str, ends), *map(str, singles)], borders):
        if not all(text.endswith(str(end)[len(head) :]) for end in ends):
            continue
        starts = [len(text) - len(str(end)) + len(head) for end in ends]
        if starts != sorted(set(starts)):
            continue
        shape = _precede(text, head, starts, [str(single) for single in singles], stretch_of)
        if _cuts_are_safe(shape, stretch_of, borders):
            return shape
    return None


def _heads(texts: list[str], borders: Borders) -> list[str]:
    """What every run may begin with (system turns, tools, BOS): beginnings that all have, up to a place that can be cut."""
    common = os.path.commonprefix(texts)
    return [common[:place] for place in borders.places(common)[:MOST_HEADS] if place] + [""]


def _precede(text: str, head: str, starts: list[int], singles: list[str], stretch_of: Sequence[int]) -> Shape:
    parts: list[tuple[int, int] | None] = []
    for entry, stretch in enumerate(stretch_of):
        is_last = entry + 1 < len(stretch_of) and stretch_of[entry + 1] != stretch
        parts.append((starts[stretch], starts[stretch + 1]) if is_last else None)
    return Shape(PRECEDE, text, head, "", parts, singles)


def _cuts_are_safe(shape: Shape, stretch_of: Sequence[int], borders: Borders) -> bool:
    """Whether the head, the parts and the last stretches may be cut apart."""
    before = ""
    for entry, single in enumerate(shape.singles):
        rest, part = single[len(shape.head) :], shape.part(entry)
        if not all(borders.safe(left, rest) for left in (shape.head, before)):
            return False
        if part:
            if not all(borders.safe(left, part) for left in (shape.head, before)):
                return False
            if not shape.head and not borders.opens(part):
                return False
            before = part
    return shape.head != "" or all(borders.opens(single) for single in shape.singles)
