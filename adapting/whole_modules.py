"""Output head and input embeddings that are trained whole, beside an adapter.

What it does: names them for peft's ``modules_to_save``, and trains their copies in float32 where the base is in 16 bits.

Guarantee: weights that a model shares between head and embeddings stay shared, while it trains; the saved file has them in both
places, so that plain peft loads it to equal logits. Price: a copy of these weights with gradient and optimizer states, and a file that is larger by them: for small
adapters they are nearly all of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .wish import Size, Wish

FLOAT_BYTES = 4


@dataclass(frozen=True)
class WholeModules:
    """What is trained whole.

    Attributes:
        names: leaf names for peft.
        weights: what is trained, each once.
        are_tied: the model shares one weight between head and embeddings.
        saved: how often a weight stands in the file.
    """

    names: tuple[str, ...]
    weights: tuple[Any, ...]
    are_tied: bool
    saved: int


def whole_modules(model: Any, wish: Wish) -> WholeModules | None:
    """The modules that a wish means on this model; None if it wants none or the model names none."""
    if not (wish.train_head or wish.train_embeddings):
        return None
    head, embeddings = model.get_output_embeddings(), model.get_input_embeddings()
    if head is not None and embeddings is not None and head.weight is embeddings.weight:
        return WholeModules((_leaf(model, embeddings), _leaf(model, head)), (embeddings.weight,), True, 2)
    chosen = [embeddings] if wish.train_embeddings else []
    chosen += [head] if wish.train_head else []
    if not chosen or any(module is None for module in chosen):
        return None
    weights = tuple(weight for module in chosen for weight in module.parameters())
    return WholeModules(tuple(_leaf(model, module) for module in chosen), weights, False, 1)


def _leaf(model: Any, wanted: Any) -> str:
    return next(path for path, module in model.named_modules() if module is wanted).rsplit(".", 1)[-1]


def whole_size(model: Any, wish: Wish) -> Size:
    """What they add to an adapter, and that in words."""
    modules = whole_modules(model, wish)
    if not modules:
        return Size(0, 0)
    count = sum(weight.numel() for weight in modules.weights)
    num_bytes = FLOAT_BYTES * count * modules.saved
    what = " and ".join(modules.names)
    words = (
        f"Train head and embeddings: {what} adds {count:,} trained weights, and {num_bytes / 1e6:,.1f} MB to the adapter's file."
    )
    if modules.are_tied:
        words += " Head and embeddings are one weight in this model, so both are trained together."
    return Size(count, num_bytes, (words,))


# --- training them in float32 --------------------------------------------------------------------------------------------------


def prepare_whole(peft_model: Any, folder: Path | None = None) -> None:
    """Let copies share what the model shares, and make 16-bit ones float32.

    peft's own ``ensure_weight_tying`` knows modules of two names only. In bfloat16 smaller steps than 1/256 of a weight would vanish.

    Args:
        peft_model: with ``modules_to_save``.
        folder: of the adapter that was loaded into it; read again, since loading has rounded.
    """
    import torch

    stored = _read(folder) if folder is not None and any(True for _ in _copies(peft_model)) else {}
    shared: dict[int, Any] = {}
    for path, original, module in _copies(peft_model):
        computed = original.weight.dtype
        if computed in (torch.float16, torch.bfloat16):
            module.weight.data = module.weight.data.float()
            if stored:
                module.weight.data.copy_(stored[f"{path}.weight"])
            _bridge(module, computed)
        first = shared.setdefault(id(original.weight), module.weight)
        if torch.equal(first, module.weight):  # an adapter from elsewhere may have trained them apart
            module.weight = first


def _copies(peft_model: Any) -> Iterator[tuple[str, Any, Any]]:
    """Path in the file, original module and trained copy of each."""
    from peft.utils.other import ModulesToSaveWrapper

    for path, module in peft_model.named_modules():
        if isinstance(module, ModulesToSaveWrapper):
            yield path, module.original_module, module.modules_to_save["default"]


def _bridge(module: Any, dtype: Any) -> None:
    """Embeddings give on what the model computes with; a head takes it."""
    import torch

    if isinstance(module, torch.nn.Embedding):
        module.register_forward_hook(lambda module, args, output: output.to(dtype))
    else:
        module.register_forward_pre_hook(lambda module, args: (args[0].to(module.weight.dtype), *args[1:]))


def _read(folder: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return load_file(folder / "adapter_model.safetensors")
