"""Samples to tensors: padding is masked by length, never by token id, and fillers add nothing."""

import pickle
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from datasets import Dataset
from training_pro.data.chat import IGNORE, tokenize_conversation
from training_pro.data.collate import Collator, Samples, collate, padding_id

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
    assert set(samples[0]) == {"input_ids", "labels"}
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
