"""Bases with packed weights: which a model is, which can be trained, loading them, and keeping them as they are.

What it does: names the quantization of a loaded model, refuses what no adapter can be trained on, loads a folder in 4 or 8 bits through
bitsandbytes, spreads a model over devices, and unpacks single weights for whoever merges.

Guarantee: packed bytes and their scales are never written: not by training and, once :func:`keep_packed` was called, not by
bitsandbytes either, which on some CPUs rearranges (and rounds) them in the first answer, after which nothing can be trained.
Price: such a CPU answers by the slower, exact path.
"""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# name on the form -> what it is in words
QUANTIZATIONS = {
    "none": "",
    "nf4": "4-bit NF4 bitsandbytes",
    "fp4": "4-bit FP4 bitsandbytes",
    "int8": "8-bit bitsandbytes",
}
FOUR_BITS = ("nf4", "fp4")
COMPUTE_DTYPES = ("auto", "float32", "bfloat16", "float16")
BITSANDBYTES_DEVICES = ("cuda", "cpu", "xpu")
_METHOD_NAMES = {"gptq": "GPTQ", "awq": "AWQ", "hqq": "HQQ", "aqlm": "AQLM", "eetq": "EETQ", "torchao": "torchao", "fp8": "FP8"}
_GOOD_BASES = "Load it unquantized, or in 4 or 8 bits by bitsandbytes, to train on it."
_MEMORY = re.compile(r"\s*(cpu|\d+)\s*[:=]\s*(\d+(?:\.\d+)?)\s*(KiB|MiB|GiB|KB|MB|GB)\s*", re.IGNORECASE)
_UNITS = {"kib": 2**10, "mib": 2**20, "gib": 2**30, "kb": 10**3, "mb": 10**6, "gb": 10**9}


class CannotLoad(ValueError):
    """A wish for loading that this machine cannot follow; its text is for the user as it stands."""


@dataclass(frozen=True)
class Loading:
    """How the weights of a model folder come into memory.

    Attributes:
        dtype: ``auto`` or float32, bfloat16, float16: of the weights that are not packed.
        quantization: entry of :data:`QUANTIZATIONS`.
        double: also pack the scales of the 4-bit weights.
        compute_dtype: entry of :data:`COMPUTE_DTYPES`: what 4-bit weights are unpacked to.
        max_memory: entries for :func:`parse_memory`; empty = everything on one device.
    """

    dtype: str = "auto"
    quantization: str = "none"
    double: bool = True
    compute_dtype: str = "auto"
    max_memory: tuple[str, ...] = ()


# --- what a loaded model is ----------------------------------------------------------------------------------------------------


def is_quantized(model: Any) -> str:
    """How a model's weights are packed, in words; ``""`` for ordinary weights.

    Looks at the layers, since attributes and configs of models differ: ``4-bit NF4 bitsandbytes``, ``4-bit FP4 bitsandbytes``,
    ``8-bit bitsandbytes``, ``GPTQ``, ``AWQ``, ``HQQ``, ...
    """
    for module in model.modules():
        if bits := packed_bits(module):
            kind = f" {_kind_of(module).upper()}" if bits == 4 else ""
            return f"{bits}-bit{kind} bitsandbytes"
    method = _method(model)
    return _METHOD_NAMES.get(method, method)


def packed_bits(module: Any) -> int:
    """4 or 8 for a layer of bitsandbytes, else 0."""
    for kind in type(module).__mro__:
        if kind.__module__.startswith("bitsandbytes."):
            return {"Linear4bit": 4, "Linear8bitLt": 8}.get(kind.__name__, 0) or _bits_of_children(kind.__name__)
    return 0


def _bits_of_children(name: str) -> int:
    """LinearNF4 and LinearFP4 inherit from Linear4bit."""
    return 4 if name in ("LinearNF4", "LinearFP4") else 0


def _kind_of(module: Any) -> str:
    state = getattr(module.weight, "quant_state", None)
    return str(getattr(state, "quant_type", None) or getattr(module.weight, "quant_type", "nf4"))


def _method(model: Any) -> str:
    """transformers' name of the quantization; "" if there is none, or if the weights were unpacked again."""
    config = getattr(getattr(model, "config", None), "quantization_config", None)
    method = config.get("quant_method", "") if isinstance(config, dict) else getattr(config, "quant_method", "")
    name = str(getattr(method, "value", method) or "")
    return "" if name == "bitsandbytes" else name


def packed_layers(model: Any) -> Iterator[tuple[str, Any]]:
    """Path and module of every layer of bitsandbytes."""
    yield from ((path, module) for path, module in model.named_modules() if packed_bits(module))


def num_weights(parameter: Any) -> int:
    """Weights that a parameter stands for: a packed 4-bit one stores two in a byte."""
    state = getattr(parameter, "quant_state", None)
    shape = getattr(state, "shape", None)
    if shape is None:
        return int(parameter.numel())
    total = 1
    for size in shape:
        total *= int(size)
    return total


def compute_dtype_of(model: Any) -> str:
    """What 4-bit weights are unpacked to: float32, bfloat16 or float16; ``""`` for other models."""
    for module in model.modules():
        if packed_bits(module) == 4 and module.compute_dtype is not None:
            return str(module.compute_dtype).removeprefix("torch.")
    return ""


def unpacked_weight(module: Any) -> Any:
    """The weight (outputs, inputs) that a layer of bitsandbytes computes with; a new tensor.

    Raises:
        ValueError: the layer is none of bitsandbytes.
    """
    bits = packed_bits(module)
    if not bits:
        raise ValueError(f"Model: {type(module).__name__} has no packed weight to unpack.")
    import torch

    weight = module.weight
    if bits == 4:
        from bitsandbytes.functional import dequantize_4bit

        return dequantize_4bit(weight.data, weight.quant_state)
    # 8-bit layers move the scales from the weight to their own state when they are called
    scales = module.state.SCB if weight.SCB is None else weight.SCB
    packed = weight.data if weight.CB is None else weight.CB
    return packed.to(torch.float32) * scales.to(torch.float32).unsqueeze(1) / 127.0


# --- what can be trained on ----------------------------------------------------------------------------------------------------


def keep_packed(model: Any) -> None:
    """Make a model that a host gave trainable without changing its packed bytes; call it before the model is run.

    Raises:
        ValueError: its weights are packed in a way that no adapter can be trained on; with the remedy.
    """
    for path, module in packed_layers(model):
        if getattr(getattr(module.weight, "quant_state", None), "packing_format_for_cpu", False):
            raise ValueError(
                f"Model: bitsandbytes has rearranged the 4-bit weights of {path} for answering on this CPU; there are no gradients "
                f"through them, and they cannot be put back exactly. Reload the model, then train before it answers."
            )
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    _refuse_untrainable(model)


def _refuse_untrainable(model: Any) -> None:
    """Raise for packed weights through which transformers knows no gradient."""
    name = _METHOD_NAMES.get(_method(model), _method(model))
    quantizer = getattr(model, "hf_quantizer", None)
    if not name or quantizer is None:
        return
    try:
        trains, why = bool(quantizer.is_trainable), "there is no way back through its layers"
    except Exception as error:  # it looks for the versions of packages that may be missing
        trains, why = False, f"{type(error).__name__}: {error}"
    if not trains:
        raise ValueError(f"Model: it is quantized by {name}, which cannot be trained here ({why}). {_GOOD_BASES}")


def refuse_changing_base(model: Any, what: str) -> None:
    """Raise where a method that changes or copies base weights meets packed ones.

    Args:
        model: the base model.
        what: the method in the form's words, such as ``Method full``.
    """
    if words := is_quantized(model):
        raise ValueError(
            f"{what}: it changes the weights of the base, and those of this model are packed ({words}). "
            f"Load the model unquantized, or train a LoRA."
        )


# --- loading -------------------------------------------------------------------------------------------------------------------


def parse_memory(entries: Iterable[str]) -> dict[int | str, int]:
    """Memory per device from entries such as ``0: 10GiB`` or ``cpu: 24GiB``.

    Returns:
        Number of the GPU or ``cpu`` -> bytes.

    Raises:
        CannotLoad: an entry that cannot be read, or a device twice.
    """
    found: dict[int | str, int] = {}
    for entry in entries:
        match = _MEMORY.fullmatch(entry)
        if match is None:
            raise CannotLoad(
                f"Maximum memory: it cannot be read. Got: {entry!r}. Write a GPU's number or cpu, and a size: 0: 10GiB or cpu: 24GiB."
            )
        device: int | str = "cpu" if match[1].lower() == "cpu" else int(match[1])
        if device in found:
            raise CannotLoad(f"Maximum memory: {match[1]} is there twice. Got: {entry!r}. Write each device once.")
        found[device] = int(float(match[2]) * _UNITS[match[3].lower()])
    return found


def quantization_problem(quantization: str, device_type: str) -> str:
    """Why a quantization cannot be loaded here, with the remedy; "" if it can."""
    if quantization == "none":
        return ""
    words = QUANTIZATIONS[quantization]
    try:
        importlib.metadata.version("bitsandbytes")
    except importlib.metadata.PackageNotFoundError:
        return (
            f"Quantization: {words} needs the package bitsandbytes, which is not installed. Got: {quantization!r}. "
            f"Install it (pip install bitsandbytes), or choose none."
        )
    if device_type not in BITSANDBYTES_DEVICES:
        return (
            f"Quantization: {words} is not tried on {device_type}. Got: {quantization!r}. Choose none, "
            f"or a machine with an NVIDIA, AMD or Intel GPU, or the CPU."
        )
    return ""


def loading_arguments(loading: Loading, device_type: str, bf16_supported: bool) -> dict[str, Any]:
    """Arguments for ``from_pretrained`` beside the folder.

    Args:
        loading: the user's wish.
        device_type: cuda, cpu, mps, ...
        bf16_supported: whether the device computes in bfloat16 natively.

    Raises:
        CannotLoad: that cannot be loaded here; with the remedy.
    """
    import torch

    if problem := quantization_problem(loading.quantization, device_type):
        raise CannotLoad(problem)
    plain: Any = torch.float32 if device_type == "cpu" else "auto"
    arguments: dict[str, Any] = {"dtype": plain if loading.dtype == "auto" else getattr(torch, loading.dtype)}
    if memory := parse_memory(loading.max_memory):
        if device_type == "cuda" and not any(isinstance(device, int) for device in memory):
            raise CannotLoad("Maximum memory: no GPU is named, so nothing could be trained. Write for example 0: 10GiB.")
        arguments |= {"device_map": "auto", "max_memory": memory}
    elif loading.quantization != "none":
        arguments["device_map"] = {"": device_type}
    if loading.quantization != "none":
        arguments["quantization_config"] = _bitsandbytes_config(loading, device_type, bf16_supported)
    return arguments


def _bitsandbytes_config(loading: Loading, device_type: str, bf16_supported: bool) -> Any:
    import torch
    from transformers import BitsAndBytesConfig

    if loading.quantization == "int8":
        return BitsAndBytesConfig(load_in_8bit=True)
    fitting = "float32" if device_type == "cpu" else "bfloat16" if bf16_supported else "float16"
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=loading.quantization,
        bnb_4bit_use_double_quant=loading.double,
        bnb_4bit_compute_dtype=getattr(torch, fitting if loading.compute_dtype == "auto" else loading.compute_dtype),
    )


def load_model(folder: Path, loading: Loading, device_type: str) -> Any:
    """Load a causal language model from a folder, without any network.

    Raises:
        CannotLoad: it cannot be loaded so on this machine, or does not fit into the memory that was given.
        ValueError, OSError, RuntimeError, KeyError: what transformers says of a folder that is damaged.
    """
    import torch
    from transformers import AutoModelForCausalLM

    bf16 = device_type != "cuda" or torch.cuda.is_bf16_supported(including_emulation=False)
    arguments = loading_arguments(loading, device_type, bf16)
    try:
        model = AutoModelForCausalLM.from_pretrained(str(folder), local_files_only=True, **arguments)
    except ValueError as error:
        if "dispatched on the CPU or the disk" not in str(error):
            raise
        raise CannotLoad(_does_not_fit(loading)) from error
    if "device_map" not in arguments:
        model.to(torch.device(device_type))  # type: ignore[arg-type]
    elif any(parameter.device.type not in (device_type, "cuda") for parameter in model.parameters()):
        raise CannotLoad(_does_not_fit(loading))
    keep_packed(model)
    return model.eval()


def _does_not_fit(loading: Loading) -> str:
    given = ", ".join(loading.max_memory) or "all of it"
    return (
        f"Maximum memory: the model does not fit, so parts of it would lie on the CPU or the disk, where they cannot be trained. "
        f"Got: {given}. Give more, choose a smaller Quantization, or a smaller model."
    )
