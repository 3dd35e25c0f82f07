"""Conversations to tokens: ids exactly as the chat template renders them, labels on the replies only.

What it does: renders a conversation with the tokenizer's own chat template, tokenizes that text once, and finds the replies in it.

Guarantee: ``input_ids`` equal ``tokenizer.apply_chat_template(messages)``, token for token; a label is either -100 or the token at
its place; labels cover the replies and the end token behind each, nothing else; ``labels[0]`` is -100.

How the replies are found (``route``), the first that is proved to be right:

    generation   the template marks them with {% generation %}
    prefixes     rendering the messages before a reply, and those up to it, gives prefixes of the whole rendering
    position     a reply whose prefix cannot be rendered (the conversation begins with it) is found by exchanging its words
    split        the template rewrites earlier turns: one sample per reply, each as the model sees it at inference

Price: two short renderings per reply (prefixes), no second tokenization except on the route ``split``.

Example (ChatML; ^ marks trained tokens)::

    <|im_start|>user \\n Hi <|im_end|> \\n <|im_start|>assistant \\n Hello ! <|im_end|> \\n
                                                                 ^     ^ ^
"""

from __future__ import annotations

import bisect
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

IGNORE = -100
_REPLY_ROLE = "assistant"
_GENERATION_MARK = re.compile(r"\{%-?\s*generation\s*-?%\}")

Message = dict[str, Any]


@dataclass(frozen=True)
class Turn:
    """Where a reply lies in a sample: tokens ``start`` to ``end`` (exclusive) are trained."""

    role: str
    start: int
    end: int


@dataclass(frozen=True)
class TokenizedConversation:
    """One sample made of a conversation.

    Attributes:
        input_ids: token ids, as the template renders them.
        labels: the same ids where they are trained, -100 elsewhere; same length.
        turns: the replies that are trained.
        route: how they were found.
    """

    input_ids: list[int]
    labels: list[int]
    turns: tuple[Turn, ...] = field(default=())
    route: str = ""

    @property
    def num_trained(self) -> int:
        """Tokens with a label."""
        return sum(label != IGNORE for label in self.labels)


class TemplateError(ValueError):
    """The chat template refuses these messages."""


def require_template(tokenizer: Any) -> None:
    """Raise if conversations cannot be rendered at all."""
    if not getattr(tokenizer, "chat_template", None):
        raise ValueError(
            "Chat template: the model has none, so conversations cannot be written in its form. "
            "Choose a template file (.jinja, or a WebUI instruction template .yaml) under Chat template, or train on a Text file."
        )


def render(
    messages: Sequence[Message], tokenizer: Any, *, prompt: bool = False, tools: Sequence[dict[str, Any]] | None = None
) -> str:
    """The conversation as the template writes it.

    Args:
        prompt: end with the opening of a reply, as at inference.
        tools: tool definitions that the template may write into the prompt.

    Raises:
        TemplateError: the template refuses the messages; with its words.
    """
    from jinja2 import TemplateError as JinjaError

    try:
        text = tokenizer.apply_chat_template(
            list(messages), tools=list(tools) if tools else None, tokenize=False, add_generation_prompt=prompt
        )
    except (JinjaError, TypeError, ValueError, KeyError, IndexError) as error:
        raise TemplateError(f"the chat template refuses the conversation: {error}") from error
    return str(text)


@dataclass(frozen=True)
class _View:
    """A tokenizer with the tools of one conversation, and what is asked of both again and again."""

    tokenizer: Any
    tools: Sequence[dict[str, Any]] | None = None

    def render(self, messages: Sequence[Message], *, prompt: bool = False) -> str:
        return render(messages, self.tokenizer, prompt=prompt, tools=self.tools)

    @cached_property
    def special_tokens(self) -> list[str]:
        added = [str(token) for token in getattr(self.tokenizer, "added_tokens_decoder", {}).values()]
        return sorted({*added, *self.tokenizer.all_special_tokens}, key=len, reverse=True)


def tokenize_conversation(
    messages: Sequence[Message], tokenizer: Any, *, train_on: str = "replies", tools: Sequence[dict[str, Any]] | None = None
) -> TokenizedConversation:
    """Tokenize a whole conversation.

    On the route ``split`` only the last reply can be labelled in this one sample; :func:`conversation_samples` gives them all.

    Args:
        messages: ``{"role": ..., "content": ...}`` in order.
        tokenizer: with a chat template.
        train_on: ``replies`` or ``everything``.
        tools: tool definitions that belong to the conversation.

    Raises:
        TemplateError: the template refuses the messages.
        ValueError: the tokenizer has no template.
    """
    return conversation_samples(messages, tokenizer, train_on=train_on, tools=tools)[-1]


def conversation_samples(
    messages: Sequence[Message], tokenizer: Any, *, train_on: str = "replies", tools: Sequence[dict[str, Any]] | None = None
) -> list[TokenizedConversation]:
    """All samples of a conversation: one, or one per reply where the template rewrites earlier turns."""
    require_template(tokenizer)
    view = _View(tokenizer, tools)
    text = view.render(messages)
    if train_on == "everything":
        ids, _ = encode(text, tokenizer)
        return [_sample(ids, [(0, len(ids))], "everything")]
    spans, route = _generation_spans(messages, view, text), "generation"
    if spans is None:
        spans, route = _prefix_spans(messages, view, text)
    if spans is not None:
        return [_from_text(text, spans, tokenizer, route)]
    return _split_samples(messages, view)


# --- where the replies are, in characters --------------------------------------------------------------------------------------


def _generation_spans(messages: Sequence[Message], view: _View, text: str) -> list[tuple[int, int]] | None:
    template = view.tokenizer.get_chat_template(tools=view.tools)
    if not isinstance(template, str) or not _GENERATION_MARK.search(template):
        return None
    from transformers.utils.chat_template_utils import render_jinja_template

    result: Any = render_jinja_template(
        conversations=[list(messages)],
        tools=list(view.tools) if view.tools else None,
        chat_template=template,
        return_assistant_tokens_mask=True,
        **view.tokenizer.special_tokens_map,
    )
    rendered, spans = result
    if rendered[0] != text:
        return None
    return [(int(start), int(end)) for start, end in spans[0]]


def _prefix_spans(messages: Sequence[Message], view: _View, text: str) -> tuple[list[tuple[int, int]] | None, str]:
    """Spans of the replies if every one is proved, else None; and the route taken."""
    spans, route = [], "prefixes"
    for index, message in enumerate(messages):
        if message.get("role") != _REPLY_ROLE:
            continue
        if index == 0 and not str(message.get("content") or "").strip():
            continue  # it has no words, and the conversation no prompt that would ask for its end token
        span = _prefix_span(messages, index, view, text)
        if span is None:
            route = "position"
            span = _position_span(messages, index, view, text)
        if span is None:
            return None, "split"
        spans.append(span)
    return spans, route


def _prefix_span(messages: Sequence[Message], index: int, view: _View, text: str) -> tuple[int, int] | None:
    if index == 0:
        return None
    try:
        before = view.render(messages[:index], prompt=True)
        until = text if index == len(messages) - 1 else view.render(messages[: index + 1])
    except TemplateError:
        return None
    if not (until.startswith(before) and text.startswith(until)):
        return None
    return len(before), _without_trailing_space(text, len(before), len(until), view)


def _position_span(messages: Sequence[Message], index: int, view: _View, text: str) -> tuple[int, int] | None:
    """Exchange the reply's words for others: what differs between the renderings is the reply.

    Used only where the messages before cannot be rendered on their own; None unless the reply stands in the text verbatim.
    """
    content = messages[index].get("content")
    if index > 0 or not isinstance(content, str) or not content.strip():
        return None
    words = content.strip()
    other = content.replace(words, ("b" if words[0] == "a" else "a") + words, 1)
    try:
        changed = view.render([*messages[:index], {**messages[index], "content": other}, *messages[index + 1 :]])
    except TemplateError:
        return None
    start = len(os.path.commonprefix([text, changed]))
    if not text.startswith(words, start):
        return None
    end = start + len(words)
    space = content[: content.index(words)]
    if text[:start].endswith(space):
        start -= len(space)
    try:
        until = view.render(messages[: index + 1])
    except TemplateError:
        return start, _over_end_token(text, end, view)
    if len(until) >= end and text.startswith(until):
        return start, _without_trailing_space(text, start, len(until), view)
    return start, _over_end_token(text, end, view)


def _over_end_token(text: str, end: int, view: _View) -> int:
    """The end of the special token that follows directly (white space may lie between), or ``end``."""
    rest = text[end:]
    space = len(rest) - len(rest.lstrip())
    for token in view.special_tokens:
        if rest.startswith(token, space):
            return end + space + len(token)
    return end


def _without_trailing_space(text: str, start: int, end: int, view: _View) -> int:
    """Drop the white space that a template writes after the end token: it belongs to the next turn."""
    reply = text[start:end]
    stripped = reply.rstrip()
    ends_special = any(stripped.endswith(token) for token in view.special_tokens if token.strip())
    return start + len(stripped) if ends_special else end


# --- one sample per reply ------------------------------------------------------------------------------------------------------


def _split_samples(messages: Sequence[Message], view: _View) -> list[TokenizedConversation]:
    samples = []
    for index, message in enumerate(messages):
        if message.get("role") != _REPLY_ROLE or index == 0:
            continue
        text = view.render(messages[: index + 1])
        opening = os.path.commonprefix([text, view.render(messages[:index], prompt=True)])
        if len(opening) <= len(os.path.commonprefix([text, view.render(messages[:index])])):
            raise TemplateError("the chat template gives no way to tell the reply from the prompt")
        span = (len(opening), _without_trailing_space(text, len(opening), len(text), view))
        samples.append(_from_text(text, [span], view.tokenizer, "split"))
    if not samples:
        raise TemplateError("the chat template gives no way to tell the reply from the prompt")
    return samples


# --- characters to tokens ------------------------------------------------------------------------------------------------------


def encode(text: str, tokenizer: Any) -> tuple[list[int], list[tuple[int, int]] | None]:
    """Token ids of a rendered text and, if the tokenizer gives them, each token's characters."""
    if not getattr(tokenizer, "is_fast", False):
        return list(tokenizer(text, add_special_tokens=False)["input_ids"]), None
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    return list(encoded["input_ids"]), [(int(start), int(end)) for start, end in encoded["offset_mapping"]]


def _from_text(text: str, spans: list[tuple[int, int]], tokenizer: Any, route: str) -> TokenizedConversation:
    ids, offsets = encode(text, tokenizer)
    if offsets is None:
        return _sample(ids, [_slow_span(text, span, ids, tokenizer) for span in spans], route)
    starts = [start for start, _ in offsets]
    token_spans = []
    for start, end in spans:
        first = bisect.bisect_left(starts, start)
        last = bisect.bisect_left(starts, end)
        while last > first and text[end : offsets[last - 1][1]].strip():  # white space may belong to an end token (Phi-3's do)
            last -= 1
        token_spans.append((first, last))
    return _sample(ids, token_spans, route)


def _slow_span(text: str, span: tuple[int, int], ids: list[int], tokenizer: Any) -> tuple[int, int]:
    """Without offsets: tokens that the text before and the text up to the end have in common with the whole."""
    first, last = (len(os.path.commonprefix([ids, encode(text[:cut], tokenizer)[0]])) for cut in span)
    return first, last


def _sample(ids: list[int], spans: list[tuple[int, int]], route: str) -> TokenizedConversation:
    labels = [IGNORE] * len(ids)
    for start, end in spans:
        labels[start:end] = ids[start:end]
    if labels:
        labels[0] = IGNORE
    turns = tuple(Turn(_REPLY_ROLE, start, end) for start, end in spans)
    return TokenizedConversation(ids, labels, turns, route)
