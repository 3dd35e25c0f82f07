"""A LoRA as GGUF: read back with ``gguf``, its tensors give peft's logits, in llama.cpp's names and order; the rest is refused.

The names and orders here were compared tensor by tensor with llama.cpp's own converter, and the files were run in llama.cpp.
"""

from collections import namedtuple
from pathlib import Path
from typing import Any

import export_cases
import gguf
import numpy as np
import pytest
import torch
from training_pro.export import gguf_adapter
from training_pro.export.adapter import read_adapter
from training_pro.export.gguf_adapter import write_gguf_adapter
from training_pro.export.gguf_families import FAMILIES, Family, interleaved

PLAIN = {  # llama.cpp's name -> transformers' name, in a layer
    **{
        "attn_q": "self_attn.q_proj",
        "attn_k": "self_attn.k_proj",
        "attn_v": "self_attn.v_proj",
        "attn_output": "self_attn.o_proj",
    },
    **{"ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj"},
}
FUSED = {
    **{"attn_qkv": "self_attn.qkv_proj", "attn_output": "self_attn.o_proj"},
    **{"ffn_up": "mlp.gate_up_proj", "ffn_down": "mlp.down_proj"},
}
NEOX = {
    **{"attn_qkv": "attention.query_key_value", "attn_output": "attention.dense"},
    **{"ffn_up": "mlp.dense_h_to_4h", "ffn_down": "mlp.dense_4h_to_h"},
}
GPT2 = {"attn_qkv": "attn.c_attn", "attn_output": "attn.c_proj", "ffn_up": "mlp.c_fc", "ffn_down": "mlp.c_proj"}
FALCON = {
    **{"attn_qkv": "self_attention.query_key_value", "attn_output": "self_attention.dense"},
    **{"ffn_up": "mlp.dense_h_to_4h", "ffn_down": "mlp.dense_4h_to_h"},
}
PHI = {**{name: PLAIN[name] for name in ("attn_q", "attn_k", "attn_v")}, **{"attn_output": "self_attn.dense"}}
STARCODER = {name: PLAIN[name] for name in ("attn_q", "attn_k", "attn_v", "attn_output")}
ATTENTION = {name: PLAIN[name] for name in ("attn_q", "attn_k", "attn_v", "attn_output")}
# tiny model -> llama.cpp's architecture, names in a layer, where its layers are
CASES: dict[str, tuple[str, dict[str, str], str]] = {
    "llama": ("llama", PLAIN, "model.layers"),
    "mistral": ("llama", PLAIN, "model.layers"),
    "mixtral": ("llama", ATTENTION, "model.layers"),
    "smollm3": ("smollm3", PLAIN, "model.layers"),
    "granite": ("granite", PLAIN, "model.layers"),
    "olmo": ("olmo", PLAIN, "model.layers"),
    "olmo2": ("olmo2", PLAIN, "model.layers"),
    "qwen2": ("qwen2", PLAIN, "model.layers"),
    "qwen2_moe": ("qwen2moe", ATTENTION, "model.layers"),
    "qwen3": ("qwen3", PLAIN, "model.layers"),
    "qwen3_moe": ("qwen3moe", ATTENTION, "model.layers"),
    "gemma": ("gemma", PLAIN, "model.layers"),
    "gemma2": ("gemma2", PLAIN, "model.layers"),
    "gemma3_text": ("gemma3", PLAIN, "model.layers"),
    "phi": ("phi2", {**PHI, "ffn_up": "mlp.fc1", "ffn_down": "mlp.fc2"}, "model.layers"),
    "phi3": ("phi3", FUSED, "model.layers"),
    "gpt2": ("gpt2", GPT2, "transformer.h"),
    "gpt_neox": ("gptneox", NEOX, "gpt_neox.layers"),
    "falcon": ("falcon", FALCON, "transformer.h"),
    "stablelm": ("stablelm", PLAIN, "model.layers"),
    "starcoder2": ("starcoder2", {**STARCODER, "ffn_up": "mlp.c_fc", "ffn_down": "mlp.c_proj"}, "model.layers"),
    "cohere": ("command-r", PLAIN, "model.layers"),
    "cohere2": ("cohere2", PLAIN, "model.layers"),
    "glm4": ("glm4", {**ATTENTION, "ffn_up": "mlp.gate_up_proj", "ffn_down": "mlp.down_proj"}, "model.layers"),
}
INTERLEAVED = ("llama", "mistral", "mixtral", "smollm3", "granite", "olmo")


def our_row(case: str, name: str, row: int, num_rows: int) -> int:
    """Where row ``row`` of llama.cpp's tensor stands in transformers' weight; head by head, by hand."""
    head_size = 8
    head, within = divmod(row, head_size)
    if case in INTERLEAVED and name in ("attn_q", "attn_k"):
        pair, half = divmod(within, 2)
        return head * head_size + half * (head_size // 2) + pair
    if case == "gpt_neox" and name == "attn_qkv":  # 4 heads of query, key, value each
        part, head = divmod(head, 4)
        return (head * 3 + part) * head_size + within
    return row


def read(path: Path) -> tuple[dict[str, np.ndarray], Any]:
    reader = gguf.GGUFReader(path)
    return {tensor.name: np.array(tensor.data) for tensor in reader.tensors}, reader


def value(reader: Any, key: str) -> Any:
    return reader.get_field(key).contents()


def apply(model: Any, case: str, tensors: dict[str, np.ndarray], alpha: float) -> int:
    """Add what the file says to the base's weights, as llama.cpp reads it; the number of changed weights."""
    _, names, layers = CASES[case]
    changed = 0
    for layer in range(2):
        for name, leaf in names.items():
            a, b = (tensors.pop(f"blk.{layer}.{name}.weight.lora_{half}") for half in "ab")
            added = torch.from_numpy(alpha / a.shape[0] * (b @ a))
            ordered = torch.empty_like(added)
            for row in range(len(added)):
                ordered[our_row(case, name, row, len(added))] = added[row]
            weight = model.get_submodule(f"{layers}.{layer}.{leaf}").weight
            weight.data += ordered.T if case == "gpt2" else ordered
            changed += 1
    return changed


@pytest.mark.parametrize("case", CASES)
def test_the_files_tensors_give_pefts_logits(tmp_path: Path, case: str) -> None:
    architecture, names, _ = CASES[case]
    base = export_cases.family_base(tmp_path / "base", case)
    leaves = sorted({leaf.rpartition(".")[2] for leaf in names.values()})
    changes = {"fan_in_fan_out": True} if case == "gpt2" else {}
    if case == "qwen2_moe":  # its shared expert has other names
        leaves = ["q_proj", "k_proj", "v_proj", "o_proj"]
    folder = export_cases.adapter(tmp_path / "a", base, export_cases.lora(leaves, **changes))
    wanted = export_cases.adapted_logits(base, folder)
    written = write_gguf_adapter(read_adapter(folder), base)
    tensors, reader = read(written.path)
    assert value(reader, "general.architecture") == architecture == written.architecture
    assert (value(reader, "general.type"), value(reader, "adapter.type")) == ("adapter", "lora")
    assert (value(reader, "adapter.lora.alpha"), written.alpha, written.rescaled) == (8.0, 8.0, [])
    assert {tensor.tensor_type for tensor in reader.tensors} == {gguf.GGMLQuantizationType.F32}
    model = export_cases.load(base)
    before = export_cases.logits(model)
    assert apply(model, case, tensors, 8.0) == written.num_pairs
    assert tensors == {}
    assert (wanted - before).abs().max() > 1e-3
    assert (export_cases.logits(model) - wanted).abs().max() < 2e-5


def test_every_family_has_its_trial() -> None:
    import architectures

    names = {type(architectures.make(case)).__name__ for case in CASES}
    assert set(FAMILIES) - names == {"Gemma3ForConditionalGeneration"}
    assert {gguf.MODEL_ARCH_NAMES[gguf.MODEL_ARCH[family.name]] for family in FAMILIES.values()} == {
        case[0] for case in CASES.values()
    }


def test_the_language_part_of_a_model_that_sees() -> None:
    family = FAMILIES["Gemma3ForConditionalGeneration"]
    for module in ("model.language_model.layers.1.mlp.up_proj", "language_model.model.layers.1.mlp.up_proj"):
        assert gguf_adapter.llama_name(module, family, {"num_hidden_layers": 2}) == "blk.1.ffn_up.weight"
    assert gguf_adapter.llama_name("model.vision_tower.encoder.layers.1.mlp.fc1", family, {"num_hidden_layers": 2}) == ""


def test_rows_of_a_head_change_places() -> None:
    assert interleaved(6, 1).tolist() == [0, 3, 1, 4, 2, 5]
    assert interleaved(8, 2).tolist() == [0, 2, 1, 3, 4, 6, 5, 7]


def test_falcons_groups_of_heads() -> None:
    rows = FAMILIES["FalconForCausalLM"].rows
    one = {"num_attention_heads": 2, "multi_query": True}
    assert rows("query_key_value", 8, one).tolist() == [0, 1, 2, 3, 4, 5, 6, 7]  # type: ignore[union-attr]
    two = {"num_attention_heads": 4, "new_decoder_architecture": True, "num_kv_heads": 2}  # q q k v, q q k v
    assert rows("query_key_value", 8, two).tolist() == [0, 1, 4, 5, 2, 6, 3, 7]  # type: ignore[union-attr]
    every = {"num_attention_heads": 2, "multi_query": False}  # q k v, q k v
    assert rows("query_key_value", 6, every).tolist() == [0, 3, 1, 4, 2, 5]  # type: ignore[union-attr]
    assert rows("dense", 8, two) is None


# --- strength ------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return export_cases.family_base(tmp_path / "base", "llama")


@pytest.mark.parametrize(
    ("changes", "alpha", "rescaled"),
    [
        ({"use_rslora": True}, 16.0, 0),  # 8 / sqrt(4) = 16 / 4
        ({"rank_pattern": {"q_proj": 2}}, 8.0, 0),  # one alpha, each rank in its own tensors
        ({"alpha_pattern": {"v_proj": 2}}, 8.0, 2),
        ({"use_rslora": True, "rank_pattern": {"q_proj": 1}}, 16.0, 2),
    ],
)
def test_ranks_and_alphas_of_their_own(tmp_path: Path, base: Path, changes: dict[str, Any], alpha: float, rescaled: int) -> None:
    folder = export_cases.adapter(
        tmp_path / "a", base, export_cases.lora(sorted({n.split(".")[1] for n in PLAIN.values()}), **changes)
    )
    wanted = export_cases.adapted_logits(base, folder)
    written = write_gguf_adapter(read_adapter(folder), base)
    assert (written.alpha, len(written.rescaled), len(written.notes)) == (alpha, rescaled, bool(rescaled))
    model = export_cases.load(base)
    apply(model, "llama", read(written.path)[0], alpha)
    assert (export_cases.logits(model) - wanted).abs().max() < 2e-5


def test_float16(tmp_path: Path, base: Path) -> None:
    folder = export_cases.adapter(tmp_path / "a", base, export_cases.lora(["q_proj"]))
    written = write_gguf_adapter(read_adapter(folder), base, tmp_path / "x.gguf", "f16")
    tensors, reader = read(written.path)
    assert {tensor.tensor_type for tensor in reader.tensors} == {gguf.GGMLQuantizationType.F16}
    full = read(write_gguf_adapter(read_adapter(folder), base).path)[0]
    assert all(np.array_equal(tensors[name], full[name].astype(np.float16)) for name in full)
    strong = export_cases.adapter(tmp_path / "b", base, export_cases.lora(["q_proj"]), strength=1e5)
    with pytest.raises(ValueError, match="does not fit into f16. Choose --dtype f32"):
        write_gguf_adapter(read_adapter(strong), base, tmp_path / "y.gguf", "f16")
    assert not (tmp_path / "y.gguf").exists()


def test_a_head_of_its_own_and_the_embedding(tmp_path: Path) -> None:
    base = export_cases.family_base(tmp_path / "base", "llama", tie_word_embeddings=False)
    folder = export_cases.adapter(tmp_path / "a", base, export_cases.lora(["lm_head", "embed_tokens"]))
    wanted = export_cases.adapted_logits(base, folder)
    tensors = read(write_gguf_adapter(read_adapter(folder), base).path)[0]
    model = export_cases.load(base)
    model.lm_head.weight.data += torch.from_numpy(2.0 * tensors["output.weight.lora_b"] @ tensors["output.weight.lora_a"])
    # llama.cpp looks rows of A up and multiplies by B
    added = 2.0 * tensors["token_embd.weight.lora_a"] @ tensors["token_embd.weight.lora_b"].T
    model.model.embed_tokens.weight.data += torch.from_numpy(added)
    assert (export_cases.logits(model) - wanted).abs().max() < 2e-5


def test_what_was_merged_first_is_said(tmp_path: Path, base: Path) -> None:
    folder = export_cases.adapter(tmp_path / "a", base, export_cases.lora(["q_proj"]))
    export_cases.of_run(folder, adapter={"merge_first": ["earlier"]})
    assert "on top of earlier" in write_gguf_adapter(read_adapter(folder), base).notes[0]


# --- refusals ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (lambda: export_cases.lora(["q_proj"], use_dora=True), "because DoRA scales each row.*training-pro merge"),
        (lambda: export_cases.lora(["q_proj"], modules_to_save=["lm_head"]), r"whole modules \(lm_head\).*training-pro merge"),
        (
            lambda: __import__("peft").VeraConfig(r=4, target_modules=["q_proj"], task_type="CAUSAL_LM"),
            "LoRA only. Got: VERA. Merge",
        ),
        (lambda: export_cases.lora(["q_proj", "embed_tokens"]), "embedding and head are one tensor.*training-pro merge"),
    ],
)
def test_what_llama_cpp_has_no_form_for(tmp_path: Path, config: Any, words: str) -> None:
    base = export_cases.tiny_base(tmp_path / "base")
    folder = export_cases.adapter(tmp_path / "a", base, config())
    with pytest.raises(ValueError, match=words):
        write_gguf_adapter(read_adapter(folder), base)
    assert list(folder.glob("*.gguf")) == []


def test_tensors_that_are_no_pairs(tmp_path: Path, base: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = export_cases.adapter(tmp_path / "a", base, export_cases.lora(["q_proj"]))
    file = folder / "adapter_model.safetensors"
    tensors = {name: tensor.clone() for name, tensor in load_file(file).items()}
    save_file({**tensors, "base_model.model.model.norm.weight": torch.ones(32)}, file)
    with pytest.raises(ValueError, match="no LoRA pairs .*norm.weight"):
        write_gguf_adapter(read_adapter(folder), base)


def test_an_architecture_that_is_not_known(tmp_path: Path) -> None:
    base = export_cases.family_base(tmp_path / "base", "bloom")
    folder = export_cases.adapter(tmp_path / "a", base, export_cases.lora(["query_key_value"]))
    with pytest.raises(
        ValueError, match="how llama.cpp stores BloomForCausalLM is not known here.*Known: Llama.*training-pro merge"
    ):
        write_gguf_adapter(read_adapter(folder), base)


def test_an_adapter_of_another_model(tmp_path: Path, base: Path) -> None:
    other = export_cases.family_base(tmp_path / "other", "gpt2")
    folder = export_cases.adapter(tmp_path / "a", other, export_cases.lora(["c_attn"], fan_in_fan_out=True))
    with pytest.raises(ValueError, match=r"llama.cpp has no name for 2 of its modules, the first: transformer.h.0.attn.c_attn"):
        write_gguf_adapter(read_adapter(folder), base)
    shallow = export_cases.family_base(tmp_path / "shallow", "llama", num_hidden_layers=1)
    deep = export_cases.adapter(tmp_path / "b", base, export_cases.lora(["q_proj"]))
    with pytest.raises(ValueError, match="llama.cpp has no name for 1 of its modules, the first: model.layers.1"):
        write_gguf_adapter(read_adapter(deep), shallow)
    wide = export_cases.family_base(tmp_path / "wide", "llama", hidden_size=64)
    with pytest.raises(ValueError, match="takes 32 numbers and gives 32, and the base.s weight there is 32 x 64"):
        write_gguf_adapter(read_adapter(deep), wide)


def test_nothing_is_overwritten_and_a_full_disk_is_known(tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = export_cases.adapter(tmp_path / "a", base, export_cases.lora(["q_proj"]))
    first = write_gguf_adapter(read_adapter(folder), base)
    assert first.path == folder / "a-lora-f32.gguf"
    with pytest.raises(ValueError, match="exists, and nothing is overwritten"):
        write_gguf_adapter(read_adapter(folder), base)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda place: usage(1, 1, 0))
    with pytest.raises(ValueError, match="not enough space"):
        write_gguf_adapter(read_adapter(folder), base, tmp_path / "other.gguf")
    assert not (tmp_path / "other.gguf").exists()


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "gguf", None)
    with pytest.raises(ValueError, match="needs the Python package 'gguf'.*pip install gguf"):
        gguf_adapter.import_gguf()


def test_a_family_is_a_name_and_an_order() -> None:
    assert Family("LLAMA").rows("q_proj", 8, {}) is None
