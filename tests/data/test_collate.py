"""Samples to tensors: padding is masked by length, never by token id, and fillers add nothing."""

import pickle
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from training_pro.data.chat import IGNORE, tokenize_conversation
from training_pro.data.collate import LAYOUTS, Collator, Samples, collate, padding_id

X = IGNORE
A = {"input_ids": np.array([1, 2, 3, 4]), "labels": np.array([X, 2, 3, 4])}
B = {"input_ids": np.array([5, 6]), "labels": np.array([X, 6])}


def test_a_batch_is_padded_on_the_right() -> None:
    batch = collate([A, B], pad_id=9)
    assert {name: values.tolist() for name, values in batch.items()} == {
        "input_ids": [[1, 2, 3, 4], [5, 6, 9, 9]],
        "attention_mask": [[1, 1, 1, 1], [1, 1, 0, 0]],
        "labels": [[X, 2, 3, 4], [X, 6, X, X]],
    }
    assert {values.dtype for values in batch.values()} == {torch.int64}


def test_a_token_that_equals_the_padding_keeps_its_label() -> None:
    batch = collate([A, {"input_ids": [7, 9], "labels": [X, 9]}], pad_id=9)
    assert batch["labels"].tolist()[1] == [X, 9, X, X]
    assert batch["attention_mask"].tolist()[1] == [1, 1, 0, 0]


def test_the_first_label_is_never_trained() -> None:
    assert collate([{"input_ids": [1, 2], "labels": [1, 2]}], pad_id=0)["labels"].tolist() == [[X, 2]]


def test_the_end_token_of_a_conversation_stays_trained_where_it_pads(tiny_tokenizer: Any) -> None:
    samples = [
        tokenize_conversation([{"role": "user", "content": "who"}, {"role": "assistant", "content": text}], tiny_tokenizer)
        for text in ("Oda", "the keeper is called Oda")
    ]
    pad_id = padding_id(tiny_tokenizer)
    assert pad_id == tiny_tokenizer.eos_token_id
    batch = collate([vars(sample) for sample in samples], pad_id)
    assert (batch["labels"] == pad_id).sum(dim=1).tolist() == [1, 1]
    assert batch["attention_mask"].sum(dim=1).tolist() == [len(sample.input_ids) for sample in samples]


def test_padding_changes_no_loss() -> None:
    model = tiny.model()
    with torch.no_grad():
        alone = model(**collate([B], pad_id=0)).loss
        padded = model(**{name: values[1:] for name, values in collate([A, B], pad_id=8).items()}).loss
    assert torch.allclose(alone, padded, rtol=1e-5)


@pytest.fixture
def samples() -> Samples:
    rows = {"input_ids": [[1, 2, 3], [4, 5]], "labels": [[X, 2, X], [X, 5]], "num_trained": [1, 1]}
    return Samples(Dataset.from_dict(rows))


def test_samples_and_fillers(samples: Samples) -> None:
    assert len(samples) == 2
    assert [(sample["input_ids"].tolist(), sample["labels"].tolist()) for sample in (samples[0], samples[1])] == [
        ([1, 2, 3], [X, 2, X]),
        ([4, 5], [X, 5]),
    ]
    assert set(samples[0]) == {"input_ids", "labels", "lengths"}
    assert [samples[index]["lengths"] for index in (0, 1, -2)] == [[3], [2], [2]]
    assert (samples[-1]["input_ids"].tolist(), samples[-1]["labels"].tolist()) == ([1, 2, 3], [X, X, X])
    assert (samples[-2]["input_ids"].tolist(), samples[-2]["labels"].tolist()) == ([4, 5], [X, X])
    assert samples[0]["labels"].tolist() == [X, 2, X]  # the sample itself is as before


def test_a_filler_has_no_gradient(samples: Samples) -> None:
    model = tiny.model()
    batch = collate([samples[-1]], pad_id=0)
    logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    loss = torch.nn.functional.cross_entropy(logits[0, :-1], batch["labels"][0, 1:], ignore_index=X, reduction="sum")
    loss.backward()
    assert loss.item() == 0
    assert all(parameter.grad is None or not parameter.grad.any() for parameter in model.parameters())


def test_the_collator_survives_pickling(samples: Samples) -> None:
    collator = pickle.loads(pickle.dumps(Collator(9)))
    assert collator([samples[0], samples[1]])["input_ids"].tolist() == [[1, 2, 3], [4, 5, 9]]


# --- packs and layouts ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def dataset() -> Dataset:
    ids = [[1, 2, 3], [4, 5], [6, 7, 8, 9], [10]]
    return Dataset.from_dict({"input_ids": ids, "labels": [[1, 2, X], [4, 5], [X, X, 8, 9], [10]], "num_trained": [2, 2, 2, 1]})


def test_a_pack_keeps_its_samples_apart(dataset: Dataset) -> None:
    packs = Samples(dataset, [[2, 1], [3, 0]])
    assert len(packs) == 2
    pack = packs[0]
    assert pack["input_ids"].tolist() == [6, 7, 8, 9, 4, 5]
    assert pack["labels"].tolist() == [X, X, 8, 9, X, 5]  # nothing predicts a sample's first token
    assert pack["lengths"] == [4, 2]
    filler = packs[-2]
    assert (filler["input_ids"].tolist(), filler["labels"].tolist(), filler["lengths"]) == ([10, 1, 2, 3], [X] * 4, [1, 3])
    assert packs[1]["labels"].tolist() == [X, X, 2, X]  # the pack itself is as before


def test_a_shared_pack_is_one_segment(dataset: Dataset) -> None:
    pack = Samples(dataset, [[2, 1]], shared=True)[0]
    assert (pack["lengths"], pack["labels"].tolist()) == ([6], [X, X, 8, 9, X, 5])
    assert Collator(0, "flat")([pack])["position_ids"].tolist() == [[0, 1, 2, 3, 4, 5]]


def test_a_flat_row_has_no_padding(dataset: Dataset) -> None:
    packs = Samples(dataset, [[2, 1], [0]])
    batch = Collator(99, "flat")([packs[0], packs[1]])
    assert batch["input_ids"].tolist() == [[6, 7, 8, 9, 4, 5, 1, 2, 3]]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 3, 0, 1, 0, 1, 2]]
    assert batch["labels"].tolist() == [[X, X, 8, 9, X, 5, X, 2, X]]
    assert batch["lengths"] == [4, 2, 3]
    assert (batch["positions"].tolist(), batch["targets"].tolist()) == ([1, 2, 4, 6], [8, 9, 5, 2])
    assert batch["num_tokens"] == 9
    assert "attention_mask" not in batch  # it would make transformers forget the borders


def test_masked_rows_have_their_padding_as_a_segment(dataset: Dataset) -> None:
    packs = Samples(dataset, [[2, 1], [0]])
    batch = Collator(99, "masked")([packs[0], packs[1]])
    assert batch["input_ids"].tolist() == [[6, 7, 8, 9, 4, 5], [1, 2, 3, 99, 99, 99]]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 3, 0, 1], [0, 1, 2, 0, 1, 2]]
    assert batch["labels"].tolist() == [[X, X, 8, 9, X, 5], [X, 2, X, X, X, X]]
    assert (batch["positions"].tolist(), batch["targets"].tolist()) == ([1, 2, 4, 6], [8, 9, 5, 2])
    assert "attention_mask" not in batch


def test_padded_rows_are_the_samples_of_packs(dataset: Dataset) -> None:
    packs = Samples(dataset, [[2, 1], [0]])
    batch = Collator(99)([packs[0], packs[1]])
    assert batch["input_ids"].tolist() == [[6, 7, 8, 9], [4, 5, 99, 99], [1, 2, 3, 99]]
    assert batch["attention_mask"].sum(1).tolist() == [4, 2, 3]
    assert (batch["positions"].tolist(), batch["targets"].tolist()) == ([1, 2, 4, 8], [8, 9, 5, 2])
    assert batch["num_tokens"] == 9


@settings(max_examples=60)
@given(data=st.data())
def test_every_layout_trains_the_same_tokens(data: st.DataObject) -> None:
    lengths = data.draw(st.lists(st.integers(1, 9), min_size=1, max_size=8))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    rows = [rng.integers(1, 50, length) for length in lengths]
    labels = [np.where(rng.random(length) < 0.5, row, X) for row, length in zip(rows, lengths, strict=True)]
    entries = [{"input_ids": row, "labels": label} for row, label in zip(rows, labels, strict=True)]
    cut = data.draw(st.integers(0, len(lengths)))
    packs = [part for part in (entries[:cut], entries[cut:]) if part]
    joined = [
        {
            "input_ids": np.concatenate([entry["input_ids"] for entry in part]),
            "labels": np.concatenate([entry["labels"] for entry in part]),
            "lengths": [len(entry["input_ids"]) for entry in part],
        }
        for part in packs
    ]
    wanted = [
        (int(row[place - 1]), int(row[place]))
        for row, label in zip(rows, labels, strict=True)
        for place in range(1, len(row))
        if label[place] != X
    ]
    for layout in LAYOUTS:
        batch = Collator(0, layout)(joined)
        before = batch["input_ids"].flatten()[batch["positions"]].tolist()
        assert list(zip(before, batch["targets"].tolist(), strict=True)) == wanted
        assert (
            int((batch["labels"][:, 1:] != X).sum()) == int((batch["labels"] != X).sum()) == len(wanted)
        )  # both ways of counting
        assert batch["num_tokens"] == sum(lengths)


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        ({"pad_token_id": 3, "eos_token_id": 2}, 3),
        ({"pad_token_id": 0, "eos_token_id": 2}, 0),
        ({"pad_token_id": None, "eos_token_id": 2}, 2),
        ({"pad_token_id": None, "eos_token_id": [2, 5]}, 0),
        ({"pad_token_id": -1, "eos_token_id": None}, 0),
        ({}, 0),
    ],
)
def test_an_id_to_pad_with(ids: dict[str, Any], expected: int) -> None:
    assert padding_id(SimpleNamespace(**ids)) == expected
