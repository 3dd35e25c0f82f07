"""Which components SIFT chooses: against a dense top k of the summed gradient, within the memory that it may take."""

from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sift_cases import EVERYTHING, batch, chosen, loss_of, same, sparse_of, wish_for
from training_pro.adapting.sift import fit_sift, target_names
from training_pro.adapting.sift_choice import choose_components, default_budget, largest
from training_pro.adapting.sift_weights import make_sparse


def dense_gradients(model: Any, *batches: torch.Tensor) -> dict[str, torch.Tensor]:
    model.train()
    for tokens in batches:
        (loss_of(model, tokens) / 100).backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("budget", [1, 40_000, 10**9])
def test_the_largest_gradients_are_chosen(budget: int) -> None:
    """Whatever the number of passes, over several batches and in tied weights."""
    batches = [batch(1), batch(2, rows=1), batch(3, rows=2)]
    gradients = dense_gradients(tiny.model(), *batches)
    model = tiny.model()
    names = target_names(model, wish_for(model, **EVERYTHING))
    sizes = {name: max(1, gradients[name].numel() // 20) for name in names}
    sparse = make_sparse(model.train(), sizes)
    calls = 0

    def backward(scale: float) -> None:
        nonlocal calls
        calls += 1
        for tokens in batches:
            (loss_of(model, tokens) * scale / 100).backward()

    choice = choose_components(sparse, backward, budget=budget)
    assert calls == choice.num_passes == {1: 20, 10**9: 1}.get(budget, calls)
    assert len(sparse.weights) == 20
    kept = 0.0
    for weight in sparse.weights:
        dense = gradients[weight.name].abs().view(-1)
        expected = dense.topk(sizes[weight.name]).indices.sort().values
        assert torch.equal(weight.indices.long(), expected), weight.name
        assert torch.equal(weight.originals, weight.weight.detach().view(-1)[expected])
        kept += float(dense[expected].square().sum())
    whole = sum(float(gradients[name].square().sum()) for name in names)
    assert choice.share == pytest.approx(kept / whole, rel=1e-5)
    assert choice.num_components == sum(sizes.values())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_the_choice_leaves_the_random_state_alone_and_draws_the_same_dropout() -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(vocab_size=256, n_positions=32, n_embd=32, n_layer=2, n_head=2)
    assert config.resid_pdrop > 0
    results = []
    for budget in (1, 10**9):
        torch.manual_seed(0)
        model = GPT2LMHeadModel(config).train()
        sparse = make_sparse(model, {name: 5 for name in target_names(model, wish_for(model))})
        torch.manual_seed(3)
        state = torch.get_rng_state()
        choose_components(sparse, lambda scale, model=model: loss_of(model, batch()).backward(), budget=budget)  # type: ignore[misc]
        assert torch.equal(torch.get_rng_state(), state)
        results.append({weight.name: weight.indices for weight in sparse.weights})
    assert same(*results)


def test_sums_stay_within_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    from training_pro.adapting import sift_choice

    model = tiny.model()
    wish = wish_for(model, sift_rate=0.01)
    sizes = [dict(model.named_parameters())[name].numel() for name in target_names(model, wish)]
    budget = default_budget(sizes, [size // 100 for size in sizes])
    assert budget == 4 * -(-sum(sizes) // 8)
    assert default_budget(sizes, [size // 10 for size in sizes]) == 12 * sum(size // 10 for size in sizes)
    held: list[int] = []
    find = sift_choice._sums

    def watched(*args: Any) -> Any:
        sums = find(*args)
        held.append(sum(total.numel() * total.element_size() for total in sums.values()))
        return sums

    monkeypatch.setattr(sift_choice, "_sums", watched)
    chosen(model, wish, batch())
    assert len(held) > 4
    assert max(held) <= max(budget, 4 * max(sizes))
    assert sum(held) == 4 * sum(sizes)


def test_one_dense_gradient_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """While backward runs, the gradient of a weight is gone before the next one is made."""
    import weakref

    from training_pro.adapting.sift_weights import SparseWeight

    model = tiny.model()
    fitted = chosen(model, wish_for(model), batch())
    alive: list[Any] = []
    most = 0
    gather = SparseWeight.gradient

    def watched(self: Any, dense: torch.Tensor) -> torch.Tensor:
        nonlocal most
        alive.append(weakref.ref(dense.untyped_storage()))
        most = max(most, sum(entry() is not None for entry in alive))
        return gather(self, dense)

    monkeypatch.setattr(SparseWeight, "gradient", watched)
    loss_of(model, batch()).backward()
    assert len(alive) == len(sparse_of(fitted).weights) == 14
    assert most == 1


def test_a_gradient_that_overflows_is_tried_with_a_smaller_scale_or_refused() -> None:
    model = tiny.model()
    sparse = make_sparse(model.train(), {name: 5 for name in target_names(model, wish_for(model))})
    scales: list[float] = []

    def backward(scale: float) -> None:
        scales.append(scale)
        (loss_of(model, batch()) * (float("inf") if scale > 300 else scale)).backward()

    choice = choose_components(sparse, backward, half=True, budget=10**9)
    assert scales == [2.0**16, 2.0**12, 2.0**8]
    assert choice.num_passes == 3
    with pytest.raises(ValueError, match=r"the gradient of model\.layers\.0.* is not finite in the first batches"):
        choose_components(sparse, lambda scale: (loss_of(model, batch()) * float("nan")).backward())


def test_components_without_a_gradient_are_counted() -> None:
    """Rows of the embeddings whose tokens do not come."""
    model = tiny.model(tie_word_embeddings=False)
    wish = wish_for(model, ("q-v",), train_embeddings=True, sift_rate=0.5)
    fitted = fit_sift(model, wish)
    model.train()
    assert fitted.choose
    words = fitted.choose(lambda scale: loss_of(model, batch(rows=1)).backward(), False)
    assert "chose" in words[0]
    assert "% of the gradient's squared length" in words[0]
    rows = len(batch(rows=1)[:, :-1].unique())
    silent = round(0.5 * model.get_input_embeddings().weight.numel()) - rows * 64
    assert f"{silent:,} chosen components had no gradient" in words[1]


def test_a_step_before_the_choice_is_an_error(tmp_path: Path) -> None:
    model = tiny.model()
    fitted = fit_sift(model, wish_for(model))
    with pytest.raises(RuntimeError, match="nothing to save before the components were chosen"):
        fitted.save(tmp_path)
    with torch.no_grad():
        model(input_ids=batch())
    with pytest.raises(RuntimeError, match="before the components were chosen"):
        model(input_ids=batch())


@settings(max_examples=100)
@given(st.lists(st.sampled_from([0.0, 1e-42, 0.1, 0.5, 0.50000006, 3.0, 3e38]), min_size=1, max_size=40), st.data())
def test_largest_of_equal_ones_is_the_first(numbers: list[float], data: Any) -> None:
    size = data.draw(st.integers(1, len(numbers)))
    order = sorted(range(len(numbers)), key=lambda index: (-numbers[index], index))
    for dtype in (torch.float32, torch.float64):
        assert largest(torch.tensor(numbers, dtype=dtype), size).tolist() == sorted(order[:size])


@pytest.mark.parametrize("size", [1, 777, 50_000])
def test_largest_is_a_dense_topk(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training_pro.adapting.sift_choice._PART", 1000)
    gradient = torch.randn(250, 200, generator=torch.Generator().manual_seed(size)).abs()
    assert torch.equal(largest(gradient, size), gradient.view(-1).topk(size).indices.sort().values)
