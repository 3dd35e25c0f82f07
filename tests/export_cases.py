"""Bases and adapters with random weights, in folders, for the tests of what comes after a run."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import architectures
import tiny
import torch

IDS = torch.tensor([[5, 40, 41, 42, 7, 3, 60, 61, 19, 100]])


def tiny_base(folder: Path, dtype: Any = torch.float32, **changes: Any) -> Path:
    """The tiny Llama with its tokenizer."""
    tiny.model(**changes).to(dtype).save_pretrained(folder)
    tiny.fresh_tokenizer().save_pretrained(folder)
    return folder


def family_base(folder: Path, name: str, **changes: Any) -> Path:
    """A tiny model of an architecture, whose norms and biases are random too."""
    model = architectures.make(name, **changes)
    draw = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=draw)
            parameter.add_(0.1 * noise) if parameter.dim() == 1 else parameter.copy_(0.15 * noise)
    model.save_pretrained(folder)
    return folder


def load(folder: Path, dtype: Any = torch.float32) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()


def adapter(folder: Path, base: Path, config: Any, strength: float = 0.1, seed: int = 1) -> Path:
    """An adapter of a kind whose weights are random, saved as peft does; ``strength`` = 0 changes nothing."""
    from peft import get_peft_model

    adapted = get_peft_model(load(base), copy.deepcopy(config))
    draw = torch.Generator().manual_seed(seed)
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            parameter.data.add_(strength * torch.randn(parameter.shape, generator=draw))
    adapted.save_pretrained(folder, save_embedding_layers=False)
    return folder


def lora(targets: Sequence[str] | str = "all-linear", **changes: Any) -> Any:
    from peft import LoraConfig

    chosen = targets if isinstance(targets, str) else list(targets)
    return LoraConfig(**{"r": 4, "lora_alpha": 8, "target_modules": chosen, "task_type": "CAUSAL_LM", **changes})


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(input_ids=IDS).logits[0].float()
    return found


def adapted_logits(base: Path, folder: Path) -> torch.Tensor:
    """What peft's own loading of an unmerged adapter answers."""
    from peft import PeftModel

    return logits(PeftModel.from_pretrained(load(base), folder).eval())


def of_run(folder: Path, **sections: dict[str, Any]) -> Path:
    """Beside an adapter, the settings of the run that it came from."""
    (folder / "training_parameters.json").write_text(json.dumps(sections), encoding="utf-8")
    return folder
