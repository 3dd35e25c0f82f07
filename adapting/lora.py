"""Adapters as peft makes them: putting one on a model, taking one up, saving it; for LoRA, DoRA, VeRA, OFT and (IA)3.

Guarantee: the saved adapter is one that plain peft loads on the model as it was before the run, to equal logits; base weights that an
adapter changes (biases, parts that an initialisation takes out) come back bit-equal. Price: peft's, and copies of what is changed.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from .fitted import Fitted
from .initial import initialise, put_differences, take_up_differences
from .keeping import Kept, whole_files
from .loading import loading_errors
from .lora_kinds import changes_base
from .whole_modules import prepare_whole
from .wish import ADAPTER_FILES, Wish

MakeConfig = Callable[[Any, Wish], Any]

# peft reads a name that newer transformers has changed; nobody who trains can do anything about it
warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)


# --- putting one on and taking one up ------------------------------------------------------------------------------------------


def add_lora(model: Any, *, rank: int, alpha: float, dropout: float, targets: list[str]) -> Any:
    """Put a fresh, plain LoRA on a model.

    Args:
        targets: module names, as peft takes them.

    Returns:
        The peft model; ``model`` is changed in place (see :func:`train_utils.borrowed`).

    Raises:
        ValueError: an adapter is on the model already.
    """
    from peft import LoraConfig

    kinds: dict[str, Any] = {"r": rank, "lora_alpha": alpha, "lora_dropout": dropout, "target_modules": targets}
    return _put_on(model, LoraConfig(**kinds, bias="none", task_type="CAUSAL_LM"))


def _put_on(model: Any, config: Any) -> Any:
    from peft import get_peft_model

    forget_old_adapter(model)
    return get_peft_model(model, config)


def continue_lora(model: Any, folder: Path) -> Any:
    """Load an adapter to train it further.

    Raises:
        ValueError: the folder holds no adapter that fits this model; with what peft said.
    """
    from peft import PeftModel

    forget_old_adapter(model)
    try:
        return PeftModel.from_pretrained(model, str(folder), is_trainable=True)
    except loading_errors() as error:
        raise ValueError(
            f"If the name exists: the adapter in {folder} cannot be continued on this model: {error} "
            f"Load the model that it was trained on, or choose 'replace' or 'new name'."
        ) from error


# --- adapters that are there already -------------------------------------------------------------------------------------------


def carries_adapter(model: Any) -> bool:
    """Whether adapter layers are in the model; a left-over ``peft_config`` alone (peft leaves one after unload) is none."""
    from peft import PeftModel
    from peft.tuners.tuners_utils import BaseTunerLayer

    return isinstance(model, PeftModel) or any(isinstance(module, BaseTunerLayer) for module in model.modules())


def refuse_adapter(model: Any) -> None:
    """Raise if the model carries an adapter already: training would change or ignore it."""
    if carries_adapter(model):
        names = ", ".join(getattr(model, "peft_config", {})) or "unnamed"
        raise ValueError(
            f"Model: an adapter ({names}) is applied to the loaded model. "
            f"Remove it (Model tab, LoRA(s): none, Apply LoRAs) or reload the model, then start again."
        )


def forget_old_adapter(model: Any) -> None:
    """Drop a ``peft_config`` without layers, which would make peft believe in a second adapter; `borrowed` puts it back."""
    refuse_adapter(model)
    model.__dict__.pop("peft_config", None)


# --- the methods ---------------------------------------------------------------------------------------------------------------


def fit_peft(model: Any, wish: Wish, make_config: MakeConfig) -> Fitted:
    """A fresh adapter by one of peft's methods.

    Raises:
        ValueError: an adapter is on the model already, or what an initialisation needs is not there.
    """
    kept = Kept()
    try:
        _keep_biases(model, wish.bias, kept)
        peft_model = _put_on(model, make_config(model, wish))
        initialise(peft_model, wish, kept)
        prepare_whole(peft_model)
    except BaseException:
        kept.restore()
        raise
    return _fitted(peft_model, wish, kept)


def refit_peft(model: Any, folder: Path, wish: Wish, make_config: MakeConfig) -> Fitted:
    """An adapter of a folder, to be trained further as it was made.

    Raises:
        ValueError: the folder's adapter does not fit the model or the method.
    """
    if not (wish.resuming and changes_base(wish)):  # what is finished goes on as the plain LoRA that it is
        wish = replace(wish, initialisation="default")
    kept = Kept()
    try:
        _keep_biases(model, _config_in(folder).get("bias", "none"), kept)
        if changes_base(wish):
            peft_model = _put_on(model, make_config(model, wish))
            _load_all_but_lora(peft_model, folder)
            take_up_differences(peft_model, folder, kept)
        else:
            peft_model = continue_lora(model, folder)
        prepare_whole(peft_model, folder)
    except BaseException:
        kept.restore()
        raise
    fitted = _fitted(peft_model, wish, kept)
    if not wish.resuming:
        _refuse_other_kind(peft_model.peft_config["default"], make_config(model, wish), folder, wish)
        fitted.notes += _keeps(peft_model.peft_config["default"], make_config(model, wish))
    return fitted


def _fitted(peft_model: Any, wish: Wish, kept: Kept) -> Fitted:
    def save(folder: Path) -> None:
        with whole_files(folder) as temporary:
            # what is trained whole is saved by its wrapper; asking peft to find out would ask a hub
            peft_model.save_pretrained(str(temporary), save_embedding_layers=False)
            (temporary / "README.md").unlink(missing_ok=True)  # the run writes its own, and must not lose the user's
            _add_biases(peft_model, temporary)
            if changes_base(wish):
                put_differences(temporary, peft_model)

    notes = []
    if changes_base(wish):
        notes.append(f"A copy of the base weights that change takes {kept.num_bytes / 1e6:,.1f} MB of the computer's memory.")
    return Fitted(peft_model, wish.method, save, kept.restore, notes)


# --- biases of the base --------------------------------------------------------------------------------------------------------


def _keep_biases(model: Any, which: str, kept: Kept) -> None:
    """Copies of the biases that an adapter trains in place."""
    for name, parameter in model.named_parameters():
        if which != "none" and name.endswith("bias"):
            kept.keep(parameter)


def _add_biases(peft_model: Any, folder: Path) -> None:
    """Trained biases that peft has left out of the file, as older ones do with lora_only; peft loads them by these names."""
    from safetensors.torch import load_file, save_file

    file = folder / ADAPTER_FILES[0]
    trained = {name: weight for name, weight in peft_model.named_parameters() if weight.requires_grad and name.endswith(".bias")}
    if not trained:
        return
    tensors = load_file(file)
    missing = {
        name: weight.data.cpu() for name, weight in trained.items() if name not in tensors and ".modules_to_save." not in name
    }
    if missing:
        save_file({**tensors, **missing}, file, metadata={"format": "pt"})


def _load_all_but_lora(peft_model: Any, folder: Path) -> None:
    """Biases and modules that are trained whole, from a saved adapter."""
    from peft import set_peft_model_state_dict
    from safetensors.torch import load_file

    others = {name: tensor for name, tensor in load_file(folder / ADAPTER_FILES[0]).items() if ".lora_" not in name}
    if others:
        set_peft_model_state_dict(peft_model, others)


# --- what an adapter is --------------------------------------------------------------------------------------------------------


def _config_in(folder: Path) -> dict[str, Any]:
    """The configuration of a saved adapter; empty if it cannot be read, which loading it will tell better."""
    try:
        config = json.loads((folder / ADAPTER_FILES[1]).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return config if isinstance(config, dict) else {}


def _refuse_other_kind(has: Any, wanted: Any, folder: Path, wish: Wish) -> None:
    if has.peft_type != wanted.peft_type:
        raise ValueError(
            f"Method: the adapter in {folder} was made by {str(has.peft_type.value).lower()}. Got: {wish.method!r}. "
            f"Choose that method, or 'replace' or 'new name' under If the name exists."
        )


# what the form calls the fields of peft's configurations
_WORDS = {
    "r": "LoRA Rank",
    "lora_alpha": "LoRA Alpha",
    "lora_dropout": "LoRA Dropout",
    "bias": "Train biases",
    "use_rslora": "Use rsLoRA",
    "use_dora": "DoRA",
    "oft_block_size": "OFT block size",
    "modules_to_save": "Trained whole",
    "target_modules": "Target modules",
    "target_parameters": "Target modules (experts)",
}


def _keeps(has: Any, wanted: Any) -> list[str]:
    """What an adapter that is continued has and the form does not, in words."""
    pairs = {words: (getattr(has, name, None), getattr(wanted, name, None)) for name, words in _WORDS.items()}
    kept = [f"{words} {_shown(old)}" for words, (old, new) in pairs.items() if _shown(old) != _shown(new)]
    return [f"The adapter keeps what it was made with: {', '.join(kept)}."] if kept else []


def _shown(value: Any) -> str:
    if isinstance(value, (list, set, tuple)):
        return " ".join(sorted(value)) or "none"
    return f"{value:g}" if isinstance(value, (int, float)) and not isinstance(value, bool) else str(value or "none")
