"""Setting up a model for training, and giving it back: the front door of everything that prepares a model.

What it does: loads a base model where no host has one, chooses the number format, borrows a loaded model so that it comes back exactly as
it was, and puts a training method on it or takes one up: which weights (:mod:`.adapting.targets`), how they move
(:mod:`.adapting.methods`).

Guarantee of :func:`borrowed`: whatever happens inside, afterwards the model's module tree, parameters, requires_grad flags, hooks,
attributes, config and training mode, and the tokenizer's template and padding, are what they were. Price: references to every
module's dictionaries are kept while it is borrowed (no copy of any weight).
"""

from __future__ import annotations

import copy
import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .adapting.fitted import Fitted
from .adapting.full import FULL_COPIES, FULL_WEIGHTS
from .adapting.initial import INITIALISATIONS
from .adapting.loading import loading_errors, quiet_progress
from .adapting.lora import add_lora, carries_adapter, continue_lora, refuse_adapter
from .adapting.lora_plus import with_lora_plus
from .adapting.merging import check_merges, merge_adapters, merge_identity
from .adapting.methods import METHODS, Method
from .adapting.optimizers import OPTIMIZERS
from .adapting.quantization import (
    COMPUTE_DTYPES,
    FOUR_BITS,
    QUANTIZATIONS,
    CannotLoad,
    Loading,
    compute_dtype_of,
    is_quantized,
    keep_packed,
    load_model,
)
from .adapting.targets import TARGET_PRESETS, Targets, choose_targets, find_places, linear_module_names
from .adapting.wish import ADAPTER_FILES, BIASES, Size, Wish

# what other rooms take from here
# fmt: off
__all__ = [
    "ADAPTER_FILES", "BIASES", "CHAT_TEMPLATES", "COMPUTE_DTYPES", "DTYPES", "FOUR_BITS", "FULL_COPIES", "FULL_WEIGHTS",
    "INITIALISATIONS", "METHODS", "OPTIMIZERS", "PRECISIONS", "QUANTIZATIONS", "TARGET_PRESETS", "Fitted", "Loading",
    "Method", "Size", "Targets", "Wish", "add_lora", "best_device", "borrowed", "carries_adapter", "choose_precision",
    "choose_targets", "context_length", "continue_lora", "count_parameters", "find_places", "fit", "free_memory",
    "is_quantized", "keep_packed", "linear_module_names", "load_base_model", "load_tokenizer", "merge_identity",
    "model_dtype_name", "model_identity", "model_size", "quiet_progress", "read_chat_template", "refit", "refuse_adapter",
    "with_lora_plus",
]
# fmt: on

logger = logging.getLogger(__name__)

DTYPES = ("float32", "bfloat16", "float16")
PRECISIONS = ("auto", "float32", "bfloat16", "float16")


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
    if compute := compute_dtype_of(model):
        return compute
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


def load_base_model(folder: Path, loading: Loading | None = None) -> tuple[Any, Any]:
    """Load model and tokenizer from a Hugging Face folder, without any network.

    Raises:
        ValueError: the folder holds no usable model; with what transformers said.
    """
    tokenizer = load_tokenizer(folder)
    try:
        with quiet_progress():
            model = load_model(folder, loading or Loading(), best_device())
    except CannotLoad:
        raise
    except loading_errors() as error:
        raise ValueError(f"Model: {folder} cannot be loaded: {error} Choose a complete Hugging Face model folder.") from error
    return model, tokenizer


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


# --- training methods ----------------------------------------------------------------------------------------------------------


def model_size(model: Any, wish: Wish) -> Size:
    """Trained weights and bytes of the result, before anything is put on the model.

    Raises:
        ValueError: the method and this model do not fit; with the remedy.
    """
    method = METHODS[wish.method]
    check_merges(model, wish.merge_first)
    method.check(model, wish)
    return method.size(model, wish)


def fit(model: Any, wish: Wish) -> Fitted:
    """Make a borrowed model trainable by a wish.

    Raises:
        ValueError: the method and this model do not fit; with the remedy.
    """
    METHODS[wish.method].check(model, wish)
    return _on_merged(model, wish, lambda: METHODS[wish.method].fit(model, wish))


def refit(model: Any, folder: Path, wish: Wish) -> Fitted:
    """Take up what was learned in a folder: an unfinished run (``wish.resuming``) bit-equal, or a finished result.

    Raises:
        ValueError: the folder's result does not fit this model or this method; with the remedy.
    """
    METHODS[wish.method].check(model, wish)
    return _on_merged(model, wish, lambda: METHODS[wish.method].refit(model, folder, wish))


def _on_merged(model: Any, wish: Wish, make: Callable[[], Fitted]) -> Fitted:
    """Fit a model into which adapters are merged before; both are undone in turn."""
    unmerge, notes = merge_adapters(model, wish.merge_first)
    try:
        fitted = make()
    except BaseException:
        unmerge()
        raise
    undo = fitted.undo

    def undo_all() -> None:
        undo()
        unmerge()

    fitted.undo, fitted.notes = undo_all, [*notes, *fitted.notes]
    return fitted


# --- facts -------------------------------------------------------------------------------------------------------------------


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
