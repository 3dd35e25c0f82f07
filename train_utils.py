"""Setting up a model for training, and giving it back.

What it does: loads a base model where no host has one, finds the modules an adapter can go on, chooses the number format, puts a
LoRA on, and borrows a loaded model so that it comes back exactly as it was.

Guarantee of :func:`borrowed`: whatever happens inside, afterwards the model's module tree, parameters, requires_grad flags, hooks,
attributes, config and training mode, and the tokenizer's template and padding, are what they were. Price: references to every
module's dictionaries are kept while it is borrowed (no copy of any weight).
"""

from __future__ import annotations

import copy
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)

DTYPES = ("float32", "bfloat16", "float16")
PRECISIONS = ("auto", "float32", "bfloat16", "float16")

# name on the form -> name in transformers' TrainingArguments.optim
OPTIMIZERS = {
    "adamw_torch": "adamw_torch",
    "adamw_torch_fused": "adamw_torch_fused",
    "adafactor": "adafactor",
    "sgd": "sgd",
}

# what a projection is called in the families of models
_ROLE_NAMES = {
    "q": ("q_proj", "query", "wq", "q_lin", "q"),
    "k": ("k_proj", "key", "wk", "k_lin", "k"),
    "v": ("v_proj", "value", "wv", "v_lin", "v"),
    "o": ("o_proj", "out_proj", "dense", "wo", "out_lin", "c_proj", "o"),
    "down": ("down_proj", "w2", "fc2", "fc_out", "dense_4h_to_h", "c_proj"),
}
_FUSED_QKV = ("qkv_proj", "query_key_value", "c_attn", "Wqkv", "wqkv", "qkv", "in_proj")

# name on the form -> roles; None means every linear layer but the head
TARGET_PRESETS: dict[str, tuple[str, ...] | None] = {
    "all-linear": None,
    "q-v": ("q", "v"),
    "q-k-v": ("q", "k", "v"),
    "q-k-v-o": ("q", "k", "v", "o"),
    "k-v-down": ("k", "v", "down"),
}


# --- which modules -------------------------------------------------------------------------------------------------------------


def linear_module_names(model: Any) -> dict[str, int]:
    """Leaf names of the layers an adapter can go on, with how many there are of each; without the output head.

    Returns:
        For example ``{"q_proj": 30, "k_proj": 30, ...}`` in the order of the model.
    """
    import torch
    from transformers.pytorch_utils import Conv1D

    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    counts: dict[str, int] = {}
    for path, module in model.named_modules():
        if isinstance(module, (torch.nn.Linear, Conv1D)) and module is not head:
            leaf = path.rsplit(".", 1)[-1]
            name = path if leaf.isdigit() else leaf
            counts[name] = counts.get(name, 0) + 1
    return counts


def resolve_targets(targets: list[str], available: dict[str, int]) -> list[str]:
    """Names of modules for the adapter, from ready choices and names.

    Args:
        targets: entries of :data:`TARGET_PRESETS` or module names.
        available: what :func:`linear_module_names` found.

    Raises:
        ValueError: a name that the model does not have, or a ready choice that nothing in the model matches.
    """
    chosen: list[str] = []
    for target in targets:
        if target in TARGET_PRESETS:
            roles = TARGET_PRESETS[target]
            chosen += list(available) if roles is None else _role_names(target, roles, available)
        elif target in available or any(name.endswith(f".{target}") for name in available):
            chosen.append(target)
        else:
            raise ValueError(
                f"Target modules: the model has no linear module called {target!r}. "
                f"It has: {', '.join(available) or 'none'}. Choose from these or take all-linear."
            )
    return list(dict.fromkeys(chosen))


def _role_names(preset: str, roles: tuple[str, ...], available: dict[str, int]) -> list[str]:
    names = []
    for role in roles:
        candidates = _ROLE_NAMES[role] + (_FUSED_QKV if role in "qkv" else ())
        found = next((name for name in candidates if name in available), None)
        if found is None:
            raise ValueError(
                f"Target modules: {preset!r} needs a {role} projection, and this model has none that is known. "
                f"It has: {', '.join(available)}. Choose names from these or take all-linear."
            )
        names.append(found)
    return names


# --- which number format -------------------------------------------------------------------------------------------------------


def choose_precision(wanted: str, model_dtype: str, device_type: str, bf16_supported: bool) -> str:
    """The number format of the computation.

    Args:
        wanted: ``auto`` or a name of :data:`PRECISIONS`.
        model_dtype: dtype of the model's floating-point weights: float32, bfloat16 or float16.
        device_type: cuda, cpu, mps, xpu, ...
        bf16_supported: whether the device computes in bfloat16 natively.

    Returns:
        float32, bfloat16 or float16. A bfloat16 model never runs under float16 (its range would overflow).

    Raises:
        ValueError: a wish that this model or device cannot take.
    """
    if wanted == "float16" and model_dtype == "bfloat16":
        raise ValueError("Precision: a bfloat16 model overflows under float16. Got: 'float16'. Choose auto or bfloat16.")
    if wanted == "float16" and device_type == "cpu":
        raise ValueError("Precision: float16 does not train on a CPU. Got: 'float16'. Choose auto or float32.")
    if wanted == "bfloat16" and device_type == "cuda" and not bf16_supported:
        raise ValueError("Precision: this GPU has no bfloat16. Got: 'bfloat16'. Choose auto or float16.")
    if wanted != "auto":
        return wanted
    if device_type != "cuda":
        return "float32"
    if model_dtype == "float16" or not bf16_supported:
        return "float16" if model_dtype != "bfloat16" else "bfloat16"
    return "bfloat16"


def model_dtype_name(model: Any) -> str:
    """dtype of most floating-point weights; of the computation, where the weights are quantized."""
    quantization = getattr(getattr(model, "config", None), "quantization_config", None)
    compute = getattr(quantization, "bnb_4bit_compute_dtype", None)
    if compute is not None:
        return str(compute).removeprefix("torch.")
    sizes: dict[str, int] = {}
    for parameter in model.parameters():
        if parameter.is_floating_point():
            name = str(parameter.dtype).removeprefix("torch.")
            sizes[name] = sizes.get(name, 0) + parameter.numel()
    return max(sizes, key=lambda name: sizes[name]) if sizes else "float32"


# --- loading, where no host has done it ----------------------------------------------------------------------------------------


def best_device() -> str:
    """cuda (also ROCm), mps or cpu."""
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


@contextmanager
def quiet_progress() -> Iterator[None]:
    """transformers' own progress bars off, for a while: they would stand between ours."""
    from transformers.utils import logging as transformers_logging

    was_on = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if was_on:
            transformers_logging.enable_progress_bar()


def load_base_model(folder: Path, dtype: str = "auto") -> tuple[Any, Any]:
    """Load model and tokenizer from a Hugging Face folder, without any network.

    Raises:
        ValueError: the folder holds no usable model; with what transformers said.
    """
    import torch
    from transformers import AutoModelForCausalLM

    tokenizer = load_tokenizer(folder)
    device = best_device()
    chosen: Any = getattr(torch, dtype) if dtype != "auto" else (torch.float32 if device == "cpu" else "auto")
    try:
        with quiet_progress():
            model = AutoModelForCausalLM.from_pretrained(str(folder), dtype=chosen, local_files_only=True)
    except _loading_errors() as error:
        raise ValueError(f"Model: {folder} cannot be loaded: {error} Choose a complete Hugging Face model folder.") from error
    model.to(torch.device(device))  # type: ignore[arg-type]
    return model.eval(), tokenizer


def _loading_errors() -> tuple[type[Exception], ...]:
    """What transformers, peft and safetensors raise for files that are missing, damaged or do not fit."""
    from safetensors import SafetensorError

    return OSError, ValueError, KeyError, RuntimeError, SafetensorError


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer of a model folder, without any network.

    Raises:
        ValueError: there is none that can be used; with what transformers said.
    """
    from transformers import AutoTokenizer

    if not Path(folder).is_dir():
        raise ValueError(f"Model: there is no folder {folder}. Choose a complete Hugging Face model folder.")
    try:
        return AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    except Exception as error:  # the tokenizers library raises nothing more particular
        raise ValueError(f"Model: the tokenizer in {folder} cannot be loaded: {error} Choose a complete model folder.") from error


_TEMPLATES_DIR = Path(__file__).parent / "data" / "chat_templates"
CHAT_TEMPLATES = tuple(sorted(path.stem for path in _TEMPLATES_DIR.glob("*.jinja")))


def read_chat_template(file: str) -> str:
    """A chat template by its name (:data:`CHAT_TEMPLATES`), from a .jinja file or a WebUI instruction template.

    Args:
        file: a name, or a path; a .yaml has its template under ``instruction_template``.

    Raises:
        ValueError: unreadable, or no template in it.
    """
    path = _TEMPLATES_DIR / f"{file}.jinja" if file in CHAT_TEMPLATES else Path(file).expanduser()
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(
            f"Chat template: {file} cannot be read: {error}. Choose a .jinja or .yaml file, or one of {', '.join(CHAT_TEMPLATES)}."
        ) from error
    if Path(file).suffix.lower() in (".yaml", ".yml"):
        import yaml

        try:
            data = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ValueError(
                f"Chat template: {file} is not valid YAML: {error}. Choose a WebUI template or a .jinja file."
            ) from error
        if not isinstance(data, dict) or "instruction_template" not in data:
            raise ValueError(f"Chat template: {file} has no 'instruction_template'. Choose a WebUI template or a .jinja file.")
        return str(data["instruction_template"])
    return text


# --- borrowing a loaded model --------------------------------------------------------------------------------------------------

_TOKENIZER_FIELDS = ("chat_template", "padding_side", "truncation_side", "model_max_length")


@dataclass
class _ModuleState:
    module: Any
    attributes: dict[str, Any]
    copies: dict[str, dict[Any, Any]]


def _module_states(model: Any) -> list[_ModuleState]:
    states = []
    for module in model.modules():
        attributes = dict(module.__dict__)
        # dictionaries that are changed in place: hooks, parameters, sub-modules
        copies = {name: dict(value) for name, value in attributes.items() if isinstance(value, dict)}
        states.append(_ModuleState(module, attributes, copies))
    return states


def _restore_module(state: _ModuleState) -> None:
    current = state.module.__dict__
    for name in [name for name in current if name not in state.attributes]:
        del current[name]
    for name, value in state.attributes.items():
        current[name] = value
    for name, content in state.copies.items():
        current[name].clear()
        current[name].update(content)


def _config_states(model: Any) -> list[tuple[Any, dict[str, Any]]]:
    """Contents of the model's configs; sub-configs keep their identity, since sub-models refer to them."""
    from transformers import GenerationConfig, PreTrainedConfig

    owners = [getattr(model, "config", None), getattr(model, "generation_config", None)]
    states: list[tuple[Any, dict[str, Any]]] = []
    seen: set[int] = set()
    while owners:
        owner = owners.pop()
        if not isinstance(owner, (PreTrainedConfig, GenerationConfig)) or id(owner) in seen:
            continue
        seen.add(id(owner))
        nested = {name: value for name, value in owner.__dict__.items() if isinstance(value, PreTrainedConfig)}
        owners += nested.values()
        plain = {name: copy.deepcopy(value) for name, value in owner.__dict__.items() if name not in nested}
        states.append((owner, {**plain, **nested}))
    return states


@contextmanager
def borrowed(model: Any, tokenizer: Any) -> Iterator[None]:
    """Borrow a model and its tokenizer; on leaving, by whatever way, both are as they were.

    Parameters are never copied: an adapter leaves base weights alone, and its layers hold the original modules, so putting the
    original references back undoes it. Gradients are freed.
    """
    modules = _module_states(model)
    parameters = [(parameter, parameter.requires_grad, parameter.data) for parameter in model.parameters()]
    configs = _config_states(model)
    fields = {name: getattr(tokenizer, name) for name in _TOKENIZER_FIELDS if hasattr(tokenizer, name)}
    try:
        yield
    finally:
        for state in modules:
            _restore_module(state)
        for parameter, requires_grad, data in parameters:
            if parameter.dtype != data.dtype or parameter.data_ptr() != data.data_ptr():
                parameter.data = data
            parameter.grad = None
            parameter.requires_grad_(requires_grad)
        for owner, content in configs:
            owner.__dict__.clear()
            owner.__dict__.update(content)
        for name, value in fields.items():
            setattr(tokenizer, name, value)


def free_memory() -> None:
    """Give memory that nothing holds any more back to the device."""
    import gc

    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    elif torch.backends.mps.is_available():
        torch.mps.empty_cache()


# --- the adapter ---------------------------------------------------------------------------------------------------------------


def add_lora(model: Any, *, rank: int, alpha: float, dropout: float, targets: list[str]) -> Any:
    """Put a fresh LoRA on a model.

    Args:
        targets: module names from :func:`resolve_targets`.

    Returns:
        The peft model; ``model`` is changed in place (see :func:`borrowed`).

    Raises:
        ValueError: an adapter is on the model already.
    """
    from peft import LoraConfig, get_peft_model

    _forget_old_adapter(model)
    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,  # type: ignore[arg-type]
        lora_dropout=dropout,
        target_modules=targets,
        bias="none",
        task_type="CAUSAL_LM",
    )
    return get_peft_model(model, config)


def continue_lora(model: Any, folder: Path) -> Any:
    """Load an adapter to train it further.

    Raises:
        ValueError: the folder holds no adapter that fits this model; with what peft said.
    """
    from peft import PeftModel

    _forget_old_adapter(model)
    try:
        return PeftModel.from_pretrained(model, str(folder), is_trainable=True)
    except _loading_errors() as error:
        raise ValueError(
            f"If the name exists: the adapter in {folder} cannot be continued on this model: {error} "
            f"Load the model that it was trained on, or choose 'replace' or 'new name'."
        ) from error


def carries_adapter(model: Any) -> bool:
    """Whether adapter layers are in the model; a left-over ``peft_config`` alone (peft leaves one after unload) is none."""
    from peft import PeftModel
    from peft.tuners.tuners_utils import BaseTunerLayer

    return isinstance(model, PeftModel) or any(isinstance(module, BaseTunerLayer) for module in model.modules())


def refuse_adapter(model: Any) -> None:
    """Raise if the model carries an adapter already: training would change or ignore it."""
    if carries_adapter(model):
        names = ", ".join(getattr(model, "peft_config", {})) or "unnamed"
        raise ValueError(
            f"Model: an adapter ({names}) is applied to the loaded model. "
            f"Remove it (Model tab, LoRA(s): none, Apply LoRAs) or reload the model, then start again."
        )


def _forget_old_adapter(model: Any) -> None:
    """Drop a ``peft_config`` without layers, which would make peft believe in a second adapter; `borrowed` puts it back."""
    refuse_adapter(model)
    model.__dict__.pop("peft_config", None)


def count_parameters(model: Any) -> tuple[int, int]:
    """Trained and all parameters of a model (elements; packed 4-bit weights count as stored)."""
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    return trained, sum(parameter.numel() for parameter in model.parameters())


def context_length(model: Any) -> int | None:
    """Longest context that the model's config names, in tokens; None if it names none."""
    config = model.config.get_text_config() if hasattr(model.config, "get_text_config") else model.config
    for name in ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length"):
        value = getattr(config, name, None)
        if isinstance(value, int) and value > 0:
            return value
    return None


def model_identity(model: Any) -> str:
    """A short text that tells models of different shape or origin apart, for run folders and messages."""
    name = str(getattr(model.config, "_name_or_path", "") or type(model).__name__)
    return re.split(r"[\\/]", name.rstrip("\\/"))[-1] or type(model).__name__
