"""Literal rows in, messages or text out; and the reason for every row that cannot be used."""

import json

import pytest
from training_pro.data.formats import SOURCES, check_format, parse_row
from training_pro.data.formats.messages import ROLES, BadRow, listed
from training_pro.data.formats.template import read_format_file

U, A = {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yo"}
S = {"role": "system", "content": "Be kind."}
SHORT = {"instruction": "Add.", "output": "3"}
CALL = {"type": "function", "function": {"name": "clock", "arguments": {"zone": "UTC"}}}

CONVERSATIONS = [
    ("messages", {"messages": [U, A]}, [U, A]),
    ("messages", {"messages": [S, U, A, U, A]}, [S, U, A, U, A]),
    ("messages", [U, A], [U, A]),
    ("messages", {"messages": [{"from": "human", "value": "Hi"}, {"role": "gpt", "text": "Yo"}]}, [U, A]),
    ("messages", {"messages": [U, A | {"weight": 0, "name": "x"}]}, [U, A | {"weight": 0, "name": "x"}]),
    ("messages", {"messages": [U, A | {"reasoning_content": "hm"}]}, [U, A | {"reasoning_content": "hm"}]),
    ("messages", {"messages": [U, U, A, A]}, [U, U, A, A]),
    (
        "messages",
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "H"}, {"type": "text", "text": "i"}]}, A]},
        [U, A],
    ),
    (
        "messages",
        {"messages": [U, {"role": "assistant", "content": None, "tool_calls": [CALL]}]},
        [U, {"role": "assistant", "content": "", "tool_calls": [CALL]}],
    ),
    ("messages", {"messages": [U, {"role": "assistant", "tool_calls": [CALL]}]}, [U, A | {"content": "", "tool_calls": [CALL]}]),
    ("messages", {"messages": [U, A], "text": "raw", "system": "Be kind."}, [S, U, A]),
    ("sharegpt", {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Yo"}]}, [U, A]),
    ("sharegpt", {"conversations": [{"from": "gpt", "value": "Yo"}]}, [A]),
    ("sharegpt", {"conversations": [{"from": "gpt", "value": "Yo"}, {"from": "human", "value": "Hi"}, A]}, [A, U, A]),
    ("sharegpt", {"conversation": [{"from": " User ", "value": "Hi"}, {"from": "ChatGPT", "value": "Yo"}]}, [U, A]),
    ("sharegpt", {"system": "Be kind.", "conversations": [U, A]}, [S, U, A]),
    ("sharegpt", {"system": "Other.", "conversations": [S, U, A]}, [S, U, A]),
    (
        "sharegpt",
        {
            "conversations": [
                {"from": "human", "value": "Hi"},
                {"from": "function_call", "tool_calls": None, "value": json.dumps(CALL["function"])},
                {"from": "observation", "value": "12:00"},
                {"from": "gpt", "value": "Yo"},
            ]
        },
        [U, A | {"content": "", "tool_calls": [CALL]}, {"role": "tool", "content": "12:00"}, A],
    ),
    ("sharegpt", {"conversations": [U, {"from": "function_call", "value": "Yo"}]}, [U, A]),
    ("sharegpt", {"conversations": [U, {"from": "function_call", "value": '{"a": 1}'}]}, [U, A | {"content": '{"a": 1}'}]),
    ("alpaca", {"instruction": "Hi", "output": "Yo"}, [U, A]),
    ("alpaca", {"instruction": "Hi", "input": "", "output": "Yo", "system": "Be kind."}, [S, U, A]),
    ("alpaca", {"instruction": "Hi", "input": "you", "output": "Yo"}, [{"role": "user", "content": "Hi\nyou"}, A]),
    ("alpaca", {"instruction": "", "input": "Hi", "output": "Yo"}, [U, A]),
    ("alpaca", {"instruction": "Hi", "context": "you", "response": "Yo"}, [{"role": "user", "content": "Hi\nyou"}, A]),
    ("alpaca", {"instruction": "Hi", "output": "Yo", "history": [["Hi", "Yo"]]}, [U, A, U, A]),
    ("prompt_completion", {"prompt": "Hi", "completion": "Yo"}, [U, A]),
    ("prompt_completion", {"prompt": "Hi", "response": "Yo"}, [U, A]),
    ("prompt_completion", {"question": "Hi", "answer": "Yo"}, [U, A]),
    ("prompt_completion", {"question": "Hi", "context": "you", "answer": 4}, [U | {"content": "Hi\nyou"}, A | {"content": "4"}]),
    ("prompt_completion", {"input": "Hi", "output": "Yo"}, [U, A]),
    ("prompt_completion", {"system_prompt": "Be kind.", "question": "Hi", "response": "Yo"}, [S, U, A]),
    ("prompt_completion", {"prompt": [S, U], "completion": [A]}, [S, U, A]),
    ("prompt_completion", {"messages": None, "prompt": [U], "completion": "Yo"}, [U, A]),
]


@pytest.mark.parametrize(("kind", "row", "messages"), CONVERSATIONS)
def test_conversations_come_out_with_roles_and_content(kind, row, messages):
    before = json.dumps(row)
    for name in ("auto", kind):
        found, content = parse_row(row, name)
        assert (found, list(content.messages), content.text) == (kind, messages, None)
    assert json.dumps(row) == before  # the caller's row is left as it was


@pytest.mark.parametrize(
    ("name", "row", "text"),
    [
        ("auto", {"text": " Once.\n"}, " Once.\n"),
        ("text", {"text": "Once.", "messages": [U, A]}, "Once."),
        ("text", "Once.", "Once."),
        ("text", {"text": 12}, "12"),
    ],
)
def test_text_rows(name, row, text):
    kind, content = parse_row(row, name)
    assert (kind, content.text, content.messages) == ("text", text, None)


@pytest.mark.parametrize("speaker", ROLES)
def test_every_known_speaker_is_read(speaker):
    _, content = parse_row({"conversations": [{"from": speaker.upper(), "value": "Hi"}, A]})
    assert content.messages[0] == {"role": ROLES[speaker], "content": "Hi"}


def test_tools_beside_the_messages_are_kept():
    tool = {"type": "function", "function": {"name": "clock"}}
    for given in ([tool], json.dumps([tool])):
        assert parse_row({"messages": [U, A], "tools": given})[1].tools == (tool,)
    assert parse_row({"messages": [U, A], "tools": "[]"})[1].tools is None


@pytest.mark.parametrize(
    ("row", "note"),
    [
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}, A]}, "text parts of a message were joined"),
        ({"messages": [U, {"from": "function_call", "value": '{"name": "f", "arguments": {}}'}]}, "was read as a tool call"),
        ({"messages": [S | {"content": ""}, U, A]}, "an empty message was kept"),
        ({"messages": [S, U, A], "system": "Other."}, "the system prompt beside the messages was not used"),
        ({"messages": [U, A], "id": 7, "category": "x"}, "keys not used: category, id"),
        ({"instruction": "Hi", "output": "Yo", "response": "other"}, "keys not used: response"),
        ({"text": "Once.", "id": 7}, "keys not used: id"),
    ],
)
def test_what_is_adjusted_is_noted(row, note):
    _, content = parse_row(row)
    assert [note in found for found in content.notes] == [True]


def test_a_plain_row_has_no_notes():
    for row in ({"messages": [U, A]}, {"text": "x"}, SHORT | {"input": ""}, {"conversations": [U, A], "tools": None}):
        assert parse_row(row)[1].notes == ()


@pytest.mark.parametrize(
    ("name", "row", "reason"),
    [
        ("auto", None, "null row"),
        ("auto", 3, "a number instead of an object"),
        ("auto", True, "true or false instead of an object"),
        ("auto", [1], "a list instead of an object"),
        ("auto", "Once.", "plain text instead of an object; choose the data format 'text'"),
        ("auto", {"a": 1, "b": 2}, "no 'messages', 'conversations', .* or|no 'messages'.*keys found: a, b"),
        ("auto", {"messages": None}, r"keys found: messages \(null: messages\)"),
        ("auto", {}, "keys found: none"),
        ("alpaca", {"messages": [U, A]}, r"no 'instruction' \+ 'output'; keys found: messages"),
        ("text", {"content": "x"}, "no 'text'; keys found: content"),
        ("auto", {"messages": "Hi"}, "the messages are plain text, not a list"),
        ("auto", {"messages": []}, "the list of messages is empty"),
        ("auto", {"messages": [U]}, "no assistant turn"),
        ("auto", {"messages": [U, A | {"content": " \n"}]}, "the reply is empty"),
        ("auto", {"messages": [U, A | {"content": ""}, U, A | {"content": None}]}, "all 2 replies are empty"),
        ("auto", {"messages": [None, A]}, "message 1 is null, not an object"),
        ("auto", {"conversations": [{"from": "foo", "value": "Hi"}, A]}, "first speaker 'foo' unknown"),
        ("auto", {"conversations": [U, {"from": "foo", "value": "Hi"}]}, "speaker 'foo' of message 2 unknown"),
        ("auto", {"messages": [{"role": 3, "content": "Hi"}]}, "first speaker 3 unknown"),
        ("auto", {"messages": [{"content": "Hi"}]}, r"message 1 names no speaker \('role' or 'from'\); keys found: content"),
        (
            "auto",
            {"messages": [U, {"role": "gpt", "body": "Yo"}]},
            "message 2 has no 'content' or 'value'; keys found: role, body",
        ),
        ("auto", {"messages": [U, A | {"content": {"a": 1}}]}, "message 2 is an object, not text"),
        (
            "auto",
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}, A]},
            "message 1 has a part of type 'image_url': only text can be trained",
        ),
        ("auto", {"messages": [U | {"content": ["Hi"]}, A]}, "message 1 has a part of type 'plain text'"),
        ("auto", {"messages": [U, A], "tools": "{"}, "'tools' is not JSON"),
        ("auto", {"messages": [U, A], "tools": [1]}, "'tools' is not a list of objects"),
        ("auto", SHORT | {"output": ""}, "the reply is empty"),
        ("auto", SHORT | {"output": None}, "the reply is empty"),
        ("auto", SHORT | {"output": ["a", "b"]}, "'output' is a list, not text"),
        ("auto", SHORT | {"instruction": " "}, "'instruction' is empty"),
        ("auto", SHORT | {"history": "x"}, r"'history' is not a list of \[question, reply\] pairs"),
        ("auto", SHORT | {"history": [["q", {"a": 1}]]}, "'history' is an object, not text"),
        ("auto", {"prompt": "", "completion": "Yo"}, "'prompt' is empty"),
        ("auto", {"prompt": "Hi", "completion": True}, "'completion' is true or false, not text"),
        ("auto", {"text": "  "}, "the text is empty"),
        ("auto", {"text": "ab\ud83d"}, r"half a character \(.ud83d\) at character 3"),
        ("auto", {"messages": [U, A | {"content": "caf\udce9"}]}, "byte 0xE9, not UTF-8, at character 4"),
    ],
)
def test_the_reason_of_a_broken_row(name, row, reason):
    with pytest.raises(BadRow, match=reason):
        parse_row(row, name)


def test_an_unknown_format_is_refused_with_the_names():
    with pytest.raises(ValueError, match="Data format: 'csv' is unknown. Choose one of auto, messages, sharegpt, alpaca"):
        check_format("csv", None)


def test_the_template_needs_its_file():
    with pytest.raises(ValueError, match="Data format: 'template' needs a format file"):
        check_format("template", None)
    for name in ("auto", *(set(SOURCES) - {"template"})):
        check_format(name, None)


@pytest.mark.parametrize(
    ("names", "shown"), [([], "none"), (["a", "b"], "a, b"), (range(12), "0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 2 more")]
)
def test_long_lists_of_names_are_cut(names, shown):
    assert listed(names) == shown


# -- Training PRO's format files

ALPACA_FILE = {
    "instruction,output": "User: %instruction%\nAssistant: %output%",
    "instruction, input,output": "User: %instruction%: %input%\nAssistant: %output%",
}


def template_of(tmp_path, entries):
    path = tmp_path / "format.json"
    path.write_text(entries if isinstance(entries, str) else json.dumps(entries), encoding="utf-8")
    return read_format_file(path)


@pytest.mark.parametrize(
    ("row", "text"),
    [
        ({"instruction": "Add.", "output": "3"}, "User: Add.\nAssistant: 3"),
        ({"instruction": "Add.", "input": " ", "output": "3"}, "User: Add.\nAssistant: 3"),
        ({"instruction": "Add.", "input": None, "output": 3}, "User: Add.\nAssistant: 3"),
        ({"instruction": "Add.", "input": "1, 2", "output": "3"}, "User: Add.: 1, 2\nAssistant: 3"),
        ({"instruction": "Say %output% and 100 %", "output": "%x%"}, "User: Say %output% and 100 %\nAssistant: %x%"),
    ],
)
def test_the_entry_with_the_rows_fields_is_filled(tmp_path, row, text):
    template = template_of(tmp_path, ALPACA_FILE)
    for name in ("auto", "template"):
        kind, content = parse_row(row, name, template)
        assert (kind, content.text, content.messages, content.notes) == ("template", text, None, ())


def test_fields_that_the_file_does_not_name_are_noted(tmp_path):
    _, content = parse_row(SHORT | {"id": 7}, "template", template_of(tmp_path, ALPACA_FILE))
    assert (content.text, content.notes) == ("User: Add.\nAssistant: 3", ("keys not used: id",))


def test_other_rows_fall_back_under_auto_only(tmp_path):
    template = template_of(tmp_path, ALPACA_FILE)
    assert parse_row({"messages": [U, A]}, "auto", template)[0] == "messages"
    with pytest.raises(BadRow, match="no entry of the format file has the fields none; entries: instruction,output / input,"):
        parse_row({"messages": [U, A]}, "template", template)
    with pytest.raises(BadRow, match="has the fields instruction; entries"):
        parse_row({"instruction": "Add.", "output": ""}, "template", template)
    with pytest.raises(BadRow, match="'output' is a list, not text"):
        parse_row(SHORT | {"output": ["a"]}, "auto", template)
    with pytest.raises(BadRow, match="null instead of an object"):
        parse_row(None, "template", template)


@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        ("{", r"Format file: .*format.json is not JSON in UTF-8 \(.*\). Mend it"),
        ([], "does not map field names to texts"),
        ({}, "does not map field names to texts"),
        ({"a": 1}, "does not map field names to texts"),
        ({"a": "%a%", "b": "%a%"}, "uses %a% in the entry 'b', which has no such field. Add 'a'"),
    ],
)
def test_a_format_file_that_cannot_be_used(tmp_path, entries, reason):
    with pytest.raises(ValueError, match=reason):
        template_of(tmp_path, entries)


def test_a_missing_format_file(tmp_path):
    with pytest.raises(ValueError, match="Format file: .*none.json cannot be read"):
        read_format_file(tmp_path / "none.json")
