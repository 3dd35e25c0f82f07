"""Rows to samples: conversations by samples_chat, texts by samples_text; groups and places are given here.

Guarantee: samples of one row share ``group`` and count ``place`` upwards; a sample without a trained token is left out and counted.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .chat import IGNORE
from .report import DataReport
from .samples_chat import ChatSamples
from .samples_text import TextSamples
from .sources import Row
from .sources_report import SourceReport


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

    def samples(self, row: Row, source: SourceReport) -> Iterator[dict[str, Any]]:
        """Samples of one row: input_ids, labels, num_trained, group, place."""
        self._group += 1
        made = self._chat.samples(row, source) if row.kind == "conversation" else self._text.samples(row)
        for place, (ids, labels) in enumerate(made):
            num_trained = sum(label != IGNORE for label in labels)
            if not num_trained:
                self._report.num_untrained += 1
                continue
            yield {"input_ids": ids, "labels": labels, "num_trained": num_trained, "group": self._group, "place": place}
