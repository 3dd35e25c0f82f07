"""What the form shows of a loaded model: name, device, number format, modules."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .. import train_utils
from .engine import import_engine

_QUANTIZATION_NAMES = {words: name for name, words in train_utils.QUANTIZATIONS.items()}


def model_facts(model: Any, name: str) -> dict[str, Any]:
    """Facts for ui.host.Host.model_facts."""
    import_engine()
    return {
        "name": name,
        "device": str(next(model.parameters()).device),
        "dtype": train_utils.model_dtype_name(model),
        "modules": train_utils.linear_module_names(model),
        "context": train_utils.context_length(model),
        "num_parameters": train_utils.count_parameters(model)[1],
        "folder": _folder(model),
        "quantization": _QUANTIZATION_NAMES.get(train_utils.is_quantized(model), ""),
    }


def _folder(model: Any) -> str:
    """Where the model was read from; empty if that is no folder of this machine."""
    place = str(getattr(model, "name_or_path", "") or "")
    return str(Path(place).absolute()) if place and Path(place).is_dir() else ""
