"""Where sentences end, in any language.

Guarantee: every character that is not white space lies in exactly one sentence, whatever the text. Linear time. A border depends on
at most ``CONTEXT_CHARS`` characters before and behind it.
Price: rules and word lists (slicing/languages.py), no model: some borders are missed. benchmarks/sentence_borders.py measures them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain

from .slicing.languages import AUTO, LANGUAGES, Language, detect_language, language_of
from .slicing.sentence_rules import CONTEXT_CHARS, back_over_space, gaps_of, over_space

__all__ = [
    "AUTO",
    "CONTEXT_CHARS",
    "LANGUAGES",
    "Language",
    "detect_language",
    "language_of",
    "sentence_spans",
    "split_sentences",
]

_PIECE_CHARS = 1 << 18  # so much is looked at together


def split_sentences(text: str, start: int = 0, end: int | None = None, *, language: str = AUTO) -> Iterator[tuple[int, int]]:
    """Yield the offsets of the sentences in ``text[start:end]``, without the white space between them.

    Borders are stops of many scripts, with the quotes, brackets and emoji behind them, blank lines, and line breaks unless a program
    put them there to wrap a paragraph. Abbreviations, initials, decimals and list numbers are none. Text without any stop is one
    sentence a line or paragraph.

    Args:
        text: the whole text; offsets refer to it, and nothing outside ``start`` and ``end`` is looked at.
        start: where to begin.
        end: where to end; None = the end of the text.
        language: a code of ``LANGUAGES``, or ``auto``: detected from the first 20,000 characters of the stretch. Who splits a text in
            pieces detects its language once and names it.

    Raises:
        ValueError: there is no such language.
    """
    end = len(text) if end is None else end
    known = language_of(language, text[start : min(end, start + 20_000)])
    return chain.from_iterable(_spans(text, start, end, known))


def sentence_spans(text: str, start: int = 0, end: int | None = None, *, language: str = AUTO) -> list[tuple[int, int]]:
    """What :func:`split_sentences` yields, as a list."""
    return list(split_sentences(text, start, end, language=language))


def _spans(text: str, start: int, end: int, language: Language) -> Iterator[Iterable[tuple[int, int]]]:
    """Piece by piece, each seen with ``CONTEXT_CHARS`` around it: memory does not grow with the text."""
    first = over_space(text, start, end)
    for piece in range(start, end, _PIECE_CHARS):
        seen_from, seen_to = max(start, piece - CONTEXT_CHARS), min(end, piece + _PIECE_CHARS + CONTEXT_CHARS)
        gaps = gaps_of(text[seen_from:seen_to], language)
        if seen_from:
            gaps = {last + seen_from: following + seen_from for last, following in gaps.items()}
        if end - start > _PIECE_CHARS:
            gaps = {last: following for last, following in gaps.items() if piece < last <= piece + _PIECE_CHARS}
        lasts = sorted(gaps)
        if lasts and gaps[lasts[-1]] >= seen_to:
            gaps[lasts[-1]] = over_space(text, lasts[-1], end)
            if gaps[lasts[-1]] >= end:
                lasts.pop()
        firsts = [first, *map(gaps.__getitem__, lasts)]
        first = firsts.pop()
        yield zip(firsts, lasts, strict=True)
    if first < end:
        yield [(first, back_over_space(text, first, end))]
