"""Conversations that are longer than the cutoff: whole exchanges are left out, and what is left is rendered anew.

What it does: an exchange is a user turn and what follows up to the next user turn; the system turns before the first user turn are
kept in every part. One mode is one line of TOO_LONG.

Guarantee: each result is what the template renders for the messages that it shows, and no longer than the cutoff; no reply is cut off
unless the user asks for it; each wanted reply is in at most one result, and those that are in none are counted.
Price: about two renderings and tokenizations per result; the place to cut is guessed from the exchanges' lengths in characters.

Example (S system turn, 1 to 4 exchanges, three of which fit)::

    drop        nothing
    cut front   S 2 3 4
    cut end     S 1 2 3
    windows     S 1 2 3 | S 4
    cut reply   S 1 2 3 and the beginning of 4
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Generic, TypeVar

from .choice import REPLY_ROLE
from .rendering import ConversationError, Message

DROP, CUT_FRONT, CUT_END, WINDOWS, CUT_REPLY = "drop", "cut front", "cut end", "windows", "cut reply"
TOO_LONG = (DROP, CUT_FRONT, CUT_END, WINDOWS, CUT_REPLY)

Made = TypeVar("Made")
# messages and the places of those that are trained -> samples, each with its number of tokens
Make = Callable[[Sequence[Message], Sequence[int]], list[tuple[Made, int]]]


@dataclass
class Shortened(Generic[Made]):
    """What is left of a conversation.

    Attributes:
        samples: each no longer than the cutoff.
        kept: places of the wanted messages that they show.
    """

    samples: list[Made] = field(default_factory=list)
    kept: set[int] = field(default_factory=set)


def exchanges(messages: Sequence[Message]) -> tuple[int, list[tuple[int, int]]]:
    """Number of system turns at the beginning, and (first, behind the last) message of each exchange.

    >>> exchanges([{"role": "system"}, {"role": "user"}, {"role": "assistant"}, {"role": "user"}])
    (1, [(1, 3), (3, 4)])
    """
    head = 0
    while head < len(messages) and messages[head].get("role") == "system":
        head += 1
    starts = [index for index in range(head, len(messages)) if index == head or messages[index].get("role") == "user"]
    return head, list(pairwise([*starts, len(messages)]))


def shorten(
    messages: Sequence[Message], wanted: Sequence[int], make: Make[Made], *, mode: str, cutoff: int, length: int
) -> Shortened[Made]:
    """Shorten a conversation that is one sample.

    Args:
        messages: the conversation.
        wanted: places of the messages that are trained.
        make: renders and tokenizes a part.
        mode: one of TOO_LONG; ``drop`` and ``cut reply`` have nothing to do here.
        cutoff: longest sample, in tokens.
        length: tokens of the whole conversation.
    """
    parts = _Parts(messages, wanted, make, cutoff, length)
    if mode == CUT_FRONT:
        return parts.longest_end()
    if mode == CUT_END:
        return parts.longest_beginning()
    return parts.windows() if mode == WINDOWS else Shortened()


class _Parts(Generic[Made]):
    """Tries parts of a conversation: the system turns and some exchanges in a row."""

    def __init__(self, messages: Sequence[Message], wanted: Sequence[int], make: Make[Made], cutoff: int, length: int) -> None:
        self._messages = messages
        self._wanted = wanted
        self._make = make
        self._cutoff = cutoff
        self._head, bounds = exchanges(messages)
        last = max((number for number, (first, end) in enumerate(bounds) if self._wanted_in(first, end)), default=-1)
        self._bounds = bounds[: last + 1]  # what follows the last wanted reply trains nothing
        sizes = [len(str(message)) for message in messages]
        tokens_per_char = length / max(sum(sizes), 1)
        self._head_cost = sum(sizes[: self._head]) * tokens_per_char
        self._costs = [sum(sizes[first:end]) * tokens_per_char for first, end in self._bounds]
        self._tried: dict[tuple[int, int], list[Made] | None] = {}

    def longest_end(self) -> Shortened[Made]:
        """The last exchanges, as many as fit."""
        count = len(self._bounds)
        number = self._most(count, lambda taken: self._part(count - taken, count), self._costs[::-1])
        return self._shortened([(count - number, count)])

    def longest_beginning(self) -> Shortened[Made]:
        """The first exchanges, as many as fit."""
        return self._shortened([(0, self._most_from(0))])

    def windows(self) -> Shortened[Made]:
        """All exchanges that fit at all, each in one part."""
        found, first = [], 0
        while first < len(self._bounds):
            end = self._most_from(first)
            found.append((first, end))
            first = max(end, first + 1)  # an exchange that does not fit is left out
        return self._shortened(found)

    def _most_from(self, first: int) -> int:
        """Behind the last exchange that fits together with those from ``first`` on."""
        return first + self._most(len(self._bounds) - first, lambda taken: self._part(first, first + taken), self._costs[first:])

    def _most(self, count: int, part: Callable[[int], list[Made] | None], costs: Sequence[float]) -> int:
        """The largest number of exchanges that fit; searched from a guess."""
        guess, cost = 0, self._head_cost
        while guess < count and cost + costs[guess] <= self._cutoff:
            cost += costs[guess]
            guess += 1
        number = max(guess, 1)
        if number <= count and part(number) is not None:
            while number < count and part(number + 1) is not None:
                number += 1
            return number
        number = min(number, count + 1) - 1
        while number > 0 and part(number) is None:
            number -= 1
        return number

    def _shortened(self, found: Sequence[tuple[int, int]]) -> Shortened[Made]:
        result: Shortened[Made] = Shortened()
        for first, end in found:
            wanted = self._wanted_in(self._bounds[first][0], self._bounds[end - 1][1]) if end > first else []
            if wanted:
                result.samples += self._part(first, end) or []
                result.kept.update(wanted)
        return result

    def _part(self, first: int, end: int) -> list[Made] | None:
        """The samples of some exchanges; None if they do not fit or the template refuses them."""
        if (first, end) not in self._tried:
            self._tried[first, end] = self._try(first, end)
        return self._tried[first, end]

    def _try(self, first: int, end: int) -> list[Made] | None:
        start, stop = self._bounds[first][0], self._bounds[end - 1][1]
        wanted = self._wanted_in(0, self._head) + [self._head + index - start for index in self._wanted_in(start, stop)]
        try:
            made = self._make([*self._messages[: self._head], *self._messages[start:stop]], wanted)
        except ConversationError:
            return None
        if any(length > self._cutoff for _, length in made):
            return None
        return [sample for sample, _ in made]

    def _wanted_in(self, start: int, stop: int) -> list[int]:
        return [index for index in self._wanted if start <= index < stop]


def num_replies(messages: Sequence[Message], places: Any) -> int:
    """How many of some messages are replies."""
    return sum(messages[index].get("role") == REPLY_ROLE for index in places)
