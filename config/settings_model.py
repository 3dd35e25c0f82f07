"""Settings of the model and of the adapter that is put on it."""

from __future__ import annotations

from ..train_utils import CHAT_TEMPLATES, DTYPES, TARGET_PRESETS
from .field import Section, setting

IF_EXISTS = ("stop", "resume", "continue", "replace", "new name")


class ModelSettings(Section):
    """Which model is trained."""

    path: str = setting(
        "",
        "Model",
        "Folder of a Hugging Face model. Empty: the model that is loaded in the WebUI, or the embedded small model elsewhere.",
    )
    dtype: str = setting(
        "auto",
        "Load model in",
        "Number format of the base model's weights. auto: as stored on a GPU, float32 on a CPU.",
        choices=("auto", *DTYPES),
        advanced=True,
    )
    chat_template: str = setting(
        "",
        "Chat template",
        f"Used instead of the model's own: a name ({', '.join(CHAT_TEMPLATES)}) or a file (.jinja, or a WebUI .yaml). Models without "
        "any need one for conversations; alpaca, plain and vicuna need no tokens of their own. The model gets its own back afterwards.",
        advanced=True,
    )


class AdapterSettings(Section):
    """The adapter (LoRA) that is trained, and its name."""

    name: str = setting(
        "my-lora", "Name", "Name of the adapter and of its folder. Letters, digits, '-' and '_' are safe; no dots."
    )
    if_exists: str = setting(
        "stop",
        "If the name exists",
        "stop: refuse. resume: go on with an unfinished run exactly where it was. continue: train the existing adapter further. "
        "replace: move it into a dated backup first. new name: add a number.",
        choices=IF_EXISTS,
    )
    rank: int = setting(16, "LoRA Rank", "Size of the adapter: 8 for style, 32 and more to teach facts.", ge=1, le=4096)
    alpha: float = setting(
        32, "LoRA Alpha", "Strength of the adapter; the scale is alpha / rank. Usual: 1 to 2 times the rank.", gt=0, le=8192
    )
    dropout: float = setting(
        0.05, "LoRA Dropout", "Share of the adapter's inputs that is dropped while training, against over-fitting.", ge=0, lt=1
    )
    targets: list[str] = setting(
        ["all-linear"],
        "Target modules",
        f"A ready choice ({', '.join(TARGET_PRESETS)}) or names of modules of the model, such as q_proj.",
    )
