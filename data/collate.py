"""Samples to tensors: one flat row without padding, or rows that are padded and masked by length.

Guarantee: a label is never masked because of its token id (padding often equals the end token); the first label of every sample is
-100, also inside a pack, so every way of counting trained tokens agrees and none is predicted from the sample before it. An entry with
a negative index is a filler: the tokens without any label, so it adds nothing to loss or gradient. All layouts train the same tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .chat import IGNORE
from .exchanges.joins import COLUMNS, in_context, join, read_stored
from .items import Item, is_context, is_pack

if TYPE_CHECKING:
    import numpy as np
    import torch


class Samples:
    """Map-style data set of prepared samples, of packs of them, and of the items of :mod:`data.items`; it also knows fillers.

    ``samples[i]`` is entry i; ``samples[-1 - i]`` is entry i with every label -100; ``samples[item]`` is what the item says. An entry has
    ``input_ids``, ``labels`` and ``lengths``, the tokens of each segment: positions begin anew and nothing is seen across.

    Args:
        dataset: prepared samples.
        packs: indices of the samples of each pack; None = every sample is an entry.
        shared: the samples of a pack see those before them: a pack is one segment.
    """

    def __init__(self, dataset: Any, packs: Sequence[Sequence[int]] | None = None, *, shared: bool = False) -> None:
        self._dataset = dataset.with_format("numpy", columns=["input_ids", "labels"])
        self._stored = dataset.with_format("arrow") if set(COLUMNS) <= set(dataset.column_names) else None
        self._packs = packs
        self._shared = shared

    def __len__(self) -> int:
        return len(self._dataset if self._packs is None else self._packs)

    def __getitem__(self, index: Item) -> dict[str, Any]:
        if isinstance(index, tuple):
            return self._pack([self._made(part) for part in index[1]]) if is_pack(index) else self._whole(*self._made(index))
        entry = index if index >= 0 else -1 - index
        if self._packs is None:
            sample = self._whole(*self._single(entry))
        else:
            rows = self._dataset[[int(number) for number in self._packs[entry]]]
            sample = self._pack(list(zip(rows["input_ids"], rows["labels"], strict=True)))
        if index < 0:
            sample["labels"] = sample["labels"] * 0 + IGNORE
        return sample

    def _made(self, item: Item) -> tuple[np.ndarray, np.ndarray]:
        """Ids and labels of an item that is no pack."""
        if not isinstance(item, tuple):
            ids, labels = self._single(item if item >= 0 else -1 - item)
            return ids, labels if item >= 0 else labels * 0 + IGNORE
        assert self._stored is not None, "joined samples come from prepared data"
        if is_context(item):
            *context, sample = read_stored(self._stored, [*item[1], item[2]])
            return in_context(context, sample)
        return join(read_stored(self._stored, item))

    def _single(self, entry: int) -> tuple[np.ndarray, np.ndarray]:
        sample = self._dataset[int(entry)]
        return sample["input_ids"], sample["labels"]

    @staticmethod
    def _whole(ids: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
        return {"input_ids": ids, "labels": labels, "lengths": [len(ids)]}

    def _pack(self, parts: Sequence[tuple[np.ndarray, np.ndarray]]) -> dict[str, Any]:
        import numpy as np

        lengths = [len(ids) for ids, _ in parts]
        labels = np.concatenate([labels for _, labels in parts])
        labels[np.cumsum([0, *lengths[:-1]])] = IGNORE
        ids = np.concatenate([ids for ids, _ in parts])
        return {"input_ids": ids, "labels": labels, "lengths": [sum(lengths)] if self._shared else lengths}


def segment_lengths(sample: dict[str, Any]) -> list[int]:
    """Tokens of each segment of an entry."""
    return list(sample.get("lengths") or [len(sample["input_ids"])])


def separate(samples: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The segments of packs as samples of their own, in order."""
    found: list[dict[str, Any]] = []
    for sample in samples:
        start = 0
        for length in segment_lengths(sample):
            part = slice(start, start + length)
            found.append({"input_ids": sample["input_ids"][part], "labels": sample["labels"][part]})
            start += length
    return found


def collate(samples: Sequence[dict[str, Any]], pad_id: int) -> dict[str, torch.Tensor]:
    """Pad a batch on the right; segments of packs become rows of their own.

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

    rows = separate(samples)
    shape = (len(rows), max(len(row["input_ids"]) for row in rows))
    ids, labels = np.full(shape, pad_id, dtype=np.int64), np.full(shape, IGNORE, dtype=np.int64)
    mask = np.zeros(shape, dtype=np.int64)
    for number, row in enumerate(rows):
        length = len(row["input_ids"])
        ids[number, :length], labels[number, :length], mask[number, :length] = row["input_ids"], row["labels"], 1
    labels[:, 0] = IGNORE
    return {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask), "labels": torch.from_numpy(labels)}


def collate_flat(samples: Sequence[dict[str, Any]], pad_id: int = 0) -> dict[str, Any]:
    """All segments of a batch behind each other in one row; nothing is padded.

    Returns:
        ``input_ids``, ``position_ids``, ``labels``: int64 tensors of shape (1, total); ``lengths``: tokens of each segment::

            ids        A B C D E F      lengths 4 2
            positions  0 1 2 3 0 1
            labels     x B C D x F
    """
    import numpy as np

    lengths = [length for sample in samples for length in segment_lengths(sample)]
    ids = np.concatenate([sample["input_ids"] for sample in samples])[None]
    labels = np.concatenate([sample["labels"] for sample in samples])[None]
    return {**_with_positions(ids, labels, [lengths]), "lengths": lengths}


def collate_masked(samples: Sequence[dict[str, Any]], pad_id: int) -> dict[str, Any]:
    """One row a pack, for models that tell segments apart by positions that begin anew; padding is a segment of its own.

    Returns:
        ``input_ids``, ``position_ids``, ``labels``: int64 tensors of shape (packs, longest)::

            ids        A B C D    E F . .
            positions  0 1 2 0    0 1 0 1
    """
    import numpy as np

    shape = (len(samples), max(len(sample["input_ids"]) for sample in samples))
    ids, labels = np.full(shape, pad_id, dtype=np.int64), np.full(shape, IGNORE, dtype=np.int64)
    rows = []
    for number, sample in enumerate(samples):
        length = len(sample["input_ids"])
        ids[number, :length], labels[number, :length] = sample["input_ids"], sample["labels"]
        rows.append([*segment_lengths(sample), *([shape[1] - length] if length < shape[1] else [])])
    return _with_positions(ids, labels, rows)


def _with_positions(ids: np.ndarray, labels: np.ndarray, rows: list[list[int]]) -> dict[str, torch.Tensor]:
    """Tensors of rows whose segments have these lengths; no segment's first token is predicted."""
    import numpy as np
    import torch

    labels = labels.astype(np.int64)
    positions = np.empty(ids.shape, dtype=np.int64)
    for number, lengths in enumerate(rows):
        starts = np.cumsum([0, *lengths[:-1]])
        labels[number, starts] = IGNORE
        positions[number] = np.arange(ids.shape[1]) - np.repeat(starts, lengths)
    names = {"input_ids": ids.astype(np.int64), "position_ids": positions, "labels": labels}
    return {name: torch.from_numpy(values) for name, values in names.items()}


# name -> (samples, padding id) -> tensors
LAYOUTS = {"flat": collate_flat, "masked": collate_masked, "padded": collate}


class Collator:
    """A layout with its padding id, and where the trained tokens stand; picklable for worker processes.

    A batch has, beside the tensors of its layout: ``positions`` (trained,) the places in the flattened (batch x seq) whose next token
    is trained; ``targets`` (trained,) those tokens; ``num_tokens`` without padding; ``segments``, the tokens of each segment of each
    row. They are found here so that no device is waited for.
    """

    def __init__(self, pad_id: int, layout: str = "padded") -> None:
        self.pad_id = pad_id
        self.layout = layout

    def __call__(self, samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
        batch = LAYOUTS[self.layout](samples, self.pad_id)
        counts = {"num_tokens": sum(len(sample["input_ids"]) for sample in samples), "segments": self._segments(samples)}
        return {**batch, **trained_places(batch["labels"]), **counts}

    def _segments(self, samples: Sequence[dict[str, Any]]) -> list[list[int]]:
        lengths = [segment_lengths(sample) for sample in samples]
        if self.layout == "masked":
            return lengths
        flat = [length for row in lengths for length in row]
        return [flat] if self.layout == "flat" else [[length] for length in flat]


def trained_places(labels: torch.Tensor) -> dict[str, torch.Tensor]:
    """``positions`` and ``targets`` of a (batch, seq) tensor of labels."""
    row, place = (labels[:, 1:] != IGNORE).nonzero(as_tuple=True)
    return {"positions": row * labels.shape[1] + place, "targets": labels[row, place + 1]}


def padding_id(tokenizer: Any) -> int:
    """An id to pad with: the pad token's, else the end token's, else 0. Nothing on the tokenizer is changed."""
    for name in ("pad_token_id", "eos_token_id"):
        value = getattr(tokenizer, name, None)
        if isinstance(value, int) and value >= 0:
            return value
    return 0
