"""Samples as they will be trained, token by token, for people to look at.

What it does: turns prepared samples back into text with, for each token, whether it is trained, only read, or special.

Guarantee: shows what is in the prepared data, nothing is tokenized or rendered anew; joining the pieces of a sample gives its decoded
text. Price: two short decodings per token, so a page of a few samples at a time.

Example (a piece is what few tokens decode to; ^ marks trained ones)::

    <|im_start|> user \\n Hi <|im_end|> \\n <|im_start|> assistant \\n Hel lo <|im_end|> \\n
    special      read                   special                        ^   ^  ^
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise
from typing import Any

import numpy as np

from .chat import IGNORE

_CONTEXT_TOKENS = 4  # decoded again before each token: what a decoder does at a word's start depends on what stands before
_LONGEST_CHARACTER = 8  # tokens that one character may be made of
_BINS = 10
HARD_CUT = "hard cut"
_OTHER_TEXT = "next conversation or text"


@dataclass(frozen=True)
class Piece:
    """What one token decodes to, or few that make up one character.

    Attributes:
        text: decoded.
        trained: it counts for the loss.
        special: a special token of the tokenizer.
    """

    text: str
    trained: bool
    special: bool = False


@dataclass(frozen=True)
class PreviewSample:
    """One sample.

    Attributes:
        number: place in the prepared data, counted from 0.
        num_tokens: length.
        num_trained: tokens with a label.
        pieces: the sample's text.
        overlap: a block that only repeats text of its neighbours.
        group: conversation or text that it comes from; a change of group is a border that no block crosses.
        section: section of the text, between two hard cuts.
        pack: number of the pack that it is trained in; None without packing.
        border: what lies between it and the sample before it on the page: :data:`HARD_CUT`, another text, another pack; empty for
            neighbours of one text and for the page's first.
    """

    number: int
    num_tokens: int
    num_trained: int
    pieces: list[Piece]
    overlap: bool = False
    group: int = 0
    section: int = 0
    pack: int | None = None
    border: str = ""


@dataclass(frozen=True)
class Preview:
    """A page of samples.

    Attributes:
        samples: the page, in the order of the data, or pack by pack.
        first: entry (sample, or pack) at which the page begins; ``num_entries`` there are in all.
        capacity: the cutoff, in tokens.
        fill: samples per tenth of the cutoff, shortest first, overlap blocks left out.
        mean_fill: mean length of the entries over the cutoff.
        problems: why there is nothing to show.
    """

    samples: list[PreviewSample] = field(default_factory=list)
    first: int = 0
    num_entries: int = 0
    capacity: int = 0
    fill: list[int] = field(default_factory=list)
    mean_fill: float = 0.0
    problems: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def preview(
    prepared: Any, tokenizer: Any, *, capacity: int, first: int = 0, num: int = 5, packs: Sequence[Sequence[int]] | None = None
) -> Preview:
    """A page of the prepared samples.

    Args:
        prepared: what :func:`data.prepare.prepare` gave.
        tokenizer: the same as there.
        capacity: most tokens of an entry, the cutoff.
        first: first entry to show; taken to the last page if there are fewer.
        num: entries to show.
        packs: samples of each pack, if they are packed.
    """
    num_entries = len(prepared.train) if packs is None else len(packs)
    first = max(0, min(first, num_entries - num))
    chosen = range(first, min(first + num, num_entries))
    if packs is None:
        samples = [_sample(prepared.train, number, tokenizer) for number in chosen]
        lengths = np.asarray(prepared.lengths)[~_overlaps(prepared.train)]
    else:
        samples = [_sample(prepared.train, number, tokenizer, pack) for pack in chosen for number in packs[pack]]
        lengths = np.asarray([int(prepared.lengths[list(pack)].sum()) for pack in packs])
    share = lengths / capacity
    fill = np.bincount(np.clip((share * _BINS).astype(int), 0, _BINS - 1), minlength=_BINS)
    return Preview(with_borders(samples), first, num_entries, capacity, fill.tolist(), float(share.mean()) if len(share) else 0.0)


def with_borders(samples: Sequence[PreviewSample]) -> list[PreviewSample]:
    """The samples of a page, each with what lies between it and the one before."""
    return [*samples[:1], *(replace(after, border=_border(before, after)) for before, after in pairwise(samples))]


def _border(before: PreviewSample, after: PreviewSample) -> str:
    if after.pack is not None and before.pack != after.pack:
        return f"pack {after.pack + 1:,}"
    if before.group != after.group:
        return "" if after.pack is not None else _OTHER_TEXT
    return HARD_CUT if before.section != after.section else ""


def _overlaps(dataset: Any) -> np.ndarray:
    if "overlap" not in dataset.column_names:
        return np.zeros(len(dataset), dtype=bool)
    return np.asarray(dataset["overlap"], dtype=bool)


def _sample(dataset: Any, number: int, tokenizer: Any, pack: int | None = None) -> PreviewSample:
    row = dataset[number]
    return PreviewSample(
        number=number,
        num_tokens=len(row["input_ids"]),
        num_trained=int(row["num_trained"]),
        pieces=pieces(row["input_ids"], row["labels"], tokenizer),
        overlap=bool(row.get("overlap", False)),
        group=int(row.get("group", 0)),
        section=int(row.get("section", 0)),
        pack=pack,
    )


def pieces(ids: Sequence[int], labels: Sequence[int], tokenizer: Any) -> list[Piece]:
    """Text of each token; tokens that only together make up a character are one piece."""
    special = set(tokenizer.all_special_ids)
    special |= {number for number, token in getattr(tokenizer, "added_tokens_decoder", {}).items() if token.special}

    def decode(start: int, end: int) -> str:
        return str(tokenizer.decode(list(ids[start:end]), skip_special_tokens=False, clean_up_tokenization_spaces=False))

    made: list[Piece] = []
    start = 0
    for end in range(1, len(ids) + 1):
        context = max(0, start - _CONTEXT_TOKENS)
        before, text = decode(context, start), decode(context, end)
        is_whole = not text.endswith("\ufffd") or end - start >= _LONGEST_CHARACTER or end == len(ids)
        if not is_whole:
            continue
        new = text[len(before) :] if text.startswith(before) else decode(start, end)
        trained = any(label != IGNORE for label in labels[start:end])
        made.append(Piece(new, trained, ids[start] in special))
        start = end
    return made
