"""Units of a section, with their tokens: a unit is a sentence, or a part of one that does not fit into a block of its own.

Guarantee: every unit fits into a block alone; each character of the section that is not white space lies in exactly one unit.
Price: only the windows that are being filled into blocks are held.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from .borders import inner_borders, skip_space, strip_space, whole_characters
from .cuts import LOOKAHEAD, Span
from .reader import Reader, Stretch
from .stream import Source
from .tokens import PIECE_CHARS, Codec, Run, tokenize

NEAR_JOINED = 2  # the same where tokens are joined: only the first and the last word of a block can differ
NEAR_TOKENS = 8  # tokens by which the sum over sentences may differ from the tokens of a block


@dataclass(frozen=True, slots=True)
class Room:
    """What fits into a block.

    Attributes:
        max_tokens: most tokens, with BOS and EOS.
        bos: ids at its beginning; ``eos`` at its end.
        eos_everywhere: every block ends with EOS, not only those that close a section.
        min_chars: blocks of at most so many characters are left out; ``min_tokens`` the same, BOS and EOS not counted.
    """

    max_tokens: int
    bos: list[int]
    eos: list[int]
    eos_everywhere: bool
    min_chars: int
    min_tokens: int

    def tokens(self, closes: bool) -> int:
        """Tokens of text that fit into a block that closes its section, or does not."""
        return self.max_tokens - len(self.bos) - (len(self.eos) if closes or self.eos_everywhere else 0)

    def drops(self, num_chars: int, num_tokens: int) -> bool:
        """Whether so small a block is left out."""
        return num_chars <= self.min_chars or (self.min_tokens > 0 and num_tokens <= self.min_tokens)


@dataclass(slots=True)
class Lump:
    """Units in a row of one section.

    Attributes:
        starts: offsets of the units; ``ends`` behind them.
        froms: number of tokens of the lump before each unit; ``totals`` those up to its end. Estimates if there is no run.
        run: the tokens; None if they may not be joined.
        joins_next: the tokens behind go on where those of this lump end.
        closes: the section ends here.
    """

    starts: list[int]
    ends: list[int]
    froms: list[int]
    totals: list[int]
    run: Run | None
    joins_next: bool
    closes: bool


class UnitMaker:
    """Turns the reader's sentences into lumps of units.

    Args:
        source: the text.
        reader: of the same text.
        codec: the tokenizer.
        room: what fits into a block.
        counts: takes ``cut_sentences``.
    """

    def __init__(self, source: Source, reader: Reader, codec: Codec, room: Room, counts: Counter[str]) -> None:
        self._source, self._reader, self._codec, self._room, self._counts = source, reader, codec, room, counts
        self._begin: int | None = None  # where the tokens of the window before end, if those of the next join them
        self._inside = False  # of a sentence whose first parts are counted
        if codec.grammar is not None:
            reader.joins = lambda end, start: self._junction(end) is not None

    def lumps(self) -> Iterator[Lump]:
        """Yield the lumps of the whole text; a section ends with one that ``closes``."""
        for stretches in self._reader.windows():
            plans = [self._plan(stretch) for stretch in stretches]
            runs = self._tokenize([plan for plan in plans if plan])
            tokenized = iter(runs)
            for stretch, plan in zip(stretches, plans, strict=True):
                if plan:
                    yield self._lump(stretch, next(tokenized), joins_next=self._begin is not None and not stretch.closes)
                elif stretch.closes:
                    yield Lump([], [], [], [], None, False, True)

    def _tokenize(self, plans: list[list[int]]) -> list[Run | None]:
        if self._codec.grammar is None:
            return [None] * len(plans)
        return tokenize(self._codec, self._source, plans)

    def _plan(self, stretch: Stretch) -> list[int]:
        """Offsets that cut a stretch into pieces to tokenize: its start, places where nothing is lost by a cut, its end."""
        sentences = stretch.sentences
        if not len(sentences):
            self._begin = None if stretch.closes else self._begin
            return []
        first = int(sentences[0, 0]) if self._begin is None else self._begin
        last = int(sentences[-1, 1])
        self._begin = None if stretch.closes or stretch.too_long else self._junction(last)
        last = last if self._begin is None else self._begin
        return [first, *self._cuts(sentences, first, last), last] if first < last else []

    def _junction(self, end: int) -> int | None:
        """Where the tokens before and behind may be joined, in the white space behind a sentence."""
        source, grammar = self._source, self._codec.grammar
        if grammar is None or end >= source.end:
            return None
        at = source.offset
        start = skip_space(source.text, end - at, min(end + LOOKAHEAD, source.end) - at)
        joined = grammar.junction(source.text, end - at, start)
        return None if joined is None else joined + at

    def _cuts(self, sentences: np.ndarray, first: int, last: int) -> Iterator[int]:
        grammar, source, ends = self._codec.grammar, self._source, sentences[:, 1]
        while grammar is not None and first + 2 * PIECE_CHARS < last:
            number = int(ends.searchsorted(first + PIECE_CHARS))
            cut = None
            for end in ends[number : min(number + 20, len(ends) - 1)].tolist():
                if end > first + 2 * PIECE_CHARS or (cut := self._junction(end)):
                    break
            if cut is None:
                at = source.offset
                match = grammar.anchor.search(source.text, first + PIECE_CHARS - at, last - at)
                cut = match.start() + at if match else last
            if cut >= last:
                return
            yield cut
            first = cut

    # --- from sentences to units

    def _lump(self, stretch: Stretch, run: Run | None, joins_next: bool) -> Lump:
        spans = stretch.sentences
        if stretch.too_long:
            spans = self._with_parts(spans, {0}, run, goes_on=True)
            self._reader.position = int(spans[-1, 1])
            froms, totals = self._positions(spans, run)
        else:
            froms, totals = self._positions(spans, run)
            if long := self._too_long(spans, froms, totals, run):
                spans = self._with_parts(spans, set(long), run, goes_on=False)
                froms, totals = self._positions(spans, run)
        self._inside = stretch.too_long
        starts, ends = spans.T.tolist()
        return Lump(starts, ends, froms.tolist(), totals.tolist(), run, joins_next, stretch.closes)

    def _positions(self, spans: np.ndarray, run: Run | None) -> tuple[np.ndarray, np.ndarray]:
        """Tokens before each unit, and up to its end."""
        if run is not None:
            return run.indices(spans[:, 0]), run.indices(spans[:, 1])
        totals = np.cumsum(self._codec.count_all([self._source.slice(a, b) for a, b in spans.tolist()]))
        return np.concatenate([[0], totals[:-1]]), totals

    def _too_long(self, spans: np.ndarray, froms: np.ndarray, totals: np.ndarray, run: Run | None) -> list[int]:
        """Numbers of the sentences that do not fit into a block."""
        room = self._room
        near = room.tokens(True) - (0 if run is None else NEAR_TOKENS)
        long = []
        for number in np.flatnonzero(totals - froms > near).tolist():
            rest = int(spans[-1, 1] - spans[number + 1, 0]) if number + 1 < len(spans) else 0
            may_close = room.drops(rest, int(totals[-1] - totals[number]))
            start, end = spans[number].tolist()
            num_tokens = int(totals[number] - froms[number]) if run is None else self._count(start, end, run)
            if num_tokens > room.tokens(may_close):
                long.append(number)
        return long

    def _with_parts(self, sentences: np.ndarray, long: set[int], run: Run | None, goes_on: bool) -> np.ndarray:
        spans: list[Span] = []
        for number, (start, end) in enumerate(sentences.tolist()):
            parts = list(self._cut(start, end, run, goes_on)) if number in long else [(start, end)]
            if (len(parts) > 1 or goes_on) and not (self._inside and number == 0):
                self._counts["cut_sentences"] += 1
            spans += parts
        return np.array(spans, dtype=np.int64)

    def _cut(self, start: int, end: int, run: Run | None, goes_on: bool) -> Iterator[Span]:
        """The parts of a sentence; of one that goes on behind ``end`` only those that end well before."""
        source = self._source
        stop = max(start + 1, end - self._reader.size // 2) if goes_on else end
        while start < stop:
            at = source.offset
            span = strip_space(source.text, start - at, end - at)
            if span is None:
                return
            start = self._best_cut(span[0] + at, span[1] + at, run, goes_on)
            part = strip_space(source.text, span[0], start - at)
            assert part is not None, "a cut lies behind a character"
            yield part[0] + at, part[1] + at

    def _best_cut(self, start: int, end: int, run: Run | None, goes_on: bool) -> int:
        """The last border up to which the text from ``start`` fits: of a clause, else a word, a token, a character."""
        if not goes_on and self._fits(start, end, run):
            return end
        tokens = [border for border in self._token_ends(start, end, run) if start + border < end or not goes_on]
        window = self._source.slice(start, min(start + (tokens[-1] if tokens else 0) + 64, end))
        for borders in _border_kinds(window, tokens):
            for border in reversed(borders):
                if self._fits(start, start + border, run):
                    return start + border
        needed = self._room.max_tokens - self._room.tokens(True) + len(self._codec.encode(window[0]))
        what = (
            f"Maximum context length (Cutoff) is {self._room.max_tokens} tokens, but the character {window[0]!r} needs {needed}"
        )
        raise ValueError(f"{what} with BOS and EOS; set it to {needed} or more.")

    def _token_ends(self, start: int, end: int, run: Run | None) -> list[int]:
        """Where about as many tokens end as fit into a block, counted from ``start``."""
        num_tokens = self._room.tokens(True)
        if run is not None:
            first = run.index(start)
            ends = run.ends_of(first, first + num_tokens)
            return sorted({min(at, end) - start for at in ends if at > start})
        width = 8 * self._room.max_tokens
        while True:
            ends = self._codec.token_ends(self._source.slice(start, min(start + width, end)), num_tokens)
            if len(ends) >= num_tokens - 1 or start + width >= end:
                return ends
            width *= 4

    def _fits(self, start: int, end: int, run: Run | None) -> bool:
        if end - start > self._reader.size:
            return False
        at = self._source.offset
        span = strip_space(self._source.text, start - at, end - at)  # a part is used without the white space behind it
        return span is None or self._count(span[0] + at, span[1] + at, run) <= self._room.tokens(True)

    def _count(self, start: int, end: int, run: Run | None) -> int:
        head = run.head(start) if run else None
        tail = run.tail(start, end) if run and head else None
        if head and tail and head.at <= tail.at:
            return len(head.ids) + tail.token - head.token + len(tail.ids)
        return len(self._codec.encode(self._source.slice(start, end)))


def _border_kinds(text: str, tokens: list[int]) -> Iterator[list[int]]:
    """Borders at which a sentence may be cut, the best kind first; made when asked for, since the first is nearly always enough."""
    yield from inner_borders(text, tokens)
    characters = list(range(1, min(len(text), 64) + 1))  # if even the first token border is too far
    yield whole_characters(text, characters)
    yield characters
