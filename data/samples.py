"""Rows to samples: conversations by samples_chat, texts by samples_text; groups, sections and places are given here.

Guarantee: samples come in the order of their rows. Those of one row share ``group`` and count ``place`` upwards; the sections of a text
(between hard cuts) count ``section`` upwards. A sample without a trained token is left out and counted.
Price: up to :data:`ROWS_AT_ONCE` conversations are held, since many are tokenized faster together.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from .chat import IGNORE
from .report import DataReport
from .sample import Sample
from .samples_chat import ChatSamples
from .samples_text import TextSamples
from .sources import Row
from .sources_report import SourceReport

ROWS_AT_ONCE = 256
BYTES_AT_ONCE = 4 << 20


class PlacedSample(NamedTuple):
    """A sample and where it comes from.

    Attributes:
        input_ids: int32, shape (tokens,).
        labels: int32, shape (tokens,).
        num_trained: tokens with a label.
        group: number of the row, counted over all sources.
        section: number of the section in a text.
        place: number of the sample in its row.
        overlap: a block that only repeats its neighbours' text.
        question: see :class:`data.sample.Sample`.
    """

    input_ids: np.ndarray
    labels: np.ndarray
    num_trained: int
    group: int
    section: int
    place: int
    overlap: bool
    question: str


class SampleMaker:
    """Turns rows into samples and counts what it leaves out.

    Args:
        data_config: the settings of RunConfig.data.
        tokenizer: of the model that is trained.
        report: takes the counts.
    """

    def __init__(self, data_config: Any, tokenizer: Any, report: DataReport) -> None:
        self._report = report
        self._chat = ChatSamples(data_config, tokenizer, report)
        self._text = TextSamples(data_config, tokenizer, report)
        self._group = -1

    def samples(self, rows: Iterable[Row], source: SourceReport) -> Iterator[PlacedSample]:
        """The samples of a source's rows."""
        waiting: list[Row] = []
        begin = source.bytes_done
        for row in rows:
            is_chat = row.kind == "conversation"
            if is_chat:
                waiting.append(row)
            if waiting and (not is_chat or len(waiting) >= ROWS_AT_ONCE or source.bytes_done - begin >= BYTES_AT_ONCE):
                yield from self._conversations(waiting, source)
                waiting, begin = [], source.bytes_done
            if not is_chat:
                yield from self._placed(self._text.samples(row))
        if waiting:
            yield from self._conversations(waiting, source)

    def _conversations(self, rows: list[Row], source: SourceReport) -> Iterator[PlacedSample]:
        for made in self._chat.samples_many(rows, source):
            yield from self._placed(made)

    def _placed(self, made: Iterable[Sample]) -> Iterator[PlacedSample]:
        self._group += 1
        section = 0
        for place, sample in enumerate(made):
            labels = np.asarray(sample.labels, dtype=np.int32)
            num_trained = int(np.count_nonzero(labels != IGNORE))
            if num_trained:
                ids = np.asarray(sample.input_ids, dtype=np.int32)
                yield PlacedSample(ids, labels, num_trained, self._group, section, place, bool(sample.overlap), sample.question)
            else:
                self._report.num_untrained += 1
            section += sample.closes_section
