"""Windows of sentences: the text between two hard cuts is split into sentences stretch by stretch.

Guarantee: windows begin and end at places that depend on the text alone, so a text that comes in pieces gives the same sentences as the
same text whole; each sentence is split once, but for those at the end of a window, which wait for the next.
Price: a paragraph longer than a window is split without sight of what lies behind the window. A sentence longer than a window (32
characters for each token of the cutoff) is handed on as it is, marked `too_long`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import chain

import numpy as np

from .borders import skip_space
from .cuts import LOOKAHEAD, Finder, Span
from .sentence_rules import CONTEXT_CHARS
from .stream import Source

_MOST_LOOKAHEAD = 1 << 24  # characters: a separator that is longer ends there

_NONE = np.zeros((0, 2), dtype=np.int64)

Split = Callable[[str], list[Span]]


@dataclass(slots=True)
class Stretch:
    """Sentences in a row of one section.

    Attributes:
        sentences: offsets in the whole text, shape (sentences, 2).
        closes: the section ends behind them.
        too_long: there is one sentence, which goes on behind the window, and no border in it is known.
    """

    sentences: np.ndarray = field(default_factory=lambda: _NONE)
    closes: bool = False
    too_long: bool = False


class Reader:
    """Reads a text in windows.

    Args:
        source: the text.
        finder: of the hard cuts.
        split: gives the sentences of a string.
        size: characters of a window.
    """

    joins: Callable[[int, int], bool] = staticmethod(lambda end, start: True)  # whether tokens around a gap can be joined

    def __init__(self, source: Source, finder: Finder, split: Split, size: int) -> None:
        self.source, self.size = source, size
        self.position = 0  # what lies before is done; the user of a too long sentence sets it behind what was used
        self._finder, self._split = finder, split
        self._scanned = 0  # hard cuts before this are known
        self._section = 0  # where the section at the position begins

    def windows(self) -> Iterator[list[Stretch]]:
        """Yield stretches, about a window at a time; the last closes its section."""
        source, last = self.source, False
        while not last:
            source.read_to(self.position + self.size + LOOKAHEAD)
            stop = min(self.position + self.size, source.end)
            cuts = self._cuts(stop)
            last = source.ended and stop == source.end
            stretches, start = [], self.position
            for first, behind in cuts:
                stretches.append(Stretch(self._sentences(start, first), closes=True))
                start = self._section = behind
            if last:
                stretches.append(Stretch(self._sentences(start, stop), closes=True))
                self.position = max(start, stop)
            elif start < stop:
                stretches.append(self._settled(start, stop))
            else:
                self.position = start
            yield stretches

    def _cuts(self, stop: int) -> list[Span]:
        """The separators that begin before ``stop`` and are not known yet."""
        source, found, reach = self.source, list[Span](), LOOKAHEAD
        if self._scanned >= stop:
            return found
        while True:
            source.read_to(stop + reach)
            end = min(stop + reach, source.end)
            at = source.offset
            found = [(a + at, b + at) for a, b in self._finder.find(source.text, self._scanned - at, stop - at, end - at)]
            complete = source.ended and end == source.end
            if complete or not found or found[-1][1] < end or reach >= _MOST_LOOKAHEAD:
                break
            reach *= 4
        self._scanned = max([stop, *(behind for _, behind in found[-1:])])
        return found

    def _sentences(self, start: int, end: int) -> np.ndarray:
        """The sentences from ``start`` on, split in sight of what stands before them in their section."""
        if start >= end:
            return _NONE
        seen = max(self._section, start - CONTEXT_CHARS)
        spans = self._split(self.source.slice(seen, end))
        sentences = np.fromiter(chain.from_iterable(spans), np.int64, 2 * len(spans)).reshape(-1, 2) + seen
        if seen == start:
            return sentences
        sentences = sentences[np.searchsorted(sentences[:, 1], start, side="right") :]
        if len(sentences) and sentences[0, 0] < start:  # the rest of a sentence that was too long
            at = self.source.offset
            sentences[0, 0] = skip_space(self.source.text, start - at, int(sentences[0, 1]) - at) + at
        return sentences

    def _settled(self, start: int, stop: int) -> Stretch:
        """The sentences of an open section whose ends are certain; the position is set behind them."""
        sentences = self._sentences(start, stop)
        sentences = sentences[: np.searchsorted(sentences[:, 1], stop - CONTEXT_CHARS, side="right")]
        if len(sentences):
            numbers = range(len(sentences) - 1, len(sentences) // 2, -1)
            ends, starts = sentences[:, 1], sentences[:, 0]
            joined = (number for number in numbers if self.joins(int(ends[number - 1]), int(starts[number])))
            sentences = sentences[: next(joined, len(sentences))]
            self.position = int(sentences[-1, 1])
            return Stretch(sentences)
        text = self.source.slice(start, stop)
        self.position = start + skip_space(text, 0, len(text))
        full = stop - self.position >= self.size  # else the next window shows more of it
        return Stretch(np.array([[self.position, stop]]), too_long=True) if full else Stretch()
