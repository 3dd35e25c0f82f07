"""Small models that SIFT trains, for its tests."""

from __future__ import annotations

from typing import Any

import torch
from training_pro.adapting.sift import fit_sift
from training_pro.adapting.targets import choose_targets
from training_pro.adapting.wish import Wish


def wish_for(model: Any, targets: tuple[str, ...] = ("all-linear",), **changes: Any) -> Wish:
    return Wish(method="sift", targets=choose_targets(model, targets), **{"sift_rate": 0.05, **changes})


def batch(seed: int = 0, rows: int = 4) -> torch.Tensor:
    """(rows, 12) tokens."""
    return torch.randint(3, 200, (rows, 12), generator=torch.Generator().manual_seed(seed))


def loss_of(model: Any, tokens: torch.Tensor) -> torch.Tensor:
    """Sum over the tokens, as training/loss.py has it."""
    logits = model(input_ids=tokens).logits[:, :-1].float()
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten(), reduction="sum")


def chosen(model: Any, wish: Wish, *batches: torch.Tensor) -> Any:
    """A fitted model whose components are chosen by these batches."""
    fitted = fit_sift(model, wish)
    model.train()
    assert fitted.choose is not None

    def backward(scale: float) -> None:
        for tokens in batches:
            (loss_of(model, tokens) * scale / 100).backward()

    fitted.choose(backward, False)
    return fitted


def sparse_of(fitted: Any) -> Any:
    return fitted.undo.__self__


def weights_of(model: Any) -> dict[str, torch.Tensor]:
    """Copies of the base's weights, without the values of the components."""
    return {name: weight.detach().clone() for name, weight in model.named_parameters() if not name.endswith("_sift")}


def trained(model: Any) -> list[Any]:
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def optimizer_for(parameters: Any, kind: str = "adamw") -> Any:
    if kind == "sgd":
        return torch.optim.SGD(parameters, lr=0.05, momentum=0.9, weight_decay=0.1)
    return torch.optim.AdamW(parameters, lr=0.01, weight_decay=0.1)


def sparse_steps(fitted: Any, steps: list[list[torch.Tensor]], *, kind: str = "adamw", clip: float = 0.0) -> None:
    """The same with SIFT."""
    model = fitted.model
    model.train()
    optimizer = optimizer_for(trained(model), kind)
    for batches in steps:
        count = sum(tokens[:, 1:].numel() for tokens in batches)
        for tokens in batches:
            (loss_of(model, tokens) / count).backward()
        if clip:
            torch.nn.utils.clip_grad_norm_(trained(model), clip)
        optimizer.step()
        optimizer.zero_grad()


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    assert first
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


EVERYTHING = {"train_embeddings": True, "train_head": True, "sift_norms": True}
