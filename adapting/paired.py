"""Several optimizers that look like one: each has its own parameters.

What it does: steps all its parts, and shows their groups as its own, so that a schedule, a gradient scaler and Trainer need not know.
Guarantee: rates set on the groups reach the parts (they are the same dictionaries), and a saved state that is loaded continues to the bit.
Price: it takes no state of another kind of optimizer; sharded training (FSDP) cannot gather its states.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


def closed_loss(closure: Callable[[], Any] | None) -> Any:
    """What an optimizer's closure gives, with gradients on; None without one."""
    if closure is None:
        return None
    with torch.enable_grad():
        return closure()


class PairedOptimizer(torch.optim.Optimizer):
    """One optimizer made of parts.

    Args:
        parts: optimizers with parameters of their own; at least one.
    """

    def __init__(self, parts: list[torch.optim.Optimizer]) -> None:
        assert parts, "nothing to pair"
        super().__init__([dict(group) for part in parts for group in part.param_groups], {})
        self.parts = parts
        self._share()

    def _share(self) -> None:
        """Let the parts' groups and states be this optimizer's."""
        self.param_groups = [group for part in self.parts for group in part.param_groups]
        self.state.clear()
        for part in self.parts:
            self.state.update(part.state)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """A step of every part."""
        loss = closed_loss(closure)
        for part in self.parts:
            part.step()
            self.state.update(part.state)
        return loss

    def state_dict(self) -> dict[str, Any]:
        """The parts' own, one after the other."""
        return {"parts": [part.state_dict() for part in self.parts], "state": {}, "param_groups": []}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up what :meth:`state_dict` gave.

        Raises:
            ValueError: it is of another optimizer.
        """
        states = state_dict.get("parts", [])
        if len(states) != len(self.parts):
            raise ValueError(
                f"Optimizer: the checkpoint holds the states of {len(states)} optimizers, this run has {len(self.parts)}. "
                f"Choose 'continue' to begin with fresh ones."
            )
        for part, state in zip(self.parts, states, strict=True):
            part.load_state_dict(state)
        self._share()
