"""Where the replies lie in the rendering of a whole conversation, in characters.

What it does: takes the template's own marks, or proves for each reply that what stands before it and what it ends with are beginnings
of the rendering, or finds a reply that has no prompt by exchanging its words.

Guarantee: a span is returned only if it is shown to be the reply's; otherwise the caller is told why, and splits the conversation.
Price: two quick renderings of the messages before each reply.

Example (ChatML; the span of the reply)::

    <|im_start|>user Hi <|im_end|> <|im_start|>assistant Hello! <|im_end|>
    `------------ before, with the prompt --------------'
    `----------------------------- until -------------------------------'
                                                         [-- the span -]
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from .choice import REPLY_ROLE, replies_of
from .rendering import Message, View
from .words import LOST_PLACE, content_text, exchanged, last_words, thinking_of

DROPS_THINKING = "the template drops or rewrites earlier thinking"
OTHER_OPENING = "the template opens a reply at inference with words that it leaves out in earlier turns"
OTHER_LAST = "the template writes the last reply otherwise than earlier ones"
REWRITES = "the template rewrites earlier turns"
NO_PROMPT = "no prompt can be rendered for the reply, its words were exchanged"


class Span(NamedTuple):
    """Characters ``start`` to ``end`` (exclusive) that are trained; ``reply`` is its place in the messages, -1 if not known."""

    reply: int
    start: int
    end: int


@dataclass
class Found:
    """What was found.

    Attributes:
        spans: of the wanted replies; None if the conversation has to be split.
        route: ``generation``, ``prefixes``, ``position`` or ``split``.
        why: why the first route that could be taken is not the one.
        lost: reasons for replies that were not found, one each.
    """

    spans: list[Span] | None
    route: str
    why: str = ""
    lost: list[str] = field(default_factory=list)


def find_spans(messages: Sequence[Message], view: View, text: str, wanted: Sequence[int]) -> Found:
    """Find the wanted replies.

    Args:
        messages: the conversation.
        view: renders it.
        text: its official rendering.
        wanted: places of the replies that are trained.
    """
    marked = _generation_spans(messages, view, text, wanted)
    if marked is not None:
        return Found(marked, "generation")
    return Finder(messages, view, text).find(wanted)


# --- the template's own marks --------------------------------------------------------------------------------------------------


def _generation_spans(messages: Sequence[Message], view: View, text: str, wanted: Sequence[int]) -> list[Span] | None:
    blocks = view.generation_blocks(messages, text)
    if blocks is None:
        return None
    replies = replies_of(messages)
    if len(blocks) != len(replies):
        blocks = _merged(blocks)
    if not _holds_replies(messages, replies, [text[start:end] for start, end in blocks]):
        return None
    closing = _closing_token(messages, replies, view, text, blocks)
    opening = _opening(messages, replies, view, text, blocks)
    spans = []
    for first, last in blocks:
        start = min(_behind_opening(text, first, opening, view), last) if opening else first
        spans.append((start, trimmed(text, start, over_token(text, last, closing), view)))
    if len(spans) == len(replies):
        chosen = set(wanted)
        return [Span(index, *span) for index, span in zip(replies, spans, strict=True) if index in chosen]
    return [Span(-1, *span) for span in spans if span[1] > span[0]] if list(wanted) == replies else None


def _merged(blocks: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Blocks that touch belong to one reply: its words, and the end token that only the last reply has."""
    merged: list[tuple[int, int]] = []
    for start, end in blocks:
        if merged and merged[-1][1] == start:
            merged[-1] = (merged[-1][0], end)
        else:
            merged.append((start, end))
    return merged


def _holds_replies(messages: Sequence[Message], replies: list[int], shown: list[str]) -> bool:
    """Whether each reply's last words stand in a block, in order: inside macros transformers counts the characters wrongly."""
    place = 0
    for index in replies:
        ending = last_words(content_text(messages[index]))
        while place < len(shown) and ending not in shown[place]:
            place += 1
        if place == len(shown):
            return False
        place += len(shown) == len(replies)
    return True


def _closing_token(messages: Sequence[Message], replies: list[int], view: View, text: str, blocks: list[tuple[int, int]]) -> str:
    """The end token of replies if the marks leave it out: what follows the last block where no other turn follows."""
    if not blocks or not replies:
        return ""
    until = text if replies[-1] == len(messages) - 1 else view.quick(messages[: replies[-1] + 1])
    end = blocks[-1][1]
    if until is None or not text.startswith(until) or view.renderer.token_at_end(text[blocks[-1][0] : end].rstrip()):
        return ""
    return view.renderer.token_at(until, end)


def _opening(messages: Sequence[Message], replies: list[int], view: View, text: str, blocks: list[tuple[int, int]]) -> str:
    """The opening of a reply if the marks take it in: the prompt at inference ends with it, so it is not the model's to say."""
    if not any(view.renderer.token_at(text, start) in view.renderer.control_tokens for start, _ in blocks):
        return ""
    asked_by = [index for index in replies if index]
    before = messages[: asked_by[0]] if asked_by else [{"role": "user", "content": "a"}]
    bare, asked = view.quick(before), view.quick(before, prompt=True)
    return asked[len(bare) :] if bare is not None and asked is not None and asked.startswith(bare) else ""


def _behind_opening(text: str, start: int, opening: str, view: View) -> int:
    """Behind the whole opening, or behind its first tokens where it goes on otherwise than at inference."""
    if text.startswith(opening, start):
        return start + len(opening)
    length = 0
    while (token := view.renderer.token_at(opening, length)) and text.startswith(token, start + length):
        length += len(token)
    return start + length


# --- prefixes and positions ----------------------------------------------------------------------------------------------------


class Finder:
    """Finds replies in one rendering by rendering parts of the conversation."""

    def __init__(self, messages: Sequence[Message], view: View, text: str) -> None:
        self._messages = messages
        self._view = view
        self._text = text
        self._prompts: dict[int, str | None] = {}
        proved = view.edges(messages, text)
        self._edges: list[int] | None = proved[0] if proved else None
        self._asked = proved[1] if proved else ""

    def find(self, wanted: Sequence[int]) -> Found:
        """All wanted replies, or why the conversation has to be split."""
        spans: list[Span] = []
        lost: list[str] = []
        by_position = False
        for index in wanted:
            start = self.proved_start(index)
            end = self.proved_end(index, start)
            if start is not None and end is not None:
                spans.append(Span(index, start, end))
                continue
            if not self._has_no_prompt_of_its_own(index):
                return Found(None, "split", self.why_not(index))
            span = self.by_position(index, start, end, spans[-1].end if spans else 0)
            if span is not None:
                spans.append(span)
                by_position = True
            elif index == 0:
                lost.append(LOST_PLACE)
            else:
                return Found(None, "split", self.why_not(index))
        return Found(spans, "position" if by_position else "prefixes", NO_PROMPT if by_position else "", lost)

    def proved_start(self, index: int) -> int | None:
        """Where the reply begins, if the prompt at inference is a beginning of the text."""
        start = self._behind_prompt(index) if index else None
        if start is None:
            return None
        words = content_text(self._messages[index]).strip()
        if words and self._text.startswith(words, start + _num_spaces(self._text, start)):
            return start
        return start + self._header_length(index, self._text[:start])

    def _behind_prompt(self, index: int) -> int | None:
        """The length of the prompt at inference, if it is a beginning of the text."""
        if self._edges is not None and self._asked:
            place = self._edges[index]
            return place + len(self._asked) if self._text.startswith(self._asked, place) else None
        before = self.prompt(index)
        return len(before) if before and self._text.startswith(before) else None

    def _header_length(self, index: int, before: str) -> int:
        """Characters of the reply's opening behind the messages before it, where the template does not write it as a prompt."""
        if self._view.quick(self._messages[:index]) != before:
            return 0  # it was written: what stands behind it is the reply's
        replies = [self._view.quick([*self._messages[:index], {"role": REPLY_ROLE, "content": words}]) for words in "ab"]
        if replies[0] is None or replies[1] is None:
            return 0
        header = os.path.commonprefix([*map(str, replies)])[len(before) :].rstrip(" ")  # tokens begin with a space, not after it
        return len(os.path.commonprefix([header, self._text[len(before) :]]))

    def proved_end(self, index: int, start: int | None) -> int | None:
        """Behind the reply's end token, if the rendering up to the reply is a beginning of the text."""
        if self._edges is not None:
            return trimmed(self._text, 0 if start is None else start, self._edges[index + 1], self._view)
        last = index == len(self._messages) - 1
        until = self._text if last else self._view.quick(self._messages[: index + 1])
        if until is None:
            return None
        end = len(until) - self._closing_length(index, until)
        begin = 0 if start is None else start
        if end < begin or not self._text.startswith(until[:end]):
            return None
        return trimmed(self._text, begin, end, self._view)

    def _closing_length(self, index: int, until: str) -> int:
        """Characters that the template writes once behind the last turn (Phi-3: the EOS token), where the reply has its own end."""
        renderer = self._view.renderer
        closing = renderer.token_at_end(until.rstrip())
        body = until.rstrip()[: -len(closing)] if closing else ""
        if not body or renderer.token_at_end(body.rstrip()) not in renderer.control_tokens:
            return 0
        asked = self._view.quick(self._messages[: index + 1], prompt=True)
        is_extra = asked is not None and asked.startswith(body) and not asked.startswith(until.rstrip())
        return len(until) - len(body) if is_extra else 0

    def _has_no_prompt_of_its_own(self, index: int) -> bool:
        """The conversation begins with the reply, or it stands beside another one: nobody asks for it at inference."""
        around = [self._messages[place].get("role") for place in (index - 1, index + 1) if 0 <= place < len(self._messages)]
        return index == 0 or REPLY_ROLE in around

    def prompt(self, index: int) -> str | None:
        """The messages before a reply with the opening of a reply, as at inference; None if the template refuses them."""
        if index not in self._prompts:
            self._prompts[index] = self._view.quick(self._messages[:index], prompt=True)
        return self._prompts[index]

    def by_position(self, index: int, start: int | None, end: int | None, floor: int) -> Span | None:
        """The reply that is found by its words.

        Args:
            start: where it begins, if that is proved.
            end: where it ends, if that is proved.
            floor: it cannot begin before.
        """
        content = self.content_place(index)
        if content is None:
            return None
        first, last = content
        if start is None or start > first:
            start = self._behind_header(index, first, floor)
        if end is None or end < last:
            end = self._over_end_token(index, last)
        return Span(index, start, end)

    def by_opening(self, index: int) -> int | None:
        """Where a reply begins that does not continue the prompt at inference: behind what it has in common with it.

        The reply's own first letters may agree with the rest of the prompt by chance (``<b>`` and ``<think>``), so other words in
        its place must agree as well.
        """
        before, bare = self.prompt(index), self._view.quick(self._messages[:index])
        if not before or bare is None:
            return None
        texts = [self._text, before]
        changed = exchanged(self._messages, index)
        other = None if changed is None else self._view.quick(changed)
        opening = len(os.path.commonprefix(texts if other is None else [*texts, other]))
        return opening if opening > len(os.path.commonprefix([self._text, bare])) else None

    def content_place(self, index: int) -> tuple[int, int] | None:
        """Where the words of a message stand: a letter put before them changes the rendering at this one place only."""
        changed_messages = exchanged(self._messages, index)
        changed = None if changed_messages is None else self._view.quick(changed_messages)
        if changed is None:
            return None
        words = content_text(self._messages[index]).strip()
        start = len(os.path.commonprefix([self._text, changed]))
        if not self._text.startswith(words, start) or changed[start + 1 :] != self._text[start:]:
            return None
        return start, start + len(words)

    def _behind_header(self, index: int, first: int, floor: int) -> int:
        """The place behind the opening of the reply if it is found there, else that of the reply's first word."""
        content = str(self._messages[index].get("content") or "")
        space = content[: len(content) - len(content.lstrip())]
        if space and self._text[:first].endswith(space):
            first -= len(space)
        bare, asked = self._view.quick(self._messages[:index]) if index else None, self.prompt(index) if index else None
        if bare and asked and asked.startswith(bare) and len(asked) > len(bare):
            header = asked[len(bare) :]
            place = self._text.rfind(header, floor, first)
            if place >= 0:
                return place + len(header)
        return first

    def _over_end_token(self, index: int, end: int) -> int:
        """Behind the end token that follows (white space may lie between), or the same place."""
        place = end + _num_spaces(self._text, end)
        token = self._view.renderer.token_at(self._text, place)
        behind = place + len(token)
        return behind if token and (token in self._end_tokens() or self._closes(index, token, behind)) else end

    def _end_tokens(self) -> set[str]:
        """The EOS token, and what ends the whole text where that is a reply."""
        tokens = {str(self._view.renderer.tokenizer.eos_token or "")}
        if self._messages[-1].get("role") == REPLY_ROLE:
            tokens.add(self._view.renderer.token_at_end(self._text.rstrip()))
        return tokens

    def _closes(self, index: int, token: str, behind: int) -> bool:
        """Whether a token ends a turn: the text ends behind it or another token follows, and it does not open a reply."""
        renderer = self._view.renderer
        following = behind + _num_spaces(self._text, behind)
        bare, asked = (self._view.quick(self._messages[: index + 1], prompt=prompt) for prompt in (False, True))
        opening = asked[len(bare) :] if bare is not None and asked is not None and asked.startswith(bare) else ""
        ends = following == len(self._text) or bool(renderer.token_at(self._text, following))
        return ends and token in renderer.control_tokens and not opening.startswith(token)

    def why_not(self, index: int) -> str:
        """Why the conversation cannot be one sample with this reply in it."""
        if any(thinking_of(message) for message in self._messages):
            return DROPS_THINKING
        before, bare = self.prompt(index), self._view.quick(self._messages[:index]) if index else None
        if before is not None and self._text.startswith(before):
            return OTHER_LAST
        return OTHER_OPENING if bare is not None and self._text.startswith(bare) else REWRITES


def _num_spaces(text: str, start: int) -> int:
    end = start
    while text[end : end + 1].isspace():
        end += 1
    return end - start


def over_token(text: str, end: int, token: str) -> int:
    """Behind a token if it stands at a place, else the same place."""
    return end + len(token) if token and text.startswith(token, end) else end


def trimmed(text: str, start: int, end: int, view: View) -> int:
    """Drop the white space that a template writes after the end token: it belongs to the next turn."""
    stripped = text[start:end].rstrip()
    return start + len(stripped) if view.renderer.token_at_end(stripped) else end
