"""Old ``training_parameters.json`` of Training PRO and of the WebUI's own training tab.

One table says what each old parameter means here; what has no counterpart is listed, never dropped in silence.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

_NONE = {"", "None", None}
_PROJECTIONS = {"all": "all-linear", "q-k-v-o": "q-k-v-o", "q-k-v": "q-k-v", "k-v-down": "k-v-down", "q-v": "q-v"}
_WEBUI_TARGETS = ("q_proj", "v_proj", "k_proj", "o_proj", "gate_proj", "down_proj", "up_proj")
_EOS_TYPES = {"Every Block": "every block", "Hard Cut Blocks Only": "end of section"}

# old name -> (setting here, conversion)
_SIMPLE: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "lora_name": ("adapter.name", str),
    "lora_rank": ("adapter.rank", int),
    "lora_alpha": ("adapter.alpha", float),
    "lora_dropout": ("adapter.dropout", float),
    "cutoff_len": ("data.cutoff", int),
    "min_chars": ("data.min_chars", int),
    "hard_cut_string": ("data.hard_cut", str),
    "add_bos_token": ("data.add_bos", bool),
    "micro_batch_size": ("batching.true_batch_size", int),
    "grad_accumulation": ("batching.gradient_accumulation", int),
    "epochs": ("training.epochs", float),
    "learning_rate": ("training.learning_rate", str),
    "lr_scheduler_type": ("training.schedule", str),
    "warmup_steps": ("training.warmup_steps", int),
    "warmup_ratio": ("training.warmup_share", float),
    "optimizer": ("training.optimizer", lambda name: {"adamw_hf": "adamw_torch"}.get(name, name)),
    "use_grad_checkpoint": ("training.gradient_checkpointing", bool),
    "gradient_checkpointing": ("training.gradient_checkpointing", bool),
    "save_steps": ("checkpoints.save_every_steps", int),
    "stop_at_loss": ("checkpoints.stop_at_loss", float),
    "always_override": ("adapter.if_exists", lambda yes: "replace" if yes else "continue"),
    "training_projection": ("adapter.targets", lambda name: [_PROJECTIONS.get(name, name)]),
}
# old names that another rule reads, or that only drove the old form
_HANDLED = {
    *("all_linear", *(f"{name}_en" for name in _WEBUI_TARGETS)),
    *("batch_size", "dataset", "datasetJSONL", "raw_text_file", "text_dataset", "eval_dataset", "eval_datasetJSONL", "format"),
    *("eval_steps", "eval_stepsJSONL", "add_eos_token", "add_eos_token_type", "higher_rank_limit", "stride_length", "excess_length"),
    "precize_slicing_overlap",
}


def is_old_parameters(data: dict[str, Any]) -> bool:
    """True for the flat parameter files of the old tabs."""
    return "lora_name" in data and "micro_batch_size" in data


def from_old_parameters(data: dict[str, Any], datasets_dir: Path) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Translate an old file.

    Args:
        data: the flat parameters.
        datasets_dir: folder in which the old file lies; its data sets are named without folder, so they are looked for
            in the WebUI's usual places around it.

    Returns:
        Nested settings, and a list of sentences on what has no counterpart or needs a look.
    """
    result: dict[str, dict[str, Any]] = {}
    notes: list[str] = []

    def put(field: str, value: Any) -> None:
        section, key = field.split(".")
        result.setdefault(section, {})[key] = value

    for old, value in data.items():
        if old in _SIMPLE:
            field, convert = _SIMPLE[old]
            try:
                put(field, convert(value))
            except (TypeError, ValueError):
                put(field, value)
        elif old not in _HANDLED and value not in (None, False, 0, "", "None"):
            notes.append(f"{old} = {value!r} has no counterpart here and is ignored.")
    _targets(data, put)
    _accumulation(data, put)
    _data_files(data, put, notes, datasets_dir)
    _text_settings(data, put, notes)
    return result, notes


def _targets(data: dict[str, Any], put: Callable[[str, Any], None]) -> None:
    if "all_linear" not in data:
        return
    chosen = [name for name in _WEBUI_TARGETS if data.get(f"{name}_en")]
    put("adapter.targets", ["all-linear"] if data["all_linear"] else chosen)


def _accumulation(data: dict[str, Any], put: Callable[[str, Any], None]) -> None:
    batch, micro = data.get("batch_size") or 0, data.get("micro_batch_size") or 1
    if batch and not data.get("grad_accumulation"):
        put("batching.gradient_accumulation", max(1, int(batch) // int(micro)))


def _data_files(data: dict[str, Any], put: Callable[[str, Any], None], notes: list[str], folder: Path) -> None:
    sources = (
        ("data.dataset", ("datasetJSONL", ".jsonl"), ("dataset", ".json"), ("text_dataset", ".json")),
        ("data.text_file", ("raw_text_file", ".txt")),
        ("data.eval_dataset", ("eval_datasetJSONL", ".jsonl"), ("eval_dataset", ".json")),
    )
    for field, *candidates in sources:
        for old, ending in candidates:
            name = data.get(old)
            if name not in _NONE:
                put(field, _find(str(name), ending, folder, notes))
                break
    old_format = data.get("format")
    if old_format not in _NONE and old_format != "Chat Template":
        found = _find(str(old_format), ".json", folder, [], "formats")
        if Path(found).is_file():
            put("data.format", "template")
            put("data.format_file", found)
        else:
            notes.append(f"format = {old_format!r}: the rows are recognised by their keys; choose a Format file if they are not.")
    for old in ("eval_steps", "eval_stepsJSONL"):
        if data.get(old) and any(data.get(name) not in _NONE for name in ("eval_dataset", "eval_datasetJSONL")):
            put("checkpoints.eval_every_steps", int(data[old]))


def _find(name: str, ending: str, folder: Path, notes: list[str], kind: str = "datasets") -> str:
    places = [Path(name), Path(f"{name}{ending}")]
    for base in [folder, *folder.absolute().parents][:5]:
        for inside in (f"training/{kind}", f"user_data/training/{kind}", "."):
            places.append(base / inside / f"{name}{ending}")
    for place in places:
        if place.exists():
            return str(place)
    notes.append(f"The data set {name!r} was not found near {folder}; choose the file again.")
    return f"{name}{ending}"


def _text_settings(data: dict[str, Any], put: Callable[[str, Any], None], notes: list[str]) -> None:
    if "add_eos_token" in data:
        place = _EOS_TYPES.get(data.get("add_eos_token_type", "Every Block"), "every block")
        put("data.add_eos", place if data["add_eos_token"] else "none")
    if data.get("precize_slicing_overlap"):
        put("data.overlap", 0.5)
    if data.get("stride_length") and data.get("text_dataset") not in _NONE and data.get("cutoff_len"):
        put("data.overlap", round(min(0.9, int(data["stride_length"]) / int(data["cutoff_len"])), 3))
    if data.get("excess_length") == "truncate":
        notes.append("excess_length = 'truncate' has no counterpart yet: too long conversations are left out and counted.")
