"""Samples on disk: written in record batches, read back memory-mapped.

Guarantee: memory does not grow with the number of tokens, neither while writing nor while reading; the numbers of each sample are read
without touching a token. Price: 8 bytes a token on disk (ids and labels), about 200 bytes a sample in memory at the peak.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from .arrow_file import ArrowFile
from .samples import PlacedSample

TOKENS_AT_ONCE = 1 << 18
SAMPLES_AT_ONCE = 4096
NUMBERS = ("num_trained", "group", "section", "place", "source")
FLAGS = ("overlap",)
JOINT_NUMBERS, JOINT_FLAGS = ("way", "head", "tail", "part", "most"), ("context",)  # of data.sample.Joint
_SAMPLES, _VECTORS = "samples.arrow", "vectors.f32"


def _features() -> Any:
    from datasets import Features, Sequence, Value

    numbers = {name: Value("int32") for name in (*NUMBERS, *JOINT_NUMBERS)}
    flags = {name: Value("bool") for name in (*FLAGS, *JOINT_FLAGS)}
    tokens = {name: Sequence(Value("int32")) for name in ("input_ids", "labels")}
    more = {name: Sequence(Sequence(Value("int32"))) for name in ("more_ids", "more_labels")}
    return Features({**tokens, **numbers, **flags, **more})


class SampleWriter:
    """Writes samples into a folder; use as a context.

    Args:
        folder: exists, empty.
        embed: texts -> vectors of shape (texts, dimensions), if samples are to be compared.
        decode: token ids -> text, for samples without a question of their own.

    Attributes:
        num_samples: written so far.
        highest_token: largest token id so far, -1 before the first.
    """

    def __init__(self, folder: Path, embed: Callable[[list[str]], Any] | None = None, decode: Any = None) -> None:
        self._file = ArrowFile(folder / _SAMPLES, _features().arrow_schema, self._flush)
        self._embed, self._decode = embed, decode
        self._vectors = (folder / _VECTORS).open("wb") if embed is not None else None
        self._waiting: list[tuple[PlacedSample, int]] = []
        self._num_tokens = 0
        self.num_samples, self.highest_token = 0, -1

    def __enter__(self) -> SampleWriter:
        return self

    def __exit__(self, kind: Any, *rest: Any) -> None:
        try:
            self._file.close(is_whole=kind is None)
        finally:
            if self._vectors is not None:
                self._vectors.close()

    def add(self, sample: PlacedSample, source: int) -> None:
        """Add a sample of one of the sources."""
        self._waiting.append((sample, source))
        self._num_tokens += len(sample.input_ids)
        self.num_samples += 1
        if self._num_tokens >= TOKENS_AT_ONCE or len(self._waiting) >= SAMPLES_AT_ONCE:
            self._flush()

    def _flush(self) -> None:
        import pyarrow as pa

        if not self._waiting:
            return
        schema, samples = self._file.schema, [sample for sample, _ in self._waiting]
        borders = pa.array(np.cumsum([0, *(len(sample.input_ids) for sample in samples)], dtype=np.int32))
        ids = np.concatenate([sample.input_ids for sample in samples])
        labels = np.concatenate([sample.labels for sample in samples])
        columns: dict[str, Any] = {
            "input_ids": pa.ListArray.from_arrays(borders, pa.array(ids)),
            "labels": pa.ListArray.from_arrays(borders, pa.array(labels)),
            "source": pa.array([source for _, source in self._waiting], type=pa.int32()),
        }
        for name in (*NUMBERS, *FLAGS):
            if name not in columns:
                columns[name] = pa.array([getattr(sample, name) for sample in samples], type=schema.field(name).type)
        for name in (*JOINT_NUMBERS, *JOINT_FLAGS):
            columns[name] = pa.array([getattr(sample.joint, name) for sample in samples], type=schema.field(name).type)
        for place, name in enumerate(("more_ids", "more_labels")):
            columns[name] = _lists_of_lists([[pair[place] for pair in sample.joint.more] for sample in samples])
        highest = [int(more.max()) for sample in samples for more, _ in sample.joint.more if len(more)]
        self._file.write([columns[name] for name in schema.names])
        self.highest_token = max(self.highest_token, int(ids.max()), *highest)
        if self._embed is not None and self._vectors is not None:
            texts = [sample.question or self._decode(sample.input_ids.tolist()) for sample in samples]
            self._vectors.write(np.ascontiguousarray(self._embed(texts), dtype=np.float32).tobytes())
        self._waiting, self._num_tokens = [], 0


def _lists_of_lists(samples: list[list[np.ndarray]]) -> Any:
    """Of each sample some arrays of tokens, as Arrow has them."""
    import pyarrow as pa

    arrays = [array for arrays in samples for array in arrays]
    inner = pa.array(np.cumsum([0, *map(len, arrays)], dtype=np.int32))
    outer = pa.array(np.cumsum([0, *map(len, samples)], dtype=np.int32))
    tokens = np.concatenate(arrays) if arrays else np.zeros(0, dtype=np.int32)
    return pa.ListArray.from_arrays(outer, pa.ListArray.from_arrays(inner, pa.array(tokens, type=pa.int32())))


class StoredSamples:
    """Samples of a folder, memory-mapped.

    Attributes:
        dataset: datasets.Dataset of all of them.
        vectors: float32 of shape (samples, dimensions), memory-mapped; None if none were made.
    """

    def __init__(self, folder: Path) -> None:
        from datasets import Dataset

        self.dataset = Dataset.from_file(str(folder / _SAMPLES))
        self._vectors = folder / _VECTORS

    def __len__(self) -> int:
        return len(self.dataset)

    @cached_property
    def vectors(self) -> np.ndarray | None:
        """See above."""
        if not self._vectors.is_file():
            return None
        return np.memmap(self._vectors, dtype=np.float32, mode="r").reshape(len(self), -1)

    @cached_property
    def lengths(self) -> np.ndarray:
        """Tokens of each sample, int64, shape (samples,), from the offsets alone."""
        import pyarrow.compute as pc

        column = self._table()["input_ids"]
        return np.asarray(pc.list_value_length(column).to_numpy(zero_copy_only=False), dtype=np.int64)

    @cached_property
    def numbers(self) -> dict[str, np.ndarray]:
        """Name -> a number (or flag) of each sample, shape (samples,)."""
        table = self._table()
        names = (*NUMBERS, *FLAGS, *JOINT_NUMBERS, *JOINT_FLAGS)
        return {name: np.asarray(table[name].to_numpy(zero_copy_only=False)) for name in names}

    @cached_property
    def more_lengths(self) -> tuple[np.ndarray, np.ndarray]:
        """Tokens of what is stored beside each sample: borders of shape (samples + 1,) in an array of lengths."""
        import pyarrow.compute as pc

        column = self._table()["more_ids"]
        counts = np.asarray(pc.list_value_length(column).to_numpy(zero_copy_only=False), dtype=np.int64)
        inner = pc.list_value_length(pc.list_flatten(column))
        lengths = np.asarray(inner.to_numpy(zero_copy_only=False), dtype=np.int64)
        return np.concatenate(([0], np.cumsum(counts))), lengths

    def select(self, entries: np.ndarray) -> Any:
        """A datasets.Dataset of these samples, in this order; nothing is copied."""
        if len(entries) == len(self) and bool((entries == np.arange(len(self))).all()):
            return self.dataset
        return self.dataset.select(entries)

    def _table(self) -> Any:
        return self.dataset.with_format("arrow")[:]
