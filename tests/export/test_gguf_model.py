"""A merged model as GGUF by the pattern of its base: every weight in its place, vocabulary and settings from the pattern.

The files were compared tensor by tensor with those of llama.cpp's own converter for every family that is offered, and run in
llama.cpp.
"""

from collections import namedtuple
from pathlib import Path
from typing import Any

import export_cases
import gguf
import numpy as np
import pytest
import torch
from test_gguf_adapter import CASES, our_row
from training_pro.export import gguf_model
from training_pro.export.adapter import read_adapter
from training_pro.export.gguf_model import write_gguf_model
from training_pro.export.merge import make_wish, merge_adapter

TOP = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight"}
NORMS = {"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm"}


def names_of(num_layers: int = 2) -> dict[str, str]:
    """llama.cpp's names of a Llama's tensors -> transformers' names, by hand."""
    layer = {**CASES["llama"][1], **NORMS}
    inside = {
        f"blk.{at}.{name}.weight": f"model.layers.{at}.{leaf}.weight" for at in range(num_layers) for name, leaf in layer.items()
    }
    return {**TOP, **inside}


def as_llama_cpp_has_it(name: str, weight: torch.Tensor) -> np.ndarray:
    leaf = name.split(".")[-2]
    rows = [our_row("llama", leaf, row, len(weight)) for row in range(len(weight))]
    return weight[rows].float().numpy()


def pattern(path: Path, base: Path, *, without: tuple[str, ...] = (), **more: np.ndarray) -> Path:
    """A GGUF of a Llama as somebody's quantization of the base: its numbers are all wrong, its names, shapes and words are right."""
    from safetensors.torch import load_file

    weights = load_file(base / "model.safetensors")
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("the base")
    writer.add_block_count(2)
    writer.add_head_count(4)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q4_0)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list([f"t{number}" for number in range(120)])
    writer.add_token_types([1] * 120)
    writer.add_eos_token_id(2)
    writer.add_chat_template("the base's template")
    writer.add_string("general.organization", "somebody")
    writer.add_string("general.license", "apache-2.0")
    for name, own in names_of().items():
        if name not in without:
            values = np.zeros(weights[own].shape, np.float32)
            kind = gguf.GGMLQuantizationType.Q4_0 if values.ndim == 2 else gguf.GGMLQuantizationType.F32
            writer.add_tensor(name, gguf.quantize(values, kind), raw_dtype=kind)
    for name, values in more.items():
        writer.add_tensor(name.replace("__", "."), values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return export_cases.family_base(tmp_path / "base", "llama", tie_word_embeddings=True)


@pytest.fixture
def merged(tmp_path: Path, base: Path) -> Path:
    folder = export_cases.adapter(tmp_path / "a", base, export_cases.lora())
    return merge_adapter(make_wish(read_adapter(folder), base), tmp_path / "merged").path


@pytest.mark.parametrize(("number_format", "rounding"), [("f32", 0.0), ("f16", 1e-3), ("bf16", 1e-2), ("q8_0", 2e-2)])
def test_every_weight_is_in_its_place(tmp_path: Path, base: Path, merged: Path, number_format: str, rounding: float) -> None:
    from safetensors.torch import load_file

    like = pattern(tmp_path / "base.gguf", base)
    written = write_gguf_model(merged, like, number_format=number_format)
    assert written.path == tmp_path / f"merged-{number_format}.gguf"
    reader = gguf.GGUFReader(written.path)
    weights = load_file(merged / "model.safetensors")
    found = {tensor.name: gguf.dequantize(tensor.data, tensor.tensor_type) for tensor in reader.tensors}
    assert found.keys() == names_of().keys()
    assert written.num_tensors == len(found) == 20
    for name, own in names_of().items():
        wanted = as_llama_cpp_has_it(name, weights[own])
        assert np.abs(found[name] - wanted).max() <= rounding * np.abs(wanted).max(), name
        assert np.abs(wanted).max() > 0.01
    vectors = {tensor.tensor_type for tensor in reader.tensors if len(tensor.shape) == 1}
    matrices = {tensor.tensor_type for tensor in reader.tensors if len(tensor.shape) == 2}
    assert vectors == {gguf.GGMLQuantizationType.F32}
    assert matrices == {gguf.GGMLQuantizationType[number_format.upper()]}


def test_settings_and_vocabulary_are_the_patterns_and_words_are_its_own(tmp_path: Path, base: Path, merged: Path) -> None:
    (merged / "chat_template.jinja").write_text("what was trained with", encoding="utf-8")
    like = pattern(tmp_path / "base.gguf", base)
    reader = gguf.GGUFReader(write_gguf_model(merged, like, number_format="f16").path)

    def value(key: str) -> Any:
        entry = reader.get_field(key)
        return entry.contents() if entry else None

    assert value("tokenizer.ggml.tokens") == [f"t{number}" for number in range(120)]
    assert (value("tokenizer.ggml.pre"), value("tokenizer.ggml.eos_token_id"), value("llama.block_count")) == ("smollm", 2, 2)
    assert value("llama.attention.layer_norm_rms_epsilon") == pytest.approx(1e-6)
    assert value("tokenizer.chat_template") == "what was trained with"
    assert (value("general.name"), value("general.license"), value("general.organization")) == ("merged", "apache-2.0", None)
    assert value("general.file_type") == gguf.LlamaFileType.MOSTLY_F16


def test_without_a_template_of_its_own_the_patterns_stays(tmp_path: Path, base: Path, merged: Path) -> None:
    reader = gguf.GGUFReader(write_gguf_model(merged, pattern(tmp_path / "base.gguf", base)).path)
    entry = reader.get_field("tokenizer.chat_template")
    assert entry is not None
    assert entry.contents() == "the base's template"


def test_tables_that_the_converter_computes_are_copied(tmp_path: Path, base: Path, merged: Path) -> None:
    table = np.arange(4, dtype=np.float32)
    like = pattern(tmp_path / "base.gguf", base, rope_freqs__weight=table)
    written = write_gguf_model(merged, like)
    assert written.notes == ["Copied from base.gguf: rope_freqs.weight"]
    found = {tensor.name: tensor.data for tensor in gguf.GGUFReader(written.path).tensors}
    assert found["rope_freqs.weight"].tolist() == table.tolist()


def test_families_that_store_their_norms_less_one(tmp_path: Path) -> None:
    """Gemma's file has them whole."""
    folder = export_cases.family_base(tmp_path / "gemma", "gemma2")
    family, config = gguf_model.family_of(folder)
    from contextlib import ExitStack

    with ExitStack() as stack:
        files = gguf_model.BaseFiles(folder, stack)
        source = gguf_model._Source(files, family, config, gguf_model.NORM_SHIFT["gemma2"])
        norm = files.read("model.layers.1.post_feedforward_layernorm.weight").numpy()
        assert np.array_equal(source.read("blk.1.post_ffw_norm.weight"), norm + 1)
        plain = files.read("model.layers.1.mlp.up_proj.weight").numpy()
        assert np.array_equal(source.read("blk.1.ffn_up.weight"), plain)


def test_rows_behind_the_last_token_are_left_out(tmp_path: Path, base: Path, merged: Path) -> None:
    wider = export_cases.family_base(tmp_path / "wider", "llama", tie_word_embeddings=True, vocab_size=128)
    written = write_gguf_model(wider, pattern(tmp_path / "base.gguf", base))
    assert written.notes == ["token_embd.weight: 120 rows, those behind the last token are left out"]
    shapes = {tensor.name: tensor.shape.tolist() for tensor in gguf.GGUFReader(written.path).tensors}
    assert shapes["token_embd.weight"] == [32, 120]


# --- refusals ------------------------------------------------------------------------------------------------------------------


def test_without_a_pattern_the_way_is_said(tmp_path: Path, merged: Path) -> None:
    with pytest.raises(
        ValueError, match='give any GGUF of the base with --like.*python convert_hf_to_gguf.py ".*merged" --outtype f16'
    ):
        write_gguf_model(merged, None)
    with pytest.raises(ValueError, match="Got: .*gone.gguf, which is no file"):
        write_gguf_model(merged, tmp_path / "gone.gguf")


@pytest.mark.parametrize("changes", [{"num_hidden_layers": 1}, {"num_hidden_layers": 3}, {"intermediate_size": 32}])
def test_a_pattern_of_another_model(tmp_path: Path, base: Path, changes: dict[str, int]) -> None:
    other = export_cases.family_base(tmp_path / "other", "llama", tie_word_embeddings=True, **changes)
    with pytest.raises(ValueError, match="does not fit the model: .* weights are missing or of another shape"):
        write_gguf_model(other, pattern(tmp_path / "base.gguf", base))
    qwen = export_cases.family_base(tmp_path / "qwen", "qwen2")
    with pytest.raises(ValueError, match="base.gguf is a llama, qwen a qwen2"):
        write_gguf_model(qwen, pattern(tmp_path / "base2.gguf", base).rename(tmp_path / "the base.gguf"))
    assert list(tmp_path.glob("*-f16.gguf")) == []


def test_a_head_that_the_pattern_does_not_have(tmp_path: Path, base: Path) -> None:
    """Equal to the embedding it is left out; different it is not."""
    from safetensors.torch import load_file, save_file

    file = base / "model.safetensors"
    weights = {name: tensor.clone() for name, tensor in load_file(file).items()}
    save_file({**weights, "lm_head.weight": weights["model.embed_tokens.weight"].clone()}, file, metadata={"format": "pt"})
    like = pattern(tmp_path / "base.gguf", base)
    assert write_gguf_model(base, like).num_tensors == 20
    save_file({**weights, "lm_head.weight": weights["model.embed_tokens.weight"] + 1}, file, metadata={"format": "pt"})
    with pytest.raises(ValueError, match="the first: output.weight"):
        write_gguf_model(base, like, tmp_path / "second.gguf")


def test_families_that_are_not_stored_row_by_row(tmp_path: Path, base: Path) -> None:
    gpt2 = export_cases.family_base(tmp_path / "gpt2", "gpt2")
    with pytest.raises(ValueError, match="gpt2: llama.cpp does not store this family's weights row by row"):
        write_gguf_model(gpt2, pattern(tmp_path / "base.gguf", base))


def test_formats_and_space_and_what_exists(tmp_path: Path, base: Path, merged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    like = pattern(tmp_path / "base.gguf", base)
    with pytest.raises(ValueError, match="'q4_0' is not known for a model. Choose one of f32, f16, bf16, q8_0"):
        write_gguf_model(merged, like, number_format="q4_0")
    write_gguf_model(merged, like)
    with pytest.raises(ValueError, match="exists, and nothing is overwritten"):
        write_gguf_model(merged, like)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda place: usage(1, 1, 0))
    with pytest.raises(ValueError, match="not enough space"):
        write_gguf_model(merged, like, tmp_path / "other.gguf")
