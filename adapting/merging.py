"""Training on top of adapters that are merged into the model for the time of a run.

What it does: adds what adapters have learned to the loaded weights, one after the other, before a method is put on. What is learned then
belongs on top of them: whoever uses a new adapter applies those first; a full model contains them.

Guarantee: the loaded model comes back bit-equal. Price: a copy of the changed weights in the computer's memory.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from .keeping import Kept
from .loading import loading_errors
from .lora import forget_old_adapter
from .quantization import refuse_changing_base
from .wish import ADAPTER_FILES

LABEL = "Merge first"


def check_merges(model: Any, folders: Sequence[str]) -> None:
    """Refuse what cannot be merged, before anything is changed.

    Raises:
        ValueError: with reason and remedy.
    """
    if folders:
        refuse_changing_base(model, LABEL)
    for folder in folders:
        missing = [name for name in ADAPTER_FILES if not (Path(folder) / name).is_file()]
        if missing:
            raise ValueError(
                f"{LABEL}: {folder} is no adapter of peft ({', '.join(missing)} missing). Choose the folder of a LoRA."
            )


def merge_identity(folders: Sequence[str]) -> str:
    """Which adapters they are, by name and content; "" for none."""
    parts = []
    for folder in folders:
        digest = hashlib.sha256((Path(folder) / ADAPTER_FILES[0]).read_bytes()).hexdigest()[:12]
        parts.append(f"{Path(folder).name} {digest}")
    return ", ".join(parts)


def merge_adapters(model: Any, folders: Sequence[str]) -> tuple[Callable[[], None], list[str]]:
    """Merge adapters into a borrowed model.

    Returns:
        What gives the weights back, and sentences for the user.

    Raises:
        ValueError: an adapter does not fit the model; with what peft said. The model is as it was then.
    """
    check_merges(model, folders)
    kept = Kept()
    try:
        for folder in folders:
            _merge(model, Path(folder), kept)
    except BaseException:
        kept.restore()
        raise
    names = ", then ".join(Path(folder).name for folder in folders)
    notes = [f"{LABEL}: {names} is part of the model in this run. Apply it before the new adapter."] if folders else []
    return kept.restore, notes


def _merge(model: Any, folder: Path, kept: Kept) -> None:
    from peft import PeftModel
    from peft.tuners.tuners_utils import BaseTunerLayer

    forget_old_adapter(model)
    config = json.loads((folder / ADAPTER_FILES[1]).read_text(encoding="utf-8"))
    if config.get("bias", "none") != "none":  # loading puts them into the model
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                kept.keep(parameter)
    unfit: tuple[type[Exception], ...] = (*loading_errors(), AttributeError, NotImplementedError)
    try:
        adapted = PeftModel.from_pretrained(model, str(folder))
        for module in list(adapted.modules()):
            if isinstance(module, BaseTunerLayer):
                for parameter in module.get_base_layer().parameters(recurse=False):
                    kept.keep(parameter)
        adapted.merge_and_unload(safe_merge=True)
    except unfit as error:
        raise ValueError(
            f"{LABEL}: {folder} cannot be merged into this model: {error} Choose an adapter of this model."
        ) from error
    model.__dict__.pop("peft_config", None)
