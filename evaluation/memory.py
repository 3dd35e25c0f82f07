"""How much memory a run needs, from the model's own shapes and from what a step really computes; made before anything is allocated.

What it does: adds up what stays through the run (weights, adapter, optimizer) and the highest of what comes and goes in a step: at the
end of the forward pass (what layers keep, the head's chunk), in the backward pass (one layer anew with checkpointing, gradients), in the
optimizer's step.

Guarantee: within 15 % of what torch allocates in a step of a Llama on a CPU, by every route, with LoRA and in full, with and without
checkpointing (benchmarks/memory.py measures it); elsewhere an estimate. Price: a walk over the modules.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from .memory_shapes import ModelShape, kept_inputs

EXACT = 4  # bytes of float32: sums, norms and losses are made in it whatever the precision
CHUNKED, SELECTED, FULL = "chunked", "selected", "full"
_CHUNKS = ((32_768, 512), (1 << 62, 256))  # words -> positions whose logits exist at once (training.chunks)


@dataclass(frozen=True)
class Learning:
    """What is learned, and what that takes.

    Attributes:
        num_trained: trained weights.
        adapted: paths of the layers with an adapter.
        everything: the model's own weights are trained, or a part of each.
        dropout: share of an adapter's inputs that is dropped.
        head: the head, or a copy of it, is trained.
        embeddings: the same of the input embeddings.
        weight_bytes: of a trained weight, beside the model's own.
        gradient_bytes: of its gradient.
        state_bytes: of the optimizer's states for it.
        stream_bytes: of a number in the residual stream; 0 = as the model's weights.
    """

    num_trained: int
    adapted: tuple[str, ...] = ()
    everything: bool = False
    dropout: float = 0.0
    head: bool = False
    embeddings: bool = False
    weight_bytes: float = 4.0
    gradient_bytes: float = 4.0
    state_bytes: float = 8.0
    stream_bytes: int = 0


@dataclass(frozen=True)
class Work:
    """The largest batch, and how it is computed.

    Attributes:
        lengths: tokens of each segment that attends to itself.
        trained_share: share of its tokens that are trained.
        layout: flat, masked or padded (training.step).
        head: chunked, selected or full (training.head).
        checkpointing: layers are computed again in the backward pass.
        precision: float32, bfloat16 or float16.
        accumulation: batches of an optimizer step.
    """

    lengths: tuple[int, ...]
    trained_share: float = 1.0
    layout: str = "flat"
    head: str = CHUNKED
    checkpointing: bool = False
    precision: str = "float32"
    accumulation: int = 1

    @property
    def tokens(self) -> int:
        """As they are computed, with padding."""
        return sum(self.lengths) if self.layout == "flat" else len(self.lengths) * max(self.lengths)

    @property
    def trained(self) -> int:
        """Positions of which there are losses."""
        return round(sum(self.lengths) * self.trained_share)

    @property
    def scores(self) -> int:
        """Elements of a head's tables of scores, where there are any."""
        longest = max(self.lengths)
        return sum(length**2 for length in self.lengths) if self.layout == "flat" else len(self.lengths) * longest**2


def estimate_memory(model: Any, learning: Learning, work: Work) -> dict[str, int]:
    """Bytes by part, at the moment that needs the most.

    Args:
        model: the loaded base model.

    Returns:
        weights, adapter, gradients, optimizer, activations (all that comes and goes beside the gradients), total; and available, if the
        device says.
    """
    parts = _Estimate(model, learning).parts(work)
    return {**parts, "total": sum(parts.values()), **_available(model)}


def largest_batch(
    model: Any, learning: Learning, make_work: Callable[[list[int]], Work], lengths: Sequence[int], limit: float
) -> int:
    """The largest True Batch Size whose worst batch fits into a number of bytes; 0 if not even one entry does.

    Args:
        make_work: from the lengths of a batch's entries.
        lengths: tokens of each entry of the run.
        limit: bytes, for all of the run.
    """
    estimate, ordered = _Estimate(model, learning), sorted(lengths, reverse=True)
    fits, beyond = 0, len(ordered) + 1
    while beyond - fits > 1:
        middle = (fits + beyond) // 2
        if sum(estimate.parts(make_work(ordered[:middle])).values()) <= limit:
            fits = middle
        else:
            beyond = middle
    return fits


class _Estimate:
    """The sums for one model and what is learned on it."""

    def __init__(self, model: Any, learning: Learning) -> None:
        parameters = list(model.parameters())
        self.shape, self.learning = ModelShape.of(model), learning
        self.device = parameters[0].device.type
        self.weights = sum(weight.numel() * weight.element_size() for weight in parameters)
        self.largest = max(weight.numel() for weight in parameters)
        own = next((weight.element_size() for weight in parameters if weight.is_floating_point()), EXACT)
        self.stream = learning.stream_bytes or own
        attention = getattr(model.config, "_attn_implementation", None) or ""
        self.has_tables = "sdpa" not in attention and "flash" not in attention and "flex" not in attention
        self.inputs = kept_inputs(model, None if learning.everything else learning.adapted)

    def parts(self, work: Work) -> dict[str, int]:
        """Bytes by part."""
        learning = self.learning
        gradients = learning.num_trained * learning.gradient_bytes
        return {
            "weights": self.weights,
            "adapter": int(learning.num_trained * learning.weight_bytes),
            "gradients": int(gradients),
            "optimizer": int(learning.num_trained * learning.state_bytes),
            "activations": max(0, int(self._highest(work, gradients) - gradients)),
        }

    def _highest(self, work: Work, gradients: float) -> float:
        """What comes and goes in a step, gradients included, at its highest."""
        shape, tokens, bytes_ = self.shape, work.tokens, _computing(work)
        layer = tokens * self._layer(work) + self._tables(work)
        passing = max(tokens * self._passing(bytes_), 2 * self._tables(work) - layer / 3)
        between = tokens * shape.hidden * self.stream
        kept = shape.layers * (between if work.checkpointing else layer) + tokens * self._ends(work)
        head_gradient = shape.vocabulary * shape.hidden * EXACT * self.learning.head
        forward = kept + self._head(work) + tokens * shape.hidden * bytes_ + gradients * (work.accumulation > 1)
        backward = kept + head_gradient + passing + layer * work.checkpointing
        last_layer = gradients + layer + passing
        last = gradients + shape.vocabulary * shape.hidden * EXACT * self.learning.embeddings
        # a loop over weights makes two tables of the largest one, a fused one of all
        step = gradients + EXACT * (2 * self.largest_trained if self.device == "cpu" else self.learning.num_trained)
        return max(forward, backward, last_layer, last, step)

    def _passing(self, bytes_: int) -> float:
        """Bytes a token of gradients on their way through a layer; an adapter's inputs have theirs in float32."""
        inner, hidden = self.shape.inner, 1.5 * self.shape.hidden
        if bytes_ == EXACT or self.learning.everything:
            return (inner + hidden) * bytes_
        return inner * (bytes_ + EXACT * (1 + (self.learning.dropout > 0))) + hidden * EXACT

    @property
    def largest_trained(self) -> int:
        """Elements of the largest trained weight."""
        return min(self.largest, self.learning.num_trained)

    def _layer(self, work: Work) -> float:
        """Bytes a token that a layer keeps for its backward pass."""
        shape, bytes_ = self.shape, _computing(work)
        norm = EXACT if shape.has_float_norms else self.stream
        kept = shape.norms * shape.hidden * norm + shape.has_head_norms * (shape.queries + shape.keys) * EXACT
        if self.learning.everything and shape.has_float_norms:
            kept += shape.norms * shape.hidden * self.stream + shape.has_head_norms * (shape.queries + shape.keys) * self.stream
        kept += self._attention(work) * bytes_ + shape.heads * EXACT
        kept += (3 if shape.is_gated else 2) * shape.inner * bytes_ + 2 * shape.experts * shape.hidden * bytes_
        return kept + self._inputs(work) / shape.layers

    def _attention(self, work: Work) -> float:
        """Numbers a token: queries, keys, values and what comes out, each as often as it exists."""
        shape = self.shape
        if work.layout == "flat" or self.has_tables:
            return 4 * shape.queries  # keys and values for every head of queries
        return 2 * shape.queries + 2 * shape.keys

    def _tables(self, work: Work) -> float:
        """Bytes of a layer's tables of scores; they are made in float32."""
        if not (self.shape.softcap if work.layout == "flat" else self.has_tables):
            return 0.0
        copies = EXACT + (_computing(work) if _computing(work) < EXACT else 0) + (EXACT + 1) * (work.layout == "flat")
        return float(self.shape.heads * work.scores * copies)

    def _inputs(self, work: Work) -> float:
        """Bytes a token that all layers keep of what comes into trained or adapted linear layers."""
        bytes_, inputs = _computing(work), self.inputs
        if self.learning.dropout and not self.learning.everything:
            noise = 1 if self.device == "cuda" else EXACT
            return inputs.single * (noise + bytes_)
        if bytes_ == EXACT or (self.learning.everything and self.stream == bytes_):
            return (inputs.shared - inputs.attention * (work.layout != "flat" and not self.has_tables)) * bytes_
        return inputs.single * bytes_  # mixed precision makes a copy for each

    def _ends(self, work: Work) -> float:
        """Bytes a token before the first and behind the last layer: positions, the last norm."""
        shape = self.shape
        norm = shape.hidden * (EXACT + self.stream * self.learning.everything)
        return norm + 2 * shape.rotary * _computing(work) + 32

    def _head(self, work: Work) -> float:
        """Bytes of the loss: tables of words, hidden states, the gradient of a trained head."""
        shape, bytes_ = self.shape, _computing(work)
        trained, words, cast = work.trained, shape.vocabulary, bytes_ if bytes_ < EXACT else 0
        if work.head == CHUNKED:
            chunk = min(max(1, trained), next(size for most, size in _CHUNKS if words <= most))
            own = shape.hidden * words * (EXACT + (cast if self.stream > bytes_ else 0)) if self.learning.head else 0
            return chunk * words * (EXACT + cast) + trained * shape.hidden * (EXACT + bytes_) + own
        if work.head == SELECTED:
            return 3 * EXACT * trained * words + 2 * trained * shape.hidden * bytes_
        return max(3 * EXACT * trained * words, work.tokens * words * bytes_ + EXACT * trained * words)


def _computing(work: Work) -> int:
    """Bytes of a number in the computation."""
    return EXACT if work.precision == "float32" else 2


def _available(model: Any) -> dict[str, int]:
    import psutil
    import torch

    device = next(model.parameters()).device
    if device.type == "cuda":
        return {"available": int(torch.cuda.mem_get_info(device)[0]) + int(torch.cuda.memory_allocated(device))}
    return {"available": int(psutil.virtual_memory().available)}
