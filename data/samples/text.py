"""Texts to samples: blocks of chunking, every token but the first trained.

Guarantee: a sample is a block as `chunking` gives it, and what chunking leaves out or cuts is added to the report. Blocks that follow
each other in a section can be joined where two fit into the Cutoff (Length of text blocks): the text from the first one's beginning to
the last one's end, white space between them included, with BOS and EOS as one block of that length has them. Overlap blocks are not
joined: their text would come once and lose what they are for. Where a tokenizer would merge across the border (a full stop with the line
breaks behind it), the joined ids are those of the blocks alone; they spell the same text, and the report counts such borders.
Price: one block is held back, to know which is the last of its section; a text that comes in pieces is never whole in memory. Blocks that
can be joined are tokenized a second time, with what stands before them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np

from ...chunking import Block, Slicer
from ..chat.tokens import IGNORE
from ..chat.train_after import first_token_after, unescaped
from ..report import DataReport
from ..sample import APPEND, Joint, Sample
from ..sources import Row

_EOS_MODES = {"every block": "every_block", "end of section": "section_end", "none": "none"}
UNSEEN_MERGES = (
    "text blocks that joined samples write as they are alone, where the tokenizer would merge their beginning with the end before"
)
NOT_JOINED = "text blocks that are not joined with the one before: the tokenizer writes its end otherwise there"
_COUNTED = {  # of chunking -> of the report
    "ignored_blocks": "num_small_blocks",
    "ignored_chars": "num_small_chars",
    "ignored_overlaps": "num_small_overlaps",
    "cut_sentences": "num_cut_sentences",
    "dropped_duplicates": "num_duplicates",
}


class TextSamples:
    """Texts to samples; arguments as for SampleMaker."""

    def __init__(self, data_config: Any, tokenizer: Any, report: DataReport) -> None:
        self._config = data_config
        self._tokenizer = tokenizer
        self._report = report
        self._slicer: Slicer | None = None  # made for the first text: conversations need none
        self._marker = unescaped(data_config.train_after)
        self._plain_blocks = self._plain_tokens = 0
        self._before: Block | None = None  # the last block of the text that is no overlap
        self.block_tokens = data_config.block_tokens or data_config.cutoff
        if data_config.block_tokens:
            report.block_words = "their length"

    def samples(self, row: Row) -> Iterator[Sample]:
        """Blocks of one text.

        Args:
            row: whose ``text`` is a str, a file opened in text mode, or pieces of a text in order.

        Raises:
            ValueError: a setting that cannot work with this tokenizer or text, in the words of the form.
        """
        assert row.text is not None
        self._slicer = self._slicer or self._new_slicer()
        counts = Counter[str]()
        held: Block | None = None
        self._before = None
        for block in self._slicer.blocks(row.text, counts=counts):
            if held is not None:
                yield self._sample(held, closes_section=block.section != held.section)
            held = block
        if held is not None:
            yield self._sample(held, closes_section=True)
        for name, count in counts.items():
            setattr(self._report, _COUNTED[name], getattr(self._report, _COUNTED[name]) + count)

    def _new_slicer(self) -> Slicer:
        config = self._config
        return Slicer(
            self._tokenizer,
            max_tokens=self.block_tokens,
            overlap=config.overlap,
            hard_cut=config.hard_cut,
            cut_at=config.cut_at,
            min_chars=config.min_chars,
            min_tokens=config.min_tokens,
            add_bos=config.add_bos == "yes" or (config.add_bos == "auto" and begins_with_bos(self._tokenizer)),
            add_eos=_EOS_MODES[config.add_eos],
            stride=config.stride,
            language=config.language,
            sliding=config.dementor,
        )

    def _sample(self, block: Block, closes_section: bool) -> Sample:
        self._count(block)
        ids = np.array(block.token_ids, dtype=np.int32)
        labels = self._labels(ids, block.text, count=True)
        labels[:1] = IGNORE
        joint = Joint() if block.overlap else self._joint(block)
        return Sample(ids, labels, overlap=block.overlap, closes_section=closes_section, joint=joint)

    def _labels(self, ids: np.ndarray, text: str, *, count: bool) -> np.ndarray:
        """Everything behind the text of Train only after."""
        labels = ids.copy()
        if self._marker:
            found = first_token_after(ids.tolist(), self._marker, self._tokenizer) if self._marker in text else None
            labels[: found or 0] = IGNORE
            self._report.num_without_marker += count and found is None
        return labels

    def _joint(self, block: Block) -> Joint:
        """How a block is joined with the one before it."""
        assert self._slicer is not None
        before, self._before = self._before, block
        bos, eos = self._slicer.num_bos, block.num_eos
        if before is None or before.num_tokens - before.num_eos + block.num_tokens - bos > self._config.cutoff:
            return Joint(APPEND, head=bos, tail=eos, most=0)
        found = self._slicer.continued(before, block)
        if found is None:
            self._note(NOT_JOINED)
            return Joint(APPEND, head=bos, tail=eos, most=0)
        part = np.array(found[0], dtype=np.int32)
        if not found[1]:
            self._note(UNSEEN_MERGES)
        more = ((part, self._labels(part, block.text, count=False)),)
        return Joint(APPEND, head=bos, tail=eos, part=len(part), most=0, more=more)

    def _note(self, reason: str) -> None:
        self._report.reasons[reason] = self._report.reasons.get(reason, 0) + 1

    def _count(self, block: Block) -> None:
        report = self._report
        report.num_blocks += 1
        report.num_overlap_blocks += block.overlap
        report.num_block_tokens += block.num_tokens
        if not block.overlap:
            self._plain_blocks += 1
            self._plain_tokens += block.num_tokens
            report.block_fill = self._plain_tokens / (self._plain_blocks * self.block_tokens)


def begins_with_bos(tokenizer: Any) -> bool:
    """Whether the tokenizer itself begins a text with its BOS token."""
    bos = tokenizer.bos_token_id
    return bos is not None and list(tokenizer("a")["input_ids"])[:1] == [bos]
