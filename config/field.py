"""One way to declare a setting: type, bounds, unit, label and help in one place.

The form, the YAML, the CLI and the error messages are made from what is declared here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError


def setting(
    default: Any,
    label: str,
    help: str,
    *,
    unit: str = "",
    choices: tuple[str, ...] | Mapping[str, str] = (),
    advanced: bool = False,
    only_if: dict[str, tuple[Any, ...]] | None = None,
    **bounds: Any,
) -> Any:
    """Declare a setting.

    Args:
        default: value when the user says nothing.
        label: the words on the form and in messages.
        help: one or two plain sentences: what it does, when to change it.
        unit: "tokens", "optimizer steps", "epochs", ... or "".
        choices: allowed texts, or a mapping of them to a sentence on each; empty for free values.
        advanced: True puts it into the form's advanced group.
        only_if: dotted names of other settings -> values with which this one has an effect; the form hides it otherwise.
        **bounds: ge, gt, le, lt as in pydantic.
    """
    extra: dict[str, Any] = {"unit": unit, "choices": list(choices), "advanced": advanced}
    if isinstance(choices, Mapping):
        extra["choice_words"] = dict(choices)
    if only_if:
        extra["only_if"] = {field: list(values) for field, values in only_if.items()}
    if isinstance(default, list):
        return Field(default_factory=lambda: list(default), title=label, description=help, json_schema_extra=extra, **bounds)
    return Field(default, title=label, description=help, json_schema_extra=extra, **bounds)


def sentence(words: str) -> str:
    """Words of a table, which begin small and may lack the full stop, as a sentence."""
    return f"{words[:1].upper()}{words[1:].rstrip('.')}." if words else ""


def worded(names: Iterable[str], words: Mapping[str, str]) -> dict[str, str]:
    """Choices with a sentence on each, in the order of the table that they come from.

    Args:
        names: of the table's entries.
        words: entry -> sentence; of all entries and of no others.
    """
    order = list(names)
    assert set(order) == set(words), f"choices and their words differ: {set(order) ^ set(words)}"
    return {name: words[name] for name in order}


class Section(BaseModel):
    """A group of settings; unknown keys are errors, choices are checked."""

    model_config = ConfigDict(extra="forbid", title="", protected_namespaces=())

    @field_validator("*", mode="after")
    @classmethod
    def _check_choice(cls, value: Any, info: ValidationInfo) -> Any:
        extra = cls.model_fields[info.field_name or ""].json_schema_extra
        choices = extra["choices"] if isinstance(extra, dict) else []
        if choices and value not in choices:  # type: ignore[operator]
            raise PydanticCustomError("choice", "not one of the choices", {"choices": choices})
        return value


@dataclass(frozen=True)
class SettingInfo:
    """What the form needs to know of one setting."""

    section: str
    key: str
    label: str
    help: str
    unit: str
    choices: tuple[str, ...]
    advanced: bool
    default: Any
    kind: str  # "text", "integer", "number", "flag", "list"
    minimum: float | None
    maximum: float | None
    only_if: dict[str, tuple[Any, ...]]
    choice_words: dict[str, str]  # choice -> sentence on it; empty where the choices speak for themselves

    @property
    def field(self) -> str:
        """Dotted name, for example ``training.learning_rate``."""
        return f"{self.section}.{self.key}"


_KINDS = {bool: "flag", int: "integer", float: "number", str: "text"}


def _bound(info: FieldInfo, *names: str) -> float | None:
    for constraint in info.metadata:
        for name in names:
            if getattr(constraint, name, None) is not None:
                return float(getattr(constraint, name))
    return None


def setting_info(section: str, key: str, info: FieldInfo) -> SettingInfo:
    """Read back what :func:`setting` declared."""
    extra = info.json_schema_extra
    assert isinstance(extra, dict), f"{section}.{key} was not declared with setting()"
    return SettingInfo(
        section=section,
        key=key,
        label=info.title or key,
        help=info.description or "",
        unit=str(extra["unit"]),
        choices=tuple(extra["choices"]),  # type: ignore[arg-type]
        advanced=bool(extra["advanced"]),
        default=info.get_default(call_default_factory=True),
        kind=_KINDS.get(info.annotation or str, "list"),  # type: ignore[arg-type]
        minimum=_bound(info, "ge", "gt"),
        maximum=_bound(info, "le", "lt"),
        only_if={field: tuple(values) for field, values in extra.get("only_if", {}).items()},  # type: ignore[union-attr,arg-type]
        choice_words=dict(extra.get("choice_words", {})),  # type: ignore[arg-type]
    )
