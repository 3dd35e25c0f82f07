"""Lists of messages in any of the usual spellings -> messages with `role` and `content`.

Guarantee: what comes out has roles that chat templates know, text as content and every extra key of the input
(`tool_calls`, `reasoning_content`, `weight`, `train`, `name`, ...); what cannot be read raises `BadRow` with the reason.
Price: dictionaries are copied once.
"""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

Message = dict[str, Any]

# speaker, as data sets write it -> role of the chat template
ROLES: dict[str, str] = {
    **dict.fromkeys(("user", "human"), "user"),
    **dict.fromkeys(("assistant", "gpt", "chatgpt", "bing", "bard", "model", "bot", "ai"), "assistant"),
    **dict.fromkeys(("function_call", "tool_call"), "assistant"),
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(("tool", "function", "function_response", "tool_response", "observation"), "tool"),
}
CALL_SPEAKERS = ("function_call", "tool_call")  # their text is the call itself, written as JSON
SPEAKER_KEYS = ("role", "from")
CONTENT_KEYS = ("content", "value", "text")
TEXT_PARTS = ("text", "input_text", "output_text")


class BadRow(ValueError):
    """A row that cannot be used; the message is the reason, in short plain words."""


@dataclass(frozen=True)
class Content:
    """What one row holds: messages or text.

    Attributes:
        messages: at least one of them a reply with content.
        text: raw text, if the row is no conversation.
        tools: tool definitions (JSON schema) that belong to the conversation.
        notes: what was adjusted; the report counts them.
    """

    messages: tuple[Message, ...] | None = None
    text: str | None = None
    tools: tuple[dict[str, Any], ...] | None = None
    notes: tuple[str, ...] = ()


def conversation(items: object, *, system: str = "", tools: object = None) -> Content:
    """Reads a list of messages.

    Args:
        items: list of {'role', 'content'} or {'from', 'value'} objects, the spellings may be mixed.
        system: system prompt that stands beside the list; put first unless the list begins with one.
        tools: list of tool definitions, or the same as JSON text.

    Raises:
        BadRow: no list, an unknown speaker, a message without text, no reply.
    """
    if not isinstance(items, list):
        raise BadRow(f"the messages are {kind_of(items)}, not a list")
    messages = [read_message(item, number) for number, item in enumerate(items, start=1)]
    pairs = list(zip(items, messages, strict=True))
    notes = tuple(note for note, applies in MESSAGE_NOTES.items() if any(applies(*pair) for pair in pairs))
    if system.strip() and messages and messages[0]["role"] == "system":
        notes += ("the system prompt beside the messages was not used: they begin with their own",)
    elif system.strip():
        messages.insert(0, {"role": "system", "content": system})
    _require_reply(messages)
    return Content(messages=tuple(messages), tools=_read_tools(tools), notes=notes)


def read_message(item: object, number: int) -> Message:
    """One message in the chat template's spelling; `number` counts from 1 and is for the reason.

    >>> read_message({"from": "human", "value": "Hi", "weight": 0}, 1)
    {'role': 'user', 'content': 'Hi', 'weight': 0}

    Raises:
        BadRow: no object, an unknown speaker, no text.
    """
    if not isinstance(item, dict):
        raise BadRow(f"message {number} is {kind_of(item)}, not an object with a role and content")
    speaker_key = _first_filled(item, SPEAKER_KEYS)
    if speaker_key is None:
        raise BadRow(f"message {number} names no speaker ('role' or 'from'); keys found: {listed(item)}")
    speaker = _speaker(item)
    role = ROLES.get(speaker)
    if role is None:
        place = "first speaker {!r}" if number == 1 else f"speaker {{!r}} of message {number}"
        raise BadRow(f"{place.format(item[speaker_key])} unknown")
    content_key = _first_filled(item, CONTENT_KEYS)
    if content_key is None and not item.get("tool_calls") and not any(key in item for key in CONTENT_KEYS):
        raise BadRow(f"message {number} has no 'content' or 'value'; keys found: {listed(item)}")
    content = _content_text(item[content_key], f"message {number}") if content_key else ""
    calls = _calls_in(content) if speaker in CALL_SPEAKERS else []
    extra = {key: value for key, value in item.items() if key not in (speaker_key, content_key, "role", "content")}
    if calls:
        return {"role": role, "content": "", **extra, "tool_calls": calls}
    return {"role": role, "content": content, **extra}


def as_text(value: object, where: str) -> str:
    """Text of a field: a string, a number or null (empty); `where` names the field in the reason.

    Raises:
        BadRow: anything else.
    """
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    raise BadRow(f"{where} is {kind_of(value)}, not text")


def kind_of(value: object) -> str:
    """What a JSON value is, in words."""
    names: dict[type, str] = {
        dict: "an object",
        list: "a list",
        str: "plain text",
        bool: "true or false",
        type(None): "null",
    }
    return names.get(type(value), "a number")


def listed(keys: Iterable[object]) -> str:
    """Names for a message: at most ten, then how many more."""
    names = [str(key) for key in keys]
    shown = ", ".join(names[:10]) or "none"
    return shown if len(names) <= 10 else f"{shown} and {len(names) - 10} more"


def unused_note(row: Message, used: Iterable[str]) -> tuple[str, ...]:
    """The note that names the row's keys which nothing reads, if there are any."""
    unused = sorted(str(key) for key in row.keys() - set(used))
    return (f"keys not used: {listed(unused)}",) if unused else ()


def _content_text(value: object, where: str) -> str:
    """A message's text; a list of text parts is joined without a separator."""
    return "".join(_part_text(part, where) for part in value) if isinstance(value, list) else as_text(value, where)


def _part_text(part: object, where: str) -> str:
    if isinstance(part, dict) and part.get("type", "text") in TEXT_PARTS and isinstance(part.get("text"), str):
        return str(part["text"])
    kind = part.get("type", "unknown") if isinstance(part, dict) else kind_of(part)
    raise BadRow(f"{where} has a part of type {kind!r}: only text can be trained")


def _calls_in(text: str) -> list[dict[str, Any]]:
    """Tool calls in the form that chat templates render, or none if the text is no call."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return []
    calls = found if isinstance(found, list) else [found]
    if not all(isinstance(call, dict) and {"name", "arguments"} <= call.keys() for call in calls):
        return []
    return [{"type": "function", "function": {"name": call["name"], "arguments": call["arguments"]}} for call in calls]


def _require_reply(messages: list[Message]) -> None:
    replies = [message for message in messages if message["role"] == "assistant"]
    if not messages:
        raise BadRow("the list of messages is empty")
    if not replies:
        raise BadRow("no assistant turn")
    if any(_says_something(message) for message in replies):
        return
    raise BadRow("the reply is empty" if len(replies) == 1 else f"all {len(replies)} replies are empty")


def _says_something(message: Message) -> bool:
    return any(message.get(key) for key in ("tool_calls", "reasoning_content")) or bool(message["content"].strip())


def _read_tools(tools: object) -> tuple[dict[str, Any], ...] | None:
    if isinstance(tools, str) and tools.strip():
        try:
            tools = json.loads(tools)
        except (ValueError, RecursionError):
            raise BadRow("'tools' is not JSON") from None
    if not tools:
        return None
    if not (isinstance(tools, list) and all(isinstance(tool, dict) for tool in tools)):
        raise BadRow("'tools' is not a list of objects")
    return tuple(tools)


def _first_filled(item: Message, keys: tuple[str, ...]) -> str | None:
    return next((key for key in keys if item.get(key) is not None), None)


def _speaker(item: Message) -> str:
    return str(item.get(_first_filled(item, SPEAKER_KEYS) or "", "")).strip().lower()


# note for the report -> whether a message, as the file has it and as it was read, calls for it
MESSAGE_NOTES: dict[str, Callable[[Message, Message], bool]] = {
    "text parts of a message were joined": lambda item, read: any(isinstance(item.get(key), list) for key in CONTENT_KEYS),
    "a function_call turn was read as a tool call": lambda item, read: "tool_calls" in read and "tool_calls" not in item,
    "an empty message was kept": lambda item, read: not _says_something(read),
}
