"""The table of methods, without a run: sizes, saving, loading back, going on, giving back; and what models cannot take."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import families
import pytest
import torch
from safetensors.torch import load_file
from training_pro import train_utils
from training_pro.adapting.initial import INITIALISATIONS
from training_pro.adapting.methods import METHODS
from training_pro.adapting.targets import choose_targets
from training_pro.adapting.wish import Targets, Wish
from training_pro.train_utils import borrowed, count_parameters

IN_PEFT = [name for name, method in METHODS.items() if method.in_peft]
OF_BASES = [name for name in INITIALISATIONS if name not in ("eva", "loftq")]  # those that need nothing but a model
FORMATS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def wish_for(model: Any, method: str, targets: list[str] | None = None, **changes: Any) -> Wish:
    """A small wish of a method."""
    chosen = choose_targets(model, targets or ["all-linear"]) if METHODS[method].uses_targets else Targets((), ())
    sizes = {"rank": 2, "alpha": 8, "vera_rank": 8, "oft_block_size": 4}
    return Wish(method, chosen, **{**sizes, **changes})


def loaded(model: Any, folder: Path) -> torch.Tensor:
    """Logits of an adapter's folder in plain peft."""
    from peft import PeftModel

    return families.logits(PeftModel.from_pretrained(model, str(folder)))


def bits(model: Any) -> dict[str, torch.Tensor]:
    return {name: weight.detach().clone() for name, weight in model.named_parameters()}


def equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    assert first
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def saved_bytes(folder: Path) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in load_file(folder / "adapter_model.safetensors").values())


CASES = [(family, method) for family in ("Llama", "GPT2", "Qwen2") for method in IN_PEFT if (family, method) != ("GPT2", "oft")]


@pytest.mark.parametrize(("family", "method"), [*CASES, ("Mixtral", "lora"), ("Qwen3Moe", "lora"), ("GPTNeoX", "lora")])
@pytest.mark.parametrize("dtype", FORMATS)
def test_a_method_of_peft(tmp_path: Path, family: str, method: str, dtype: str) -> None:
    """What was trained is what plain peft loads, its size is what was said, and the base is as it was."""
    model = families.make(family).to(FORMATS[dtype])
    before, wish = bits(model), wish_for(model, method)
    with borrowed(model, None):
        size = train_utils.model_size(model, wish)
        fitted = train_utils.fit(model, wish)
        assert count_parameters(fitted.model)[0] == size.num_trained
        families.train(fitted.model)
        trained = families.logits(fitted.model)
        fitted.save(tmp_path)
        fitted.undo()
    assert equal(bits(model), before)
    assert saved_bytes(tmp_path) == size.num_bytes
    assert (trained - families.logits(model)).abs().max() > 1e-3
    assert torch.equal(loaded(families.make(family).to(FORMATS[dtype]), tmp_path), trained)


@pytest.mark.parametrize("initialisation", OF_BASES)
@pytest.mark.parametrize("family", ["Llama", "GPT2"])
@pytest.mark.parametrize("rslora", [False, True])
def test_initialisations(tmp_path: Path, family: str, initialisation: str, rslora: bool) -> None:
    model = families.make(family)
    before, plain, wish = (
        bits(model),
        families.logits(model),
        wish_for(model, "lora", initialisation=initialisation, rslora=rslora),
    )
    if (family, initialisation) == ("GPT2", "olora"):
        with pytest.raises(ValueError, match="Initialisation olora: it cannot go on the transposed weights of this model"):
            train_utils.model_size(model, wish)
        return
    changes = initialisation in ("pissa", "pissa fast", "olora")
    with borrowed(model, None):
        size = train_utils.model_size(model, wish)
        torch.manual_seed(0)
        fitted = train_utils.fit(model, wish)
        assert (families.logits(fitted.model) - plain).abs().max() < 1e-5  # nothing has changed before the first step
        assert equal(bits(fitted.model.get_base_model()), before) is False
        assert changes == (
            not torch.equal(dict(model.named_parameters())[first_weight(model)], before[first_weight_name(before)])
        )
        families.train(fitted.model, rate=0.02)
        trained = families.logits(fitted.model)
        fitted.save(tmp_path)
        fitted.undo()
    assert equal(bits(model), before)
    assert saved_bytes(tmp_path) == size.num_bytes
    result = loaded(families.make(family), tmp_path)
    assert (result - trained).abs().max() < 1e-5 < (trained - plain).abs().max()
    if not changes:
        assert torch.equal(result, trained)


def first_weight(model: Any) -> str:
    """The first target's own weight, under the name that it has inside an adapter's layer."""
    return next(name for name, _ in model.named_parameters() if name.endswith("base_layer.weight"))


def first_weight_name(before: dict[str, torch.Tensor]) -> str:
    return next(name for name in before if name.endswith(("q_proj.weight", "c_attn.weight")))


@pytest.mark.parametrize(
    ("method", "changes"),
    [
        *((method, {}) for method in IN_PEFT),
        *(("lora", {"initialisation": kind}) for kind in OF_BASES),
        ("lora", {"initialisation": "pissa", "train_embeddings": True, "bias": "all", "rslora": True}),
        ("dora", {"bias": "lora_only", "train_head": True}),
        ("full", {}),
        ("full", {"full_weights": "as the model"}),
    ],
)
@pytest.mark.parametrize("dtype", FORMATS)
def test_going_on_is_never_having_stopped(tmp_path: Path, method: str, changes: dict[str, Any], dtype: str) -> None:
    """What a checkpoint holds is bit-equal: the steps after it are those of the run that went on."""
    model = families.make("Qwen2").to(FORMATS[dtype])
    before, wish = bits(model), wish_for(model, method, **changes)
    with borrowed(model, None):
        torch.manual_seed(0)
        fitted = train_utils.fit(model, wish)
        families.train(fitted.model)
        fitted.save(tmp_path)
        families.train(fitted.model)
        whole = trained_bits(fitted.model)
        fitted.undo()
    assert equal(bits(model), before)
    with borrowed(model, None):
        again = train_utils.refit(model, tmp_path, replace(wish, resuming=True))
        families.train(again.model)
        assert equal(trained_bits(again.model), whole)
        again.undo()
    assert equal(bits(model), before)


def trained_bits(model: Any) -> dict[str, torch.Tensor]:
    return {name: weight.detach().clone() for name, weight in model.named_parameters() if weight.requires_grad}


def test_what_begins_otherwise_ends_otherwise(tmp_path: Path) -> None:
    """The comparison above can fail: without the state of a checkpoint the steps are others."""
    model = families.make("Qwen2")
    wish = wish_for(model, "lora")
    found = []
    for _ in range(2):
        with borrowed(model, None):
            fitted = train_utils.fit(model, wish)
            families.train(fitted.model)
            found.append(trained_bits(fitted.model))
    assert not equal(*found)


@pytest.mark.parametrize(("rank", "tokens"), [(4, 24), (12, 5)])
def test_eva_begins_with_the_directions_of_the_data(rank: int, tokens: int) -> None:
    """The oracle is numpy's singular vectors of what goes into the first layer; too few tokens are told."""
    model = families.make("Llama")
    plain = families.logits(model)
    ids = torch.arange(tokens).view(1, tokens) % 40
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids}
    wish = wish_for(model, "lora", rank=rank, initialisation="eva", batches=lambda num: [batch] * 2)
    if tokens < rank:
        with (
            borrowed(model, None),
            pytest.raises(
                ValueError,
                match="Initialisation eva: the first 10 trained tokens give too few directions for LoRA Rank 12. Lower the rank",
            ),
        ):
            train_utils.fit(model, wish)
        return
    inputs: list[torch.Tensor] = []
    handle = model.model.layers[0].self_attn.q_proj.register_forward_pre_hook(
        lambda module, args: inputs.append(args[0][0].detach())
    )
    families.logits(model)
    inputs.clear()
    with torch.no_grad():
        model(**batch, use_cache=False)
    handle.remove()
    centred = inputs[0] - inputs[0].mean(0)
    directions = torch.linalg.svd(centred, full_matrices=False)[2][:rank]
    with borrowed(model, None):
        fitted = train_utils.fit(model, wish)
        weights = dict(fitted.model.named_parameters())
        found = weights["base_model.model.model.layers.0.self_attn.q_proj.lora_A.default.weight"].detach()
        assert (found @ directions.T).abs().diagonal().min() > 0.99
        assert torch.equal(families.logits(fitted.model), plain)
        assert fitted.model.peft_config["default"].init_lora_weights is True
        assert fitted.model.peft_config["default"].target_modules == set(wish.targets.modules)


# --- continuing a finished adapter ---------------------------------------------------------------------------------------------


def test_a_finished_adapter_keeps_what_it_was_made_with(tmp_path: Path) -> None:
    model = families.make("Llama")
    with borrowed(model, None):
        fitted = train_utils.fit(model, wish_for(model, "lora", initialisation="pissa"))
        families.train(fitted.model, rate=0.02)
        fitted.save(tmp_path)
        fitted.undo()
    wish = wish_for(model, "lora", ["q-v"], rank=3, alpha=8, initialisation="pissa")
    with borrowed(model, None):
        before = families.logits(train_utils.fit(families.make("Llama"), wish_for(model, "lora")).model)
        again = train_utils.refit(model, tmp_path, wish)
        assert (families.logits(again.model) - before).abs().max() > 1e-3
        assert "keeps what it was made with: LoRA Rank 4, LoRA Alpha 16, Target modules down_proj gate_proj" in again.notes[-1]
        again.save(tmp_path / "again")
        again.undo()
    first, second = (load_file(folder / "adapter_model.safetensors") for folder in (tmp_path, tmp_path / "again"))
    assert equal(first, second)  # it is a plain LoRA now, whatever it began as


def test_an_adapter_of_another_kind_is_not_continued(tmp_path: Path) -> None:
    model = families.make("Llama")
    with borrowed(model, None):
        train_utils.fit(model, wish_for(model, "vera")).save(tmp_path)
    with (
        borrowed(model, None),
        pytest.raises(ValueError, match="Method: the adapter in .* was made by vera. Got: 'lora'. Choose that"),
    ):
        train_utils.refit(model, tmp_path, wish_for(model, "lora"))
    with borrowed(model, None), pytest.raises(ValueError, match="If the name exists: the adapter in .* cannot be continued"):
        train_utils.refit(model, tmp_path / "nowhere", wish_for(model, "lora"))


# --- what cannot be ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("family", "method", "changes", "message"),
    [
        (
            "Qwen2",
            "lora",
            {"rank": 9},
            "LoRA Rank: k_proj has 16 x 8 weights, so a rank above 8 adds nothing. Got: 9. Choose 8 or less, or",
        ),
        (
            "Mixtral",
            "dora",
            {},
            "Method: dora cannot go on the fused expert weights experts.gate_up_proj, experts.down_proj. Choose lora",
        ),
        ("Mixtral", "vera", {}, "Method: vera cannot go on the fused expert weights"),
        ("Mixtral", "ia3", {}, "Method: ia3 cannot go on the fused expert weights"),
        ("Mixtral", "oft", {}, "Method: oft cannot go on the fused expert weights"),
        (
            "Mixtral",
            "lora",
            {"initialisation": "pissa"},
            "Initialisation pissa: it cannot go on the fused expert weights experts.gate_up",
        ),
        ("GPT2", "oft", {}, "Method: oft cannot go on the transposed weights of c_attn. Choose lora or vera"),
        (
            "Llama",
            "oft",
            {"oft_block_size": 6},
            "OFT block size: q_proj has 16 inputs, which are no whole .* Got: 6. Choose for example 4",
        ),
        (
            "Llama",
            "lora",
            {"initialisation": "loftq"},
            "Initialisation loftq: it makes good what a 4-bit base has lost, and this base",
        ),
    ],
)
def test_what_a_model_cannot_take(family: str, method: str, changes: dict[str, Any], message: str) -> None:
    model = families.empty(family)
    with pytest.raises(ValueError, match=message):
        train_utils.model_size(model, wish_for(model, method, **changes))


def test_dropout_cannot_go_on_fused_experts() -> None:
    model = families.make("Mixtral")
    wish = wish_for(model, "lora", dropout=0.3)
    assert "there is none for this adapter" in train_utils.model_size(model, wish).notes[0]
    with borrowed(model, None):
        assert train_utils.fit(model, wish).model.peft_config["default"].lora_dropout == 0.0
    assert train_utils.model_size(model, wish_for(model, "lora", ["q-v"], dropout=0.3)).notes == ()


def test_packed_bases_refuse_what_changes_them() -> None:
    model = families.make("Llama")
    model.model.layers[0].mlp.up_proj.__class__ = type("Linear4bit", (torch.nn.Linear,), {"__module__": "bitsandbytes.nn"})
    model.model.layers[0].mlp.up_proj.weight.quant_type = "nf4"
    for method, changes in (("full", {}), ("lora", {"initialisation": "pissa"}), ("lora", {"initialisation": "olora"})):
        with pytest.raises(ValueError, match="it changes the weights of the base, and those of this model are packed"):
            train_utils.model_size(model, wish_for(model, method, **changes))
    with pytest.raises(ValueError, match="Merge first: it changes the weights of the base"):
        train_utils.model_size(model, wish_for(model, "lora", merge_first=("x",)))


@pytest.mark.parametrize("method", IN_PEFT)
def test_a_model_with_an_adapter_is_refused(method: str) -> None:
    model = families.make("Llama")
    wish = wish_for(model, method)
    adapted = train_utils.add_lora(model, rank=2, alpha=4, dropout=0.0, targets=["q_proj"])
    with pytest.raises(ValueError, match=r"Model: an adapter \(default\) is applied to the loaded model"):
        train_utils.fit(adapted, wish)


@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_failed_beginning_leaves_the_base_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, method: str) -> None:
    """Memory may run out in the middle of what changes base weights."""
    from training_pro.adapting import initial

    model = families.make("Llama")
    before = bits(model)
    calls: list[int] = []
    subtract = initial._subtract

    def no_room(layer: Any) -> None:
        calls.append(1)
        if len(calls) == 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        subtract(layer)

    monkeypatch.setattr(initial, "_subtract", no_room)
    wish = wish_for(model, method, initialisation="pissa", resuming=True)
    with borrowed(model, None), pytest.raises((torch.OutOfMemoryError, ValueError)):
        train_utils.fit(model, wish) if method == "lora" else train_utils.refit(model, tmp_path, wish)
    assert len(calls) == (3 if method == "lora" else 0)
    assert equal(bits(model), before)
