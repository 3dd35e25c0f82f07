"""Which messages of a conversation are trained: the setting, and the marks that messages carry themselves.

Guarantee: a mark that cannot be followed is an error with the message's number, never a guess.
"""

from __future__ import annotations

from collections.abc import Sequence

from .rendering import ConversationError, Message

REPLY_ROLE = "assistant"
EVERYTHING = "everything"
TRAIN_ON = ("replies", "last reply", EVERYTHING)


def replies_of(messages: Sequence[Message]) -> list[int]:
    """Places of the assistant's messages."""
    return [index for index, message in enumerate(messages) if message.get("role") == REPLY_ROLE]


def wanted_messages(messages: Sequence[Message], train_on: str) -> list[int]:
    """Places of the messages that are to be trained, in order: replies, or for ``everything`` all, without those marked against it.

    >>> wanted_messages([{"role": "assistant", "weight": 0}, {"role": "assistant"}], "replies")
    [1]

    Raises:
        ConversationError: a mark that is neither yes nor no.
    """
    marks = [mark_of(message, number) for number, message in enumerate(messages, start=1)]
    replies = range(len(messages)) if train_on == EVERYTHING else replies_of(messages)
    chosen = replies[-1:] if train_on == "last reply" else replies
    return [index for index in chosen if marks[index] is not False]


def unwanted(messages: Sequence[Message]) -> list[int]:
    """Places of all messages that are marked not to be trained."""
    return [index for index, message in enumerate(messages) if mark_of(message, index + 1) is False]


def unfollowed(messages: Sequence[Message], wanted: Sequence[int]) -> int:
    """How many messages are marked to be trained and are not: a user's turn, or an earlier reply where only the last is trained."""
    return sum(mark_of(message, index + 1) is True and index not in wanted for index, message in enumerate(messages))


def mark_of(message: Message, number: int) -> bool | None:
    """What a message says about itself with ``weight`` (0 or 1) or ``train`` (true or false); None if it says nothing.

    Raises:
        ConversationError: another value, or two marks that contradict each other.
    """
    if "weight" not in message and "train" not in message:
        return None
    weight, train = message.get("weight"), message.get("train")
    if weight is not None and weight not in (0, 1):
        raise ConversationError(f"message {number} has the weight {weight!r}; only 1 (train it) and 0 (do not) are possible")
    if train is not None and not isinstance(train, bool):
        raise ConversationError(f"message {number} has train = {train!r}; only true and false are possible")
    if weight is not None and train is not None and bool(weight) != train:
        raise ConversationError(f"message {number} has the weight {weight!r} and train = {str(train).lower()}: keep one of them")
    chosen = weight if train is None else train
    return None if chosen is None else bool(chosen)
