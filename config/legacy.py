"""Old ``training_parameters.json`` of Training PRO and of the WebUI's own training tab.

One table says what each old parameter means here; what has no counterpart is listed, never dropped in silence.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

_NONE = {"", "None", None}
_PROJECTIONS = {"all": "all-linear", "q-k-v-o": "q-k-v-o", "q-k-v": "q-k-v", "k-v-down": "k-v-down", "q-v": "q-v"}
_WEBUI_TARGETS = ("q_proj", "v_proj", "k_proj", "o_proj", "gate_proj", "down_proj", "up_proj")
_EOS_TYPES = {"Every Block": "every block", "Hard Cut Blocks Only": "end of section"}

# optimizers of the old lists that are not here -> the same by its name here, or what is nearest to it
_OPTIMIZERS = {
    "adamw_hf": "adamw_torch",
    "adamw_8bit": "adamw_bnb_8bit",
    "adamw_torch_xla": "adamw_torch",
    "adamw_anyprecision": "adamw_torch",
    "adamw_apex_fused": "adamw_torch_fused",
}
_SAME_OPTIMIZERS = ("adamw_hf", "adamw_8bit")
_OLD_LOSS_FALL = 10  # percent, fixed in Training PRO

# old name -> (setting here, conversion)
_SIMPLE: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "lora_name": ("adapter.name", str),
    "lora_rank": ("adapter.rank", int),
    "lora_alpha": ("adapter.alpha", float),
    "lora_dropout": ("adapter.dropout", float),
    "cutoff_len": ("data.cutoff", int),
    "min_chars": ("data.min_chars", int),
    "hard_cut_string": ("data.hard_cut", str),
    "train_only_after": ("data.train_after", str),
    "add_bos_token": ("data.add_bos", lambda yes: "auto" if yes else "no"),
    "micro_batch_size": ("batching.true_batch_size", int),
    "grad_accumulation": ("batching.gradient_accumulation", int),
    "epochs": ("training.epochs", float),
    "learning_rate": ("training.learning_rate", str),
    "lr_scheduler_type": ("training.schedule", str),
    "warmup_ratio": ("training.warmup_share", float),
    "optimizer": ("training.optimizer", lambda name: _OPTIMIZERS.get(name, name)),
    "neft_noise_alpha": ("training.neftune_alpha", float),
    "group_by_length": ("batching.mode", lambda yes: "length" if yes else "shuffled"),
    "sliding_window": ("data.dementor", bool),
    "stop_at_epoch": ("checkpoints.stop_at_epoch", float),
    "report_to": ("run.log_to", lambda name: "none" if name in _NONE else name),
    "use_grad_checkpoint": ("training.gradient_checkpointing", bool),
    "gradient_checkpointing": ("training.gradient_checkpointing", bool),
    "stop_at_loss": ("checkpoints.stop_at_loss", float),
    "always_override": ("adapter.if_exists", lambda yes: "replace" if yes else "stop"),
    "training_projection": ("adapter.targets", lambda name: [_PROJECTIONS.get(name, name)]),
}
# old name -> setting here; the old trainers counted batches, also where several make one optimizer step
_IN_BATCHES = {"warmup_steps": "training.warmup_steps", "save_steps": "checkpoints.save_every_steps"}
# old name -> settings here: the file that it is a percentage of, and the share
_PERCENTAGES = {
    "hybrid_data_ratio": ("data.dataset", "data.dataset_share"),
    "hybrid_text_ratio": ("data.text_file", "data.text_share"),
}
# old names that another rule reads, or that only drove the old form
_HANDLED = {
    *("all_linear", *(f"{name}_en" for name in _WEBUI_TARGETS)),
    *("batch_size", "dataset", "datasetJSONL", "raw_text_file", "text_dataset", "eval_dataset", "eval_datasetJSONL", "format"),
    *("eliminate_long_blocks", "eval_steps", "eval_stepsJSONL", "add_eos_token", "add_eos_token_type", "higher_rank_limit"),
    *("stride_length", "excess_length"),
    *("precize_slicing_overlap", "lora_RS", "lora_RS_alpha", "lora_modulessave", "overlap_len", "save_steps_under_loss"),
    *("hybrid_training", *_PERCENTAGES, *_IN_BATCHES),
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
    accumulation = _accumulation(data, put)
    _steps(data, put, notes, accumulation)
    _data_files(data, put, notes, datasets_dir)
    _percentages(data, put, notes)
    _text_settings(data, put, notes)
    _saves(data, put)
    optimizer = data.get("optimizer")
    if optimizer in _OPTIMIZERS and optimizer not in _SAME_OPTIMIZERS:
        notes.append(f"optimizer = {optimizer!r} is not here; {_OPTIMIZERS[optimizer]} takes its place.")
    return result, notes


def _targets(data: dict[str, Any], put: Callable[[str, Any], None]) -> None:
    if data.get("all_linear"):
        put("adapter.targets", ["all-linear"])
    elif any(f"{name}_en" in data for name in _WEBUI_TARGETS):
        put("adapter.targets", [name for name in _WEBUI_TARGETS if data.get(f"{name}_en")])
    if data.get("lora_RS"):
        put("adapter.rslora", True)
        put("adapter.rslora_alpha", data.get("lora_RS_alpha", 16))
    if data.get("lora_modulessave"):
        put("adapter.train_head", True)
        put("adapter.train_embeddings", True)


def _accumulation(data: dict[str, Any], put: Callable[[str, Any], None]) -> int:
    """Batches of an optimizer step; from the global batch size where a file has that."""
    batch, micro, written = data.get("batch_size") or 0, data.get("micro_batch_size") or 1, data.get("grad_accumulation")
    if batch and not written:
        written = max(1, int(batch) // int(micro))
        put("batching.gradient_accumulation", written)
    return max(1, _whole(written))


def _whole(value: Any) -> int:
    """A whole number; 1 for what is none, which another check reports."""
    try:
        return int(value)
    except (TypeError, ValueError):
        return 1


def _steps(data: dict[str, Any], put: Callable[[str, Any], None], notes: list[str], accumulation: int) -> None:
    """Numbers of batches become optimizer steps, rounded up as the old trainers did."""
    counted = []
    evaluated = [
        (old, "checkpoints.eval_every_steps")
        for old, file in (("eval_steps", "eval_dataset"), ("eval_stepsJSONL", "eval_datasetJSONL"))
        if data.get(old) and data.get(file) not in _NONE
    ]
    for old, field in (*_IN_BATCHES.items(), *evaluated):
        value = data.get(old)
        if value is None:
            continue
        try:
            steps = math.ceil(float(value) / accumulation)
        except (TypeError, ValueError, OverflowError):
            put(field, value)
            continue
        put(field, steps)
        if steps != float(value):
            counted.append(f"{old} {value:g} = {steps}" if isinstance(value, (int, float)) else f"{old} {value} = {steps}")
    if counted:
        notes.append(
            f"The old trainer counted batches where optimizer steps are counted here, {accumulation} batches each: {', '.join(counted)}."
        )


def _percentages(data: dict[str, Any], put: Callable[[str, Any], None], notes: list[str]) -> None:
    """Percentages of the data set and of the text, which only the old hybrid training had."""
    if not data.get("hybrid_training"):
        return
    for old, (file, field) in _PERCENTAGES.items():
        try:
            share = float(data.get(old, 100)) / 100
        except (TypeError, ValueError):
            put(field, data[old])
            continue
        if share:
            put(field, share)
        else:
            put(file, "")
            notes.append(f"{old} = 0: that file is not used.")


def _saves(data: dict[str, Any], put: Callable[[str, Any], None]) -> None:
    """Training PRO saved at and under a loss, and then each time it had fallen by a tenth; 0 = never."""
    start = data.get("save_steps_under_loss")
    if start in _NONE or start == 0:
        return
    put("checkpoints.save_on_loss_fall", _OLD_LOSS_FALL)
    put("checkpoints.save_loss_start", start)


def _data_files(data: dict[str, Any], put: Callable[[str, Any], None], notes: list[str], folder: Path) -> None:
    sources = (
        ("data.dataset", ("datasetJSONL", ".jsonl"), ("dataset", ".json"), ("text_dataset", ".json")),
        ("data.text_file", ("raw_text_file", ".txt")),
        ("data.eval_dataset", ("eval_datasetJSONL", ".jsonl"), ("eval_dataset", ".json")),
    )
    for field, *candidates in sources:
        chosen = [(old, str(data[old]), ending) for old, ending in candidates if data.get(old) not in _NONE]
        for _, name, ending in chosen[:1]:
            put(field, _find(name, ending, folder, notes))
        notes += [f"{old} = {name!r} is not used, since {chosen[0][0]} is set too." for old, name, _ in chosen[1:]]
    raw, others = data.get("raw_text_file"), [data.get(old) for old, _ in sources[0][1:]]
    if raw not in _NONE and any(name not in _NONE for name in others) and not data.get("hybrid_training"):
        put("data.dataset", "")
        notes.append("A text file and a data set are named: the old trainer took the text alone, so the data set is left out.")
    old_format = data.get("format")
    if old_format not in _NONE and old_format != "Chat Template":
        found = _find(str(old_format), ".json", folder, [], "formats")
        if Path(found).is_file():
            put("data.format", "template")
            put("data.format_file", found)
        else:
            notes.append(f"format = {old_format!r}: the rows are recognised by their keys; choose a Format file if they are not.")


def _find(name: str, ending: str, folder: Path, notes: list[str], kind: str = "datasets") -> str:
    places = []
    for base in [folder, *folder.absolute().parents][:5]:
        for inside in (f"training/{kind}", f"user_data/training/{kind}", "."):
            places += [base / inside / f"{name}{ending}"] + ([base / inside / name] if inside != "." else [])
    for place in [*places, Path(f"{name}{ending}"), Path(name)]:
        if place.exists():
            return str(place)
    notes.append(f"The data set {name!r} was not found near {folder}; choose the file again.")
    return f"{name}{ending}"


def _text_settings(data: dict[str, Any], put: Callable[[str, Any], None], notes: list[str]) -> None:
    if "add_eos_token" in data:
        place = _EOS_TYPES.get(data.get("add_eos_token_type", "Every Block"), "every block")
        put("data.add_eos", place if data["add_eos_token"] else "none")
    if data.get("precize_slicing_overlap") and not data.get("sliding_window"):  # the sliding window overlaps by itself
        put("data.overlap", 0.5)
    if data.get("overlap_len") and data.get("raw_text_file") not in _NONE and data.get("cutoff_len"):
        put("data.overlap", round(min(0.9, int(data["overlap_len"]) / int(data["cutoff_len"])), 3))
    if data.get("stride_length") and data.get("text_dataset") not in _NONE and data.get("cutoff_len"):
        put("data.overlap", round(min(0.9, int(data["stride_length"]) / int(data["cutoff_len"])), 3))
    if data.get("eliminate_long_blocks"):
        put("data.too_long", "drop")
    elif data.get("excess_length") == "truncate" or data.get("eliminate_long_blocks") is False:
        notes.append(
            "The old trainer cut too long rows off at the Cutoff; here they are left out and counted. "
            "Choose another way under Too long; 'cut reply' is the old one."
        )
