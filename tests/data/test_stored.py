"""Samples written and read back: every number, in batches, memory-mapped."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from training_pro.data import stored
from training_pro.data.samples import PlacedSample
from training_pro.data.stored import SampleWriter, StoredSamples


def sample(ids: list[int], number: int = 0, **changes: object) -> PlacedSample:
    values = {"num_trained": 1, "group": number, "section": number % 3, "place": number % 2, "overlap": False, "question": ""}
    values |= changes
    tokens = np.asarray(ids, dtype=np.int32)
    return PlacedSample(tokens, np.where(tokens % 2 == 0, tokens, -100), **values)


@given(st.lists(st.lists(st.integers(0, 99_999), min_size=1, max_size=9), min_size=1, max_size=30), st.integers(1, 12))
def test_what_is_written_is_read_back(tmp_path_factory: pytest.TempPathFactory, rows: list, tokens_at_once: int) -> None:
    folder = tmp_path_factory.mktemp("stored")
    before = stored.TOKENS_AT_ONCE
    stored.TOKENS_AT_ONCE = tokens_at_once
    try:
        with SampleWriter(folder) as writer:
            for number, ids in enumerate(rows):
                writer.add(sample(ids, number, overlap=number % 4 == 1), number % 5)
    finally:
        stored.TOKENS_AT_ONCE = before
    assert (writer.num_samples, writer.highest_token) == (len(rows), max(map(max, rows)))
    found = StoredSamples(folder)
    assert [row["input_ids"] for row in found.dataset] == rows
    assert [row["labels"] for row in found.dataset] == [[-100 if token % 2 else token for token in ids] for ids in rows]
    assert found.lengths.tolist() == [len(ids) for ids in rows]
    places = range(len(rows))
    assert found.numbers["group"].tolist() == list(places)
    assert found.numbers["source"].tolist() == [number % 5 for number in places]
    assert found.numbers["section"].tolist() == [number % 3 for number in places]
    assert found.numbers["overlap"].tolist() == [number % 4 == 1 for number in places]
    assert found.vectors is None


def test_a_choice_may_repeat(tmp_path: Path) -> None:
    with SampleWriter(tmp_path) as writer:
        for number in range(6):
            writer.add(sample([number], number), 0)
    found = StoredSamples(tmp_path)
    assert [row["input_ids"] for row in found.select(np.array([4, 1, 4, 0]))] == [[4], [1], [4], [0]]
    assert found.select(np.arange(6)) is found.dataset
    assert [row["input_ids"] for row in found.select(np.arange(5))] == [[number] for number in range(5)]


def test_samples_are_memory_mapped(tmp_path: Path) -> None:
    import pyarrow as pa

    with SampleWriter(tmp_path) as writer:
        for _ in range(50):
            writer.add(sample([1] * 20_000), 0)
    before = pa.total_allocated_bytes()
    found = StoredSamples(tmp_path)
    assert found.lengths.sum() == 1_000_000
    assert found.numbers["num_trained"].sum() == 50
    assert pa.total_allocated_bytes() - before < 100_000  # the tokens are 8 MB


def test_vectors_of_questions_or_of_the_text(tmp_path: Path) -> None:
    def embed(texts: list[str]) -> np.ndarray:
        return np.asarray([[len(text), 1.0] for text in texts])

    with SampleWriter(tmp_path, embed, lambda ids: "x" * len(ids)) as writer:
        for question in ("who", "", "where"):
            writer.add(sample([1] * 7, question=question), 0)
    assert StoredSamples(tmp_path).vectors.tolist() == [[3, 1], [7, 1], [5, 1]]
    assert isinstance(StoredSamples(tmp_path).vectors, np.memmap)


def test_an_error_inside_is_not_covered_by_one_of_the_writer(tmp_path: Path) -> None:
    def write() -> None:
        with SampleWriter(tmp_path) as writer:
            writer.add(sample([1]), 0)
            raise KeyError

    with pytest.raises(KeyError):
        write()
