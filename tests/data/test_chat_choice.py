"""What is trained: the setting, and the marks on messages."""

from typing import Any

import pytest
import tiny
from chat_cases import CONVERSATIONS, OWN, SYSTEM, reply, tokenizer_for, user
from test_truncation import samples_of
from training_pro.data.chat import ConversationError, conversation_samples
from training_pro.data.chat.choice import mark_of, unfollowed, wanted_messages

ASKED = [SYSTEM, user("Qa1q"), reply("Ra1r"), user("Qb2q"), reply("Rb2r")]


def end(*names: str) -> list[str]:
    return [f"{name}<|im_end|>" for name in names]


def marked(**marks: dict[str, Any]) -> list[dict]:
    """ASKED with marks on the messages that hold a word."""
    return [{**message, **marks.get(message["content"], {})} for message in ASKED]


@pytest.mark.parametrize(
    ("messages", "train_on", "expected", "not_followed"),
    [
        (ASKED, "replies", [2, 4], 0),
        (ASKED, "last reply", [4], 0),
        (ASKED, "everything", [0, 1, 2, 3, 4], 0),
        (ASKED[:4], "last reply", [2], 0),
        (marked(Ra1r={"weight": 0}), "replies", [4], 0),
        (marked(Ra1r={"weight": 0.0}, Rb2r={"weight": 1}), "replies", [4], 0),
        (marked(Ra1r={"train": True}, Rb2r={"train": False}), "replies", [2], 0),
        (marked(Rb2r={"train": False, "weight": 0}), "last reply", [], 0),
        (marked(Rb2r={"train": None, "weight": None}), "last reply", [4], 0),
        (marked(Qa1q={"weight": 1}), "replies", [2, 4], 1),
        (marked(Qa1q={"weight": 0}), "everything", [0, 2, 3, 4], 0),
        (marked(Ra1r={"train": True}), "last reply", [4], 1),
    ],
)
def test_wanted_messages(messages: list[dict], train_on: str, expected: list[int], not_followed: int) -> None:
    assert wanted_messages(messages, train_on) == expected
    assert unfollowed(messages, expected) == not_followed


@pytest.mark.parametrize(
    ("mark", "message"),
    [
        ({"weight": 0.5}, r"message 7 has the weight 0.5; only 1 \(train it\) and 0 \(do not\) are possible"),
        ({"weight": "1"}, "message 7 has the weight '1'; only 1"),
        ({"train": "yes"}, "message 7 has train = 'yes'; only true and false are possible"),
        ({"train": 1}, "message 7 has train = 1; only true and false"),
        ({"weight": 1, "train": False}, "message 7 has the weight 1 and train = false: keep one of them"),
    ],
)
def test_marks_that_cannot_be_followed(mark: dict, message: str) -> None:
    with pytest.raises(ConversationError, match=message):
        mark_of({"role": "assistant", **mark}, 7)


@pytest.mark.parametrize("name", ["chatml", "llama 2", "marks without end", "phi 3", "tool calls"])
def test_marked_replies_are_not_trained(name: str) -> None:
    tokenizer = tokenizer_for(OWN[name])
    both, first, last = (
        samples_of(messages, tokenizer)[1][0] for messages in (ASKED, marked(Rb2r={"weight": 0}), marked(Ra1r={"train": False}))
    )
    assert (both[:1], both[1:]) == (first, last)
    assert len(both) == 2
    assert samples_of(ASKED, tokenizer, train_on="last reply")[1] == [last]


def test_the_last_reply_needs_no_splitting() -> None:
    """Earlier turns may be rewritten: only the last reply has to be found."""
    tokenizer = tokenizer_for(OWN["qwen 3"])
    (sample,) = conversation_samples(CONVERSATIONS["thoughts"], tokenizer, train_on="last reply")
    assert sample.route == "prefixes"
    _, runs, _ = samples_of(CONVERSATIONS["thoughts"], tokenizer, train_on="last reply")
    assert runs == [["<think>\nTb2t\n</think>\n\nRb2r<|im_end|>"]]


def test_everything_but_a_marked_message() -> None:
    tokenizer = tokenizer_for(tiny.CHATML)
    _, runs, _ = samples_of(marked(Qa1q={"weight": 0}, Ra1r={"train": False}), tokenizer, train_on="everything")
    assert runs == [
        [
            "system\nSx0s<|im_end|>\n",
            "<|im_start|>assistant\n",
            "\n<|im_start|>user\nQb2q<|im_end|>\n<|im_start|>assistant\nRb2r<|im_end|>\n",
        ]
    ]


def test_a_marked_message_that_cannot_be_found_is_a_broken_row() -> None:
    tokenizer = tokenizer_for(OWN["mistral system"])
    with pytest.raises(
        ConversationError, match="message 2 is marked not to be trained, but the chat template does not show where"
    ):
        conversation_samples(marked(Qa1q={"weight": 0}), tokenizer, train_on="everything")
