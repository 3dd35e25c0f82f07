"""A conversation to stretches that become entries of their own: an exchange with a trained reply, and the untrained ones right before it.

Guarantee: stretches follow each other without a gap, from the first message behind the system turns on; each begins with a user turn
(the first with whatever stands there) and holds a wanted reply in its last exchange only. What follows the last wanted reply's exchange
is left out: nothing that is trained can see it. Price: none.

Example (S system turn, a greeting, users and replies; x = not trained)::

    S | greeting user reply | user x | user reply | user reply | user x
        [---- stretch 0 ---] [---- stretch 1 ----] [stretch 2 ]  left out

Why untrained exchanges stand with the one behind them: with "last reply only", or a reply that is marked train: false, what comes before
is what the trained reply answers to. Alone it has nothing to train, and without it the reply would lose its context.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ..chat.choice import REPLY_ROLE
from ..chat.rendering import Message
from ..chat.truncation import exchanges
from ..chat.words import content_text

CONVERSATION, EXCHANGE, AUTO = "conversation", "exchange", "auto"
ENTRIES = (AUTO, CONVERSATION, EXCHANGE)


class Stretch(NamedTuple):
    """Messages ``start`` to ``end`` (exclusive)."""

    start: int
    end: int


@dataclass(frozen=True)
class Stretches:
    """A conversation, cut.

    Attributes:
        head: number of system turns at the beginning.
        parts: the stretches.
        num_context: exchanges without a wanted reply inside of stretches.
        num_behind: exchanges behind the last stretch, left out.
    """

    head: int
    parts: list[Stretch]
    num_context: int
    num_behind: int


def stretches(messages: Sequence[Message], wanted: Sequence[int]) -> Stretches:
    """Cut a conversation.

    >>> u, r = {"role": "user"}, {"role": "assistant"}
    >>> stretches([u, r, u, r, u, r], [1, 5]).parts
    [Stretch(start=0, end=2), Stretch(start=2, end=6)]
    """
    head, bounds = exchanges(messages)
    if len(bounds) > 1 and messages[bounds[0][0]].get("role") != "user":
        bounds = [(bounds[0][0], bounds[1][1]), *bounds[2:]]  # a greeting: nobody asks for it
    trained = set(wanted)
    parts: list[Stretch] = []
    start, num_waiting, num_context = head, 0, 0
    for first, end in bounds:
        if not trained.isdisjoint(range(first, end)):
            parts.append(Stretch(start, end))
            start, num_context, num_waiting = end, num_context + num_waiting, 0
        else:
            num_waiting += 1
    return Stretches(head, parts, num_context, num_waiting)


def wanted_in(wanted: Sequence[int], head: int, start: int, end: int) -> list[int]:
    """Places of the wanted messages in ``messages[:head] + messages[start:end]``.

    >>> wanted_in([0, 3, 4, 6], 1, 3, 5)
    [0, 1, 2]
    """
    return [index if index < head else head + index - start for index in wanted if index < head or start <= index < end]


def question_of(messages: Sequence[Message], start: int, end: int, wanted: Sequence[int]) -> str:
    """The words of the last user turn of a stretch before its first wanted reply, or of its first user turn."""
    users = [index for index in range(start, end) if messages[index].get("role") == "user"]
    replies = [index for index in wanted if start <= index < end and messages[index].get("role") == REPLY_ROLE]
    chosen = [index for index in users if replies and index < replies[0]][-1:] or users[:1]
    return content_text(messages[chosen[0]]) if chosen else ""
