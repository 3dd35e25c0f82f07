"""Causal attention of every segment of a flat row for itself: kernels that never see a border crossed.

What it does: takes queries, keys and values of a row in which samples stand behind each other, and lets each token see its own
sample's tokens up to itself, in no more than the sliding window.

Guarantee: exact, also with grouped heads, soft-capping, attention sinks and windows shorter than a segment; what a kernel cannot do
goes to one that can. Price: ``segments`` calls the device once per segment; soft-capping and sinks keep a (length x length) table per
segment and head::

    row      A A A A B B C C C          q\\k  A A A A B B C C C
    lengths  4       2   3                A  1
                                          A  1 1
                                          ...
                                          B          1
                                          B          1 1
"""

from __future__ import annotations

import importlib.util
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch


@dataclass(frozen=True)
class Segments:
    """How a flat row is cut.

    Attributes:
        lengths: tokens of each segment, in order.
    """

    lengths: tuple[int, ...]
    _borders: dict[Any, torch.Tensor] = field(default_factory=dict, repr=False, compare=False)

    @cached_property
    def total(self) -> int:
        """Tokens of the row."""
        return sum(self.lengths)

    @cached_property
    def longest(self) -> int:
        """Tokens of the longest segment."""
        return max(self.lengths)

    def borders(self, device: torch.device) -> torch.Tensor:
        """Cumulative lengths ``(segments + 1,)``, int32, on a device; made once per row."""
        if device not in self._borders:
            ends = torch.tensor([0, *self.lengths], dtype=torch.int32).cumsum(0, dtype=torch.int32)
            self._borders[device] = ends.to(device, non_blocking=True)
        return self._borders[device]


@dataclass(frozen=True)
class Rules:
    """What a model asks of its attention beside queries, keys and values.

    Attributes:
        scale: factor of the scores; None = 1 / sqrt(head size).
        dropout: share of the weights that is dropped.
        window: a token sees this many tokens, itself included; None = all before it.
        softcap: scores are bent to stay under this; None = not.
        sinks: (heads,) scores of a token that is not there; None = none.
    """

    scale: float | None = None
    dropout: float = 0.0
    window: int | None = None
    softcap: float | None = None
    sinks: torch.Tensor | None = None

    @property
    def is_plain(self) -> bool:
        """Whether scaled_dot_product_attention and the flash kernels know all of it."""
        return self.softcap is None and self.sinks is None


# (q, k, v, segments, rules) -> output; all (total, heads, head size); keys and values may have fewer heads
Kernel = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, Segments, Rules], torch.Tensor]


def _all_heads(query: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Keys or values for every query head."""
    groups = query.shape[1] // other.shape[1]
    return other if groups == 1 else other.repeat_interleave(groups, dim=1)


def _seen(length: int, window: int | None, device: torch.device) -> torch.Tensor:
    """(length, length): whether a token (row) sees another (column)."""
    seen = torch.ones(length, length, dtype=torch.bool, device=device).tril()
    return seen if window is None or window >= length else seen.triu(1 - window)


def _in_full(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, rules: Rules) -> torch.Tensor:
    """One segment with its table of scores, (1, heads, length, head size): what soft-capping and sinks need."""
    length = q.shape[2]
    scores = q @ k.transpose(2, 3) * (q.shape[3] ** -0.5 if rules.scale is None else rules.scale)
    if rules.softcap is not None:
        scores = torch.tanh(scores / rules.softcap) * rules.softcap
    scores = scores.masked_fill(~_seen(length, rules.window, q.device), torch.finfo(scores.dtype).min)
    if rules.sinks is not None:
        scores = torch.cat([scores, rules.sinks.to(scores.dtype).view(1, -1, 1, 1).expand(1, -1, length, 1)], dim=3)
    weights = scores.softmax(3, dtype=torch.promote_types(scores.dtype, torch.float32)).to(v.dtype)[..., :length]
    return torch.nn.functional.dropout(weights, rules.dropout) @ v


def _one(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, rules: Rules) -> torch.Tensor:
    """One segment, (1, heads, length, head size)."""
    if not rules.is_plain:
        return _in_full(q, k, v, rules)
    length = q.shape[2]
    mask = _seen(length, rules.window, q.device) if rules.window is not None and rules.window < length else None
    return torch.nn.functional.scaled_dot_product_attention(
        q, k, v, attn_mask=mask, dropout_p=rules.dropout, is_causal=mask is None, scale=rules.scale
    )


def each_segment(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, segments: Segments, rules: Rules) -> torch.Tensor:
    """torch's scaled_dot_product_attention on one segment after the other; any device, any number format."""
    parts = (entry.transpose(0, 1)[None] for entry in (query, _all_heads(query, key), _all_heads(query, value)))
    lengths = list(segments.lengths)
    # split, not slices: the backward of a slice fills a row of zeros for every segment
    done = [_one(q, k, v, rules) for q, k, v in zip(*(part.split(lengths, dim=2) for part in parts), strict=True)]
    return torch.cat(done, dim=2)[0].transpose(0, 1)


def varlen(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, segments: Segments, rules: Rules) -> torch.Tensor:
    """torch's own variable-length attention (torch 2.10 and later, CUDA, half precision)."""
    from torch.nn.attention.varlen import varlen_attn

    known = _parameters(varlen_attn)
    more: dict[str, Any] = {}
    if "window_size" in known:
        more["window_size"] = (-1 if rules.window is None else rules.window - 1, 0)
    elif rules.window is None:
        more["is_causal"] = True
    else:
        return each_segment(query, key, value, segments, rules)
    if "scale" in known:
        more["scale"] = rules.scale
    elif rules.scale is not None:  # 1 / sqrt(head size) is what it takes
        query = query * (rules.scale * query.shape[2] ** 0.5)
    if "enable_gqa" in known:
        more["enable_gqa"] = query.shape[1] != key.shape[1]
    else:
        key, value = _all_heads(query, key), _all_heads(query, value)
    borders, longest = segments.borders(query.device), segments.longest
    query, key, value = (entry.contiguous() for entry in (query, key, value))
    done: Any = varlen_attn(query, key, value, borders, borders, longest, longest, **more)
    return done


def flash(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, segments: Segments, rules: Rules) -> torch.Tensor:
    """The flash-attn package, where it is installed (CUDA, half precision)."""
    from flash_attn import flash_attn_varlen_func

    window = (-1, -1) if rules.window is None else (rules.window - 1, 0)
    borders, longest = segments.borders(query.device), segments.longest
    more: dict[str, Any] = {"causal": True, "window_size": window, "softmax_scale": rules.scale, "dropout_p": rules.dropout}
    done: torch.Tensor = flash_attn_varlen_func(query, key, value, borders, borders, longest, longest, **more)
    return done


def _parameters(function: Any) -> frozenset[str]:
    return frozenset(inspect.signature(function).parameters)


# name -> kernel, the best first
KERNELS: dict[str, Kernel] = {"varlen": varlen, "flash": flash, "segments": each_segment}


def usable_kernels(device: torch.device, dtype: torch.dtype) -> list[str]:
    """Kernels that this device and this format of the computation may have, the best first; ``segments`` is always one.

    Args:
        dtype: number format of queries, keys and values.
    """
    names = []
    if device.type == "cuda" and dtype in (torch.float16, torch.bfloat16):
        has_varlen = importlib.util.find_spec("torch.nn.attention.varlen") is not None
        names = ["varlen"] * has_varlen + ["flash"] * (importlib.util.find_spec("flash_attn") is not None)
    return [*names, "segments"]


def attend(
    name: str, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, segments: Segments, rules: Rules
) -> torch.Tensor:
    """Attention of a flat row by a kernel of :data:`KERNELS`, or by ``segments`` where that kernel cannot.

    Args:
        query: (total, heads, head size).
        key: (total, key heads, head size).
        value: as ``key``; its head size may differ.

    Returns:
        (total, heads, head size of value).
    """
    if rules.window is not None and rules.window >= segments.longest:
        rules = Rules(rules.scale, rules.dropout, None, rules.softcap, rules.sinks)
    if torch.is_autocast_enabled(query.device.type):
        chosen = torch.get_autocast_dtype(query.device.type)
        query, key, value = (entry.to(chosen) for entry in (query, key, value))
    size = query.shape[2]
    fits = rules.is_plain and size == value.shape[2] and size % 8 == 0 and size <= 256 and (name == "flash" or not rules.dropout)
    return KERNELS[name if fits else "segments"](query, key, value, segments, rules)
