"""The replies that are measured: drawn by seed, rendered by the template, each with the same tokens whatever its history."""

from typing import Any

import chat_cases
import numpy as np
import pytest
import tiny
from chat_cases import reply, user
from hypothesis import given
from hypothesis import strategies as st
from jinja2 import TemplateError
from training_pro.data.chat.words import as_parts
from training_pro.evaluation.replies import (
    ALONE,
    BROKEN,
    FULL,
    LAST,
    LONGER,
    NO_PLACE,
    OTHER_TOKENS,
    PERMUTED,
    TOO_LONG,
    draw_replies,
    histories,
    reply_places,
)

SYSTEM = {"role": "system", "content": "be kind"}


def talk(num: int, tag: str = "") -> list[dict[str, Any]]:
    """A conversation of so many exchanges; every message says where it stands."""
    return [message for at in range(num) for message in (user(f"ask {tag}{at}"), reply(f"say {tag}{at}"))]


def draw(conversations: list[Any], tokenizer: Any = None, most: int = 100, cutoff: int = 400, seed: int = 0) -> Any:
    def read(number: int) -> Any:
        messages = conversations[number]
        return None if messages is None else {"messages": messages, "tools": None}

    return draw_replies(read, len(conversations), tokenizer or tiny.tokenizer(), most=most, cutoff=cutoff, seed=seed)


def words(text: Any) -> str:
    return tiny.tokenizer().decode(text.input_ids)


def rendered(messages: list[Any]) -> str:
    return tiny.tokenizer().apply_chat_template(messages, tokenize=False)


def test_the_histories_literally() -> None:
    messages = [SYSTEM, *talk(3)]
    made = histories(messages, np.random.default_rng(0))
    exchange = [talk(3)[2 * at : 2 * at + 2] for at in range(3)]
    assert made == {
        "full": messages,
        "alone": [SYSTEM, *exchange[2]],
        "permuted": [SYSTEM, *exchange[1], *exchange[0], *exchange[2]],
        "last": [SYSTEM, *exchange[1], *exchange[2]],
    }
    assert list(histories(talk(2), np.random.default_rng(0))) == [FULL, ALONE]
    assert histories(talk(1), np.random.default_rng(0)) == {}
    assert histories([], np.random.default_rng(0)) == {}


def test_a_greeting_stays_in_front_and_is_no_exchange() -> None:
    greeting = reply("welcome")
    made = histories([SYSTEM, greeting, *talk(3)], np.random.default_rng(0))
    assert made[PERMUTED][:2] == [SYSTEM, greeting]
    assert greeting not in made[ALONE] + made[LAST]
    assert histories([greeting, *talk(1)], np.random.default_rng(0)) == {}
    assert reply_places([greeting, *talk(2)]) == [4]


@given(st.integers(2, 7), st.integers(0, 99))
def test_a_permutation_moves_whole_exchanges_and_is_never_the_order_itself(num: int, seed: int) -> None:
    messages = [SYSTEM, *talk(num + 1)]
    permuted = histories(messages, np.random.default_rng(seed))[PERMUTED]
    assert permuted != messages
    assert (permuted[0], permuted[-2:]) == (SYSTEM, messages[-2:])
    pairs = [(permuted[at]["content"][4:], permuted[at + 1]["content"][4:]) for at in range(1, len(permuted), 2)]
    assert all(question == answer for question, answer in pairs)
    assert sorted(pairs) == sorted((str(at), str(at)) for at in range(num + 1))


def test_replies_that_count() -> None:
    assert reply_places([SYSTEM, *talk(3)]) == [4, 6]
    tools = [*talk(1), user("go"), reply("", tool_calls=[]), {"role": "tool", "content": "4"}, reply("four")]
    assert reply_places(tools) == [3, 5]
    marked = talk(3)
    marked[3]["weight"] = 0
    assert reply_places(marked) == [5]


def test_every_text_is_the_templates_own_rendering() -> None:
    messages = [SYSTEM, *talk(4)]
    sample = draw([messages])
    assert [entry.place for entry in sample.replies] == [4, 6, 8]
    for entry in sample.replies:
        part = messages[: entry.place + 1]
        assert words(entry.texts[FULL]) == rendered(part)
        assert words(entry.texts[ALONE]) == rendered([SYSTEM, *part[-2:]])
        said = tiny.tokenizer().encode(part[-1]["content"] + "<|im_end|>", add_special_tokens=False)
        for text in entry.texts.values():
            assert text.reply.tolist() == said
            labels = text.sample["labels"]
            assert labels[text.start : text.end].tolist() == said
            assert (labels != -100).sum() == len(said) == entry.num_tokens
    assert [list(entry.texts) for entry in sample.replies] == [[FULL, ALONE], *[[FULL, ALONE, PERMUTED, LAST]] * 2]
    assert words(sample.replies[2].texts[LAST]) == rendered([SYSTEM, *messages[5:]])


def test_conversations_count_alike_while_there_are_enough() -> None:
    conversations = [talk(6, f"{number} ") for number in range(8)]
    sample = draw(conversations, most=8)
    assert [entry.conversation for entry in sample.replies] == list(range(8))
    assert len({entry.place for entry in sample.replies}) > 2  # not always the same place
    twice = draw(conversations, most=12)
    assert len({entry.conversation for entry in twice.replies}) == 8
    assert len({(entry.conversation, entry.place) for entry in twice.replies}) == 12
    assert len(draw(conversations, most=1000).replies) == 8 * 5


def test_the_same_seed_draws_the_same_and_another_does_not() -> None:
    conversations = [talk(5, f"{number} ") for number in range(20)]
    first, again, other = (draw(conversations, most=6, seed=seed) for seed in (1, 1, 2))
    assert first.identity == again.identity != other.identity
    assert len({draw(conversations, most=6, seed=seed).replies[0].conversation for seed in range(5)}) > 1


def test_what_is_looked_at_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training_pro.evaluation.replies.LOOKED_AT_LEAST", 10)
    monkeypatch.setattr("training_pro.evaluation.replies.LOOKED_AT_PER_REPLY", 3)
    singles = [talk(1)] * 100
    assert (draw(singles, most=2).num_looked_at, draw(singles, most=20).num_looked_at) == (10, 60)
    sample = draw([None, *singles], most=200)
    assert (sample.num_looked_at, sample.num_conversations, sample.replies) == (101, 101, ())


def test_a_long_conversation_loses_whole_exchanges_at_the_front() -> None:
    messages = [SYSTEM, *talk(9)]
    whole = len(draw([messages], most=1).replies[0].texts[FULL].input_ids)
    per_exchange = len(tiny.tokenizer().encode(rendered(talk(1)), add_special_tokens=False))
    for cutoff in range(2 * per_exchange, whole, 5):
        sample = draw([messages], cutoff=cutoff)
        for entry in sample.replies:
            text = words(entry.texts[FULL])
            full = messages[: entry.place + 1]
            fitting = [
                n
                for n in range(1, len(full) // 2 + 1)
                if len(tiny.tokenizer().encode(rendered([SYSTEM, *full[-2 * n :]]))) <= cutoff
            ]
            assert text == rendered([SYSTEM, *full[-2 * max(fitting) :]])
            assert all(len(each.input_ids) <= cutoff for each in entry.texts.values())
        assert len(sample.replies) + sum(sample.left_out.values()) >= 8
    sample = draw([messages], cutoff=per_exchange + 12)
    assert (sample.replies, sample.left_out) == ((), {TOO_LONG: 8})


def test_what_cannot_be_read_or_measured_is_counted() -> None:
    broken = talk(3)
    broken[3]["weight"] = 7
    assert draw([broken, talk(2)]).left_out == {BROKEN: 1}
    refusing = tiny.fresh_tokenizer()
    refusing.chat_template = "{% if messages | length > 2 %}{{ raise_exception('one exchange only') }}{% endif %}" + tiny.CHATML
    sample = draw([talk(3)], refusing)
    assert (sample.replies, sample.left_out) == ((), {NO_PLACE: 2})


def test_a_template_that_writes_a_reply_otherwise_with_another_history() -> None:
    tokenizer = tiny.fresh_tokenizer()
    counting = "{{ '<|im_start|>' + m.role + '\n' }}{{ 'after ' ~ messages | length ~ ': ' if loop.last else '' }}{{ m.content + '<|im_end|>\n' }}"
    tokenizer.chat_template = (
        "{% for m in messages %}"
        + counting
        + "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    )
    sample = draw([talk(4)], tokenizer)
    assert (sample.replies, sample.left_out) == ((), {OTHER_TOKENS: 3})


def test_a_history_that_is_longer_than_the_full_one_is_left_out_alone() -> None:
    tokenizer = tiny.fresh_tokenizer()
    # the first message is written twice, so that another first exchange changes the length
    tokenizer.chat_template = "{{ messages[0].content }}" + tiny.CHATML
    messages = [user("a"), reply("b"), user("long " * 9), reply("c"), user("d"), reply("e")]
    full = len(draw([messages], tokenizer).replies[1].texts[FULL].input_ids)
    sample = draw([messages], tokenizer, cutoff=full)
    assert [list(entry.texts) for entry in sample.replies] == [[FULL, ALONE], [FULL, ALONE]]
    assert sample.left_out == {LONGER: 2}


def test_no_chat_template() -> None:
    tokenizer = tiny.fresh_tokenizer()
    tokenizer.chat_template = None
    with pytest.raises(ValueError, match="Chat template"):
        draw([talk(2)], tokenizer)


@pytest.mark.parametrize("name", [*chat_cases.OWN, *chat_cases.trl_templates()])
def test_templates_of_many_families(name: str) -> None:
    """Every text is a rendering of its messages, and the reply with its end is the same in all; else it is counted."""
    template = {**chat_cases.OWN, **chat_cases.trl_templates()}[name]
    tokenizer = chat_cases.tokenizer_for(template)
    conversations = [talk(4), [SYSTEM, *talk(3)], chat_cases.CONVERSATIONS["tools twice"], chat_cases.CONVERSATIONS["thoughts"]]
    sample = draw(conversations, tokenizer, cutoff=4000)
    assert sample.replies or name == "parts only"
    for entry in sample.replies:
        message = conversations[entry.conversation][entry.place]
        for text in entry.texts.values():
            assert text.reply.tolist() == entry.texts[FULL].reply.tolist()
            assert str(message["content"]).strip()[-4:] in tokenizer.decode(text.reply)
        full = as_template_wants(tokenizer, conversations[entry.conversation][: entry.place + 1])
        assert tokenizer.decode(entry.texts[FULL].input_ids) == tokenizer.decode(
            tokenizer(full, add_special_tokens=False)["input_ids"]
        )


def as_template_wants(tokenizer: Any, messages: list[dict[str, Any]]) -> str:
    """The rendering that shows the last message: of plain texts, or of parts where a template leaves plain ones out or refuses them."""
    for spelled in (messages, as_parts(messages) or []):
        try:
            text = str(tokenizer.apply_chat_template(spelled, tokenize=False))
        except TemplateError:
            continue
        if str(messages[-1]["content"]).strip()[-4:] in text:
            return text
    raise AssertionError("no rendering shows the last message")
