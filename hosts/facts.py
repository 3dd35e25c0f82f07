"""What the form shows of a loaded model: name, device, number format, modules."""

from __future__ import annotations

from typing import Any

from .. import train_utils
from .engine import import_engine


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
    }
