"""Texts to vectors: means of the loaded model's rows, the same in every format, and an identity that changes with the vectors."""

import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from training_pro.config import RunConfig
from training_pro.data.packing import embedding as module
from training_pro.data.packing.embedding import EMBEDDINGS, InputEmbeddings, make_embedder, mean_input_embeddings

TEXTS = ["where is the harbour", "who paints every boat blue in spring", "the soup", "", "the soup the soup"]


def expected(model: Any, texts: list[str]) -> np.ndarray:
    """The definition, token by token: rows centred, of length 1, their mean, of length 1."""
    rows = model.get_input_embeddings().weight.detach().double().numpy()
    rows = rows - rows.mean(axis=0)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    vectors = []
    for text in texts:
        ids = tiny.tokenizer().encode(text, add_special_tokens=False)
        total = sum((rows[token] for token in ids), np.zeros(rows.shape[1]))
        vectors.append(total / max(np.linalg.norm(total), 1e-12))
    return np.array(vectors)


# --- the mean ------------------------------------------------------------------------------------------------------------------


def test_the_definition(tiny_model: Any) -> None:
    found = mean_input_embeddings(tiny_model, tiny.tokenizer(), TEXTS)
    assert found.dtype == np.float32
    assert found.shape == (5, 64)
    np.testing.assert_allclose(found, expected(tiny_model, TEXTS), atol=2e-6)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), [1, 1, 1, 0, 1], atol=1e-6)
    np.testing.assert_allclose(found[2], found[4], atol=0.1)  # the same words, but for the blank between


def test_a_text_does_not_depend_on_the_others(tiny_model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    embedder = InputEmbeddings(tiny_model, tiny.tokenizer())
    texts = [sentence * (number % 4) for number, sentence in enumerate(tiny.corpus()[:50])]
    whole = embedder(texts)
    np.testing.assert_allclose(np.concatenate([embedder([text]) for text in texts]), whole, atol=1e-6)
    sizes = []
    means = InputEmbeddings._means
    monkeypatch.setattr(
        InputEmbeddings, "_means", lambda self, ids: sizes.append([len(text) for text in ids]) or means(self, ids)
    )
    monkeypatch.setattr(module, "_MAX_TOKENS", 60)
    monkeypatch.setattr(module, "_MAX_TEXTS", 9)
    np.testing.assert_allclose(embedder(texts), whole, atol=1e-6)
    assert len(sizes) > 6
    assert sum(map(len, sizes)) == 50
    assert all(sum(lengths) <= 60 or len(lengths) == 1 for lengths in sizes)
    assert embedder([]).shape == (0, 64)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_other_number_formats(dtype: torch.dtype) -> None:
    model = tiny.model().to(dtype)
    found = mean_input_embeddings(model, tiny.tokenizer(), TEXTS)
    np.testing.assert_allclose(found, expected(tiny.model(), TEXTS), atol=0.02)
    np.testing.assert_allclose(found, expected(model.float(), TEXTS), atol=2e-6)  # no precision is lost on the way
    assert InputEmbeddings(tiny.model().to(dtype), tiny.tokenizer()).identity != InputEmbeddings(model, tiny.tokenizer()).identity


class Packed(torch.nn.Module):
    """Like a 4-bit embedding: the stored weight has another shape, only the module knows how to read it."""

    def __init__(self, rows: torch.Tensor) -> None:
        super().__init__()
        self.num_embeddings = len(rows)
        self.weight = torch.nn.Parameter((rows * 127).round().to(torch.int8).view(-1, 2), requires_grad=False)
        self.dim = rows.shape[1]

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return (self.weight.view(-1, self.dim)[ids].to(torch.bfloat16)) / 127


def test_rows_are_read_through_the_module(tiny_model: Any) -> None:
    plain = mean_input_embeddings(tiny_model, tiny.tokenizer(), TEXTS)
    tiny_model.set_input_embeddings(Packed(tiny_model.get_input_embeddings().weight.detach()))
    cosines = (mean_input_embeddings(tiny_model, tiny.tokenizer(), TEXTS) * plain).sum(axis=1)
    assert (cosines[[0, 1, 2, 4]] > 0.9).all()


def test_the_model_stays_as_it_is(tiny_model: Any) -> None:
    before = {name: value.clone() for name, value in tiny_model.state_dict().items()}
    tokenizer = tiny.fresh_tokenizer()
    tiny_model.train()
    mean_input_embeddings(tiny_model, tokenizer, TEXTS)
    assert tiny_model.training
    assert all(torch.equal(before[name], value) for name, value in tiny_model.state_dict().items())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in tiny_model.parameters())


def test_a_wide_model_is_projected(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny.model(hidden_size=512)
    texts = tiny.corpus()[:26]
    whole = InputEmbeddings(model, tiny.tokenizer())
    monkeypatch.setattr(module, "MAX_DIMENSIONS", 256)
    small = InputEmbeddings(model, tiny.tokenizer())
    assert (whole.dim, small.dim, small(texts).shape) == (512, 256, (26, 256))
    assert small.identity != whole.identity
    difference = small(texts) @ small(texts).T - whole(texts) @ whole(texts).T
    assert 0 < np.abs(difference).mean() < 0.06
    assert np.array_equal(small(texts), InputEmbeddings(model, tiny.tokenizer())(texts))


# --- identity ------------------------------------------------------------------------------------------------------------------


def test_the_identity_is_of_the_vectors() -> None:
    first = InputEmbeddings(tiny.model(), tiny.tokenizer())
    assert first.identity == InputEmbeddings(tiny.model(), tiny.fresh_tokenizer()).identity
    assert first.identity.startswith("input-embeddings-")
    changed = tiny.model()
    with torch.no_grad():
        changed.get_input_embeddings().weight[7, 3] += 1e-3
    others = [
        InputEmbeddings(model, tiny.tokenizer()).identity for model in (changed, tiny.model(seed=1), tiny.model(hidden_size=32))
    ]
    assert len({first.identity, *others}) == 4


# --- what does not fit ---------------------------------------------------------------------------------------------------------


def test_a_token_that_the_model_does_not_know() -> None:
    model = tiny.model(vocab_size=100)
    with pytest.raises(ValueError, match=r"the tokenizer does not fit the model: it gives token \d+, the model knows 100 tokens"):
        mean_input_embeddings(model, tiny.tokenizer(), TEXTS)


def test_a_model_without_input_embeddings() -> None:
    with pytest.raises(ValueError, match="Linear has no input embeddings. Choose a sentence-transformers model"):
        make_embedder("input embeddings", torch.nn.Linear(2, 2), tiny.tokenizer())


def test_an_unknown_embedding(tiny_model: Any) -> None:
    with pytest.raises(ValueError, match="'glove' is unknown. Choose from input embeddings, sentence-transformers"):
        make_embedder("glove", tiny_model, tiny.tokenizer())


def test_the_settings_offer_the_table() -> None:
    found = {info.field: info for info in RunConfig.settings()}
    assert found["batching.pack_embedding"].choices == tuple(EMBEDDINGS)
    assert found["batching.pack_embedding"].default == "input embeddings"
    assert "batching.pack_embedding_folder" in found


# --- sentence-transformers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", ["", "no/such/folder", "sentence-transformers/all-MiniLM-L6-v2"])
def test_no_folder_is_no_download(folder: str) -> None:
    with pytest.raises(ValueError, match=r"Embedding folder: .* nothing is downloaded"):
        make_embedder("sentence-transformers", None, None, folder=folder)


def test_the_package_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(ValueError, match=r"sentence-transformers cannot be imported .*pip install sentence-transformers"):
        make_embedder("sentence-transformers", None, None, folder=str(tmp_path))


class FakeSentenceTransformer:
    """Counts letters; refuses to be loaded in a way that could ask a hub."""

    def __init__(self, path: str, *, local_files_only: bool) -> None:
        assert local_files_only
        assert Path(path).is_dir()

    def encode(self, texts: list[str], *, show_progress_bar: bool) -> np.ndarray:
        assert not show_progress_bar
        return np.array([[text.count(letter) for letter in "abc"] for text in texts], dtype=np.float16)


def test_a_folder_of_sentence_transformers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "weights").write_bytes(b"1")
    fake = types.SimpleNamespace(SentenceTransformer=FakeSentenceTransformer)
    monkeypatch.setitem(sys.modules, "sentence_transformers", fake)
    embedder = make_embedder("sentence-transformers", None, None, folder=str(tmp_path))
    np.testing.assert_allclose(embedder(["aabb", "ccc", "x"]), [[0.5**0.5, 0.5**0.5, 0], [0, 0, 1], [0, 0, 0]], atol=1e-3)
    assert (embedder.dim, embedder([]).shape) == (3, (0, 3))
    (tmp_path / "sub" / "weights").write_bytes(b"2")
    again = make_embedder("sentence-transformers", None, None, folder=str(tmp_path))
    assert embedder.identity.startswith("sentence-transformers-")
    assert again.identity != embedder.identity


def test_a_real_sentence_transformers_model(tmp_path: Path) -> None:
    package = pytest.importorskip("sentence_transformers", reason="sentence-transformers is not installed")
    from transformers import BertConfig, BertModel, BertTokenizerFast

    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *tiny.WORDS]
    (tmp_path / "vocab.txt").write_text("\n".join(vocabulary), encoding="utf-8")
    small = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    BertModel(BertConfig(vocab_size=len(vocabulary), **small)).save_pretrained(tmp_path / "bert")
    BertTokenizerFast(vocab_file=str(tmp_path / "vocab.txt")).save_pretrained(tmp_path / "bert")
    from sentence_transformers import models

    words = models.Transformer(str(tmp_path / "bert"))
    package.SentenceTransformer(modules=[words, models.Pooling(32)], device="cpu").save(str(tmp_path / "model"))
    embedder = make_embedder("sentence-transformers", None, None, folder=str(tmp_path / "model"))
    found = embedder(["where is the harbour", "seven bells", "where is the harbour"])
    assert (found.dtype, found.shape, embedder.dim) == (np.float32, (3, 32), 32)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(found[0], found[2], atol=1e-6)
    assert np.abs(found[0] - found[1]).max() > 1e-3
