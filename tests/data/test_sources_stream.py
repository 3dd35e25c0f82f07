"""What is read piece by piece equals what is read at once, and memory stays flat."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import training_pro
from hypothesis import given
from hypothesis import strategies as st
from training_pro.data import sources
from training_pro.data.sources import SourceReport, TextPieces, read_rows
from training_pro.data.sources import json_rows as sources_json
from training_pro.data.sources.json_rows import Record, read_document
from training_pro.data.sources.json_window import Window, has_inner_newline

WORDS = st.lists(st.sampled_from(["Say", "ünï", "\n", '"', "\\", "{", "}]", ",", ":", "null", "1", "role"]), max_size=5).map(
    " ".join
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "id", "role"]), inner, max_size=3),
    max_leaves=6,
)
ROWS = st.lists(st.fixed_dictionaries({"instruction": WORDS, "output": VALUES}) | VALUES, max_size=8)
INDENTS = st.sampled_from([None, 0, 2])
PIECES = st.sampled_from([1, 2, 3, 7, 16, 64])


@pytest.fixture(autouse=True, scope="module")
def _short_margin():
    """Windows of these short texts move on, too."""
    before, sources_json.MARGIN_CHARS = sources_json.MARGIN_CHARS, 300
    yield
    sources_json.MARGIN_CHARS = before


def read(text: str, piece_chars: int) -> tuple[list[Record], list[str]]:
    records, notes = read_document(lambda: io.StringIO(text), piece_chars=piece_chars)
    return list(records), notes


# --- JSON ----------------------------------------------------------------------------------------------------------------------


@given(ROWS, INDENTS, st.booleans(), PIECES)
def test_an_array_in_pieces(rows: list, indent: int | None, ascii_only: bool, piece_chars: int) -> None:
    text = json.dumps(rows, indent=indent, ensure_ascii=ascii_only)
    records, notes = read(text, piece_chars)
    assert ([record.value for record in records], notes) == (rows, [])
    line = 2
    for record, row in zip(records, rows if indent is not None else [], strict=indent is not None):
        assert (record.number, record.where) == (line, "line")
        line += json.dumps([row], indent=indent).count("\n") - 1


def is_row_list(value: object) -> bool:
    return isinstance(value, list) and bool(value) and not (isinstance(value[0], dict) and "role" in value[0])


@given(
    st.dictionaries(st.sampled_from(["version", "train", "data", "test", "conversations"]), VALUES | ROWS, max_size=4),
    INDENTS,
    PIECES,
)
def test_an_object_in_pieces(document: dict, indent: int | None, piece_chars: int) -> None:
    records, notes = read(json.dumps(document, indent=indent), piece_chars)
    key = next((key for key in sources_json.LIST_KEYS if is_row_list(document.get(key))), None)
    assert [record.value for record in records] == ([document] if key is None else document[key])
    assert [record.number for record in records] == list(range(1, len(records) + 1))
    unread = ", ".join(other for other in document if other != key)
    expected = [] if key is None else [f"rows read from its list '{key}'" + (f"; not read: {unread}" if unread else "")]
    assert notes == expected


@given(ROWS, INDENTS, PIECES, st.booleans(), st.data())
def test_damage_is_found_alike_in_pieces_and_at_once(
    rows: list, indent: int | None, piece_chars: int, wrapped: bool, data: st.DataObject
) -> None:
    text = json.dumps({"version": 1, "data": rows} if wrapped else rows, indent=indent)
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(text)))
        text = text[:place] + data.draw(st.sampled_from(["", '"', "{", "}", "[", "]", ",", "\n", "x", "\\"])) + text[place + 1 :]
    text = text[: data.draw(st.integers(0, len(text)))] if data.draw(st.integers(0, 5)) == 0 else text
    assert read(text, piece_chars) == read(text, 1 << 20)


def test_a_number_at_the_border_of_a_piece() -> None:
    for piece_chars in range(1, 12):
        assert [record.value for record in read("[12, -2.5e10, 3]", piece_chars)[0]] == [12, -2.5e10, 3]
        assert [record.value for record in read("12 -2.5e10\n3", piece_chars)[0]] == [12, -2.5e10, 3]


def test_a_window_counts_as_the_whole_text_does() -> None:
    text = "ab\ncd\n\nefg\nh\n" * 3
    window = Window(io.StringIO(text), 2)
    for position in range(len(text)):
        assert window.char(position) == text[position]
        assert window.line_of(position) == text.count("\n", 0, position) + 1
        assert window.column_of(position) == position - text.rfind("\n", 0, position)
        if position % 5 == 4:
            window.drop(position - 2)
            assert window.line_of(position - 2) == text.count("\n", 0, position - 2) + 1
    assert not window.has(len(text))
    assert window.base > 0
    assert window.last_char == "h"


@given(st.text("ab \n\t", max_size=30), st.integers(1, 5))
def test_line_breaks_inside(text: str, piece_chars: int) -> None:
    assert has_inner_newline(io.StringIO(text), piece_chars) is ("\n" in text.strip())


# --- texts ---------------------------------------------------------------------------------------------------------------------


@given(st.text(st.sampled_from("aé語\r\n \U0001f600"), max_size=60), st.integers(1, 9))
def test_a_text_in_pieces_is_the_text(tmp_path_factory: pytest.TempPathFactory, text: str, piece_chars: int) -> None:
    path = tmp_path_factory.mktemp("text") / "a.txt"
    path.write_bytes(text.encode())
    before, sources.PIECE_CHARS = sources.PIECE_CHARS, piece_chars
    try:
        expected = text.replace("\r\n", "\n").replace("\r", "\n")
        if not text.strip():
            with pytest.raises(ValueError, match="is empty"):
                list(read_rows(path))
            return
        (row,) = read_rows(path)
    finally:
        sources.PIECE_CHARS = before
    if len(expected) < piece_chars:
        assert row.text == expected
    else:
        assert isinstance(row.text, TextPieces)
        assert all(len(piece) <= piece_chars for piece in row.text)
        assert "".join(row.text) == "".join(row.text) == expected


def test_the_bytes_that_are_read_are_known(tmp_path: Path) -> None:
    sizes = []
    for name in ("1.jsonl", "2.jsonl"):
        path = tmp_path / name
        path.write_text("".join(json.dumps({"text": "word " * 2000}) + "\n" for _ in range(30)), encoding="utf-8")
        sizes.append(path.stat().st_size)
    report = SourceReport()
    done = [report.bytes_done for _ in read_rows(tmp_path, report=report)]
    assert done == sorted(done)
    assert 0 < done[0] < sizes[0] * 0.2
    assert sizes[0] < done[30] < sizes[0] * 1.2
    assert report.bytes_done == sum(sizes)


# --- memory --------------------------------------------------------------------------------------------------------------------

PEAK = """
import resource, sys
from training_pro.data.sources import read_rows

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)

for _ in read_rows(sys.argv[1]):
    pass
before = peak()
num = sum(len(row.text) if isinstance(row.text, str) else sum(map(len, row.text)) for row in read_rows(sys.argv[2]))
print(num, peak() - before)
"""
LAYOUTS = {
    "array.json": lambda rows: "[\n" + ",\n".join(map(json.dumps, rows)) + "\n]",
    "one line.json": json.dumps,
    "object.json": lambda rows: json.dumps({"version": 1, "data": rows}, indent=1),
    "damaged.json": lambda rows: json.dumps({"data": rows})[:-1],
    "text.txt": lambda rows: "\n".join(row["text"] for row in rows),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_large_files_stream_in_bounded_memory(tmp_path: Path, name: str) -> None:
    pytest.importorskip("resource")
    row = {"text": "Once upon a time there was a keeper. " * 30}
    small, large = tmp_path / name, tmp_path / f"large {name}"
    small.write_text(LAYOUTS[name]([row] * 3_000), encoding="utf-8")
    large.write_text(LAYOUTS[name]([row] * 45_000), encoding="utf-8")
    assert large.stat().st_size > 49_000_000
    command = [sys.executable, "-c", PEAK, str(small), str(large)]
    environment = {**os.environ, "PYTHONPATH": str(Path(training_pro.__file__).parents[1])}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    num, growth_mb = map(float, done.stdout.split())
    assert num >= 45_000 * len(row["text"])
    assert growth_mb < 15
