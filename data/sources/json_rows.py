"""JSON and JSON lines -> one record a row, the malformed rows among them.

Guarantee: a malformed row costs itself, not the file: reading goes on at the next row, and the record says where. A file
that is cut off says so. The layout is told from the text, not from the file's ending.
Price: memory is bounded by the longest row, whatever the file's size; an object around the list of rows is decoded twice. After a
malformed row of an array the next one is found by the keys with which rows began so far: one that begins with another key is passed
over together with the malformed one.
"""

import io
import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TextIO

from .json_window import PIECE_CHARS, Window, has_inner_newline

# keys under which a file may keep its list of rows, best first
LIST_KEYS = ("train", "data", "rows", "conversations", "examples", "dataset", "samples", "items", "records")
SAMPLE_LINES = 20
MAX_FIRST_KEYS = 20
RAW_CHARS = 200  # kept of a malformed row of an array
EDGE_CHARS = 16  # an error so near to the end of what is held may come from the end
MARGIN_CHARS = 4096  # more than what stands between two rows

_STRICT = json.JSONDecoder()
_LENIENT = json.JSONDecoder(strict=False)  # lets raw tabs and newlines inside a string pass
_GAP = re.compile(r"[\s,]*")
_SPACE = re.compile(r"[ \t\n\r]*")
_FIRST_KEY = re.compile(r'\{\s*"((?:[^"\\]|\\.)*)"\s*:')
# where the list of rows opens in an object that does not decode; a list of messages is a row itself
_LIST_OF_ROWS = re.compile(r'"(' + "|".join(LIST_KEYS) + r')"\s*:\s*(?=\[\s*[\[{](?!\s*"(?:role|from|value|content)"))')
_MESSAGE_KEYS = ("role", "from")


@dataclass(frozen=True)
class Record:
    """One row as JSON gave it.

    Attributes:
        number: 1-based line on which the row begins, or 1-based number of the row.
        where: 'line' or 'row', the meaning of `number`.
        value: the decoded row; None if `problem` is set.
        raw: the row's text, where it is at hand.
        problem: why the row could not be decoded.
    """

    number: int
    where: str
    value: object
    raw: str = ""
    problem: str = ""


class _Malformed(ValueError):
    def __init__(self, reason: str, position: int, is_open: bool = False) -> None:
        super().__init__(reason)
        self.position = position
        self.is_open = is_open  # a string goes on to the end of what was looked at


def is_json_lines(stream: TextIO, *, expected: bool) -> bool:
    """Whether the text holds one JSON value a line; looks at its first 20 lines that are not blank.

    Args:
        stream: the text, from its beginning.
        expected: the file's name says JSON lines; decides where the first line is damaged.
    """
    lines = list(islice((line.strip() for line in stream if line.strip()), SAMPLE_LINES))
    if len(lines) == 1 and lines[0].startswith("["):
        return False  # without decoding a large array only to look at it
    if not lines or _is_whole(lines[0]):
        return len(lines) != 1
    if lines[0].startswith("[") or lines[0].endswith(("[", "{")):
        return False
    return expected or sum(map(_is_whole, lines)) > len(lines) / 2


def read_lines(stream: Iterable[str]) -> Iterator[Record]:
    """One record for each line that is not blank."""
    for number, line in enumerate(stream, start=1):
        if not line.strip():
            continue
        try:
            yield Record(number, "line", _decode_line(line), line)
        except _Malformed as error:
            yield Record(number, "line", None, line, f"not JSON: {error} at column {error.position + 1}")


def read_document(source: str | Callable[[], TextIO], *, piece_chars: int = PIECE_CHARS) -> tuple[Iterator[Record], list[str]]:
    """The rows of one JSON text: an array, an object that holds the list, one single row, or several values in a row.

    Args:
        source: the text, or a function that opens it from its beginning (called up to three times).
        piece_chars: characters read at once.

    Returns:
        The records, and notes for the report.
    """
    opening = partial(io.StringIO, source) if isinstance(source, str) else source
    with opening() as stream:
        window = Window(stream, piece_chars)
        start = _skip_gap(window, 0)
        if window.char(start) != "{":
            return _read_rows(opening, piece_chars, start), []
        try:
            survey = _survey(window, start)
        except _Malformed:
            survey = None
    if survey is None:
        return _rows_of_damaged_object(opening, piece_chars, start)
    if survey.has_more:
        return _read_rows(opening, piece_chars, start), []
    key = next((key for key in LIST_KEYS if survey.row_lists.get(key) is not None), None)
    if key is None:
        return _single_row(opening, piece_chars, start), []
    unread = ", ".join(other for other in survey.row_lists if other != key)
    note = f"rows read from its list '{key}'" + (f"; not read: {unread}" if unread else "")
    return _listed_rows(opening, piece_chars, survey.row_lists[key] or 0), [note]


@dataclass(frozen=True)
class _Survey:
    """An object at the top of a text: of each key the position of its list of rows, or None; and whether more follows it."""

    row_lists: dict[str, int | None]
    has_more: bool


def _survey(window: Window, start: int) -> _Survey:
    """Walks through an object without keeping it; raises _Malformed where it is no JSON."""
    lists: dict[str, int | None] = {}
    position = _skip_space(window, start + 1)
    is_first = True
    while not (is_first and window.char(position) == "}"):
        key, position = _decode(window, position)
        if not isinstance(key, str):
            raise _Malformed("expecting property name enclosed in double quotes", position)
        position = _skip_space(window, _expect(window, _skip_space(window, position), ":"))
        window.drop(position)
        begin, is_rows = position, False
        if window.char(position) == "[":
            for number, (value, behind) in enumerate(_elements(window, position)):
                is_rows = (
                    not (isinstance(value, dict) and any(name in value for name in _MESSAGE_KEYS)) if not number else is_rows
                )
                position = behind
            position = _skip_space(window, position if position > begin else begin + 1) + 1
        else:
            position = _decode(window, position)[1]
        lists[key] = begin if is_rows else None
        position, is_first = _skip_space(window, position), False
        if window.char(position) == "}":
            break
        position = _skip_space(window, _expect(window, position, ","))
    return _Survey(lists, window.has(_skip_gap(window, position + 1)))


def _elements(window: Window, start: int) -> Iterator[tuple[object, int]]:
    """The values of the array at `start`, each with its end; ends before the closing bracket."""
    position = _skip_space(window, start + 1)
    if window.char(position) == "]":
        return
    while True:
        window.drop(position)
        value, end = _decode(window, position)
        yield value, end
        position = _skip_space(window, end)
        if window.char(position) == "]":
            return
        position = _skip_space(window, _expect(window, position, ","))


def _expect(window: Window, position: int, char: str) -> int:
    if window.char(position) != char:
        raise _Malformed(f"expecting '{char}' delimiter", position)
    return position + 1


def _single_row(opening: Callable[[], TextIO], piece_chars: int, start: int) -> Iterator[Record]:
    with opening() as stream:
        yield Record(1, "row", _decode(Window(stream, piece_chars), start)[0])


def _listed_rows(opening: Callable[[], TextIO], piece_chars: int, start: int) -> Iterator[Record]:
    with opening() as stream:
        window = Window(stream, piece_chars)
        window.skip_to(start)
        for number, (value, _) in enumerate(_elements(window, start), start=1):
            yield Record(number, "row", value)


def _rows_of_damaged_object(opening: Callable[[], TextIO], piece_chars: int, start: int) -> tuple[Iterator[Record], list[str]]:
    with opening() as stream:
        found = _search(Window(stream, piece_chars), _LIST_OF_ROWS, start)
    if found is None:
        return _read_rows(opening, piece_chars, start), []
    end, key = found
    note = f"rows read from its list '{key}'; the object around it is not valid JSON, the rest of it was not read"
    return _read_rows(opening, piece_chars, end, only_list=True), [note]


def _read_rows(opening: Callable[[], TextIO], piece_chars: int, start: int, *, only_list: bool = False) -> Iterator[Record]:
    with opening() as stream:
        where = "line" if has_inner_newline(stream, piece_chars) else "row"
    with opening() as stream:
        window = Window(stream, piece_chars)
        window.skip_to(start)
        yield from _decode_rows(window, start, where, only_list=only_list)


def _decode_rows(window: Window, start: int, where: str, *, only_list: bool) -> Iterator[Record]:
    """Decodes value after value from `start`; a '[' there opens the list of rows, and so does one behind that list."""
    first_keys = set[str]()
    is_list = window.char(start) == "["
    is_open = failed = False
    position, row = start, 0
    while window.has(position):
        char = window.char(position)
        if char == "[" and is_list and not is_open:
            is_open, position = True, _skip_gap(window, position + 1)
        elif char == "]" and is_open:
            is_open, position = False, _skip_gap(window, position + 1)
            if only_list:
                return
        elif char in "]}" and failed:  # the tail of a malformed row
            position = _skip_gap(window, position + 1)
        else:
            window.drop(position)
            row += 1
            number = window.line_of(position) if where == "line" else row
            try:
                value, end = _decode(window, position)
            except _Malformed as error:
                raw, problem, following = _malformed(window, position, error, first_keys)
                yield Record(number, where, None, raw, problem)
                failed, is_open = True, is_open and following is not None
                if following is None:
                    return
                position = following
                continue
            yield Record(number, where, value)
            if isinstance(value, dict) and value and len(first_keys) < MAX_FIRST_KEYS:
                first_keys.add(next(iter(value)))
            position = _skip_gap(window, end)
    if is_open:
        number = window.line_of(window.end) if where == "line" else row + 1
        yield Record(number, where, None, problem="the file is cut off: its list of rows is not closed")


def _malformed(window: Window, start: int, error: _Malformed, first_keys: set[str]) -> tuple[str, str, int | None]:
    """Excerpt and reason of the malformed row at `start`, and where the next row begins; None if there is none."""
    window.has(start + MARGIN_CHARS)
    place = start - window.base
    raw, opening = window.text[place : place + RAW_CHARS], window.text[place]
    line, column = window.line_of(error.position), window.column_of(error.position)
    reason = f"not JSON: {error} at line {line}, column {column}"
    own = _FIRST_KEY.match(window.text, place)
    found = _search(window, _row_pattern(opening, first_keys | ({own[1]} if own else set())), start + 1)
    if found is not None:
        return raw, f"{reason}; reading goes on at line {window.line_of(found[0])}", found[0]
    is_cut = opening in "[{" and window.last_char not in "]}"
    return raw, f"{reason}; {'the file is cut off inside this row' if is_cut else 'nothing readable follows'}", None


def _row_pattern(opening: str, keys: set[str]) -> re.Pattern[str]:
    """What stands before the next row."""
    if keys:
        names = "|".join(re.escape(key) for key in sorted(keys))
        return re.compile(r'(?:[,\[\]}]\s*|\n[ \t]*)(?=\{\s*"(?:' + names + r')"\s*:)')
    return re.compile(r"\]\s*,\s*(?=\[)" if opening == "[" else r"[,\n]\s*(?=[\[{])")


def _search(window: Window, pattern: re.Pattern[str], position: int) -> tuple[int, str | None] | None:
    """Position behind the first match at or behind a position, and its first group."""
    window.has(position)
    while True:
        found = pattern.search(window.text, max(0, position - window.base))
        if found and (window.is_complete or found.end() + MARGIN_CHARS <= len(window.text)):
            return window.base + found.end(), found[1] if pattern.groups else None
        if window.is_complete:
            return None
        position = window.base + found.start() if found else max(position, window.end - MARGIN_CHARS)
        window.drop(position)
        window.fill()


def _skip_gap(window: Window, position: int, pattern: re.Pattern[str] = _GAP) -> int:
    while True:
        window.has(position)
        found = pattern.match(window.text, position - window.base)
        assert found is not None
        position = window.base + found.end()
        if position < window.end or not window.fill():
            return position


def _skip_space(window: Window, position: int) -> int:
    return _skip_gap(window, position, _SPACE)


def _is_whole(line: str) -> bool:
    try:
        _decode_line(line)
    except _Malformed:
        return False
    return True


def _decode_line(line: str) -> object:
    start = len(line) - len(line.lstrip())
    value, end = _decode_text(line, start)
    if line[end:].strip():
        raise _Malformed("more text behind the row", end)
    return value


def _decode(window: Window, position: int) -> tuple[object, int]:
    """Decodes the value at `position`, reading on until it is whole; returns it and its end."""
    while True:
        base, length = window.base, len(window.text)
        try:
            value, end = _decode_text(window.text, position - base)
        except _Malformed as error:
            if (error.is_open or error.position > length - EDGE_CHARS) and window.fill():
                continue
            error.position += base
            raise
        is_closed = isinstance(value, str | list | dict) or end + EDGE_CHARS <= length  # a number may go on
        if is_closed or not window.fill():
            return value, base + end


def _decode_text(text: str, position: int) -> tuple[object, int]:
    try:
        return _STRICT.raw_decode(text, position)
    except json.JSONDecodeError as error:
        is_open = error.msg.startswith("Unterminated string")
        if error.msg.startswith("Invalid control character"):
            try:
                return _LENIENT.raw_decode(text, position)
            except json.JSONDecodeError as second:
                is_open = second.msg.startswith("Unterminated string") or second.pos > len(text) - EDGE_CHARS
            except ValueError:
                pass
        raise _Malformed(error.msg[:1].lower() + error.msg[1:], error.pos, is_open) from None
    except ValueError:  # an integer of thousands of digits
        raise _Malformed("a number is too long", position) from None
    except RecursionError:
        raise _Malformed("too deeply nested", position) from None
