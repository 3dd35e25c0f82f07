"""Which files are trained on, with which weight and how much of each: the settings of the data as a list of origins. Light: no numpy.

Guarantee: an entry of "Further data sets" that is not understood says how to write it; nothing is guessed. A file name may hold '='.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

DATA_SET, TEXT_FILE, MORE, EVALUATION = "Data set", "Text file", "Further data sets", "Evaluation data set"
HOW_TO_WRITE = "Write a file with its weight and the part that is used, such as: recipes.jsonl = 2, 50 %."

# what stands behind the last '=' if it can only be meant as numbers
_NUMBERS = re.compile(r"^(?P<path>.+?)\s*=\s*(?P<numbers>[-+0-9.,eE\s]*%?[-+0-9.,eE\s%]*)$", re.DOTALL)


@dataclass(frozen=True)
class Origin:
    """A file or folder that samples come from.

    Attributes:
        label: the form's label of the setting, for messages.
        path: as the user wrote it.
        weight: its part in a mix, beside the weights of the others.
        share: the part of its conversations or sections that is used, above 0, at most 1.
    """

    label: str
    path: str
    weight: float = 1.0
    share: float = 1.0


class OriginError(ValueError):
    """An entry that is not understood; ``reason`` and ``remedy`` in the form's words."""

    def __init__(self, line: str, reason: str) -> None:
        super().__init__(f"{MORE}: {reason} Got: {line!r}. {HOW_TO_WRITE}")
        self.reason = reason
        self.remedy = HOW_TO_WRITE


def origins_of(data_config: Any) -> list[Origin]:
    """What the settings of RunConfig.data name to train on, in the order in which it is read.

    Raises:
        OriginError: an entry of Further data sets is not understood.
    """
    origins = [
        Origin(DATA_SET, data_config.dataset, data_config.dataset_weight, data_config.dataset_share),
        Origin(TEXT_FILE, data_config.text_file, data_config.text_weight, data_config.text_share),
        *map(parse_origin, data_config.more_datasets),
    ]
    return [origin for origin in origins if origin.path]


def parse_origin(line: str) -> Origin:
    """One entry of Further data sets.

    >>> parse_origin("recipes.jsonl = 2, 50 %")
    Origin(label='Further data sets', path='recipes.jsonl', weight=2.0, share=0.5)
    >>> parse_origin("a=b.jsonl").path
    'a=b.jsonl'

    Raises:
        OriginError: no file is named, or a number cannot be used.
    """
    found = _NUMBERS.match(line.strip())
    if found is None:
        if not line.strip() or line.strip().startswith("="):
            raise OriginError(line, "No file is named.")
        return Origin(MORE, line.strip())
    weight, share, words = 1.0, 1.0, [word.strip() for word in found["numbers"].split(",")]
    percents = [word for word in words if word.endswith("%")]
    plain = [word for word in words if not word.endswith("%")]
    if len(percents) > 1 or len(plain) > 1:
        raise OriginError(line, "There is more than one weight or percentage (a point, no comma, in numbers).")
    if plain:
        weight = _number(plain[0], line, "weight")
        if not 0 < weight < float("inf"):
            raise OriginError(line, "The weight must be more than 0.")
    if percents:
        share = _number(percents[0][:-1], line, "percentage") / 100
        if not 0 < share <= 1:
            raise OriginError(line, "The percentage must be more than 0 and at most 100.")
    return Origin(MORE, found["path"], weight, share)


def _number(word: str, line: str, what: str) -> float:
    try:
        return float(word)
    except ValueError:
        raise OriginError(line, f"The {what} {word.strip()!r} is no number.") from None


def as_share(value: Any) -> Any:
    """``"25 %"`` as 0.25; anything else as it is, for others to judge."""
    if isinstance(value, str) and value.strip().endswith("%"):
        try:
            return float(value.strip()[:-1]) / 100
        except ValueError:
            return value
    return value
