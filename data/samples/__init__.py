"""Rows to samples: conversations by samples_chat or samples_exchange, texts by samples_text; groups, sections and places are given here.

Guarantee: samples come in the order of their rows. Those of one row share ``group`` and count ``place`` upwards; the sections of a text
(between hard cuts) count ``section`` upwards. A sample without a trained token is left out and counted.
Price: up to :data:`ROWS_AT_ONCE` conversations are held, since many are tokenized faster together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from ..chat import IGNORE
from ..exchanges import EXCHANGE
from ..report import DataReport
from ..sample import Joint, Sample
from ..sources import Row
from ..sources.report import SourceReport
from .chat import ChatSamples
from .exchange import ExchangeSamples
from .text import TextSamples

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
        joint: see :class:`data.sample.Joint`.
    """

    input_ids: np.ndarray
    labels: np.ndarray
    num_trained: int
    group: int
    section: int
    place: int
    overlap: bool
    question: str
    joint: Joint = Joint()


class SampleMaker:
    """Turns rows into samples and counts what it leaves out.

    Args:
        data_config: the settings of RunConfig.data.
        tokenizer: of the model that is trained.
        report: takes the counts.
        keep: called with the group and the row of each conversation that gives samples.
    """

    def __init__(
        self, data_config: Any, tokenizer: Any, report: DataReport, keep: Callable[[int, Row], None] | None = None
    ) -> None:
        self._report = report
        self._keep = keep
        kind = ExchangeSamples if data_config.entry == EXCHANGE else ChatSamples
        self._chat: ChatSamples | ExchangeSamples = kind(data_config, tokenizer, report)
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
        for row, made in zip(rows, self._chat.samples_many(rows, source), strict=True):
            if made and self._keep is not None:
                self._keep(self._group + 1, row)
            yield from self._placed(made)

    def _placed(self, made: Iterable[Sample]) -> Iterator[PlacedSample]:
        self._group += 1
        section = 0
        for number, sample in enumerate(made):
            place = number if sample.place < 0 else sample.place
            labels = np.asarray(sample.labels, dtype=np.int32)
            num_trained = int(np.count_nonzero(labels != IGNORE))
            if num_trained:
                ids = np.asarray(sample.input_ids, dtype=np.int32)
                where = self._group, section, place
                yield PlacedSample(ids, labels, num_trained, *where, bool(sample.overlap), sample.question, sample.joint)
            else:
                self._report.num_untrained += 1
            section += sample.closes_section
