"""Sizes of a model that decide how much memory a step takes, read from its config and its modules.

Guarantee: the common decoders (Llama, Mistral, Qwen, Gemma, GPT-2, Phi, NeoX and their kin) are read as they are; of others the parts that
are known count. Price: one walk over the modules.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

_IN_LAYER = re.compile(r"(?:^|\.)(\d+)\.")


def text_config(model: Any) -> Any:
    """The config of the decoder."""
    return model.config.get_text_config() if hasattr(model.config, "get_text_config") else model.config


@dataclass(frozen=True)
class ModelShape:
    """Sizes of a decoder; counts are per layer.

    Attributes:
        hidden: size of the residual stream.
        layers: how many.
        heads: attention heads.
        queries: size of all queries of a token.
        keys: size of all its keys; as many values.
        inner: width of the MLP that a token goes through (all its experts together).
        experts: experts that a token goes through; 0 = a plain MLP.
        is_gated: the MLP multiplies two projections.
        norms: normalisations of the residual stream.
        has_head_norms: queries and keys are normalised too.
        has_float_norms: normalisations are written out in float32 (RMSNorm), not torch's own.
        softcap: attention scores are bent, which takes tables of them.
        vocabulary: words.
        rotary: size of a head's rotary positions; 0 = none.
        tied: the head is the input embeddings.
    """

    hidden: int
    layers: int
    heads: int
    queries: int
    keys: int
    inner: int
    experts: int
    is_gated: bool
    norms: float
    has_head_norms: bool
    has_float_norms: bool
    softcap: bool
    vocabulary: int
    rotary: int
    tied: bool

    @classmethod
    def of(cls, model: Any) -> ModelShape:
        """Of a loaded model, with or without an adapter."""
        config = text_config(model)
        hidden, layers = (
            _number(config, "hidden_size", "n_embd", "d_model"),
            max(1, _number(config, "num_hidden_layers", "n_layer")),
        )
        heads = max(1, _number(config, "num_attention_heads", "n_head"))
        size = _number(config, "head_dim") or hidden // heads
        experts = _number(config, "num_experts_per_tok")
        inner = _number(config, "intermediate_size", "n_inner", "ffn_dim", "ffn_hidden_size") or 4 * hidden
        if experts:
            shared = _number(config, "shared_expert_intermediate_size")
            inner = experts * (_number(config, "moe_intermediate_size") or inner) + shared
        norms = [module for _, module in layer_modules(model) if _is_norm(module)]
        return cls(
            hidden=hidden,
            layers=layers,
            heads=heads,
            queries=heads * size,
            keys=(_number(config, "num_key_value_heads") or heads) * size,
            inner=inner,
            experts=experts,
            is_gated=bool(experts) or _is_gated(model, inner, layers),
            norms=sum(len(module.weight) == hidden for module in norms) / layers if norms else 2.0,
            has_head_norms=any(len(module.weight) == size != hidden for module in norms),
            has_float_norms=not any(type(module).__name__ == "LayerNorm" for module in norms),
            softcap=bool(getattr(config, "attn_logit_softcapping", None)),
            vocabulary=_number(config, "vocab_size"),
            rotary=size if not hasattr(config, "n_positions") else 0,
            tied=_is_tied(model),
        )


def _number(config: Any, *names: str) -> int:
    """The first of these that the config has as a number; 0 if none."""
    values = (getattr(config, name, None) for name in names)
    return next((int(value) for value in values if isinstance(value, (int, float)) and value), 0)


def _is_norm(module: Any) -> bool:
    weight = getattr(module, "weight", None)
    return weight is not None and getattr(weight, "ndim", 0) == 1 and "norm" in type(module).__name__.lower()


def _is_tied(model: Any) -> bool:
    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    return head is not None and getattr(head, "weight", None) is getattr(model.get_input_embeddings(), "weight", 0)


def _is_gated(model: Any, inner: int, layers: int) -> bool:
    outputs = [sizes[1] for _, sizes in layer_linears(model) if sizes[1] in (inner, 2 * inner)]
    return sum(outputs) >= 2 * inner * layers


def layer_modules(model: Any) -> Iterator[tuple[str, Any]]:
    """Modules inside the numbered layers, with their paths; without those of peft."""
    for path, module in model.named_modules():
        if _IN_LAYER.search(path) and "lora_" not in path and not path.endswith(".base_layer"):
            yield path, module


def layer_linears(model: Any) -> Iterator[tuple[str, tuple[int, int]]]:
    """Paths of the linear layers inside the layers, with sizes of what comes in and goes out."""
    for path, module in layer_modules(model):
        weight = getattr(module, "weight", None)
        if hasattr(module, "in_features"):
            yield path, (int(module.in_features), int(module.out_features))
        elif type(module).__name__ == "Conv1D" and weight is not None:
            yield path, (int(weight.shape[0]), int(weight.shape[1]))


class KeptInputs(NamedTuple):
    """Numbers a token that linear layers keep of what comes in, over all layers of the model.

    Attributes:
        single: a copy for each linear layer.
        shared: a copy for those that have the same input.
        attention: part of ``shared`` that attention gave, and keeps already where it is not copied.
    """

    single: int
    shared: int
    attention: int


def kept_inputs(model: Any, paths: Iterable[str] | None = None) -> KeptInputs:
    """What linear layers keep; of those of one module all but the last (queries, keys, values; gate, up) share their input.

    Args:
        paths: of the layers that keep it; None = all.
    """
    chosen = None if paths is None else set(paths)
    families: dict[str, list[tuple[str, int]]] = {}
    for path, (size, _) in layer_linears(model):
        families.setdefault(path.rpartition(".")[0], []).append((path, size))
    single = shared = attention = 0
    for parent, members in families.items():
        keeping = [(number, size) for number, (path, size) in enumerate(members) if chosen is None or path in chosen]
        single += sum(size for _, size in keeping)
        last = len(members) - 1
        shared += max((size for number, size in keeping if number < last), default=0)
        behind = sum(size for number, size in keeping if number == last)
        shared += behind
        attention += behind * ("attn" in parent or "attention" in parent)
    return KeptInputs(single, shared, attention)
