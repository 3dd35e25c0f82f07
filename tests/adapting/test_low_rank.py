"""GaLore and APOLLO against AdamW, against a step written down plainly, and after a resume; paired optimizers as one."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from training_pro.adapting.low_rank import GROWTH, Apollo, GaLore
from training_pro.adapting.paired import PairedOptimizer

KINDS = {"galore": GaLore, "apollo": Apollo}


def gradients(shape: tuple[int, ...], num: int, seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator) for _ in range(num)]


def moved(optimizer_of: Any, shape: tuple[int, ...], num: int) -> torch.Tensor:
    """The parameter after some steps."""
    parameter = torch.nn.Parameter(gradients(shape, 1, seed=7)[0])
    optimizer = optimizer_of([parameter])
    for gradient in gradients(shape, num):
        parameter.grad = gradient
        optimizer.step()
    return parameter.detach()


@pytest.mark.parametrize("kind", KINDS)
@given(shape=st.sampled_from([(5,), (4, 6), (6, 4), (2, 3, 4)]), decay=st.sampled_from([0.0, 0.1]))
@settings(max_examples=10, deadline=None)
def test_with_full_rank_it_is_adamw(kind: str, shape: tuple[int, ...], decay: float) -> None:
    options = {"lr": 0.01, "betas": (0.9, 0.95), "eps": 1e-6, "weight_decay": decay}
    ours = moved(lambda params: KINDS[kind](params, projection_rank=4, **options), shape, 4)
    torchs = moved(lambda params: torch.optim.AdamW(params, **options), shape, 4)
    assert torch.allclose(ours, torchs, atol=2e-7)
    assert not torch.allclose(ours, gradients(shape, 1, seed=7)[0], atol=1e-3)


def plain_galore(gradient: torch.Tensor, rank: int, lr: float, scale: float) -> torch.Tensor:
    """The first step of the paper's algorithm 2: Adam's first direction is the sign of what it sees."""
    left, _, right = torch.linalg.svd(gradient)
    if gradient.shape[0] >= gradient.shape[1]:
        part = gradient @ right[:rank].T
        return -lr * scale * torch.sign(part) @ right[:rank]
    part = left[:, :rank].T @ gradient
    return -lr * scale * left[:, :rank] @ torch.sign(part)


@pytest.mark.parametrize("shape", [(9, 5), (5, 9), (6, 6)])
def test_galore_steps_in_the_largest_directions(shape: tuple[int, int]) -> None:
    gradient = gradients(shape, 1)[0]
    step = moved(lambda params: GaLore(params, 0.01, projection_rank=2), shape, 1) - gradients(shape, 1, seed=7)[0]
    assert torch.allclose(step, plain_galore(gradient, 2, 0.01, 0.25), atol=1e-6)
    assert torch.linalg.matrix_rank(step, atol=1e-5) == 2


@pytest.mark.parametrize("shape", [(9, 5), (5, 9)])
def test_apollo_steps_along_the_gradient_channel_by_channel(shape: tuple[int, int]) -> None:
    parameter = torch.nn.Parameter(torch.zeros(shape))
    optimizer = Apollo([parameter], 0.01, projection_rank=2)
    first = gradients(shape, 1)[0]
    parameter.grad = first
    optimizer.step()
    state = optimizer.state[parameter]
    rows = shape[0] >= shape[1]
    part = first @ state["projection"] if rows else state["projection"].T @ first
    factor = torch.sign(part).norm(dim=int(rows), keepdim=True) / part.norm(dim=int(rows), keepdim=True)
    assert torch.allclose(parameter, -0.01 * first * factor, atol=1e-6)
    assert torch.linalg.matrix_rank(parameter.detach(), atol=1e-6) == 5  # not only the projected part
    length, before = state["length"].clone(), parameter.detach().clone()
    parameter.grad = first  # Adam would take a step that is a third longer, before its correction
    optimizer.step()
    correction = (1 - 0.999**2) ** 0.5 / (1 - 0.9**2)
    assert float((parameter.detach() - before).norm()) == pytest.approx(0.01 * GROWTH * float(length) * correction, rel=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_states_are_small_and_a_resume_is_exact(kind: str) -> None:
    def make() -> tuple[torch.nn.Parameter, Any]:
        parameter = torch.nn.Parameter(gradients((40, 20), 1, seed=7)[0])
        return parameter, KINDS[kind]([parameter], 0.01, projection_rank=3, projection_gap=4, seed=5)

    all_gradients = gradients((40, 20), 10)
    whole, optimizer = make()
    for gradient in all_gradients:
        whole.grad = gradient
        torch.rand(3)  # nobody else's random numbers matter
        optimizer.step()
    held = optimizer.state[whole]
    assert sum(value.numel() for value in held.values() if torch.is_tensor(value)) <= 2 * 40 * 3 + 20 * 3 + 1
    resumed, first = make()
    for gradient in all_gradients[:5]:
        resumed.grad = gradient
        first.step()
    second = KINDS[kind]([resumed], 0.5)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for gradient in all_gradients[5:]:
        resumed.grad = gradient
        second.step()
    assert torch.equal(resumed, whole)


def pair() -> tuple[list[torch.nn.Parameter], PairedOptimizer]:
    matrix, vector = torch.nn.Parameter(gradients((4, 4), 1)[0]), torch.nn.Parameter(gradients((4,), 1)[0])
    return [matrix, vector], PairedOptimizer([torch.optim.SGD([matrix], 0.1, momentum=0.9), torch.optim.AdamW([vector], 0.01)])


def test_paired_optimizers_are_their_parts() -> None:
    (matrix, vector), both = pair()
    alone_matrix, alone_vector = torch.nn.Parameter(matrix.detach().clone()), torch.nn.Parameter(vector.detach().clone())
    parts = [torch.optim.SGD([alone_matrix], 0.1, momentum=0.9), torch.optim.AdamW([alone_vector], 0.01)]
    schedule = torch.optim.lr_scheduler.LambdaLR(both, lambda step: 0.5**step)
    schedules = [torch.optim.lr_scheduler.LambdaLR(part, lambda step: 0.5**step) for part in parts]
    for first, second in zip(gradients((4, 4), 4), gradients((4,), 4), strict=True):
        matrix.grad, vector.grad, alone_matrix.grad, alone_vector.grad = first, second, first, second
        both.step()
        schedule.step()
        for part, its in zip(parts, schedules, strict=True):
            part.step()
            its.step()
    assert [group["lr"] for group in both.param_groups] == [0.1 / 16, 0.01 / 16]
    assert torch.equal(matrix, alone_matrix)
    assert torch.equal(vector, alone_vector)
    both.zero_grad()
    assert matrix.grad is None


def test_a_paired_optimizer_goes_on_exactly() -> None:
    (matrix, vector), whole = pair()
    (again_matrix, again_vector), first = pair()
    steps = list(zip(gradients((4, 4), 4), gradients((4,), 4), strict=True))
    for number, (one, two) in enumerate(steps):
        matrix.grad, vector.grad, again_matrix.grad, again_vector.grad = one, two, one, two
        whole.step()
        if number == 2:
            saved = copy.deepcopy(first.state_dict())
            for part in first.parts:
                part.state.clear()
            first.load_state_dict(saved)
        first.step()
    assert torch.equal(matrix, again_matrix)
    assert torch.equal(vector, again_vector)
    with pytest.raises(ValueError, match="states of 0 optimizers, this run has 2"):
        first.load_state_dict({"state": {}, "param_groups": []})
