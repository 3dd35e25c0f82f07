"""Conversations to tokens: ids as the chat template renders them, labels on the replies and their end tokens only."""

from typing import Any

import pytest
import tiny
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken
from training_pro.data.chat import (
    IGNORE,
    TemplateError,
    TokenizedConversation,
    Turn,
    conversation_samples,
    encode,
    render,
    require_template,
    tokenize_conversation,
)
from training_pro.data.chat.spans import DROPS_THINKING
from training_pro.data.chat.words import LOST_PLACE

GENERATION = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}"
    "{% if m.role == 'assistant' %}{% generation %}{{ m.content + '<|im_end|>' }}{% endgeneration %}{{ '\n' }}"
    "{% else %}{{ m.content + '<|im_end|>\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# drops what was thought in all replies but the last, as Qwen3 and others do
THINK = (
    "{% for m in messages %}{% set words = m.content %}"
    "{% if m.role == 'assistant' and not loop.last %}{% set words = words.split('</think>')[-1] %}{% endif %}"
    "{{ '<|im_start|>' + m.role + '\n' + words + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# at inference a reply begins with a thought that past replies do not show
THINK_FIRST = tiny.CHATML.replace("assistant\n' }}{% endif", "assistant\n<think>\n' }}{% endif")
DEFAULT_SYSTEM = (
    "{% if messages[0].role != 'system' %}{{ '<|im_start|>system\nthe question<|im_end|>\n' }}{% endif %}" + tiny.CHATML
)
STRICT = (
    "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate user/assistant') }}{% endif %}{% endfor %}" + tiny.CHATML
)
# no end token: a reply ends with its line
BARE = (
    "{% for m in messages %}{{ '<|' + m.role + '|>\n' + m.content + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)
BACKWARDS = tiny.CHATML.replace("in messages", "in messages | reverse").replace(
    "message['content']", "message['content'] | upper"
)
UPPER = tiny.CHATML.replace("message['content']", "message['content'] | upper")
TRIMMED = tiny.CHATML.replace("message['content']", "message['content'] | trim")
TOOLS = "{% if tools %}{{ '<|im_start|>tools ' + tools[0].name + '<|im_end|>\n' }}{% endif %}" + tiny.CHATML


def user(content: str) -> dict[str, str]:
    return {"role": "user", "content": content}


def reply(content: str) -> dict[str, str]:
    return {"role": "assistant", "content": content}


def with_template(template: str | None, *tokens: Any) -> Any:
    tokenizer = tiny.fresh_tokenizer()
    tokenizer.chat_template = template
    if tokens:
        tokenizer.add_tokens(list(tokens), special_tokens=True)
    return tokenizer


def trained(sample: TokenizedConversation, tokenizer: Any) -> list[str]:
    """The runs of tokens with a label, as text."""
    runs: list[list[int]] = [[]]
    for token, label in zip(sample.input_ids, sample.labels, strict=True):
        assert label in (IGNORE, token)
        if label == IGNORE:
            runs.append([])
        else:
            runs[-1].append(label)
    return [tokenizer.decode(run, skip_special_tokens=False) for run in runs if run]


def rendered_ids(messages: list[dict], tokenizer: Any) -> list[int]:
    """What the tokenizer itself makes of the conversation."""
    return list(tokenizer.apply_chat_template(messages, tokenize=True, return_dict=False))


TWO_TURNS = [user("where"), reply("the keeper"), user("who"), reply("Oda")]


# --- ChatML, literally ---------------------------------------------------------------------------------------------------------


def test_chatml_token_by_token(tiny_tokenizer: Any) -> None:
    sample = tokenize_conversation([user("where is"), reply("the keeper")], tiny_tokenizer)
    tokens = tiny_tokenizer.convert_ids_to_tokens(sample.input_ids)
    marks = ["^" if label != IGNORE else "." for label in sample.labels]
    assert list(zip(tokens, marks, strict=True)) == [
        *[("<|im_start|>", "."), ("u", "."), ("s", "."), ("er", "."), ("Ċ", "."), ("wh", "."), ("ere", "."), ("Ġis", ".")],
        *[("<|im_end|>", "."), ("Ċ", "."), ("<|im_start|>", "."), ("a", "."), ("s", "."), ("s", "."), ("is", "."), ("t", ".")],
        *[("an", "."), ("t", "."), ("Ċ", "."), ("th", "^"), ("e", "^"), ("Ġkeeper", "^"), ("<|im_end|>", "^"), ("Ċ", ".")],
    ]
    assert sample.turns == (Turn("user", 0, 10, trained=False), Turn("assistant", 19, 23))
    assert (sample.route, sample.num_trained) == ("prefixes", 4)


def test_every_reply_is_trained_with_its_end_token(tiny_tokenizer: Any) -> None:
    (sample,) = conversation_samples(TWO_TURNS, tiny_tokenizer)
    assert trained(sample, tiny_tokenizer) == ["the keeper<|im_end|>", "Oda<|im_end|>"]
    assert [turn.role for turn in sample.turns] == ["user", "assistant"] * 2
    assert [sample.input_ids[turn.start : turn.end] for turn in sample.turns if turn.trained] == [
        tiny_tokenizer.encode("the keeper<|im_end|>"),
        tiny_tokenizer.encode("Oda<|im_end|>"),
    ]


def test_the_end_token_is_trained_although_it_is_the_pad_token(tiny_tokenizer: Any) -> None:
    assert tiny_tokenizer.pad_token_id == tiny_tokenizer.eos_token_id == tiny_tokenizer.convert_tokens_to_ids("<|im_end|>")
    sample = tokenize_conversation(TWO_TURNS, tiny_tokenizer)
    assert sample.labels.count(tiny_tokenizer.eos_token_id) == 2
    assert sample.input_ids.count(tiny_tokenizer.eos_token_id) == 4


def test_no_bos_is_added_that_the_template_did_not_write(tiny_tokenizer: Any) -> None:
    assert tiny_tokenizer.bos_token_id not in tokenize_conversation(TWO_TURNS, tiny_tokenizer).input_ids


def test_the_whole_conversation(tiny_tokenizer: Any) -> None:
    (sample,) = conversation_samples(TWO_TURNS, tiny_tokenizer, train_on="everything")
    assert sample.labels == [IGNORE, *sample.input_ids[1:]]
    assert (sample.route, sample.input_ids) == ("everything", rendered_ids(TWO_TURNS, tiny_tokenizer))


def test_without_a_reply_nothing_is_trained(tiny_tokenizer: Any) -> None:
    sample = tokenize_conversation([user("where")], tiny_tokenizer)
    assert (sample.num_trained, sample.turns) == (0, (Turn("user", 0, len(sample.input_ids), trained=False),))


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
conversations = st.lists(
    st.tuples(st.sampled_from(["system", "user", "assistant"]), texts).map(lambda pair: {"role": pair[0], "content": pair[1]}),
    min_size=1,
    max_size=6,
)


@given(conversations, st.sampled_from([tiny.CHATML, GENERATION, DEFAULT_SYSTEM]))
def test_any_conversation(messages: list[dict], template: str) -> None:
    tokenizer = tiny.tokenizer()
    messages = [{**message, "content": message["content"].replace("<|", "")} for message in messages]
    try:
        tokenizer.chat_template = template
        ids = rendered_ids(messages, tokenizer)
        samples = conversation_samples(messages, tokenizer)
        runs = [trained(sample, tokenizer) for sample in samples]
    finally:
        tokenizer.chat_template = tiny.CHATML
    assert samples[0].input_ids == ids
    assert samples[0].labels[0] == IGNORE
    replies = [f"{message['content']}<|im_end|>" for message in messages if message["role"] == "assistant"]
    if messages[0]["role"] == "assistant" and template != GENERATION:  # found by its words
        replies = replies if messages[0]["content"].strip() else replies[1:]
    assert runs == [replies]


# --- the routes ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("template", "messages", "route", "expected"),
    [
        (tiny.CHATML, TWO_TURNS, "prefixes", [["the keeper<|im_end|>", "Oda<|im_end|>"]]),
        (GENERATION, TWO_TURNS, "generation", [["the keeper<|im_end|>", "Oda<|im_end|>"]]),
        (GENERATION, TWO_TURNS[1:], "generation", [["the keeper<|im_end|>", "Oda<|im_end|>"]]),
        (DEFAULT_SYSTEM, TWO_TURNS, "prefixes", [["the keeper<|im_end|>", "Oda<|im_end|>"]]),
        (DEFAULT_SYSTEM, TWO_TURNS[1:], "position", [["the keeper<|im_end|>", "Oda<|im_end|>"]]),
        (DEFAULT_SYSTEM, [reply("a boat"), user("where")], "position", [["a boat<|im_end|>"]]),
        (DEFAULT_SYSTEM, [reply(""), *TWO_TURNS], "prefixes", [["the keeper<|im_end|>", "Oda<|im_end|>"]]),
        (DEFAULT_SYSTEM, [reply(" \n Oda "), user("who")], "position", [[" \n Oda <|im_end|>"]]),
        (TRIMMED, [reply(" \n Oda "), user("who")], "position", [["Oda<|im_end|>"]]),
        (DEFAULT_SYSTEM, [reply("the question")], "position", [["the question<|im_end|>"]]),
        (STRICT, TWO_TURNS, "prefixes", [["the keeper<|im_end|>", "Oda<|im_end|>"]]),
        (
            THINK,
            [user("where"), reply("why</think>the keeper"), user("who"), reply("is it</think>Oda")],
            "split",
            [["why</think>the keeper<|im_end|>"], ["is it</think>Oda<|im_end|>"]],
        ),
        (THINK_FIRST, TWO_TURNS, "split", [["the keeper<|im_end|>"], ["Oda<|im_end|>"]]),
        (THINK, [user("where"), reply("why</think>the keeper")], "prefixes", [["why</think>the keeper<|im_end|>"]]),
    ],
)
def test_routes(template: str, messages: list[dict], route: str, expected: list[list[str]]) -> None:
    tokenizer = with_template(template)
    samples = conversation_samples(messages, tokenizer)
    assert [sample.route for sample in samples] == [route] * len(expected)
    assert [trained(sample, tokenizer) for sample in samples] == expected
    assert samples[-1].input_ids == rendered_ids(messages, tokenizer)
    assert all(sample.labels[0] == IGNORE for sample in samples)


def test_split_samples_are_what_the_model_sees_at_inference() -> None:
    tokenizer = with_template(THINK)
    messages = [user("where"), reply("why</think>the keeper"), user("who"), reply("is it</think>Oda")]
    first, second = conversation_samples(messages, tokenizer)
    assert first.input_ids == rendered_ids(messages[:2], tokenizer)
    prompt = encode(render(messages[:3], tokenizer, prompt=True), tokenizer)[0]
    assert second.input_ids[: second.turns[-1].start] == prompt
    assert "why" not in tokenizer.decode(second.input_ids)
    assert tokenize_conversation(messages, tokenizer) == second


def test_generation_marks_give_what_transformers_gives() -> None:
    tokenizer = with_template(GENERATION)
    sample = tokenize_conversation(TWO_TURNS, tokenizer)
    oracle = tokenizer.apply_chat_template(TWO_TURNS, tokenize=True, return_dict=True, return_assistant_tokens_mask=True)
    assert sum(oracle["assistant_masks"]) == 6
    assert [int(label != IGNORE) for label in sample.labels] == oracle["assistant_masks"]
    assert tokenize_conversation(TWO_TURNS, with_template(tiny.CHATML)).labels == sample.labels


def test_marks_are_not_trusted_where_a_tokenizer_renders_in_its_own_way() -> None:
    class Own(SlowTokenizer):
        def apply_chat_template(self, messages: list[dict], **options: Any) -> str:
            return self._fast.apply_chat_template(messages, **options).replace("user", "u")

    tokenizer = Own(with_template(GENERATION))
    sample = tokenize_conversation(TWO_TURNS, tokenizer)
    assert (sample.route, trained(sample, tokenizer)) == ("prefixes", ["the keeper<|im_end|>", "Oda<|im_end|>"])


def test_tools_are_written_into_the_prompt() -> None:
    tokenizer = with_template(TOOLS)
    sample = tokenize_conversation(TWO_TURNS, tokenizer, tools=[{"name": "seven"}])
    assert tokenizer.decode(sample.input_ids).startswith("<|im_start|>tools seven<|im_end|>")
    assert trained(sample, tokenizer) == ["the keeper<|im_end|>", "Oda<|im_end|>"]
    assert "tools" not in render(TWO_TURNS, tokenizer)


# --- ends of replies -----------------------------------------------------------------------------------------------------------


def test_an_end_token_that_swallows_white_space_is_trained() -> None:
    """Phi-3's end token takes the line break behind it into itself."""
    tokenizer = with_template(tiny.CHATML.replace("<|im_end|>", "<|end|>"), AddedToken("<|end|>", rstrip=True, special=True))
    sample = tokenize_conversation(TWO_TURNS, tokenizer)
    assert trained(sample, tokenizer) == ["the keeper<|end|>", "Oda<|end|>"]
    assert sample.labels[-1] == tokenizer.convert_tokens_to_ids("<|end|>")


@pytest.mark.parametrize(("messages", "route"), [(TWO_TURNS, "prefixes"), (TWO_TURNS[1:], "position")])
def test_without_an_end_token_the_next_turn_is_not_trained(messages: list[dict], route: str) -> None:
    tokenizer = with_template(BARE, "<|user|>", "<|assistant|>")
    sample = tokenize_conversation(messages, tokenizer)
    assert (trained(sample, tokenizer), sample.route) == (["the keeper\n", "Oda\n"], route)


def test_a_first_reply_whose_beginning_cannot_be_rendered_alone() -> None:
    needs_user = (
        "{% if messages|map(attribute='role')|list|length < 2 %}{{ raise_exception('too short') }}{% endif %}" + tiny.CHATML
    )
    tokenizer = with_template(needs_user)
    sample = tokenize_conversation([reply("the keeper"), user("who")], tokenizer)
    assert (trained(sample, tokenizer), sample.route) == (["the keeper<|im_end|>"], "position")


def test_letters_of_several_bytes(tiny_tokenizer: Any) -> None:
    messages = [user("où?"), reply("Über dem Kliff 🌊灯"), user("é"), reply("é")]
    assert trained(tokenize_conversation(messages, tiny_tokenizer), tiny_tokenizer) == [
        "Über dem Kliff 🌊灯<|im_end|>",
        "é<|im_end|>",
    ]


# --- tokenizers without offsets ------------------------------------------------------------------------------------------------


class SlowTokenizer:
    """The tiny tokenizer as one that does not tell where its tokens lie."""

    is_fast = False

    def __init__(self, fast: Any) -> None:
        self._fast = fast

    def __call__(self, text: str, *, add_special_tokens: bool) -> dict[str, list[int]]:
        return {"input_ids": self._fast(text, add_special_tokens=add_special_tokens)["input_ids"]}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._fast, name)


@pytest.mark.parametrize("template", [tiny.CHATML, GENERATION, DEFAULT_SYSTEM, THINK])
@pytest.mark.parametrize("messages", [TWO_TURNS, TWO_TURNS[:2], [user("é"), reply("灯 é🌊"), user("x")]])
def test_a_slow_tokenizer_gives_the_same_samples(template: str, messages: list[dict]) -> None:
    tokenizer = with_template(template)
    assert encode("Oda", SlowTokenizer(tokenizer)) == (encode("Oda", tokenizer)[0], None)
    assert conversation_samples(messages, SlowTokenizer(tokenizer)) == conversation_samples(messages, tokenizer)


# --- what raises ---------------------------------------------------------------------------------------------------------------


def test_no_template() -> None:
    tokenizer = with_template(None)
    for call in (require_template, lambda bare: conversation_samples(TWO_TURNS, bare)):
        with pytest.raises(
            ValueError,
            match="Chat template: the model has none.*Choose one of the names or a template file.*or train on a Text file",
        ):
            call(tokenizer)


def test_a_first_reply_that_cannot_be_found_is_named_and_not_trained() -> None:
    tokenizer = with_template(UPPER)
    (alone,) = conversation_samples([reply("the keeper"), user("who")], tokenizer)
    assert (alone.num_trained, alone.lost) == (0, (LOST_PLACE,))
    (sample,) = conversation_samples([reply("a boat"), user("who"), reply("Oda")], tokenizer)
    assert (trained(sample, tokenizer), sample.lost) == (["ODA<|im_end|>"], (LOST_PLACE,))


def test_a_template_without_a_prompt_for_replies() -> None:
    """The opening of a reply is not trained, although no prompt shows it."""
    tokenizer = with_template(tiny.CHATML.split("{% if add_gen")[0])
    (sample,) = conversation_samples(TWO_TURNS, tokenizer)
    assert (trained(sample, tokenizer), sample.route) == (["the keeper<|im_end|>", "Oda<|im_end|>"], "prefixes")
    tokenizer = with_template(THINK.split("{% if add_gen")[0])
    samples = conversation_samples([user("a"), reply("b</think>c"), user("d"), reply("e</think>f")], tokenizer)
    assert [trained(sample, tokenizer) for sample in samples] == [["b</think>c<|im_end|>"], ["e</think>f<|im_end|>"]]
    assert {(sample.route, sample.why) for sample in samples} == {("split", DROPS_THINKING)}


@pytest.mark.parametrize(
    ("template", "messages", "message"),
    [
        (STRICT, TWO_TURNS[1:], "the chat template refuses the conversation: roles must alternate user/assistant"),
        (tiny.CHATML, [{"role": "user"}], "refuses the conversation: .*content"),
        (tiny.CHATML, [user("where"), {"role": "assistant", "content": None}], "refuses the conversation: .*(None|content)"),
        ("{{ messages[5].content.upper() }}", TWO_TURNS, "refuses the conversation"),
        (BACKWARDS, TWO_TURNS, "gives no way to tell the reply from the prompt"),
    ],
)
def test_conversations_that_the_template_refuses(template: str, messages: list[dict], message: str) -> None:
    with pytest.raises(TemplateError, match=message):
        conversation_samples(messages, with_template(template))
