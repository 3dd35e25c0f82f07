"""A batch's loss and gradient by every route, whatever method trains the model: adapters, all weights, with and without checkpointing.

The oracle runs every sample alone, without padding, through the model's own forward in float64.
"""

from typing import Any

import architectures
import numpy as np
import pytest
import tiny
import torch
from training_pro import train_utils
from training_pro.training.noise import BatchPlace
from training_pro.training.routes import Trial, choose_route
from training_pro.training.step import BatchLoss, Extras

X = -100
SINGLE = ("gemma2", "mixtral")  # overflow, or have no kernel, in float64
# what a head can be: tied, with a bias, capped, scaled, divided, beside experts
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "llama": {"tie_word_embeddings": True},
    "gpt2": {},
    "phi": {},
    "gemma2": {"final_logit_softcapping": 0.5},
    "cohere": {"logit_scale": 0.3},
    "granite": {"logits_scaling": 13.0},
    "mixtral": {},
}


def entries() -> list[dict[str, Any]]:
    """Two packs and a sample alone; some tokens are not trained."""
    rng = np.random.default_rng(0)
    made = []
    for lengths in ([9, 14], [23], [4, 6, 5]):
        ids = rng.integers(3, 100, sum(lengths))
        made.append({"input_ids": ids, "labels": np.where(np.arange(len(ids)) % 5 == 2, X, ids), "lengths": lengths})
    return made


def trial(model: Any) -> Trial:
    rng = np.random.default_rng(1)
    pieces = [{"input_ids": rng.integers(3, 100, length)} for length in (30, 12, 9)]
    return Trial(model, [{**piece, "labels": piece["input_ids"]} for piece in pieces], 0, "float32", has_packs=True)


def gradient(model: Any) -> dict[str, torch.Tensor]:
    found = {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}
    model.zero_grad()
    return found


def oracle(model: Any, smoothing: float) -> tuple[float, dict[str, torch.Tensor]]:
    total = 0.0
    for entry in entries():
        cuts = np.cumsum(entry["lengths"])[:-1]
        for ids, labels in zip(np.split(entry["input_ids"], cuts), np.split(entry["labels"], cuts), strict=True):
            logits = model(input_ids=torch.as_tensor(ids)[None], use_cache=False).logits[0, :-1]
            targets = torch.as_tensor(labels)[1:]
            loss = torch.nn.functional.cross_entropy(logits, targets, ignore_index=X, reduction="sum", label_smoothing=smoothing)
            loss.backward()
            total += loss.item()
    return total, gradient(model)


def agree(got: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor], bound: float) -> None:
    assert got.keys() == wanted.keys()
    whole = [torch.cat([entry.flatten() for entry in found.values()]) for found in (got, wanted)]
    assert whole[1].norm() > 0
    assert (whole[0] - whole[1]).norm() <= bound * whole[1].norm()
    for name, entry in wanted.items():
        assert (got[name] - entry).norm() <= 100 * bound * max(entry.norm(), 1e-3 * whole[1].norm()), name


def fitted(name: str, method: str) -> Any:
    model = architectures.make(name, dtype=torch.float32 if name in SINGLE else torch.float64, **ARCHITECTURES[name])
    model.config.use_cache = False
    if method == "full":
        return model.requires_grad_(True)
    targets = list(train_utils.choose_targets(model, ["all-linear"]).modules)
    made = train_utils.add_lora(model, rank=4, alpha=8, dropout=0.0, targets=targets)
    generator = torch.Generator().manual_seed(0)
    for key, weight in made.named_parameters():
        if weight.requires_grad and "lora_B" in key:
            weight.data.normal_(0, 0.05, generator=generator)
    return made


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("method", ["lora", "full"])
@pytest.mark.parametrize("layout", ["flat", "masked", "padded"])
def test_every_method_by_every_route(name: str, method: str, layout: str) -> None:
    model = fitted(name, method)
    route = choose_route(trial(model), layout)
    assert (route.layout, route.head) == (layout, "chunked")
    computer, bound = BatchLoss(model, route, Extras(label_smoothing=0.1)), 1e-5 if name in SINGLE else 1e-8
    for is_checkpointing in (False, True):
        wanted_loss, wanted = oracle(model, 0.1)  # before checkpointing is on
        model.train()
        if is_checkpointing:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        with computer.attached():
            losses = computer.training_losses(model, computer.collator(0)(entries()), BatchPlace())
            losses.objective.backward()
        assert losses.objective.item() == pytest.approx(wanted_loss, rel=bound)
        agree(gradient(model), wanted, bound)
        model.eval()
    assert len(wanted) > 3


@pytest.mark.parametrize("layout", ["flat", "masked", "padded"])
@pytest.mark.parametrize("method", ["lora", "full"])
def test_checkpointing_keeps_less(layout: str, method: str) -> None:
    """By bytes that the graph holds after the forward pass, each storage once."""
    model = fitted("llama", method).train()
    computer = BatchLoss(model, choose_route(trial(model), layout))
    kept = []
    for is_checkpointing in (False, True):
        if is_checkpointing:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        own = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
        held: dict[int, int] = {}

        def remember(tensor: torch.Tensor, held: dict[int, int] = held, own: set[int] = own) -> torch.Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in own:
                held[storage.data_ptr()] = storage.nbytes()
            return tensor

        with computer.attached(), torch.autograd.graph.saved_tensors_hooks(remember, lambda tensor: tensor):
            loss = computer.loss_sum(model, computer.collator(0)(entries()))
            loss.backward()
        kept.append(sum(held.values()))
    assert 0 < kept[1] < 0.35 * kept[0]


@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_filler_reaches_every_weight(method: str) -> None:
    """DDP waits for the gradient of each."""
    model = fitted("llama", method)
    computer = BatchLoss(model, choose_route(trial(model)), Extras(neftune_alpha=5.0, label_smoothing=0.1))
    rows = [{**entry, "labels": np.full(len(entry["input_ids"]), X)} for entry in entries()]
    with computer.attached():
        losses = computer.training_losses(model, computer.collator(0)(rows), BatchPlace())
        losses.objective.backward()
    assert losses.objective.item() == 0
    assert losses.each.shape == (0,)
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    assert all(weight.grad is not None and not weight.grad.any() for weight in trained)


def test_losses_stand_in_the_order_of_the_targets() -> None:
    model = tiny.model().double()
    computer = BatchLoss(model, choose_route(trial(model)))
    batch = computer.collator(0)(entries())
    with torch.no_grad(), computer.attached():
        losses = computer.losses(model, batch)
        logits = computer.logits(model, batch)
    wanted = torch.nn.functional.cross_entropy(logits, batch["targets"], reduction="none")
    assert len(set(losses.each.tolist())) == len(batch["targets"]) > 20
    assert torch.allclose(losses.each, wanted, rtol=1e-10)
    assert losses.objective.item() == pytest.approx(wanted.sum().item())
