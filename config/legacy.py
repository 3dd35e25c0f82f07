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
    "train_only_after": ("data.train_after", str),
    "add_bos_token": ("data.add_bos", lambda yes: "auto" if yes else "no"),
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
    "always_override": ("adapter.if_exists", lambda yes: "replace" if yes else "stop"),
    "training_projection": ("adapter.targets", lambda name: [_PROJECTIONS.get(name, name)]),
}
# old name -> the switch without which it had no effect
_ONLY_WITH = {"hybrid_data_ratio": "hybrid_training", "hybrid_text_ratio": "hybrid_training"}
# old names that another rule reads, or that only drove the old form
_HANDLED = {
    *("all_linear", *(f"{name}_en" for name in _WEBUI_TARGETS)),
    *("batch_size", "dataset", "datasetJSONL", "raw_text_file", "text_dataset", "eval_dataset", "eval_datasetJSONL", "format"),
    *(
        "eliminate_long_blocks",
        "eval_steps",
        "eval_stepsJSONL",
        "add_eos_token",
        "add_eos_token_type",
        "higher_rank_limit",
        "stride_length",
        "excess_length",
    ),
    *("precize_slicing_overlap", "lora_RS", "lora_RS_alpha", "lora_modulessave"),
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
        elif old not in _HANDLED and value not in (None, False, 0, "", "None") and data.get(_ONLY_WITH.get(old, old)):
            notes.append(f"{old} = {value!r} has no counterpart here and is ignored.")
    _targets(data, put)
    _accumulation(data, put)
    _data_files(data, put, notes, datasets_dir)
    _text_settings(data, put, notes)
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
        chosen = [(old, str(data[old]), ending) for old, ending in candidates if data.get(old) not in _NONE]
        for _, name, ending in chosen[:1]:
            put(field, _find(name, ending, folder, notes))
        notes += [f"{old} = {name!r} is not used, since {chosen[0][0]} is set too." for old, name, _ in chosen[1:]]
    raw, others = data.get("raw_text_file"), [data.get(old) for old, _ in sources[0][1:]]
    if raw not in _NONE and any(name not in _NONE for name in others) and not data.get("hybrid_training"):
        notes.append("A text file and a data set are named: the old trainer took the text alone, here both are trained.")
    old_format = data.get("format")
    if old_format not in _NONE and old_format != "Chat Template":
        found = _find(str(old_format), ".json", folder, [], "formats")
        if Path(found).is_file():
            put("data.format", "template")
            put("data.format_file", found)
        else:
            notes.append(f"format = {old_format!r}: the rows are recognised by their keys; choose a Format file if they are not.")
    for old, evaluated in (("eval_steps", "eval_dataset"), ("eval_stepsJSONL", "eval_datasetJSONL")):
        if data.get(old) and data.get(evaluated) not in _NONE:
            put("checkpoints.eval_every_steps", int(data[old]))


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
    if data.get("precize_slicing_overlap"):
        put("data.overlap", 0.5)
    if data.get("stride_length") and data.get("text_dataset") not in _NONE and data.get("cutoff_len"):
        put("data.overlap", round(min(0.9, int(data["stride_length"]) / int(data["cutoff_len"])), 3))
    if data.get("eliminate_long_blocks"):
        put("data.too_long", "drop")
    elif data.get("excess_length") == "truncate" or data.get("eliminate_long_blocks") is False:
        notes.append(
            "The old trainer cut too long rows off at the Cutoff; here they are left out and counted. "
            "Choose another way under Too long; 'cut reply' is the old one."
        )
