"""Attention per segment, put into a loaded model for the time of a training step.

What it does: registers an attention function and its mask function with transformers, and points the decoder's config at them during
a step. Cumulative lengths reach the function through this object, so models need not pass them on, and gradient checkpointing,
which computes a layer again in the backward pass, finds those of its batch.

Guarantee: a request that is not known to be exact raises :class:`NotExactError`; nothing is computed without segments, and a padding
mask is never dropped. Outside :meth:`SegmentAttention.on` the model has its own implementation: evaluation and generation use that.
Price: one batch at a time; forward and backward pass of a batch lie in one ``with``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from .segments import Rules, Segments, attend

# what models hand to every attention function and what changes nothing here, whatever its value
_HARMLESS = frozenset(
    ("position_ids", "cache_position", "use_cache", "past_key_values", "past_key_value", "position_embeddings")
    + ("output_attentions", "output_hidden_states", "output_router_logits", "return_dict", "training", "layer_idx")
    + ("target_dtype", "deterministic", "implementation", "labels", "mm_token_type_ids", "logits_to_keep")
)


class NotExactError(Exception):
    """The model asks for something that attention per segment does not do exactly; the words go to the user."""


class SegmentAttention:
    """Attention per segment for one model.

    Args:
        model: the model, also one wrapped by peft.
        kernel: name in segments.KERNELS.
    """

    def __init__(self, model: Any, kernel: str) -> None:
        self.kernel = kernel
        self.name = f"training_pro_segments_{id(self):x}"
        self.num_calls = 0
        self._configs = attention_configs(model)
        self._own = [config._attn_implementation for config in self._configs]
        self._segments: Segments | None = None

    # --- switching -------------------------------------------------------------------------------------------------------------

    @contextmanager
    def on(self) -> Iterator[None]:
        """The model attends per segment inside, and by itself afterwards; needs :meth:`begin` before each forward pass."""
        from transformers import AttentionInterface, AttentionMaskInterface

        # without an entry of that name for masks, transformers drops padding masks without a word
        AttentionInterface.register(self.name, self._attend)
        AttentionMaskInterface.register(self.name, self._mask)
        try:
            self._point_at([self.name] * len(self._configs))
            yield
        finally:
            self._point_at(self._own)
            self._segments = None
            for interface in (AttentionInterface, AttentionMaskInterface):
                interface._global_mapping.pop(self.name, None)

    def _point_at(self, names: list[str]) -> None:
        for config, name in zip(self._configs, names, strict=True):
            config._attn_implementation_internal = name

    def begin(self, lengths: list[int]) -> None:
        """A batch comes: one row of segments of these lengths. They hold until the next batch."""
        self._segments = Segments(tuple(lengths))

    # --- what transformers calls -----------------------------------------------------------------------------------------------

    def _mask(self, attention_mask: torch.Tensor | None = None, **kwargs: Any) -> Any:
        """No mask for a flat row; a given one is not lost but handed on, and refused by :meth:`_attend`."""
        if attention_mask is None:
            return None
        from transformers.masking_utils import sdpa_mask

        return sdpa_mask(attention_mask=attention_mask, **kwargs)

    def _attend(
        self,
        module: Any,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: Any,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, None]:
        """One layer: (batch, heads, seq, head size) -> (batch, seq, heads, head size)."""
        segments = self._segments
        if segments is None or attention_mask is not None:
            raise NotExactError("it brings an attention mask of its own" if segments else "no segments were given")
        batch, _, seq, _ = query.shape
        if batch * seq != segments.total or key.shape[2] != seq:
            raise NotExactError(f"its attention sees {batch * key.shape[2]} positions where the batch has {segments.total}")
        rules = self._rules(module, dict(kwargs))
        self.num_calls += 1
        q, k, v = (entry.transpose(1, 2).reshape(batch * seq, entry.shape[1], entry.shape[3]) for entry in (query, key, value))
        done = attend(self.kernel, q, k, v, segments, rules)
        return done.reshape(batch, seq, *done.shape[1:]), None

    def _rules(self, module: Any, given: dict[str, Any]) -> Rules:
        is_causal = given.pop("is_causal", None)
        if not (getattr(module, "is_causal", True) if is_causal is None else is_causal):
            raise NotExactError("its attention also looks ahead")
        softcap, sinks = given.pop("softcap", None), given.pop("s_aux", None)
        # torch's attention knows no soft-capping: a model on it goes without, and is to be trained as it is used
        softcap = softcap if any("sdpa" not in own for own in self._own) else None
        rules = Rules(
            given.pop("scaling", None), given.pop("dropout", 0.0) or 0.0, given.pop("sliding_window", None), softcap, sinks
        )
        unknown = sorted(
            name for name, value in given.items() if name not in _HARMLESS and value is not None and value is not False
        )
        if unknown:
            raise NotExactError(f"its attention asks for {', '.join(unknown)}")
        return rules


def attention_configs(model: Any) -> list[Any]:
    """The configs by which the decoder's layers find their attention function; [] if they do not look it up."""
    from transformers import PreTrainedModel

    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    if not isinstance(base, PreTrainedModel):
        return []
    decoder = base.get_decoder() if hasattr(base, "get_decoder") else base
    decoder = decoder if isinstance(decoder, PreTrainedModel) else base
    owners = [module for module in decoder.modules() if isinstance(module, PreTrainedModel)]
    if not all(owner._can_set_attn_implementation() for owner in owners):
        return []
    if base.config.get_text_config() is base.config:
        owners.append(base)
    return list({id(owner.config): owner.config for owner in owners}.values())
