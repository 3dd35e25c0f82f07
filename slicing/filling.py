"""Units of a section -> blocks: filled to the cutoff, bridged by overlap blocks, or one from every sentence on.

Guarantee: filling takes as many units as fit, block after block; where a part of a block fits whenever the block does, that gives the
fewest blocks that whole units allow. Price: one lookup in the sums of tokens for each block, a second measurement where the sum is
within a few tokens of the cutoff.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from .section import Measured, Section
from .units import NEAR_JOINED, NEAR_TOKENS, Room


@dataclass(frozen=True, slots=True)
class Block:
    """One training sample of raw text.

    Attributes:
        text: equal to ``source[start:end]``.
        start: offset of the first character in the source text.
        end: offset behind the last character.
        token_ids: tokens, with BOS and EOS if set.
        closes_section: the block ends where its section ends.
        overlap: the block only repeats text that other blocks hold too.
        section: number of the section (between hard cuts) in the text, from 0; sections without text are not counted.
        lead: white space of the source between what stands before the block in its section and the block; None if it is not held any more.
        num_eos: tokens of EOS at its end.
    """

    text: str
    start: int
    end: int
    token_ids: list[int]
    closes_section: bool = False
    overlap: bool = False
    section: int = 0
    lead: str | None = field(default="", compare=False)
    num_eos: int = field(default=0, compare=False)

    @property
    def num_tokens(self) -> int:
        """Length in tokens, with BOS and EOS."""
        return len(self.token_ids)


class _Filled(NamedTuple):
    """Units ``first`` to ``last`` and their tokens, without BOS and EOS."""

    first: int
    last: int
    tokens: Measured


class Filler:
    """Fills the units of one section into blocks.

    Args:
        section: the units.
        room: what fits into a block.
        counts: takes what is left out.
        number: of the section.
    """

    def __init__(self, section: Section, room: Room, counts: Counter[str], number: int) -> None:
        self._section, self._room, self._counts, self._number = section, room, counts, number

    def slices(self, overlap: float) -> Iterator[Block]:
        """Yield blocks of as many units as fit, and overlap blocks between neighbours.

        Args:
            overlap: share of a block with which an overlap block begins; 0 = none.
        """
        section = self._section
        first, previous = 0, -1
        while self._reaches(first):
            filled = self._fill(first)
            block = self._block(filled)
            if block and previous >= 0 and overlap:
                yield from self._bridge(previous, first, filled.last + 1, overlap)
            if block:
                yield block
            first, previous = filled.last + 1, first if block else -1
            gone = section.let_go(previous if previous >= 0 else first)
            first, previous = first - gone, previous - gone if previous >= 0 else -1

    def slides(self, stride: int) -> Iterator[Block]:
        """Yield a block from every unit on, without consecutive repetitions.

        Args:
            stride: units from the start of a block to that of the next; fewer where needed, so that the blocks that are not overlaps
                follow each other without a gap.
        """
        first = covered = 0
        before = ""
        while self._reaches(first):
            filled = self._fill(first)
            block = self._block(filled, overlap=first < covered)
            if block and block.text == before:
                self._counts["dropped_duplicates"] += 1
            elif block:
                covered = covered if block.overlap else filled.last + 1
                before = block.text
                yield block
            reached = covered if first < covered else filled.last + 1
            first = min(first + stride, reached)
            gone = self._section.let_go(min(first, covered))
            first, covered = first - gone, covered - gone

    def mark_close(self, blocks: Iterator[Block]) -> Iterator[Block]:
        """Let the last block close the section also where those behind it were left out."""
        held: list[Block] = []
        for block in blocks:
            if not block.overlap:
                yield from held
                held = []
            held.append(block)
        if held and not held[0].closes_section:
            room, ids = self._room, held[0].token_ids
            eos = [] if room.eos_everywhere else room.eos
            eos = eos if len(ids) + len(eos) <= room.max_tokens else []
            num_eos = held[0].num_eos + len(eos)
            held[0] = replace(held[0], closes_section=True, token_ids=ids + eos, num_eos=num_eos)
        yield from held

    def _reaches(self, number: int) -> bool:
        """Whether the section has a unit of this number; it is held then."""
        while number >= len(self._section.starts):
            if not self._section.grow():
                return False
        return True

    def _bridge(self, first: int, middle: int, end: int, overlap: float) -> Iterator[Block]:
        """Yield the overlap block of units ``first..middle`` and ``middle..end``, if one holds something of both."""
        froms = self._section.froms
        target = froms[middle] - overlap * (froms[middle] - froms[first])
        place = bisect_left(froms, target, first + 1, middle)
        near = [number for number in (place - 1, place) if first < number < middle]
        for begin in range(min(near, key=lambda number: abs(froms[number] - target), default=middle), middle):
            filled = self._fill(begin, end)
            if filled.last >= middle:  # else it holds nothing of the second
                block = self._block(filled, overlap=True)
                yield from [block] if block else []
                return

    def _fill(self, first: int, end: int | None = None) -> _Filled:
        """The most units from ``first`` on (before ``end``) that fit."""
        section, room = self._section, self._room.tokens(False)
        while section.totals[-1] - section.froms[first] <= room + NEAR_TOKENS and section.grow():
            pass
        totals = section.totals
        end = len(totals) if end is None else end
        last = min(max(bisect_right(totals, section.froms[first] + room, first, end) - 1, first), end - 1)
        tokens = section.measure(first, last)
        while last > first and (excess := tokens.count - self._limit(last)) > 0:
            last = max(first, min(last - 1, bisect_right(totals, totals[last] - excess, first, last) - 1))
            tokens = section.measure(first, last)
        return self._extend(_Filled(first, last, tokens), end)

    def _extend(self, filled: _Filled, end: int) -> _Filled:
        """Take what still fits because the sum over units was too high."""
        section, totals, room = self._section, self._section.totals, self._room.tokens(False)
        near = room + (NEAR_TOKENS if section.has_gaps else NEAR_JOINED)
        first, last, tokens = filled
        far = True
        while last + 1 < end and tokens.count + totals[last + 1] - totals[last] <= near:
            guess = bisect_right(totals, totals[last] + room - tokens.count, last + 1, end) - 1 if far else 0
            guess = max(guess, last + 1)
            longer = section.measure(first, guess)
            if longer.count <= self._limit(guess):
                last, tokens = guess, longer
            elif guess > last + 1:
                far = False
            else:
                break
        return _Filled(first, last, tokens)

    def _block(self, filled: _Filled, *, overlap: bool = False) -> Block | None:
        section, room = self._section, self._room
        first, last, tokens = filled
        start, end = section.starts[first], section.ends[last]
        if room.drops(end - start, tokens.count):
            self._leave_out(end - start, overlap)
            return None
        closes = self._closes(last)
        ids = room.bos + section.ids(tokens) if room.bos else section.ids(tokens)
        has_eos = (closes or room.eos_everywhere) and len(ids) + len(room.eos) <= room.max_tokens
        if room.eos and has_eos:
            ids += room.eos
        num_eos = len(room.eos) if has_eos else 0
        return Block(section.text(first, last), start, end, ids, closes, overlap, self._number, section.lead(first), num_eos)

    def _leave_out(self, num_chars: int, overlap: bool) -> None:
        if overlap:
            self._counts["ignored_overlaps"] += 1
        else:
            self._counts["ignored_blocks"] += 1
            self._counts["ignored_chars"] += num_chars

    def _limit(self, last: int) -> int:
        """Tokens of text that fit into a block that ends with this unit."""
        room = self._room
        return room.tokens(False) if room.eos_everywhere or not room.eos else room.tokens(self._closes(last))

    def _closes(self, last: int) -> bool:
        """Whether a block that ends with this unit is the section's last: what is too small for a block does not count."""
        section = self._section
        while True:
            rest = section.ends[-1] - section.starts[last + 1] if last + 1 < len(section.ends) else 0
            if rest and not self._room.drops(rest, section.totals[-1] - section.totals[last]):
                return False
            if not section.grow():
                return True


Way = Callable[[Filler], Iterator[Block]]


def fill_sections(sections: Iterator[Section], room: Room, counts: Counter[str], way: Way) -> Iterator[Block]:
    """Yield the blocks of all sections.

    Args:
        sections: the sections of one text; each is used up before the next is asked for.
        room: what fits into a block.
        counts: takes what is left out.
        way: how a section is filled.
    """
    number = 0
    for section in sections:
        while not section.starts and section.grow():
            pass
        if section.starts:
            section.let_go(0)
            filler = Filler(section, room, counts, number)
            yield from filler.mark_close(way(filler))
            number += 1
