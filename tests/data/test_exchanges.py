"""Conversations cut into stretches, and where their tokens may be cut."""

from typing import Any

import pytest
from chat_cases import OWN, reply, tokenizer_for, user
from hypothesis import given
from hypothesis import strategies as st
from training_pro.data.chat.choice import wanted_messages
from training_pro.data.exchanges import question_of, stretches, wanted_in
from training_pro.data.exchanges.borders import Borders

SYSTEM = {"role": "system", "content": "s"}
U, R, X = user("q"), reply("r"), reply("x", train=False)
CALL, RESULT = reply("", tool_calls=[]), {"role": "tool", "content": "o"}


@pytest.mark.parametrize(
    ("messages", "parts", "num_context", "num_behind"),
    [
        ([U, R, U, R], [(0, 2), (2, 4)], 0, 0),
        ([SYSTEM, SYSTEM, U, R, U, R], [(2, 4), (4, 6)], 0, 0),
        ([R, U, R, U, R], [(0, 3), (3, 5)], 0, 0),  # a greeting
        ([R], [(0, 1)], 0, 0),
        ([U, CALL, RESULT, R, U, R, R], [(0, 4), (4, 7)], 0, 0),
        ([U, R, SYSTEM, U, R], [(0, 3), (3, 5)], 0, 0),  # a system turn in the middle stays where it is
        ([U, R, U, X, U, R], [(0, 2), (2, 6)], 1, 0),
        ([U, U, R, U], [(0, 3)], 1, 1),
        ([U, X, U, X, U, R, U, X, U], [(0, 6)], 2, 2),
        ([U, X], [], 0, 1),
    ],
)
def test_stretches(messages: list[dict], parts: list[tuple[int, int]], num_context: int, num_behind: int) -> None:
    found = stretches(messages, wanted_messages(messages, "replies"))
    assert found.parts == parts
    assert (found.num_context, found.num_behind) == (num_context, num_behind)


def test_last_reply_only_is_one_stretch_with_all_that_was_said() -> None:
    messages = [SYSTEM, U, R, U, R, U, R]
    assert stretches(messages, wanted_messages(messages, "last reply")).parts == [(1, 7)]


@given(st.lists(st.sampled_from([U, R, X, SYSTEM, RESULT]), max_size=14))
def test_stretches_hold_every_wanted_reply_once(messages: list[dict]) -> None:
    wanted = wanted_messages(messages, "replies")
    found = stretches(messages, wanted)
    places = [index for start, end in found.parts for index in range(start, end)]
    assert places == list(range(found.head, places[-1] + 1 if places else found.head))
    assert set(wanted) <= set(places)
    for number, (start, end) in enumerate(found.parts):
        assert any(start <= index < end for index in wanted)
        assert not number or messages[start] == U


def test_wanted_and_question_of_a_stretch() -> None:
    messages = [SYSTEM, user("a"), R, user("b"), user("c"), R, user("d")]
    assert wanted_in([0, 2, 5], 1, 3, 6) == [0, 3]
    assert question_of(messages, 3, 6, [2, 5]) == "c"
    assert question_of(messages, 3, 6, []) == "b"
    assert question_of(messages, 2, 3, [2]) == ""


# --- cuts ----------------------------------------------------------------------------------------------------------------------


def borders(**changes: Any) -> Borders:
    from tokenizers import AddedToken

    tokenizer = tokenizer_for(OWN["chatml"])
    for name, options in changes.items():
        tokenizer.add_tokens([AddedToken(f"<{name}>", **{"special": True, "normalized": False, **options})])
    return Borders(tokenizer)


def test_cuts_beside_added_tokens_are_safe() -> None:
    found = borders()
    assert found.safe("Hello", "<|im_start|>user")
    assert found.safe("Hello<|im_end|>", "\nuser")
    assert found.safe("", "user")
    assert found.safe("user", "")
    assert not found.safe("Hello<|im_end|>\n", "user")
    assert not found.safe("Hello", "user<|im_end|>")


@pytest.mark.parametrize("options", [{"lstrip": True}, {"rstrip": True}, {"single_word": True}, {"normalized": True}])
def test_tokens_that_look_at_their_neighbours_are_no_cuts(options: dict[str, bool]) -> None:
    assert borders(a={}).safe("Hello", "<a>")
    assert not borders(a=options).safe("Hello", "<a>")
    assert not borders(a=options).safe("<a>", "Hello")


def test_a_token_across_the_cut_makes_it_unsafe() -> None:
    tokenizer = tokenizer_for(OWN["chatml"])
    tokenizer.add_tokens(["end<|im_start|>"], special_tokens=True)
    ids = tokenizer("the end<|im_start|>", add_special_tokens=False)["input_ids"]
    assert len(ids) < len(tokenizer("the end", add_special_tokens=False)["input_ids"]) + 1
    assert not Borders(tokenizer).safe("the end", "<|im_start|>")
    assert Borders(tokenizer).safe("the end.", "<|im_start|>")


def test_the_tokens_must_show_the_cut() -> None:
    tokenizer = tokenizer_for(OWN["chatml"])
    found, text = Borders(tokenizer), "Hello<|im_end|>\n<|im_start|>user"
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    place = ids.index(tokenizer.convert_tokens_to_ids("<|im_start|>"))
    left, right = text[: text.index("<|im_start|>")], text[text.index("<|im_start|>") :]
    assert found.holds(ids, place, left, right)
    assert not found.holds(ids, place + 1, left, right)
    assert not found.holds(ids, len(ids), left, right)


@given(st.data())
def test_safe_cuts_change_no_token(data: st.DataObject) -> None:
    tokenizer = tokenizer_for(OWN["chatml"])
    tokenizer.add_tokens(["a<|im_start|>", "<|im_end|>b"], special_tokens=True)
    words = st.lists(st.sampled_from(["<|im_start|>", "<|im_end|>", " ", "\n", "a", "b", "the ", "keeper", "<|im_"]), max_size=5)
    left, right = "".join(data.draw(words)), "".join(data.draw(words))
    if Borders(tokenizer).safe(left, right):
        whole, *parts = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in (left + right, left, right))
        assert whole == parts[0] + parts[1]
