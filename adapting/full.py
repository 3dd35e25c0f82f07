"""Full fine-tuning: every weight of the model is trained; the result is a whole model.

What it does: trains the loaded model's own weights. A 16-bit model gets float32 master weights (a step smaller than 1/256 of a weight
would vanish in bfloat16), a float32 model is trained in place.

Guarantee: the result is a folder that transformers loads, in the number format of the base; checkpoints hold the master weights, so a
resumed run is bit-equal; afterwards the loaded model has the bits that it had. Price: 16 bytes a weight with Adam (weight, gradient, two
states), and the originals: they stay where they are beside master weights, are copied into the computer's memory where the model is
trained in place, or are read from the model's folder again.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .fitted import Fitted
from .keeping import Kept, whole_files
from .loading import loading_errors, quiet_progress
from .lora import refuse_adapter
from .quantization import refuse_changing_base
from .wish import Size, Wish

# name on the form -> what it means there
FULL_WEIGHTS = ("float32", "as the model")
FULL_COPIES = ("memory", "disk")
MASTER_FILE = "full_weights.safetensors"  # of a checkpoint


def check_full(model: Any, wish: Wish) -> None:
    """Refuse a quantized base.

    Raises:
        ValueError: with the remedy.
    """
    refuse_changing_base(model, "Method full")


def full_size(model: Any, wish: Wish) -> Size:
    """All weights; the file has them in the model's own format."""
    weights = list(model.parameters())
    count = sum(weight.numel() for weight in weights)
    num_bytes = sum(weight.numel() * weight.element_size() for weight in weights)
    note = f"Method full: the result is a whole model of {num_bytes / 1e6:,.0f} MB, not an adapter; move its folder to the models to load it."
    return Size(count, num_bytes, (note,))


# --- the base weights, to give back --------------------------------------------------------------------------------------------


class _Originals:
    """What the weights were, by the way that was wished."""

    def __init__(self, model: Any, wish: Wish) -> None:
        import torch

        self._model = model
        self._kept = Kept()
        self._on_disk: list[tuple[str, Any, Any]] = []
        self.words = ""
        masters = [weight for weight in model.parameters() if wish.full_weights == "float32" and weight.dtype != torch.float32]
        in_place = {name: weight for name, weight in model.named_parameters() if all(weight is not other for other in masters)}
        if in_place and wish.full_copy == "disk":
            difference = _difference_to_disk(model, in_place)
            if difference:
                self.words = f"Give back from: {difference}, so a copy is kept in memory instead."
            else:
                self._on_disk = [(name, weight, weight.data) for name, weight in in_place.items()]
        if not self._on_disk:
            for weight in in_place.values():
                self._kept.keep(weight)
        for weight in masters:  # the original storage stays with whoever borrowed the model
            weight.data = weight.data.float()

    @property
    def num_bytes(self) -> int:
        """Memory of the copies."""
        return self._kept.num_bytes

    def give_back(self) -> None:
        """The bits that were there; storages that were exchanged are put back by whoever borrowed the model."""
        self._kept.restore()
        if not self._on_disk:
            return
        fresh = _from_disk(self._model)
        for name, weight, data in self._on_disk:
            data.copy_(fresh[name])
            weight.data = data
        self._on_disk = []


def _from_disk(model: Any, folder: Path | None = None) -> dict[str, Any]:
    """The weights of a model's folder, by name, on the CPU; in the number format of the model unless a folder is named.

    Raises:
        ValueError: it cannot be read.
    """
    import torch
    from transformers import AutoModelForCausalLM

    place = folder or Path(str(getattr(model.config, "_name_or_path", "") or ""))
    if not (place / "config.json").is_file():
        raise ValueError(f"there is no model folder {place}")
    dtype: Any = torch.float32 if folder else next(model.parameters()).dtype
    try:
        with quiet_progress():
            fresh: Any = AutoModelForCausalLM.from_pretrained(str(place), dtype=dtype, local_files_only=True)
    except loading_errors() as error:
        raise ValueError(f"{place} cannot be read ({error})") from error
    return {name: weight.data for name, weight in fresh.named_parameters()}


def _difference_to_disk(model: Any, weights: dict[str, Any]) -> str:
    """Why the model's folder cannot give the weights back; "" if it holds exactly them."""
    import torch

    try:
        fresh = _from_disk(model)
    except ValueError as error:
        return str(error)
    for name, weight in weights.items():
        stored = fresh.get(name)
        if stored is None or stored.shape != weight.shape or not torch.equal(stored.to(weight.dtype), weight.data.cpu()):
            return f"the model's folder holds another {name}"
    del fresh
    gc.collect()
    return ""


# --- fitting -------------------------------------------------------------------------------------------------------------------


def fit_full(model: Any, wish: Wish) -> Fitted:
    """Make all weights trainable."""
    return _fit(model, wish, lambda originals: None)


def refit_full(model: Any, folder: Path, wish: Wish) -> Fitted:
    """The same, with the weights of a checkpoint or of a finished result.

    Raises:
        ValueError: the folder's weights are missing or of another model.
    """
    return _fit(model, wish, lambda originals: _load_into(model, folder, wish.resuming))


def _fit(model: Any, wish: Wish, load: Callable[[_Originals], None]) -> Fitted:
    refuse_adapter(model)
    check_full(model, wish)
    formats = {name: weight.dtype for name, weight in model.named_parameters()}
    originals = _Originals(model, wish)
    try:
        load(originals)
        model.requires_grad_(True)
    except BaseException:
        originals.give_back()
        raise

    def save_result(folder: Path) -> None:
        with whole_files(folder) as temporary, _in_formats(model, formats), quiet_progress():
            model.save_pretrained(str(temporary))
            if wish.tokenizer is not None:
                wish.tokenizer.save_pretrained(str(temporary))

    notes = [originals.words] if originals.words else []
    notes.append(_memory_note(model, originals, formats))
    return Fitted(model, wish.method, lambda folder: _save_masters(model, folder), originals.give_back, notes, save_result)


def _memory_note(model: Any, originals: _Originals, formats: dict[str, Any]) -> str:
    masters = sum(weight.numel() * 4 for name, weight in model.named_parameters() if weight.dtype != formats[name])
    parts = []
    if masters:
        parts.append(f"{masters / 1e6:,.0f} MB of float32 weights are trained; the model's own stay beside them")
    if originals.num_bytes:
        parts.append(f"a copy of the model's weights takes {originals.num_bytes / 1e6:,.0f} MB of the computer's memory")
    elif not masters:
        parts.append("the model's weights are read from its folder again afterwards")
    return f"Full fine-tuning: {'; '.join(parts)}."


def _save_masters(model: Any, folder: Path) -> None:
    """The weights as they are trained, by name, in one file."""
    from safetensors.torch import save_file

    with whole_files(folder) as temporary:
        save_file({name: weight.data.contiguous() for name, weight in model.named_parameters()}, temporary / MASTER_FILE)


def _load_into(model: Any, folder: Path, resuming: bool) -> None:
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        stored = load_file(folder / MASTER_FILE) if resuming else _from_disk(model, folder)
    except (OSError, SafetensorError, ValueError) as error:
        raise ValueError(
            f"If the name exists: the weights in {folder} cannot be continued: {error} Choose 'replace' or 'new name'."
        ) from error
    wanted = {name: weight.shape for name, weight in model.named_parameters()}
    if {name: weight.shape for name, weight in stored.items()} != wanted:
        raise ValueError(
            f"If the name exists: the weights in {folder} are those of another model. "
            f"Load the model that was trained, or choose 'replace' or 'new name'."
        )
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.data.copy_(stored[name])


@contextmanager
def _in_formats(model: Any, formats: dict[str, Any]) -> Iterator[None]:
    """Meanwhile the weights are copies in these number formats, in the computer's memory, where they differ."""
    masters = [(weight, weight.data, formats[name]) for name, weight in model.named_parameters() if weight.dtype != formats[name]]
    try:
        for weight, data, dtype in masters:
            weight.data = data.to("cpu", dtype)
        yield
    finally:
        for weight, data, _ in masters:
            weight.data = data
