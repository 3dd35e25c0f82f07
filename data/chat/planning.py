"""A conversation to the texts that will be tokenized, each with the characters that are trained.

What it does: renders the conversation, finds the wanted replies in it (chat_spans), splits it into one text per reply where the
template rewrites earlier turns, and looks whether every reply left a trace.

Guarantee: each text is what the tokenizer's own template renders for the messages that it shows; no character outside the wanted
replies and their end tokens is in a span; what is not trained although it was wanted has a reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from .choice import EVERYTHING, REPLY_ROLE, replies_of, unwanted
from .rendering import ConversationError, Message, TemplateError, View
from .spans import Finder, Span, find_spans
from .words import LOST_PLACE, LOST_REPLY, as_parts, as_strings, content_text, lost_tools, lost_words

AS_PARTS = "conversations whose texts were given to the template in parts, as it wants them"
NO_WAY = "the chat template gives no way to tell the reply from the prompt"


@dataclass(frozen=True)
class Rendered:
    """One text of a conversation.

    Attributes:
        text: as the template renders it.
        messages: the messages that it shows, as they were given to the template.
        spans: characters that are trained.
        route: how they were found.
        why: why no earlier route could be taken, or nothing.
        lost: reasons for words and replies that are not in it or not trained, one each.
    """

    text: str
    messages: Sequence[Message]
    spans: list[Span]
    route: str
    why: str = ""
    lost: list[str] = field(default_factory=list)

    @property
    def question(self) -> str:
        """The words of the last user turn before the first trained reply, or of the first one if that is not known."""
        trained = [span.reply for span in self.spans if span.reply >= 0]
        users = [index for index, message in enumerate(self.messages) if message.get("role") == "user"]
        before = [index for index in users if trained and index < trained[0]]
        chosen = before[-1:] or users[:1]
        return content_text(self.messages[chosen[0]]) if chosen else ""


def plan(
    messages: Sequence[Message], view: View, wanted: Sequence[int], *, everything: bool = False, text: str | None = None
) -> list[Rendered]:
    """The texts of a conversation.

    Contents are given to the template as plain text. Templates of models that also see pictures may want them as parts and leave
    plain text out, without a word: then the parts are tried.

    Args:
        wanted: places of the replies that are trained; not looked at where everything is.
        everything: train the whole text, without the messages that are marked not to be trained.
        text: the official rendering of the messages, if it is known.

    Raises:
        TemplateError: the template refuses the messages in every spelling, or hides the replies.
        ConversationError: a message that is marked not to be trained cannot be found.
    """
    plain = as_strings(messages)
    spellings = [(plain, ""), (messages, AS_PARTS)] if plain is not None else [(messages, "")]
    refusal: TemplateError | None = None
    found: list[list[Rendered]] = []
    for spelled, note in [*spellings, (as_parts(messages), AS_PARTS)]:
        if spelled is None:
            continue
        try:
            made = _plan(spelled, view, wanted, everything, text if spelled is messages else None)
        except TemplateError as error:
            refusal = refusal or error
            continue
        found.append([replace(made[0], lost=[note, *made[0].lost]), *made[1:]] if note else made)
        if not _num_lost(made):
            break
    if found:
        return min(found, key=_num_lost)  # the first of them where they are equal
    assert refusal is not None
    raise refusal


def _num_lost(made: Sequence[Rendered]) -> int:
    return sum(one.lost.count(LOST_REPLY) for one in made)


def _plan(messages: Sequence[Message], view: View, wanted: Sequence[int], everything: bool, text: str | None) -> list[Rendered]:
    if text is None:
        text = view.official(messages)
    if everything:
        lost = [reason for index in replies_of(messages) for reason in lost_words(messages, index, text, view, text)]
        return [Rendered(text, messages, _all_but_unwanted(messages, view, text), EVERYTHING, "", lost + lost_tools(view, text))]
    found = find_spans(messages, view, text, wanted)
    if found.spans is None:
        return _split(messages, view, wanted, found.why)
    spans, lost = _with_traces(messages, view, text, found.spans, wanted)
    return [Rendered(text, messages, spans, found.route, found.why, found.lost + lost + lost_tools(view, text))]


def _with_traces(
    messages: Sequence[Message], view: View, text: str, spans: list[Span], wanted: Sequence[int]
) -> tuple[list[Span], list[str]]:
    """The spans without those of replies that the template does not write, and what is not written."""
    if any(span.reply < 0 for span in spans):  # not known which is whose
        shown = "".join(text[span.start : span.end] for span in spans)
        return spans, [reason for index in wanted for reason in lost_words(messages, index, shown, view, text)]
    kept, lost = [], []
    for span in spans:
        reasons = lost_words(messages, span.reply, text[span.start : span.end], view, text)
        if span.end == span.start and LOST_REPLY not in reasons:
            reasons.append(LOST_REPLY)
        if LOST_REPLY not in reasons:
            kept.append(span)
        lost += reasons
    return kept, lost


# --- everything ----------------------------------------------------------------------------------------------------------------


def _all_but_unwanted(messages: Sequence[Message], view: View, text: str) -> list[Span]:
    spans, start = [], 0
    for index in unwanted(messages):
        first, last = _whole_message(messages, index, view, text)
        spans.append(Span(-1, start, first))
        start = last
    return [*spans, Span(-1, start, len(text))]


def _whole_message(messages: Sequence[Message], index: int, view: View, text: str) -> tuple[int, int]:
    """Characters of a message; of a reply without its opening.

    Raises:
        ConversationError: the template does not show where it lies.
    """
    if messages[index].get("role") == REPLY_ROLE:
        found = Finder(messages, view, text).find([index])
        if found.spans:
            return found.spans[0].start, found.spans[0].end
    else:
        edges = message_edges(messages, view, text)
        if edges[index] is not None and edges[index + 1] is not None:
            return edges[index] or 0, edges[index + 1] or 0
    raise ConversationError(
        f"message {index + 1} is marked not to be trained, but the chat template does not show where it lies; "
        "mark no message where everything is trained, or train on replies"
    )


def message_edges(messages: Sequence[Message], view: View, text: str) -> list[int | None]:
    """Characters at which messages begin, and the end: as many and one more; None where it is not proved."""
    edges: list[int | None] = [0]
    for count in range(1, len(messages) + 1):
        until = text if count == len(messages) else view.quick(messages[:count])
        edges.append(len(until) if until is not None and text.startswith(until) else None)
    return edges


# --- one text per reply --------------------------------------------------------------------------------------------------------


def _split(messages: Sequence[Message], view: View, wanted: Sequence[int], why: str) -> list[Rendered]:
    """One text per wanted reply: the conversation up to it, as the model sees it at inference."""
    made: list[Rendered] = []
    missing: list[str] = []
    for index in wanted:
        one = _up_to(messages[: index + 1], view, why)
        if one is None:
            missing.append(LOST_PLACE)
        else:
            made.append(one)
    if not made:
        raise TemplateError(NO_WAY)
    return [replace(made[0], lost=[*missing, *made[0].lost]), *made[1:]]


def _up_to(messages: Sequence[Message], view: View, why: str) -> Rendered | None:
    index = len(messages) - 1
    try:
        text = view.official(messages)
    except TemplateError:
        return None
    finder = Finder(messages, view, text)
    start = finder.proved_start(index)
    if start is None and index:
        start = finder.by_opening(index)
    end = finder.proved_end(index, start)
    span = finder.by_position(index, None, end, 0) if start is None else Span(index, start, len(text) if end is None else end)
    if span is None:
        return None
    spans, lost = _with_traces(messages, view, text, [span], [index])
    return Rendered(text, messages, spans, "split", why, lost + lost_tools(view, text))
