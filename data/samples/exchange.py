"""Conversations to samples, one for each exchange, that can be joined again: what hybrid batching orders.

What it does: cuts a conversation into stretches (data.exchanges), tokenizes its rendering once, and takes the samples and what they add
to each other from those tokens, where a shape of data.exchanges.runs is proved and its cuts are safe (data.exchanges.borders). Where the
template drops or rewrites earlier turns, each reply is a sample with its own rendering, and the parts are what earlier exchanges are
written to. What cannot be put together from parts is rendered and tokenized anew: each run of at most :data:`MOST_ANEW` samples.

Guarantee: every sample, alone or joined, equals the chat template's rendering of its messages (system turns first), token for token, and
trains the wanted replies that it would train in the whole conversation. Train only after counts in each sample alone: joined, each trains
what it trains alone (samples that are rendered anew: behind the text's first place). A conversation that cannot be cut is one sample, and
the reason is counted. Price: one tokenization and some short renderings a conversation; two tokenizations where first stretches are
written in their own way; one per run where nothing can be proved.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ..chat.choice import EVERYTHING
from ..chat.planning import Rendered, plan
from ..chat.rendering import ConversationError, Message, Renderer, View, require_template
from ..chat.tokens import Tokens, tokenize
from ..chat.train_after import place_after, unescaped
from ..chat.words import as_parts, as_strings
from ..exchanges import Stretch, Stretches, question_of, stretches, wanted_in
from ..exchanges.borders import Borders
from ..exchanges.pieces import Pieces, cut_of_single, places_of_parts
from ..exchanges.runs import MOST_RENDERED, Runs, Shape, find_append, find_precede
from ..report import DataReport
from ..sample import ANEW, APPEND, Joint, Sample
from ..sources import Row
from ..sources.report import SourceReport
from .chat import ChatSamples, Made, Planned

MOST_ANEW = 8
NUM_CONTEXT = "exchanges without a trained reply: part of the next sample, as its context"
NUM_BEHIND = "exchanges behind the last trained reply: left out, nothing that is trained could see them"
KEPT_WHOLE = "conversations kept as one sample: an exchange of theirs cannot be rendered alone"
AS_CONTEXT = "conversations of which one sample can train only the last reply, with the earlier ones as context"
RENDERED_ANEW = (
    f"conversations whose joined samples (of at most {MOST_ANEW}) were rendered anew: their parts cannot be told apart"
)


@dataclass
class _Cut:
    """A conversation on its way.

    Attributes:
        planned: its row, wanted messages and texts.
        runs: its entries.
        stretch_of: number of each entry's stretch.
        whole: rendering of all entries, with what is trained of it.
        context: no rendering trains several entries.
        shape: how runs are made; None: anew.
        singles: each entry's own rendering, where the shape needs it.
    """

    planned: Planned
    runs: Runs
    stretch_of: list[int]
    whole: Rendered
    context: bool
    shape: Shape | None = None
    singles: list[Rendered] = field(default_factory=list)

    @property
    def texts(self) -> list[Rendered]:
        """What is tokenized."""
        return [self.whole, *self.singles] if self.shape else []


class ExchangeSamples:
    """Conversations to samples; arguments as for SampleMaker."""

    def __init__(self, data_config: Any, tokenizer: Any, report: DataReport) -> None:
        self._config, self._tokenizer, self._report = data_config, tokenizer, report
        self._chat = ChatSamples(data_config, tokenizer, report)
        self._borders = Borders(tokenizer)
        self._everything = data_config.train_on == EVERYTHING
        self._marker = unescaped(data_config.train_after)
        report.unit = "exchanges"

    def samples_many(self, rows: Sequence[Row], source: SourceReport) -> Iterator[list[Sample]]:
        """Samples of many conversations: one list per row, in order.

        Raises:
            ValueError: the tokenizer has no chat template.
        """
        require_template(self._tokenizer)
        renderer = Renderer(self._tokenizer)
        done = [self._cut(planned, View(renderer, planned.row.tools)) for planned in self._chat.planned(rows, renderer)]
        cut = [one for one in done if isinstance(one, _Cut)]
        tokens = iter(tokenize([text for one in cut for text in one.texts], self._tokenizer, [*self._places(cut)]))
        whole = iter(self._chat.tokenized([text for one in done if isinstance(one, Planned) for text in one.texts]))
        for one in done:
            if isinstance(one, Planned):
                yield self._chat.finished(one, [next(whole) for _ in one.texts], renderer, source)
            else:
                yield self._samples(one, [next(tokens) for _ in one.texts])

    # --- text ------------------------------------------------------------------------------------------------------------------

    def _cut(self, planned: Planned, view: View) -> _Cut | Planned:
        """A conversation cut into entries; as it is if there is only one, or if it cannot be cut."""
        if planned.error:
            return planned
        found = stretches(planned.row.messages or (), planned.wanted)
        if len(found.parts) < 2:
            return planned
        try:
            made = self._entries(planned, found, view)
        except ConversationError:
            self._chat.note(KEPT_WHOLE)
            return planned
        self._chat.note(NUM_CONTEXT, found.num_context)
        self._chat.note(NUM_BEHIND, found.num_behind)
        if made.shape is None:
            self._chat.note(RENDERED_ANEW)
        return made

    def _entries(self, planned: Planned, found: Stretches, view: View) -> _Cut:
        messages: Sequence[Message] = planned.row.messages or ()
        if found.num_behind:
            messages = messages[: found.parts[-1].end]
            planned = planned._replace(texts=plan(messages, view, planned.wanted, everything=self._everything))
        whole = planned.texts[-1]
        spellings = (messages, as_strings(messages), as_parts(messages))
        spelled = next(
            (given for given in spellings if given is not None and whole.messages == given[: len(whole.messages)]), None
        )
        messages, as_spelled = spelled or messages, spelled is not None
        if planned.texts[0].route == "split":
            self._chat.note(f"{AS_CONTEXT}: {planned.texts[0].why}")
            return self._by_reply(planned, found, Runs(messages, found.head, found.parts, view), as_spelled)
        runs = Runs(messages, found.head, found.parts, view)
        cut = _Cut(planned, runs, [*range(len(runs))], whole, context=False)
        if as_spelled:
            runs.know(0, len(runs) - 1, whole.text)
            cut.shape = find_append(runs, whole.text, self._borders)
            if cut.shape is None:
                cut.shape = find_precede(runs, whole.text, cut.stretch_of, self._borders)
        if cut.shape is None or cut.shape.singles:
            cut.singles = [self._alone(cut, entry) for entry in range(len(runs))]
            if cut.shape and cut.shape.singles != [single.text for single in cut.singles]:
                cut.shape = None
        return cut

    def _by_reply(self, planned: Planned, found: Stretches, runs: Runs, as_spelled: bool) -> _Cut:
        """Where one rendering cannot train all replies: the texts of each stretch alone, each an entry that ends with its reply."""
        entries: list[Stretch] = []
        singles: list[Rendered] = []
        stretch_of: list[int] = []
        for number, part in enumerate(found.parts):
            wanted = wanted_in(planned.wanted, found.head, *part)
            texts = plan(runs.messages(number, number), runs.view, wanted, everything=False)
            singles += texts
            stretch_of += [number] * len(texts)
            ends = [part.start + len(text.messages) - found.head for text in texts]
            entries += [Stretch(part.start, end) for end in ends]
        whole_messages = runs.messages(0, len(found.parts) - 1)
        runs = Runs(whole_messages, found.head, entries, runs.view)
        text = runs.text(0, len(runs) - 1)
        whole = Rendered(text or "", whole_messages, [], "split")
        cut = _Cut(planned, runs, stretch_of, whole, context=True, singles=singles)
        if as_spelled and text:
            cut.shape = find_precede(runs, text, stretch_of, self._borders)
            if cut.shape and cut.shape.singles != [single.text for single in singles]:
                cut.shape = None
        return cut

    def _alone(self, cut: _Cut, entry: int) -> Rendered:
        """An entry's own rendering.

        Raises:
            ConversationError: the template refuses it, or one rendering cannot train it.
        """
        texts = self._plan_run(cut, entry, entry)
        if len(texts) > 1:
            raise ConversationError(KEPT_WHOLE)
        return texts[0]

    def _plan_run(self, cut: _Cut, first: int, last: int) -> list[Rendered]:
        """A run with what is trained of it: all wanted replies; with ``context`` only those of the last entry."""
        runs = cut.runs
        start, end = runs.entries[first].start, runs.entries[last].end
        wanted = wanted_in(cut.planned.wanted, runs.head, start, end)
        if cut.context:
            chosen = self._wanted_of(cut, last)
            wanted = wanted_in(chosen, runs.head, start, end)
        return plan(runs.messages(first, last), runs.view, wanted, everything=self._everything)

    def _wanted_of(self, cut: _Cut, entry: int) -> list[int]:
        """The messages that an entry trains."""
        start, end = cut.runs.entries[entry]
        if cut.context and cut.singles[entry].route == "split":
            return [end - 1]
        return [index for index in cut.planned.wanted if start <= index < end]

    # --- tokens ----------------------------------------------------------------------------------------------------------------

    def _places(self, cuts: Sequence[_Cut]) -> Iterator[list[int]]:
        """Of each text the characters whose tokens are asked for: see :class:`Pieces`."""
        for cut in cuts:
            if cut.shape is not None:
                yield places_of_parts(cut.shape) + [place or 0 for place in self._afters(cut.shape)]
                for single in cut.singles:
                    after = place_after(single.text, self._marker) if self._marker else None
                    yield [cut_of_single(cut.shape, single.text), after or 0]

    def _afters(self, shape: Shape) -> list[int | None]:
        """Of each part the character of the whole text behind the marker; None where it is not found, or not asked for."""
        return [self._after(shape, entry) if self._marker else None for entry in range(len(shape.parts))]

    def _after(self, shape: Shape, entry: int) -> int | None:
        place = shape.parts[entry]
        if place is None:
            return None
        if shape.singles:
            found = place_after(shape.part(entry), self._marker)
            return None if found is None else place[0] + found
        found = place_after(shape.single(entry), self._marker)
        if found is None or found <= len(shape.head):
            return found
        return place[0] + found - len(shape.head)

    def _samples(self, cut: _Cut, tokens: list[Tokens]) -> list[Sample]:
        """The entries of a conversation."""
        self._chat.count_unfollowed(cut.planned)
        joints: list[Joint] | None = None
        if cut.shape is not None:
            pieces = Pieces(cut.shape, tokens, self._borders, [bool(place) for place in self._afters(cut.shape)])
            joints = self._proved(cut, pieces) if pieces.hold else None
            if joints is None:
                self._chat.note(RENDERED_ANEW)
        if joints is not None and cut.shape is not None and not cut.shape.singles:
            return self._taken(cut, pieces, joints)
        if not cut.singles:  # taken from the whole until now
            try:
                cut.singles = [self._alone(cut, entry) for entry in range(len(cut.runs))]
            except ConversationError:
                self._chat.note(KEPT_WHOLE)
                planned = cut.planned
                return self._chat.kept(planned, self._chat.tokenized(planned.texts), cut.runs.view)
        if joints is None:
            joints = [self._anew(cut, entry) for entry in range(len(cut.runs))]
        return self._made(cut, self._tokenized(cut, tokens[1:]), joints)

    def _tokenized(self, cut: _Cut, tokens: list[Tokens]) -> list[Made]:
        """The entries' own texts with their tokens, if they were asked for already."""
        if len(tokens) < len(cut.singles):
            return self._chat.tokenized(cut.singles)
        if self._marker:
            self._report.num_without_marker += sum(place_after(text.text, self._marker) is None for text in cut.singles)
        return [Made(text, one, one.places[1]) for text, one in zip(cut.singles, tokens, strict=True)]

    def _taken(self, cut: _Cut, pieces: Pieces, joints: list[Joint]) -> list[Sample]:
        """Samples out of the tokens of the whole conversation."""
        samples: list[Sample] = []
        num_kept = 0
        for entry, joint in enumerate(joints):
            ids, labels = pieces.single(entry)
            if len(ids) > self._config.cutoff:
                texts = self._plan_run(cut, entry, entry)
                samples += self._cut_down(cut, entry, self._chat.tokenized(texts), len(joints) + len(samples))
                continue
            num_kept += 1
            self._report.num_without_marker += bool(self._marker) and not pieces.is_marked[entry]
            start, end = cut.runs.entries[entry]
            question = question_of(cut.runs.messages(0, len(cut.runs) - 1), start, end, cut.planned.wanted)
            samples.append(Sample(ids, labels, question=question, place=entry, joint=joint))
        self._chat.count(cut.whole, cut.runs.view.renderer, num_kept)
        return samples

    def _made(self, cut: _Cut, made: list[Made], joints: list[Joint]) -> list[Sample]:
        """Samples with tokens of their own."""
        samples: list[Sample] = []
        num_kept = 0
        for entry, (one, joint) in enumerate(zip(made, joints, strict=True)):
            if one.length > self._config.cutoff:
                samples += self._cut_down(cut, entry, [one], len(joints) + len(samples))
                continue
            num_kept += 1
            samples.append(self._chat.sample(one)._replace(place=entry, joint=joint))
            if cut.context:
                self._chat.count(one.rendered, cut.runs.view.renderer)
        if not cut.context:
            self._chat.count(cut.whole, cut.runs.view.renderer, num_kept)
        return samples

    def _cut_down(self, cut: _Cut, entry: int, made: list[Made], place: int) -> list[Sample]:
        """What the settings leave of an entry that is longer than the cutoff: a sample that is never joined."""
        runs, row = cut.runs, cut.planned.row
        start, end = runs.entries[entry]
        wanted = wanted_in(self._wanted_of(cut, entry), runs.head, start, end)
        planned = Planned(replace(row, messages=tuple(runs.messages(entry, entry))), wanted, [one.rendered for one in made])
        samples = self._chat.kept(planned, made, runs.view)
        return [sample._replace(place=place + number) for number, sample in enumerate(samples)]

    # --- proofs ----------------------------------------------------------------------------------------------------------------

    def _proved(self, cut: _Cut, pieces: Pieces) -> list[Joint] | None:
        """How each entry is joined, after every run that fits was compared with its rendering; None if one differs."""
        num = len(cut.runs)
        proved = self._proved_behind(cut, pieces) if pieces.shape.way == APPEND else self._proved_before(cut, pieces)
        if proved is None:
            return None
        return [pieces.joint(entry, cut.context, proved[entry]) for entry in range(num)]

    def _proved_behind(self, cut: _Cut, pieces: Pieces) -> list[int] | None:
        """APPEND: how many entries a run may have that begins with each."""
        runs, most = cut.runs, []
        for first in range(len(runs)):
            last = first
            while last + 1 < len(runs) and pieces.run_length(first, last + 1) <= self._config.cutoff:
                last += 1
            if last - first >= MOST_RENDERED and runs.ends(first, last) is None:
                last = first + MOST_RENDERED - 1
            if not pieces.shape.proved(runs, first, last):
                return None
            most.append(last - first + 1)
        return most

    def _proved_before(self, cut: _Cut, pieces: Pieces) -> list[int] | None:
        """PRECEDE: how many entries of context each may have; without ``context``, of how many a run may be that begins with each."""
        runs, before = cut.runs, []
        for last in range(len(runs)):
            first = last
            while first and last - first + 1 < MOST_RENDERED and pieces.run_length(first - 1, last) <= self._config.cutoff:
                first -= 1
            if not all(runs.text(begin, last) == pieces.shape.run(begin, last) for begin in range(first, last + 1)):
                return None
            before.append(last - first)
        if cut.context:
            return before
        reach = [[last - first <= before[last] for last in range(first, len(runs))] for first in range(len(runs))]
        return [(*fits, False).index(False) for fits in reach]

    def _anew(self, cut: _Cut, entry: int) -> Joint:
        """The longer samples that begin with an entry (or end with it, with context), each rendered and tokenized by itself."""
        made: list[tuple[Any, Any]] = []
        for count in range(2, MOST_ANEW + 1):
            first, last = (entry + 1 - count, entry) if cut.context else (entry, entry + count - 1)
            if first < 0 or last >= len(cut.runs):
                break
            try:
                texts = self._plan_run(cut, first, last)
            except ConversationError:
                break
            if len(texts) > 1:
                break
            before = self._report.num_without_marker
            (one,) = self._chat.tokenized(texts)
            self._report.num_without_marker = before
            if one.length > self._config.cutoff:
                break
            sample = self._chat.sample(one)
            made.append((sample.input_ids, sample.labels))
        return Joint(ANEW, cut.context, most=len(made) + (0 if cut.context else 1), more=tuple(made))
