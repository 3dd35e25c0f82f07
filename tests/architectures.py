"""Tiny models of many architectures with random weights, made from their configs."""

from __future__ import annotations

from functools import cache
from typing import Any

_SIZES = {
    **{"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2},
    **{"vocab_size": 120, "max_position_embeddings": 256, "head_dim": 8, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2},
    **{"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 256, "ffn_dim": 64, "word_embed_proj_dim": 32, "rotary_dim": 8},
    **{"num_local_experts": 4, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "sliding_window": 9},
    **{"n_heads": 4, "n_layers": 2, "d_model": 32, "attn_pdrop": 0.0, "resid_pdrop": 0.0, "embd_pdrop": 0.0, "dropout": 0.0},
    **{"hidden_dropout": 0.0, "attention_dropout": 0.0, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0},
}
_LAYERS = ["sliding_attention", "full_attention"]
_LINEAR = {"linear_num_value_heads": 4, "linear_num_key_heads": 2, "linear_key_head_dim": 8, "linear_value_head_dim": 8}
_OWN: dict[str, dict[str, Any]] = {
    "gemma2": {"query_pre_attn_scalar": 8, "layer_types": _LAYERS},
    "gemma3_text": {"query_pre_attn_scalar": 8, "layer_types": _LAYERS},
    "gpt_neo": {"num_layers": 2, "attention_types": [[["global", "local"], 1]], "num_heads": 4, "window_size": 9},
    "qwen3_next": {"layer_types": ["linear_attention", "full_attention"], **_LINEAR},
    "lfm2": {"layer_types": ["conv", "full_attention"]},
    "mpt": {"expansion_ratio": 2},
}

# architecture -> the layout that packs take on a CPU; "" where it differs between releases of transformers
LAYOUTS = {
    **dict.fromkeys(("llama", "mistral", "mixtral", "qwen2", "qwen3", "qwen3_moe", "gemma", "gemma2", "gemma3_text"), "flat"),
    **dict.fromkeys(
        ("phi", "phi3", "gpt2", "gpt_neox", "gpt_bigcode", "opt", "stablelm", "starcoder2", "olmo2", "cohere"), "flat"
    ),
    **dict.fromkeys(("granite", "smollm3", "gpt_oss", "glm4"), "flat"),
    **dict.fromkeys(("gpt_neo", "gptj", "codegen"), "masked"),
    **dict.fromkeys(("falcon", "bloom", "mpt", "qwen3_next", "lfm2", "mamba"), "padded"),
    "nemotron": "",
}


def make(name: str, own: str = "", dtype: Any = None, **changes: Any) -> Any:
    """A model in evaluation mode.

    Args:
        name: of its config in transformers, as in :data:`LAYOUTS`.
        own: attention that it is loaded with; "" = its default.
        dtype: of its weights; None = float32.
        **changes: of its config.
    """
    import torch
    from transformers import AutoModelForCausalLM

    config = _config(name, tuple(sorted(changes.items())))
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, **({"attn_implementation": own} if own else {}))
    return model.to(dtype or torch.float32).eval()


@cache
def _known(name: str) -> frozenset[str]:
    from transformers import AutoConfig

    default = AutoConfig.for_model(name)
    return frozenset(default.to_dict()) | frozenset(default.attribute_map)


def _config(name: str, changes: tuple[tuple[str, Any], ...]) -> Any:
    from transformers import AutoConfig

    sizes = {key: value for key, value in _SIZES.items() if key in _known(name)}
    return AutoConfig.for_model(name, **{**sizes, **_OWN.get(name, {}), **dict(changes)})
