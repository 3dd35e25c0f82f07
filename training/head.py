"""The model's head at trained positions only: the model's own forward, in which the head sees no other hidden states.

What it does: for the time of one forward pass the output head takes the hidden states whose next token is trained; where the head is a
frozen linear layer whose output the model leaves as it is, it gives the losses themselves, made in chunks, so that the logits of all
positions never exist.

Guarantee: the model's forward is called as always, so that wrappers (peft, DDP, autocast, offloading) do their part; adapters on the head,
soft-capping and scaling after it count. Losses and gradients equal those of full logits. Price of the chunks: one more product with the
head's weights where no gradient is needed less; nothing where one is.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.autograd.function import once_differentiable

from ..data.chat import IGNORE

CHUNKED, SELECTED, FULL = "chunked", "selected", "full"
LARGE_VOCABULARY = 32_768
FLOAT16_SCALE = 1024.0


def chunk_size(vocabulary: int) -> int:
    """Positions whose logits exist at once."""
    return 512 if vocabulary <= LARGE_VOCABULARY else 256


class _ChunkedLosses(torch.autograd.Function):
    """Cross-entropies of a frozen linear head, and the gradient of its input, made chunk by chunk."""

    @staticmethod
    def forward(ctx: Any, hidden: torch.Tensor, weight: torch.Tensor, bias: Any, targets: torch.Tensor) -> torch.Tensor:
        """Losses (n,) of hidden states (n, size)."""
        kind = hidden.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else weight.dtype
        exact = torch.promote_types(dtype, torch.float32)
        wants_gradient = ctx.needs_input_grad[0]
        losses = torch.empty(len(targets), dtype=exact, device=hidden.device)
        gradient = torch.empty(hidden.shape, dtype=exact, device=hidden.device) if wants_gradient else None
        with torch.autocast(kind, enabled=False):
            weight, bias = weight.to(dtype), None if bias is None else bias.to(dtype)
            size = chunk_size(len(weight))
            for start in range(0, len(targets), size):
                part = slice(start, start + size)
                chosen = targets[part]
                logits = torch.nn.functional.linear(hidden[part].to(dtype), weight, bias).to(exact)
                counts = chosen != IGNORE
                place = chosen.where(counts, 0)[:, None]
                total = logits.logsumexp(1)
                losses[part] = (total - logits.gather(1, place)[:, 0]) * counts
                if gradient is not None:
                    share = logits.sub_(total[:, None]).exp_()
                    share.scatter_add_(1, place, share.new_full(place.shape, -1.0))
                    share.mul_(counts[:, None])
                    gradient[part] = _times(share, weight)
                    del share
                del logits  # else two chunks exist while the next is made
        ctx.save_for_backward(gradient)
        ctx.dtype = hidden.dtype
        return losses

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *above: torch.Tensor) -> tuple[Any, ...]:
        """The gradient was made in the forward pass; each row counts as its loss does."""
        (gradient,) = ctx.saved_tensors
        return (gradient * above[0][:, None]).to(ctx.dtype), None, None, None


def _times(share: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """share @ weight in the weight's format; small shares must not vanish in float16."""
    scale = FLOAT16_SCALE if weight.dtype == torch.float16 else 1.0
    if scale != 1.0:
        share = share * scale
    product = (share.to(weight.dtype) @ weight).to(share.dtype)
    return product / scale if scale != 1.0 else product


def can_chunk(head: Any) -> bool:
    """Whether a head is a plain linear layer that nobody trains, wraps or moves about."""
    if type(head) is not torch.nn.Linear or "forward" in head.__dict__ or hasattr(head, "_hf_hook"):
        return False
    hooks = (head._forward_hooks, head._forward_pre_hooks, head._backward_hooks)
    return head.weight.is_floating_point() and not any(hooks) and not any(entry.requires_grad for entry in head.parameters())


class TrainedHead:
    """Computes the loss of batches through a model's own forward.

    Args:
        model: the model without DDP around it; also one wrapped by peft.
        mode: chunked, selected, or full (logits of all positions, selected afterwards).
    """

    def __init__(self, model: Any, mode: str) -> None:
        self.mode = mode
        self._head: Any = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
        self._calls = 0

    def loss_sum(self, model: Any, inputs: dict[str, Any], positions: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Sum of the cross-entropies at trained positions, in float32 at least.

        Args:
            model: what to call; may be wrapped.
            inputs: what the model takes.
            positions: (trained,) places in the flattened (batch x seq).
            targets: (trained,) the tokens that follow.

        Returns:
            A scalar with gradient; 0 if no position is trained.
        """
        return self.losses(model, inputs, positions, targets).sum()

    def losses(self, model: Any, inputs: dict[str, Any], positions: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """As :meth:`loss_sum`, one of each position (trained,)."""
        if not len(positions):  # a filler: the graph must reach every weight, with a gradient of 0
            positions, targets = positions.new_zeros(1), targets.new_full((1,), IGNORE)
        if self.mode == CHUNKED:
            return self._run(model, inputs, positions, targets)
        logits = self.logits(model, inputs, positions)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        return torch.nn.functional.cross_entropy(logits, targets.to(logits.device), ignore_index=IGNORE, reduction="none")

    def logits(self, model: Any, inputs: dict[str, Any], positions: torch.Tensor) -> torch.Tensor:
        """(positions, vocabulary), after all that the model does behind its head."""
        if self.mode == FULL:
            logits = model(**inputs).logits
            return logits.flatten(0, 1).index_select(0, positions.to(logits.device))
        return self._run(model, inputs, positions, None)

    def leaves_output_alone(self, model: Any, inputs: dict[str, Any], positions: torch.Tensor) -> bool:
        """Whether the model gives on what its head gives, to the last bit."""
        given = torch.linspace(-50, 50, len(positions))[None, :, None]

        def head(hidden: torch.Tensor) -> torch.Tensor:
            return given.to(hidden)

        with self._selecting(positions), self._instead(head):
            logits = model(**inputs).logits
        return self._calls == 1 and logits.shape == given.shape and torch.equal(logits.float(), given.to(logits).float())

    def _run(self, model: Any, inputs: dict[str, Any], positions: torch.Tensor, targets: torch.Tensor | None) -> torch.Tensor:
        def chunked(hidden: torch.Tensor) -> torch.Tensor:
            assert targets is not None
            flat, weight = hidden.flatten(0, 1), self._head.weight
            return _ChunkedLosses.apply(flat, weight, self._head.bias, targets.to(flat.device))[None, :, None]

        with self._selecting(positions), self._instead(None if targets is None else chunked):
            result = model(**inputs).logits
        assert self._calls == 1, f"the head was called {self._calls} times"
        return result[0, :, 0] if targets is not None else result[0]

    @contextmanager
    def _selecting(self, positions: torch.Tensor) -> Iterator[None]:
        """The head gets the hidden states of these positions, (1, positions, size)."""
        self._calls = 0

        def select(module: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
            self._calls += 1
            hidden = args[0]
            chosen = hidden.reshape(-1, hidden.shape[-1]).index_select(0, positions.to(hidden.device))
            return (chosen[None], *args[1:])

        handle = self._head.register_forward_pre_hook(select)
        try:
            yield
        finally:
            handle.remove()

    @contextmanager
    def _instead(self, forward: Any) -> Iterator[None]:
        """Another forward for the head; None leaves its own."""
        if forward is None:
            yield
            return
        self._head.forward = forward
        try:
            yield
        finally:
            del self._head.__dict__["forward"]
