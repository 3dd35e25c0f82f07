"""Files in, rows out: layouts, folders, what is broken and where, and bounded memory."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import training_pro
from hypothesis import given, settings
from hypothesis import strategies as st
from training_pro.data import sources
from training_pro.data.sources import (
    ENDINGS,
    BrokenRow,
    FileReport,
    SourceReport,
    detect_format,
    read_rows,
)

ONE, TWO, THREE = ({"instruction": f"Say {n}.", "output": n} for n in ("one", "two", "three"))
CHAT = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yo"}]}


def written(folder: Path, name: str, data: str | bytes | list | dict) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if not isinstance(data, str | bytes):
        data = json.dumps(data)
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


def lines(*rows: object) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def read(path: Path, **options) -> tuple[list[sources.Row], SourceReport]:
    report = SourceReport()
    return list(read_rows(path, report=report, **options)), report


def replies(rows: list[sources.Row]) -> list[str]:
    return [row.text if row.messages is None else row.messages[-1]["content"] for row in rows]


def places(rows: list) -> list[tuple[str, int, str]]:
    return [(row.file, row.line, row.where) for row in rows]


# -- layouts


@pytest.mark.parametrize(
    ("name", "data", "numbers", "layout"),
    [
        ("a.jsonl", lines(ONE, TWO, THREE), [(1, "line"), (2, "line"), (3, "line")], "json lines"),
        (
            "a.ndjson",
            "\n" + lines(ONE, TWO) + "  \r\n" + lines(THREE).strip(),
            [(2, "line"), (3, "line"), (5, "line")],
            "json lines",
        ),
        ("a.json", lines(ONE, TWO, THREE), [(1, "line"), (2, "line"), (3, "line")], "json lines"),
        ("a.json", [ONE, TWO, THREE], [(1, "row"), (2, "row"), (3, "row")], "json"),
        ("a.jsonl", [ONE, TWO, THREE], [(1, "row"), (2, "row"), (3, "row")], "json"),
        ("a.json", json.dumps([ONE, TWO, THREE], indent=2), [(2, "line"), (6, "line"), (10, "line")], "json"),
        ("a.json", json.dumps([ONE, TWO, THREE], indent=0), [(2, "line"), (6, "line"), (10, "line")], "json"),
        (
            "a.jsonl",
            "[\n" + ",\n".join(map(json.dumps, (ONE, TWO, THREE))) + "\n]",
            [(2, "line"), (3, "line"), (4, "line")],
            "json",
        ),
        (
            "a.json",
            "[" + ",\n".join(map(json.dumps, (ONE, TWO, THREE))) + ",]\n",
            [(1, "line"), (2, "line"), (3, "line")],
            "json",
        ),
        (
            "a.json",
            "\n".join(json.dumps(row, indent=1) for row in (ONE, TWO, THREE)),
            [(1, "line"), (5, "line"), (9, "line")],
            "json",
        ),
        ("a.json", json.dumps([ONE]) + json.dumps([TWO, THREE]), [(1, "row"), (2, "row"), (3, "row")], "json"),
        ("a.json", {"data": [ONE, TWO, THREE]}, [(1, "row"), (2, "row"), (3, "row")], "json"),
        ("a.json", json.dumps({"conversations": [ONE, TWO, THREE]}, indent=1), [(1, "row"), (2, "row"), (3, "row")], "json"),
    ],
)
def test_the_same_rows_in_any_layout(tmp_path, name, data, numbers, layout):
    rows, report = read(written(tmp_path, name, data))
    assert replies(rows) == ["one", "two", "three"]
    assert places(rows) == [(name, *number) for number in numbers]
    assert report.files == [FileReport(name, "utf-8", layout, {"alpaca": 3}, num_rows=3, num_broken=0)]
    assert report.broken == []


def test_a_row_says_where_it_is(tmp_path):
    assert [str(row) for row in read(written(tmp_path, "a.jsonl", lines(ONE, TWO)))[0]] == ["a.jsonl:1", "a.jsonl:2"]
    assert [str(row) for row in read(written(tmp_path, "a.json", [ONE]))[0]] == ["a.json row 1"]


def test_a_single_object_is_one_row(tmp_path):
    rows, report = read(written(tmp_path, "a.json", json.dumps(CHAT, indent=1)))
    assert (replies(rows), report.num_broken) == (["Yo"], 0)
    rows, _ = read(written(tmp_path, "b.jsonl", {"conversations": [{"from": "gpt", "value": "Yo"}]}))
    assert (replies(rows), rows[0].format) == (["Yo"], "sharegpt")


def test_unicode_line_separators_do_not_end_a_line(tmp_path):
    text = "a\u2028b\u0085c"
    rows, _ = read(written(tmp_path, "a.jsonl", json.dumps({"text": text}, ensure_ascii=False) + "\n" + lines(ONE)))
    assert replies(rows) == [text, "one"]


def test_rows_of_several_kinds(tmp_path):
    rows, report = read(written(tmp_path, "a.jsonl", lines(CHAT, ONE, {"text": "Once."}, [*CHAT["messages"]], TWO, THREE)))
    assert [row.format for row in rows] == ["messages", "alpaca", "text", "messages", "alpaca", "alpaca"]
    assert [row.kind for row in rows] == ["conversation"] * 2 + ["text"] + ["conversation"] * 3
    assert report.formats == {"alpaca": 3, "messages": 2, "text": 1}
    assert report.notes == ["rows of several kinds: alpaca 3, messages 2, text 1"]


def test_tools_and_extra_keys_arrive(tmp_path):
    tool = {"type": "function", "function": {"name": "clock"}}
    messages = [CHAT["messages"][0], CHAT["messages"][1] | {"weight": 0}]
    (row,), _ = read(written(tmp_path, "a.jsonl", lines({"messages": messages, "tools": [tool]})))
    assert (row.messages, row.tools) == (tuple(messages), (tool,))


# -- encodings


@pytest.mark.parametrize(
    ("codec", "name", "notes"),
    [
        ("utf-8", "utf-8", []),
        ("utf-8-sig", "utf-8", ["a.jsonl: byte order mark removed"]),
        ("utf-16", "utf-16", ["a.jsonl: encoding utf-16"]),
        ("cp1252", "windows-1252", ["a.jsonl: encoding windows-1252 detected, not UTF-8"]),
    ],
)
def test_the_encoding_is_found_and_told(tmp_path, codec, name, notes):
    data = json.dumps({"text": "déjà vu"}, ensure_ascii=False) + "\r\n"
    rows, report = read(written(tmp_path, "a.jsonl", (data * 2).encode(codec)))
    assert replies(rows) == ["déjà vu"] * 2
    assert (report.files[0].encoding, report.notes) == (name, notes)


def test_the_chosen_encoding(tmp_path):
    path = written(tmp_path, "a.txt", "Ångström".encode("cp1252"))
    assert replies(read(path, encoding="cp1252")[0]) == ["Ångström"]
    with pytest.raises(ValueError, match=r"Text file: .*a.txt is not utf-8: byte 0xC5 at position 0 \(line 1\)"):
        read(path, encoding="utf-8", label="Text file")


def test_a_damaged_byte_costs_its_row_only(tmp_path):
    good = json.dumps({"text": "Привет, мир"}, ensure_ascii=False).encode() + b"\n"
    rows, report = read(written(tmp_path, "a.jsonl", good * 2 + b'{"text": "caf\xe9"}\n' + good))
    assert len(rows) == 3
    assert report.broken == [
        BrokenRow("a.jsonl", 3, "line", "byte 0xE9, not UTF-8, at character 4 of its text", '{"text": "caf?"}')
    ]
    assert "UTF-8 with damaged bytes" in report.notes[0]


# -- texts and folders


def test_a_text_file_is_one_row(tmp_path):
    (row,), report = read(written(tmp_path, "a.txt", b"\xef\xbb\xbfOne.\r\n\r\nTwo.\r\n"))
    assert (row.kind, row.text, row.messages, str(row)) == ("text", "One.\n\nTwo.\n", None, "a.txt:1")
    assert report.formats == {"text": 1}


def test_a_folder_is_read_file_by_file(tmp_path):
    for name in ("file10.txt", "sub/file2.jsonl", "file2.txt"):
        written(tmp_path, name, lines({"text": name}) if name.endswith("jsonl") else name)
    rows, report = read(tmp_path)
    assert [row.file for row in rows] == replies(rows) == ["file2.txt", "file10.txt", "sub/file2.jsonl"]
    assert [(file.name, file.layout) for file in report.files] == [
        ("file2.txt", "text"),
        ("file10.txt", "text"),
        ("sub/file2.jsonl", "json"),
    ]


def test_an_empty_file_of_a_folder_is_a_broken_row(tmp_path):
    for name, data in (("a.txt", ""), ("b.txt", " \n"), ("c.jsonl", "\n"), ("d.json", "[]"), ("e.txt", "E")):
        written(tmp_path, name, data)
    rows, report = read(tmp_path)
    assert replies(rows) == ["E"]
    assert [str(row) for row in report.broken] == [
        f"{name}:1: the file is empty" for name in ("a.txt", "b.txt", "c.jsonl", "d.json")
    ]


# -- broken rows


def test_rows_that_cannot_be_used_are_told(tmp_path):
    path = written(tmp_path, "a.jsonl", lines(ONE, None, 3, "Once.", {"id": 1}) + '{"text": "x" "y"}\n{} {}\n' + lines(TWO))
    rows, report = read(path)
    assert [row.line for row in rows] == [1, 8]
    needs = "'messages', 'conversations', 'instruction' + 'output', 'prompt' + 'completion', 'text'"
    assert [(row.line, row.reason, row.excerpt) for row in report.broken] == [
        (2, "null row", "null"),
        (3, "a number instead of an object", "3"),
        (4, "plain text instead of an object; choose the data format 'text' to train it as text", '"Once."'),
        (5, f"no {needs}; keys found: id", '{"id": 1}'),
        (6, "not JSON: expecting ',' delimiter at column 14", '{"text": "x" "y"}'),
        (7, "not JSON: more text behind the row at column 3", "{} {}"),
    ]
    assert (report.num_rows, report.num_broken, report.broken_share) == (2, 6, 0.75)


def test_a_row_nested_without_end_is_broken(tmp_path, monkeypatch):
    def too_deep(*args, **kwargs):
        raise RecursionError

    monkeypatch.setattr(sources, "parse_row", too_deep)
    monkeypatch.setattr(sources.json, "dumps", too_deep)
    _, report = read(written(tmp_path, "a.json", '[{"a": 1},\n{"a": 2}]'))
    assert [(row.line, row.reason, row.excerpt) for row in report.broken] == [
        (1, "too deeply nested", ""),
        (2, "too deeply nested", ""),
    ]


def test_excerpts_are_short_and_on_one_line(tmp_path):
    _, report = read(written(tmp_path, "a.json", json.dumps([{"a": "x\n" * 200}, ONE], indent=4)))
    assert len(report.broken[0].excerpt) == 80
    assert report.broken[0].excerpt.startswith('{"a": "x')


def test_a_given_format_is_kept(tmp_path):
    path = written(tmp_path, "a.jsonl", lines(ONE, CHAT, "Once."))
    assert [row.line for row in read(path, format="alpaca")[0]] == [1]
    rows, report = read(path, format="text")
    assert (replies(rows), rows[0].line) == (["Once."], 3)
    assert report.broken[0].reason == "no 'text'; keys found: instruction, output"
    _, report = read(written(tmp_path, "b.txt", "Once."), format="alpaca")
    assert [row.reason for row in report.broken] == ["a text file, which has no rows of the data format 'alpaca'"]


def test_a_format_file_is_used(tmp_path):
    entries = written(tmp_path, "formats/f.json", {"instruction,output": "Q: %instruction%\nA: %output%", "text": "<%text%>"})
    rows, report = read(written(tmp_path, "a.jsonl", lines(ONE, CHAT)), format_file=entries)
    assert [(row.format, row.text) for row in rows] == [("template", "Q: Say one.\nA: one"), ("messages", None)]
    assert replies(read(written(tmp_path, "a.txt", "Once."), format_file=entries)[0]) == ["Once."]
    _, report = read(tmp_path / "a.jsonl", format="alpaca", format_file=entries)
    assert "the Format file is not used: the Data format is 'alpaca'" in report.notes


# -- what raises


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.txt", b"", "Data set: .*a.txt is empty, it holds no row. Choose another"),
        ("a.txt", b"\xef\xbb\xbf \n", "a.txt is empty"),
        ("a.jsonl", b"\n\n", "a.jsonl is empty"),
        ("a.json", b"[]", "a.json is empty"),
        ("a.txt", b"PK\x03\x04..", "a.txt is a zip archive or an office document, not text"),
        ("a.txt", "Привет, мир ".encode() * 9 + b"\xff", "a.txt is UTF-8 with damaged bytes"),
    ],
)
def test_files_that_cannot_be_read(tmp_path, name, data, message):
    with pytest.raises(ValueError, match=message):
        read(written(tmp_path, name, data))


def test_the_path_is_checked_at_the_call(tmp_path):
    with pytest.raises(ValueError, match="Text file: .*none.txt does not exist. Check the path"):
        read_rows(tmp_path / "none.txt", label="Text file")


def test_settings_are_checked_at_the_call(tmp_path):
    path = written(tmp_path, "a.jsonl", lines(ONE))
    with pytest.raises(ValueError, match="Data format: 'csv' is unknown"):
        read_rows(path, format="csv")
    with pytest.raises(ValueError, match="needs a format file"):
        read_rows(path, format="template")
    with pytest.raises(ValueError, match="Format file: .*none.json cannot be read"):
        read_rows(path, format_file=tmp_path / "none.json")


# -- detection


@pytest.mark.parametrize(
    ("name", "data", "expected"),
    [
        ("a.txt", "Once.", "text"),
        ("a.md", "# Once", "text"),
        ("a.jsonl", lines(CHAT, ONE, TWO), "alpaca"),
        ("a.jsonl", lines(None, CHAT), "messages"),
        ("a.json", [{"conversations": CHAT["messages"]}], "sharegpt"),
        ("a.json", [{"prompt": "Hi", "completion": "Yo"}], "prompt_completion"),
        ("a.jsonl", lines(*[CHAT] * 50, *[ONE] * 60), "messages"),
    ],
)
def test_the_kind_of_most_of_the_first_rows(tmp_path, name, data, expected):
    assert detect_format(written(tmp_path, name, data)) == expected


def test_nothing_to_detect(tmp_path):
    with pytest.raises(ValueError, match="Data set: none of the 2 rows can be used"):
        detect_format(written(tmp_path, "a.jsonl", lines({"a": 1}, None)))


# -- properties

_VALUES = st.one_of(
    *(st.just(row) for row in (CHAT, ONE, {"text": "x"}, {"text": ""}, {"id": 1}, None, 3, "Once.", {"messages": []})),
    st.dictionaries(st.sampled_from(["text", "prompt", "completion", "id"]), st.text(max_size=3), max_size=3),
).map(json.dumps)
_LINES = st.lists(
    st.one_of(_VALUES, st.sampled_from(["", "  ", "\t"]), st.text('ab",:} 1é\u2028\u0085', max_size=8)), max_size=40
)


@settings(deadline=None)
@given(_LINES)
def test_rows_and_broken_rows_are_all_lines_that_are_not_blank(data):
    num_lines = sum(bool(line.strip()) for line in data)
    with tempfile.TemporaryDirectory() as folder:
        path = written(Path(folder), "a.jsonl", "\n".join(data) or "\n")
        if not num_lines:
            with pytest.raises(ValueError, match="is empty"):
                read(path)
            return
        rows, report = read(path)
    assert len(rows) == report.num_rows
    assert len(report.broken) == report.num_broken
    assert len(rows) + report.num_broken == num_lines
    seen = sorted(row.line for row in [*rows, *report.broken] if row.where == "line")
    assert len(set(seen)) == len(seen)


PEAK_OF_READING = """
import resource, sys
from training_pro.data.sources import SourceReport, read_rows

report = SourceReport()
rows = read_rows(sys.argv[1], report=report)
first = [next(rows) for _ in range(1000)]
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
count = sum(1 for _ in rows)
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(count, report.num_rows, (after - before) / (2**20 if sys.platform == "darwin" else 2**10))
"""


def test_json_lines_stream_in_bounded_memory(tmp_path):
    pytest.importorskip("resource")
    path = tmp_path / "a.jsonl"
    with path.open("w", encoding="utf-8") as file:
        for _ in range(200):
            file.write(lines({"text": "Once upon a time. " * 15}) * 1000)
    assert path.stat().st_size > 50_000_000
    done = subprocess.run(
        [sys.executable, "-c", PEAK_OF_READING, str(path)],
        env={**os.environ, "PYTHONPATH": str(Path(training_pro.__file__).parents[1])},
        capture_output=True,
        text=True,
        check=True,
    )
    count, num_rows, growth_mb = map(float, done.stdout.split())
    assert (count, num_rows) == (199_000, 200_000)
    assert growth_mb < 5  # the rows are 55 MB as text alone


def test_every_ending_has_a_reader(tmp_path):
    for ending in ENDINGS:
        assert len(read(written(tmp_path, f"a{ending.upper()}", lines({"text": "x"})))[0]) == 1
