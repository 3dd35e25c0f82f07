"""From the settings of the adapter to a wish that a training method understands, and what of it makes a run another run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config import RunConfig
from ..data.collate import Collator, Samples
from ..data.prepare import Prepared
from ..train_utils import ADAPTER_FILES, METHODS, Targets, Wish, choose_targets, merge_identity, with_lora_plus

if TYPE_CHECKING:
    from .optimizers import OptimizerChoice

_SAME_NAMES = {field.name for field in fields(Wish)} - {"targets"}


def make_wish(config: RunConfig, model: Any) -> Wish:
    """The method, its settings and the places on this model.

    Raises:
        ValueError: targets that the model does not have.
    """
    adapter = config.adapter
    targets = Targets((), ())
    if METHODS[adapter.method].uses_targets:
        targets = choose_targets(
            model,
            adapter.targets,
            exclude=adapter.exclude,
            first_layer=adapter.first_layer,
            last_layer=adapter.last_layer,
        )
    plain = {name: getattr(adapter, name) for name in _SAME_NAMES if name in type(adapter).model_fields}
    plain["merge_first"] = tuple(str(adapter_folder(config, name)) for name in adapter.merge_first)
    return Wish(targets=targets, seed=config.training.seed, **plain)


def adapter_folder(config: RunConfig, name: str) -> Path:
    """Folder of an adapter, by its path or its name."""
    own = Path(config.run.adapters_dir).expanduser() / name
    return (own if (own / ADAPTER_FILES[1]).is_file() else Path(name).expanduser()).absolute()


def with_data(wish: Wish, prepared: Prepared, tokenizer: Any, pad_id: int, *, batch_size: int, device: Any) -> Wish:
    """The wish with the run's data, for methods that look at them: the first samples in the order of the data, padded."""
    samples, collator = Samples(prepared.train), Collator(pad_id)

    def batches(num: int) -> Iterator[dict[str, Any]]:
        for first in range(0, min(num * batch_size, len(samples)), batch_size):
            made = collator([samples[index] for index in range(first, min(first + batch_size, len(samples)))])
            names = ("input_ids", "attention_mask", "labels")
            yield {name: made[name].to(device) for name in names if name in made}

    return replace(wish, batches=batches, tokenizer=tokenizer)


def wish_identity(config: RunConfig, wish: Wish) -> str:
    """What of a method must be the same for an exact continuation, in words."""
    adapter = config.adapter
    parts = [] if adapter.method == "lora" else [adapter.method]
    parts += [f"rank {adapter.rank}, alpha {adapter.alpha:g}"] if METHODS[adapter.method].uses_targets else []
    skipped = {"method", "rank", "alpha", "dropout", "seed", "train_head", "train_embeddings", "full_copy"}
    skipped |= {"batches", "tokenizer", "resuming", "merge_first"}
    defaults = {field.name: field.default for field in fields(Wish)}
    for name in sorted(_SAME_NAMES - skipped):
        if getattr(wish, name) != defaults[name]:
            parts.append(f"{name} {getattr(wish, name)}")
    parts += [name for name in ("train_head", "train_embeddings") if getattr(wish, name)]
    parts += [f"on top of {merge_identity(wish.merge_first)}"] if wish.merge_first else []
    return ", ".join([*parts, *sorted(wish.targets.names)])


def optimizer_groups(model: Any, wish: Wish, choice: OptimizerChoice) -> list[dict[str, Any]] | None:
    """Groups of parameters where the method wants rates of their own; None = the usual ones."""
    if wish.lora_plus in (0, 1) or wish.method not in ("lora", "dora"):
        return None
    from .optimizers import default_groups

    return with_lora_plus(model, default_groups(model, choice.learning_rate, choice.weight_decay), wish.lora_plus)
