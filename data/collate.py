"""Samples to tensors: padded to the longest sample of the batch, masked by length.

Guarantee: a label is never masked because of its token id (padding often equals the end token); ``labels[:, 0]`` is -100, so every
way of counting trained tokens agrees. An entry with a negative index is a filler: the sample's tokens without any label, so it adds
nothing to loss or gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .chat import IGNORE

if TYPE_CHECKING:
    import torch


class Samples:
    """Map-style data set of prepared samples that also knows fillers.

    ``samples[i]`` is sample i; ``samples[-1 - i]`` is sample i with every label -100.
    """

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset.with_format("numpy", columns=["input_ids", "labels"])

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> dict[str, Any]:
        sample = self._dataset[index if index >= 0 else -1 - index]
        if index < 0:
            sample = {**sample, "labels": sample["labels"] * 0 + IGNORE}
        return sample


def collate(samples: Sequence[dict[str, Any]], pad_id: int) -> dict[str, torch.Tensor]:
    """Pad a batch on the right.

    Args:
        samples: ``input_ids`` and ``labels``, 1-D arrays of one length each.
        pad_id: token id to fill with; any id, since it is masked.

    Returns:
        ``input_ids``, ``attention_mask``, ``labels``: int64 tensors of shape (batch, longest)::

            ids     A B C D    E F . .        . = pad_id
            mask    1 1 1 1    1 1 0 0
            labels  x B C D    x F x x        x = -100
    """
    import numpy as np
    import torch

    shape = (len(samples), max(len(sample["input_ids"]) for sample in samples))
    ids, labels = np.full(shape, pad_id, dtype=np.int64), np.full(shape, IGNORE, dtype=np.int64)
    mask = np.zeros(shape, dtype=np.int64)
    for row, sample in enumerate(samples):
        length = len(sample["input_ids"])
        ids[row, :length], labels[row, :length], mask[row, :length] = sample["input_ids"], sample["labels"], 1
    labels[:, 0] = IGNORE
    return {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask), "labels": torch.from_numpy(labels)}


class Collator:
    """:func:`collate` with its padding id, picklable for worker processes."""

    def __init__(self, pad_id: int) -> None:
        self.pad_id = pad_id

    def __call__(self, samples: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        return collate(samples, self.pad_id)


def padding_id(tokenizer: Any) -> int:
    """An id to pad with: the pad token's, else the end token's, else 0. Nothing on the tokenizer is changed."""
    for name in ("pad_token_id", "eos_token_id"):
        value = getattr(tokenizer, name, None)
        if isinstance(value, int) and value >= 0:
            return value
    return 0
