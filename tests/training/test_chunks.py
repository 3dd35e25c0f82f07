"""Losses and gradients in chunks against torch's own cross_entropy of all logits: trained or frozen, smoothed, capped, scaled."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from training_pro.training import chunks
from training_pro.training.chunks import UNCHANGED, Behind, find_behind, linear_losses, module_losses, whole_losses

X = -100
BEHINDS = [UNCHANGED, Behind("scaled", 0.3), Behind("capped", 1.5)]


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "chunk_size", lambda vocabulary: 3)
    monkeypatch.setattr(chunks, "WORDS_AT_ONCE", 4)


def parts(num: int, dtype: Any, *, bias: bool, trained: bool = True, seed: int = 0) -> tuple[Any, Any, Any]:
    """Hidden states, a head, targets of which every fourth does not count."""
    torch.manual_seed(seed)
    head = torch.nn.Linear(5, 11, bias=bias).to(dtype).requires_grad_(trained)
    targets = torch.randint(0, 11, (num,))
    targets[1::4] = X
    return torch.randn(num, 5).to(dtype).requires_grad_(), head, targets


def gradients(objective: torch.Tensor, *tensors: Any) -> list[torch.Tensor]:
    wanted = [entry for entry in tensors if entry is not None and entry.requires_grad]
    return [entry.double() for entry in torch.autograd.grad(objective * 0.7, wanted)]


def agree(got: list[torch.Tensor], wanted: list[torch.Tensor], bound: float) -> None:
    assert len(got) == len(wanted) > 0
    for first, second in zip(got, wanted, strict=True):
        assert second.norm() > 0
        assert (first - second).norm() <= bound * second.norm()


def oracle(hidden: Any, head: Any, targets: Any, behind: Behind, smoothing: float) -> torch.Tensor:
    """Written down as torch and transformers do it."""
    logits = head(hidden)
    if behind.kind == "capped":
        logits = torch.tanh(logits / behind.value) * behind.value
    elif behind.kind == "scaled":
        logits = logits * behind.value
    exact = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return torch.nn.functional.cross_entropy(exact, targets, ignore_index=X, reduction="sum", label_smoothing=smoothing)


@pytest.mark.parametrize("behind", BEHINDS, ids=lambda behind: behind.kind)
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.9])
@pytest.mark.parametrize(("bias", "trained"), [(False, True), (True, True), (True, False)])
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
@pytest.mark.parametrize("way", ["linear", "module"])
def test_as_torch_does_it(
    behind: Behind, smoothing: float, bias: bool, trained: bool, dtype: Any, bound: float, way: str
) -> None:
    hidden, head, targets = parts(8, dtype, bias=bias, trained=trained)
    compute = linear_losses if way == "linear" else module_losses
    objective, each = compute(hidden, head, targets, behind, smoothing)
    wanted = oracle(hidden, head, targets, behind, smoothing)
    assert objective.dtype == torch.promote_types(dtype, torch.float32)
    assert float(objective) == pytest.approx(float(wanted), rel=bound)
    tensors = (hidden, head.weight, head.bias)
    agree(gradients(objective, *tensors), gradients(wanted, *tensors), bound)
    assert float(each.sum()) == pytest.approx(float(oracle(hidden, head, targets, behind, 0.0)), rel=bound)
    assert (each == 0).tolist() == (targets == X).tolist()
    assert not each.requires_grad


@settings(max_examples=60)
@given(st.integers(1, 20), st.integers(0, 99), st.sampled_from(BEHINDS), st.floats(0, 0.99), st.booleans())
def test_any_number_of_positions(num: int, seed: int, behind: Behind, smoothing: float, bias: bool) -> None:
    hidden, head, targets = parts(num, torch.float64, bias=bias, seed=seed)
    objective, _ = linear_losses(hidden, head, targets, behind, smoothing)
    wanted = oracle(hidden, head, targets, behind, smoothing)
    agree(gradients(objective, hidden, head.weight, head.bias), gradients(wanted, hidden, head.weight, head.bias), 1e-10)


def test_the_losses_of_all_logits_at_once() -> None:
    hidden, head, targets = parts(8, torch.float64, bias=True)
    objective, each = whole_losses(head(hidden), targets, 0.2)
    assert torch.allclose(objective, oracle(hidden, head, targets, UNCHANGED, 0.2))
    assert torch.allclose(each, linear_losses(hidden, head, targets, UNCHANGED, 0.2)[1])


@pytest.mark.parametrize("way", ["linear", "module"])
def test_under_autocast(way: str) -> None:
    hidden, head, targets = parts(8, torch.float32, bias=True)
    compute = linear_losses if way == "linear" else module_losses
    with torch.autocast("cpu", torch.bfloat16):
        objective, _ = compute(hidden, head, targets, UNCHANGED, 0.1)
        wanted = oracle(hidden, head, targets, UNCHANGED, 0.1)
    assert objective.dtype == torch.float32
    agree(gradients(objective, hidden, head.weight, head.bias), gradients(wanted, hidden, head.weight, head.bias), 2e-2)


def test_a_weight_with_two_uses_gets_both_gradients() -> None:
    """Tied to the embeddings, and accumulated over batches."""
    _, head, targets = parts(8, torch.float64, bias=False)
    ids = torch.arange(8)
    for compute in (linear_losses, module_losses):
        head.weight.grad = None
        for _ in range(2):
            compute(torch.nn.functional.embedding(ids, head.weight), head, targets, UNCHANGED, 0.0)[0].backward()
        got = head.weight.grad.clone()
        head.weight.grad = None
        for _ in range(2):
            oracle(torch.nn.functional.embedding(ids, head.weight), head, targets, UNCHANGED, 0.0).backward()
        agree([got], [head.weight.grad], 1e-12)


def test_only_a_chunk_of_logits_exists(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    linear = torch.nn.functional.linear
    monkeypatch.setattr(torch.nn.functional, "linear", lambda *args: sizes.append(len(args[0])) or linear(*args))
    hidden, head, targets = parts(8, torch.float32, bias=True)
    linear_losses(hidden, head, targets, UNCHANGED, 0.0)
    assert sizes == [3, 3, 2]


def test_no_gradient_is_made_where_none_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "_add_gradients", lambda *args: pytest.fail("a gradient was made"))
    hidden, head, targets = parts(8, torch.float32, bias=True)
    with torch.no_grad():
        assert linear_losses(hidden, head, targets, UNCHANGED, 0.0)[0] > 0
    objective, _ = linear_losses(hidden.detach(), head.requires_grad_(False), targets, UNCHANGED, 0.0)
    assert not objective.requires_grad


def test_the_gradients_are_given_away_once() -> None:
    """They would have to be copied else."""
    hidden, head, targets = parts(8, torch.float64, bias=True)
    objective, _ = linear_losses(hidden, head, targets, UNCHANGED, 0.0)
    objective.backward(retain_graph=True)
    with pytest.raises(AssertionError, match="asked for twice"):
        objective.backward()


def test_small_shares_do_not_vanish_in_float16() -> None:
    """The loss's scale of mixed precision comes after the product with the head's weights."""
    share = torch.full((3, 64), 2e-8)
    weight = torch.ones(64, 5, dtype=torch.float16)
    assert (share.half() @ weight).abs().max() == 0
    assert torch.allclose(chunks._times(share, weight), share @ weight.float(), rtol=1e-2)


def test_logits_that_overflow_an_exponential() -> None:
    hidden, head, targets = parts(8, torch.float32, bias=False)
    with torch.no_grad():
        head.weight *= 500
    objective, _ = linear_losses(hidden, head, targets, UNCHANGED, 0.0)
    wanted = oracle(hidden, head, targets, UNCHANGED, 0.0)
    assert float(objective) == pytest.approx(float(wanted), rel=1e-5)
    agree(gradients(objective, hidden, head.weight), gradients(wanted, hidden, head.weight), 1e-4)


@pytest.mark.parametrize("behind", BEHINDS, ids=lambda behind: behind.kind)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_what_is_behind_is_found(behind: Behind, dtype: Any) -> None:
    given = torch.linspace(-50, 50, 101, dtype=torch.float64)
    found = find_behind(given, behind.of(given).to(dtype), [7.0, 1.5])
    assert found is not None
    assert found.kind == behind.kind
    assert found.value == pytest.approx(behind.value, rel=1e-12 if dtype == torch.float64 else 1e-2)
    assert find_behind(given, (given + 0.1 * given.sin()).to(dtype), [7.0, 1.5]) is None
    assert find_behind(given, given.roll(1).to(dtype), []) is None
