"""White space, clauses, words and characters: where a sentence that is too long may be cut.

Guarantee: `whole_characters` never parts what is read as one character (accents, joined emoji, flags, Hangul syllables, Indic
conjuncts): it follows Unicode's grapheme clusters. Price: the `regex` package, which transformers brings, for those.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any

SPACE = r"[^\S\x1c-\x1f]"  # white space as tokenizers see it; Python's \s holds four separators more
SPACES = re.compile(f"{SPACE}+")
_WORD_START = re.compile(rf"(?!{SPACE}).", re.DOTALL)
_CLOSERS = "\"'”’»)\\]}*_」』）】》〉"
_CLAUSE_END = re.compile(rf"[,;:.!?…—–،؛]+[{_CLOSERS}]*(?={SPACE})|[、，；：。！？｡]+[{_CLOSERS}]*|{SPACE}*\n")
_LONGEST_CHARACTER = 64  # code points; what is longer is no character but a trick, and may be cut


def strip_space(text: str, start: int, end: int) -> tuple[int, int] | None:
    """The same stretch without white space around it; None if nothing else is there."""
    start = skip_space(text, start, end)
    while end > start and SPACES.match(text, end - 1, end):
        end -= 1
    return (start, end) if start < end else None


def skip_space(text: str, start: int, end: int) -> int:
    """Where the first character that is not white space stands; ``end`` if there is none."""
    match = SPACES.match(text, start, end)
    return match.end() if match else start


def inner_borders(text: str, tokens: list[int]) -> Iterator[list[int]]:
    """Ends of clauses, then of words, then of tokens, up to the last of ``tokens`` (offsets in ``text``).

    Clauses only behind the middle of that stretch, so that no block is left nearly empty.
    """
    reach = tokens[-1] if tokens else 0
    yield [match.end() for match in _CLAUSE_END.finditer(text, reach // 2) if reach // 2 < match.end() <= reach]
    yield [match.start() for match in SPACES.finditer(text, 0, reach + 1) if 0 < match.start() <= reach]
    yield whole_characters(text, tokens)


def whole_characters(text: str, borders: Iterable[int]) -> list[int]:
    """Those of the offsets that lie between two characters; ``text`` begins at the start of one."""
    ends = [match.end() for match in _characters().finditer(text)]
    allowed = set(ends[:-1]) if ends and ends[-1] - (ends[-2] if len(ends) > 1 else 0) > _LONGEST_CHARACTER else set(ends)
    return [border for border in borders if border in allowed or border == len(text)]


@cache
def _characters() -> Any:
    import regex

    return regex.compile(r"\X")
