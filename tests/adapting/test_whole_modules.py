"""Head and embeddings trained whole: what is shared stays shared, sizes, float32 beside a 16-bit base."""

from pathlib import Path
from typing import Any

import families
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from training_pro import train_utils
from training_pro.adapting.targets import choose_targets
from training_pro.adapting.whole_modules import whole_modules
from training_pro.adapting.wish import Wish
from training_pro.train_utils import borrowed, count_parameters

BOTH = {"train_head": True, "train_embeddings": True}
VOCABULARY = 40 * 16


def wish_for(model: Any, **changes: Any) -> Wish:
    return Wish("lora", choose_targets(model, ["q-v"]), rank=2, alpha=4, **changes)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("wanted", [{"train_head": True}, {"train_embeddings": True}, BOTH])
@pytest.mark.parametrize("family", ["Llama", "GPT2"])
def test_plain_peft_loads_it(tmp_path: Path, family: str, wanted: dict[str, bool], tied: bool, dtype: Any) -> None:
    """To the logits that were trained; in a 16-bit base up to its format."""
    model = families.make(family, tie_word_embeddings=tied).to(dtype)
    wish = wish_for(model, **wanted)
    with borrowed(model, None):
        size = train_utils.model_size(model, wish)
        fitted = train_utils.fit(model, wish)
        copies = {id(weight): weight for name, weight in fitted.model.named_parameters() if "modules_to_save" in name}
        assert len(copies) == (1 if tied or len(wanted) == 1 else 2)
        assert {weight.dtype for weight in copies.values()} == {torch.float32}
        assert count_parameters(fitted.model)[0] == size.num_trained
        before = {key: weight.detach().clone() for key, weight in copies.items()}
        families.train(fitted.model)
        assert all(not torch.equal(before[key], copies[key]) for key in copies)
        trained = families.logits(fitted.model)
        fitted.save(tmp_path)
        head = fitted.model.get_output_embeddings()
        weights = [
            getattr(entry, "modules_to_save", {"default": entry})["default"].weight for entry in (head, embeddings(fitted.model))
        ]
        assert (weights[0] is weights[1]) == tied
    tensors = load_file(tmp_path / "adapter_model.safetensors")
    assert sum(tensor.numel() * tensor.element_size() for tensor in tensors.values()) == size.num_bytes
    result = families.logits(PeftModel.from_pretrained(families.make(family, tie_word_embeddings=tied).to(dtype), str(tmp_path)))
    if dtype == torch.float32:
        assert torch.equal(result, trained)
    else:
        assert (result.float() - trained.float()).abs().max() < 0.03 * trained.float().abs().max()


def embeddings(model: Any) -> Any:
    return model.get_base_model().get_input_embeddings()


def test_sizes_in_words() -> None:
    model = families.make("Llama", tie_word_embeddings=True)
    size = train_utils.model_size(model, wish_for(model, train_head=True))
    (words,) = size.notes
    assert "embed_tokens and lm_head adds 640 trained weights" in words
    assert "Head and embeddings are one weight in this model, so both are trained together." in words
    plain = train_utils.model_size(model, wish_for(model))
    assert (size.num_trained - plain.num_trained, size.num_bytes - plain.num_bytes) == (VOCABULARY, 2 * 4 * VOCABULARY)
    untied = families.make("Llama", tie_word_embeddings=False)
    size = train_utils.model_size(untied, wish_for(untied, **BOTH))
    assert "embed_tokens and lm_head adds 1,280 trained weights" in size.notes[0]
    assert whole_modules(untied, wish_for(untied)) is None


def test_small_steps_count_beside_a_16_bit_base() -> None:
    """A step of 1/1000 of a weight vanishes in bfloat16; here it is learned."""
    model = families.make("Llama", tie_word_embeddings=False).bfloat16()
    with borrowed(model, None):
        fitted = train_utils.fit(model, wish_for(model, train_embeddings=True))
        (weight,) = [weight for name, weight in fitted.model.named_parameters() if "modules_to_save" in name]
        start = weight.detach().clone()
        families.train(fitted.model, rate=2e-6)
        moved = (weight - start).abs()
        assert 0 < moved.max() < 2e-5
        assert (moved > 0).float().mean() > 0.4
        assert torch.equal(start.bfloat16().float(), start)
        assert (weight.detach().bfloat16() == start.bfloat16()).float().mean() > 0.9


def test_a_model_that_names_no_head() -> None:
    model = families.make("Llama")
    model.get_output_embeddings = lambda: None
    with pytest.raises(ValueError, match="Train head: the model names no output head or embeddings that could be trained"):
        train_utils.model_size(model, wish_for(model, train_head=True))


def test_copies_that_were_trained_apart_stay_apart(tmp_path: Path) -> None:
    """Plain peft unties them; such an adapter is continued as it is."""
    from peft import LoraConfig, get_peft_model

    model = families.make("Llama", tie_word_embeddings=True)
    config = LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=["embed_tokens", "lm_head"], task_type="CAUSAL_LM")
    theirs = get_peft_model(model, config)
    families.train(theirs)
    expected = families.logits(theirs)
    theirs.save_pretrained(str(tmp_path), save_embedding_layers=False)
    again = families.make("Llama", tie_word_embeddings=True)
    assert torch.equal(families.logits(train_utils.refit(again, tmp_path, wish_for(again)).model), expected)
