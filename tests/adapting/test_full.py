"""Full fine-tuning: the loaded model back to the bit, a folder that transformers loads, master weights, copies in memory or on disk."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import families
import pytest
import tiny
import torch
from training_pro import train_utils
from training_pro.adapting import full
from training_pro.adapting.targets import Targets
from training_pro.adapting.wish import Wish
from training_pro.train_utils import borrowed, count_parameters
from transformers import AutoModelForCausalLM, AutoTokenizer

NOTHING = Targets((), ())


def bits(model: Any) -> dict[str, torch.Tensor]:
    return {name: weight.detach().clone() for name, weight in model.named_parameters()}


def equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    assert first
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("weights", full.FULL_WEIGHTS)
@pytest.mark.parametrize("family", ["Llama", "GPT2", "Mixtral"])
def test_a_folder_that_transformers_loads(tmp_path: Path, family: str, weights: str, dtype: Any) -> None:
    model = families.make(family).to(dtype)
    before, pointers = bits(model), [weight.data_ptr() for weight in model.parameters()]
    wish = Wish("full", NOTHING, full_weights=weights, tokenizer=tiny.tokenizer())
    with borrowed(model, None):
        size = train_utils.model_size(model, wish)
        fitted = train_utils.fit(model, wish)
        assert count_parameters(fitted.model)[0] == size.num_trained == sum(weight.numel() for weight in before.values())
        trained_in = {weight.dtype for weight in fitted.model.parameters()}
        assert trained_in == {torch.float32 if weights == "float32" else dtype}
        families.train(fitted.model, rate=0.01)
        trained = bits(fitted.model)
        assert fitted.save_result
        fitted.save_result(tmp_path)
        assert equal(bits(fitted.model), trained)  # saving rounds copies only
        fitted.undo()
    assert equal(bits(model), before)
    assert [weight.data_ptr() for weight in model.parameters()] == pointers
    result = AutoModelForCausalLM.from_pretrained(str(tmp_path), local_files_only=True)
    assert {weight.dtype for weight in result.parameters()} == {dtype}
    assert equal(bits(result), {name: weight.to(dtype) for name, weight in trained.items()})
    assert sum(weight.numel() * weight.element_size() for weight in bits(result).values()) == size.num_bytes
    assert AutoTokenizer.from_pretrained(str(tmp_path))("where is").input_ids == tiny.tokenizer()("where is").input_ids


def test_master_weights_learn_what_16_bits_lose() -> None:
    """Steps of 1/1000 of a weight: bfloat16 alone stays where it is."""
    moved = {}
    for weights in full.FULL_WEIGHTS:
        model = families.make("Llama").bfloat16()
        with borrowed(model, None):
            fitted = train_utils.fit(model, Wish("full", NOTHING, full_weights=weights))
            before = {name: weight.float() for name, weight in bits(fitted.model).items()}
            families.train(fitted.model, steps=4, rate=2e-6)
            after = bits(fitted.model)
            name = "model.layers.0.mlp.up_proj.weight"
            moved[weights] = float(((after[name].float() - before[name]) != 0).float().mean())
            fitted.undo()
    assert moved["float32"] > 0.9
    assert moved["as the model"] < 0.1


# --- giving back from disk -----------------------------------------------------------------------------------------------------


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    families.make("Llama").save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def load(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(str(folder), local_files_only=True)


def test_weights_are_read_again(stored: Path) -> None:
    model = load(stored)
    before, wish = bits(model), Wish("full", NOTHING, full_copy="disk")
    with borrowed(model, None):
        fitted = train_utils.fit(model, wish)
        assert fitted.notes == ["Full fine-tuning: the model's weights are read from its folder again afterwards."]
        families.train(fitted.model)
        assert not equal(bits(model), before)
        fitted.undo()
    assert equal(bits(model), before)


@pytest.mark.parametrize("change", ["weight", "gone"])
def test_a_folder_that_cannot_give_them_back(stored: Path, change: str) -> None:
    """It is found before the run, and a copy is kept."""
    model = load(stored)
    if change == "weight":
        with torch.no_grad():
            model.model.layers[1].mlp.up_proj.weight[0, 0] += 1
    else:
        (stored / "config.json").unlink()
    before = bits(model)
    with borrowed(model, None):
        fitted = train_utils.fit(model, Wish("full", NOTHING, full_copy="disk"))
        expected = {
            "weight": "the model's folder holds another model.layers.1.mlp.up_proj.weight",
            "gone": "there is no model folder",
        }
        assert expected[change] in fitted.notes[0]
        assert "so a copy is kept in memory instead" in fitted.notes[0]
        families.train(fitted.model)
        fitted.undo()
    assert equal(bits(model), before)


# --- going on ------------------------------------------------------------------------------------------------------------------


def test_a_result_is_continued(tmp_path: Path) -> None:
    model = families.make("Llama")
    wish = Wish("full", NOTHING)
    with borrowed(model, None):
        fitted = train_utils.fit(model, wish)
        families.train(fitted.model)
        trained = bits(fitted.model)
        fitted.result(tmp_path)
        fitted.undo()
    with borrowed(model, None):
        again = train_utils.refit(model, tmp_path, wish)
        assert equal(bits(again.model), trained)
        again.undo()


@pytest.mark.parametrize("resuming", [False, True])
def test_weights_of_another_model(tmp_path: Path, resuming: bool) -> None:
    other = families.make("Llama", num_hidden_layers=1)
    fitted = train_utils.fit(other, Wish("full", NOTHING))
    (fitted.save if resuming else fitted.result)(tmp_path)
    model = families.make("Llama")
    before, wish = bits(model), Wish("full", NOTHING, resuming=resuming)
    with (
        borrowed(model, None),
        pytest.raises(ValueError, match="the weights in .* are those of another model. Load the model that was"),
    ):
        train_utils.refit(model, tmp_path, wish)
    with borrowed(model, None), pytest.raises(ValueError, match="the weights in .*nowhere cannot be continued"):
        train_utils.refit(model, tmp_path / "nowhere", replace(wish, resuming=resuming))
    assert equal(bits(model), before)


def test_a_save_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = families.make("Llama").bfloat16()
    fitted = train_utils.fit(model, Wish("full", NOTHING))
    trained = bits(fitted.model)

    def no_room(folder: str) -> None:
        Path(folder, "config.json").write_text("{")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(fitted.model, "save_pretrained", no_room, raising=False)
    with pytest.raises(OSError, match="No space left"):
        fitted.result(tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert equal(bits(fitted.model), trained)
    assert fitted.model.model.embed_tokens.weight.dtype == torch.float32
