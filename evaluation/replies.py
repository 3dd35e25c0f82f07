"""Which replies of held-out conversations are measured, and the histories that each is measured with.

What it does: draws replies that have an earlier exchange, and renders each with four histories. An exchange is a user turn and what
follows up to the next one; system turns at the beginning always stay, as does a greeting before the first user turn in full histories::

    full      system  exchange 1  exchange 2  exchange 3  user turn  reply
    alone     system                                      user turn  reply      against it: context gain
    permuted  system  exchange 2  exchange 3  exchange 1  user turn  reply      order gain, from two earlier exchanges on
    last      system                          exchange 3  user turn  reply      distance gain, likewise

Guarantee: every text is the chat template's own rendering, no longer than the cutoff, and the reply is the same tokens in all of them;
where it is not, the reply is left out and counted. The same conversations, number and seed give the same replies. Conversations that
are too long lose whole exchanges at the front, as in training with `cut front`. Conversations count alike: each gives one reply before
any gives a second one, since replies of one conversation say less together than those of several.
Price: four short renderings and tokenizations a reply, once per run; at most :data:`LOOKED_AT_PER_REPLY` conversations are read a reply.
"""

from __future__ import annotations

import hashlib
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..data.chat.choice import wanted_messages
from ..data.chat.planning import plan
from ..data.chat.rendering import ConversationError, Message, Renderer, View, require_template
from ..data.chat.tokens import IGNORE, tokenize
from ..data.chat.truncation import CUT_FRONT, exchanges, shorten

FULL, ALONE, PERMUTED, LAST = "full", "alone", "permuted", "last"
LOOKED_AT_PER_REPLY = 50
LOOKED_AT_LEAST = 1000

TOO_LONG = "replies without an earlier exchange within the cutoff"
NO_PLACE = "replies that the chat template refuses or hides in one of the histories"
OTHER_TOKENS = "replies that are other tokens with another history"
LONGER = "histories that are longer than the cutoff, although the full one is not,"
BROKEN = "conversations that cannot be read"

# number -> {"messages": [...], "tools": [...] or None}; None where it is no conversation
Read = Callable[[int], "dict[str, Any] | None"]


@dataclass(frozen=True)
class Text:
    """A reply with a history.

    Attributes:
        input_ids: int32, shape (tokens,).
        start: first token of the reply.
        end: behind its last.
    """

    input_ids: np.ndarray
    start: int
    end: int

    @property
    def sample(self) -> dict[str, np.ndarray]:
        """``input_ids`` and ``labels``, -100 everywhere but at the reply."""
        labels = np.full(len(self.input_ids), IGNORE, dtype=np.int32)
        labels[self.start : self.end] = self.input_ids[self.start : self.end]
        return {"input_ids": self.input_ids, "labels": labels}

    @property
    def reply(self) -> np.ndarray:
        """The tokens of the reply, with its end token."""
        return self.input_ids[self.start : self.end]


@dataclass(frozen=True)
class Reply:
    """A reply that is measured.

    Attributes:
        conversation: its number among the held-out ones.
        place: number of the message in it.
        texts: history -> text; ``full`` and ``alone``, from two earlier exchanges on ``permuted`` and ``last`` as well.
    """

    conversation: int
    place: int
    texts: dict[str, Text]

    @property
    def num_tokens(self) -> int:
        """Tokens of the reply."""
        return len(self.texts[FULL].reply)


@dataclass(frozen=True)
class ReplySample:
    """The replies of all measurements of a run.

    Attributes:
        replies: what is measured.
        left_out: reason -> how many of those that were drawn could not be measured.
        num_looked_at: conversations that were read.
        num_conversations: how many there are.
    """

    replies: tuple[Reply, ...]
    left_out: dict[str, int] = field(default_factory=dict)
    num_looked_at: int = 0
    num_conversations: int = 0

    @property
    def identity(self) -> str:
        """Changes with the replies or their histories; 16 hexadecimal digits."""
        digest = hashlib.sha256()
        for reply in self.replies:
            for name, text in reply.texts.items():
                digest.update(f"{name} {text.start} {text.end} ".encode())
                digest.update(np.ascontiguousarray(text.input_ids, dtype=np.int32).tobytes())
        return digest.hexdigest()[:16]


def draw_replies(read: Read, num_conversations: int, tokenizer: Any, *, most: int, cutoff: int, seed: int) -> ReplySample:
    """Draw replies of conversations, and render them with their histories.

    Args:
        read: gives a conversation.
        num_conversations: how many there are.
        tokenizer: with a chat template.
        most: replies to draw; fewer if there are not so many.
        cutoff: longest text, in tokens.
        seed: decides which, and the permutations.

    Raises:
        ValueError: the tokenizer has no chat template.
    """
    require_template(tokenizer)
    drawer = _Drawer(read, tokenizer, cutoff, seed)
    order = np.random.default_rng([seed, 0]).permutation(num_conversations)
    order = order[: max(LOOKED_AT_LEAST, LOOKED_AT_PER_REPLY * most)]
    found: list[Reply] = []
    rounds: deque[Iterator[Reply]] = deque(drawer.replies(int(number)) for number in order)
    while rounds and len(found) < most:
        replies = rounds.popleft()
        reply = next(replies, None)
        if reply is not None:
            found.append(reply)
            rounds.append(replies)
    found.sort(key=lambda reply: (reply.conversation, reply.place))
    return ReplySample(tuple(found), dict(drawer.left_out), drawer.num_looked_at, num_conversations)


class _Drawer:
    """Makes the replies of one conversation after the other; counts what it leaves out."""

    def __init__(self, read: Read, tokenizer: Any, cutoff: int, seed: int) -> None:
        self._read = read
        self._tokenizer = tokenizer
        self._renderer = Renderer(tokenizer)
        self._cutoff = cutoff
        self._seed = seed
        self.left_out: Counter[str] = Counter()
        self.num_looked_at = 0

    def replies(self, number: int) -> Iterator[Reply]:
        """The replies of a conversation that can be measured, in an order drawn by seed; made when they are asked for."""
        self.num_looked_at += 1
        row = self._read(number)
        if row is None:
            return
        messages = row["messages"]
        try:
            places = reply_places(messages)
        except ConversationError:
            self.left_out[BROKEN] += 1
            return
        view = View(self._renderer, row.get("tools") or None)
        rng = np.random.default_rng([self._seed, 1, number])
        for place in rng.permutation(places).tolist():
            texts = self._texts(messages[: place + 1], view, rng)
            if isinstance(texts, str):
                self.left_out[texts] += 1
            else:
                yield Reply(number, place, texts)

    def _texts(self, messages: Sequence[Message], view: View, rng: np.random.Generator) -> dict[str, Text] | str:
        """The last message with each of its histories; or why it cannot be measured."""
        whole = self._render(messages, view)
        if whole is None:
            return NO_PLACE
        shown: Sequence[Message] = messages
        if len(whole.input_ids) > self._cutoff:
            shown = self._shortened(messages, view, len(whole.input_ids))
        texts: dict[str, Text] = {}
        for name, part in histories(shown, rng).items():
            text = whole if name == FULL and shown is messages else self._render(part, view)
            if text is None:
                return NO_PLACE
            if texts and not np.array_equal(text.reply, texts[FULL].reply):
                return OTHER_TOKENS
            if len(text.input_ids) <= self._cutoff:
                texts[name] = text
            else:  # with templates that write the first or the last turn otherwise
                self.left_out[LONGER] += 1
        return texts if ALONE in texts else TOO_LONG

    def _shortened(self, messages: Sequence[Message], view: View, length: int) -> Sequence[Message]:
        """As many of the last exchanges as fit; nothing if not even one does."""

        def make(part: Sequence[Message], wanted: Sequence[int]) -> list[tuple[Sequence[Message], int]]:
            text = self._render(part, view)
            return [(part, self._cutoff + 1 if text is None else len(text.input_ids))]

        wanted = [len(messages) - 1]
        found = shorten(messages, wanted, make, mode=CUT_FRONT, cutoff=self._cutoff, length=length)
        return found.samples[0] if found.samples else []

    def _render(self, messages: Sequence[Message], view: View) -> Text | None:
        """The rendering of some messages, and where their last one lies in it; None if that cannot be said."""
        try:
            rendered = plan(messages, view, [len(messages) - 1])
        except ConversationError:
            return None
        if len(rendered) != 1 or len(rendered[0].spans) != 1:
            return None
        (tokens,) = tokenize(rendered, self._tokenizer)
        ((start, end),) = tokens.spans
        start = max(start, 1)  # nothing predicts the first token
        return Text(np.asarray(tokens.ids, dtype=np.int32), start, end) if end > start else None


def reply_places(messages: Sequence[Message]) -> list[int]:
    """Numbers of the assistant's messages that have an earlier exchange and are not marked against training.

    >>> reply_places([{"role": role} for role in ("system", "user", "assistant", "user", "assistant")])
    [4]

    Raises:
        ConversationError: a mark that is neither yes nor no.
    """
    turns = [first for first, _ in exchanges(messages)[1] if messages[first].get("role") == "user"]
    return [place for place in wanted_messages(messages, "replies") if len(turns) > 1 and place > turns[1]]


def histories(messages: Sequence[Message], rng: np.random.Generator) -> dict[str, list[Message]]:
    """The last message with its exchange and different histories; nothing if there is no earlier exchange.

    Args:
        messages: up to the reply.
        rng: draws the permutation, which is never the order itself.
    """
    num_system, bounds = exchanges(messages)
    head = list(messages[:num_system])
    parts = [list(messages[first:end]) for first, end in bounds]
    greeting = parts.pop(0) if parts and parts[0][0].get("role") != "user" else []
    if len(parts) < 2:
        return {}
    earlier, now = parts[:-1], parts[-1]
    made = {FULL: list(messages), ALONE: [*head, *now]}
    if len(earlier) > 1:
        order = _another_order(len(earlier), rng)
        made[PERMUTED] = [*head, *greeting, *(message for number in order for message in earlier[number]), *now]
        made[LAST] = [*head, *earlier[-1], *now]
    return made


def _another_order(number: int, rng: np.random.Generator) -> list[int]:
    """A permutation of so many things (at least 2), drawn among all but the order itself."""
    while True:
        order: list[int] = rng.permutation(number).tolist()
        if order != sorted(order):
            return order
