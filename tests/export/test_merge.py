"""Merging every kind of adapter: the merged folder answers as base and adapter do, or there is none."""

import json
from collections import namedtuple
from pathlib import Path
from typing import Any

import export_cases
import pytest
import torch
from training_pro.export import merge_files, merge_model
from training_pro.export.adapter import read_adapter
from training_pro.export.merge import Merged, MergeWish, make_wish, merge_adapter
from training_pro.train_utils import read_chat_template


def peft_config(kind: str) -> Any:
    import peft

    common = {"task_type": "CAUSAL_LM"}
    return {
        "lora": lambda: export_cases.lora(),
        "rslora": lambda: export_cases.lora(use_rslora=True),
        "ranks": lambda: export_cases.lora(rank_pattern={"q_proj": 2}, alpha_pattern={"down_proj": 3}),
        "dora": lambda: export_cases.lora(use_dora=True),
        "vera": lambda: peft.VeraConfig(r=16, target_modules=["q_proj", "v_proj"], **common),
        "oft": lambda: peft.OFTConfig(oft_block_size=8, target_modules=["q_proj", "down_proj"], **common),
        "ia3": lambda: peft.IA3Config(target_modules=["k_proj", "down_proj"], feedforward_modules=["down_proj"], **common),
        "head": lambda: export_cases.lora(["q_proj"], modules_to_save=["lm_head"]),
        "embedding": lambda: export_cases.lora(["q_proj", "embed_tokens"]),
        "both tied": lambda: export_cases.lora(["q_proj"], modules_to_save=["embed_tokens"], ensure_weight_tying=True),
    }[kind]()


FILES = ("lora", "rslora", "ranks")
KINDS = (*FILES, "dora", "vera", "oft", "ia3", "head", "embedding", "both tied")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Embedding and head are one tensor."""
    return export_cases.tiny_base(tmp_path_factory.mktemp("models") / "tiny")


def merge(folder: Path, base: Path, out: Path, dtype: str = "auto", **more: Any) -> Merged:
    return merge_adapter(make_wish(read_adapter(folder), base, dtype), out, **more)


@pytest.mark.parametrize("kind", KINDS)
def test_a_merged_folder_answers_as_base_and_adapter(tmp_path: Path, base: Path, kind: str) -> None:
    folder = export_cases.adapter(tmp_path / "a", base, peft_config(kind))
    wanted = export_cases.adapted_logits(base, folder)
    effect = (wanted - export_cases.logits(export_cases.load(base))).abs().max()
    merged = merge(folder, base, tmp_path / "merged")
    found = export_cases.logits(export_cases.load(merged.path))
    assert effect > 1e-3
    assert (found - wanted).abs().max() < 1e-5
    assert merged.verification is not None
    assert merged.verification.is_right
    assert merged.verification.positions > 50
    assert ("at most" in merged.peak_words) == (kind in FILES)
    assert not (merged.path / "adapter_config.json").exists()


@pytest.mark.parametrize("kind", ["lora", "dora", "head"])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_other_number_formats(tmp_path: Path, base: Path, kind: str, dtype: str) -> None:
    folder = export_cases.adapter(tmp_path / "a", base, peft_config(kind))
    merged = merge(folder, base, tmp_path / "merged", dtype)
    loaded = export_cases.load(merged.path, "auto")
    assert {str(parameter.dtype) for parameter in loaded.parameters()} == {f"torch.{dtype}"}
    wanted = export_cases.adapted_logits(base, folder)
    rounded = export_cases.logits(export_cases.load(merged.path))
    assert 0 < (rounded - wanted).abs().max() < 0.1 * wanted.abs().max()


@pytest.mark.parametrize("dtype", ["auto", "float32"])
def test_a_16_bit_base_is_summed_in_float32_and_rounded_once(tmp_path: Path, dtype: str) -> None:
    """Both ways give the same bits: those of the sum in float64, rounded once more (where that is float32, to its last bit)."""
    base = export_cases.tiny_base(tmp_path / "base", torch.bfloat16)
    folder = export_cases.adapter(tmp_path / "a", base, export_cases.lora(["q_proj"]))
    wish = make_wish(read_adapter(folder), base, dtype)
    assert merge_files.can_merge_files(wish)
    by_files = weights(merge(folder, base, tmp_path / "files", dtype, verify=False).path)
    (tmp_path / "model").mkdir()
    merge_model.merge_model(wish, tmp_path / "model")
    by_model = weights(tmp_path / "model")
    assert by_files.keys() == by_model.keys()
    pair = read_pair(folder, "model.layers.1.self_attn.q_proj")
    name = "model.layers.1.self_attn.q_proj.weight"
    exact = weights(base)[name].double() + 2.0 * pair[1].double() @ pair[0].double()
    for found in (by_files, by_model):
        assert found[name].dtype == (torch.bfloat16 if dtype == "auto" else torch.float32)
        assert (found[name].double() - exact.to(found[name].dtype).double()).abs().max() <= (0.01 if dtype == "auto" else 1e-6)
    assert all((by_files[key].float() - by_model[key].float()).abs().max() < 0.01 for key in by_files)
    assert torch.equal(
        by_files["model.layers.0.mlp.up_proj.weight"].bfloat16(), weights(base)["model.layers.0.mlp.up_proj.weight"]
    )


def weights(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return {name: tensor for file in sorted(folder.glob("*.safetensors")) for name, tensor in load_file(file).items()}


def read_pair(folder: Path, module: str) -> tuple[torch.Tensor, torch.Tensor]:
    tensors = weights(folder)
    return tuple(tensors[f"base_model.model.{module}.lora_{half}.weight"] for half in "AB")  # type: ignore[return-value]


def test_gpt2_keeps_its_weights_the_other_way_round(tmp_path: Path) -> None:
    """Square and oblong ones; the head of the files has no prefix, so the model is loaded."""
    base = export_cases.family_base(tmp_path / "base", "gpt2", vocab_size=320)
    folder = export_cases.adapter(tmp_path / "a", base, export_cases.lora(["c_attn", "c_proj", "c_fc"], fan_in_fan_out=True))
    wanted = export_cases.adapted_logits(base, folder)
    merged = merge(folder, base, tmp_path / "merged")
    assert (export_cases.logits(export_cases.load(merged.path)) - wanted).abs().max() < 1e-5


def test_large_models_are_written_in_shards(tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merge_files, "SHARD_BYTES", 100_000)
    folder = export_cases.adapter(tmp_path / "a", base, export_cases.lora())
    merged = merge(folder, base, tmp_path / "merged")
    files = sorted(path.name for path in merged.path.glob("*.safetensors"))
    assert len(files) > 3
    assert files[0] == f"model-00001-of-{len(files):05d}.safetensors"
    index = json.loads((merged.path / "model.safetensors.index.json").read_text())
    assert sorted(set(index["weight_map"].values())) == files
    # and such a folder is a base itself
    again = merge(folder, merged.path, tmp_path / "twice", verify=False)
    name = "model.layers.0.mlp.up_proj.weight"
    first, second = weights(merged.path)[name] - weights(base)[name], weights(again.path)[name] - weights(merged.path)[name]
    assert (first - second).abs().max() < 1e-6 < first.abs().max()


# --- what goes with the weights ------------------------------------------------------------------------------------------------


def test_tied_weights_stay_one_unless_the_adapter_made_them_two(tmp_path: Path, base: Path) -> None:
    for kind, is_tied in (("lora", True), ("dora", True), ("both tied", True), ("head", False), ("embedding", False)):
        folder = export_cases.adapter(tmp_path / kind, base, peft_config(kind))
        merged = merge(folder, base, tmp_path / f"{kind} merged", verify=False)
        loaded = export_cases.load(merged.path)
        assert (loaded.lm_head.weight is loaded.model.embed_tokens.weight) == is_tied, kind
        assert ("lm_head.weight" in weights(merged.path)) == (not is_tied), kind
        assert json.loads((merged.path / "config.json").read_text())["tie_word_embeddings"] == is_tied, kind
        assert any("two tensors" in note for note in merged.notes) == (not is_tied), kind


def test_the_small_files_of_the_base_come_along(tmp_path: Path) -> None:
    base = export_cases.tiny_base(tmp_path / "base")
    (base / "generation_config.json").write_text('{"temperature": 0.3, "do_sample": true}')
    (base / "README.md").write_text("of the base")
    (base / "old.bin").write_text("weights")
    for kind in ("lora", "dora"):
        merged = merge(export_cases.adapter(tmp_path / kind, base, peft_config(kind)), base, tmp_path / f"{kind} merged")
        for name in ("tokenizer.json", "generation_config.json"):
            assert (merged.path / name).read_bytes() == (base / name).read_bytes()
        assert not (merged.path / "README.md").exists()
        assert not (merged.path / "old.bin").exists()


def test_the_runs_chat_template_becomes_the_models(tmp_path: Path, base: Path) -> None:
    from transformers import AutoTokenizer

    folder = export_cases.adapter(tmp_path / "a", base, peft_config("lora"))
    export_cases.of_run(folder, model={"chat_template": "vicuna"})
    merged = merge(folder, base, tmp_path / "merged")
    template = AutoTokenizer.from_pretrained(merged.path).chat_template
    assert template == read_chat_template("vicuna")
    assert template != AutoTokenizer.from_pretrained(base).chat_template


def test_adapters_that_were_merged_first_are_merged_first(tmp_path: Path, base: Path) -> None:
    """One after the other by hand gives the same; also where the second needs the model loaded."""
    loras = tmp_path / "loras"
    export_cases.adapter(loras / "first", base, peft_config("lora"), seed=3)
    with_first = merge(loras / "first", base, tmp_path / "with-first", verify=False).path
    for kind in ("lora", "dora"):
        second = export_cases.adapter(loras / kind, with_first, peft_config(kind))
        wanted = export_cases.adapted_logits(with_first, second)
        export_cases.of_run(second, adapter={"merge_first": ["first"]})
        wish = make_wish(read_adapter(second), base)
        assert [adapter.name for adapter in wish.adapters] == ["first", kind]
        merged = merge_adapter(wish, tmp_path / f"merged-{kind}")
        assert (export_cases.logits(export_cases.load(merged.path)) - wanted).abs().max() < 1e-5
    export_cases.of_run(second, adapter={"merge_first": ["gone"]})
    with pytest.raises(ValueError, match="trained on top of the adapter 'gone', which is not found. Tried: "):
        make_wish(read_adapter(second), base)


# --- sparse increments and quantized bases -------------------------------------------------------------------------------------


def test_a_sparse_increment(tmp_path: Path, base: Path) -> None:
    import sift_cases

    model = export_cases.load(base)
    fitted = sift_cases.chosen(model, sift_cases.wish_for(model), sift_cases.batch())
    parameters = sift_cases.trained(fitted.model)
    optimizer = sift_cases.optimizer_for(parameters, "sgd")
    for parameter in parameters:
        parameter.grad = torch.full_like(parameter, 10.0)
    optimizer.step()
    wanted = export_cases.logits(fitted.model)
    folder = tmp_path / "sparse"
    folder.mkdir()
    fitted.result(folder)
    merged = merge(folder, base, tmp_path / "merged")
    assert (export_cases.logits(export_cases.load(merged.path)) - wanted).abs().max() < 1e-5
    assert (wanted - export_cases.logits(export_cases.load(base))).abs().max() > 0.1


@pytest.mark.parametrize("packing", ["nf4", "fp4", "int8"])
@pytest.mark.parametrize("kind", ["lora", "dora"])
def test_a_base_that_is_stored_packed(tmp_path: Path, packing: str, kind: str) -> None:
    """Unpacked, merged, saved in full precision; the oracle is bitsandbytes' own layers with the adapter beside them."""
    pytest.importorskip("bitsandbytes")
    from peft import PeftModel
    from training_pro.adapting.quantization import Loading, is_quantized, load_model

    plain = export_cases.tiny_base(tmp_path / "plain")
    packed = load_model(plain, Loading(quantization=packing), "cpu")
    assert is_quantized(packed)
    folder = export_cases.adapter(tmp_path / "a", plain, peft_config(kind))
    packed.save_pretrained(tmp_path / "packed")
    adapted = PeftModel.from_pretrained(packed, folder).eval()
    wanted = export_cases.logits(adapted)
    merged = merge(folder, tmp_path / "packed", tmp_path / "merged")
    assert "quantization_config" not in json.loads((merged.path / "config.json").read_text())
    loaded = export_cases.load(merged.path, "auto")
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.float32}
    found = export_cases.logits(loaded)
    bound = 0.05 if packing == "int8" else 1e-4  # 8-bit layers round what they multiply, too
    assert (found - wanted).abs().max() < bound * wanted.abs().max()
    assert (wanted - export_cases.adapted_logits(plain, folder)).abs().max() > 1e-3


def test_as_trained_means_the_weights_as_the_run_had_packed_them(tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    base = export_cases.tiny_base(tmp_path / "base")
    folder = export_cases.adapter(tmp_path / "a", base, peft_config("lora"))
    with pytest.raises(ValueError, match="--as-trained: .*says of no Quantization"):
        make_wish(read_adapter(folder), base, as_trained=True)
    export_cases.of_run(folder, model={"quantization": "nf4", "double_quantization": False})
    trained = merge_adapter(make_wish(read_adapter(folder), base, as_trained=True), tmp_path / "trained")
    stored = merge_adapter(make_wish(read_adapter(folder), base), tmp_path / "stored")
    name = "model.layers.0.mlp.up_proj.weight"
    difference = (weights(trained.path)[name] - weights(stored.path)[name]).abs()
    assert 1e-3 < difference.max() < 0.2 * weights(stored.path)[name].abs().max()


# --- refusals ------------------------------------------------------------------------------------------------------------------


def nothing_is_left(folder: Path, *known: str) -> bool:
    return sorted(path.name for path in folder.iterdir()) == sorted(known)


def test_nothing_is_overwritten(tmp_path: Path, base: Path) -> None:
    folder = export_cases.adapter(tmp_path / "a", base, peft_config("lora"))
    (tmp_path / "merged").mkdir()
    with pytest.raises(ValueError, match="exists, and nothing is overwritten.*--out"):
        merge(folder, base, tmp_path / "merged")
    assert nothing_is_left(tmp_path, "a", "merged")


@pytest.mark.parametrize("kind", ["lora", "dora"])
def test_a_full_disk(tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    folder = export_cases.adapter(tmp_path / "a", base, peft_config(kind))
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda place: usage(10**9, 10**9, 1000))
    with pytest.raises(ValueError, match="not enough space"):
        merge(folder, base, tmp_path / "merged")
    assert nothing_is_left(tmp_path, "a")


@pytest.mark.parametrize("kind", ["lora", "dora", "vera"])
@pytest.mark.parametrize("changes", [{"num_hidden_layers": 1}, {"num_hidden_layers": 3}, {"hidden_size": 32}])
def test_an_adapter_of_another_model(tmp_path: Path, base: Path, kind: str, changes: dict[str, int]) -> None:
    """A layer too few, a layer too many, another width."""
    other = export_cases.tiny_base(tmp_path / "other", **changes)
    config = export_cases.lora(["q_proj", "down_proj"]) if kind == "lora" else peft_config(kind)
    if kind == "dora":
        config = export_cases.lora(["q_proj", "down_proj"], use_dora=True)
    folder = export_cases.adapter(tmp_path / "a", base, config)
    with pytest.raises(ValueError, match="does not belong to this base model.*--base"):
        merge(folder, other, tmp_path / "merged")
    assert nothing_is_left(tmp_path, "a", "other")


def test_numbers_that_do_not_fit_into_the_format(tmp_path: Path, base: Path) -> None:
    folder = export_cases.adapter(tmp_path / "a", base, peft_config("lora"), strength=400)
    with pytest.raises(ValueError, match="does not fit into float16: its largest number is .*--dtype bfloat16"):
        merge(folder, base, tmp_path / "merged", "float16")
    assert nothing_is_left(tmp_path, "a")


@pytest.mark.parametrize("strength", [0.1, 0.004])
def test_a_wrong_merge_is_found_and_not_kept(
    tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch, strength: float
) -> None:
    folder = export_cases.adapter(tmp_path / "a", base, peft_config("lora"), strength)
    true = merge_files._changes

    def twice(adapter: Any, files: Any) -> Any:
        changes = true(adapter, files)
        for change in (changes or {}).values():
            change.pair.scale *= 2
        return changes

    monkeypatch.setattr(merge_files, "_changes", twice)
    with pytest.raises(ValueError, match="answers differently from base and adapter, so it was not kept"):
        merge(folder, base, tmp_path / "merged", "bfloat16")
    assert nothing_is_left(tmp_path, "a")


def test_without_the_check_nothing_is_loaded(tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = export_cases.adapter(tmp_path / "a", base, peft_config("lora"))
    monkeypatch.setattr(merge_model, "load_dense", None)
    merged = merge(folder, base, tmp_path / "merged", verify=False)
    assert merged.verification is None
    assert merged.num_changed == 14


def test_by_default_the_result_lies_beside_the_base(tmp_path: Path) -> None:
    base = export_cases.tiny_base(tmp_path / "models" / "tiny")
    folder = export_cases.adapter(tmp_path / "loras" / "mine", base, peft_config("lora"))
    merged = merge_adapter(MergeWish((read_adapter(folder),), base), verify=False)
    assert merged.path == tmp_path / "models" / "tiny-mine"
