"""Checks that look at more than one setting, or at the disk. Each returns problems; none raises."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..custom_scheduler import RAMP_DOWN
from ..data.origins import HOW_TO_WRITE, OriginError, parse_origin
from ..slicing.cuts import CutError, make_cuts
from ..train_utils import CHAT_TEMPLATES
from .field import SettingInfo
from .problems import Problem

if TYPE_CHECKING:
    from .model import RunConfig

_HIDDEN_ENDINGS = (".txt", "-np", ".pt", ".json")
_WINDOWS_NAMES = {"con", "prn", "aux", "nul", *(f"{name}{n}" for name in ("com", "lpt") for n in range(1, 10))}


def name_problem(name: str) -> tuple[str, str] | None:
    """What is wrong with an adapter's name, and the remedy; None if it is good.

    The name becomes a folder, a module name inside peft (no dots) and an entry of the WebUI's LoRA list (which hides some endings).
    """
    if not name.strip():
        return "A name is needed.", "Write a name such as my-lora."
    if name != name.strip():
        return "It begins or ends with a space.", f"Write {name.strip()!r}."
    if "." in name:
        return "A name with a dot cannot be loaded by the WebUI.", f"Write {name.replace('.', '-').strip('-')!r}."
    if re.search(r'[\\/:*?"<>|\x00-\x1f]', name):
        return (
            "A name must not contain parts of a path or signs that a file name cannot have.",
            "Use letters, digits, '-' and '_'.",
        )
    if name.lower() in _WINDOWS_NAMES or name.lower() == "none":
        return "That name is reserved.", "Choose another name."
    if name.endswith(_HIDDEN_ENDINGS):
        return f"The WebUI hides names that end in {', '.join(_HIDDEN_ENDINGS)}.", "Choose another ending."
    if len(name) > 120:
        return "The name is too long for a folder.", "Use at most 120 characters."
    return None


def _exists(path: str) -> bool:
    """Whether something is there; False for texts that no system takes for a path."""
    try:
        return _place(path).exists()
    except (OSError, ValueError):  # too long, a NUL in it
        return False


def _place(path: str) -> Path:
    """The path in full; a '~' of a user that there is not stays as it is."""
    try:
        return Path(path).expanduser().absolute()
    except RuntimeError:
        return Path(path).absolute()


def cross_checks(config: RunConfig, infos: dict[str, SettingInfo]) -> Iterator[Problem]:
    """All problems that a single field's bounds cannot see."""

    def problem(field: str, message: str, remedy: str) -> Problem:
        section, key = field.split(".")
        return Problem(field, infos[field].label, getattr(getattr(config, section), key), message, remedy)

    wrong_name = name_problem(config.adapter.name)
    if wrong_name:
        yield problem("adapter.name", *wrong_name)
    if not config.adapter.targets:
        yield problem("adapter.targets", "No module would be trained.", "Choose all-linear.")
    data = config.data
    if not data.dataset and not data.text_file and not data.more_datasets:
        yield problem("data.dataset", "There is nothing to train on.", "Choose a Data set or a Text file.")
    for field in ("data.dataset", "data.text_file", "data.eval_dataset", "data.format_file", "model.chat_template"):
        section, key = field.split(".")
        value = getattr(getattr(config, section), key)
        names = CHAT_TEMPLATES if field == "model.chat_template" else ()
        if value and value not in names and not _exists(value):
            known = f" The names are {', '.join(names)}." if names else ""
            yield problem(field, "There is no such file or folder.", f"Looked for {_place(value)}.{known}")
    for line in data.more_datasets:
        yield from _further_problems(line, infos["data.more_datasets"].label)
    if data.format == "template" and not data.format_file:
        yield problem("data.format_file", "The data format 'template' needs a format file.", "Choose a Format file.")
    if data.eval_dataset and data.eval_share:
        yield problem("data.eval_share", "There is an Evaluation data set as well.", "Set this to 0 or remove the file.")
    if config.training.schedule == RAMP_DOWN and not config.training.lr_trigger_loss:
        yield problem("training.lr_trigger_loss", f"{RAMP_DOWN} waits for a loss.", "Write for example 1.5.")
    yield from _batching_checks(config, problem)
    yield from _text_checks(config, problem)
    yield from _folder_checks(config, problem)


def without_effect(config: RunConfig, infos: dict[str, SettingInfo]) -> list[str]:
    """Sentences on settings that were changed, but do nothing while others are as they are; the form hides them."""

    def value(field: str) -> Any:
        section, key = field.split(".")
        return getattr(getattr(config, section), key)

    sentences = []
    for info in infos.values():
        unmet = [field for field, values in info.only_if.items() if value(field) not in values]
        if unmet and value(info.field) != info.default:
            reason = f"{infos[unmet[0]].label} is {value(unmet[0])!r}"
            sentences.append(f"{info.label}: it has no effect while {reason}. Got: {value(info.field)!r}.")
    return sentences


def _batching_checks(config: RunConfig, problem: Callable[[str, str, str], Problem]) -> Iterator[Problem]:
    """Settings of the phases that exclude each other."""
    batching = config.batching
    if batching.mode in ("sequential", "hybrid") and batching.packing not in ("none", "ordered"):
        remedy = "Choose ordered or none, or another Batching mode."
        yield problem("batching.packing", f"Its packs have no order that {batching.mode} batching could keep.", remedy)
    if batching.mode != "hybrid" or batching.switch_by != "loss":
        return
    if batching.switch_loss_low > batching.switch_loss_high:
        remedy = f"Set it to {batching.switch_loss_high:g} (Switch at loss, to) or less."
        yield problem("batching.switch_loss_low", "The range ends below its begin.", remedy)
    if 0 < batching.switch_latest < batching.switch_minimum:
        remedy = f"Set it to {batching.switch_minimum:g} (Switch at the earliest) or more, or to 0."
        yield problem("batching.switch_latest", "The latest switch is before the earliest.", remedy)


def _text_checks(config: RunConfig, problem: Callable[[str, str, str], Problem]) -> Iterator[Problem]:
    """Settings of raw text that exclude each other or cannot be used."""
    data = config.data
    try:
        make_cuts(data.cut_at, data.hard_cut)
    except CutError as error:
        yield problem("data.hard_cut", f"{error.reason}.", f"{error.remedy[:1].upper()}{error.remedy[1:]}")
    if data.dementor and data.overlap:
        yield problem("data.overlap", "With DEMENTOR every block overlaps already.", "Set this to 0 or switch DEMENTOR off.")
    if data.min_tokens >= data.cutoff:
        remedy = f"Set this below the Maximum context length (Cutoff) of {data.cutoff}."
        yield problem("data.min_tokens", "All blocks would be left out.", remedy)


def _further_problems(line: str, label: str) -> Iterator[Problem]:
    """What is wrong with one entry of Further data sets."""
    try:
        path = parse_origin(line).path
    except OriginError as error:
        yield Problem("data.more_datasets", label, line, error.reason, error.remedy)
        return
    if not _exists(path):
        remedy = f"Looked for {_place(path)}. {HOW_TO_WRITE}"
        yield Problem("data.more_datasets", label, line, "There is no such file or folder.", remedy)


def _folder_checks(config: RunConfig, problem: object) -> Iterator[Problem]:
    assert callable(problem)
    existing = _place(config.run.adapters_dir)
    while not _exists(str(existing)) and existing != existing.parent:
        existing = existing.parent
    if not existing.is_dir():
        yield problem("run.adapters_dir", f"{existing} is a file.", "Choose another folder.")
    elif not os.access(existing, os.W_OK):
        yield problem(
            "run.adapters_dir", f"The folder {existing} is not writable.", "Choose another folder or change its rights."
        )
    model = config.model.path
    if model and not _exists(f"{model}/config.json"):
        yield problem("model.path", "There is no model in that folder (no config.json).", "Choose a Hugging Face model folder.")
