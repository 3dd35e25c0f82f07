"""One sample on its way from a row to the Arrow file."""

from __future__ import annotations

from typing import Any, NamedTuple


class Sample(NamedTuple):
    """What SampleMaker takes from TextSamples and ChatSamples.

    Attributes:
        input_ids: tokens; a list or an int32 array of shape (tokens,).
        labels: the same tokens where they are trained, -100 elsewhere; same length and kind.
        overlap: a text block that only repeats what other blocks hold too.
        question: the words of the last user turn before the first trained reply; related packing compares them.
        closes_section: the last block before a hard cut, or of its text.
    """

    input_ids: Any
    labels: Any
    overlap: bool = False
    question: str = ""
    closes_section: bool = False
