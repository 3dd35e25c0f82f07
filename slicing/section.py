"""The units between two hard cuts, as many as are needed, and the tokens from any of them to any other.

Guarantee: what :meth:`Section.measure` gives is what the tokenizer makes of that text alone. Price: where tokens may not be joined, that
text is tokenized again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from .cuts import Span
from .sentence_rules import CONTEXT_CHARS
from .stream import Source
from .tokens import Codec, Run
from .units import Lump

_HELD_UNITS, _HELD_CHARS = 1024, 1 << 18  # behind which units that are done are forgotten
_LOOK_BACK = 2 * CONTEXT_CHARS  # characters that rules may look at before what is held


@dataclass(slots=True)
class Measured:
    """Tokens of a text: those of its first word, those of a run from one index to another, those of its last word."""

    head: list[int]
    first: int
    last: int
    tail: list[int]

    @property
    def count(self) -> int:
        """Number of tokens."""
        return len(self.head) + self.last - self.first + len(self.tail)


class Section:
    """Holds the units that are being filled into blocks; indices count from the first that is held.

    Attributes:
        starts: offsets of the units; ``ends`` behind them.
        totals: tokens of the section up to the end of each unit; ``froms`` those before it. Estimates where tokens are not joined.
        complete: the last unit of the section is held.
        exhausted: so is the last of the text.
    """

    def __init__(self, lumps: Iterator[Lump], source: Source, codec: Codec) -> None:
        self.starts: list[int] = []
        self.ends: list[int] = []
        self.froms: list[int] = []
        self.totals: list[int] = []
        self.complete = self.exhausted = False
        self._lumps, self._source, self._codec = lumps, source, codec
        self._ids: list[int] = []
        self._ids_before = self._num_tokens = 0  # tokens let go, tokens seen
        self._runs: list[tuple[int, int, Run | None]] = []  # end of the last unit, tokens before, the tokens
        self._gaps: list[Span] = []  # stretches over which tokens may not be joined
        self._joins = False  # the next lump goes on where the tokens of the last end
        self._end_before: int | None = None  # of the last unit that was forgotten

    def grow(self) -> bool:
        """Hold the next units; False if the section has no more."""
        if self.complete:
            return False
        lump = next(self._lumps, None)
        if lump is None:
            self.complete = self.exhausted = True
            return False
        self.complete = lump.closes
        if lump.starts:
            self._add(lump)
        return True

    @property
    def has_gaps(self) -> bool:
        """Whether tokens may not be joined somewhere in what is held."""
        return bool(self._gaps)

    def measure(self, first: int, last: int) -> Measured:
        """The tokens of the text from unit ``first`` to the end of unit ``last``."""
        start, end = self.starts[first], self.ends[last]
        if not any(a < end and b > start for a, b in self._gaps):
            before, run = self._run_at(start)
            before_last, last_run = self._run_at(end - 1)
            head = run.head(start)
            tail = last_run.tail(start, end) if head else None
            if head and tail and head.at <= tail.at:
                return Measured(head.ids, before + head.token, before_last + tail.token, tail.ids)
        return Measured(self._codec.encode(self._source.slice(start, end)), 0, 0, [])

    def ids(self, measured: Measured) -> list[int]:
        """The ids of measured tokens, while their units are held."""
        before = self._ids_before
        return measured.head + self._ids[max(0, measured.first - before) : max(0, measured.last - before)] + measured.tail

    def text(self, first: int, last: int) -> str:
        """The text from unit ``first`` to the end of unit ``last``."""
        return self._source.slice(self.starts[first], self.ends[last])

    def lead(self, number: int) -> str | None:
        """The white space before unit ``number``, up to the unit before it; None if it is not held any more."""
        end = self.ends[number - 1] if number else self._end_before
        if end is None:
            return ""
        return self._source.slice(end, self.starts[number]) if end >= self._source.offset else None

    def let_go(self, number: int) -> int:
        """Forget the units before ``number``, if they are many; returns how many were forgotten."""
        start, tokens = (self.starts[number], self.froms[number]) if number < len(self.starts) else (self.ends[-1], 0)
        self._source.drop(start - _LOOK_BACK)
        if number < _HELD_UNITS and start - self.starts[0] < _HELD_CHARS:
            return 0
        self._end_before = self.ends[number - 1]
        for held in (self.starts, self.ends, self.froms, self.totals):
            del held[:number]
        if tokens > self._ids_before and self._ids:
            del self._ids[: tokens - self._ids_before]
            self._ids_before = tokens
        self._runs = [run for run in self._runs if run[0] > start]
        self._gaps = [gap for gap in self._gaps if gap[1] > start]
        return number

    def _add(self, lump: Lump) -> None:
        before = self._num_tokens
        if self.ends and not self._joins:
            self._gaps.append((self.ends[-1], lump.starts[0]))
        self._joins = lump.joins_next
        self.starts += lump.starts
        self.ends += lump.ends
        self.froms += [before + number for number in lump.froms] if before else lump.froms
        self.totals += [before + number for number in lump.totals] if before else lump.totals
        self._runs.append((lump.ends[-1], before, lump.run))
        if lump.run is not None:
            self._ids += lump.run.ids
            self._num_tokens += len(lump.run.ids)
            return
        self._gaps.append((lump.starts[0], lump.ends[-1]))
        self._num_tokens += lump.totals[-1]
        if self._codec.grammar is not None:
            self._ids += [0] * lump.totals[-1]  # keeps the indices of the other lumps right

    def _run_at(self, offset: int) -> tuple[int, Run]:
        for end, before, run in self._runs:
            if offset < end:
                assert run is not None, "what lies in no gap has tokens"
                return before, run
        raise AssertionError("units that are measured are held")
