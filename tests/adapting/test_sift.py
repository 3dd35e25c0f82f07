"""SIFT against a dense update that is restricted to the chosen components, in all ways that a run computes."""

from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from sift_cases import (
    EVERYTHING,
    batch,
    chosen,
    loss_of,
    optimizer_for,
    same,
    sparse_of,
    sparse_steps,
    trained,
    weights_of,
    wish_for,
)
from training_pro.adapting.sift import (
    check_sift,
    fit_sift,
    refit_sift,
    sift_notes,
    sift_size,
    target_names,
)
from training_pro.train_utils import borrowed


def dense_steps(
    model: Any, masks: dict[str, torch.Tensor], steps: list[list[torch.Tensor]], *, kind: str = "adamw", clip: float = 0.0
) -> dict[str, torch.Tensor]:
    """The oracle: a dense optimizer on the whole weights, whose gradients and results are restricted to the masks."""
    model.train()
    before = weights_of(model)
    parameters = {name: parameter for name, parameter in model.named_parameters() if name in masks}
    model.requires_grad_(False)
    for parameter in parameters.values():
        parameter.requires_grad_(True)
    optimizer = optimizer_for(parameters.values(), kind)
    for batches in steps:
        count = sum(tokens[:, 1:].numel() for tokens in batches)
        for tokens in batches:
            (loss_of(model, tokens) / count).backward()
        for name, parameter in parameters.items():
            parameter.grad.mul_(masks[name])
        if clip:
            torch.nn.utils.clip_grad_norm_(parameters.values(), clip)
        optimizer.step()
        optimizer.zero_grad()
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(torch.where(masks[name], parameter, before[name]))
    return weights_of(model)


def masks_of(fitted: Any) -> dict[str, torch.Tensor]:
    masks = {}
    for weight in sparse_of(fitted).weights:
        mask = torch.zeros(weight.weight.numel(), dtype=torch.bool)
        mask[weight.indices.long()] = True
        masks[weight.name] = mask.view_as(weight.weight)
    return masks


def largest_difference(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> float:
    assert first.keys() == second.keys()
    return max(float((first[name].double() - second[name].double()).abs().max()) for name in first)


# --- the update ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["adamw", "sgd"])
@pytest.mark.parametrize("clip", [0.0, 0.05])
@pytest.mark.parametrize("tied", [True, False])
def test_steps_are_those_of_a_dense_update_under_a_mask(kind: str, clip: float, tied: bool) -> None:
    steps = [[batch(number), batch(number + 50, rows=2)] for number in range(5)]
    model = tiny.model(tie_word_embeddings=tied)
    before = weights_of(model)
    fitted = chosen(model, wish_for(model, **EVERYTHING), *steps[0])
    masks = masks_of(fitted)
    assert len(masks) == (20 if tied else 21)
    wanted = dense_steps(tiny.model(tie_word_embeddings=tied), masks, steps, kind=kind, clip=clip)
    sparse_steps(fitted, steps, kind=kind, clip=clip)
    got = weights_of(model)
    assert largest_difference(got, before) > 0.01
    assert largest_difference(got, wanted) < 1e-6
    if not clip and not tied:  # the length of the gradient, and a tied weight's two gradients, are added in another order
        assert same(got, wanted)


def test_nothing_lags_and_the_last_step_counts() -> None:
    """The public code writes a step late and forgets the last one."""
    model = tiny.model()
    fitted = chosen(model, wish_for(model), batch())
    weight = sparse_of(fitted).weights[3]
    optimizer = torch.optim.SGD(trained(model), lr=1.0)
    for number in range(2):
        base = weight.weight.detach().view(-1)[weight.indices.long()].clone()
        loss_of(model, batch(number)).div(100).backward()
        gradient = weight.values.grad.clone()
        optimizer.step()
        optimizer.zero_grad()
        assert torch.equal(weight.weight.detach().view(-1)[weight.indices.long()], base - gradient)
        assert gradient.abs().min() > 0


def test_evaluation_and_generation_see_the_trained_weights() -> None:
    model = tiny.model()
    fitted = chosen(model, wish_for(model), batch())
    sparse_steps(fitted, [[batch(number)] for number in range(3)])
    other = tiny.model()
    other.load_state_dict({name: weight for name, weight in model.state_dict().items() if not name.endswith("_sift")})
    untouched = tiny.model()
    model.eval()
    with torch.no_grad():
        logits = model(input_ids=batch()).logits
        assert torch.equal(logits, other(input_ids=batch()).logits)
        assert not torch.allclose(logits, untouched(input_ids=batch()).logits)
        answers = [one.generate(batch(), max_new_tokens=8, do_sample=False) for one in (model, other)]
    assert torch.equal(*answers)


def test_values_that_change_without_an_optimizer_are_written_too() -> None:
    model = tiny.model()
    fitted = chosen(model, wish_for(model), batch())
    weight = sparse_of(fitted).weights[0]
    with torch.no_grad():
        weight.values.mul_(2)
        model(input_ids=batch())
    assert torch.equal(weight.weight.detach().view(-1)[weight.indices.long()], weight.values.detach())


def test_an_optimizer_that_tells_torch_nothing_is_seen() -> None:
    """Kernels of bitsandbytes write into memory behind torch's back."""

    class Silent(torch.optim.Optimizer):
        def step(self, closure: Any = None) -> None:  # type: ignore[override]
            for group in self.param_groups:
                for parameter in group["params"]:
                    parameter.detach().numpy()[:] = 7.0

    model = tiny.model()
    fitted = chosen(model, wish_for(model), batch())
    weight = sparse_of(fitted).weights[0]
    version = weight.values._version
    Silent(trained(model), {"lr": 0.1}).step()
    assert weight.values._version == version
    assert (weight.weight.detach().view(-1)[weight.indices.long()] == 7.0).all()


def test_gradient_checkpointing_changes_nothing() -> None:
    steps = [[batch(number)] for number in range(3)]
    results = []
    for checkpointing in (False, True):
        model = tiny.model()
        if checkpointing:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        fitted = chosen(model, wish_for(model, **EVERYTHING), *steps[0])
        sparse_steps(fitted, steps)
        results.append(weights_of(model))
    assert same(*results)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_half_precision_base_keeps_exact_values(dtype: torch.dtype) -> None:
    """Steps that are too small for the base's number format add up."""
    model = tiny.model().to(dtype)
    fitted = chosen(model, wish_for(model), batch())
    sparse = sparse_of(fitted)
    weight = sparse.weights[0]
    start = weight.values.detach().clone()
    assert weight.values.dtype == torch.float32
    optimizer = torch.optim.SGD(trained(model), lr=1.0)
    for _ in range(64):
        for parameter in trained(model):
            parameter.grad = torch.full_like(parameter, 1e-4)
        optimizer.step()
        assert torch.equal(weight.weight.detach().view(-1)[weight.indices.long()], weight.values.detach().to(dtype))
    torch.testing.assert_close(weight.values.detach(), start - 64e-4, rtol=0, atol=1e-6)
    loss_of(model, batch()).backward()
    assert weight.values.grad is not None
    assert weight.values.grad.dtype == torch.float32


def test_under_autocast() -> None:
    """A float32 base that computes in bfloat16: the gradient is that of the dense weight, in float32."""
    gradients = []
    for kind in ("dense", "sparse"):
        model = tiny.model()
        if kind == "sparse":
            sparse = sparse_of(chosen(model, wish_for(model), batch()))
            model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            loss_of(model, batch()).backward()
        gradients.append(model)
    names = dict(gradients[0].named_parameters())
    for weight in sparse.weights:
        assert torch.equal(weight.values.grad, names[weight.name].grad.view(-1)[weight.indices.long()])


def test_other_families(tmp_path: Path) -> None:
    """Transposed linear layers (GPT-2) and fused experts (Qwen3 MoE)."""
    from transformers import AutoModelForCausalLM, GPT2Config, Qwen3MoeConfig

    gpt2 = GPT2Config(vocab_size=256, n_positions=32, n_embd=32, n_layer=2, n_head=2, resid_pdrop=0, attn_pdrop=0, embd_pdrop=0)
    moe = Qwen3MoeConfig(
        **{"vocab_size": 256, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2},
        **{"num_key_value_heads": 1, "head_dim": 16, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16},
    )
    for config in (gpt2, moe):
        models = []
        for _ in range(2):
            torch.manual_seed(0)
            models.append(AutoModelForCausalLM.from_config(config))
        steps = [[batch(number)] for number in range(3)]
        fitted = chosen(models[0], wish_for(models[0], **EVERYTHING), *steps[0])
        names = [weight.name for weight in sparse_of(fitted).weights]
        assert any("c_attn" in name for name in names) or any(name.endswith("experts.gate_up_proj") for name in names)
        wanted = dense_steps(models[1], masks_of(fitted), steps)
        sparse_steps(fitted, steps)
        assert largest_difference(weights_of(models[0]), wanted) < 1e-6


# --- what is trained, refused and given back -----------------------------------------------------------------------------------


def test_which_weights_are_targets() -> None:
    model = tiny.model()
    names = target_names(model, wish_for(model, ("q-v",)))
    assert names == [f"model.layers.{layer}.self_attn.{leaf}_proj.weight" for layer in (0, 1) for leaf in "qv"]
    names = target_names(model, wish_for(model, ("q-v",), train_head=True, sift_norms=True))
    assert names[0] == "model.embed_tokens.weight"
    assert names[-1] == "model.norm.weight"
    assert len(names) == 4 + 1 + 5
    assert target_names(tiny.model(tie_word_embeddings=False), wish_for(model, ("q-v",), train_head=True))[-1] == "lm_head.weight"


def test_sizes_are_those_of_the_run() -> None:
    model = tiny.model()
    wish = wish_for(model, **EVERYTHING)
    size = sift_size(model, wish)
    fitted = chosen(model, wish, batch())
    assert size.num_trained == sum(parameter.numel() for parameter in trained(model))
    assert f"SIFT: {size.num_trained:,} of " in fitted.notes[0]
    assert size.num_bytes == 8 * size.num_trained


def test_state_is_in_proportion_to_the_rate() -> None:
    counts = []
    for rate in (0.1, 0.01):
        model = tiny.model()
        fitted = chosen(model, wish_for(model, sift_rate=rate), batch())
        optimizer = optimizer_for(trained(model))
        loss_of(model, batch()).backward()
        optimizer.step()
        gradients = sum(parameter.grad.numel() for parameter in model.parameters() if parameter.grad is not None)
        moments = sum(
            entry.numel() for state in optimizer.state.values() for name, entry in state.items() if name.startswith("exp_")
        )
        whole = sum(weight.weight.numel() for weight in sparse_of(fitted).weights)
        assert gradients == pytest.approx(rate * whole, rel=0.01)
        assert moments == 2 * gradients
        counts.append(gradients)
    assert counts[0] == pytest.approx(10 * counts[1], rel=0.01)


@pytest.mark.parametrize("steps", [0, 2])
def test_the_base_is_given_back(steps: int) -> None:
    model = tiny.model()
    model.get_input_embeddings().weight.requires_grad_(False)
    flags = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    state = {name: value.clone() for name, value in model.state_dict().items()}
    fitted = chosen(model, wish_for(model, **EVERYTHING), batch())
    sparse_steps(fitted, [[batch(number)] for number in range(steps)])
    if steps:
        assert not same(state, {name: model.state_dict()[name] for name in state})
    fitted.undo()
    fitted.undo()
    model.zero_grad()
    assert same(state, model.state_dict())
    assert flags == {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    optimizer_for(model.parameters()).step()


def test_a_forward_pass_that_fails_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny.model()
    chosen(model, wish_for(model), batch())
    layer = model.model.layers[0].self_attn.q_proj
    monkeypatch.setattr(torch.nn.functional, "linear", lambda *args: 1 / 0)
    monkeypatch.setattr(layer, "forward", lambda *args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        model(input_ids=batch())
    assert "weight" not in layer.__dict__


def test_a_borrowed_model_comes_back() -> None:
    model, tokenizer = tiny.model(), tiny.fresh_tokenizer()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    with borrowed(model, tokenizer):
        fitted = chosen(model, wish_for(model), batch())
        sparse_steps(fitted, [[batch()]])
        fitted.undo()
    assert same(state, model.state_dict())


def test_a_quantized_base_is_refused() -> None:
    model = tiny.model()
    model.config.quantization_config = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    with pytest.raises(
        ValueError, match=r"SIFT changes single components.*\(bitsandbytes\).*Load the model without quantization"
    ):
        fit_sift(model, wish_for(model))
    model = tiny.model()
    layer = model.model.layers[0].mlp.up_proj
    layer.weight = torch.nn.Parameter(layer.weight.to(torch.int8), requires_grad=False)
    with pytest.raises(ValueError, match=r"needs floating-point weights, and model\.layers\.0\.mlp\.up_proj\.weight is packed"):
        check_sift(model, wish_for(model))


def test_what_else_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny.model()
    with pytest.raises(ValueError, match="SIFT Rate: it is a share"):
        fit_sift(model, wish_for(model, sift_rate=0.0))
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(ValueError, match="FSDP cuts them into parts"):
        fit_sift(model, wish_for(model))
    monkeypatch.delenv("ACCELERATE_USE_FSDP")
    model.model.layers[0].mlp.up_proj.to("meta")
    with pytest.raises(ValueError, match=r"model\.layers\.0\.mlp\.up_proj\.weight is kept on disk"):
        fit_sift(model, wish_for(model))
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_settings_that_are_likely_mistakes() -> None:
    assert [sift_notes(rate, "adamw_torch") for rate in (2e-4, 1e-3, 2.1e-5)] == [[]] * 3
    assert "Got: 0.01, more than 10 times higher" in sift_notes(1e-2, "adamw_bnb_8bit")[0]
    assert "Got: 1e-06, more than 10 times lower" in sift_notes(1e-6, "adamw_torch")[0]
    assert sift_notes(1.0, "prodigy") == sift_notes(1.0, "sgd") == []
    for optimizer in ("muon", "galore", "apollo"):
        assert f"{optimizer} works on whole matrices" in sift_notes(2e-4, optimizer)[0]


# --- going on ------------------------------------------------------------------------------------------------------------------


def test_a_resumed_training_is_bit_equal(tmp_path: Path) -> None:
    steps = [[batch(number)] for number in range(6)]

    def run(first: int, last: int, model: Any, fitted: Any, state: Any = None) -> Any:
        optimizer = optimizer_for(trained(model))
        if state:
            optimizer.load_state_dict(state)
        model.train()
        for batches in steps[first:last]:
            loss_of(model, batches[0]).div(50).backward()
            optimizer.step()
            optimizer.zero_grad()
        return optimizer.state_dict()

    model = tiny.model().bfloat16()
    whole = chosen(model, wish_for(model, **EVERYTHING), *steps[0])
    run(0, 6, model, whole)

    other = tiny.model().bfloat16()
    part = chosen(other, wish_for(other, **EVERYTHING), *steps[0])
    state = run(0, 3, other, part)
    part.save(tmp_path)
    part.undo()
    again = refit_sift(other, tmp_path, wish_for(other, **EVERYTHING))
    assert again.choose is None
    assert len(again.notes) == 1
    run(3, 6, other, again, state)
    assert same(weights_of(model), weights_of(other))
    assert all(
        torch.equal(one.values, two.values) for one, two in zip(sparse_of(whole).weights, sparse_of(again).weights, strict=True)
    )
    again.undo()
    assert same(tiny.model().bfloat16().state_dict(), other.state_dict())


def test_what_a_result_was_made_with_stays(tmp_path: Path) -> None:
    model = tiny.model()
    fitted = chosen(model, wish_for(model), batch())
    fitted.save(tmp_path)
    fitted.undo()
    again = refit_sift(model, tmp_path, wish_for(model, sift_rate=0.2))
    assert "SIFT Rate and Target modules have no effect on it" in again.notes[1]
    again.undo()
    other = tiny.model(seed=1)
    with pytest.raises(ValueError, match="does not belong to this model"):
        refit_sift(other, tmp_path, wish_for(other))
    assert all(parameter.requires_grad for parameter in other.parameters())
