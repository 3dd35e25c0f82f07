"""What a message says, and whether a rendering shows it.

Guarantee: words that a template leaves out are named and counted; a reply without any trace in the rendering is never taken for one
that is trained. Price: a search in the reply's own text, and one more rendering only where that finds nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .rendering import Message, View

LOST_REPLY = "replies that the chat template does not write: not trained"
LOST_WORDS = "replies of which the chat template writes the tool calls but not the words"
LOST_CALLS = "replies whose tool calls the chat template does not write"
LOST_THINKING = "replies whose thinking the chat template does not write"
LOST_TOOLS = "conversations whose tool definitions the chat template does not write"
LOST_PLACE = "replies whose place the chat template does not show: not trained"
THINK_END = "</think>"


def content_text(message: Message) -> str:
    """The words of a message; parts joined."""
    content = message.get("content")
    if isinstance(content, list | tuple):
        return "".join(map(_text_of, content))
    return content if isinstance(content, str) else ""


def thinking_of(message: Message) -> str:
    """What was thought before the reply, in a field of its own or in the content."""
    found = (message.get(key) for key in ("reasoning_content", "thinking", "reasoning"))
    stated = next((text.strip() for text in found if isinstance(text, str) and text.strip()), "")
    before, end, _ = content_text(message).partition(THINK_END)
    return stated or (before.split("<think>")[-1].strip() if end else "")


def last_words(text: str) -> str:
    """The end of a text, which templates write as it is, whatever they do with thoughts and white space before it."""
    return text.strip().rpartition("\n")[2].strip()[-40:]


def call_names(message: Message) -> list[str]:
    """Names of the functions that a reply calls."""
    calls = message.get("tool_calls")
    functions = (
        [call.get("function", call) for call in calls if isinstance(call, dict)] if isinstance(calls, list | tuple) else []
    )
    return [str(function.get("name", "")) for function in functions if isinstance(function, dict)]


def lost_words(messages: Sequence[Message], index: int, shown: str, view: View, text: str) -> list[str]:
    """What the text of a reply does not show: some of the reasons above.

    Args:
        shown: the part of the rendering that belongs to the reply.
        text: the whole rendering.
    """
    message = messages[index]
    words, calls, thinking = content_text(message).strip(), call_names(message), thinking_of(message)
    lost = [LOST_CALLS] if any(name not in shown for name in calls) else []
    if thinking and thinking not in shown:
        lost.append(LOST_THINKING)
    calls_are_shown = bool(calls) and LOST_CALLS not in lost
    if words and last_words(words) not in shown and not _changes(messages, index, view, text):
        lost.append(LOST_WORDS if calls_are_shown else LOST_REPLY)
    elif not words and calls and not calls_are_shown:
        lost.append(LOST_REPLY)
    return lost


def lost_tools(view: View, text: str) -> list[str]:
    """Whether the tool definitions of the conversation are in the rendering."""
    functions = [tool.get("function", tool) for tool in view.tools or () if isinstance(tool, dict)]
    names = [str(function.get("name", "")) for function in functions if isinstance(function, dict)]
    return [LOST_TOOLS] if any(name not in text for name in names) else []


def exchanged(messages: Sequence[Message], index: int) -> list[Message] | None:
    """The messages with one letter before the words of one of them; None if it has no words."""

    def changed(text: str) -> str:
        words = text.strip()
        return text.replace(words, ("b" if words[0] == "a" else "a") + words, 1)

    return _with_other_text(messages, index, changed, last=False)


def _changes(messages: Sequence[Message], index: int, view: View, text: str) -> bool:
    """Whether a letter more at the end of a reply gives another rendering."""
    changed = _with_other_text(messages, index, lambda words: f"{words.rstrip()}a", last=True)
    return changed is not None and view.quick(changed) not in (None, text)


def _with_other_text(
    messages: Sequence[Message], index: int, change: Callable[[str], str], *, last: bool
) -> list[Message] | None:
    """The messages with a change in the first (or last) text of one of them that is not blank."""
    content = messages[index].get("content")
    texts = [content] if isinstance(content, str) else list(content) if isinstance(content, list | tuple) else []
    filled = [place for place, part in enumerate(texts) if _text_of(part).strip()]
    if not filled:
        return None
    place = filled[-1] if last else filled[0]
    part = texts[place]
    texts[place] = {**part, "text": change(_text_of(part))} if isinstance(part, dict) else change(part)
    return [
        *messages[:index],
        _with_content(messages[index], texts[0] if isinstance(content, str) else texts),
        *messages[index + 1 :],
    ]


def _text_of(part: Any) -> str:
    text = part.get("text") if isinstance(part, dict) else part
    return text if isinstance(text, str) else ""


# --- other spellings of the same words -----------------------------------------------------------------------------------------


def as_parts(messages: Sequence[Message]) -> list[Message] | None:
    """Every content as a list of one text part, as templates of picture models want it; None if there is nothing to change."""
    if not any(isinstance(message.get("content"), str) for message in messages):
        return None
    return [_with_content(message, _one_part(message["content"])) for message in messages]


def as_strings(messages: Sequence[Message]) -> list[Message] | None:
    """Every content as one text; None if there is nothing to change."""
    if not any(isinstance(message.get("content"), list | tuple) for message in messages):
        return None
    return [_with_content(message, content_text(message)) for message in messages]


def _with_content(message: Message, content: Any) -> Message:
    return {**message, "content": content}


def _one_part(content: Any) -> Any:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content
