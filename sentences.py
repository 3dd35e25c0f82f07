"""Where sentences end, and where one that is too long may be cut.

Guarantee: every character that is not white space lies in exactly one sentence, whatever the text. Linear time.
Price: rules and a few English and German abbreviations, no model: some borders are missed.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_SPACE = r"[^\S\x1c-\x1f]"  # white space as tokenizers see it; Python's \s holds four separators more
SPACES = re.compile(f"{_SPACE}+")
_CLOSERS = "\"'”’»)\\]}*_」』）】》〉"
_OPENERS = "\"'“‘«([{*_¿¡-—–「『（【《〈…."
_STOP = re.compile(rf"[.!?…‽؟۔।॥։።]+[{_CLOSERS}]*(?={_SPACE})|[。！？｡]+[{_CLOSERS}…]*")
_BEFORE_WORD = re.compile(r"[\s\"'“”‘’«»()\[\]{}—–]")
_WORD = re.compile(r"[\S\x1c-\x1f]+")
_NEVER_LAST = _words(
    "mr mrs ms mx dr prof st sgt cpl pvt lt col gen capt cmdr adm maj rev hon gov sen rep pres supt fr mt ft messrs mme mlle no "
    "nos fig figs vol vols pp ch sec eq ed eds cf vs v viz e.g i.e ca approx bzw z.b d.h u.a nr"
)
_SELDOM_LAST = _words(
    "etc al inc ltd co corp llc jr sr esq bros dept univ assn est ave blvd rd a.m p.m a.d b.c ph.d m.d b.a m.a "
    "jan feb mar apr jun jul aug sep sept oct nov dec mon tue wed thu fri sat sun"
)
_INITIALS = re.compile(r"(?:[^\W\d_]\.)*[^\W\d_]\.")
_STARTERS = _words(
    "a an the he she it we you they i this that these those there here his her its our my your their but and so or if when while "
    "then as at in on for to from by with after before because since although however what who why how where not yes now once "
    "nobody everybody everyone all some many most one two"
)
_LIST_NUMBER = re.compile(r"\n[ \t]*(?:\d{1,3}|[A-Za-z])\Z")
_LINE_OPENS = re.compile(r"[ \t]*(?:[-*+•>#|—–]|\d{1,3}[.)][ \t]|```|[^\W\d_][\w.' -]{0,24}:[ \t])")
_BLANK_LINE = re.compile(r"\r?\n(?:[^\S\n\x1c-\x1f]*\n)+")
_WRAP_WIDTHS = range(40, 121)  # no program wrapped a paragraph whose longest line is shorter or longer


def split_sentences(text: str, start: int = 0, end: int | None = None) -> Iterator[tuple[int, int]]:
    """Yield the offsets of the sentences in ``text[start:end]``, without the white space between them.

    Borders are full stops of many scripts, with the quotes and brackets behind them, blank lines, and line breaks unless
    a program put them there to wrap a paragraph. Abbreviations, initials, decimals and list numbers are none.
    """
    for first, last in between(_BLANK_LINE, text, start, len(text) if end is None else end):
        borders = {*_stops(text, first, last), *_line_ends(text, first, last), last}
        for border in sorted(borders):
            if sentence := strip_space(text, first, border):
                yield sentence
            first = border


def _stops(text: str, start: int, end: int) -> Iterator[int]:
    for match in _STOP.finditer(text, start, end):
        if _ends_sentence(text, start, match.start(), match.end(), end):
            yield match.end()


def _ends_sentence(text: str, start: int, stop: int, behind: int, end: int) -> bool:
    """Whether the stop at ``stop``, with its closers up to ``behind``, ends a sentence of the paragraph ``start..end``."""
    if text[stop] in "。！？｡":  # a Japanese quotation goes on: 「…。」と言った
        return not (text[behind - 1] in "」』" and text.startswith(("と", "って"), behind))
    following = _WORD.search(text, behind, min(behind + 80, end))
    word = following[0].lstrip(_OPENERS) if following else ""
    if word[:1].islower():
        return False
    if not word or text[stop] != "." or text.startswith("..", stop):
        return True
    line = text[stop - 8 : stop] if stop - start > 8 else "\n" + text[start:stop]
    if _LIST_NUMBER.search(line):
        return False
    before = _BEFORE_WORD.split(text[max(start, stop - 30) : stop])[-1]
    return not _is_abbreviation(before, word)


def _is_abbreviation(word: str, following: str) -> bool:
    """Whether ``word``, a full stop and ``following`` belong to one sentence."""
    lowered = word.lower()
    if lowered in _NEVER_LAST:
        return lowered != "no" or following[0].isdigit()
    if _INITIALS.fullmatch(word + "."):
        return bool(_INITIALS.fullmatch(following)) or re.split(r"\W", following.lower())[0] not in _STARTERS
    return lowered in _SELDOM_LAST and re.split(r"\W", following.lower())[0] not in _STARTERS


def _line_ends(text: str, start: int, end: int) -> Iterator[int]:
    """Line breaks that are borders: not where a program wrapped a paragraph because the next word did not fit."""
    lines = text[start:end].split("\n")
    width = max(map(len, lines))
    for line, following in zip(lines, lines[1:], strict=False):
        start += len(line) + 1
        word = _WORD.search(following)
        assert word is not None, "paragraphs hold no blank lines"
        wrapped = width in _WRAP_WIDTHS and len(line.rstrip()) + 1 + len(word[0]) > width
        goes_on = wrapped or word[0].lstrip(_OPENERS)[:1].islower()
        if not goes_on or _LINE_OPENS.match(following) or line.lstrip().startswith("#"):
            yield start


def between(separator: re.Pattern[str], text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield what lies between the separators, without white space around it, if anything does."""
    for match in separator.finditer(text, start, end):
        if span := strip_space(text, start, match.start()):
            yield span
        start = match.end()
    if span := strip_space(text, start, end):
        yield span


def strip_space(text: str, start: int, end: int) -> tuple[int, int] | None:
    start = skip_space(text, start, end)
    while end > start and SPACES.match(text, end - 1, end):
        end -= 1
    return (start, end) if start < end else None


def skip_space(text: str, start: int, end: int) -> int:
    match = SPACES.match(text, start, end)
    return match.end() if match else start


_CLAUSE_END = re.compile(rf"[,;:.!?…—–،؛]+[{_CLOSERS}]*(?={_SPACE})|[、，；：。！？｡]+[{_CLOSERS}]*|{_SPACE}*\n")


def inner_borders(text: str, tokens: list[int]) -> tuple[list[int], list[int], list[int]]:
    """Ends of clauses, words and tokens up to the last of ``tokens``.

    Clauses only behind the middle of that stretch, so that no block is left nearly empty.
    """
    reach = tokens[-1] if tokens else 0
    clauses = [match.end() for match in _CLAUSE_END.finditer(text) if reach // 2 < match.end() <= reach]
    words = [match.start() for match in SPACES.finditer(text) if 0 < match.start() <= reach]
    return clauses, words, whole_characters(text, tokens)


def whole_characters(text: str, borders: Iterable[int]) -> list[int]:
    return [border for border in borders if not _inside_character(text, border)]


def _inside_character(text: str, position: int) -> bool:
    """Whether a cut there parts what is read as one character: accents, joined emoji, flags, Hangul syllables."""
    if not 0 < position < len(text):
        return False
    before, behind = text[position - 1], text[position]
    if unicodedata.category(behind)[0] == "M" or "\u200d" in (before, behind):
        return True
    flags = re.search("[\U0001f1e6-\U0001f1ff]*\\Z", text[max(0, position - 64) : position])
    parts_flag = "\U0001f1e6" <= behind <= "\U0001f1ff" and flags is not None and len(flags[0]) % 2 == 1
    return parts_flag or "\u1160" <= behind <= "\u11ff" or "\U0001f3fb" <= behind <= "\U0001f3ff"
