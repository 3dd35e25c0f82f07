"""Rows of the usual data sets -> conversations or text.

One function reads one kind of row; `SOURCES` is the table that the form, the command line and the reader share. To add
a kind, write a function `(row) -> Content`, give it a line in the table and a row in tests/data/test_formats.py.

Guarantee: a row is recognised by its own keys, so that one file may mix kinds; a row that cannot be used raises
`BadRow` with the reason, and no text is invented.
Price: the first line of the table that fits wins; a row with both 'messages' and 'text' is a conversation.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from .messages import BadRow, Content, as_text, conversation, kind_of, listed, unused_note
from .template import Template, fill_template, fits_template

AUTO = "auto"
SHAREGPT_KEYS = ("conversations", "conversation", "dialogue", "dialog")
INSTRUCTION_KEYS = ("instruction",)
PROMPT_KEYS = ("prompt", "question", "query", "input")
REPLY_KEYS = ("completion", "output", "response", "answer")
INPUT_KEYS = ("input", "context")
SYSTEM_KEYS = ("system", "system_prompt")


def parse_messages(row: object) -> Content:
    """OpenAI style: {'messages': [{'role': ..., 'content': ...}, ...]}, or the bare list."""
    if isinstance(row, list):
        return conversation(row)
    assert isinstance(row, dict)
    return _conversation(row["messages"], row, "messages")


def parse_sharegpt(row: dict[str, Any]) -> Content:
    """ShareGPT style: {'conversations': [{'from': 'human', 'value': ...}, ...]}; any speaker may begin."""
    key = _first_key(row, SHAREGPT_KEYS)
    return _conversation(row[key], row, key)


def parse_alpaca(row: dict[str, Any]) -> Content:
    """Alpaca style: instruction, input (on a line of its own), output, and earlier turns in 'history'.

    >>> parse_alpaca({"instruction": "Add.", "input": "1, 2", "output": "3"}).messages
    ({'role': 'user', 'content': 'Add.\\n1, 2'}, {'role': 'assistant', 'content': '3'})
    """
    return _question_and_reply(row, INSTRUCTION_KEYS)


def parse_prompt_completion(row: dict[str, Any]) -> Content:
    """A prompt and its reply under any of the usual names; both may be text or lists of messages."""
    return _question_and_reply(row, PROMPT_KEYS)


def parse_text(row: object) -> Content:
    """Raw text: {'text': ...}, or the plain string."""
    text = as_text(row["text"], "'text'") if isinstance(row, dict) else str(row)
    if not text.strip():
        raise BadRow("the text is empty")
    return Content(text=text, notes=unused_note(row, ("text",)) if isinstance(row, dict) else ())


@dataclass(frozen=True)
class Source:
    """One kind of row.

    Attributes:
        needs: the keys it needs, in words.
        fits: whether a row has these keys; called with the row.
        parse: reads the row, or raises `BadRow`; called with the row.
        wants_file: `fits` and `parse` take the format file's entries as second argument.
        plain: `parse` also takes a row that is a plain string, when the user chose this kind.
    """

    needs: str
    fits: Callable[..., bool]
    parse: Callable[..., Content]
    wants_file: bool = False
    plain: bool = False


def _has(filled: tuple[str, ...], present: tuple[str, ...] = ()) -> Callable[[object], bool]:
    """A test for one of the keys with a value, and one of the others at all (a null reply is a broken row, no other kind)."""
    return lambda row: (
        isinstance(row, dict)
        and any(row.get(key) is not None for key in filled)
        and (not present or any(key in row for key in present))
    )


SOURCES: dict[str, Source] = {
    "messages": Source("'messages'", lambda row: _has(("messages",))(row) or _is_message_list(row), parse_messages),
    "sharegpt": Source("'conversations'", _has(SHAREGPT_KEYS), parse_sharegpt),
    "alpaca": Source("'instruction' + 'output'", _has(INSTRUCTION_KEYS, REPLY_KEYS), parse_alpaca),
    "prompt_completion": Source("'prompt' + 'completion'", _has(PROMPT_KEYS, REPLY_KEYS), parse_prompt_completion),
    "text": Source("'text'", _has(("text",)), parse_text, plain=True),
    "template": Source("the fields of an entry of the format file", fits_template, fill_template, wants_file=True),
}


def check_format(name: str, template: Template | None) -> None:
    """Checks the user's choice before a file is opened.

    Raises:
        ValueError: an unknown format, or 'template' without a format file.
    """
    if name != AUTO and name not in SOURCES:
        raise ValueError(f"Data format: {name!r} is unknown. Choose one of {', '.join((AUTO, *SOURCES))}.")
    if name != AUTO and SOURCES[name].wants_file and template is None:
        raise ValueError(f"Data format: {name!r} needs a format file. Choose a Format file, or the data format {AUTO!r}.")


def parse_row(row: object, name: str = AUTO, template: Template | None = None) -> tuple[str, Content]:
    """Reads one row.

    Args:
        row: the row as JSON gave it.
        name: a name of `SOURCES`, or 'auto' for the first that fits (the format file's entries, if given, come first).
        template: entries of a format file.

    Returns:
        The kind it was read as, and its content.

    Raises:
        BadRow: the row fits no kind or not the chosen one, or its content cannot be trained.
    """
    if name == AUTO:
        name = _kind_of_row(row, template)
    source = SOURCES[name]
    extra = (template,) if source.wants_file else ()
    if not (source.wants_file or source.fits(row) or (source.plain and isinstance(row, str))):
        raise BadRow(_misfit(row, source.needs))
    content = source.parse(row, *extra)
    _require_valid_text((content.messages, content.text, content.tools))
    return name, content


def _kind_of_row(row: object, template: Template | None) -> str:
    if template is not None and fits_template(row, template):
        return "template"
    for name, source in SOURCES.items():
        if not source.wants_file and source.fits(row):
            return name
    raise BadRow(_misfit(row, ", ".join(source.needs for source in SOURCES.values() if not source.wants_file)))


def _misfit(row: object, needs: str) -> str:
    if row is None:
        return "null row"
    if isinstance(row, str):
        return "plain text instead of an object; choose the data format 'text' to train it as text"
    if not isinstance(row, dict):
        return f"{kind_of(row)} instead of an object"
    empty = [key for key, value in row.items() if value is None]
    nulls = f" (null: {listed(empty)})" if empty else ""
    return f"no {needs}; keys found: {listed(row)}{nulls}"


def _is_message_list(row: object) -> bool:
    return isinstance(row, list) and bool(row) and all(isinstance(item, dict) for item in row)


def _first_key(row: dict[str, Any], keys: tuple[str, ...]) -> str:
    """The first key with a value, else the first that is there at all, else the first of the names."""
    there = [key for key in keys if key in row]
    return next((key for key in there if row[key] is not None), (there or keys)[0])


def _question_and_reply(row: dict[str, Any], prompt_keys: tuple[str, ...]) -> Content:
    prompt_key, reply_key = _first_key(row, prompt_keys), _first_key(row, REPLY_KEYS)
    input_key = _first_key(row, tuple(key for key in INPUT_KEYS if key != prompt_key))
    prompt = row[prompt_key]
    if not isinstance(prompt, list):
        asked = [as_text(row.get(key), f"'{key}'") for key in (prompt_key, input_key)]
        prompt = "\n".join(text for text in asked if text.strip())
        input_keys: tuple[str, ...] = (input_key,)
    else:
        input_keys = ()
    if not prompt:
        raise BadRow(f"'{prompt_key}' is empty")
    messages = [*_history(row.get("history")), *_exchange(prompt, row[reply_key], f"'{reply_key}'")]
    return _conversation(messages, row, prompt_key, reply_key, "history", *input_keys)


def _exchange(prompt: object, reply: object, reply_name: str) -> list[object]:
    asked = prompt if isinstance(prompt, list) else [{"role": "user", "content": prompt}]
    replied = reply if _is_message_list(reply) else [{"role": "assistant", "content": as_text(reply, reply_name)}]
    return [*asked, *replied]  # type: ignore[misc]


def _history(history: object) -> list[object]:
    if not history:
        return []
    if not isinstance(history, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in history):
        raise BadRow("'history' is not a list of [question, reply] pairs")
    return [message for question, reply in history for message in _exchange(as_text(question, "'history'"), reply, "'history'")]


def _conversation(items: object, row: dict[str, Any], *used: str) -> Content:
    """The messages with the system prompt and the tools that stand beside them."""
    system_key = _first_key(row, SYSTEM_KEYS)
    content = conversation(items, system=as_text(row.get(system_key), f"'{system_key}'"), tools=row.get("tools"))
    return replace(content, notes=(*content.notes, *unused_note(row, (*used, system_key, "tools"))))


def _require_valid_text(value: object) -> None:
    """A half of a surrogate pair cannot be tokenized; it comes from a cut escape or from bytes that are not UTF-8."""
    if isinstance(value, str):
        if value.isascii():
            return
        try:
            value.encode()
        except UnicodeEncodeError as error:
            char = value[error.start]
            what = (
                f"byte 0x{ord(char) - 0xDC00:02X}, not UTF-8,"
                if "\udc80" <= char <= "\udcff"
                else f"half a character (\\u{ord(char):04x})"
            )
            raise BadRow(f"{what} at character {error.start + 1:,} of its text") from None
    elif isinstance(value, dict):
        _require_valid_text(list(value.values()))
    elif isinstance(value, list | tuple):
        for item in value:
            _require_valid_text(item)
