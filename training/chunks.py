"""Cross-entropies of a model's head in chunks: the logits of all positions never exist, also where the head is trained.

What it does: takes hidden states and gives their losses, a few hundred positions at a time. A plain linear head is multiplied here and
the gradients of hidden states, weights and bias are made with the losses; any other head (with an adapter on it, quantized, wrapped) is
called chunk by chunk and again in the backward pass.

Guarantee: losses and gradients are those of torch's cross_entropy over all logits, with label smoothing and with what the model does
behind its head (:class:`Behind`). Price: nothing in time for a plain head; of a trained one the gradient of its weights (vocabulary x
hidden size, float32 at least) exists from the forward pass on. Other heads are computed twice.

    logits of 2,000 trained positions x 150,000 words, float32: 1.2 GB, several times over;  in chunks of 256: 0.15 GB
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.autograd.function import once_differentiable

from ..data.chat import IGNORE

LARGE_VOCABULARY = 32_768
FLOAT16_SCALE = 1024.0
WORDS_AT_ONCE = 8192

PLAIN, SCALED, CAPPED = "plain", "scaled", "capped"


def chunk_size(vocabulary: int) -> int:
    """Positions whose logits exist at once."""
    return 512 if vocabulary <= LARGE_VOCABULARY else 256


@dataclass(frozen=True)
class Behind:
    """What a model does with each logit behind its head.

    Attributes:
        kind: plain (nothing), scaled (times ``value``: Cohere, Granite) or capped (``value`` x tanh(logit / ``value``): Gemma 2).
        value: factor or cap.
    """

    kind: str = PLAIN
    value: float = 1.0

    def of(self, logits: torch.Tensor) -> torch.Tensor:
        """The model's logits from the head's."""
        if self.kind == PLAIN:
            return logits
        return logits * self.value if self.kind == SCALED else torch.tanh(logits / self.value) * self.value

    def slope(self, logits: torch.Tensor) -> Any:
        """Derivative of :meth:`of` by what the head gave, from the model's logits."""
        return self.value if self.kind == SCALED else 1 - (logits / self.value) ** 2


UNCHANGED = Behind()


def find_behind(given: torch.Tensor, got: torch.Tensor, caps: list[float]) -> Behind | None:
    """Which :class:`Behind` makes ``got`` of ``given``; None if none does.

    Args:
        caps: numbers of the model's config that may be its cap.
    """
    factor = float(got.flatten()[-1] / given.flatten()[-1])
    for behind in (UNCHANGED, Behind(SCALED, factor), *(Behind(CAPPED, cap) for cap in caps if cap > 0)):
        if torch.allclose(behind.of(given).to(got), got, rtol=4 * torch.finfo(got.dtype).eps, atol=0.0):
            return behind
    return None


# --- a plain linear head -------------------------------------------------------------------------------------------------------


@dataclass
class _Sums:
    """What a head's chunks add up to; None where no gradient is wanted."""

    losses: torch.Tensor
    objective: torch.Tensor
    hidden: torch.Tensor | None
    weight: torch.Tensor | None
    bias: torch.Tensor | None


class _LinearHead(torch.autograd.Function):
    """The objective of a linear head with all its gradients, made chunk by chunk in the forward pass."""

    @staticmethod
    def forward(
        ctx: Any, hidden: torch.Tensor, weight: torch.Tensor, bias: Any, targets: torch.Tensor, how: tuple[Any, ...]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Objective () and plain losses (n,) of hidden states (n, size)."""
        behind, smoothing, has_gradient = how
        wanted = [has_gradient and needed for needed in ctx.needs_input_grad[:3]]
        sums = _linear_chunks(hidden, weight, bias, targets, behind, smoothing, wanted)
        ctx.made = [sums.hidden, sums.weight, sums.bias]
        ctx.dtypes = [entry if entry is None else entry.dtype for entry in (hidden, weight, bias)]
        ctx.mark_non_differentiable(sums.losses)
        return sums.objective, sums.losses

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *above: torch.Tensor) -> tuple[Any, ...]:
        """The gradients were made in the forward pass; they are scaled where they lie and given away."""
        made, ctx.made = ctx.made, None
        assert made is not None, "the backward pass of a head in chunks was asked for twice"
        scaled = [None if gradient is None else gradient.mul_(above[0]) for gradient in made]
        del made
        given = [None if gradient is None else gradient.to(dtype) for gradient, dtype in zip(scaled, ctx.dtypes, strict=True)]
        return (*given, None, None)


def _linear_chunks(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    bias: Any,
    targets: torch.Tensor,
    behind: Behind,
    smoothing: float,
    wanted: list[bool],
) -> _Sums:
    kind = hidden.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else weight.dtype
    exact = torch.promote_types(dtype, torch.float32)
    sums = _Sums(
        hidden.new_empty(len(targets), dtype=exact),
        hidden.new_zeros((), dtype=exact),
        torch.empty_like(hidden, dtype=exact) if wanted[0] else None,
        torch.zeros_like(weight, dtype=exact) if wanted[1] else None,
        torch.zeros_like(bias, dtype=exact) if wanted[2] else None,
    )
    size = chunk_size(len(weight))
    with torch.autocast(kind, enabled=False):
        weight, bias = weight.to(dtype), None if bias is None else bias.to(dtype)
        for start in range(0, len(targets), size):
            part = slice(start, start + size)
            inputs = hidden[part].to(dtype)
            logits = behind.of(torch.nn.functional.linear(inputs, weight, bias)).to(exact)
            share = _losses_of(logits, targets[part], behind, smoothing, sums, part, any(wanted))
            del logits  # else two chunks exist while the next is made
            if share is not None:
                _add_gradients(sums, share, part, inputs, weight)
            del share
    return sums


def _losses_of(
    logits: torch.Tensor, targets: torch.Tensor, behind: Behind, smoothing: float, sums: _Sums, part: slice, has_gradient: bool
) -> torch.Tensor | None:
    """Losses of one chunk; the objective's derivative by what the head gave, in place of the logits, where one is wanted."""
    counts = targets != IGNORE
    place = targets.where(counts, 0)[:, None]
    own, mean = logits.gather(1, place)[:, 0], logits.mean(1) if smoothing else None
    slope = behind.slope(logits) if has_gradient and behind.kind != PLAIN else None
    highest = logits.amax(1, keepdim=True)
    share = logits.sub_(highest).exp_()  # in place and once: logsumexp would make another table of this size
    weight = share.sum(1)
    total = weight.log() + highest[:, 0]
    plain = (total - own) * counts
    sums.losses[part] = plain
    objective = plain if mean is None else plain * (1 - smoothing) + (total - mean) * counts * smoothing
    sums.objective += objective.sum()
    if not has_gradient:
        return None
    share.div_(weight[:, None])
    share.scatter_add_(1, place, share.new_full(place.shape, smoothing - 1.0))
    if smoothing:
        share.sub_(smoothing / share.shape[1])
    share.mul_(counts[:, None])
    return share if slope is None else share.mul_(slope)


def _add_gradients(sums: _Sums, share: torch.Tensor, part: slice, inputs: torch.Tensor, weight: torch.Tensor) -> None:
    if sums.hidden is not None:
        sums.hidden[part] = _times(share, weight)
    if sums.weight is not None:
        if inputs.dtype == share.dtype:
            sums.weight.addmm_(share.t(), inputs)
        else:  # in blocks of words, else the product would exist in two formats beside the sum
            for words in range(0, len(sums.weight), WORDS_AT_ONCE):
                block = slice(words, words + WORDS_AT_ONCE)
                sums.weight[block] += _times(share[:, block].t(), inputs)
    if sums.bias is not None:
        sums.bias += share.sum(0)


def _times(share: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """share @ other in the format of ``other``; small shares must not vanish in float16."""
    scale = FLOAT16_SCALE if other.dtype == torch.float16 else 1.0
    if scale != 1.0:
        share = share * scale
    product = (share.to(other.dtype) @ other).to(share.dtype)
    return product / scale if scale != 1.0 else product


def linear_losses(
    hidden: torch.Tensor, linear: Any, targets: torch.Tensor, behind: Behind, smoothing: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Sum of the (smoothed) losses with gradient, and the plain losses (n,) without, of a linear layer's outputs.

    Args:
        hidden: (n, size).
        linear: has ``weight`` (vocabulary, size) and ``bias``; trained or not.
        targets: (n,) tokens; -100 counts nothing.
    """
    how = (behind, smoothing, torch.is_grad_enabled())
    made: tuple[torch.Tensor, torch.Tensor] = _LinearHead.apply(hidden, linear.weight, linear.bias, targets, how)
    return made


# --- any other head ------------------------------------------------------------------------------------------------------------


def module_losses(
    hidden: torch.Tensor, forward: Callable[[torch.Tensor], torch.Tensor], targets: torch.Tensor, behind: Behind, smoothing: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """As :func:`linear_losses`, for a head that is only known by its ``forward``: (1, n, size) -> (1, n, vocabulary)."""
    from torch.utils.checkpoint import checkpoint

    def one(states: torch.Tensor, chosen: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return whole_losses(behind.of(forward(states[None])[0]), chosen, smoothing)

    parts = []
    size = chunk_size(LARGE_VOCABULARY + 1)
    for states, chosen in zip(hidden.split(size), targets.split(size), strict=True):
        parts.append(checkpoint(one, states, chosen, use_reentrant=False) if torch.is_grad_enabled() else one(states, chosen))
    return torch.stack([objective for objective, _ in parts]).sum(), torch.cat([losses for _, losses in parts])


def whole_losses(logits: torch.Tensor, targets: torch.Tensor, smoothing: float) -> tuple[torch.Tensor, torch.Tensor]:
    """As :func:`linear_losses`, of all logits at once (n, vocabulary)."""
    logits, targets = logits.to(torch.promote_types(logits.dtype, torch.float32)), targets.to(logits.device)
    plain = torch.nn.functional.cross_entropy(logits, targets, ignore_index=IGNORE, reduction="none")
    if not smoothing:
        return plain.sum(), plain.detach()
    smooth = torch.nn.functional.cross_entropy(logits, targets, ignore_index=IGNORE, reduction="sum", label_smoothing=smoothing)
    return smooth, plain.detach()
