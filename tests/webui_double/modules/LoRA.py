"""Applying adapters to the loaded model, with peft, as the Model tab does."""

from pathlib import Path

import modules.shared as shared
from modules.logging_colors import logger


def add_lora_to_model(lora_names):
    """Make exactly these adapters the ones in use; an empty list takes all off."""
    add_lora_transformers(lora_names)


def get_lora_path(lora_name):
    """The adapter's folder in --lora-dir."""
    path = Path(lora_name)
    return Path(shared.args.lora_dir) / (path.parts[-1] if path.exists() else lora_name)


def add_lora_transformers(lora_names):
    """Add to a wrapped model where possible; otherwise unwrap it and start over."""
    from peft import PeftModel

    prior, wanted = set(shared.lora_names), set(lora_names)
    if prior == wanted:
        return
    if prior and not prior - wanted and "__merged" not in shared.model.peft_config:
        for name in wanted - prior:
            shared.model.load_adapter(get_lora_path(name), name)
        if len(lora_names) > 1:
            merge_loras()
        shared.lora_names = lora_names
        return
    if prior - wanted:
        shared.model = shared.model.unload()
    if lora_names:
        logger.info(f"Applying the following LoRAs to {shared.model_name}: {', '.join(lora_names)}")
        first, *others = lora_names
        shared.model = PeftModel.from_pretrained(shared.model, get_lora_path(first), adapter_name=first)
        for name in others:
            shared.model.load_adapter(get_lora_path(name), name)
        if others:
            merge_loras()
        if not shared.args.load_in_8bit and not shared.args.cpu:
            shared.model.half()
    shared.lora_names = lora_names


def merge_loras():
    """One adapter that is the sum of all, if their ranks agree.

    As in the WebUI this reads shared.lora_names, which the callers set only afterwards.
    """
    if len({config.r for config in shared.model.peft_config.values()}) > 1:
        logger.warning("The loaded LoRAs cannot be merged, as they have dissimilar ranks. Only the first one will be active.")
        return
    shared.model.add_weighted_adapter(shared.lora_names, [1] * len(shared.lora_names), "__merged")
    shared.model.set_adapter("__merged")
