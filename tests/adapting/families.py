"""Tiny models of many families, with random weights: other names, fused projections, mixtures of experts."""

from __future__ import annotations

from typing import Any

SMALL = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "vocab_size": 40,
    "max_position_embeddings": 64,
}
EXPERTS = {**SMALL, "num_key_value_heads": 1}
FAMILIES: dict[str, dict[str, Any]] = {
    "Llama": SMALL,
    "Qwen2": {**SMALL, "num_key_value_heads": 1},
    "Qwen3": {**SMALL, "num_key_value_heads": 1, "head_dim": 8},
    "Gemma": {**SMALL, "head_dim": 8, "num_key_value_heads": 1},
    "Gemma2": {**SMALL, "head_dim": 8, "num_key_value_heads": 1},
    "Phi": SMALL,
    "Phi3": {**SMALL, "pad_token_id": 0},
    "GPTNeoX": SMALL,
    "GPT2": {"n_embd": 16, "n_layer": 2, "n_head": 2, "vocab_size": 40, "n_positions": 64},
    "GPTJ": {"n_embd": 16, "n_layer": 2, "n_head": 2, "vocab_size": 40, "n_positions": 64, "rotary_dim": 4},
    "Falcon": {**SMALL, "ffn_hidden_size": 32},
    "Bloom": {"hidden_size": 16, "n_layer": 2, "n_head": 2, "vocab_size": 40},
    "OPT": {**SMALL, "ffn_dim": 32, "word_embed_proj_dim": 16},
    "Starcoder2": {**SMALL, "num_key_value_heads": 1},
    "Mixtral": {**EXPERTS, "num_local_experts": 3, "num_experts_per_tok": 2},
    "Qwen3Moe": {**EXPERTS, "num_experts": 3, "num_experts_per_tok": 2, "moe_intermediate_size": 8, "head_dim": 8},
}
MIXTURES = ("Mixtral", "Qwen3Moe")


def config(name: str, **changes: Any) -> Any:
    """Configuration of a family."""
    import transformers

    return getattr(transformers, f"{name}Config")(**{**FAMILIES[name], **changes})


def make(name: str, seed: int = 0, **changes: Any) -> Any:
    """A tiny model of a family."""
    import torch
    import transformers

    torch.manual_seed(seed)
    return transformers.AutoModelForCausalLM.from_config(config(name, **changes)).eval()


def empty(name: str, **changes: Any) -> Any:
    """The same without filling its weights."""
    import torch
    import transformers

    with torch.device("meta"):
        return transformers.AutoModelForCausalLM.from_config(config(name, **changes))


def logits(model: Any) -> Any:
    """Of a fixed text, in evaluation mode."""
    import torch

    was_training = model.training
    model.eval()
    with torch.no_grad():
        found = model(input_ids=torch.arange(4, 24).view(2, 10), use_cache=False).logits
    model.train(was_training)
    return found


def train(model: Any, steps: int = 3, rate: float = 0.05) -> None:
    """A few steps of Adam on a fixed text."""
    import torch

    ids = torch.arange(4, 24).view(2, 10)
    optimizer = torch.optim.AdamW([weight for weight in model.parameters() if weight.requires_grad], lr=rate)
    model.train()
    for _ in range(steps):
        optimizer.zero_grad()
        model(input_ids=ids, labels=ids, use_cache=False).loss.backward()
        optimizer.step()
    model.eval()
