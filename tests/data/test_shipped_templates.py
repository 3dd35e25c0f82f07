"""The chat templates that the project ships: their marks say what rendering the beginnings proves."""

import re
from typing import Any

import pytest
import tiny
from chat_cases import CONVERSATIONS, tokenizer_for
from test_chat_templates import check_labels
from training_pro.config import RunConfig
from training_pro.config.legacy import from_old_parameters
from training_pro.data.chat import TemplateError, conversation_samples
from training_pro.train_utils import CHAT_TEMPLATES, borrowed, read_chat_template

CASES = ["plain", "system", "many lines", "ends with a question", "empty reply", "reply first", "replies in a row"]


def test_names() -> None:
    assert {"alpaca", "chatml", "gemma", "llama2", "llama3", "mistral", "plain", "vicuna"} <= set(CHAT_TEMPLATES)
    assert all(read_chat_template(name).startswith("{#-") for name in CHAT_TEMPLATES)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", CHAT_TEMPLATES)
def test_marks_say_what_prefixes_prove(name: str, case: str) -> None:
    source, messages = read_chat_template(name), CONVERSATIONS[case]
    tokenizer = tokenizer_for(source)
    if name in ("llama2", "mistral") and case in ("reply first", "replies in a row"):
        with pytest.raises(TemplateError, match="user and assistant must alternate, the user first"):
            conversation_samples(messages, tokenizer)
        return
    (sample,) = conversation_samples(messages, tokenizer)
    assert sample.route == "generation"
    assert sample.input_ids == tokenizer.apply_chat_template(messages, tokenize=True, return_dict=False)
    check_labels(messages, [sample], tokenizer, False)
    tokenizer.chat_template = re.sub(r"\{% (end)?generation %\}", "", source)
    (unmarked,) = conversation_samples(messages, tokenizer)
    assert (unmarked.input_ids, unmarked.lost) == (sample.input_ids, sample.lost)
    assert unmarked.route in ("prefixes", "position")
    if case != "reply first":  # found by its words: a space before them is not trained
        assert unmarked.labels == sample.labels


def test_the_model_gets_its_own_template_back() -> None:
    tokenizer: Any = tiny.fresh_tokenizer()
    tokenizer.chat_template = None
    with borrowed(tiny.model(), tokenizer):
        tokenizer.chat_template = read_chat_template("plain")
        (sample,) = conversation_samples(CONVERSATIONS["plain"], tokenizer)
        assert (
            tokenizer.decode(sample.input_ids) == "User: Qa1q\nAssistant: Ra1r<|im_end|>\nUser: Qb2q\nAssistant: Rb2r<|im_end|>\n"
        )
    assert tokenizer.chat_template is None


def test_names_are_settings_and_files_that_are_missing_are_not() -> None:
    def problems(name: str) -> list[str]:
        config = RunConfig.from_dict({"model": {"chat_template": name}, "data": {"dataset": __file__}})
        return [f"{problem.message} {problem.remedy}" for problem in config.problems() if problem.field == "model.chat_template"]

    assert [problems(name) for name in CHAT_TEMPLATES] == [[]] * len(CHAT_TEMPLATES)
    (problem,) = problems("chatmll")
    assert "There is no such file" in problem
    assert "The names are alpaca, chatml" in problem
    with pytest.raises(ValueError, match="Choose a .jinja or .yaml file, or one of alpaca, chatml"):
        read_chat_template("chatmll")


@pytest.mark.parametrize(
    ("old", "expected", "is_told"),
    [
        ({"eliminate_long_blocks": True}, {"too_long": "drop"}, False),
        ({"eliminate_long_blocks": False}, {}, True),
        ({"train_only_after": "### Response:"}, {"train_after": "### Response:"}, False),
    ],
)
def test_old_parameters(old: dict, expected: dict, is_told: bool, tmp_path: Any) -> None:
    found, notes = from_old_parameters(old, tmp_path)
    assert found.get("data", {}) == expected
    assert any("Too long" in note for note in notes) == is_told
