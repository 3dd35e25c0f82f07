"""How much memory a run will need, from the model's own shapes. An estimate for orientation, made before anything is allocated."""

from __future__ import annotations

from typing import Any

ADAM_STATES = {"adamw_torch": 2, "adamw_torch_fused": 2, "adafactor": 0, "sgd": 0}


def adapter_parameters(model: Any, targets: list[str], rank: int) -> int:
    """Weights of a LoRA on the given modules: rank x (inputs + outputs) of each."""
    total = 0
    for path, module in model.named_modules():
        name = path.rsplit(".", 1)[-1]
        weight = getattr(module, "weight", None)
        if weight is None or not (name in targets or path in targets):
            continue
        inputs = getattr(module, "in_features", None) or weight.shape[0]
        outputs = getattr(module, "out_features", None) or weight.shape[-1]
        total += rank * (int(inputs) + int(outputs))
    return total


def estimate_memory(
    model: Any, *, num_trained: int, batch_size: int, longest: int, optimizer: str, checkpointing: bool
) -> dict[str, int]:
    """Bytes by part.

    Args:
        model: the loaded base model.
        num_trained: trained weights (kept in float32).
        batch_size: samples at once.
        longest: longest sample, in tokens.
        optimizer: name of train_utils.OPTIMIZERS.
        checkpointing: gradient checkpointing is on.

    Returns:
        weights, adapter, gradients, optimizer, activations, total; and available, if the device says.
    """
    config = model.config.get_text_config() if hasattr(model.config, "get_text_config") else model.config
    hidden, layers = int(getattr(config, "hidden_size", 0) or 0), int(getattr(config, "num_hidden_layers", 0) or 0)
    inner = int(getattr(config, "intermediate_size", 0) or 4 * hidden)
    vocabulary = int(getattr(config, "vocab_size", 0) or 0)
    weights = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    size = 4 if next(model.parameters()).device.type == "cpu" else 2
    tokens = batch_size * longest
    per_layer = hidden * size if checkpointing else (10 * hidden + 4 * inner) * size
    activations = tokens * (layers * per_layer + 3 * vocabulary * 4)
    parts = {
        "weights": weights,
        "adapter": 4 * num_trained,
        "gradients": 4 * num_trained,
        "optimizer": 4 * num_trained * ADAM_STATES.get(optimizer, 2),
        "activations": activations,
    }
    return {**parts, "total": sum(parts.values()), **_available(model)}


def _available(model: Any) -> dict[str, int]:
    import psutil
    import torch

    device = next(model.parameters()).device
    if device.type == "cuda":
        return {"available": int(torch.cuda.mem_get_info(device)[0]) + int(torch.cuda.memory_allocated(device))}
    return {"available": int(psutil.virtual_memory().available)}
