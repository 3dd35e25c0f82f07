"""Texts to samples: blocks of chunking, every token but the first trained."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from ..chunking import slice_text
from .chat import IGNORE
from .report import DataReport
from .sources import Row

_EOS_MODES = {"every block": "every_block", "end of section": "section_end", "none": "none"}


class TextSamples:
    """Texts to (ids, labels); arguments as for SampleMaker."""

    def __init__(self, data_config: Any, tokenizer: Any, report: DataReport) -> None:
        self._config = data_config
        self._tokenizer = tokenizer
        self._report = report

    def samples(self, row: Row) -> Iterator[tuple[list[int], list[int]]]:
        """Blocks of one text."""
        config, counts = self._config, Counter[str]()
        assert row.text is not None
        blocks = slice_text(
            row.text,
            self._tokenizer,
            max_tokens=config.cutoff,
            overlap=config.overlap,
            hard_cut=config.hard_cut,
            min_chars=config.min_chars,
            add_bos=config.add_bos == "yes" or (config.add_bos == "auto" and begins_with_bos(self._tokenizer)),
            add_eos=_EOS_MODES[config.add_eos],
            counts=counts,
        )
        self._report.num_blocks += len(blocks)
        self._report.num_small_blocks += counts["ignored_blocks"]
        for block in blocks:
            yield block.token_ids, [IGNORE, *block.token_ids[1:]]


def begins_with_bos(tokenizer: Any) -> bool:
    """Whether the tokenizer itself begins a text with its BOS token."""
    bos = tokenizer.bos_token_id
    return bos is not None and list(tokenizer("a")["input_ids"])[:1] == [bos]
