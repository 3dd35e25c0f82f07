"""Checks that look at more than one setting, or at the disk. Each returns problems; none raises."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..batching.course import MODES, SWITCHES
from ..custom_scheduler import RAMP_DOWN
from ..data.origins import HOW_TO_WRITE, OriginError, parse_origin
from ..data.packing import NEEDS_VECTORS
from ..slicing.cuts import CutError, make_cuts
from ..train_utils import ADAPTER_FILES, CHAT_TEMPLATES, METHODS, OPTIMIZERS
from .field import SettingInfo
from .log_packages import missing_package
from .problems import Problem

if TYPE_CHECKING:
    from .model import RunConfig

# settings that do nothing while another one is 0 or empty
_NEEDED = {
    "checkpoints.save_loss_start": "checkpoints.save_on_loss_fall",
    "samples.every_steps": "samples.prompts",
}
CONSTANT = ("constant", "constant_with_warmup")
_HIDDEN_ENDINGS = (".txt", "-np", ".pt", ".json")
_WINDOWS_NAMES = {"con", "prn", "aux", "nul", *(f"{name}{n}" for name in ("com", "lpt") for n in range(1, 10))}


def name_problem(name: str) -> tuple[str, str] | None:
    """What is wrong with an adapter's name, and the remedy; None if it is good.

    The name becomes a folder, a module name inside peft (no dots) and an entry of the WebUI's LoRA list (which hides some endings).
    """
    if "." in name:
        return "A name with a dot cannot be loaded by the WebUI.", f"Write {name.replace('.', '-').strip('- ')!r}."
    if wrong := file_name_problem(name):
        return wrong
    if name.endswith(_HIDDEN_ENDINGS):
        return f"The WebUI hides names that end in {', '.join(_HIDDEN_ENDINGS)}.", "Choose another ending."
    if len(name) > 120:
        return "The name is too long for a folder.", "Use at most 120 characters."
    return None


def file_name_problem(name: str) -> tuple[str, str] | None:
    """What is wrong with a name that becomes a file's or a folder's, on any system, and the remedy; None if it is good."""
    if not name.strip():
        return "A name is needed.", "Write a name such as my-lora."
    if name != name.strip():
        return "It begins or ends with a space.", f"Write {name.strip()!r}."
    if re.search(r'[\\/:*?"<>|\x00-\x1f]', name):
        return (
            "A name must not contain parts of a path or signs that a file name cannot have.",
            "Use letters, digits, '-' and '_'.",
        )
    if name.lower().split(".")[0] in _WINDOWS_NAMES or name.lower() == "none":
        return "That name is reserved.", "Choose another name."
    if name.startswith(".") or name.endswith("."):
        return "It begins or ends with a dot.", f"Write {name.strip('.')!r}."
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
    yield from _adapter_checks(config, problem)
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
    if OPTIMIZERS[config.training.optimizer].averages and config.training.schedule not in CONSTANT:
        message = f"{config.training.optimizer} averages its weights instead of lowering the rate, and wants a constant one."
        yield problem("training.schedule", message, "Choose constant_with_warmup, or another Optimizer.")
    yield from _batching_checks(config, problem)
    yield from _text_checks(config, problem)
    yield from _folder_checks(config, problem)
    if package := missing_package(config.run.log_to):
        yield problem("run.log_to", f"The package {package} is not installed.", f"Run: pip install {package}. Or choose none.")


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
    for field, needed in _NEEDED.items():
        if value(field) and not value(needed):
            reason = f"{infos[needed].label} is {'off' if value(needed) == 0 else 'empty'}"
            sentences.append(f"{infos[field].label}: it has no effect while {reason}. Got: {value(field)!r}.")
    if config.checkpoints.stop_at_epoch > config.training.epochs:
        label, epochs = infos["checkpoints.stop_at_epoch"].label, config.training.epochs
        sentences.append(
            f"{label}: it has no effect, the run ends at epoch {epochs:g}. Got: {config.checkpoints.stop_at_epoch:g}."
        )
    return sentences


def _adapter_checks(config: RunConfig, problem: Callable[[str, str, str], Problem]) -> Iterator[Problem]:
    """Settings of the method that exclude each other, or point nowhere; what the model must say is for Check."""
    adapter = config.adapter
    if METHODS[adapter.method].uses_targets and not adapter.targets:
        yield problem("adapter.targets", "No module would be trained.", "Choose all-linear.")
    if 0 < adapter.last_layer < adapter.first_layer:
        remedy = f"Set it to {adapter.last_layer} (Layers to) or less, or Layers to to 0."
        yield problem("adapter.first_layer", "The range begins behind its end.", remedy)
    if (
        adapter.method in ("lora", "dora")
        and adapter.lora_plus not in (0, 1)
        and OPTIMIZERS[config.training.optimizer].finds_rate
    ):
        remedy = "Set it to 0, or choose adamw_torch under Optimizer."
        yield problem("adapter.lora_plus", f"{config.training.optimizer} takes one rate for all weights.", remedy)
    for name in adapter.merge_first:
        place = Path(config.run.adapters_dir).expanduser() / name
        if not _exists(str(place / ADAPTER_FILES[1])) and not _exists(f"{name}/{ADAPTER_FILES[1]}"):
            message = f"{name!r} is neither the name nor the folder of an adapter."
            yield problem("adapter.merge_first", message, f"Looked for {_place(str(place))} and {_place(name)}.")


def _batching_checks(config: RunConfig, problem: Callable[[str, str, str], Problem]) -> Iterator[Problem]:
    """Settings of the phases that exclude each other."""
    batching = config.batching
    if batching.mode != "shuffled" and batching.packing in NEEDS_VECTORS:
        remedy = "Choose best_fit, ordered or none, or Batching mode shuffled."
        yield problem("batching.packing", f"It packs by content, Batching mode {batching.mode!r} by length or order.", remedy)
    for prefix, label in list(SWITCHES.items())[: len(MODES[batching.mode]) - 1]:
        by, low, high, minimum, latest = (
            getattr(batching, f"{prefix}_{name}") for name in ("by", "loss_low", "loss_high", "minimum", "latest")
        )
        if by == "loss" and low > high:
            remedy = f"Set it to {high:g} ({label} at loss, to) or less."
            yield problem(f"batching.{prefix}_loss_low", "The range ends below its begin.", remedy)
        if by == "loss" and 0 < latest < minimum:
            remedy = f"Set it to {minimum:g} ({label} at the earliest) or more, or to 0."
            yield problem(f"batching.{prefix}_latest", "The latest switch is before the earliest.", remedy)


def _text_checks(config: RunConfig, problem: Callable[[str, str, str], Problem]) -> Iterator[Problem]:
    """Settings of raw text that exclude each other or cannot be used."""
    data = config.data
    try:
        make_cuts(data.cut_at, data.hard_cut)
    except CutError as error:
        yield problem("data.hard_cut", f"{error.reason}.", f"{error.remedy[:1].upper()}{error.remedy[1:]}")
    if data.dementor and data.overlap:
        yield problem("data.overlap", "With DEMENTOR every block overlaps already.", "Set this to 0 or switch DEMENTOR off.")
    if data.block_tokens > data.cutoff:
        yield problem(
            "data.block_tokens", "A block cannot be longer than a sample.", f"Set it to {data.cutoff} or less, or to 0."
        )
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
