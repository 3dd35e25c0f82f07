"""The model's head at trained positions only: the model's own forward, in which the head sees no other hidden states.

What it does: for the time of one forward pass the output head takes the hidden states whose next token is trained; wherever it is known
what the model does behind its head, it makes the losses themselves, in chunks (:mod:`.chunks`), so that the logits of all positions
never exist, whether the head is frozen, trained, tied to the embeddings or wrapped by an adapter.

Guarantee: the model's forward is called as always, so that wrappers (peft, DDP, autocast, offloading) do their part; adapters on the head,
soft-capping and scaling after it count. Losses and gradients equal those of full logits. Price: see :mod:`.chunks`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch

from ..data.chat import IGNORE
from .chunks import UNCHANGED, Behind, find_behind, linear_losses, module_losses, whole_losses

CHUNKED, SELECTED, FULL = "chunked", "selected", "full"
PROBES = 101


class Losses(NamedTuple):
    """What a batch has lost.

    Attributes:
        objective: scalar with gradient: the sum, smoothed if that was asked for.
        each: (trained,) plain cross-entropies, without gradient.
    """

    objective: torch.Tensor
    each: torch.Tensor


def can_chunk(head: Any) -> bool:
    """Whether a head can be called, or multiplied, chunk by chunk: nobody watches its calls or moves its weights about."""
    if not isinstance(head, torch.nn.Module) or hasattr(head, "_hf_hook"):
        return False
    return not any((head._forward_hooks, head._forward_pre_hooks, head._backward_hooks, head._backward_pre_hooks))


def plain_linear(head: Any) -> Any:
    """The linear layer that a head is, also one that peft keeps a trained copy of (modules_to_save); None if it is another."""
    copies = getattr(head, "modules_to_save", None)
    if copies is not None and hasattr(head, "original_module"):
        is_on = not getattr(head, "disable_adapters", False)
        active = [name for name in head.active_adapters if name in copies] if is_on else []
        head = copies[active[0]] if active else head.original_module
    if type(head) is not torch.nn.Linear or "forward" in head.__dict__ or not can_chunk(head):
        return None
    return head if head.weight.is_floating_point() else None


class TrainedHead:
    """Computes the loss of batches through a model's own forward.

    Args:
        model: the model without DDP around it; also one wrapped by peft.
        mode: chunked, selected, or full (logits of all positions, selected afterwards).
        behind: what the model does behind its head (see :meth:`behind`); counts in chunks.
    """

    def __init__(self, model: Any, mode: str, behind: Behind = UNCHANGED) -> None:
        self.mode = mode
        self._behind = behind
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
        return self.losses(model, inputs, positions, targets).objective

    def losses(
        self, model: Any, inputs: dict[str, Any], positions: torch.Tensor, targets: torch.Tensor, smoothing: float = 0.0
    ) -> Losses:
        """As :meth:`loss_sum`, and the loss of each position.

        Args:
            smoothing: share of the target that all words have in equal parts (label smoothing); for the objective only.
        """
        num_trained = len(positions)
        if not num_trained:  # a filler: the graph must reach every weight, with a gradient of 0
            positions, targets = positions.new_zeros(1), targets.new_full((1,), IGNORE)
        if self.mode == CHUNKED:
            made = self._chunked(model, inputs, positions, targets, smoothing)
        else:
            made = Losses(*whole_losses(self.logits(model, inputs, positions), targets, smoothing))
        return made if num_trained else Losses(made.objective, made.each[:0])

    def logits(self, model: Any, inputs: dict[str, Any], positions: torch.Tensor) -> torch.Tensor:
        """(positions, vocabulary), after all that the model does behind its head."""
        if self.mode == FULL:
            logits: torch.Tensor = model(**inputs).logits
            return logits.flatten(0, 1).index_select(0, positions.to(logits.device))
        with self._selecting(positions):
            logits = model(**inputs).logits
        self._check_calls()
        return logits[0]

    def behind(self, model: Any, inputs: dict[str, Any], positions: torch.Tensor) -> Behind | None:
        """What the model does with what its head gives; None if that is nothing that is known here."""
        config = model.config.get_text_config() if hasattr(model.config, "get_text_config") else model.config
        numbers = {name: value for name, value in vars(config).items() if "logit" in name and isinstance(value, (int, float))}
        given: list[torch.Tensor] = []

        def head(hidden: torch.Tensor) -> torch.Tensor:
            dtype = torch.float32 if hidden.device.type == "mps" else torch.float64
            given.append(torch.linspace(-50, 50, PROBES, dtype=dtype, device=hidden.device)[None, :, None])
            return given[0]

        with self._selecting(positions), self._instead(head):
            logits = model(**inputs).logits
        if len(given) != 1 or self._calls != 1 or logits.shape != given[0].shape:
            return None
        return find_behind(given[0], logits, [float(value) for value in numbers.values()])

    def _chunked(
        self, model: Any, inputs: dict[str, Any], positions: torch.Tensor, targets: torch.Tensor, smoothing: float
    ) -> Losses:
        made: list[Losses] = []
        own, linear = self._head.forward, plain_linear(self._head)  # as they are without us

        def head(hidden: torch.Tensor) -> torch.Tensor:
            states, rest = hidden.flatten(0, 1), (targets.to(hidden.device), self._behind, smoothing)
            is_plain = linear is not None
            made.append(Losses(*(linear_losses(states, linear, *rest) if is_plain else module_losses(states, own, *rest))))
            # what the model does with this does not matter; DDP and FSDP want to see that the output hangs on the weights
            objective = made[0].objective
            return objective.nan_to_num().mul(0) + objective.new_zeros(1, 1, 1)  # no view: FSDP's hooks could be lost on one

        with self._selecting(positions), self._instead(head):
            logits = model(**inputs).logits
        self._check_calls()
        return Losses(made[0].objective + 0 * logits.sum().to(made[0].objective), made[0].each)

    def _check_calls(self) -> None:
        assert self._calls == 1, f"the head was called {self._calls} times"

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
        """Another forward for the head, which gets back what it had."""
        before = dict(self._head.__dict__)
        self._head.forward = forward
        try:
            yield
        finally:
            if "forward" in before:
                self._head.__dict__["forward"] = before["forward"]
            else:
                del self._head.__dict__["forward"]
