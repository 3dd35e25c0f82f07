"""What the form shows of each setting, and how a field's value becomes a setting and back. No gradio here.

Guarantee: every setting of RunConfig has exactly one field, in one group, except those that the host decides. A value that cannot
be used is handed on as the user wrote it, so that RunConfig can say what is wrong with it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ..config import RunConfig
from ..config.field import SettingInfo
from ..config.settings_model import TARGET_PRESETS

# what makes the number of samples of an optimizer step
PRODUCT_OF = ("batching.true_batch_size", "batching.gradient_accumulation", "batching.packing")
NOTHING = "None"  # what a drop-down of files shows for "no file"
LINE_BREAK = "⏎"  # stands for a line break inside an entry of a list that is written one entry a line

ADVANCED = "Advanced"
_GROUP_OF_SECTION = {
    "model": "Model and adapter",
    "adapter": "Model and adapter",
    "run": "Model and adapter",
    "data": "Data",
    "batching": "Batching",
    "training": "Learning rate",
    "checkpoints": "Stops and checkpoints",
    "samples": "Samples",
}
_GROUP_OF_FIELD = {"training.gradient_checkpointing": "Batching"}
GROUPS = (*dict.fromkeys(_GROUP_OF_SECTION.values()), ADVANCED)

# settings that the host decides when the model is the WebUI's
_HOSTS_OWN = (
    *("model.path", "model.dtype", "model.quantization", "model.double_quantization", "model.compute_dtype", "model.max_memory"),
    "run.adapters_dir",
)

FILE_FIELDS = {"data.dataset": "data_sets", "data.text_file": "text_files", "data.eval_dataset": "data_sets"}
TARGETS_FIELD = "adapter.targets"
_WIDE = {"model.path", "run.adapters_dir", "samples.prompts", "data.more_datasets"}


def form_settings(in_webui: bool) -> list[SettingInfo]:
    """The settings that have a field, in the order of RunConfig."""
    return [info for info in RunConfig.settings() if not (in_webui and info.field in _HOSTS_OWN)]


def group_of(info: SettingInfo) -> str:
    """The form's group in which a setting stands."""
    return ADVANCED if info.advanced else _GROUP_OF_FIELD.get(info.field, _GROUP_OF_SECTION[info.section])


def has_effect(info: SettingInfo, values: dict[str, Any]) -> bool:
    """Whether a setting does anything while others have these values (dotted name -> value)."""
    return all(values.get(field) in allowed for field, allowed in info.only_if.items())


def is_wide(info: SettingInfo) -> bool:
    """Whether a field takes the whole width of its group."""
    return info.field in _WIDE


def element_id(field: str) -> str:
    """HTML id of a field: ``tph-training-learning_rate`` for ``training.learning_rate``."""
    return "tph-" + field.replace(".", "-")


def widget_of(info: SettingInfo) -> str:
    """Kind of field: file, targets, choice, flag, number, lines or text."""
    if info.field in FILE_FIELDS:
        return "file"
    if info.field == TARGETS_FIELD:
        return "targets"
    if info.choices:
        return "choice"
    if info.kind == "flag":
        return "flag"
    if info.kind == "list":
        return "lines"
    return "text" if info.kind == "text" or _is_tiny(info.default) else "number"


def step_of(info: SettingInfo) -> float:
    """How far the arrows of a number's field go."""
    return 0.01 if info.kind == "number" and (info.maximum or 2) <= 1 else 1


def label_of(info: SettingInfo) -> str:
    """The label with its unit, unless the label says it already."""
    is_said = not info.unit or info.unit.split()[-1].lower() in info.label.lower()
    return info.label if is_said else f"{info.label} · {info.unit}"


def label_of_field(field: str) -> str:
    """The label of a setting by its dotted name; the name itself if there is no such setting."""
    return next((info.label for info in RunConfig.settings() if info.field == field), field)


def help_of(info: SettingInfo, value: Any = None) -> str:
    """The help below the label; a line more on the chosen entry, where entries have words of their own.

    Args:
        info: the setting.
        value: of its field.
    """
    if widget_of(info) == "lines":
        return f"{info.help} One a line."
    words = info.choice_words.get(str(value), "")
    return f"{info.help}\n{words}" if words else info.help


def to_widget(info: SettingInfo, value: Any) -> Any:
    """A setting's value as its field shows it."""
    kind = widget_of(info)
    if kind == "file":
        return value or NOTHING
    if kind == "lines":
        return "\n".join(str(entry).replace("\n", LINE_BREAK) for entry in value)
    if kind == "targets":
        return list(value)
    if kind == "text":
        return write_number(value) if info.kind in ("number", "integer") else str(value)
    return value


def from_widget(info: SettingInfo, value: Any) -> Any:
    """A field's value as RunConfig reads it; an emptied field gives an empty text."""
    kind = widget_of(info)
    if kind == "file":
        return "" if value in (None, NOTHING) else str(value).strip()
    if kind == "lines":
        return [line.strip().replace(LINE_BREAK, "\n") for line in str(value or "").splitlines() if line.strip()]
    if kind == "targets":
        return [str(entry).strip() for entry in value or [] if str(entry).strip()]
    if value is None:
        return ""
    if isinstance(value, str) and info.field != "data.hard_cut":  # that one may consist of spaces
        return value.strip()
    return value


def settings_from_form(infos: Sequence[SettingInfo], values: Sequence[Any], own: dict[str, Any]) -> RunConfig:
    """The configuration that the form shows; what is wrong with it is in ``problems()``.

    Args:
        infos: the settings of the fields.
        values: the fields' values, in the same order.
        own: dotted name -> value of settings that the host decides.
    """
    nested: dict[str, dict[str, Any]] = {}
    for info, value in zip(infos, values, strict=True):
        nested.setdefault(info.section, {})[info.key] = from_widget(info, value)
    for field, value in own.items():
        section, key = field.split(".")
        nested.setdefault(section, {})[key] = value
    config = RunConfig.from_dict(nested)
    # what is wrong in a hidden field is nobody's concern: it has no effect, and the user cannot see it
    shown = {info.field: config.value(info.field) for info in RunConfig.settings()}
    hidden = {info.field for info in infos if not has_effect(info, shown)}
    config._load_problems = [problem for problem in config._load_problems if problem.field not in hidden]
    return config


def form_from_settings(infos: Sequence[SettingInfo], config: RunConfig) -> list[Any]:
    """The fields' values that show a configuration."""
    return [to_widget(info, config.value(info.field)) for info in infos]


def target_choices(modules: Sequence[str]) -> list[str]:
    """Ready choices, then the names of the loaded model's modules."""
    return [*TARGET_PRESETS, *(name for name in modules if name not in TARGET_PRESETS)]


def product_html(batch_size: Any, accumulation: Any, packing: Any) -> str:
    """How many samples an optimizer step trains, in ``#tph-product``; nothing while one of the numbers cannot be used.

    Args:
        batch_size: True Batch Size as the field shows it.
        accumulation: Gradient Accumulation Steps, likewise.
        packing: Packing; True Batch Size counts packs with it.
    """
    numbers = [number for number in (batch_size, accumulation) if isinstance(number, (int, float)) and number >= 1]
    if len(numbers) < 2 or any(number != int(number) for number in numbers):
        return '<div id="tph-product"></div>'
    batch_size, accumulation = map(int, numbers)
    what = "samples" if packing in ("none", None) else "packs"
    product = f"{batch_size:,} × {accumulation:,} = <b>{batch_size * accumulation:,} {what}</b> for each optimizer step"
    return f'<div id="tph-product" role="status">{product}</div>'


def write_number(value: float) -> str:
    """A number as people write learning rates: 3e-4, 0.01, 2.5e-5."""
    if value == 0 or not math.isfinite(value) or abs(value) >= 0.001:
        return f"{value:g}"
    mantissa, exponent = f"{value:.6e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}"


def _is_tiny(default: Any) -> bool:
    return isinstance(default, float) and 0 < abs(default) < 0.001
