"""How a LoRA begins: from nothing, or from the strongest directions of the weights, of the data, or of what 4 bits have lost.

What it does: PiSSA and OLoRA take a part out of the base weights and train it; the saved adapter is the difference that training made to
it, a plain LoRA of twice the rank on the original base. EVA takes the directions of the data, LoftQ those of the rounding error of a 4-bit
base; both leave the base alone.

Guarantee: base weights come back bit-equal; a checkpoint is the same kind of file as the result and holds what a bit-equal continuation
needs. Price: a copy of the changed weights in the computer's memory while PiSSA and OLoRA run; in 16-bit models taking the part out rounds
the rest once more, so that the result differs from what was trained by that rounding.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .keeping import Kept
from .wish import Wish

# name on the form -> what it is, for the form
INITIALISATIONS = {
    "default": "begins as no change at all.",
    "gaussian": "begins as no change, drawn from a bell curve.",
    "pissa": "begins with the strongest directions of the weights, learns faster.",
    "pissa fast": "nearly the same as pissa, in seconds.",
    "olora": "begins with orthogonal directions of the weights.",
    "eva": "begins with the directions of the data.",
    "loftq": "begins with what a 4-bit base has lost.",
}
PISSA_ITERATIONS = 16
EVA_BATCHES = 8
EVA_PASSES = 100
_ADAPTER = "default"


def initialise(peft_model: Any, wish: Wish, kept: Kept) -> None:
    """Give a fresh LoRA its beginning.

    Args:
        peft_model: with a fresh adapter, of the plain kind.
        wish: its ``initialisation``; EVA needs ``batches``.
        kept: takes copies of the base weights that are changed.

    Raises:
        ValueError: what an initialisation needs is not there.
    """
    kind = wish.initialisation
    if kind == "gaussian":
        for _, layer in lora_layers(peft_model):
            layer.reset_lora_parameters(_ADAPTER, "gaussian")
    elif kind in ("pissa", "pissa fast", "olora"):
        for _, layer in lora_layers(peft_model):
            _take_out(layer, kind, kept)
    elif kind == "eva":
        _eva(peft_model, wish)
    elif kind == "loftq":
        _loftq(peft_model)


def lora_layers(peft_model: Any) -> Iterator[tuple[str, Any]]:
    """Every LoRA layer, with its path in the file of the adapter."""
    from peft.tuners.lora import LoraLayer

    for path, module in peft_model.named_modules():
        if isinstance(module, LoraLayer):
            yield path, module


# --- a part of the base weights ------------------------------------------------------------------------------------------------


def _take_out(layer: Any, kind: str, kept: Kept) -> None:
    """Let the adapter begin as a part of the base weight, which loses it."""
    import torch

    weight = layer.get_base_layer().weight
    kept.keep(weight)
    with torch.no_grad():
        if kind == "olora":
            layer.olora_init(_ADAPTER)
        else:
            layer.pissa_init(_ADAPTER, "pissa" if kind == "pissa" else f"pissa_niter_{PISSA_ITERATIONS}")
    kept.put_back(weight)  # peft has taken the part out too, here or in a new tensor; ours is the same when a run goes on
    down, up = layer.lora_A[_ADAPTER].weight, layer.lora_B[_ADAPTER].weight
    down.data, up.data = down.data.float().contiguous(), up.data.float().contiguous()
    layer.taken_out = (down.data.clone(), up.data.clone())
    _subtract(layer)


def _subtract(layer: Any) -> None:
    import torch

    down, up = layer.taken_out
    weight = layer.get_base_layer().weight
    part = layer.scaling[_ADAPTER] * (up @ down)
    part = part.T if layer.fan_in_fan_out else part
    with torch.no_grad():
        weight.data.copy_((weight.data.float() - part).to(weight.dtype))


def put_differences(folder: Path, peft_model: Any) -> None:
    """Turn a saved adapter of a base that lost a part into a plain LoRA on the original base: (B A) - (B0 A0), of twice the rank."""
    import torch
    from safetensors.torch import load_file, save_file

    file = folder / "adapter_model.safetensors"
    tensors = load_file(file)
    for path, layer in lora_layers(peft_model):
        down, up = (entry.to("cpu") for entry in layer.taken_out)
        tensors[f"{path}.lora_A.weight"] = torch.cat([tensors[f"{path}.lora_A.weight"], down], dim=0)
        tensors[f"{path}.lora_B.weight"] = torch.cat([tensors[f"{path}.lora_B.weight"], -up], dim=1)
    save_file(tensors, file, metadata={"format": "pt"})
    path_of_config = folder / "adapter_config.json"
    config = json.loads(path_of_config.read_text(encoding="utf-8"))
    config["r"] *= 2
    config["lora_alpha"] *= 2**0.5 if config.get("use_rslora") else 2  # the same scale
    path_of_config.write_text(json.dumps(config, indent=2, sort_keys=True), encoding="utf-8")


def take_up_differences(peft_model: Any, folder: Path, kept: Kept) -> None:
    """The inverse, for going on: a fresh LoRA of the simple rank gets both halves back, and the base loses the same part.

    Raises:
        ValueError: the file is of another adapter.
    """
    from safetensors.torch import load_file

    tensors = load_file(folder / "adapter_model.safetensors")
    for path, layer in lora_layers(peft_model):
        down, up = layer.lora_A[_ADAPTER].weight, layer.lora_B[_ADAPTER].weight
        both_down, both_up = tensors.get(f"{path}.lora_A.weight"), tensors.get(f"{path}.lora_B.weight")
        rank = layer.r[_ADAPTER]
        if both_down is None or both_up is None or len(both_down) != 2 * rank:
            raise ValueError(
                f"If the name exists: the adapter in {folder} is not the one of this run ({path}). Choose 'replace'."
            )
        down.data, up.data = both_down[:rank].to(down.device), both_up[:, :rank].contiguous().to(up.device)
        layer.taken_out = (both_down[rank:].to(down.device), -both_up[:, rank:].contiguous().to(up.device))
        kept.keep(layer.get_base_layer().weight)
        _subtract(layer)


# --- directions of the data ----------------------------------------------------------------------------------------------------


class _TooFewDirections(ValueError):
    """The data do not settle on so many directions."""


class _Passes(list[Any]):
    """Batches that are gone through a limited number of times; peft would go on for ever."""

    left = EVA_PASSES

    def __iter__(self) -> Iterator[Any]:
        self.left -= 1
        if self.left < 0:
            raise _TooFewDirections
        return super().__iter__()


def _eva(peft_model: Any, wish: Wish) -> None:
    """peft's EVA with the same rank everywhere, so that the size stays what was shown."""
    from peft import EvaConfig, initialize_lora_eva_weights

    assert wish.batches, "EVA without data"
    batches = list(wish.batches(EVA_BATCHES))
    joined = _joined(batches, 2 * wish.rank)
    config = peft_model.peft_config[_ADAPTER]
    targets = config.target_modules
    config.init_lora_weights, config.eva_config = "eva", EvaConfig(rho=1.0)
    try:
        if not joined:
            raise _TooFewDirections
        initialize_lora_eva_weights(peft_model, _Passes(joined), gather_distributed_inputs=False, show_progress_bar=False)
    except _TooFewDirections as error:
        tokens = sum(_num_trained(batch) for batch in batches)
        raise ValueError(
            f"Initialisation eva: the first {tokens} trained tokens give too few directions for LoRA Rank {wish.rank}. "
            f"Lower the rank, raise True Batch Size, or choose default."
        ) from error
    # what is saved is a plain LoRA
    config.init_lora_weights, config.eva_config, config.target_modules = True, None, targets
    assert not config.rank_pattern, "EVA changed ranks"


def _num_trained(batch: dict[str, Any]) -> int:
    """Tokens that EVA looks at."""
    return int(((batch["labels"] != -100) & batch["attention_mask"].bool()).sum())


def _joined(batches: list[dict[str, Any]], least: int) -> list[dict[str, Any]]:
    """Batches put together until each has so many trained tokens; what is left over at the end goes with the last."""
    parts: list[list[dict[str, Any]]] = [[]]
    for batch in batches:
        if sum(map(_num_trained, parts[-1])) >= least:
            parts.append([])
        parts[-1].append(batch)
    if len(parts) > 1 and sum(map(_num_trained, parts[-1])) < least:
        parts[-2] += parts.pop()
    return [_stacked(part) for part in parts if sum(map(_num_trained, part)) >= least]


def _stacked(batches: list[dict[str, Any]]) -> dict[str, Any]:
    import torch

    longest = max(batch["input_ids"].shape[1] for batch in batches)
    fill = {"input_ids": 0, "attention_mask": 0, "labels": -100}

    def padded(name: str, tensor: Any) -> Any:
        return torch.nn.functional.pad(tensor, (0, longest - tensor.shape[1]), value=fill[name])

    return {name: torch.cat([padded(name, batch[name]) for batch in batches]) for name in fill}


# --- what 4 bits have lost -----------------------------------------------------------------------------------------------------


def _loftq(peft_model: Any) -> None:
    """The adapter begins as the best correction, of its rank, of the rounding error of each 4-bit weight.

    Unlike peft's own, it allows for the adapter's scale and runs on every device. Source: arXiv 2310.08659, one iteration on a base that is
    packed already.
    """
    import torch

    from .quantization import unpacked_weight

    base = peft_model.get_base_model()
    originals = _Originals(Path(str(base.config._name_or_path)))
    with torch.no_grad():
        for path, layer in lora_layers(peft_model):
            packed = layer.get_base_layer()
            weight = unpacked_weight(packed).float()
            lost = originals.weight(path.removeprefix("base_model.model.")).to(weight.device).float() - weight
            left, strengths, right = torch.linalg.svd(lost, full_matrices=False)
            rank = layer.r[_ADAPTER]
            root = (strengths[:rank] / layer.scaling[_ADAPTER]).sqrt()
            layer.lora_A[_ADAPTER].weight.data.copy_(root[:, None] * right[:rank])
            layer.lora_B[_ADAPTER].weight.data.copy_(left[:, :rank] * root)


class _Originals:
    """Single weights of a model's folder, read when they are asked for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        index = folder / "model.safetensors.index.json"
        self._files: dict[str, str] = {}
        if index.is_file():
            self._files = json.loads(index.read_text(encoding="utf-8"))["weight_map"]

    def weight(self, path: str) -> Any:
        """The weight of a linear layer.

        Raises:
            ValueError: it is not there in full precision.
        """
        from safetensors import SafetensorError, safe_open

        name = f"{path}.weight"
        try:
            with safe_open(str(self._folder / self._files.get(name, "model.safetensors")), framework="pt") as file:
                weight = file.get_tensor(name)
        except (OSError, SafetensorError) as error:
            raise ValueError(
                f"Initialisation loftq: it needs the model's own weights in {self._folder}, and {name} is not there ({error}). "
                f"Choose default, or load the model from its unquantized folder."
            ) from error
        if not weight.is_floating_point() or weight.dim() != 2:
            raise ValueError(
                f"Initialisation loftq: {name} in {self._folder} is packed already. Choose default, or load the model from its "
                f"unquantized folder."
            )
        return weight
