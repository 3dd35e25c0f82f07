"""AdamW with its states in a small part of each gradient's space: GaLore and APOLLO.

What it does: a matrix's gradient G (m, n) is projected to rank r on its shorter side, R = G V (m >= n, V of n x r) or R = Vᵀ G;
Adam's two states are as large as R. GaLore steps along Adam's direction N in that part, turned back, a quarter of N Vᵀ, with V from an SVD of
the gradient. APOLLO steps along the whole gradient, each channel scaled by |N| / |R| of that channel, with V drawn at random. Vectors and
matrices whose shorter side is not longer than r get plain AdamW.

    G (m, n)  --V-->  R (m, r)  --Adam-->  N (m, r)  --Vᵀ-->  step (m, n)          GaLore
                                  s = |N| / |R| by row   -->  step = s G           APOLLO

Guarantee: plain tensors and numbers as state, so a resumed run is bit-equal; APOLLO's draws are a function of (seed, place, step), no
global random numbers. With r >= min(m, n) both are AdamW. Price: GaLore makes an SVD per matrix every ``gap`` steps.

Sources: GaLore, https://arxiv.org/abs/2403.03507; APOLLO, https://arxiv.org/abs/2412.05270. Written here because the packages that have
them keep objects in their states that a checkpoint cannot hold (GaLore), step in the projected part (APOLLO) or forbid commercial use.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch

from .paired import closed_loss

GROWTH = 1.01  # APOLLO: a step's length may grow by this factor


class Seen(NamedTuple):
    """What a step is made of: the projected gradient, the whole one, and Adam's correction."""

    part: Any
    gradient: Any
    correction: float


class _LowRankAdamW(torch.optim.Optimizer):
    """What the two have in common.

    Args:
        params: parameters or groups.
        lr: learning rate.
        betas: decay rates of Adam's states.
        eps: added to Adam's denominator.
        weight_decay: decoupled, as AdamW's.
        projection_rank: r.
        projection_gap: steps between two projections.
        seed: of the random projections.
    """

    LENGTH = 1.0  # of the step inside the part, as in the paper

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        projection_rank: int = 128,
        projection_gap: int = 200,
        seed: int = 0,
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "seed": seed}
        super().__init__(params, {**defaults, "projection_rank": projection_rank, "projection_gap": projection_gap})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step; the gradients stay as they are."""
        loss = closed_loss(closure)
        place = 0
        for group in self.param_groups:
            for parameter in group["params"]:
                place += 1
                if parameter.grad is not None:
                    self._move(parameter, self.state[parameter], group, place)
        return loss

    def _move(self, parameter: Any, state: dict[str, Any], group: dict[str, Any], place: int) -> None:
        gradient = parameter.grad.float()
        rank = int(group["projection_rank"])
        is_projected = gradient.dim() == 2 and rank < min(gradient.shape)
        done = int(state.get("step", 0))
        if is_projected and done % int(group["projection_gap"]) == 0:
            state["projection"] = self._projection(gradient, rank, (int(group["seed"]), place, done))
        part = _project(gradient, state["projection"]) if is_projected else gradient
        direction = _adam_direction(part, state, group)
        if is_projected:
            seen = Seen(part, gradient, _correction(state, group))
            direction = self._turn_back(direction, seen, state) * self.LENGTH
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        parameter.add_(direction.to(parameter.dtype), alpha=-group["lr"])

    def _projection(self, gradient: Any, rank: int, draw: tuple[int, int, int]) -> Any:
        raise NotImplementedError

    def _turn_back(self, direction: Any, seen: Seen, state: dict[str, Any]) -> Any:
        raise NotImplementedError


def _correction(state: dict[str, Any], group: dict[str, Any]) -> float:
    """What Adam's correction for the zeros it began with makes of a step."""
    beta1, beta2 = group["betas"]
    return float((1 - beta2 ** state["step"]) ** 0.5 / (1 - beta1 ** state["step"]))


def _project(gradient: Any, projection: Any) -> Any:
    """(m, r) where there are at least as many rows as columns, else (r, n)."""
    return gradient @ projection if gradient.shape[0] >= gradient.shape[1] else projection.T @ gradient


def _adam_direction(part: Any, state: dict[str, Any], group: dict[str, Any]) -> Any:
    """Adam's step before the rate, in torch's order of operations; counts the step."""
    if "exp_avg" not in state:
        state["step"], state["exp_avg"], state["exp_avg_sq"] = 0, torch.zeros_like(part), torch.zeros_like(part)
    beta1, beta2 = group["betas"]
    state["step"] += 1
    state["exp_avg"].lerp_(part, 1 - beta1)
    state["exp_avg_sq"].mul_(beta2).addcmul_(part, part, value=1 - beta2)
    denominator = (state["exp_avg_sq"].sqrt() / (1 - beta2 ** state["step"]) ** 0.5).add_(group["eps"])
    return state["exp_avg"] / denominator / (1 - beta1 ** state["step"])


class GaLore(_LowRankAdamW):
    """Steps inside the part that the gradient's largest singular vectors span."""

    LENGTH = 0.25

    def _projection(self, gradient: Any, rank: int, draw: tuple[int, int, int]) -> Any:
        left, _, right = torch.linalg.svd(gradient, full_matrices=False)
        return right[:rank].T.contiguous() if gradient.shape[0] >= gradient.shape[1] else left[:, :rank].contiguous()

    def _turn_back(self, direction: Any, seen: Seen, state: dict[str, Any]) -> Any:
        projection = state["projection"]
        return direction @ projection.T if seen.gradient.shape[0] >= seen.gradient.shape[1] else projection @ direction


class Apollo(_LowRankAdamW):
    """Steps along the gradient, each channel as long as Adam would go in the part."""

    def _projection(self, gradient: Any, rank: int, draw: tuple[int, int, int]) -> Any:
        seed, place, done = draw
        generator = torch.Generator().manual_seed((seed * 1_000_003 + place) * 1_000_003 + done)
        drawn = torch.randn((min(gradient.shape), rank), generator=generator)
        return (drawn / rank**0.5).to(gradient.device)

    def _turn_back(self, direction: Any, seen: Seen, state: dict[str, Any]) -> Any:
        along = 1 if seen.gradient.shape[0] >= seen.gradient.shape[1] else 0  # the projected side; the other one has the channels
        factor = direction.norm(dim=along, keepdim=True) / seen.part.norm(dim=along, keepdim=True).add_(1e-8)
        step = seen.gradient * factor / seen.correction  # its growth is measured without the correction, as the authors do
        length = step.norm()
        if "length" in state:
            step = step / torch.clamp(length / (state["length"] + 1e-8), min=GROWTH) * GROWTH
            length = step.norm()
        state["length"] = length
        return step * seen.correction
