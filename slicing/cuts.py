r"""Hard cuts: where one section of a text ends and the next begins.

What it does: a finder gives the offsets ``(start, end)`` of the separators; what lies in them belongs to no section. Kinds, in
`CUTS`: a string, a regular expression, Markdown headings (nothing is removed: the cut is empty and lies before the heading),
blank lines.

Guarantee: the same separators whether the text is read whole or in pieces: finders look at windows whose places depend on the
text alone. A regular expression that takes too long is stopped, with words.
Price: a separator is found up to `LOOKAHEAD` characters behind its window; only one that could still grow is looked at in more.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Protocol

LOOKAHEAD = 4096  # characters known behind the window in which separators begin
_SECONDS = 10.0  # for a regular expression in one window; milliseconds are usual

Span = tuple[int, int]


class CutError(ValueError):
    """A hard cut that cannot be used: ``reason`` and ``remedy``, in the words of the form."""

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(f"{reason}; {remedy}")
        self.reason, self.remedy = reason, remedy


class Finder(Protocol):
    """Finds the separators of one text, from its start to its end."""

    def find(self, text: str, start: int, stop: int, end: int) -> list[Span]:
        """Separators that begin in ``text[start:stop]``; ``text`` is known and looked at up to ``end``."""
        ...


def make_cuts(cut_at: str, hard_cut: str) -> Callable[[], Finder]:
    r"""A maker of finders, one for each text.

    Args:
        cut_at: a name of `CUTS`.
        hard_cut: the string (its escapes \n \t \r \\ \xhh \uhhhh work) or the regular expression; empty = no cuts.

    Raises:
        CutError: an unknown name, escape or expression.
    """
    if cut_at not in CUTS:
        raise CutError(f"Hard Cut at is {cut_at!r}", f"choose one of {', '.join(CUTS)}.")
    return CUTS[cut_at](hard_cut)


def unescape(hard_cut: str) -> str:
    r"""Turn typed escapes into what they mean: ``\n``, typed as two characters, becomes a line break.

    Raises:
        CutError: an escape that does not exist.
    """
    plain = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\"}

    def character(match: re.Match[str]) -> str:
        if match[1]:
            return chr(int(match[1][1:], 16))
        if match[2] not in plain:
            reason = f"Hard Cut String {hard_cut!r} holds the unknown escape '\\{match[2]}'"
            raise CutError(reason, r"known are \n \t \r \xhh \uhhhh, and \\ for one backslash.")
        return plain[match[2]]

    return re.sub(r"\\(?:(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4})|(.?))", character, hard_cut, flags=re.DOTALL)


# --- finders -------------------------------------------------------------------------------------------------------------------


class _Nothing:
    def find(self, text: str, start: int, stop: int, end: int) -> list[Span]:
        return []


class _String:
    """A plain string; each of its line breaks may be CR LF in the text."""

    def __init__(self, separator: str) -> None:
        self._plain = re.compile(re.escape(separator))
        self._with_returns = re.compile(re.escape(separator).replace("\\\n", "\r?\n"))

    def find(self, text: str, start: int, stop: int, end: int) -> list[Span]:
        returns = text.find("\r", start, end) >= 0  # the plain pattern is ten times as fast
        pattern = self._with_returns if returns else self._plain
        return [match.span() for match in pattern.finditer(text, start, end) if match.start() < stop]


class _Pattern:
    def __init__(self, pattern: Any) -> None:
        self._pattern = pattern

    def find(self, text: str, start: int, stop: int, end: int) -> list[Span]:
        found = []
        try:
            for match in self._pattern.finditer(text, start, end, timeout=_SECONDS):
                if match.start() >= stop:
                    break
                found.append(match.span())
        except TimeoutError:
            pattern = self._pattern.pattern
            reason = f"Hard Cut String: the regular expression {pattern!r} takes over {_SECONDS:g} seconds for {end - start} characters"
            raise CutError(
                reason, "write it so that its repeats cannot share the same text in several ways, as (a+)+ does."
            ) from None
        return found


_BLANK_LINES = re.compile(r"\r?\n(?:[^\S\n\x1c-\x1f]*\n)+")


class _BlankLines:
    def find(self, text: str, start: int, stop: int, end: int) -> list[Span]:
        return [match.span() for match in _BLANK_LINES.finditer(text, start, end) if match.start() < stop]


_ATX = r" {0,3}#{1,6}(?=[ \t]|\r?$)"
_FENCE = r" {0,3}(?P<fence>`{3,}|~{3,})(?P<info>[^\n]{0,300})$"
_SETEXT = r" {0,3}(?![ \t\r>|]|#{1,6}[ \t]|[-+*][ \t]|\d{1,9}[.)][ \t]|[-=*_`~ ]+\r?$)[^\n]{1,300}\n {0,3}(?:=+|-+)[ \t]*\r?$"
_HEADING = re.compile(rf"^(?:(?P<atx>{_ATX})|{_FENCE}|(?P<setext>{_SETEXT}))", re.MULTILINE)
_NO_PARAGRAPH = re.compile(rf"\s*|{_ATX}.*| {{0,3}}(?:`{{3,}}|~{{3,}}).*| {{0,3}}(?:=+|-+)[ \t\r]*", re.DOTALL)
_FRONT_MATTER = re.compile(r"---[ \t]*\r?\n(?:(?!---|\.\.\.)[^\n]{0,300}\n){0,99}(?:---|\.\.\.)[ \t]*\r?$", re.MULTILINE)


class _Headings:
    """Markdown's headings: ``# ATX`` and one line underlined with ``===`` or ``---``, not in fenced code or front matter.

    A paragraph of several lines above an underline is left alone: in most texts that is a rule, not a heading.
    """

    def __init__(self) -> None:
        self._fence = ""  # what opened the fenced code that we are in
        self._at_start = True

    def find(self, text: str, start: int, stop: int, end: int) -> list[Span]:
        front = _FRONT_MATTER.match(text, start, end) if self._at_start else None
        self._at_start = False
        found = []
        for match in _HEADING.finditer(text, front.end() if front else start, end):
            if match.start() >= stop:
                break
            if match["fence"]:
                self._turn(match["fence"], match["info"])
            elif not self._fence and (match["atx"] or self._starts_paragraph(text, match.start())):
                found.append((match.start(), match.start()))
        return found

    def _turn(self, fence: str, info: str) -> None:
        """Open or close fenced code, if this line does."""
        if not self._fence:
            self._fence = "" if fence[0] == "`" and "`" in info else fence
        elif fence.startswith(self._fence) and not info.strip():
            self._fence = ""

    def _starts_paragraph(self, text: str, line: int) -> bool:
        if line == 0:
            return True
        before = text.rfind("\n", max(0, line - 400), line - 1)
        if before < 0 and line > 400:
            return False  # a long line is no blank line
        return _NO_PARAGRAPH.fullmatch(text, before + 1, line - 1) is not None


# --- makers --------------------------------------------------------------------------------------------------------------------


def _string(hard_cut: str) -> Callable[[], Finder]:
    separator = unescape(hard_cut)
    return (lambda: _String(separator)) if separator else _Nothing


def _regular_expression(hard_cut: str) -> Callable[[], Finder]:
    if not hard_cut:
        return _Nothing
    import regex

    try:
        pattern = regex.compile(hard_cut, regex.MULTILINE)
    except (regex.error, OverflowError, RecursionError) as error:
        raise CutError(
            f"Hard Cut String {hard_cut!r} is no regular expression: {error}", "mend it, or cut at a string."
        ) from None
    inside = pattern.match("ab", 1, timeout=_SECONDS)
    if inside and inside.end() == 1:
        reason = f"Hard Cut String: the regular expression {hard_cut!r} also matches nothing at all, and would cut everywhere"
        raise CutError(reason, "let it match at least one character, for example with + in place of *.")
    return lambda: _Pattern(pattern)


CUTS: dict[str, Callable[[str], Callable[[], Finder]]] = {
    "string": _string,
    "regex": _regular_expression,
    "headings": lambda hard_cut: _Headings,
    "blank lines": lambda hard_cut: _BlankLines,
}
