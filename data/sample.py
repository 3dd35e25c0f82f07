"""One sample on its way from a row to the Arrow file."""

from __future__ import annotations

from typing import Any, NamedTuple

# how a sample becomes part of a longer one; see data.joins for drawings
ALONE, APPEND, PRECEDE, ANEW = 0, 1, 2, 3


class Joint(NamedTuple):
    """What is known of a sample together with its neighbours.

    Attributes:
        way: ALONE, APPEND, PRECEDE or ANEW.
        context: no single rendering trains it together with the samples before it: they can only be its context.
        head: tokens at its beginning that every longer sample has once (BOS, system turns).
        tail: tokens at its end that every longer sample has once.
        part: tokens of what a longer sample shows of it beside its neighbours: behind another (APPEND), or before another (PRECEDE).
        most: samples of the longest run that begins here (``context``: that come before it as context); 0 = as the neighbours allow.
        more: pairs of ids and labels: the part, where it is no slice of the sample; ANEW: the whole longer samples, shortest first.
    """

    way: int = ALONE
    context: bool = False
    head: int = 0
    tail: int = 0
    part: int = 0
    most: int = 1
    more: tuple[tuple[Any, Any], ...] = ()


class Sample(NamedTuple):
    """What SampleMaker takes from TextSamples, ChatSamples and ExchangeSamples.

    Attributes:
        input_ids: tokens; a list or an int32 array of shape (tokens,).
        labels: the same tokens where they are trained, -100 elsewhere; same length and kind.
        overlap: a text block that only repeats what other blocks hold too.
        question: the words of the last user turn before the first trained reply; related packing compares them.
        closes_section: the last block before a hard cut, or of its text.
        place: number in its row; -1 = they are counted.
        joint: how it is joined with its neighbours.
    """

    input_ids: Any
    labels: Any
    overlap: bool = False
    question: str = ""
    closes_section: bool = False
    place: int = -1
    joint: Joint = Joint()
