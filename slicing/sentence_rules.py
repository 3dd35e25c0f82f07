"""Which stops end a sentence, and with the line breaks: where the sentences of a text lie.

Guarantee: every border lies between two characters that are not white space and depends on at most ``CONTEXT_CHARS`` characters
before and behind it, so a text that comes in pieces has the same borders as the whole. Linear time on any text.
Price: rules and words (`languages`), no model: "Inc." before a name, a hesitation before a capital are guesses.
"""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import product

from .borders import SPACE
from .languages import Language
from .sentence_lines import LONG_LINE, WHITE, begins_small, hard_line_ends, paragraphs

CONTEXT_CHARS = 2048
_GAP = 256  # white space that is looked through behind a stop; more of it is always a border
_WHITE = frozenset(WHITE)
_QUOTES = "\"'”’»“」』›"
_CLOSERS = _QUOTES + ")\\]}*_`）】》〉"
_WIDE_CLOSERS = "\"'”’»)\\]}_）」』】》〉"
_OPENERS = "\"'“‘«„‚‹([{*_`¿¡—–「『（【《〈….-"
_ASCII_STOPS, _WIDE_STOPS = ".!?…‽؟۔।॥։።", "。！？｡．"
_CJK = "\u2e80-\u2fff\u3003-\u3007\u3021-\u30ff\u3400-\u9fff\uf900-\ufaff\uff10-\uff19\uff21-\uff3a\uff41-\uff5a\uff66-\uff9d"
# a stop, what closes behind it, and in sight: one blank and a plain capital or digit (group 1), or white space and anything (2 and 3)
_STOP = re.compile(
    rf"[{_ASCII_STOPS}]{{1,64}}+(?:[{_CLOSERS}]|\[\d{{1,3}}\]|[ \u00a0\u202f]»){{0,8}}+"
    rf"(?={SPACE}[\"'“(]?([A-Z0-9])|({SPACE}{{1,{_GAP}}}+)((?:[—–-]{SPACE})?+[{_OPENERS}]{{0,8}}+))"
)
_WIDE_STOP = re.compile(
    rf"(?:[{_WIDE_STOPS}]|(?<=[{_CJK}])[.!?](?=[{_CJK}「『“.!?{_WIDE_CLOSERS}])|(?<=[{_CJK}])…)[{_WIDE_STOPS}{_WIDE_CLOSERS}….!?]{{0,64}}+"
    rf"(?![{_WIDE_STOPS}{_WIDE_CLOSERS}….!?])"
)
_HAS_WIDE = re.compile(f"[{_WIDE_STOPS}{_CJK}]")
_INITIALS = re.compile(r"(?:[^\W\d_][.-]{1,2})*[^\W\d_]")
_NUMBER = re.compile(r"[\d(#]|[IVXLC]+\b|[A-Z]\b")
_LIST_NUMBER = re.compile(r"\d{1,3}|[A-Za-z]")
_NEXT_WORD = re.compile(r"[\w'’]+")
_FEELING = re.compile(
    "(?:[\u2600-\u27bf\u2b50\u2b55\U0001f1e6-\U0001faff\ufe0f\u200d\u2764]"
    r"|[:;=8][-o]?[)(DPp/|3]|\^\^|<3|[xX]D\b)+" + f"(?={SPACE}|\\Z)"
)
_DAYS_AND_ZONES = frozenset(
    "monday tuesday wednesday thursday friday saturday sunday est edt cst cet gmt utc pst pdt et pt".split()
)
_BEFORE_DIGITS = frozenset(["no", "art", "ex"])  # words of their own otherwise
_ORDINAL = re.compile(r"\d{1,2}|[IVX]{2,6}")
_LATIN_IN_CJK = re.compile(rf"(?<=[{_CJK}（「『、。，])[A-Za-z.]{{1,8}}\Z")
_UNBROKEN = re.compile(rf"[{_CJK}]{{4}}\Z")
_HESITATIONS = frozenset("i well uh um er oh ah so but and or no yes hm".split())


def gaps_of(text: str, language: Language) -> dict[int, int]:
    """Where sentences of ``text`` end and what follows begins: between the two lies white space or nothing.

    What follows may be the end of the text; the last sentence is not listed unless white space follows it.
    """
    gaps: dict[int, int] = {}
    _add_lines(gaps, text)
    _add_stops(gaps, text, language)
    if _HAS_WIDE.search(text):
        _add_wide_stops(gaps, text, language)
    return gaps


# --- lines ---------------------------------------------------------------------------------------------------------------------


def _add_lines(gaps: dict[int, int], text: str) -> None:
    for first, last, following in paragraphs(text):
        if text.find("\n", first, last) >= 0:
            for place in hard_line_ends(text, first, last):
                _add_gap(gaps, text, place, place + 1)
        _add_gap(gaps, text, last, following)


def _add_gap(gaps: dict[int, int], text: str, before: int, behind: int) -> None:
    """The white space around ``before..behind`` is a border, if text stands before it."""
    if before and text[before - 1] in _WHITE:
        before = back_over_space(text, 0, before)
    if behind < len(text) and text[behind] in _WHITE:
        behind = over_space(text, behind, len(text))
    if before and before < behind:
        gaps[before] = behind


def back_over_space(text: str, start: int, place: int) -> int:
    """Where the last character before ``place`` that is not white space ends; ``start`` if there is none."""
    while place > start and text[place - 1] in WHITE:
        piece = text[max(start, place - _GAP) : place]
        place -= len(piece) - len(piece.rstrip(WHITE))
    return place


def over_space(text: str, place: int, end: int) -> int:
    """Where the first character from ``place`` on that is not white space stands; ``end`` if there is none."""
    while place < end and text[place] in WHITE:
        piece = text[place : min(end, place + _GAP)]
        place += len(piece) - len(piece.lstrip(WHITE))
    return place


# --- stops before white space --------------------------------------------------------------------------------------------------


def _add_stops(gaps: dict[int, int], text: str, language: Language) -> None:
    doubtful, quotes_end = _doubtful_tails(language), language.speech is None or bool(language.starters)
    for match in _STOP.finditer(text):
        stop, behind = match.span()
        if behind - stop == 1 or (quotes_end and text[stop] == "." and text[stop + 1] != "."):
            tail = text[stop - 3 : stop]
            if tail not in doubtful and (tail.isalpha() or (tail[:1] == " " and tail[1:].isalpha())):
                if match.lastindex == 1:  # most: a word that is no abbreviation, a stop, a capital
                    gaps[behind] = behind + 1
                    continue
                if text[match.end(3) : match.end(3) + 1].isupper():
                    gaps[behind] = match.end(2)
                    continue
        if behind not in gaps:
            _add_stop(gaps, text, match, language)


@lru_cache(maxsize=4)
def _doubtful_tails(language: Language) -> frozenset[str]:
    """The last three characters before the stop of all abbreviations, however they are written, and of Roman ordinals."""
    tails = {f" {word}"[-3:] for word in language.titles | language.others | language.numbered if len(word) > 1}
    if language.ordinals:
        tails |= {"".join(letters) for letters in product(" ivx", "ivx", "ivx")}
    return frozenset(written for tail in tails for written in (tail, tail.title(), tail.upper()))


def _add_stop(gaps: dict[int, int], text: str, match: re.Match[str], language: Language) -> None:
    stop, behind = match.span()
    gap_end = behind + 1 if match.lastindex == 1 else match.end(2)
    following = match.start(1) if match.lastindex == 1 else match.end(3)
    if following >= len(text) or text[following] == "|":  # the next cell of a table
        return
    if text[following].islower():
        if not _small_letter_begins(gaps, text, stop, behind):
            return
    elif (feeling := _FEELING.match(text, following)) is not None:
        behind = feeling.end()
        gap_end = over_space(text, behind, len(text))
    elif _goes_on(text, stop, behind, following, language):
        return
    gaps[behind] = gap_end if gap_end - behind < _GAP else over_space(text, gap_end, len(text))


def _goes_on(text: str, stop: int, behind: int, following: int, language: Language) -> bool:
    """Whether the sentence goes on behind the stops ``stop..behind``, before something else than a small letter."""
    if text.startswith("..", stop) and _hesitates(text, stop, following):
        return True
    if text[stop] == "." and not text.startswith(".", stop + 1) and _is_inside(text, stop, following, language):
        return True
    return text[behind - 1] not in _ASCII_STOPS and _said(text, stop, behind, following, language)


def _hesitates(text: str, stop: int, following: int) -> bool:
    """``I... I don't know``, ``Well... I never``."""
    word, found = _word_before(text, stop).lower(), _NEXT_WORD.match(text, following, following + 30)
    return found is not None and (found[0].lower() == word or (found[0] == "I" and word in _HESITATIONS))


def _word_before(text: str, stop: int) -> str:
    before = text[max(0, stop - 24) : stop]
    if "—" in before or "–" in before:
        before = before.replace("—", " ").replace("–", " ")
    word = (before.rsplit(None, 1) or [""])[-1].lstrip(_OPENERS)
    latin = None if word.isascii() else _LATIN_IN_CJK.search(word)
    return latin[0] if latin else word


def _is_inside(text: str, stop: int, following: int, language: Language) -> bool:
    """Whether the sentence goes on behind the full stop at ``stop``, with a capital or a digit at ``following``."""
    word = _word_before(text, stop)
    if not word or len(word) > 10:
        return False
    if len(word) <= 3 and _LIST_NUMBER.fullmatch(word) and _begins_line(text, stop - len(word)):
        return True
    small = word.lower()
    if small in language.numbered and _NUMBER.match(text, following):
        return small not in _BEFORE_DIGITS or text[following].isdigit()
    if small in language.titles:
        return True
    found = _NEXT_WORD.match(text, following, following + 30)
    next_word = found[0] if found else ""
    if small in ("a.m", "p.m"):
        return next_word.lower() in _DAYS_AND_ZONES
    starts_new = _starts_new(text, following, next_word, language)
    if small in language.others:
        return bool(next_word) and not starts_new
    if language.ordinals and (_ORDINAL.fullmatch(word) is not None):
        return not starts_new and not next_word[:1].isdigit()
    return _INITIALS.fullmatch(word) is not None and bool(next_word) and not starts_new


def _begins_line(text: str, place: int) -> bool:
    low = max(0, place - 8)
    line = text[low:place].rsplit("\n", 1)
    return not line[-1].strip(WHITE) and (low == 0 or len(line) > 1)


def _starts_new(text: str, following: int, word: str, language: Language) -> bool:
    """Whether ``word`` is one with which sentences often begin."""
    if len(word) == 1 and text.startswith(".", following + 1):  # another initial
        return False
    small = word.lower()
    return small in language.starters or small.replace("’", "'").split("'")[0] in language.starters


def _said(text: str, stop: int, behind: int, following: int, language: Language) -> bool:
    """Whether a quotation ends at ``behind`` and who said it follows: ``"Why?" Bloom asked.``"""
    if language.speech is None or not any(char in _QUOTES for char in text[stop:behind]):
        return False
    if text[stop] == "." and language.starters:  # languages with capitals write a comma there
        return False
    return language.speech.match(text, following, following + 80) is not None


def _small_letter_begins(gaps: dict[int, int], text: str, stop: int, behind: int) -> bool:
    """Whether a sentence begins with a small letter behind the stop: only where its line is written that way, as in chats."""
    stops = text[stop:behind]
    if "…" in stops or ".." in stops or any(char in _QUOTES + ")" for char in stops):
        return False
    line = text.rfind("\n", max(0, stop - 2 * LONG_LINE), stop) + 1
    if not line and stop > 2 * LONG_LINE:
        return False
    low = max(0, line - _GAP)
    if (white := back_over_space(text, low, line)) > low and white not in gaps:
        return False
    if stops[0] == ".":
        word = _word_before(text, stop)
        if len(word) < 2 or "." in word or word.lower() in _NOT_LAST_IN_CHATS:
            return False
    return begins_small(text, line, len(text))


_NOT_LAST_IN_CHATS = frozenset(
    "dr mr mrs ms st prof vs etc eg ie approx ca cf incl no nr vol fig bzw usw min max jan feb mar apr jun jul aug sep sept oct nov dec "
    "sr sra env av esp prob poss orig usu abbr т е см ул д".split()
)


# --- stops of scripts without spaces -------------------------------------------------------------------------------------------


def _add_wide_stops(gaps: dict[int, int], text: str, language: Language) -> None:
    for match in _WIDE_STOP.finditer(text):
        stop, behind = match.span()
        if behind == len(text) or behind in gaps:
            continue
        following = over_space(text, behind, len(text)) if text[behind] in WHITE else behind
        if following - behind < _GAP and following < len(text):
            if _wide_goes_on(text, stop, behind, following, language):
                continue
            if (feeling := _FEELING.match(text, following)) is not None:
                behind, following = feeling.end(), over_space(text, feeling.end(), len(text))
        gaps[behind] = following


def _wide_goes_on(text: str, stop: int, behind: int, following: int, language: Language) -> bool:
    marks = text[stop:behind]
    if not marks.strip("…"):  # a pause: less than four characters stand before it since the last mark
        return _UNBROKEN.search(text[max(0, stop - 4) : stop]) is None
    if marks[0] in ".!?" and text[following].isascii() and following == behind:
        return True
    speech = language.speech
    return marks[-1] in _WIDE_CLOSERS and speech is not None and speech.match(text, following, following + 80) is not None
