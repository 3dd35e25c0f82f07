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
        ({"cut_at": "headings", "hard_cut": "###"}, "data.hard_cut", "is not used where Hard Cut at is 'headings'. Empty it"),
        ({"dementor": True, "overlap": 0.5}, "data.overlap", "every block overlaps already. Set this to 0"),
        ({"stride": 2}, "data.stride", "Only DEMENTOR has a stride. Set this to 1"),
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
        {"cut_at": "headings"},
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
