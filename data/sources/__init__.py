"""Files of the user -> rows: conversations and texts, one after the other.

Reads .txt and .md (one row a file), .json and .jsonl (one row an entry), and folders of these in natural order (file2
before file10, with their subfolders). `read_rows` yields what can be used and writes down everything else:

    report = SourceReport()
    for row in read_rows("chats.jsonl", report=report): ...
    check_broken_share(report, 0.05)

Guarantee: rows + broken rows = all rows; files of other kinds in a folder are named in the notes. A file that is no text
or does not decode raises before its first row.
Price: every file is read once more for its encoding. Memory is bounded by the longest row, whatever the size of the files: a text of
more than 1 MB arrives as pieces (:class:`TextPieces`).
To add a kind of row, see formats.py; a kind of file, `ENDINGS` in sources_files.py.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal, TextIO

from ..formats import SOURCES, check_format, parse_row
from ..formats.messages import BadRow, Message
from ..formats.template import Template, read_format_file
from .encoding import AUTO, find_encoding, open_text
from .files import ENDINGS, list_files
from .json_rows import Record, is_json_lines, read_document, read_lines
from .report import BrokenRow, FileReport, SourceReport, check_broken_share, place

__all__ = [
    "ENDINGS",
    "SOURCES",
    "BrokenRow",
    "FileReport",
    "Row",
    "SourceReport",
    "check_broken_share",
    "detect_format",
    "list_files",
    "read_rows",
]

EXCERPT_CHARS = 80
RAW_CHARS = 400  # looked at for an excerpt
DETECT_ROWS = 50
PIECE_CHARS = 1 << 20


@dataclass(frozen=True)
class Row:
    """One row that can be trained.

    Attributes:
        kind: 'conversation' (then `messages`) or 'text' (then `text`).
        messages: each {'role', 'content'} and the input's other keys, such as tool_calls, reasoning_content, weight.
        text: raw text; line endings are newlines. A long one is a :class:`TextPieces`: join it, or go through it, as often as needed.
        file: name of the file, inside the chosen folder.
        line: 1-based line on which the row begins, or 1-based number of the row.
        where: 'line' or 'row', the meaning of `line`.
        format: the name of `SOURCES` it was read as.
        tools: tool definitions that the chat template should be given.
    """

    kind: Literal["conversation", "text"]
    messages: tuple[Message, ...] | None
    text: str | Iterable[str] | None
    file: str
    line: int
    where: str = "line"
    format: str = "text"
    tools: tuple[dict[str, Any], ...] | None = None

    def __str__(self) -> str:
        return place(self.file, self.line, self.where)


class TextPieces:
    """A text that is too long to be held: an iterable of strings of some length each, read anew each time."""

    def __init__(self, opening: Callable[[], TextIO], piece_chars: int = PIECE_CHARS) -> None:
        self._opening = opening
        self._piece_chars = piece_chars

    def __iter__(self) -> Iterator[str]:
        with self._opening() as stream:
            while piece := stream.read(self._piece_chars):
                yield piece


def read_rows(
    path: str | Path,
    *,
    format: str = AUTO,
    format_file: str | Path | None = None,
    encoding: str = AUTO,
    report: SourceReport | None = None,
    label: str = "Data set",
) -> Iterator[Row]:
    """Reads a file or folder.

    Settings and the path are checked at the call, each file when its turn comes.

    Args:
        path: file or folder.
        format: a name of `SOURCES`, or 'auto' to look at each row.
        format_file: Training PRO's format file; under 'auto' its entries come before the other kinds.
        encoding: 'auto', or a codec name for all files.
        report: filled while rows are drawn.
        label: the form's label of the path, for messages ('Data set', 'Text file').

    Returns:
        The usable rows in file order.

    Raises:
        ValueError: no such path, nothing to read in it, a file that is no text or cannot be decoded or read, an unknown
            format or encoding, a format file that cannot be used.
    """
    template = read_format_file(format_file) if format_file else None
    check_format(format, template)
    report = SourceReport() if report is None else report
    if template and format not in (AUTO, "template"):
        report.file_notes.append(f"the Format file is not used: the Data format is {format!r}")
    root = Path(path)
    files = list_files(path, label=label, notes=report.file_notes)
    return _all_rows(_Reader(format, template, encoding, label, report), root, files)


def detect_format(
    path: str | Path, *, format_file: str | Path | None = None, encoding: str = AUTO, label: str = "Data set"
) -> str:
    """The kind of most of the first 50 usable rows; a name of `SOURCES`.

    Raises:
        ValueError: as `read_rows`, or no row fits a kind.
    """
    report = SourceReport()
    for _ in islice(read_rows(path, format_file=format_file, encoding=encoding, report=report, label=label), DETECT_ROWS):
        pass
    if not report.num_rows:
        check_broken_share(report, 1.0, label=label)
    return next(iter(report.formats))


@dataclass(frozen=True)
class _Reader:
    """The settings of one reading, and the account it keeps."""

    format: str
    template: Template | None
    encoding: str
    label: str
    report: SourceReport

    def rows(self, path: Path, name: str) -> Iterator[Row]:
        """The usable rows of one file; the others go into the report."""
        layout = ENDINGS[path.suffix.lower()]
        found = find_encoding(path, self.encoding, label=self.label, allow_damage=layout != "text")
        self.report.files.append(FileReport(name, found.name, layout))
        if found.note:
            self.report.file_notes.append(f"{name}: {found.note}")

        def opening() -> TextIO:
            stream = open_text(path, found)
            self.report.follow(stream)
            return stream

        yield from self._texts(opening, name) if layout == "text" else self._records_of(opening, name)
        self.report.leave(path.stat().st_size)

    def _records_of(self, opening: Callable[[], TextIO], name: str) -> Iterator[Row]:
        for record in self._records(opening, self.report.files[-1]):
            try:
                row = self._row(record, name)
            except BadRow as error:
                self._broken(record, name, str(error))
            except RecursionError:
                self._broken(record, name, "too deeply nested")
            else:
                yield row

    def _row(self, record: Record, name: str) -> Row:
        if record.problem:
            raise BadRow(record.problem)
        kind, content = parse_row(record.value, self.format, self.template)
        self.report.add_row(kind, content.notes)
        return Row(
            kind="text" if content.messages is None else "conversation",
            messages=content.messages,
            text=content.text,
            file=name,
            line=record.number,
            where=record.where,
            format=kind,
            tools=content.tools,
        )

    def _broken(self, record: Record, name: str, reason: str) -> None:
        self.report.add_broken(BrokenRow(name, record.number, record.where, _printable(reason), _excerpt(record)))

    def _texts(self, opening: Callable[[], TextIO], name: str) -> Iterator[Row]:
        """The one row of a text file; none if it is blank. The encoding is proved, so every character can be used."""
        pieces = TextPieces(opening, PIECE_CHARS)
        with opening() as stream:
            head = stream.read(PIECE_CHARS)
            is_whole = len(head) < PIECE_CHARS
        if not head.strip() and (is_whole or not any(piece.strip() for piece in pieces)):
            return
        if self.format not in (AUTO, "text"):
            reason = f"a text file, which has no rows of the data format '{self.format}'"
            self._broken(Record(1, "line", None, head[:RAW_CHARS], reason), name, reason)
            return
        self.report.add_row("text", ())
        yield Row("text", None, head if is_whole else pieces, name, 1)

    def _records(self, opening: Callable[[], TextIO], file: FileReport) -> Iterator[Record]:
        with opening() as stream:
            in_lines = is_json_lines(stream, expected=file.layout == "json lines")
        file.layout = "json lines" if in_lines else "json"
        if in_lines:
            with opening() as stream:
                yield from read_lines(stream)
            return
        records, notes = read_document(opening)
        self.report.file_notes += [f"{file.name}: {note}" for note in notes]
        yield from records


def _all_rows(reader: _Reader, root: Path, files: list[Path]) -> Iterator[Row]:
    for path in files:
        is_alone = path == root
        name = path.name if is_alone else path.relative_to(root).as_posix()
        yield from reader.rows(path, name)
        file = reader.report.files[-1]
        if file.num_rows + file.num_broken:
            continue
        if is_alone:
            raise ValueError(f"{reader.label}: {path} is empty, it holds no row. Choose another file.")
        reader.report.add_broken(BrokenRow(name, 1, "line", "the file is empty", ""))


def _excerpt(record: Record) -> str:
    raw = record.raw[:RAW_CHARS]
    if not raw and not record.problem:
        try:
            raw = json.dumps(record.value, ensure_ascii=False)[:RAW_CHARS]
        except RecursionError:
            raw = ""
    return _printable(" ".join(raw.split())[:EXCERPT_CHARS])


def _printable(text: str) -> str:
    """The text without halves of surrogate pairs, which no file and no page can show."""
    return text.encode(errors="replace").decode()
