"""What was read and what could not be: the reader's account, and the limit on broken rows.

Guarantee: counts are exact. Price: at most MAX_KEPT broken rows and MAX_NOTES different notes are kept in full.
"""

from dataclasses import dataclass, field
from typing import IO

MAX_KEPT = 200
MAX_NOTES = 50
MAX_SHOWN = 20


def place(file: str, number: int, where: str) -> str:
    """'data.jsonl:3', or 'data.json row 3' where lines are not known."""
    return f"{file}:{number}" if where == "line" else f"{file} row {number}"


@dataclass(frozen=True)
class BrokenRow:
    """A row that cannot be used.

    Attributes:
        file: name of the file, inside the chosen folder.
        line: 1-based line or row, see `where`.
        where: 'line' or 'row'.
        reason: short plain words.
        excerpt: the first characters of the row.
    """

    file: str
    line: int
    where: str
    reason: str
    excerpt: str

    def __str__(self) -> str:
        return f"{place(self.file, self.line, self.where)}: {self.reason}"


@dataclass
class FileReport:
    """The account of one file.

    Attributes:
        name: the file's name, inside the chosen folder.
        encoding: as users know it, such as 'utf-8'.
        layout: 'text', 'json' or 'json lines'.
        formats: rows of each kind (names of `SOURCES`).
        num_rows, num_broken: rows that can be used, rows that cannot.
    """

    name: str
    encoding: str = ""
    layout: str = ""
    formats: dict[str, int] = field(default_factory=dict)
    num_rows: int = 0
    num_broken: int = 0


@dataclass
class SourceReport:
    """The account of a data set; filled while its rows are read, complete when they are exhausted.

    Attributes:
        files: one entry a file, in reading order.
        broken: the first MAX_KEPT broken rows.
        file_notes: what was found out about files.
        row_notes: what was adjusted in rows, and in how many.
    """

    files: list[FileReport] = field(default_factory=list)
    broken: list[BrokenRow] = field(default_factory=list)
    file_notes: list[str] = field(default_factory=list)
    row_notes: dict[str, int] = field(default_factory=dict)
    _bytes_left_behind: int = field(default=0, init=False, repr=False, compare=False)
    _stream: IO[str] | None = field(default=None, init=False, repr=False, compare=False)

    @property
    def bytes_done(self) -> int:
        """Bytes of the files that were read for rows so far."""
        stream = self._stream
        is_open = stream is not None and not stream.closed
        return self._bytes_left_behind + (stream.buffer.tell() if is_open else 0)  # type: ignore[union-attr]

    def follow(self, stream: IO[str]) -> None:
        """A file is being read: its position counts for :attr:`bytes_done`."""
        self._stream = stream

    def leave(self, num_bytes: int) -> None:
        """A file was read to its end."""
        self._stream = None
        self._bytes_left_behind += num_bytes

    @property
    def num_rows(self) -> int:
        """Rows that can be used."""
        return sum(file.num_rows for file in self.files)

    @property
    def num_broken(self) -> int:
        """Rows that cannot be used; `broken` may hold fewer."""
        return sum(file.num_broken for file in self.files)

    @property
    def broken_share(self) -> float:
        """Broken rows among all rows, 0 to 1."""
        return self.num_broken / max(self.num_rows + self.num_broken, 1)

    @property
    def formats(self) -> dict[str, int]:
        """Rows of each kind over all files, the most frequent first."""
        total: dict[str, int] = {}
        for file in self.files:
            for name, count in file.formats.items():
                total[name] = total.get(name, 0) + count
        return dict(sorted(total.items(), key=lambda item: -item[1]))

    @property
    def notes(self) -> list[str]:
        """Everything a user should know that is no error."""
        kinds = self.formats
        mixed = (
            [f"rows of several kinds: {', '.join(f'{name} {count:,}' for name, count in kinds.items())}"]
            if len(kinds) > 1
            else []
        )
        return [
            *self.file_notes,
            *mixed,
            *(f"{note} (rows: {count:,})" for note, count in self.row_notes.items()),
        ]

    def add_row(self, kind: str, notes: tuple[str, ...]) -> None:
        """Counts a good row of the last file."""
        file = self.files[-1]
        file.num_rows += 1
        file.formats[kind] = file.formats.get(kind, 0) + 1
        for note in notes:
            known = note in self.row_notes or len(self.row_notes) < MAX_NOTES
            kept = note if known else "other notes"
            self.row_notes[kept] = self.row_notes.get(kept, 0) + 1

    def add_broken(self, row: BrokenRow) -> None:
        """Counts a broken row of the last file."""
        self._count_broken(self.files[-1], row)

    def reject(self, row: BrokenRow) -> None:
        """Counts a row as broken that was counted as good before; its file need not be the last any more."""
        file = next(file for file in reversed(self.files) if file.name == row.file)
        file.num_rows -= 1
        self._count_broken(file, row)

    def _count_broken(self, file: FileReport, row: BrokenRow) -> None:
        file.num_broken += 1
        if len(self.broken) < MAX_KEPT:
            self.broken.append(row)


def check_broken_share(report: SourceReport, limit: float, *, label: str = "Data set") -> None:
    """Stops before training on a data set of which too much is lost.

    Args:
        report: of a reader that is exhausted.
        limit: share of the rows that may be broken, 0 to 1.
        label: the form's label of the file.

    Raises:
        ValueError: no row can be used, or more than `limit` cannot; names the first 20.
    """
    num_all = report.num_rows + report.num_broken
    if report.num_rows and report.broken_share <= limit:
        return
    shown = [f"  {row}" for row in report.broken[:MAX_SHOWN]]
    if report.num_broken > len(shown):
        shown.append(f"  and {report.num_broken - len(shown):,} more")
    if not report.num_rows:
        head, remedy = (
            f"{label}: none of the {num_all:,} rows can be used.",
            "Mend the rows, or choose another file or Data format.",
        )
    else:
        head = f"Broken rows allowed: {report.num_broken:,} of {num_all:,} rows ({report.broken_share:.1%}) cannot be used, {limit:.1%} is allowed."
        remedy = "Mend these rows, or raise Broken rows allowed."
    raise ValueError("\n".join((head, *shown, remedy)))
