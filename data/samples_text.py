"""Texts to samples: blocks of chunking, every token but the first trained.

Guarantee: a sample is a block as `chunking` gives it, and what chunking leaves out or cuts is added to the report.
Price: one block is held back, to know which is the last of its section; a text that comes in pieces is never whole in memory.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..chunking import Block, Slicer
from .chat_tokens import IGNORE
from .report import DataReport
from .sample import Sample
from .sources import Row
from .train_after import first_token_after, unescaped

_EOS_MODES = {"every block": "every_block", "end of section": "section_end", "none": "none"}
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
            max_tokens=config.cutoff,
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
        labels = ids.copy()
        labels[: 1 + self._num_before_marker(block)] = IGNORE
        return Sample(ids, labels, overlap=block.overlap, closes_section=closes_section)

    def _num_before_marker(self, block: Block) -> int:
        """Tokens up to the end of the text of Train only after, less the first, which is never trained."""
        if not self._marker:
            return 0
        found = first_token_after(block.token_ids, self._marker, self._tokenizer) if self._marker in block.text else None
        if found is None:
            self._report.num_without_marker += 1
            return 0
        return found - 1

    def _count(self, block: Block) -> None:
        report = self._report
        report.num_blocks += 1
        report.num_overlap_blocks += block.overlap
        report.num_block_tokens += block.num_tokens
        if not block.overlap:
            self._plain_blocks += 1
            self._plain_tokens += block.num_tokens
            report.block_fill = self._plain_tokens / (self._plain_blocks * self._config.cutoff)


def begins_with_bos(tokenizer: Any) -> bool:
    """Whether the tokenizer itself begins a text with its BOS token."""
    bos = tokenizer.bos_token_id
    return bos is not None and list(tokenizer("a")["input_ids"])[:1] == [bos]
