"""What is wanted of a training method, in plain values: every method takes what concerns it.

The names are those of the settings of the adapter (config/settings_model.py), so that one line hands them over. Guarantee: nothing here
needs torch. Price: none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from .targets import Targets

ADAPTER_FILES = ("adapter_model.safetensors", "adapter_config.json")
MODEL_FILES = ("model*.safetensors", "config.json")

BIASES = ("none", "all", "lora_only")


@dataclass(frozen=True)
class Wish:
    """A method and its settings.

    Attributes:
        method: name in the table of methods.
        targets: the places that were chosen; methods that train everything ignore them.
        rank: of LoRA and its kin.
        alpha: the scale is alpha / rank (with rsLoRA: rslora_alpha / sqrt(rank)).
        dropout: share of an adapter's inputs that is dropped in training.
        bias: none, all or lora_only.
        initialisation: name in :data:`adapting.initial.INITIALISATIONS`.
        rslora: rank-stabilised scale.
        train_head: the output head is trained and saved whole.
        train_embeddings: the same with the input embeddings.
        lora_plus: how much faster the matrices B learn than A; 0 = as fast.
        merge_first: folders of adapters that are merged into the model before.
        seed: for what a method draws itself.
        batches: gives the first so many batches of the run, padded, on the model's device (input_ids, attention_mask, labels); for methods
            that look at the data. None where there are none (Check).
        tokenizer: saved beside a whole model.
        sift_rate: share of each target weight's components that SIFT trains.
        sift_norms: SIFT trains components of the normalisation layers too.
        resuming: ``refit`` takes up an unfinished run, bit-equal; else it goes on with a finished result.
    """

    method: str
    targets: Targets
    rank: int = 16
    alpha: float = 32
    dropout: float = 0.0
    bias: str = "none"
    initialisation: str = "default"
    rslora: bool = False
    rslora_alpha: float = 8
    vera_rank: int = 256
    oft_block_size: int = 32
    full_weights: str = "float32"
    full_copy: str = "memory"
    train_head: bool = False
    train_embeddings: bool = False
    lora_plus: float = 0.0
    merge_first: tuple[str, ...] = ()
    seed: int = 42
    batches: Callable[[int], Iterable[dict[str, Any]]] | None = None
    tokenizer: Any = None
    sift_rate: float = 0.05
    sift_norms: bool = False
    resuming: bool = False


@dataclass(frozen=True)
class Size:
    """What a method trains and what it leaves behind.

    Attributes:
        num_trained: trained weights.
        num_bytes: of the tensors in the saved file.
        notes: sentences for the user: what makes it large, what had to be adjusted for this model.
    """

    num_trained: int
    num_bytes: int
    notes: tuple[str, ...] = ()
