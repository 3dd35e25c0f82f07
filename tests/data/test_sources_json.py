"""JSON texts in, records out; a malformed row costs itself and is named with its line."""

import io
import json

import pytest
from training_pro.data.sources.json_rows import Record, is_json_lines, read_document, read_lines

ONE, TWO, THREE = ({"instruction": f"Say {n}.", "output": n} for n in ("one", "two", "three"))
CHAT = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yo"}]}


def read(text: str) -> tuple[list, list[Record], list[str]]:
    """The good values, the malformed records and the notes."""
    records, notes = read_document(text)
    found = list(records)
    return [record.value for record in found if not record.problem], [record for record in found if record.problem], notes


@pytest.mark.parametrize(
    ("text", "expected", "result"),
    [
        ("", False, True),
        ("[]", True, False),
        ('{"a": 1}', True, False),
        ('{"a": 1}\n{"a": 2}', False, True),
        ('\n\n{"a": 1}\n\n{"a": 2}\n', False, True),
        ("[1]\n[2]", False, True),
        ("[1,\n2]", True, False),
        ('[\n{"a": 1},\n{"a": 2}\n]', True, False),
        ('{\n"a": 1\n}', True, False),
        ('{"data": [\n{"a": 1}\n]}', True, False),
        ('{"a": broken\n{"a": 2}', True, True),
        ('{"a": broken\n{"a": 2}', False, False),
        ('{"a": broken\n{"a": 2}\n{"a": 3}', False, True),
        ('{"a": 1,\n"b": 2}', False, False),
        ("no json\nat all", True, True),
        ("no json\nat all", False, False),
    ],
)
def test_the_layout_is_told_from_the_text(text, expected, result):
    assert is_json_lines(io.StringIO(text), expected=expected) is result


def test_lines():
    assert list(read_lines(io.StringIO('{"a": 1}\n\n  \n[2]\n{"a" 1}\nnull'))) == [
        Record(1, "line", {"a": 1}, '{"a": 1}\n'),
        Record(4, "line", [2], "[2]\n"),
        Record(5, "line", None, '{"a" 1}\n', "not JSON: expecting ':' delimiter at column 6"),
        Record(6, "line", None, "null"),
    ]


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("", []),
        ("[]", []),
        ('[1, null, "x", {}]', [1, None, "x", {}]),
        ("[{}, {},]", [{}, {}]),
        ("[1][2] [3]", [1, 2, 3]),
        ("{} {}\n{}", [{}, {}, {}]),
        ("[[1], [2]]", [[1], [2]]),
        ('{"a": 1}', [{"a": 1}]),
        ('{"data": [1, 2]}', [1, 2]),
        ('{"data": [], "rows": [1]}', [1]),
        ('{"conversations": [{"from": "gpt", "value": "Yo"}]}', [{"conversations": [{"from": "gpt", "value": "Yo"}]}]),
        ('{"conversations": [{"messages": []}, {}]}', [{"messages": []}, {}]),
        ('{"conversations": [[{"from": "gpt"}]]}', [[{"from": "gpt"}]]),
    ],
)
def test_whole_documents(text, values):
    found, malformed, _ = read(text)
    assert (found, malformed) == (values, [])


ARRAYS = {
    "lines": "[\n" + ",\n".join(map(json.dumps, (ONE, TWO, THREE))) + "\n]\n",
    "indented": json.dumps([ONE, TWO, THREE], indent=2),
    "one line": json.dumps([ONE, TWO, THREE]),
    "flat": json.dumps([ONE, TWO, THREE], indent=0),
    "wrapped": json.dumps({"data": [ONE, TWO, THREE], "more": 1}, indent=2),
    "several values": "\n".join(json.dumps(row, indent=2) for row in (ONE, TWO, THREE)),
}
DAMAGES = {
    "quote inside": lambda text: text.replace("Say two.", 'Say "two".'),
    "lost quote": lambda text: text.replace("Say two.", "Say two.\\"),
    "lost comma": lambda text: text[: text.index("two.")] + text[text.index("two.") :].replace(",", " ", 1),
    "single quotes": lambda text: text.replace('"Say two."', "'Say two.'"),
    "comment": lambda text: text.replace('"Say two."', '// "Say two."'),
    "lost brace": lambda text: text[: text.index("two.")] + text[text.index("two.") :].replace("}", " ", 1),
}


@pytest.mark.parametrize("layout", ARRAYS)
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_malformed_row_costs_itself_only(layout, damage):
    text = DAMAGES[damage](ARRAYS[layout])
    values, malformed, _ = read(text)
    assert values == [ONE, THREE]
    (record,) = malformed
    assert record.problem.startswith("not JSON: ")
    assert "reading goes on at line " in record.problem
    begin = text.rindex("{", 0, text.index("two"))
    assert (record.number, record.where) == ((2, "row") if layout == "one line" else (text.count("\n", 0, begin) + 1, "line"))
    assert record.raw.startswith(text[begin : begin + 20])


def test_the_reason_names_the_line_and_the_column():
    _, (record,), _ = read('[\n{"a": 1},\n{"a" 2},\n{"a": 3}]')
    assert record.problem == "not JSON: expecting ':' delimiter at line 3, column 6; reading goes on at line 4"
    _, (record,), _ = read('[\n{"a": 1},\n{"a" 2}]')
    assert record.problem == "not JSON: expecting ':' delimiter at line 3, column 6; nothing readable follows"


def test_brackets_left_over_from_a_malformed_row_are_passed_over():
    values, malformed, _ = read('[{"a": 1 {"b": [}]},\n{"a": 2}]}]\n')
    assert (values, [record.number for record in malformed]) == ([{"a": 2}], [1])


def test_rows_with_nested_messages_recover_at_the_next_row():
    good = json.dumps(CHAT)
    bad = good.replace("Hi", 'H"i')
    values, malformed, _ = read(f"[{bad}, {good}, {bad}, {good}]")
    assert (values, [record.number for record in malformed]) == ([CHAT, CHAT], [1, 3])
    nested = '{"id": 1, "meta": {"id": 2 "x"}, "text": "a"}'
    values, malformed, _ = read(f'[{{"id": 0}}, {nested}, {{"id": 3}}]')
    assert (values, len(malformed)) == ([{"id": 0}, {"id": 3}], 1)


def test_a_damaged_object_around_the_list_is_told():
    good = json.dumps(CHAT)
    values, malformed, notes = read(f'{{"conversations": [{good},\n{good.replace("Hi", chr(34))},\n{good}], "more": 1}}')
    assert (values, [record.number for record in malformed]) == ([CHAT, CHAT], [2])
    values, malformed, notes = read('{"a": 1, "b": \n{"a": 2}')
    assert (values, [record.number for record in malformed], notes) == ([{"a": 2}], [1], [])
    values, malformed, notes = read('{"data": [{"a": 1}], "more": ')
    assert (values, malformed) == ([{"a": 1}], [])
    assert notes == ["rows read from its list 'data'; the object around it is not valid JSON, the rest of it was not read"]


def test_the_list_that_is_read_is_named():
    assert read('{"version": 1, "train": [1], "test": [2]}')[2] == ["rows read from its list 'train'; not read: version, test"]


def test_rows_that_are_lists_recover_too():
    good = json.dumps(CHAT["messages"])
    values, malformed, _ = read(f"[{good}, {good.replace('Hi', chr(34))}, {good}]")
    assert (values, [record.number for record in malformed]) == ([CHAT["messages"]] * 2, [2])


def test_values_that_are_no_json():
    values, malformed, _ = read(f"[undefined, {json.dumps(ONE)}, nope]")
    assert (values, [record.number for record in malformed]) == ([ONE], [1, 3])


@pytest.mark.parametrize(
    ("text", "count", "reason"),
    [
        ('[{"a": 1}, {"a": 2}', 2, "the file is cut off: its list of rows is not closed"),
        ('[{"a": 1}, {"a": 2', 1, "the file is cut off inside this row"),
        ('[{"a": 1}, {"a": "x', 1, "the file is cut off inside this row"),
        ('{"data": [{"a": 1}, {"a": 2}', 2, "the file is cut off: its list of rows is not closed"),
        ('{"data": [{"a": 1}, {"a', 1, "the file is cut off inside this row"),
        ('{"a": 1}\n{"a": ', 1, "the file is cut off inside this row"),
        ("[", 0, "the file is cut off: its list of rows is not closed"),
        ('[{"a": 1}]\ngarbage', 1, "nothing readable follows"),
        ("garbage", 0, "nothing readable follows"),
    ],
)
def test_a_file_that_ends_wrongly_says_so(text, count, reason):
    values, malformed, _ = read(text)
    assert len(values) == count
    assert [record.problem[-len(reason) :] for record in malformed] == [reason]


def test_raw_newlines_and_tabs_inside_strings_pass():
    assert read('[{"text": "a\n\tb"},\r\n {"text": "c"}]')[:2] == ([{"text": "a\n\tb"}, {"text": "c"}], [])


@pytest.mark.parametrize(("row", "reason"), [("9" * 5000, "a number is too long"), ('{"a": ' * 200_000, "too deeply nested")])
def test_what_python_does_not_decode(row, reason):
    (record,) = read_lines([row])
    assert record.problem == f"not JSON: {reason} at column 1"
