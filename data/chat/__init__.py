"""Conversations to tokens: ids exactly as the chat template renders them, labels on the replies only.

What it does: renders a conversation with the tokenizer's own chat template, tokenizes that text once, and finds the replies in it.

Guarantee: ``input_ids`` equal ``tokenizer.apply_chat_template(messages)``, token for token; a label is either -100 or the token at
its place; labels cover the wanted replies and the end token behind each, nothing else; ``labels[0]`` is -100.

How the replies are found (``route``), the first that is proved to be right; ``why`` says what stood in the way of the others:

    generation   the template marks them with {% generation %}
    prefixes     rendering the messages before a reply, and those up to it, gives prefixes of the whole rendering
    position     a reply that no prompt asks for (the first message, or one beside another reply) is found by exchanging its words
    split        the template rewrites earlier turns: one sample per reply, each as the model sees it at inference
    everything   the whole text was asked for

Price: two short renderings per reply (prefixes), no second tokenization except on the route ``split``.

Example (ChatML; ^ marks trained tokens)::

    <|im_start|>user \\n Hi <|im_end|> \\n <|im_start|>assistant \\n Hello ! <|im_end|> \\n
                                                                 ^     ^ ^
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from .choice import EVERYTHING, wanted_messages
from .planning import Rendered, message_edges, plan
from .rendering import ConversationError, Message, Renderer, TemplateError, View, require_template
from .tokens import IGNORE, Tokens, encode, tokenize

__all__ = [
    "IGNORE",
    "ConversationError",
    "Message",
    "TemplateError",
    "TokenizedConversation",
    "Turn",
    "conversation_samples",
    "encode",
    "render",
    "require_template",
    "tokenize_conversation",
]


@dataclass(frozen=True)
class Turn:
    """Where a message lies in a sample: tokens ``start`` to ``end`` (exclusive).

    A trained reply begins behind its opening and ends with its end token. Any other turn begins where the one before ends.
    """

    role: str
    start: int
    end: int
    trained: bool = True


@dataclass(frozen=True)
class TokenizedConversation:
    """One sample made of a conversation.

    Attributes:
        input_ids: token ids, as the template renders them.
        labels: the same ids where they are trained, -100 elsewhere; same length.
        turns: the messages in order, as far as their places are known; always the trained ones.
        route: how the replies were found.
        why: why no better route could be taken, or nothing.
        lost: reasons for what the template does not write or is not trained although it was wanted.
    """

    input_ids: list[int]
    labels: list[int]
    turns: tuple[Turn, ...] = field(default=())
    route: str = ""
    why: str = ""
    lost: tuple[str, ...] = ()

    @property
    def num_trained(self) -> int:
        """Tokens with a label."""
        return sum(label != IGNORE for label in self.labels)


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
    return Renderer(tokenizer).official(messages, prompt=prompt, tools=tools)


def tokenize_conversation(
    messages: Sequence[Message], tokenizer: Any, *, train_on: str = "replies", tools: Sequence[dict[str, Any]] | None = None
) -> TokenizedConversation:
    """Tokenize a whole conversation.

    On the route ``split`` only the last reply can be labelled in this one sample; :func:`conversation_samples` gives them all.

    Args:
        messages: ``{"role": ..., "content": ...}`` in order.
        tokenizer: with a chat template.
        train_on: one of ``chat_choice.TRAIN_ON``.
        tools: tool definitions that belong to the conversation.

    Raises:
        ConversationError: the template refuses the messages, or their marks cannot be followed.
        ValueError: the tokenizer has no template.
    """
    return conversation_samples(messages, tokenizer, train_on=train_on, tools=tools)[-1]


def conversation_samples(
    messages: Sequence[Message], tokenizer: Any, *, train_on: str = "replies", tools: Sequence[dict[str, Any]] | None = None
) -> list[TokenizedConversation]:
    """All samples of a conversation: one, or one per reply where the template rewrites earlier turns."""
    require_template(tokenizer)
    view = View(Renderer(tokenizer), tools)
    made = plan(messages, view, wanted_messages(messages, train_on), everything=train_on == EVERYTHING)
    return [_conversation(one, tokens, view) for one, tokens in zip(made, tokenize(made, tokenizer), strict=True)]


def _conversation(rendered: Rendered, tokens: Tokens, view: View) -> TokenizedConversation:
    labels = tokens.fill([IGNORE] * len(tokens.ids))
    turns = _turns(rendered, tokens, view)
    return TokenizedConversation(tokens.ids, labels, turns, rendered.route, rendered.why, tuple(rendered.lost))


def _turns(rendered: Rendered, tokens: Tokens, view: View) -> tuple[Turn, ...]:
    """Trained turns from the spans, the others from the edges of messages."""
    trained = {span.reply: place for span, place in zip(rendered.spans, tokens.spans, strict=True) if span.reply >= 0}
    if -1 in {span.reply for span in rendered.spans}:
        return tuple(Turn("assistant", *place) for place in tokens.spans) if rendered.route != EVERYTHING else ()
    edges = message_edges(rendered.messages, view, rendered.text)
    known = [edge for edge in edges if edge is not None]
    (edge_tokens,) = tokenize([rendered], view.renderer.tokenizer, [known])
    token_at = dict(zip(known, edge_tokens.places, strict=True))
    turns = []
    for index, message in enumerate(rendered.messages):
        first, last = edges[index], edges[index + 1]
        role = str(message.get("role", ""))
        if index in trained:
            turns.append(Turn(role, *trained[index]))
        elif first is not None and last is not None and token_at[last] > token_at[first]:
            turns.append(Turn(role, token_at[first], token_at[last], trained=False))
    return tuple(turns)
