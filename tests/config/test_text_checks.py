"""Settings of raw text that exclude each other or cannot be used, in the form's words."""

from __future__ import annotations

from typing import Any

import pytest
from training_pro.config import RunConfig
from training_pro.sentences import LANGUAGES


def problems(**data: Any) -> dict[str, str]:
    found = RunConfig.from_dict({"data": {"text_file": __file__, **data}, "adapter": {"name": "a"}}).problems()
    return {problem.field: f"{problem.message} {problem.remedy}" for problem in found if problem.field.startswith("data.")}


@pytest.mark.parametrize(
    ("data", "field", "words"),
    [
        ({"hard_cut": "\\q"}, "data.hard_cut", "unknown escape '\\q'. Known are \\n"),
        ({"cut_at": "regex", "hard_cut": "("}, "data.hard_cut", "is no regular expression: missing )"),
        ({"cut_at": "regex", "hard_cut": "x*"}, "data.hard_cut", "would cut everywhere. Let it match at least one character"),
        ({"dementor": True, "overlap": 0.5}, "data.overlap", "every block overlaps already. Set this to 0"),
        (
            {"min_tokens": 512},
            "data.min_tokens",
            "All blocks would be left out. Set this below the Maximum context length (Cutoff) of 512",
        ),
    ],
)
def test_problems(data: dict[str, Any], field: str, words: str) -> None:
    assert words in problems(**data)[field]


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"dementor": True, "stride": 3},
        {"cut_at": "headings", "hard_cut": "###"},
        {"stride": 2},
        {"cut_at": "blank lines", "hard_cut": ""},
        {"cut_at": "regex", "hard_cut": r"^Chapter \d+$", "overlap": 0.5},
        {"min_tokens": 20, "language": "de"},
    ],
)
def test_good_settings(data: dict[str, Any]) -> None:
    assert problems(**data) == {}


def test_every_language_can_be_chosen() -> None:
    choices = next(info.choices for info in RunConfig.settings() if info.field == "data.language")
    assert choices == ("auto", *LANGUAGES)


def test_changed_settings_without_effect_are_named() -> None:
    data = {"text_file": __file__, "stride": 2, "cut_at": "headings", "hard_cut": "###"}
    batching = {"switch_steps": 7, "switch_by": "epochs"}
    config = RunConfig.from_dict({"data": data, "batching": batching})
    assert config.problems() == []
    assert config.without_effect() == [
        "Stride: it has no effect while DEMENTOR is False. Got: 2.",
        "Hard Cut String: it has no effect while Hard Cut at is 'headings'. Got: '###'.",
        "Switch after steps: it has no effect while Batching mode is 'shuffled'. Got: 7.",
    ]
    batching = {"mode": "hybrid", "second_epochs": 2.0}
    assert RunConfig.from_dict({"data": {"text_file": __file__}, "batching": batching}).without_effect() == [
        "Second switch after epochs: it has no effect while Batching mode is 'hybrid'. Got: 2.0."
    ]
    assert RunConfig.from_dict({"batching": {**batching, "mode": "hybrid two-stage"}}).without_effect() == []
    assert RunConfig().without_effect() == []
    assert RunConfig.from_dict({"data": {"dementor": True, "stride": 2}}).without_effect() == []
