"""Every template against every conversation: ids are the tokenizer's own, replies are trained to their end token, nothing else is."""

from typing import Any

import pytest
from chat_cases import CONVERSATIONS, OWN, SENTINEL, TOOLS, tokenizer_for, trl_templates
from training_pro.data.chat import IGNORE, TemplateError, TokenizedConversation, conversation_samples
from training_pro.data.chat.words import LOST_CALLS, LOST_PLACE, LOST_REPLY, LOST_THINKING, LOST_WORDS, as_parts, as_strings

TRL = trl_templates()
TEMPLATES = {**OWN, **{f"trl {name}": source for name, source in TRL.items()}}


def tools_of(messages: list[dict]) -> list[dict] | None:
    return TOOLS if any("tool_calls" in message for message in messages) else None


def rendered(messages: list[dict], tokenizer: Any) -> str:
    return tokenizer.apply_chat_template(messages, tools=tools_of(messages), tokenize=False)


def own_ids(messages: list[dict], tokenizer: Any) -> list[int]:
    """What the tokenizer itself makes of a conversation."""
    return list(tokenizer.apply_chat_template(messages, tools=tools_of(messages), tokenize=True, return_dict=False))


def is_refused(messages: list[dict] | None, tokenizer: Any) -> bool:
    """Whether apply_chat_template raises, or writes nothing of the replies."""
    if messages is None:
        return True
    try:
        return not any(sentinel[0] in "RF" for sentinel in SENTINEL.findall(rendered(messages, tokenizer)))
    except Exception:
        return True


def trained_runs(sample: TokenizedConversation, tokenizer: Any) -> list[str]:
    """The runs of tokens with a label, as text."""
    runs: list[list[int]] = [[]]
    for token, label in zip(sample.input_ids, sample.labels, strict=True):
        assert label in (IGNORE, token)
        runs[-1].append(token) if label != IGNORE else runs.append([])
    return [tokenizer.decode(run, skip_special_tokens=False) for run in runs if run]


def expected_ids(messages: list[dict], tokenizer: Any) -> list[list[int]]:
    """Ids of the whole conversation and of its beginnings up to each reply, in each spelling that the template takes."""
    found = []
    for spelled in (messages, as_strings(messages), as_parts(messages)):
        for end in range(1, len(messages) + 1):
            if spelled is not None and (end == len(messages) or messages[end - 1]["role"] == "assistant"):
                try:
                    found.append(own_ids(spelled[:end], tokenizer))
                except Exception:
                    assert is_refused(spelled[:end], tokenizer)
    return found


@pytest.mark.parametrize("case", CONVERSATIONS)
@pytest.mark.parametrize("name", TEMPLATES)
def test_template(name: str, case: str) -> None:
    tokenizer, messages = tokenizer_for(TEMPLATES[name]), CONVERSATIONS[case]
    try:
        samples = conversation_samples(messages, tokenizer, tools=tools_of(messages))
    except TemplateError:
        check_refusal(messages, tokenizer)
        return
    shown = expected_ids(messages, tokenizer)
    assert all(sample.input_ids in shown for sample in samples)
    if all(sample.route != "split" for sample in samples):
        assert len(samples) == 1
        assert samples[0].input_ids in [
            own_ids(spelled, tokenizer)
            for spelled in (messages, as_strings(messages), as_parts(messages))
            if spelled and not is_refused(spelled, tokenizer)
        ]
    check_labels(messages, samples, tokenizer, name in NO_END_TOKEN or (name, case) in NO_END_TOKEN)


def check_refusal(messages: list[dict], tokenizer: Any) -> None:
    """The template really takes no spelling, and its words are told."""
    with pytest.raises(TemplateError, match="the chat template refuses the conversation: "):
        conversation_samples(messages, tokenizer, tools=tools_of(messages))
    assert all(is_refused(spelled, tokenizer) for spelled in (messages, as_strings(messages), as_parts(messages)))


# GLM: the model says the next turn's opening instead; the other: words beside a tool call go behind the tool's answer, without an end
NO_END_TOKEN = {"trl glm4moe", ("trl diffusion_gemma_training", "tools twice")}


def check_labels(messages: list[dict], samples: list[TokenizedConversation], tokenizer: Any, has_no_end_token: bool) -> None:
    special = {str(token) for token in tokenizer.added_tokens_decoder.values()}
    runs = [run for sample in samples for run in trained_runs(sample, tokenizer)]
    written = " ".join(tokenizer.decode(sample.input_ids, skip_special_tokens=False) for sample in samples)
    lost = [reason for sample in samples for reason in sample.lost]
    in_runs = SENTINEL.findall(" ".join(runs))
    assert not [sentinel for sentinel in in_runs if sentinel[0] in "QSOD"]
    replies = [sentinel for sentinel in in_runs if sentinel[0] in "RT"]
    assert len(replies) == len(set(replies))
    wanted = [found for message in messages if message["role"] == "assistant" for found in SENTINEL.findall(str(message))]
    for sentinel in wanted:
        if sentinel in in_runs:
            continue
        reasons = {"R": {LOST_PLACE, LOST_REPLY, LOST_WORDS}, "T": {LOST_THINKING}, "F": {LOST_CALLS}, "A": {LOST_CALLS}}[
            sentinel[0]
        ]
        assert sentinel not in written or sentinel[0] != "R", "a reply that is written is trained"
        assert reasons & set(lost), f"{sentinel} is not trained, and nothing says so"
    opening = opening_of(tokenizer)
    for run in runs:
        assert has_no_end_token or any(run.endswith(token) for token in special), f"no end token in {run!r}"
        assert not opening or not run.startswith(opening), f"an opening is trained: {run!r}"


def opening_of(tokenizer: Any) -> str:
    """The first word of what the prompt ends with at inference; nothing if it adds no words."""
    asked = [{"role": "user", "content": "a"}]
    for spelled in (asked, as_parts(asked)):
        try:
            bare, prompt = (
                tokenizer.apply_chat_template(spelled, tokenize=False, add_generation_prompt=flag) for flag in (False, True)
            )
            return prompt.removeprefix(bare).split("\n")[0] if prompt.startswith(bare) else ""
        except Exception:
            continue
    return ""


def test_templates_of_trl_were_there() -> None:
    if not TRL:
        pytest.skip("TRL is not installed here: its templates were not tried")
    assert len(TRL) > 40


ROUTES = {
    **{"chatml": "prefixes", "llama 2": "prefixes", "llama 3": "prefixes", "mistral": "prefixes", "mistral system": "split"},
    **{"gemma": "prefixes", "qwen 3": "split", "r1": "split", "phi 3": "prefixes", "phi 4": "prefixes", "command r": "prefixes"},
    **{"tool calls": "prefixes", "parts only": "prefixes", "marks without end": "generation", "marks in macro": "prefixes"},
}


@pytest.mark.parametrize("name", OWN)
def test_routes_of_plain_conversations(name: str) -> None:
    case = "system" if name == "mistral system" else "plain"
    samples = conversation_samples(CONVERSATIONS[case], tokenizer_for(OWN[name]))
    assert {sample.route for sample in samples} == {ROUTES[name]}
    num_replies = sum(message["role"] == "assistant" for message in CONVERSATIONS[case])
    assert len(samples) == (num_replies if ROUTES[name] == "split" else 1)


def test_what_a_template_without_tool_calls_does_not_write_is_named() -> None:
    tokenizer = tokenizer_for(OWN["chatml"])
    (sample,) = conversation_samples(CONVERSATIONS["tool"], tokenizer, tools=TOOLS)
    assert trained_runs(sample, tokenizer) == ["Ra1r<|im_end|>"]
    assert sample.lost[:2] == (LOST_CALLS, LOST_REPLY)
    assert len(sample.lost) == 3
