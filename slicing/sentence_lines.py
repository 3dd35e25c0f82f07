"""Which line breaks end a sentence: blank lines, and line breaks that no program put there to wrap a paragraph.

Guarantee: what is decided of a line break depends on the lines around it only: ``LINES_BEFORE`` of them before and ``LINES_BEHIND``
behind, and no further than the first that is longer than ``LONG_LINE`` characters. Linear time.
Price: guesses from line lengths, capitals and what lines begin with. A paragraph wrapped narrower than 40 or wider than 120 columns
is taken for lines of their own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cached_property

LONG_LINE = 160
LINES_BEFORE, LINES_BEHIND = 6, 3
WRAP_WIDTHS = range(40, 121)  # no program wraps a paragraph whose longest line is shorter or longer
BLANK_LINES = re.compile(rf"\n(?:[^\S\n\x1c-\x1f]{{0,{LONG_LINE}}}\n)+(?=([^\S\n\x1c-\x1f]{{0,{LONG_LINE}}}))")
BLANKS = "".join(
    map(chr, (9, 11, 12, 13, 32, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029, 0x202F, 0x205F, 0x3000))
)
WHITE = BLANKS + "\n"
# scripts that write no blanks between words
_UNSPACED = re.compile(
    "[\u0e01-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u30ff\u3400-\u9fff\uf900-\ufaff\uff00-\uffef\U00020000-\U0003ffff]"
)
# what lines begin with: never the result of wrapping; may be the result of wrapping; somebody's name
_OPENS = r"[#>|│├└┌•·‣▪●◦☐☑✓✗]|```|~~~|\[[ xX]\] |\(?[a-z0-9]{1,3}\) |<[^<>\s]{1,30}>|\[?\d{1,2}:\d\d(?::\d\d)?\]?\s|@[\w.-]+:"
_MAY_OPEN = r"[-*+–—]\s|\d{1,3}[.)]\s|[—–]\w"
_NAME = r"[^\W\d_][\w.' -]{0,24}[:：](?:[ \t]|(?<=：))|[QA]\. "
_KIND = re.compile(rf"[^\S\n]*+(?:(?P<o>{_OPENS})|(?P<m>{_MAY_OPEN})|(?P<n>{_NAME})|[\W_]{{0,8}}?(?P<a>[^\W_]))")
# a begin that is no plain word: only such lines are looked at twice in a paragraph that a program wrapped
_SUSPECT = re.compile(r"[^\S\n]*+(?:[^\W\d_][^:：\n]{0,26}[:：]|[^\w\s{\"'“‘«]|\d|\w[.)])")
_RULED = "#|`~"  # headings, tables and fences end with their line
_SUSPECT_LINE = re.compile(rf"\n{_SUSPECT.pattern}")
_PREFIX = re.compile(rf"(?:\[?\d{{1,2}}:\d\d(?::\d\d)?\]?\s+)?(?:<[^<>\s]{{1,30}}>\s*|@?{_NAME}|@[\w.-]+:\s)?")
_FIRST = re.compile(r"[\W_]{0,8}([^\W_])")
_FIRST_WORDS = re.compile(r"\n[^\S\n]*+(\S*)")
_STOPPED = re.compile(r"[.!?…:;。！？：；।۔؟—–-][\"'”’»)\]*_」』]*\Z")
_CODE = re.compile(
    r"[{}()\[\]]\s*\Z|[)\w]\s*=|\);|\A(?:\s{4}|\t|(?:import|from|def|class|return|#include|var|let|const|pip|npm|git|cd|sudo)\s|\$ |>>> )"
)


def paragraphs(text: str) -> Iterator[tuple[int, int, int]]:
    """Stretches between blank lines: where each begins and ends, indentation included, and where the next one's words begin."""
    start = 0
    for match in BLANK_LINES.finditer(text):
        yield start, match.start(), match.end(1)
        start = match.end()
    yield start, len(text), len(text)


def hard_line_ends(text: str, start: int, end: int) -> list[int]:
    """Offsets of the line breaks in one paragraph, which has at least one, that are borders."""
    lines = _Lines(text[start:end])
    texts, lengths = lines.texts, lines.lengths
    all_full = lines.are_all_full()
    if all_full and _SUSPECT_LINE.search(text, start, end) is None and texts[0].lstrip()[:1] not in _RULED:
        return []  # the common case by far: a paragraph that a program wrapped
    found, place = [], start - 1
    for number, need in enumerate(lines.needs):
        place += len(texts[number]) + 1
        if all_full and lines.are_plain(number):
            continue
        width = max(lengths[max(0, number - LINES_BEFORE) : number + LINES_BEHIND + 1])
        if need <= width or width not in WRAP_WIDTHS:
            is_border = not lines.may_run_on(number + 1) or _is_border(lines, number, False)
        else:
            is_border = not lines.goes_on_plainly(number, width) and _is_border(lines, number, True)
        if is_border:
            found.append(place)
    return found


def _columns(word: str) -> int:
    return min(len(word), 8) if _UNSPACED.match(word) else len(word)


class _Lines:
    """The lines of a paragraph, and what is known of each.

    Attributes:
        texts: the lines, of which there are at least two.
        lengths: columns of each, without white space at its end.
        needs: columns of each together with the first word of the next.
    """

    def __init__(self, text: str) -> None:
        self.texts = text.split("\n")
        spaced = " \n" in text or "\r\n" in text or "\t\n" in text
        self.lengths = [len(line.rstrip(WHITE)) for line in self.texts] if spaced else list(map(len, self.texts))
        words = _FIRST_WORDS.findall(text)
        if text.isascii() or _UNSPACED.search(text) is None:
            self.needs = [length + len(word) + 1 for length, word in zip(self.lengths, words, strict=False)]
        else:
            self.needs = [length + _columns(word) + 1 for length, word in zip(self.lengths, words, strict=False)]

    def are_all_full(self) -> bool:
        """Whether each line but the last was wrapped, whichever of its neighbours are looked at."""
        width = max(self.lengths)
        return width in WRAP_WIDTHS and min(self.lengths[:-1]) in WRAP_WIDTHS and min(self.needs) > width

    def goes_on_plainly(self, number: int, width: int) -> bool:
        """Whether all neighbours of a full line are full too, and nothing speaks against a wrapped paragraph."""
        near = self.needs[max(0, number - LINES_BEFORE) : number + LINES_BEHIND + 1]
        return min(near) > width and self.are_plain(number)

    def are_plain(self, number: int) -> bool:
        """Whether the line is no heading, and the next begins like the rest of a sentence."""
        return _SUSPECT.match(self.texts[number + 1]) is None and self.texts[number].lstrip()[:1] not in _RULED

    def around(self, number: int) -> tuple[int, int]:
        """First and last line that count for the line break behind ``number``: up to a long one on either side."""
        low, high = number, number + 1
        lengths = self.lengths
        while low > max(0, number - LINES_BEFORE) and lengths[low] <= LONG_LINE and lengths[low - 1] <= LONG_LINE:
            low -= 1
        while (
            high < min(len(lengths) - 1, number + LINES_BEHIND) and lengths[high] <= LONG_LINE and lengths[high + 1] <= LONG_LINE
        ):
            high += 1
        return (low if lengths[low] <= LONG_LINE else low + 1), high

    @cached_property
    def kinds(self) -> str:
        """A letter for what each line begins with.

        ``o`` what is never the result of wrapping, ``m`` a mark of a list, ``n`` a name, ``u`` a capital, ``l`` a small letter, ``-``.
        """
        return "".join(map(_kind, self.texts))

    @cached_property
    def ends(self) -> list[str]:
        """The last character of each line."""
        return [line.rstrip(WHITE)[-1:] for line in self.texts]

    def may_run_on(self, number: int) -> bool:
        """Whether the line may be the rest of a sentence: it begins with a small letter and with nobody's name."""
        first = self.texts[number][:1]
        return not ("A" <= first <= "Z") and self.kinds[number] == "l"


def _kind(line: str) -> str:
    found = _KIND.match(line)
    if found is None:
        return "-"
    if found.lastgroup != "a":
        return found.lastgroup or "-"
    return "l" if found["a"].islower() else "u" if found["a"].isupper() else "-"


def _is_border(lines: _Lines, number: int, is_full: bool) -> bool:
    tail, kind = lines.texts[number][-LONG_LINE:].rstrip(WHITE), lines.kinds[number + 1]
    if not tail or not lines.ends[number + 1] or kind == "o":
        return True
    if len(lines.texts[number]) <= 4 * LONG_LINE and lines.texts[number].lstrip(WHITE).startswith(("#", "|", "```", "~~~")):
        return True
    low, high = lines.around(number)
    kinds = lines.kinds[low : high + 1]
    width, needs = max(lines.lengths[low : high + 1]), lines.needs[low:high]
    is_wrapped = width in WRAP_WIDTHS and sum(need > width for need in needs) > 0.6 * len(needs)
    may_wrap = is_wrapped and (is_full or kind == "l")
    if kind == "m":
        return not may_wrap or _STOPPED.search(tail) is not None or kinds.count("m") > 1
    if kind == "n" and (not may_wrap or kinds.count("n") > 1):
        return True
    return not may_wrap and not _runs_on(lines, number, low, high, kinds)


def _runs_on(lines: _Lines, number: int, low: int, high: int, kinds: str) -> bool:
    """Whether a line that was not wrapped by a program goes on in the next: verse, or lines broken by hand."""
    texts = lines.texts[low : high + 1]
    if lines.kinds[number + 1] != "l" or _CODE.search(lines.texts[number][-LONG_LINE:]) or _CODE.match(lines.texts[number + 1]):
        return False
    if any(line.startswith(("```", "~~~")) for line in texts):
        return False
    if kinds.count("n") > 1 or "o" in kinds or any(end in (",", ";") for end in lines.ends[low : high + 1]):
        return True
    return kinds.count("u") >= 0.7 * kinds.count("l")


def _letter(line: str) -> str:
    """The first letter or digit of a line; empty if it has none near its begin."""
    found = _FIRST.match(line)
    return found[1] if found else ""


def begins_small(text: str, line: int, end: int) -> bool:
    """Whether what is said in the line that begins at ``line`` begins with a small letter, names and times aside."""
    stretch = text[line : min(end, line + 2 * LONG_LINE)].split("\n", 1)[0].lstrip(WHITE)
    prefix = _PREFIX.match(stretch)
    return _letter(stretch[prefix.end() if prefix else 0 :]).islower()
