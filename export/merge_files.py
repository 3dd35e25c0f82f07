"""Plain LoRAs added to a base's safetensors files while these are copied; no model is loaded.

Guarantee: each changed tensor is ``W + scale * B @ A``, summed in float32 and rounded once; every other tensor is copied bit
for bit (or rounded once, where another number format was asked for). Price: memory of one new shard (1 GB, or the largest
tensor) twice, since safetensors copies what it writes, and three times the tensor that is being changed, in float32, whatever
the size of the model.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..runs.store import read_json, write_json
from .adapter import Adapter, Pair, lora_pairs, more_than_pairs
from .files import gigabytes, require_space

if TYPE_CHECKING:
    import torch

    from .merge import Merged, MergeWish

SHARD_BYTES = 1_000_000_000
SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"


@dataclass
class _Change:
    """A pair, and whether the base keeps the weight the other way round (GPT-2's Conv1D: inputs first)."""

    pair: Pair
    transposed: bool


class BaseFiles:
    """The tensors of a model folder, read one at a time.

    Args:
        folder: with safetensors files; empty if there are none.
    """

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        from safetensors import safe_open

        index = read_json(folder / INDEX)
        names = sorted(set(index["weight_map"].values())) if isinstance(index, dict) and "weight_map" in index else [SINGLE]
        self._of: dict[str, Any] = {}
        for name in names:
            if not (folder / name).is_file():
                continue
            file = stack.enter_context(safe_open(str(folder / name), framework="pt"))
            self._of.update(dict.fromkeys(file.keys(), file))

    @property
    def names(self) -> list[str]:
        """All tensors, in the order of the files."""
        return list(self._of)

    def shape(self, name: str) -> tuple[int, ...]:
        """Of a tensor, without reading it; ``()`` if there is none."""
        return tuple(self._of[name].get_slice(name).get_shape()) if name in self._of else ()

    def read(self, name: str) -> torch.Tensor:
        """A tensor."""
        tensor: torch.Tensor = self._of[name].get_tensor(name)
        return tensor


def can_merge_files(wish: MergeWish) -> bool:
    """Whether every adapter is pairs on weights that stand in the base's files under their own names, unpacked."""
    if wish.loading is not None or is_packed(wish.base):
        return False
    if any(adapter.method != "lora" or more_than_pairs(adapter.config) for adapter in wish.adapters):
        return False
    with ExitStack() as stack:
        files = BaseFiles(wish.base, stack)
        return all(_changes(adapter, files) is not None for adapter in wish.adapters)


def is_packed(base: Path) -> bool:
    """Whether a model folder stores its weights quantized."""
    config = read_json(base / "config.json")
    return isinstance(config, dict) and bool(config.get("quantization_config"))


def _changes(adapter: Adapter, files: BaseFiles) -> dict[str, _Change] | None:
    """Name of the weight -> what is added; None where one of them is no weight of the files."""
    pairs, others = lora_pairs(adapter)
    if others or not pairs or any(pair.is_embedding for pair in pairs.values()):
        return None
    transposed = bool(adapter.config.get("fan_in_fan_out"))
    found = {}
    for module, pair in pairs.items():
        shape = (pair.a.shape[1], pair.b.shape[0]) if transposed else (pair.b.shape[0], pair.a.shape[1])
        if files.shape(f"{module}.weight") != shape:
            return None
        found[f"{module}.weight"] = _Change(pair, transposed)
    return found


def merge_files(wish: MergeWish, folder: Path) -> Merged:
    """Write the merged weights of :func:`can_merge_files` into a folder that has the base's small files.

    Raises:
        ValueError: no space is left, or numbers do not fit into the format.
    """
    from .merge import Merged

    with ExitStack() as stack:
        files = BaseFiles(wish.base, stack)
        changes = [_changes(adapter, files) or {} for adapter in wish.adapters]
        formats = {name: _format(files, name, wish.dtype) for name in files.names}
        sizes = {name: _num_elements(files.shape(name)) * formats[name].itemsize for name in files.names}
        require_space(folder, sum(sizes.values()))
        shards = list(_shards(sizes))
        weight_map = {}
        for number, names in enumerate(shards, 1):
            file = SINGLE if len(shards) == 1 else f"model-{number:05d}-of-{len(shards):05d}.safetensors"
            tensors = {name: _merged(name, files.read(name), changes, formats[name]) for name in names}
            _save(tensors, folder / file)
            weight_map.update(dict.fromkeys(names, file))
        if len(shards) > 1:
            write_json(folder / INDEX, {"metadata": {"total_size": sum(sizes.values())}, "weight_map": weight_map})
        dtype = _main_format(formats, sizes)
    if wish.dtype != "auto":
        put_dtype(folder, wish.dtype)
    changed = sorted({name for change in changes for name in change})
    largest = max((4 * _num_elements((*pair.b.shape[:1], *pair.a.shape[1:])) for pair in _all_pairs(changes)), default=0)
    peak = 2 * max(sum(sizes[name] for name in shard) for shard in shards) + 3 * largest
    return Merged(folder, dtype, len(changed), f"the merge needed at most {gigabytes(peak)} of memory")


def _all_pairs(changes: list[dict[str, _Change]]) -> Iterator[Pair]:
    yield from (change.pair for part in changes for change in part.values())


def _num_elements(shape: tuple[int, ...]) -> int:
    count = 1
    for length in shape:
        count *= length
    return count


def _format(files: BaseFiles, name: str, dtype: str) -> torch.dtype:
    import torch

    stored = files.read(name).dtype
    wanted: torch.dtype = getattr(torch, dtype) if dtype != "auto" else stored
    return wanted if stored.is_floating_point else stored


def _shards(sizes: dict[str, int]) -> Iterator[list[str]]:
    """Names of tensors, together at most a shard's size."""
    shard: list[str] = []
    filled = 0
    for name, size in sizes.items():
        if shard and filled + size > SHARD_BYTES:
            yield shard
            shard, filled = [], 0
        shard.append(name)
        filled += size
    if shard:
        yield shard


def _merged(name: str, weight: torch.Tensor, changes: list[dict[str, _Change]], dtype: torch.dtype) -> torch.Tensor:
    parts = [part[name] for part in changes if name in part]
    if parts:
        weight = weight.float()
        for part in parts:
            added = part.pair.scale * (part.pair.b.float() @ part.pair.a.float())
            weight += added.T if part.transposed else added
    if weight.dtype == dtype:
        return weight.contiguous()
    return fitting(name, weight, dtype).contiguous()


def fitting(name: str, weight: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """A weight in a number format.

    Raises:
        ValueError: it holds numbers that the format has not.
    """
    rounded = weight.to(dtype)
    if not rounded.isfinite().all():
        largest = f"{weight.float().abs().max().item():.3g}"
        raise ValueError(
            f"{name} does not fit into {str(dtype).removeprefix('torch.')}: its largest number is {largest}. "
            f"Choose --dtype bfloat16 or float32; if it is not finite there either, the training has failed."
        )
    return rounded


def _save(tensors: dict[str, torch.Tensor], file: Path) -> None:
    from safetensors.torch import save_file

    save_file(tensors, str(file), metadata={"format": "pt"})


def _main_format(formats: dict[str, Any], sizes: dict[str, int]) -> str:
    """The number format of most bytes."""
    totals: dict[str, int] = {}
    for name, dtype in formats.items():
        totals[str(dtype)] = totals.get(str(dtype), 0) + sizes[name]
    return max(totals, key=lambda dtype: totals[dtype]).removeprefix("torch.")


def put_dtype(folder: Path, dtype: str) -> None:
    """Write a number format into a copied config.json, also into its parts."""
    config = read_json(folder / "config.json")
    parts = [config, *(part for part in config.values() if isinstance(part, dict))]
    for part in parts:
        for key in ("dtype", "torch_dtype"):
            if key in part:
                part[key] = dtype
    if "dtype" not in config and "torch_dtype" not in config:
        config["dtype"] = dtype
    write_json(folder / "config.json", config)
