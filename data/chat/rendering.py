"""Conversations to text: the tokenizer's own rendering, and a quick one for the many short ones that proofs need.

Guarantee: `View.official` is what `tokenizer.apply_chat_template` gives, by calling it. `View.quick` renders the same compiled
template with the same values and skips what is checked again at every call; it serves only to prove things about an official text,
and is not used where a tokenizer renders in its own way or where transformers changes messages first.
Price: one official rendering per sample; a quick one costs about half of it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from .watch import Message, edges, is_one_loop

Tools = Sequence[dict[str, Any]] | None

__all__ = ["ConversationError", "Message", "Renderer", "TemplateError", "Tools", "View", "require_template"]

_GENERATION_MARK = re.compile(r"\{%-?\s*generation\s*-?%\}")
_REASONING_KEYS = ("reasoning_content", "thinking", "reasoning")  # transformers copies one to the others


class ConversationError(ValueError):
    """A conversation that cannot be trained as it is; the message is the reason."""


class TemplateError(ConversationError):
    """The chat template refuses these messages, or hides where the replies are."""


def require_template(tokenizer: Any) -> None:
    """Raise if conversations cannot be rendered at all."""
    if not getattr(tokenizer, "chat_template", None):
        raise ValueError(
            "Chat template: the model has none, so conversations cannot be written in its form. "
            "Choose one of the names or a template file (.jinja, or a WebUI instruction template .yaml) under Chat template, "
            "or train on a Text file."
        )


class Renderer:
    """A tokenizer's template, compiled, with the tokens that may end a reply. Make a new one when the template changes."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self._prompts: dict[str, str] = {}
        self._last_edges: tuple[Any, ...] = ()  # the question and its answer: asked again for the same text

    def official(self, messages: Sequence[Message], *, prompt: bool, tools: Tools) -> str:
        """What the tokenizer itself renders; raises TemplateError with the template's words."""
        try:
            text = self.tokenizer.apply_chat_template(
                list(messages), tools=list(tools) if tools else None, tokenize=False, add_generation_prompt=prompt
            )
        except _refusals() as error:
            raise TemplateError(f"the chat template refuses the conversation: {error}") from error
        return str(text)

    def official_many(self, conversations: Sequence[Sequence[Message]]) -> list[str] | None:
        """All at once, without tools; None if one is refused or the tokenizer renders in its own way."""
        if not self._is_plain_tokenizer or not all(conversations):
            return None
        try:
            return list(self.tokenizer.apply_chat_template([list(messages) for messages in conversations], tokenize=False))
        except _refusals():
            return None

    def quick(self, messages: Sequence[Message], *, prompt: bool, tools: Tools) -> str:
        """The same text for less; see the module's guarantee."""
        compiled = self._compiled(tools) if messages and _is_plain(messages) else None
        if compiled is None:
            return self.official(messages, prompt=prompt, tools=tools)
        try:
            return str(compiled.render(messages=list(messages), **self._values(prompt, tools)))
        except _refusals() as error:
            raise TemplateError(f"the chat template refuses the conversation: {error}") from error

    def edges(self, messages: Sequence[Message], text: str, *, tools: Tools) -> tuple[list[int], str] | None:
        """Where the messages begin and the last ends, and the prompt that every beginning of them gets; see chat_watch.

        None where that cannot be proved with one rendering.
        """
        if self._last_edges and self._last_edges[0] is messages and self._last_edges[1:3] == (text, tools):
            known: tuple[list[int], str] | None = self._last_edges[3]
            return known
        found = self._edges(messages, text, tools)
        self._last_edges = messages, text, tools, found
        return found

    def _edges(self, messages: Sequence[Message], text: str, tools: Tools) -> tuple[list[int], str] | None:
        compiled = self._compiled(tools) if messages and _is_plain(messages) else None
        if compiled is None or not is_one_loop(compiled, self.tokenizer.get_chat_template(tools=tools)):
            return None
        found = edges(compiled, messages, self._values(False, tools), text)
        if found is None or found[-1] != len(text):
            return None
        template = self.tokenizer.get_chat_template(tools=tools)
        if template not in self._prompts:  # the same for all conversations: that is what is_one_loop says
            asked = self.quick(messages, prompt=True, tools=tools)
            if not asked.startswith(text):
                return None
            self._prompts[template] = asked[len(text) :]
        return found, self._prompts[template]

    def generation_blocks(self, messages: Sequence[Message], text: str, *, tools: Tools) -> list[tuple[int, int]] | None:
        """Characters inside ``{% generation %}``; None if nothing is marked or the text is not the official one."""
        template = self.tokenizer.get_chat_template(tools=tools)
        if not isinstance(template, str) or not _GENERATION_MARK.search(template):
            return None
        from transformers.utils.chat_template_utils import render_jinja_template

        filled = [{key: value for key, value in message.items() if value is not None} for message in messages]
        for given in (filled, list(messages)):  # newer versions drop empty keys before they render
            result: Any = render_jinja_template(
                conversations=[given],
                tools=list(tools) if tools else None,
                chat_template=template,
                return_assistant_tokens_mask=True,
                **self._special_tokens_map,
            )
            rendered, spans = result
            if rendered[0] == text:
                return [(int(start), int(end)) for start, end in spans[0]]
        return None

    def token_at_end(self, text: str) -> str:
        """The added or special token that ends the text, or nothing."""
        return next((text[-length:] for length in self._token_lengths if text[-length:] in self._tokens), "")

    def token_at(self, text: str, start: int) -> str:
        """The added or special token that stands at a place, or nothing."""
        pieces = (text[start : start + length] for length in self._token_lengths)
        return next((piece for piece in pieces if piece in self._tokens), "")

    @cached_property
    def control_tokens(self) -> frozenset[str]:
        """Tokens that are marked as special: they can end a reply, words in angle brackets such as </tool_call> cannot."""
        decoder = getattr(self.tokenizer, "added_tokens_decoder", {})
        return frozenset({*(str(token) for token in decoder.values() if token.special), *self.tokenizer.all_special_tokens})

    @cached_property
    def _tokens(self) -> frozenset[str]:
        added = {str(token) for token in getattr(self.tokenizer, "added_tokens_decoder", {}).values()}
        return frozenset(token for token in {*added, *self.tokenizer.all_special_tokens} if token.strip())

    @cached_property
    def _token_lengths(self) -> list[int]:
        return sorted({len(token) for token in self._tokens}, reverse=True)

    @cached_property
    def _special_tokens_map(self) -> dict[str, Any]:
        return dict(self.tokenizer.special_tokens_map)

    @cached_property
    def _is_plain_tokenizer(self) -> bool:
        from transformers import PreTrainedTokenizerBase

        return getattr(type(self.tokenizer), "apply_chat_template", None) is PreTrainedTokenizerBase.apply_chat_template

    def _values(self, prompt: bool, tools: Tools) -> dict[str, Any]:
        """What a template gets besides the messages."""
        return {
            "tools": list(tools) if tools else None,
            "documents": None,
            "add_generation_prompt": prompt,
            **self._special_tokens_map,
        }

    def _compiled(self, tools: Tools) -> Any:
        """The compiled template, or None if the quick way may not be gone."""
        if not self._is_plain_tokenizer:
            return None
        from transformers.utils import chat_template_utils

        compile_template = getattr(chat_template_utils, "_compile_jinja_template", None)  # cached there
        return None if compile_template is None else compile_template(self.tokenizer.get_chat_template(tools=tools))


@dataclass(frozen=True)
class View:
    """A renderer with the tools of one conversation."""

    renderer: Renderer
    tools: Tools = None

    def official(self, messages: Sequence[Message], *, prompt: bool = False) -> str:
        """See :meth:`Renderer.official`."""
        return self.renderer.official(messages, prompt=prompt, tools=self.tools)

    def quick(self, messages: Sequence[Message], *, prompt: bool = False) -> str | None:
        """See :meth:`Renderer.quick`; None where the template refuses the messages."""
        try:
            return self.renderer.quick(messages, prompt=prompt, tools=self.tools)
        except TemplateError:
            return None

    def edges(self, messages: Sequence[Message], text: str) -> tuple[list[int], str] | None:
        """See :meth:`Renderer.edges`."""
        return self.renderer.edges(messages, text, tools=self.tools)

    def generation_blocks(self, messages: Sequence[Message], text: str) -> list[tuple[int, int]] | None:
        """See :meth:`Renderer.generation_blocks`."""
        return self.renderer.generation_blocks(messages, text, tools=self.tools)


def _is_plain(messages: Sequence[Message]) -> bool:
    """Whether transformers hands the messages to the template as they are, in all its versions."""
    return all(
        None not in message.values() and not any(key in message for key in _REASONING_KEYS)
        for message in messages
        if isinstance(message, dict)
    )


def _refusals() -> tuple[type[Exception], ...]:
    """What templates raise: their own words, and what goes wrong in their expressions."""
    from jinja2 import TemplateError as JinjaError

    return JinjaError, TypeError, ValueError, LookupError, AttributeError, ArithmeticError
