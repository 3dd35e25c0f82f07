"""JSON and JSON lines -> one record a row, the malformed rows among them.

Guarantee: a malformed row costs itself, not the file: reading goes on at the next row, and the record says where. A file
that is cut off says so. The layout is told from the text, not from the file's ending.
Price: JSON lines stream in bounded memory. A JSON array is held as text and decoded row by row. After a malformed row
of an array the next one is found by the keys with which rows began so far: one that begins with another key is passed
over together with the malformed one.
"""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TextIO

# keys under which a file may keep its list of rows, best first
LIST_KEYS = ("train", "data", "rows", "conversations", "examples", "dataset", "samples", "items", "records")
SAMPLE_LINES = 20
MAX_FIRST_KEYS = 20
RAW_CHARS = 200  # kept of a malformed row of an array

_STRICT = json.JSONDecoder()
_LENIENT = json.JSONDecoder(strict=False)  # lets raw tabs and newlines inside a string pass
_GAP = re.compile(r"[\s,]*")
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
    def __init__(self, reason: str, position: int) -> None:
        super().__init__(reason)
        self.position = position


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


def read_document(text: str) -> tuple[Iterator[Record], list[str]]:
    """The rows of one JSON text: an array, an object that holds the list, one single row, or several values in a row.

    Returns:
        The records, and notes for the report.
    """
    start = _skip_gap(text, 0)
    if text[start : start + 1] != "{":
        return _decode_rows(text, start), []
    try:
        value, end = _decode(text, start)
    except _Malformed:
        return _rows_of_damaged_object(text, start)
    if _skip_gap(text, end) < len(text) or not isinstance(value, dict):
        return _decode_rows(text, start), []
    key = next((key for key in LIST_KEYS if _is_row_list(value.get(key))), None)
    if key is None:
        return iter([Record(1, "row", value)]), []
    records = (Record(number, "row", row) for number, row in enumerate(value[key], start=1))
    unread = ", ".join(other for other in value if other != key)
    return records, [f"rows read from its list '{key}'" + (f"; not read: {unread}" if unread else "")]


def _rows_of_damaged_object(text: str, start: int) -> tuple[Iterator[Record], list[str]]:
    found = _LIST_OF_ROWS.search(text, start)
    if found is None:
        return _decode_rows(text, start), []
    note = f"rows read from its list '{found[1]}'; the object around it is not valid JSON, the rest of it was not read"
    return _decode_rows(text, found.end(), only_list=True), [note]


def _is_row_list(value: object) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and not (isinstance(value[0], dict) and any(key in value[0] for key in _MESSAGE_KEYS))
    )


class _Places:
    """Numbers the rows of one text by line, or by row if the text is a single line; asked with rising positions."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.where = "line" if "\n" in text.strip() else "row"
        self.position, self.line, self.row = 0, 1, 0

    def begin(self, position: int) -> None:
        """Takes `position` as the begin of the next row."""
        self.line, self.position, self.row = self.line_of(position), position, self.row + 1

    def record(self, value: object, raw: str = "", problem: str = "") -> Record:
        """The row that begins here."""
        return Record(self.line if self.where == "line" else self.row, self.where, value, raw, problem)

    def line_of(self, position: int) -> int:
        """The 1-based line of a position at or behind the current row's begin."""
        return self.line + self.text.count("\n", self.position, position)


def _decode_rows(text: str, start: int, *, only_list: bool = False) -> Iterator[Record]:
    """Decodes value after value from `start`; a '[' there opens the list of rows, and so does one behind that list."""
    places, first_keys = _Places(text), set[str]()
    is_list = text[start : start + 1] == "["
    is_open = failed = False
    position = start
    while position < len(text):
        char = text[position]
        if char == "[" and is_list and not is_open:
            is_open, position = True, _skip_gap(text, position + 1)
        elif char == "]" and is_open:
            is_open, position = False, len(text) if only_list else _skip_gap(text, position + 1)
        elif char in "]}" and failed:  # the tail of a malformed row
            position = _skip_gap(text, position + 1)
        else:
            places.begin(position)
            try:
                value, end = _decode(text, position)
            except _Malformed as error:
                following = _next_row(text, position, first_keys)
                raw = text[position : position + RAW_CHARS]
                yield places.record(None, raw, _problem(text, position, places, error, following))
                failed, is_open = True, is_open and following is not None
                position = len(text) if following is None else following
                continue
            yield places.record(value)
            if isinstance(value, dict) and value and len(first_keys) < MAX_FIRST_KEYS:
                first_keys.add(next(iter(value)))
            position = _skip_gap(text, end)
    if is_open:
        places.begin(len(text))
        yield places.record(None, problem="the file is cut off: its list of rows is not closed")


def _next_row(text: str, start: int, first_keys: set[str]) -> int | None:
    """Where the row behind the malformed one at `start` begins; None if there is none."""
    own = _FIRST_KEY.match(text, start)
    keys = first_keys | ({own[1]} if own else set())
    if keys:
        names = "|".join(re.escape(key) for key in sorted(keys))
        pattern = re.compile(r'(?:[,\[\]}]\s*|\n[ \t]*)(?=\{\s*"(?:' + names + r')"\s*:)')
    else:
        pattern = re.compile(r"\]\s*,\s*(?=\[)" if text[start] == "[" else r"[,\n]\s*(?=[\[{])")
    found = pattern.search(text, start + 1)
    return found.end() if found else None


def _problem(text: str, start: int, places: _Places, error: _Malformed, following: int | None) -> str:
    column = error.position - text.rfind("\n", 0, error.position)
    reason = f"not JSON: {error} at line {places.line_of(error.position)}, column {column}"
    if following is not None:
        return f"{reason}; reading goes on at line {places.line_of(following)}"
    is_cut = text[start] in "[{" and not text.rstrip().endswith(("]", "}"))
    return f"{reason}; {'the file is cut off inside this row' if is_cut else 'nothing readable follows'}"


def _skip_gap(text: str, position: int) -> int:
    found = _GAP.match(text, position)
    assert found is not None
    return found.end()


def _is_whole(line: str) -> bool:
    try:
        _decode_line(line)
    except _Malformed:
        return False
    return True


def _decode_line(line: str) -> object:
    start = len(line) - len(line.lstrip())
    value, end = _decode(line, start)
    if line[end:].strip():
        raise _Malformed("more text behind the row", end)
    return value


def _decode(text: str, position: int) -> tuple[object, int]:
    """Decodes the value at `position`; returns it and its end."""
    try:
        return _STRICT.raw_decode(text, position)
    except json.JSONDecodeError as error:
        if error.msg.startswith("Invalid control character"):
            try:
                return _LENIENT.raw_decode(text, position)
            except ValueError:
                pass
        raise _Malformed(error.msg[:1].lower() + error.msg[1:], error.pos) from None
    except ValueError:  # an integer of thousands of digits
        raise _Malformed("a number is too long", position) from None
    except RecursionError:
        raise _Malformed("too deeply nested", position) from None
