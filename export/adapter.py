"""A trained adapter on the disk, and the base model that it belongs to.

Guarantee: the base is found where the run's own files say it was, also when the folders were moved together; where it is not
found, the message names every place that was tried. Price: nothing is loaded but two small JSON files.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..runs.store import read_json

CONFIG, PARAMETERS, LOG = "adapter_config.json", "training_parameters.json", "training_log.json"
WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
SPARSE = "sift.safetensors"
PREFIX = "base_model.model."


@dataclass(frozen=True)
class Adapter:
    """An adapter's folder, read.

    Attributes:
        folder: where it lies.
        config: adapter_config.json; empty for sparse increments.
        run: training_parameters.json in sections; empty where the adapter was not trained here.
        method: peft's name in lower case (lora, vera, oft, ia3, ...), or sift.
    """

    folder: Path
    config: dict[str, Any]
    run: dict[str, Any]
    method: str

    @property
    def name(self) -> str:
        """The adapter's name; that of a checkpoint has the run's before it."""
        is_checkpoint = re.fullmatch(r"checkpoint-\d+(-\w+)?", self.folder.name)
        return f"{self.folder.parent.name}-{self.folder.name}" if is_checkpoint else self.folder.name

    @property
    def chat_template(self) -> str:
        """The chat template that the run was told to use: a name or a file; empty for the model's own."""
        return str(_section(self.run, "model").get("chat_template") or "")

    @property
    def weights(self) -> Path:
        """The file of its tensors."""
        return next((self.folder / name for name in WEIGHTS if (self.folder / name).is_file()), self.folder / WEIGHTS[0])


def read_adapter(folder: Path) -> Adapter:
    """Read what an adapter's folder says about itself.

    Raises:
        ValueError: there is no adapter in it; a whole model is named as such.
    """
    folder = Path(folder).expanduser().absolute()
    if not folder.is_dir():
        raise ValueError(f"Adapter: there is no folder {folder}. Give the folder of an adapter, for example loras/my-lora.")
    run = _run_parameters(folder)
    if (folder / SPARSE).is_file():
        return Adapter(folder, {}, run, "sift")
    config = read_json(folder / CONFIG)
    if isinstance(config, dict) and config.get("peft_type"):
        adapter = Adapter(folder, config, run, str(config["peft_type"]).lower())
        if adapter.weights.is_file():
            return adapter
        raise ValueError(
            f"Adapter: {folder} has no {WEIGHTS[0]}, so nothing was saved there. Give the folder of a finished adapter."
        )
    if (folder / "config.json").is_file():
        raise ValueError(
            f"Adapter: {folder} holds a whole model already (full fine-tuning), so there is nothing to merge or to convert. "
            f"Load that folder itself as a model."
        )
    raise ValueError(
        f"Adapter: {folder} has neither {CONFIG} nor {SPARSE}. Give the folder of an adapter, for example loras/my-lora."
    )


def _run_parameters(folder: Path) -> dict[str, Any]:
    """The settings of the run that trained it; a checkpoint's are in the folder above."""
    for place in (folder, folder.parent):
        content = read_json(place / PARAMETERS)
        if isinstance(content, dict):
            return content
    return {}


def _section(run: Mapping[str, Any], name: str) -> dict[str, Any]:
    section = run.get(name)
    return section if isinstance(section, dict) else {}


# --- the base model ------------------------------------------------------------------------------------------------------------


def find_base(adapter: Adapter, given: Path | None = None) -> Path:
    """The folder of the base model.

    Args:
        adapter: as read; its run's settings and its configuration name the base.
        given: the user's word, which wins.

    Raises:
        ValueError: no such folder; with every place that was tried.
    """
    if given is not None:
        folder = Path(given).expanduser().absolute()
        if not _is_model(folder):
            raise ValueError(f"Base model (--base): {folder} holds no model (no config.json). Give a Hugging Face model folder.")
        return folder
    named = [_section(adapter.run, "model").get("path"), adapter.config.get("base_model_name_or_path")]
    tried: list[Path] = []
    for name in filter(None, named):
        for place in _places(adapter.folder, str(name)):
            if _is_model(place):
                return place
            tried.append(place)
    words = "; ".join(str(place) for place in dict.fromkeys(tried)) or "its files name none"
    raise ValueError(
        f"Base model: the model that {adapter.name!r} was trained on is not found. Tried: {words}. "
        f"Give its folder with --base FOLDER."
    )


def _is_model(folder: Path) -> bool:
    return (folder / "config.json").is_file()


def _places(adapter: Path, name: str) -> list[Path]:
    """Where a base that was written down as ``name`` can be: as it stands, and seen from the folders above the adapter."""
    written = Path(name).expanduser()
    seen_from = () if written.is_absolute() else adapter.parents
    leaf = re.split(r"[\\/]", name.rstrip("\\/"))[-1]
    return [
        written.absolute(),
        *(place / written for place in seen_from),
        *(place / "models" / leaf for place in adapter.parents),
    ]


# --- low-rank pairs ------------------------------------------------------------------------------------------------------------


def read_tensors(adapter: Adapter) -> dict[str, Any]:
    """All tensors of a peft adapter on the CPU, by their name in the file.

    Raises:
        ValueError: the file is damaged.
    """
    from safetensors import SafetensorError

    try:
        if adapter.weights.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(str(adapter.weights))
        import torch

        return dict(torch.load(adapter.weights, map_location="cpu", weights_only=True))
    except (OSError, SafetensorError, RuntimeError, EOFError) as error:
        raise ValueError(f"Adapter: {adapter.weights} cannot be read: {error}. Take a whole copy of the adapter.") from error


@dataclass
class Pair:
    """What a LoRA adds to one module's weight: ``scale * B @ A``.

    Attributes:
        a: (rank, in); for an embedding (rank, vocabulary).
        b: (out, rank); for an embedding (embedding, rank), and the product is transposed.
        scale: alpha / rank, or alpha / sqrt(rank) for rank-stabilized LoRA.
    """

    a: Any
    b: Any
    scale: float
    is_embedding: bool = False

    @property
    def rank(self) -> int:
        """Rows of A."""
        return int(self.a.shape[0])


_ENDINGS = {
    ".lora_A.weight": ("a", False),
    ".lora_B.weight": ("b", False),
    ".lora_embedding_A": ("a", True),
    ".lora_embedding_B": ("b", True),
}


def lora_pairs(adapter: Adapter) -> tuple[dict[str, Pair], list[str]]:
    """The low-rank pairs of a LoRA by the name of their module, and the names of all other tensors of the file.

    Raises:
        ValueError: half a pair, or A and B of different rank.
    """
    halves: dict[str, dict[str, Any]] = {}
    embeddings: set[str] = set()
    others: list[str] = []
    for key, tensor in read_tensors(adapter).items():
        ending = next((ending for ending in _ENDINGS if key.endswith(ending)), None)
        if ending is None:
            others.append(key)
            continue
        module = key.removesuffix(ending).removeprefix(PREFIX)
        half, is_embedding = _ENDINGS[ending]
        halves.setdefault(module, {})[half] = tensor
        if is_embedding:
            embeddings.add(module)
    pairs = {}
    for module, found in halves.items():
        if found.keys() != {"a", "b"} or found["a"].shape[0] != found["b"].shape[1]:
            shapes = {half: tuple(tensor.shape) for half, tensor in found.items()}
            raise ValueError(
                f"Adapter: {module} in {adapter.weights} is no pair of A and B: {shapes}. Take a whole copy of the adapter."
            )
        pairs[module] = Pair(
            **found, scale=lora_scale(adapter.config, module, found["a"].shape[0]), is_embedding=module in embeddings
        )
    return pairs, others


def lora_scale(config: Mapping[str, Any], module: str, rank: int) -> float:
    """The factor of a module's ``B @ A``, by the adapter's configuration.

    Args:
        config: adapter_config.json.
        module: full name, for modules with an alpha of their own.
        rank: of this module.
    """
    alpha = config.get("lora_alpha", 8)
    for pattern, value in (config.get("alpha_pattern") or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", module):
            alpha = value
            break
    return float(alpha) / (math.sqrt(rank) if config.get("use_rslora") else rank)


# a LoRA is more than its pairs, or its pairs belong to other base weights
_EXTRAS = {
    "use_dora": "DoRA scales each row of the weights, too",
    "lora_bias": "it has biases of its own (lora_bias)",
    "layer_replication": "it repeats layers",
    "target_parameters": "it changes parameters that are no layers (experts)",
    "trainable_token_indices": "it changes single rows of the embeddings",
    "alora_invocation_tokens": "it acts only from certain tokens on (aLoRA)",
    "use_qalora": "it groups its inputs (QA-LoRA)",
    "use_bdlora": "its matrices are block-diagonal (BD-LoRA)",
    "arrow_config": "it routes between adapters (Arrow)",
    "monteclora_config": "its matrices are drawn anew (MonteCLoRA)",
    "velora_config": "it has compressed parts of its own (VeLoRA)",
    "kasa_config": "it has singular values of its own (KaSA)",
    "megatron_config": "it belongs to Megatron layers",
}
_CHANGED_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")


def more_than_pairs(config: Mapping[str, Any]) -> str:
    """Why a LoRA cannot be told by its pairs alone, in words; empty if it can."""
    for key, words in _EXTRAS.items():
        if config.get(key):
            return words
    if config.get("bias") not in (None, "none"):
        return "it has trained biases"
    if config.get("modules_to_save"):
        return f"it holds whole modules ({', '.join(config['modules_to_save'])})"
    start = str(config.get("init_lora_weights", ""))
    if start.lower().startswith(_CHANGED_BASE):
        return f"it belongs to base weights that its initialisation ({start}) has changed"
    return ""
