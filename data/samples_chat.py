"""Conversations to samples: labels by data.chat, what is too long or refused by the template is counted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .chat import TemplateError, conversation_samples, require_template
from .report import KEPT_EXAMPLES, DataReport
from .sources import Row
from .sources_report import BrokenRow, SourceReport


class ChatSamples:
    """Conversations to (ids, labels); arguments as for SampleMaker."""

    def __init__(self, data_config: Any, tokenizer: Any, report: DataReport) -> None:
        self._config = data_config
        self._tokenizer = tokenizer
        self._report = report

    def samples(self, row: Row, source: SourceReport) -> Iterator[tuple[list[int], list[int]]]:
        """Samples of one conversation.

        Raises:
            ValueError: the tokenizer has no chat template.
        """
        require_template(self._tokenizer)
        assert row.messages is not None
        try:
            samples = conversation_samples(row.messages, self._tokenizer, train_on=self._config.train_on, tools=row.tools)
        except TemplateError as error:
            source.files[-1].num_rows -= 1
            source.add_broken(BrokenRow(row.file, row.line, row.where, str(error), str(row.messages[0].get("content", ""))[:80]))
            return
        for sample in samples:
            self._report.routes[sample.route] = self._report.routes.get(sample.route, 0) + 1
            if len(sample.input_ids) > self._config.cutoff:
                self._report.num_too_long += 1
                if len(self._report.too_long) < KEPT_EXAMPLES:
                    self._report.too_long.append({"file": row.file, "line": row.line, "tokens": len(sample.input_ids)})
            else:
                yield sample.input_ids, sample.labels
