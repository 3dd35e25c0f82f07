"""Setting up a model: number formats, loading, facts; which weights and methods is in adapting/."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tiny
import torch
import transformers
import yaml
from training_pro import train_utils
from training_pro.train_utils import (
    OPTIMIZERS,
    best_device,
    choose_precision,
    context_length,
    count_parameters,
    free_memory,
    load_base_model,
    load_tokenizer,
    model_dtype_name,
    model_identity,
    read_chat_template,
)

# --- which number format -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "dtype", "device", "bf16", "expected"),
    [
        *(("auto", dtype, device, False, "float32") for dtype in ("float32", "bfloat16", "float16") for device in ("cpu", "mps")),
        ("auto", "bfloat16", "cuda", True, "bfloat16"),
        ("auto", "bfloat16", "cuda", False, "bfloat16"),  # slow there, but float16 would overflow
        ("auto", "float16", "cuda", True, "float16"),
        ("auto", "float16", "cuda", False, "float16"),
        ("auto", "float32", "cuda", True, "bfloat16"),
        ("auto", "float32", "cuda", False, "float16"),
        ("float32", "bfloat16", "cuda", True, "float32"),
        ("bfloat16", "float16", "cuda", True, "bfloat16"),
        ("bfloat16", "float32", "cpu", False, "bfloat16"),
        ("float16", "float32", "cuda", True, "float16"),
    ],
)
def test_precision(wanted: str, dtype: str, device: str, bf16: bool, expected: str) -> None:
    assert choose_precision(wanted, dtype, device, bf16) == expected


def test_a_bfloat16_model_never_runs_under_float16() -> None:
    for device in ("cuda", "cpu", "mps", "xpu"):
        for bf16 in (True, False):
            assert choose_precision("auto", "bfloat16", device, bf16) != "float16"


@pytest.mark.parametrize(
    ("wanted", "dtype", "device", "message"),
    [
        (
            "float16",
            "bfloat16",
            "cuda",
            "Precision: a bfloat16 model overflows under float16. Got: 'float16'. Choose auto or bfloat16",
        ),
        ("float16", "float32", "cpu", "Precision: float16 does not train on a CPU. Got: 'float16'. Choose auto or float32"),
        ("bfloat16", "float32", "cuda", "Precision: this GPU has no bfloat16. Got: 'bfloat16'. Choose auto or float16"),
    ],
)
def test_wishes_that_cannot_be(wanted: str, dtype: str, device: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        choose_precision(wanted, dtype, device, bf16_supported=False)


def test_the_dtype_of_a_model() -> None:
    model = tiny.model()
    assert model_dtype_name(model) == "float32"
    model.bfloat16()
    model.model.norm.float()
    assert model_dtype_name(model) == "bfloat16"
    assert model_dtype_name(torch.nn.Identity()) == "float32"


# --- loading -------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save_model(tmp_path_factory.mktemp("model") / "veltmor")


def damaged(saved: Path, tmp_path: Path, **files: str | bytes | None) -> Path:
    """A copy of the model folder in which files are replaced, or removed with None."""
    for file in saved.iterdir():
        content = files.get(file.name.replace(".", "_"), file.read_bytes())
        if content is not None:
            (tmp_path / file.name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return tmp_path


def test_a_model_folder_is_loaded(saved: Path) -> None:
    model, tokenizer = load_base_model(saved)
    assert (model.training, model_dtype_name(model), len(tokenizer)) == (False, "float32", 400)
    assert all(
        torch.equal(ours, theirs) for ours, theirs in zip(model.cpu().parameters(), tiny.model().parameters(), strict=True)
    )
    assert model_dtype_name(load_base_model(saved, train_utils.Loading("bfloat16"))[0]) == "bfloat16"


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            {"model_safetensors": None},
            "Model: .* cannot be loaded: .*model.safetensors.* Choose a complete Hugging Face model folder",
        ),
        ({"model_safetensors": b"x" * 99}, "Model: .* cannot be loaded: Error while deserializing"),
        ({"config_json": '{"model_type": "zzz"}'}, "Model: .* cannot be loaded: .*zzz"),
        ({"config_json": '{"model_type": "t5"}'}, "Model: .* cannot be loaded: .*T5"),
        ({"config_json": "{"}, "Model: .* cannot be loaded: .*JSON"),
        ({"tokenizer_json": "{"}, "Model: the tokenizer in .* cannot be loaded: .*Choose a complete model folder"),
        ({"tokenizer_json": '{"added_tokens": [], "model": {"type": "BPE"}}'}, "Model: the tokenizer in .* cannot be loaded"),
        ({"tokenizer_json": None, "tokenizer_config_json": None}, "Model: the tokenizer in .* cannot be loaded"),
    ],
)
def test_folders_that_cannot_be_loaded(saved: Path, tmp_path: Path, files: dict, message: str) -> None:
    assert all((saved / name[::-1].replace("_", ".", 1)[::-1]).is_file() for name in files)
    with pytest.raises(ValueError, match=f"(?s){message}"):
        load_base_model(damaged(saved, tmp_path, **files))


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    for load in (load_base_model, load_tokenizer):
        with pytest.raises(ValueError, match=f"Model: there is no folder {tmp_path / 'no'}. Choose a complete"):
            load(tmp_path / "no")


@pytest.mark.parametrize(("cuda", "mps", "expected"), [(True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")])
def test_the_best_device(monkeypatch: pytest.MonkeyPatch, cuda: bool, mps: bool, expected: str) -> None:
    emptied: list[str] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: emptied.append("cuda"))
    monkeypatch.setattr(torch.mps, "empty_cache", lambda: emptied.append("mps"))
    assert best_device() == expected
    free_memory()
    assert emptied == [expected] * (expected != "cpu")


def test_chat_templates_from_files(tmp_path: Path) -> None:
    jinja, webui = tmp_path / "a.jinja", tmp_path / "b.yaml"
    jinja.write_text(tiny.CHATML, encoding="utf-8")
    webui.write_text(yaml.safe_dump({"instruction_template": tiny.CHATML}), encoding="utf-8")
    assert read_chat_template(str(jinja)) == read_chat_template(str(webui)) == tiny.CHATML


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jinja", None, "Chat template: .*a.jinja cannot be read: .* Choose a .jinja or .yaml file"),
        ("a.jinja", b"\xff\xfe", "Chat template: .*a.jinja cannot be read"),
        (
            "a.yaml",
            b"other: 1",
            "Chat template: .*a.yaml has no 'instruction_template'. Choose a WebUI template or a .jinja file",
        ),
        ("a.yml", b"just text", "a.yml has no 'instruction_template'"),
        ("a.yaml", b"a: [", "Chat template: .*a.yaml is not valid YAML: (?s:.*) Choose a WebUI template"),
    ],
)
def test_files_that_are_no_chat_template(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_chat_template(str(tmp_path / name))


# --- facts ---------------------------------------------------------------------------------------------------------------------


def test_counting_parameters(tiny_model: Any) -> None:
    total = sum(parameter.numel() for parameter in tiny_model.parameters())
    assert count_parameters(tiny_model) == (total, total)
    tiny_model.requires_grad_(False)
    tiny_model.model.norm.requires_grad_(True)
    assert count_parameters(tiny_model) == (64, total)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"max_position_embeddings": 512}, 512),
        ({"n_positions": 1024}, 1024),
        ({"max_seq_len": 2048, "n_positions": None}, 2048),
        ({"seq_length": 64, "max_position_embeddings": -1}, 64),
        ({"max_position_embeddings": "many"}, None),
        ({}, None),
    ],
)
def test_the_longest_context(config: dict, expected: int | None) -> None:
    assert context_length(SimpleNamespace(config=SimpleNamespace(**config))) == expected
    inner = SimpleNamespace(get_text_config=lambda: SimpleNamespace(**config))
    assert context_length(SimpleNamespace(config=inner)) == expected


def test_the_context_of_real_models(tiny_model: Any) -> None:
    assert context_length(tiny_model) == 512
    assert context_length(SimpleNamespace(config=transformers.GPT2Config())) == 1024
    assert context_length(SimpleNamespace(config=transformers.MambaConfig(hidden_size=8, num_hidden_layers=1))) is None


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("/models/SmolLM2", "SmolLM2"),
        ("C:\\models\\Smol\\", "Smol"),
        ("org/name/", "name"),
        ("", "SimpleNamespace"),
        (None, "SimpleNamespace"),
        ("/", "SimpleNamespace"),
    ],
)
def test_the_identity_of_a_model(name: str | None, expected: str) -> None:
    assert model_identity(SimpleNamespace(config=SimpleNamespace(_name_or_path=name))) == expected


def test_the_first_choices() -> None:
    assert (next(iter(OPTIMIZERS)), train_utils.PRECISIONS[0]) == ("adamw_torch", "auto")
