"""Many conversations at once: the same samples as one by one, broken rows in their places, everything counted."""

from typing import Any

import numpy as np
import pytest
import tiny
from chat_cases import CONVERSATIONS, OWN, TOOLS, reply, tokenizer_for, user
from hypothesis import given
from hypothesis import strategies as st
from training_pro.config import DataSettings
from training_pro.data.chat import IGNORE, conversation_samples, encode
from training_pro.data.chat.planning import AS_PARTS
from training_pro.data.chat.spans import DROPS_THINKING, NO_PROMPT
from training_pro.data.chat.tokens import token_from, token_until
from training_pro.data.chat.words import LOST_CALLS, LOST_REPLY, LOST_THINKING, LOST_TOOLS
from training_pro.data.report import DataReport
from training_pro.data.sample import Sample
from training_pro.data.samples.chat import NO_END, NOT_FOLLOWED, ChatSamples
from training_pro.data.sources import Row
from training_pro.data.sources.report import FileReport, SourceReport


def row(messages: list[dict], line: int = 1, tools: Any = None) -> Row:
    return Row(kind="conversation", messages=tuple(messages), text=None, file="a", line=line, where="line", tools=tools)


def made_of(rows: list[Row], tokenizer: Any, **changes: Any) -> tuple[list[list[Sample]], DataReport, SourceReport]:
    report, source = DataReport(), SourceReport(files=[FileReport("a", num_rows=len(rows)), FileReport("b")])
    return list(ChatSamples(DataSettings(**changes), tokenizer, report).samples_many(rows, source)), report, source


def plain(samples: list[list[Sample]]) -> list[list[tuple[Any, ...]]]:
    return [[(list(one.input_ids), list(one.labels), *one[2:]) for one in made] for made in samples]


@pytest.mark.parametrize("name", OWN)
def test_many_rows_are_what_each_is_alone(name: str) -> None:
    tokenizer = tokenizer_for(OWN[name])
    rows = [
        row(messages, line, tuple(TOOLS) if "tool" in case else None)
        for line, (case, messages) in enumerate(CONVERSATIONS.items(), start=1)
    ]
    together, report, source = made_of(rows, tokenizer)
    assert len(together) == len(rows)
    alone, num_broken = [], 0
    for one in rows:
        samples, own, broken = made_of([one], tokenizer)
        alone += samples
        num_broken += broken.num_broken
    assert plain(together) == plain(alone)
    assert source.num_broken == num_broken == sum(not samples for samples in together)
    assert source.num_rows == len(rows) - num_broken
    for one, samples in zip(rows, together, strict=True):
        if samples:
            expected = conversation_samples(list(one.messages or ()), tokenizer, tools=list(one.tools) if one.tools else None)
            assert [list(sample.labels) for sample in samples] == [sample.labels for sample in expected]
            assert {(sample.input_ids.dtype, sample.labels.dtype) for sample in samples} == {(np.dtype("int32"),) * 2}


def test_broken_rows_keep_the_templates_words_and_their_place() -> None:
    rows = [
        row(CONVERSATIONS["plain"], 1),
        row(CONVERSATIONS["system"], 2),
        row([user("Qa1q"), reply("Ra1r", weight=2)], 3),
        row(CONVERSATIONS["plain"], 4),
    ]
    samples, _, source = made_of(rows, tokenizer_for(OWN["gemma"]))
    assert [len(made) for made in samples] == [1, 0, 0, 1]
    assert [(broken.line, broken.reason, broken.excerpt) for broken in source.broken] == [
        (2, "the chat template refuses the conversation: System role not supported", "Sx0s"),
        (3, "message 2 has the weight 2; only 1 (train it) and 0 (do not) are possible", "Qa1q"),
    ]
    assert [(file.num_rows, file.num_broken) for file in source.files] == [(2, 2), (0, 0)]


def test_marks_that_ask_for_more_than_is_trained_are_counted() -> None:
    rows = [
        row([{**user("Qa1q"), "train": True}, reply("Ra1r", weight=1)]),
        row([{**user("Qb2q"), "weight": 1}, reply("Rb2r")], 2),
    ]
    samples, report, _ = made_of(rows, tokenizer_for(tiny.CHATML))
    assert [len(made) for made in samples] == [1, 1]
    assert report.reasons == {NOT_FOLLOWED: 2}
    assert any(NOT_FOLLOWED in line and "2" in line for line in report.lines())


def test_a_model_without_template() -> None:
    tokenizer = tokenizer_for(tiny.CHATML)
    tokenizer.chat_template = None
    with pytest.raises(ValueError, match="Chat template: the model has none"):
        made_of([row(CONVERSATIONS["plain"])], tokenizer)


@pytest.mark.parametrize(
    ("name", "case", "routes", "reasons"),
    [
        ("chatml", "plain", {"prefixes": 1}, {}),
        ("qwen 3", "thoughts", {"split": 2}, {f"samples on the route split: {DROPS_THINKING}": 2}),
        ("chatml", "tool", {"prefixes": 1}, {LOST_CALLS: 1, LOST_REPLY: 1, LOST_TOOLS: 1}),
        ("chatml", "thoughts", {"prefixes": 1}, {LOST_THINKING: 2}),
        ("parts only", "plain", {"prefixes": 1}, {AS_PARTS: 1}),
        ("gemma", "parts", {"prefixes": 1}, {}),
        ("llama 3", "reply first", {"position": 1}, {f"samples on the route position: {NO_PROMPT}": 1}),
    ],
)
def test_routes_and_reasons(name: str, case: str, routes: dict, reasons: dict) -> None:
    tools = tuple(TOOLS) if "tool" in case else None
    _, report, _ = made_of([row(CONVERSATIONS[case], tools=tools)], tokenizer_for(OWN[name]))
    assert (report.routes, report.reasons) == (routes, reasons)
    lines = report.lines()
    assert f"how the replies were found: {', '.join(f'{route} {count}' for route, count in routes.items())}" in lines
    assert {f"{count} {reason}" for reason, count in reasons.items()} <= set(lines)


def test_replies_without_an_end_token_are_counted() -> None:
    template = "{% for m in messages %}{{ '[' + m.role + ']' + m.content + '\n' }}{% endfor %}{% if add_generation_prompt %}{{ '[assistant]' }}{% endif %}"
    _, report, _ = made_of([row(CONVERSATIONS["plain"]), row(CONVERSATIONS["system"])], tokenizer_for(template))
    assert report.reasons == {NO_END: 5}


def test_the_question_is_the_last_user_turn_before_the_first_trained_reply() -> None:
    samples, _, _ = made_of([row(CONVERSATIONS["plain"])], tokenizer_for(tiny.CHATML))
    assert [sample.question for sample in samples[0]] == ["Qa1q"]
    samples, _, _ = made_of([row(CONVERSATIONS["plain"])], tokenizer_for(tiny.CHATML), train_on="last reply")
    assert [sample.question for sample in samples[0]] == ["Qb2q"]
    samples, _, _ = made_of([row(CONVERSATIONS["plain"])], tokenizer_for(OWN["r1"]))
    assert [sample.question for sample in samples[0]] == ["Qa1q", "Qb2q"]


def test_no_rows() -> None:
    assert made_of([], tokenizer_for(tiny.CHATML))[0] == []


@given(st.text("aé🌊 \n<|im_end|>", max_size=20), st.integers(0, 20))
def test_tokens_from_a_character(text: str, place: int) -> None:
    """Against a search over all offsets."""
    tokenizer = tiny.tokenizer()
    place = min(place, len(text))
    ids, offsets = encode(text, tokenizer)
    assert offsets is not None
    expected = next((number for number, (start, _) in enumerate(offsets) if start >= place), len(ids))
    encoding = tokenizer([text], add_special_tokens=False).encodings[0]
    assert token_from(encoding, place, len(ids)) == expected


class Encoding:
    """Tokens with given characters, looked up as the tokenizers library does."""

    def __init__(self, *offsets: tuple[int, int]) -> None:
        self._offsets = offsets

    def char_to_token(self, place: int) -> int | None:
        return next((number for number, (start, end) in enumerate(self._offsets) if start <= place < end), None)

    def token_to_chars(self, token: int) -> tuple[int, int]:
        return self._offsets[token]


@pytest.mark.parametrize(
    ("text", "offsets", "span", "tokens"),
    [
        ("ab|cd", [(0, 2), (2, 3), (3, 5)], (2, 3), (1, 2)),
        ("ab|cd", [(0, 1), (1, 4), (4, 5)], (1, 3), (1, 1)),  # the token holds a letter of the next turn
        ("ab|\nd", [(0, 1), (1, 4), (4, 5)], (1, 3), (1, 2)),  # it holds white space only: an end token that swallows it
        ("ab|cd", [(0, 2), (2, 5)], (1, 5), (1, 2)),  # the first token begins in the prompt
        ("ab|cd", [(0, 2), (2, 2), (2, 5)], (2, 5), (1, 3)),  # a token without characters belongs to what follows
        ("a  cd", [(0, 1), (3, 5)], (1, 5), (1, 2)),  # white space without a token
        ("ab   ", [(0, 2), (5, 5)], (2, 5), (1, 1)),
        ("ab   ", [(0, 2)], (3, 5), (1, 1)),
    ],
)
def test_borders_inside_tokens(text: str, offsets: list, span: tuple[int, int], tokens: tuple[int, int]) -> None:
    encoding, count = Encoding(*offsets), len(offsets)
    assert (token_from(encoding, span[0], count), token_until(encoding, span[1], count, text)) == tokens


def test_labels_are_ignored_by_their_number() -> None:
    samples, _, _ = made_of([row(CONVERSATIONS["plain"])], tokenizer_for(tiny.CHATML))
    labels = samples[0][0].labels
    assert IGNORE == -100
    assert (labels[0], set(labels.tolist()) - set(samples[0][0].input_ids.tolist())) == (IGNORE, {IGNORE})
