"""Training on top of merged adapters, which are taken out again."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import families
import pytest
import torch
from peft import PeftModel
from training_pro import train_utils
from training_pro.adapting.merging import merge_adapters, merge_identity
from training_pro.adapting.targets import choose_targets
from training_pro.adapting.wish import Wish
from training_pro.train_utils import borrowed


def bits(model: Any) -> dict[str, torch.Tensor]:
    return {name: weight.detach().clone() for name, weight in model.named_parameters()}


def equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    assert first
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def make(folder: Path, family: str = "Llama", method: str = "lora", seed: int = 0, **changes: Any) -> str:
    """A trained adapter in a folder."""
    model = families.make(family)
    torch.manual_seed(seed)
    fitted = train_utils.fit(model, Wish(method, choose_targets(model, ["all-linear"]), **{"rank": 2, "alpha": 8, **changes}))
    families.train(fitted.model)
    fitted.save(folder)
    return str(folder)


@pytest.mark.parametrize(("family", "method", "changes"), [
    ("Llama", "lora", {}), ("GPT2", "lora", {}), ("Mixtral", "lora", {}), ("Llama", "dora", {}), ("Qwen2", "lora", {"bias": "all"}),
    ("Llama", "vera", {"vera_rank": 8}), ("Llama", "ia3", {}), ("Llama", "oft", {"oft_block_size": 4}),
    ("Llama", "lora", {"train_embeddings": True}),
])  # fmt: skip
def test_the_model_is_that_with_the_adapter(tmp_path: Path, family: str, method: str, changes: dict[str, Any]) -> None:
    folder = make(tmp_path / "one", family, method, **changes)
    expected = families.logits(PeftModel.from_pretrained(families.make(family), folder))
    model = families.make(family)
    before, plain = bits(model), families.logits(model)
    with borrowed(model, None):
        undo, notes = merge_adapters(model, [folder])
        assert (families.logits(model) - expected).abs().max() < 1e-4 < (plain - expected).abs().max()
        undo()
    assert "one is part of the model in this run. Apply it before the new adapter." in notes[0]
    assert equal(bits(model), before)
    assert torch.equal(families.logits(model), plain)


def test_two_after_each_other_and_one_on_top(tmp_path: Path) -> None:
    """What is learned on top, applied after the first two, is the trained model."""
    folders = (make(tmp_path / "one", seed=1), make(tmp_path / "two", seed=2))
    model = families.make("Llama")
    before = bits(model)
    wish = Wish("lora", choose_targets(model, ["q-v"]), rank=2, alpha=8, merge_first=folders)
    with borrowed(model, None):
        fitted = train_utils.fit(model, wish)
        families.train(fitted.model)
        trained = families.logits(fitted.model)
        fitted.save(tmp_path / "top")
        fitted.undo()
    assert equal(bits(model), before)
    result = families.make("Llama")
    for folder in folders:
        result = PeftModel.from_pretrained(result, folder).merge_and_unload()
    result = PeftModel.from_pretrained(result, str(tmp_path / "top"))
    assert (families.logits(result) - trained).abs().max() < 1e-5
    with borrowed(model, None):  # and a checkpoint of it goes on
        again = train_utils.refit(model, tmp_path / "top", replace(wish, resuming=True))
        assert torch.equal(families.logits(again.model), trained)
        again.undo()
    assert equal(bits(model), before)


@pytest.mark.parametrize("method", ["pissa", "full"])
def test_methods_that_change_the_base_too(tmp_path: Path, method: str) -> None:
    folder = make(tmp_path / "one")
    model = families.make("Llama")
    before, targets = bits(model), choose_targets(model, ["all-linear"])
    wish = Wish("lora", targets, rank=2, initialisation="pissa") if method == "pissa" else Wish("full", targets)
    with borrowed(model, None):
        fitted = train_utils.fit(model, replace(wish, merge_first=(folder,)))
        families.train(fitted.model)
        fitted.undo()
    assert equal(bits(model), before)


def test_identity_is_the_content(tmp_path: Path) -> None:
    one, two = make(tmp_path / "one"), make(tmp_path / "two", seed=2)
    assert merge_identity([one]).startswith("one ")
    assert merge_identity([one]).split()[1] != merge_identity([two]).split()[1]
    assert merge_identity([]) == ""


def test_what_cannot_be_merged(tmp_path: Path) -> None:
    model = families.make("Llama")
    before = bits(model)
    with pytest.raises(
        ValueError, match="Merge first: .*nowhere is no adapter of peft .adapter_model.safetensors, adapter_config.json"
    ):
        merge_adapters(model, [str(tmp_path / "nowhere")])
    other = make(tmp_path / "gpt", "GPT2")
    good = make(tmp_path / "good")
    with (
        borrowed(model, None),
        pytest.raises(ValueError, match="Merge first: .*gpt cannot be merged into this model: .*Choose an adapter"),
    ):
        merge_adapters(model, [good, other])
    assert equal(bits(model), before)
