"""Problems of a configuration: what is wrong, the value got, the remedy, in the words of the form.

Pydantic's errors are turned into sentences here; nothing else in the project words a validation error of a field.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Problem:
    """One thing that must be mended before a run can start.

    Attributes:
        field: dotted name in the YAML, for example ``training.learning_rate``.
        label: the field's label on the form.
        value: the value got.
        message: what is wrong.
        remedy: what to do.
    """

    field: str
    label: str
    value: Any
    message: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.label} ({self.field}): {self.message} Got: {self.value!r}. {self.remedy}"


class ConfigError(ValueError):
    """All problems of a configuration at once."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems
        super().__init__("\n".join(str(problem) for problem in problems))


def unknown_key(field: str, value: Any, known: dict[str, str]) -> Problem:
    """A key that no setting has.

    Args:
        field: the dotted key as written.
        value: its value.
        known: dotted name -> label of every setting.
    """
    leaf = field.rsplit(".", 1)[-1]
    same_leaf = [name for name in known if name.rsplit(".", 1)[-1] == leaf]
    by_leaf = {name.rsplit(".", 1)[-1]: name for name in known}
    close = [name for name in difflib.get_close_matches(field, known, n=3, cutoff=0.6) if _is_like(leaf, name.rsplit(".", 1)[-1])]
    close_leaf = difflib.get_close_matches(leaf, by_leaf, n=1, cutoff=0.6)
    nearest = same_leaf[:1] or close[:1] or [by_leaf[name] for name in close_leaf]
    remedy = (
        f"Did you mean '{nearest[0]}' ({known[nearest[0]]})?"
        if nearest
        else "Remove it; `training-pro config --example` shows every setting."
    )
    return Problem(field, "Unknown setting", value, "There is no such setting.", remedy)


def _is_like(leaf: str, other: str) -> bool:
    """Whether not only the section is alike."""
    return difflib.SequenceMatcher(None, leaf, other).ratio() >= 0.3


_NUMBER_TYPES = {"float_parsing", "float_type", "finite_number"}
_INTEGER_TYPES = {"int_parsing", "int_type", "int_from_float", "int_parsing_size"}
_BOOL_TYPES = {"bool_parsing", "bool_type"}
_BOUND_WORDS = {
    "greater_than": ("gt", "more than"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "less than"),
    "less_than_equal": ("le", "at most"),
}


def from_pydantic(error: dict[str, Any], field: str, label: str, example: Any) -> Problem:
    """One entry of ``ValidationError.errors()`` in the form's words."""
    kind, value, context = error["type"], error.get("input"), error.get("ctx") or {}
    if kind in _BOUND_WORDS:
        key, words = _BOUND_WORDS[kind]
        bound = context[key]
        bound = int(bound) if isinstance(bound, float) and bound.is_integer() else bound
        return Problem(field, label, value, f"It must be {words} {bound}.", f"Write for example {example}.")
    if kind in _NUMBER_TYPES:
        return Problem(field, label, value, "That is no number.", f"Write digits, like {example} (a point, no comma).")
    if kind in _INTEGER_TYPES:
        return Problem(field, label, value, "It must be a whole number.", f"Write for example {example}.")
    if kind in _BOOL_TYPES:
        return Problem(field, label, value, "It must be true or false.", "Write true or false.")
    if kind == "string_type":
        return Problem(field, label, value, "It must be text.", f"Write it in quotes: '{value}'.")
    if kind == "list_type":
        return Problem(field, label, value, "It must be a list.", f"Write for example [{value}].")
    if kind == "choice":
        choices = context["choices"]
        near = difflib.get_close_matches(str(value), choices, n=1)
        hint = f"Did you mean '{near[0]}'? " if near else ""
        return Problem(field, label, value, "That is not one of the choices.", f"{hint}Choose from: {', '.join(choices)}.")
    return Problem(field, label, value, f"{error['msg']}.", f"Write for example {example!r}.")
