"""Train only after: by characters, in text blocks and in conversations."""

from typing import Any

import pytest
import tiny
from chat_cases import reply, tokenizer_for, user
from hypothesis import given
from hypothesis import strategies as st
from test_truncation import samples_of
from training_pro.data.chat.train_after import first_token_after, place_after, unescaped


@pytest.mark.parametrize(
    ("written", "meant"),
    [("a\\nb", "a\nb"), ("\\t", "\t"), ("\\\\n", "\\n"), ("\\r\\n", "\r\n"), ("### Response:", "### Response:")],
)
def test_escapes(written: str, meant: str) -> None:
    assert unescaped(written) == meant


def test_the_first_place_counts() -> None:
    assert place_after("aXbXc", "X") == 2
    assert place_after("abc", "X") is None


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


@given(texts, texts.filter(bool), texts)
def test_tokens_behind_a_marker(before: str, marker: str, behind: str) -> None:
    """The tokens in front hold the whole marker, and one token less does not."""
    tokenizer = tiny.tokenizer()
    text = before + marker + behind
    ids = tokenizer(text)["input_ids"]
    count = first_token_after(ids, marker, tokenizer)
    if tokenizer.decode(ids) == text:
        assert count is not None
    if count is not None:
        assert marker in tokenizer.decode(ids[:count])
        assert marker not in tokenizer.decode(ids[: count - 1])


def test_no_marker_no_place() -> None:
    assert first_token_after(tiny.tokenizer()("the harbour")["input_ids"], "keeper", tiny.tokenizer()) is None


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (
            {"train_on": "everything"},
            " harbour is blue<|im_end|>\n<|im_start|>user\nwho<|im_end|>\n<|im_start|>assistant\nOda<|im_end|>\n",
        ),
        ({"train_on": "replies"}, " harbour is blue<|im_end|>Oda<|im_end|>"),
        ({"train_on": "last reply"}, "Oda<|im_end|>"),
    ],
)
def test_in_a_conversation(settings: dict[str, Any], expected: str) -> None:
    messages = [user("where"), reply("the harbour is blue"), user("who"), reply("Oda")]
    _, runs, report = samples_of(messages, tokenizer_for(tiny.CHATML), train_after="assistant\\nthe", **settings)
    assert "".join(runs[0]) == expected
    assert report.num_without_marker == 0


def test_without_the_marker_a_conversation_is_trained_as_ever_and_counted() -> None:
    messages = [user("where"), reply("the harbour")]
    _, runs, report = samples_of(messages, tokenizer_for(tiny.CHATML), train_after="### Response:")
    assert (runs, report.num_without_marker) == ([["the harbour<|im_end|>"]], 1)
    assert "1 sample without the text of Train only after, trained without it" in report.left_out()


def test_where_nothing_is_left_behind_the_marker() -> None:
    _, runs, _ = samples_of([user("where"), reply("the harbour")], tokenizer_for(tiny.CHATML), train_after="harbour<|im_end|>")
    assert runs == [[]]
