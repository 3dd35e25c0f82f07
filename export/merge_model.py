"""Adapters of every kind merged through the loaded model, by their own layers.

What it does: loads the base on the CPU, unpacks it if bitsandbytes packed it, puts one adapter after the other on it and has
peft merge each layer in float32 (:func:`adapting.sift_apply.apply_sift` writes sparse increments), then saves.

Guarantee: an adapter of another model is refused, also where peft would only leave tensors out. Price: the model in memory in
the number format it is stored in (8-bit bases: in float32), and one layer in float32.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..adapting.loading import loading_errors
from ..adapting.quantization import is_quantized, load_model, packed_layers, unpacked_weight
from ..adapting.sift_apply import apply_sift
from ..train_utils import Loading, best_device, quiet_progress
from .adapter import Adapter, read_tensors
from .files import gigabytes, require_space
from .merge_files import fitting, is_packed

if TYPE_CHECKING:
    from .merge import Merged, MergeWish


def merge_model(wish: MergeWish, folder: Path) -> Merged:
    """Merge through the loaded model into a folder that has the base's small files.

    Raises:
        ValueError: an adapter does not belong to the base, no space is left, or numbers do not fit into the format.
    """
    import torch

    from .merge import Merged

    model = load_dense(wish.base, wish.loading)
    was_tied = is_tied(model)
    dtype = main_dtype(model) if wish.dtype == "auto" else getattr(torch, wish.dtype)
    for adapter in wish.adapters:
        model = merge_into(model, adapter, dtype if adapter is wish.adapter else None)
    is_untied = was_tied and not tie_if_equal(model)
    was_packed = wish.loading is not None or is_packed(wish.base)
    _round(model, dtype if wish.dtype != "auto" or was_packed else None)
    num_bytes = sum(tensor.numel() * tensor.element_size() for tensor in _distinct(model))
    require_space(folder, num_bytes)
    generation = folder / "generation_config.json"
    kept = generation.read_bytes() if generation.is_file() else None
    with quiet_progress():
        model.save_pretrained(str(folder), max_shard_size="1GB")
    if kept is not None:
        generation.write_bytes(kept)
    notes = ["Embedding and head are two tensors in the result, since the adapter made them different."] if is_untied else []
    name = str(dtype).removeprefix("torch.")
    return Merged(
        folder,
        name,
        0,
        f"the merge held the whole model in memory ({gigabytes(num_bytes)}, one layer in float32, and up to 1 GB while saving)",
        notes,
    )


# --- the base ------------------------------------------------------------------------------------------------------------------


def load_dense(base: Path, loading: Loading | None = None, dtype: Any = "auto") -> Any:
    """A base model with ordinary weights on the CPU.

    Args:
        base: its folder; weights that are stored packed by bitsandbytes are unpacked.
        loading: pack them like this first, to get the weights that the run had; None for the stored ones.
        dtype: number format to load in; auto = as stored.

    Raises:
        ValueError: it cannot be loaded, or is packed in another way.
    """
    from transformers import AutoModelForCausalLM

    try:
        with quiet_progress():
            if loading is not None:
                model: Any = load_model(base, loading, best_device())
            else:
                model = AutoModelForCausalLM.from_pretrained(str(base), dtype=dtype, local_files_only=True)
    except loading_errors() as error:
        raise ValueError(f"Base model: {base} cannot be loaded: {error} Choose a complete Hugging Face model folder.") from error
    unpack(model)
    return model.to("cpu").eval()


def unpack(model: Any) -> None:
    """Put ordinary layers in the place of those that bitsandbytes packed.

    Raises:
        ValueError: the weights are packed in another way (GPTQ, AWQ, ...).
    """
    import torch

    words = is_quantized(model)
    if not words:
        return
    if "bitsandbytes" not in words:
        raise ValueError(
            f"Base model: its weights are packed ({words}) in a way that cannot be unpacked here. Give the folder of the unpacked "
            f"model with --base."
        )
    for path, packed in list(packed_layers(model)):
        weight = unpacked_weight(packed).detach()
        layer = torch.nn.Linear(packed.in_features, packed.out_features, bias=False, device="meta")
        layer.weight = torch.nn.Parameter(weight, requires_grad=False)
        layer.bias = packed.bias
        model.set_submodule(path, layer)
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.hf_quantizer = None
    _forget_packing_on_saving(model)
    for name in ("is_quantized", "is_loaded_in_4bit", "is_loaded_in_8bit", "quantization_method"):
        if name in model.__dict__:
            delattr(model, name)


def _forget_packing_on_saving(model: Any) -> None:
    """transformers undoes on saving what it did on loading; packing is not to be done again."""
    kept = [
        step
        for step in getattr(model, "_weight_conversions", None) or []
        if not any(type(part).__module__.endswith(".bitsandbytes") for part in getattr(step, "operations", None) or [])
    ]
    if hasattr(model, "_weight_conversions"):
        model._weight_conversions = kept or None


def main_dtype(model: Any) -> Any:
    """The number format that a base was meant in: its config's, else that of its embedding."""
    import torch

    named = getattr(model.config, "dtype", None)
    return named if isinstance(named, torch.dtype) else model.get_input_embeddings().weight.dtype


# --- adapters ------------------------------------------------------------------------------------------------------------------


def merge_into(model: Any, adapter: Adapter, dtype: Any = None) -> Any:
    """Merge one adapter into a dense model.

    Args:
        model: changed in place.
        adapter: of any kind.
        dtype: each layer is rounded to it as soon as it is merged; None leaves it in float32 for a next adapter.

    Returns:
        The plain model.

    Raises:
        ValueError: the adapter does not belong to the model.
    """
    if adapter.method == "sift":
        apply_sift(model, adapter.folder)
        return model
    from peft.tuners.tuners_utils import BaseTunerLayer

    _separate(model, adapter)
    adapted = put_on(model, adapter)
    try:
        with quiet_peft():
            for path, layer in list(adapted.named_modules()):
                if isinstance(layer, BaseTunerLayer):
                    _merge_layer(path, layer, dtype)
            plain = adapted.merge_and_unload()  # what is merged already is only taken out of its wrapper
    except (RuntimeError, NotImplementedError, AttributeError) as error:
        raise ValueError(
            f"Adapter: {adapter.name!r} ({adapter.method}) cannot be merged: {error} Use it unmerged, with peft or in the WebUI."
        ) from error
    plain.__dict__.pop("peft_config", None)
    return plain


def _merge_layer(path: str, layer: Any, dtype: Any) -> None:
    """Merge one layer in float32, and round it."""
    import torch

    base = layer.get_base_layer()
    base.to(torch.float32)
    layer.merge(safe_merge=True)
    for name, weight in base.named_parameters(recurse=False):
        weight.data = weight.data if dtype is None else fitting(f"{path}.{name}", weight.data, dtype)


@contextmanager
def quiet_peft() -> Iterator[None]:
    """peft warns of what is looked after here: tied weights, layers that are merged already, tensors that are missing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def put_on(model: Any, adapter: Adapter) -> Any:
    """An adapter on a model, not merged.

    Raises:
        ValueError: it does not belong to the model.
    """
    from peft import PeftModel
    from peft.utils import get_peft_model_state_dict

    unfitting: tuple[type[Exception], ...] = (*loading_errors(), AttributeError, NotImplementedError, TypeError)
    try:
        with quiet_peft():
            adapted = PeftModel.from_pretrained(model, str(adapter.folder))
    except unfitting as error:
        raise ValueError(_other_model(adapter, str(error))) from error
    loaded = set(get_peft_model_state_dict(adapted, save_embedding_layers=False))
    saved = {name for name in read_tensors(adapter) if not name.endswith(".bias")}
    missing = sorted(name for name in saved - loaded if not _is_whole_vocabulary(name))
    lacking = sorted(name for name in loaded - saved if not name.endswith(".bias") and not _is_whole_vocabulary(name))
    if missing or lacking:
        words = f"the model has no place for {missing[0]}" if missing else f"the adapter has nothing for {lacking[0]}"
        raise ValueError(_other_model(adapter, f"{words} ({len(missing) + len(lacking)} such tensors)."))
    return adapted.eval()


def _separate(model: Any, adapter: Adapter) -> None:
    """Give the head a weight of its own where an adapter changes it or the embedding: merging into one would change the other."""
    import torch

    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    if head is not None and head.weight is embedding.weight and any(_is_vocabulary(name) for name in read_tensors(adapter)):
        head.weight = torch.nn.Parameter(embedding.weight.detach().clone(), requires_grad=False)


def _is_vocabulary(name: str) -> bool:
    return any(part in name for part in ("embed", "lm_head", "wte", "word_embeddings"))


def _is_whole_vocabulary(name: str) -> bool:
    """Embeddings and heads that peft saves beside an adapter and loads into the model itself."""
    return ".lora_" not in name and _is_vocabulary(name)


def _other_model(adapter: Adapter, words: str) -> str:
    base = adapter.config.get("base_model_name_or_path") or "another model"
    told = " ".join(words.split())[:600]
    return (
        f"Adapter: {adapter.name!r} does not belong to this base model: {told} It was trained on {base}; "
        f"give that model's folder with --base."
    )


# --- the result ----------------------------------------------------------------------------------------------------------------


def is_tied(model: Any) -> bool:
    """Whether embedding and head are one tensor."""
    head = model.get_output_embeddings()
    return head is not None and head.weight is model.get_input_embeddings().weight


def tie_if_equal(model: Any) -> bool:
    """Make embedding and head one again where they are equal, and tell the model that they are two where they are not.

    Returns:
        Whether they are one.
    """
    import torch

    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    if head.weight is not embedding.weight and torch.equal(head.weight.float(), embedding.weight.float()):
        head.weight = embedding.weight
    for part in {id(part): part for part in (model.config, model.config.get_text_config())}.values():
        part.tie_word_embeddings = head.weight is embedding.weight
    return head.weight is embedding.weight


def _distinct(model: Any) -> list[Any]:
    return list({id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}.values())


def _round(model: Any, dtype: Any) -> None:
    """All weights in one format, if one was asked for; the model's config says which."""
    if dtype is None:
        return
    for name, parameter in model.named_parameters():
        if parameter.is_floating_point() and parameter.dtype != dtype:
            parameter.data = fitting(name, parameter.data, dtype)
    model.config.dtype = dtype
