"""The file of a sparse increment: written, read, refused; put on a base, taken off, merged."""

import json
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from sift_cases import EVERYTHING, batch, chosen, same, sparse_of, sparse_steps, weights_of, wish_for
from training_pro.adapting.sift_apply import apply_sift, merge_sift, merge_sift_folder
from training_pro.adapting.sift_files import digests, is_sift_folder, matches, read_sift
from training_pro.adapting.sift_weights import index_type, put_at, take_at


def made(folder: Path, model: Any, **changes: Any) -> dict[str, torch.Tensor]:
    """A result of three steps in ``folder``; the trained weights. The model is given back."""
    fitted = chosen(model, wish_for(model, **changes), batch())
    sparse_steps(fitted, [[batch(number)] for number in range(3)])
    fitted.save(folder)
    trained = weights_of(model)
    fitted.undo()
    return trained


# --- components ----------------------------------------------------------------------------------------------------------------


@settings(max_examples=60)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=3), st.booleans(), st.data())
def test_components_go_where_they_came_from(shape: list[int], transposed: bool, data: Any) -> None:
    tensor = torch.arange(float(torch.Size(shape).numel())).view(shape)
    tensor = tensor.transpose(0, -1) if transposed else tensor
    flat = tensor.reshape(-1).clone()
    numbers = data.draw(st.lists(st.integers(0, len(flat) - 1), unique=True, max_size=len(flat)))
    indices = torch.tensor(sorted(numbers), dtype=torch.int32)
    taken = take_at(tensor, indices)
    assert torch.equal(taken, flat[indices.long()])
    put_at(tensor, indices, taken + 100)
    flat[indices.long()] += 100
    assert torch.equal(tensor.reshape(-1), flat)


def test_large_weights_have_large_indices() -> None:
    assert index_type(2**31 - 1) == torch.int32
    assert index_type(2**31) == torch.int64


# --- the file ------------------------------------------------------------------------------------------------------------------


def test_what_is_in_the_file(tmp_path: Path) -> None:
    model = tiny.model()
    fitted = chosen(model, wish_for(model, ("q-v",)), batch())
    sparse_steps(fitted, [[batch()]])
    fitted.save(tmp_path)
    assert is_sift_folder(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["sift.safetensors", "sift_config.json"]
    tensors, config = load_file(tmp_path / "sift.safetensors"), json.loads((tmp_path / "sift_config.json").read_text())
    names = [weight.name for weight in sparse_of(fitted).weights]
    assert sorted(tensors) == sorted(f"{name}.{part}" for name in names for part in ("indices", "values"))
    for weight in sparse_of(fitted).weights:
        indices, values = tensors[f"{weight.name}.indices"], tensors[f"{weight.name}.values"]
        assert (indices.dtype, values.dtype) == (torch.int32, torch.float32)
        assert (indices.diff() > 0).all()
        assert torch.equal(values, weight.weight.detach().view(-1)[indices.long()])
        facts = config["weights"][weight.name]
        assert (facts["shape"], facts["components"]) == ([64, 64], 205)
        assert set(facts["base"]) == {"float32", "bfloat16", "float16"}
    assert config["rate"] == pytest.approx(0.05, abs=1e-4)
    assert (config["model_type"], config["dtype"]) == ("llama", "float32")
    assert (tmp_path / "sift.safetensors").stat().st_size < 8 * 4 * 205 + 2000


def test_digests_know_a_base_in_every_number_format() -> None:
    exact = torch.randn(50, generator=torch.Generator().manual_seed(0))
    known = digests(exact)
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        assert matches(exact.to(dtype), known)
    assert not matches(exact.double(), known)
    other = exact.clone()
    other[7] = torch.nextafter(other[7], torch.tensor(9.0))
    assert not matches(other, known)
    half = digests(exact.bfloat16())  # of a model that was loaded in bfloat16, now in float32
    assert matches(exact.bfloat16().float(), half)


def test_damaged_and_foreign_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="There is no SIFT result in"):
        read_sift(tmp_path)
    model = tiny.model()
    made(tmp_path, model)
    config = json.loads((tmp_path / "sift_config.json").read_text())

    def written(**changes: Any) -> Any:
        (tmp_path / "sift_config.json").write_text(json.dumps({**config, **changes}))
        return read_sift(tmp_path)

    with pytest.raises(ValueError, match="has version 9, this program reads 1"):
        written(version=9)
    with pytest.raises(ValueError, match="is no description of a SIFT result"):
        written(format="lora")
    name = next(iter(config["weights"]))
    facts = {**config["weights"][name], "components": 1}
    with pytest.raises(ValueError, match=rf"disagree on {name}"):
        list(written(weights={**config["weights"], name: facts}).tensors())
    facts = {**config["weights"][name], "shape": [2, 2]}
    with pytest.raises(ValueError, match=rf"disagree on {name}"):
        list(written(weights={**config["weights"], name: facts}).tensors())
    written()
    tensors = load_file(tmp_path / "sift.safetensors")
    del tensors[f"{name}.values"]
    save_file(tensors, tmp_path / "sift.safetensors")
    with pytest.raises(ValueError, match=r"sift\.safetensors cannot be read: .*Train it again"):
        list(read_sift(tmp_path).tensors())
    (tmp_path / "sift.safetensors").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"sift\.safetensors cannot be read"):
        apply_sift(model, tmp_path)


# --- on and off ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_on_and_off(tmp_path: Path, tied: bool, dtype: torch.dtype) -> None:
    trained = made(tmp_path, tiny.model(tie_word_embeddings=tied).to(dtype), **EVERYTHING)
    model = tiny.model(tie_word_embeddings=tied).to(dtype)
    before = weights_of(model)
    applied = apply_sift(model, tmp_path)
    assert same(weights_of(model), trained)
    assert not same(trained, before)
    assert applied.num_components == sum(facts["components"] for facts in read_sift(tmp_path).config["weights"].values())
    applied.remove()
    assert same(weights_of(model), before)
    applied.remove()
    assert same(weights_of(model), before)


def test_a_base_in_another_number_format(tmp_path: Path) -> None:
    """Trained on a float32 copy; the base is loaded in bfloat16."""
    trained = made(tmp_path, tiny.model())
    model = tiny.model().bfloat16()
    apply_sift(model, tmp_path)
    assert same(weights_of(model), {name: weight.bfloat16() for name, weight in trained.items()})


def test_a_wrong_base_is_refused_untouched(tmp_path: Path) -> None:
    made(tmp_path, tiny.model())
    other = tiny.model()
    last = other.model.layers[1].mlp.down_proj.weight
    indices = load_file(tmp_path / "sift.safetensors")["model.layers.1.mlp.down_proj.weight.indices"]
    with torch.no_grad():
        last.view(-1)[indices[5].long()] += 1e-3
    before = weights_of(other)
    with pytest.raises(ValueError, match=r"model\.layers\.1\.mlp\.down_proj\.weight has other values"):
        apply_sift(other, tmp_path)
    assert same(weights_of(other), before)
    with pytest.raises(ValueError, match=r"should have the shape \[64, 64\], its shape is \[32, 32\]"):
        apply_sift(tiny.model(hidden_size=32), tmp_path)
    with pytest.raises(ValueError, match=r"model\.layers\.1\..* it has none of that name"):
        apply_sift(tiny.model(num_hidden_layers=1), tmp_path)
    model = tiny.model()
    apply_sift(model, tmp_path)
    with pytest.raises(ValueError, match="or the result is on it already"):
        apply_sift(model, tmp_path)
    quantized = tiny.model()
    quantized.config.quantization_config = {"quant_method": "bitsandbytes"}
    with pytest.raises(ValueError, match="without quantization"):
        apply_sift(quantized, tmp_path)


def test_what_was_changed_since_is_not_undone(tmp_path: Path) -> None:
    made(tmp_path, tiny.model())
    model = tiny.model()
    applied = apply_sift(model, tmp_path)
    with torch.no_grad():
        model.model.layers[0].self_attn.q_proj.weight.mul_(2)
    before = weights_of(model)
    with pytest.raises(ValueError, match="the model was changed after it was put on"):
        applied.remove()
    assert same(weights_of(model), before)


# --- merged --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tied", [True, False])
def test_a_merged_folder_is_the_trained_model(tmp_path: Path, tied: bool) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, tokenizer = tiny.model(tie_word_embeddings=tied), tiny.fresh_tokenizer()
    (tmp_path / "sift").mkdir()
    fitted = chosen(model, wish_for(model, **EVERYTHING), batch())
    sparse_steps(fitted, [[batch(number)] for number in range(3)])
    fitted.save(tmp_path / "sift")
    model.eval()
    with torch.no_grad():
        wanted = model(input_ids=batch()).logits
    fitted.undo()
    before = weights_of(model)
    merged = merge_sift(model, tokenizer, tmp_path / "sift", tmp_path / "merged")
    assert same(weights_of(model), before)
    names = {path.name for path in merged.iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"} <= names
    assert not any(key.endswith(("_sift", "indices")) for key in load_file(merged / "model.safetensors"))
    loaded = AutoModelForCausalLM.from_pretrained(merged).eval()
    with torch.no_grad():
        assert torch.equal(loaded(input_ids=batch()).logits, wanted)
    again = AutoTokenizer.from_pretrained(merged)
    assert again("the lighthouse")["input_ids"] == tokenizer("the lighthouse")["input_ids"]
    assert again.chat_template == tokenizer.chat_template
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    with pytest.raises(ValueError, match="that exists already"):
        merge_sift(model, tokenizer, tmp_path / "sift", merged)


def test_a_base_on_disk_is_merged_in_its_own_number_format(tmp_path: Path) -> None:
    """Trained as a run on a CPU loads it, in float32; stored in bfloat16."""
    from transformers import AutoModelForCausalLM

    base, target = tmp_path / "base", tmp_path / "merged"
    tiny.model().bfloat16().save_pretrained(base)
    tiny.fresh_tokenizer().save_pretrained(base)
    (tmp_path / "sift").mkdir()
    trained = made(tmp_path / "sift", AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32))
    merge_sift_folder(base, tmp_path / "sift", target)
    merged = AutoModelForCausalLM.from_pretrained(target)
    assert merged.dtype == torch.bfloat16
    assert same(weights_of(merged), {name: weight.bfloat16() for name, weight in trained.items()})
    exact = AutoModelForCausalLM.from_pretrained(
        merge_sift_folder(base, tmp_path / "sift", tmp_path / "exact", dtype="float32"), dtype="auto"
    )
    assert exact.dtype == torch.float32
    assert same(weights_of(exact), trained)


def test_a_merge_that_fails_leaves_nothing_and_gives_the_base_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny.model()
    (tmp_path / "sift").mkdir()
    made(tmp_path / "sift", model)
    before = weights_of(model)

    def full(folder: str, **how: Any) -> None:
        Path(folder).mkdir()
        raise OSError("No space left on device")

    monkeypatch.setattr(model, "save_pretrained", full)
    with pytest.raises(OSError, match="No space left"):
        merge_sift(model, None, tmp_path / "sift", tmp_path / "merged")
    assert same(weights_of(model), before)
    assert [path.name for path in tmp_path.iterdir()] == ["sift"]
    (tmp_path / "no-model").mkdir()
    with pytest.raises(ValueError, match="cannot be loaded"):
        merge_sift_folder(tmp_path / "no-model", tmp_path / "sift", tmp_path / "merged")
