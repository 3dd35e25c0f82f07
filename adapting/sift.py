"""SIFT, sparse increment fine-tuning (arXiv 2312.11875): only the components with the largest gradient of each weight are trained.

What it does: of every target weight, k = rate x size components are chosen by the gradient of the first optimizer step's batches
(:mod:`.sift_choice`); they alone get gradients and optimizer state (:mod:`.sift_weights`). The result is a file of indices and values
(:mod:`.sift_files`) that is put on its base, taken off or merged into a model folder (:mod:`.sift_apply`).

Guarantee: every step moves the weights exactly as a dense update restricted to the chosen components does (weight decay, clipping and
momentum included); a resumed run is bit-equal; the base is given back to the last bit. Price: the base must not be quantized; per
component 20 bytes with Adam (value, index, gradient, two moments) and the original value; a few passes over the first batches.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .fitted import Fitted
from .lora import refuse_adapter
from .optimizers import OPTIMIZERS
from .sift_apply import apply_sift, check_base, merge_sift, merge_sift_folder, refuse_quantized
from .sift_files import SIFT_FILES, digests, is_sift_folder, read_sift, write_sift
from .wish import Size, Wish

if TYPE_CHECKING:
    from .sift_weights import SparseModel

__all__ = [
    "SIFT_FILES",
    "apply_sift",
    "check_sift",
    "fit_sift",
    "is_sift_folder",
    "merge_sift",
    "merge_sift_folder",
    "refit_sift",
    "refuse_quantized",
    "sift_notes",
    "sift_size",
]

USUAL_LEARNING_RATE = 2e-4
_FAR_OFF = 10.0

_VALUE_BYTES = 8  # of a component in the file: value and index


def check_sift(model: Any, wish: Wish) -> None:
    """Refuse what has no single components.

    Raises:
        ValueError: a quantized or offloaded base, or processes that share weights; with the remedy.
    """
    refuse_quantized(model)
    _refuse_sharded()
    _sizes(model, wish)


def sift_size(model: Any, wish: Wish) -> Size:
    """Chosen components of all target weights, exact; the file has 8 bytes of each."""
    sizes = _sizes(model, wish)
    count = sum(sizes.values())
    return Size(count, _VALUE_BYTES * count)


def sift_notes(learning_rate: float, optimizer: str) -> list[str]:
    """What of a run's settings is likely a mistake with SIFT, in sentences.

    Args:
        learning_rate: base rate.
        optimizer: name in :data:`.optimizers.OPTIMIZERS`.
    """
    info, notes = OPTIMIZERS[optimizer], []
    is_adam = {"beta1", "epsilon"} <= info.takes.keys() and not info.finds_rate
    if optimizer == "muon" or "projection_rank" in info.takes:
        notes.append(
            f"Optimizer: {optimizer} works on whole matrices, and SIFT trains single components of them, so they get AdamW. "
            f"Choose adamw_torch."
        )
    ratio = learning_rate / USUAL_LEARNING_RATE
    if is_adam and not 1 / _FAR_OFF <= ratio <= _FAR_OFF:
        notes.append(
            f"Learning Rate: SIFT changes the model's own weights; its paper takes {USUAL_LEARNING_RATE:g}. "
            f"Got: {learning_rate:g}, more than {_FAR_OFF:g} times {'higher' if ratio > 1 else 'lower'}."
        )
    return notes


# --- which weights -------------------------------------------------------------------------------------------------------------


def target_names(model: Any, wish: Wish) -> list[str]:
    """Parameters of which components are trained, in the model's order; tied ones once."""
    wanted = {place.path if place.experts else f"{place.path}.weight" for place in wish.targets.places}
    whole = []
    if wish.train_embeddings:
        whole.append(model.get_input_embeddings())
    if wish.train_head:
        whole.append(model.get_output_embeddings())
    if wish.sift_norms:
        whole += [module for module in model.modules() if "norm" in type(module).__name__.lower()]
    of_modules = {id(parameter) for module in whole if module is not None for parameter in module.parameters(recurse=False)}
    of_places = {id(parameter) for name, parameter in model.named_parameters(remove_duplicate=False) if name in wanted}
    return [name for name, parameter in model.named_parameters() if id(parameter) in of_modules | of_places]


def _sizes(model: Any, wish: Wish) -> dict[str, int]:
    """Name of a parameter -> its components that are trained: the rate of them, at least one."""
    if not 0 < wish.sift_rate <= 1:
        raise ValueError(
            f"SIFT Rate: it is a share of each weight's components, above 0 and at most 1. Got: {wish.sift_rate:g}. Take 0.05."
        )
    parameters = dict(model.named_parameters())
    return {name: max(1, round(wish.sift_rate * parameters[name].numel())) for name in target_names(model, wish)}


def _refuse_sharded() -> None:
    for name, label in (("ACCELERATE_USE_FSDP", "FSDP"), ("ACCELERATE_USE_DEEPSPEED", "DeepSpeed")):
        if os.environ.get(name, "").lower() in ("1", "true", "yes"):
            raise ValueError(
                f"Method: SIFT needs whole weights on every process, and {label} cuts them into parts. Got: sift. "
                f"Train with plain data parallelism (accelerate without {label}), or choose LoRA."
            )


# --- fitting -------------------------------------------------------------------------------------------------------------------


def fit_sift(model: Any, wish: Wish) -> Fitted:
    """Make some components of the target weights trainable; they are chosen by ``Fitted.choose``, before the first step.

    Args:
        model: the borrowed base; changed in place until ``undo``.
        wish: ``targets``, ``train_embeddings``, ``train_head``, ``sift_norms`` and ``sift_rate`` count.

    Raises:
        ValueError: the base is quantized, offloaded, or carries an adapter.
    """
    from .sift_choice import choose_components
    from .sift_weights import make_sparse

    refuse_adapter(model)
    check_sift(model, wish)
    sparse = make_sparse(model, _sizes(model, wish))

    def choose(backward: Callable[[float], None], half: bool = False) -> list[str]:
        return choose_components(sparse, backward, half=half).words

    fitted = _fitted(sparse, wish)
    fitted.choose = choose
    return fitted


def refit_sift(model: Any, folder: Path, wish: Wish) -> Fitted:
    """Take up the components and values of a checkpoint or of a finished result; nothing is chosen anew.

    Raises:
        ValueError: there is none, or the base is not the one that it was trained on; the model is untouched then.
    """
    from .sift_weights import make_sparse

    refuse_adapter(model)
    refuse_quantized(model)
    _refuse_sharded()
    file = read_sift(folder)
    check_base(model, file)
    stored = {name: int(file.weight(name)["components"]) for name in file.names}
    wished = _sizes(model, wish)
    sparse = make_sparse(model, stored)
    try:
        for weight, (_, indices, values) in zip(sparse.weights, file.tensors(), strict=True):
            weight.begin(indices, values)
        fitted = _fitted(sparse, wish)
        if stored != wished:
            fitted.notes.append(
                f"SIFT: the result keeps the {sum(stored.values()):,} components of {len(stored)} weights that it was made with; "
                f"SIFT Rate and Target modules have no effect on it."
            )
    except BaseException:
        sparse.undo()
        raise
    return fitted


def _fitted(sparse: SparseModel, wish: Wish) -> Fitted:
    kept: dict[str, dict[str, str]] = {}  # of the base, which does not change: made once
    count = sum(weight.num_components for weight in sparse.weights)
    whole = sum(weight.weight.numel() for weight in sparse.weights)

    def save(folder: Path) -> None:
        tensors, facts = {}, {}
        for weight in sparse.weights:
            if weight.indices is None or weight.originals is None:
                raise RuntimeError("SIFT: there is nothing to save before the components were chosen.")
            if weight.name not in kept:
                kept[weight.name] = digests(weight.originals)
            tensors[f"{weight.name}.indices"] = weight.indices.cpu()
            tensors[f"{weight.name}.values"] = weight.values.detach().cpu()
            shape = list(weight.weight.shape)
            facts[weight.name] = {"shape": shape, "components": weight.num_components, "base": kept[weight.name]}
        write_sift(folder, tensors, {**base_facts(sparse.model, wish), "rate": round(count / whole, 6), "weights": facts})

    notes = [f"SIFT: {count:,} of {whole:,} components of {len(sparse.weights)} weights are trained ({count / whole:.2%})."]
    return Fitted(sparse.model, wish.method, save, sparse.undo, notes)


def base_facts(model: Any, wish: Wish) -> dict[str, Any]:
    """What a result says of its base: name or folder, kind, number format, what was merged into it before the run."""
    config = getattr(model, "config", None)
    return {
        "base_model": str(getattr(config, "_name_or_path", "") or ""),
        "model_type": str(getattr(config, "model_type", "") or ""),
        "dtype": str(next(model.parameters()).dtype).removeprefix("torch."),
        "merged_before": [str(folder) for folder in wish.merge_first],
    }
