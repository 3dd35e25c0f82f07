"""Conversations to samples, many rows at a time: labels by data.chat, too long ones by data.truncation, all else counted.

Guarantee: a row gives its samples or a broken row with the reason; whatever is wanted and not trained is in the report.
Price: one tokenization per text, all texts of a call in one batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from ..chat.choice import EVERYTHING, unfollowed, wanted_messages
from ..chat.planning import Rendered, plan
from ..chat.rendering import ConversationError, Message, Renderer, View, require_template
from ..chat.tokens import IGNORE, Tokens, tokenize
from ..chat.train_after import place_after, unescaped
from ..chat.truncation import CUT_FRONT, CUT_REPLY, DROP, WINDOWS, Shortened, num_replies, shorten
from ..report import KEPT_EXAMPLES, DataReport
from ..sample import Sample
from ..sources import Row
from ..sources.report import BrokenRow, SourceReport

NOT_FOLLOWED = "messages that are marked to be trained and are not: Train on trains replies (or only the last one)"
NO_END = "trained replies that do not end with a special token: the model may not learn to stop"


class Made(NamedTuple):
    """A text and its tokens; ``after`` is the first token that may be trained."""

    rendered: Rendered
    tokens: Tokens
    after: int = 0

    @property
    def length(self) -> int:
        return len(self.tokens.ids)


class Planned(NamedTuple):
    """A row on its way: its wanted messages and its texts; or the reason why it is broken."""

    row: Row
    wanted: list[int]
    texts: list[Rendered]
    error: str = ""


class ChatSamples:
    """Conversations to samples; arguments as for SampleMaker."""

    def __init__(self, data_config: Any, tokenizer: Any, report: DataReport) -> None:
        self._config = data_config
        self._tokenizer = tokenizer
        self._report = report
        self._everything = data_config.train_on == EVERYTHING
        self._marker = unescaped(data_config.train_after)

    def samples(self, row: Row, source: SourceReport) -> Iterator[Sample]:
        """Samples of one conversation; see :meth:`samples_many`."""
        for made in self.samples_many([row], source):
            yield from made

    def samples_many(self, rows: Sequence[Row], source: SourceReport) -> Iterator[list[Sample]]:
        """Samples of many conversations: one list per row, in order.

        Raises:
            ValueError: the tokenizer has no chat template.
        """
        require_template(self._tokenizer)
        renderer = Renderer(self._tokenizer)
        planned = list(self.planned(rows, renderer))
        texts = [text for one in planned for text in one.texts]
        made = iter(self.tokenized(texts))
        for one in planned:
            yield self.finished(one, [next(made) for _ in one.texts], renderer, source)

    def planned(self, rows: Sequence[Row], renderer: Renderer) -> Iterator[Planned]:
        """All rows rendered, one by one; the official rendering is asked for in one call where that is possible."""
        plain = [row.messages or () for row in rows if not row.tools]
        known: list[str | None] = [*(renderer.official_many(plain) or ())]
        texts = iter(known or [None] * len(plain))
        for row in rows:
            yield self._plan(row, View(renderer, row.tools), None if row.tools else next(texts))

    def _plan(self, row: Row, view: View, text: str | None) -> Planned:
        assert row.messages is not None
        try:
            wanted = wanted_messages(row.messages, self._config.train_on)
            return Planned(row, wanted, plan(row.messages, view, wanted, everything=self._everything, text=text))
        except ConversationError as error:
            return Planned(row, [], [], str(error))

    def tokenized(self, texts: Sequence[Rendered]) -> list[Made]:
        """Many texts at once."""
        if not self._marker:
            return [Made(*pair) for pair in zip(texts, tokenize(texts, self._tokenizer), strict=True)]
        found = [place_after(text.text, self._marker) for text in texts]
        self._report.num_without_marker += found.count(None)
        tokens = tokenize(texts, self._tokenizer, [[place or 0] for place in found])
        return [Made(text, one, one.places[0]) for text, one in zip(texts, tokens, strict=True)]

    def finished(self, planned: Planned, made: list[Made], renderer: Renderer, source: SourceReport) -> list[Sample]:
        """The samples of a row whose texts are tokenized."""
        row = planned.row
        if planned.error:
            excerpt = str((row.messages or [{}])[0].get("content", ""))[:80]
            source.reject(BrokenRow(row.file, row.line, row.where, planned.error, excerpt))
            return []
        self.count_unfollowed(planned)
        return self.kept(planned, made, View(renderer, row.tools))

    def kept(self, planned: Planned, made: list[Made], view: View) -> list[Sample]:
        """Samples within the cutoff, or what the settings leave of them; counted."""
        if any(one.length > self._config.cutoff for one in made):
            made = self._shortened(planned, made, view)
        for one in made:
            self.count(one.rendered, view.renderer)
        return [self.sample(one) for one in made]

    def count_unfollowed(self, planned: Planned) -> None:
        """Messages of a row that ask to be trained and are not."""
        self.note(NOT_FOLLOWED, unfollowed(planned.row.messages or (), planned.wanted))

    def note(self, reason: str, times: int = 1) -> None:
        """Count a reason in the report."""
        if times:
            self._report.reasons[reason] = self._report.reasons.get(reason, 0) + times

    def sample(self, made: Made) -> Sample:
        """Ids and labels of a text."""
        ids, labels = np.asarray(made.tokens.ids, dtype=np.int32), np.full(made.length, IGNORE, dtype=np.int32)
        made.tokens.fill(labels, made.after)
        cutoff = self._config.cutoff  # only `cut reply` leaves longer ones
        return Sample(ids[:cutoff], labels[:cutoff], question=made.rendered.question)

    def count(self, rendered: Rendered, renderer: Renderer, num_samples: int = 1) -> None:
        """Count how the replies of a text were found, and what of it is not trained."""
        routes = self._report.routes
        routes[rendered.route] = routes.get(rendered.route, 0) + num_samples
        reasons = [f"samples on the route {rendered.route}: {rendered.why}"] if rendered.why else []
        if rendered.route != EVERYTHING:
            ends = [renderer.token_at_end(rendered.text[span.start : span.end]) for span in rendered.spans]
            reasons += [NO_END] * sum(end not in renderer.control_tokens for end in ends)
        for reason in reasons + rendered.lost:
            self.note(reason)

    # --- longer than the cutoff ------------------------------------------------------------------------------------------------

    def _shortened(self, planned: Planned, made: list[Made], view: View) -> list[Made]:
        """What is left of a conversation with samples over the cutoff; what is not is counted."""
        mode, cutoff, row = self._config.too_long, self._config.cutoff, planned.row
        if mode == CUT_REPLY:
            self._report.num_cut += 1
            return made
        messages = row.messages or ()
        left = Shortened[Made]()
        for one in made:
            of_split = one.rendered.route == "split"
            wanted = [len(one.rendered.messages) - 1] if of_split else planned.wanted
            if one.length <= cutoff:
                left.samples.append(one)
                left.kept.update(wanted)
            elif mode != DROP and not (of_split and mode not in (CUT_FRONT, WINDOWS)):
                shown = messages[: len(one.rendered.messages)]
                one_mode = CUT_FRONT if of_split else mode
                part = shorten(shown, wanted, self._maker(view, one), mode=one_mode, cutoff=cutoff, length=one.length)
                left.samples += part.samples
                left.kept |= part.kept
        self._count_shortened(planned, made, left)
        return left.samples

    def _maker(self, view: View, whole: Made) -> Any:
        """Renders and tokenizes a part of a conversation."""

        def make(messages: Sequence[Message], wanted: Sequence[int]) -> list[tuple[Made, int]]:
            texts = plan(messages, view, wanted, everything=self._everything)
            if whole.rendered.route == "split":
                texts = [replace(text, route="split", why=whole.rendered.why) for text in texts]
            return [(made, made.length) for made in self.tokenized(texts)]

        return make

    def _count_shortened(self, planned: Planned, made: list[Made], left: Shortened[Made]) -> None:
        report, row = self._report, planned.row
        if left.samples:
            report.num_cut += 1
            report.num_cut_replies += num_replies(row.messages or (), set(planned.wanted) - left.kept)
            return
        report.num_too_long += 1
        if len(report.too_long) < KEPT_EXAMPLES:
            report.too_long.append({"file": row.file, "line": row.line, "tokens": max(one.length for one in made)})
