"""A finished sparse increment and its base: put on, taken off, merged into a model of its own.

What it does: :func:`apply_sift` writes the trained components into a loaded base; :meth:`AppliedSift.remove` puts back what was there (the
handle keeps it: the base's own values, k for each weight, in its number format); :func:`merge_sift` writes the result as an ordinary model
folder.

Guarantee: before anything is changed, every weight is compared with what the increment was trained on, so a wrong base, or one that has
the increment already, is refused whole; afterwards the base is equal to the last bit. Price: two passes over the file, and on a base in a
smaller number format than the values the rounding that a merged model of that format has.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .sift_files import SiftFile, matches, read_sift


@dataclass
class AppliedSift:
    """An increment that is on a model; :meth:`remove` takes it off.

    Attributes:
        model: the base with the trained components in it.
        file: the increment.
    """

    model: Any
    file: SiftFile
    _kept: list[tuple[Any, Any, Any, Any]] = field(default_factory=list)  # weight, indices, original and written values

    @property
    def num_components(self) -> int:
        """Components that it changed (or could have changed)."""
        return sum(len(indices) for _, indices, _, _ in self._kept)

    def remove(self) -> None:
        """Give the base back to the last bit. May be called again.

        Raises:
            ValueError: somebody else has changed the components since; nothing is touched then.
        """
        import torch

        from .sift_weights import put_at, take_at

        for weight, indices, _, written in self._kept:
            if not torch.equal(take_at(weight.detach(), indices), written):
                raise ValueError(
                    "The SIFT result cannot be taken off: the model was changed after it was put on. Take off first what came later, "
                    "or load the model again."
                )
        for weight, indices, originals, _ in self._kept:
            put_at(weight, indices, originals)
        self._kept = []


def refuse_quantized(model: Any) -> None:
    """Raise unless the model's weights are plain numbers on a device.

    Raises:
        ValueError: quantized (4-bit, 8-bit or any other way), or kept elsewhere; with the reason.
    """
    quantization = getattr(getattr(model, "config", None), "quantization_config", None)
    kind = getattr(quantization, "quant_method", None) or (quantization or {}).get("quant_method") if quantization else None
    if quantization is not None or getattr(model, "is_quantized", False) or getattr(model, "hf_quantizer", None) is not None:
        named = str(getattr(kind, "value", kind) or "quantized")
        raise ValueError(
            f"Method: SIFT changes single components of the weights, and packed weights ({named}) have none. "
            f"Got: a quantized model. Load the model without quantization (no 4-bit, no 8-bit), or choose LoRA."
        )
    packed = next((name for name, parameter in model.named_parameters() if not parameter.is_floating_point()), "")
    if packed:
        raise ValueError(
            f"Method: SIFT needs floating-point weights, and {packed} is packed. Load the model without quantization."
        )
    away = next((name for name, parameter in model.named_parameters() if parameter.device.type == "meta"), "")
    if away:
        raise ValueError(
            f"Method: SIFT changes weights where they are, and {away} is kept on disk or in main memory until it is used. "
            f"Load the model without offloading, or choose LoRA."
        )


def check_base(model: Any, file: SiftFile) -> dict[str, Any]:
    """The base's parameters of an increment, by name; none is changed.

    Raises:
        ValueError: the base is not the one that the increment was trained on.
    """
    from .sift_weights import take_at

    refuse_quantized(model)
    parameters = dict(model.named_parameters())
    found: dict[str, Any] = {}
    for name in file.names:
        parameter, shape = parameters.get(name), file.weight(name)["shape"]
        if parameter is None or list(parameter.shape) != shape:
            has = "it has none of that name" if parameter is None else f"its shape is {list(parameter.shape)}"
            raise ValueError(f"{_wrong(file)}: {name} should have the shape {shape}, {has}. {_remedy(file)}")
        found[name] = parameter
    for name, indices, _ in file.tensors():
        parameter = found[name]
        if not matches(take_at(parameter.detach(), indices.to(parameter.device)), file.weight(name)["base"]):
            raise ValueError(
                f"{_wrong(file)}: {name} has other values than the model that it was trained on, or the result is on it already. "
                f"{_remedy(file)}"
            )
    return found


def _wrong(file: SiftFile) -> str:
    return f"The SIFT result in {file.folder} does not belong to this model"


def _remedy(file: SiftFile) -> str:
    base, merged = file.config.get("base_model") or "its base", file.config.get("merged_before")
    if merged:
        return f"Load {base}, and merge what was merged into it before the training ({', '.join(merged)})."
    return f"Load {base}, without any adapter or earlier result on it."


def apply_sift(model: Any, folder: Path) -> AppliedSift:
    """Put an increment on its base.

    Args:
        model: the loaded base, dense, in any of the number formats float32, bfloat16 and float16.
        folder: with ``sift.safetensors`` and ``sift_config.json``.

    Returns:
        What takes it off again.

    Raises:
        ValueError: no increment, quantized, or another base; the model is untouched then.
    """
    from .sift_weights import put_at, take_at

    file = read_sift(folder)
    found = check_base(model, file)
    applied = AppliedSift(model, file)
    for name, indices, values in file.tensors():
        weight = found[name]
        place = indices.to(weight.device)
        originals = take_at(weight.detach(), place)
        put_at(weight, place, values.to(weight.device))
        applied._kept.append((weight, place, originals, take_at(weight.detach(), place)))
    return applied


def merge_sift(model: Any, tokenizer: Any, folder: Path, target: Path) -> Path:
    """Write base and increment as one ordinary model folder: safetensors, config, tokenizer.

    Args:
        model: the loaded base; given back to the last bit, whatever happens.
        tokenizer: saved beside it; None leaves it out.
        folder: of the increment.
        target: of the merged model; must not exist.

    Raises:
        ValueError: ``target`` exists, or :func:`apply_sift` refuses.
    """
    target = Path(target)
    if target.exists():
        raise ValueError(
            f"The merged model would go to {target}, and that exists already. Choose another folder, or move it away."
        )
    temporary = target.with_name(f".{target.name}.saving")
    shutil.rmtree(temporary, ignore_errors=True)
    applied = apply_sift(model, folder)
    try:
        model.save_pretrained(str(temporary))
        if tokenizer is not None:
            tokenizer.save_pretrained(str(temporary))
        temporary.replace(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        applied.remove()
    return target


def merge_sift_folder(base: Path, folder: Path, target: Path, dtype: str = "auto") -> Path:
    """:func:`merge_sift` of a base on disk.

    Args:
        base: folder of the base model.
        folder: of the increment.
        target: of the merged model; must not exist.
        dtype: number format of the merged model: auto (as the base is stored), float32, bfloat16 or float16.
    """
    import torch
    from transformers import AutoModelForCausalLM

    from ..train_utils import load_tokenizer, quiet_progress
    from .lora import loading_errors

    tokenizer = load_tokenizer(base)
    chosen: Any = dtype if dtype == "auto" else getattr(torch, dtype)
    try:
        with quiet_progress():
            model = AutoModelForCausalLM.from_pretrained(str(base), dtype=chosen, local_files_only=True)
    except loading_errors() as error:
        raise ValueError(f"Model: {base} cannot be loaded: {error} Choose a complete Hugging Face model folder.") from error
    return merge_sift(model, tokenizer, folder, target)
