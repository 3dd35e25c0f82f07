"""Device and cache helpers."""

import gc

import torch
from modules import shared


def get_device():
    """The loaded model's device, else an accelerator, else None."""
    if hasattr(shared.model, "device"):
        return shared.model.device
    return torch.device("cuda") if torch.cuda.is_available() else None


def clear_torch_cache():
    """Give freed memory back to the accelerator."""
    gc.collect()
    if not shared.args.cpu and torch.cuda.is_available():
        torch.cuda.empty_cache()
