"""Checks that look at more than one setting, or at the disk. Each returns problems; none raises."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

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
    if not data.dataset and not data.text_file:
        yield problem("data.dataset", "There is nothing to train on.", "Choose a Data set or a Text file.")
    for field in ("data.dataset", "data.text_file", "data.eval_dataset", "data.format_file", "model.chat_template"):
        section, key = field.split(".")
        value = getattr(getattr(config, section), key)
        if value and not _exists(value):
            yield problem(field, "There is no such file or folder.", f"Looked for {_place(value)}.")
    if data.format == "template" and not data.format_file:
        yield problem("data.format_file", "The data format 'template' needs a format file.", "Choose a Format file.")
    if data.eval_dataset and data.eval_share:
        yield problem("data.eval_share", "There is an Evaluation data set as well.", "Set this to 0 or remove the file.")
    yield from _folder_checks(config, problem)


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
