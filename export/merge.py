"""Merging an adapter into its base: an ordinary model folder that everything loads.

What it does: takes the way that needs the least memory. Plain LoRAs are added tensor by tensor while the base's files are
copied (:mod:`.merge_files`); everything else (DoRA, VeRA, OFT, (IA)3, whole modules, sparse increments, quantized bases) goes
through the loaded model (:mod:`.merge_model`). Sums are made in float32 and rounded once. Then the new folder is loaded and its
answers are compared with those of base and adapter (:mod:`.verify`).

Guarantee: the folder appears whole and checked, or not at all; nothing is overwritten; weights that the base shares between
embedding and head stay shared unless the adapter made them different. Price: see ``Merged.peak_words``; the check loads one
model after the other.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..config.settings_model import ModelSettings
from ..runs.store import read_json, write_json
from ..train_utils import Loading, read_chat_template
from .adapter import Adapter, read_adapter
from .files import new_folder, refuse_existing
from .verify import Verification

DTYPES = ("auto", "float32", "bfloat16", "float16")
_WEIGHT_ENDINGS = (
    ".safetensors",
    ".bin",
    ".pt",
    ".pth",
    ".gguf",
    ".h5",
    ".msgpack",
    ".onnx",
    ".safetensors.index.json",
    ".bin.index.json",
)
_NOT_COPIED = ("README.md", "training_parameters.json", "training_log.json", "events.jsonl", "control.json")

Say = Callable[[str], None]


def _silent(text: str) -> None:
    return None


@dataclass
class Merged:
    """A merged model.

    Attributes:
        path: its folder.
        dtype: number format of its weights.
        num_changed: tensors that the adapter changed; 0 where peft changed them.
        peak_words: what the merge needed of the computer's memory, in words.
        notes: sentences for the user.
        verification: the comparison with base and adapter; None without.
    """

    path: Path
    dtype: str
    num_changed: int
    peak_words: str
    notes: list[str] = field(default_factory=list)
    verification: Verification | None = None


@dataclass(frozen=True)
class MergeWish:
    """What is merged into what.

    Attributes:
        adapters: in their order; the last is the one that the user named, those before it were merged first when it was trained.
        base: folder of the base model.
        dtype: of :data:`DTYPES`; auto = as the base is stored.
        loading: how the base's weights were packed in the run, to merge into them as they were then; None for the stored weights.
    """

    adapters: tuple[Adapter, ...]
    base: Path
    dtype: str = "auto"
    loading: Loading | None = None

    @property
    def adapter(self) -> Adapter:
        """The one that the user named."""
        return self.adapters[-1]


def merge_adapter(wish: MergeWish, out: Path | None = None, *, verify: bool = True, say: Say = _silent) -> Merged:
    """Merge an adapter into its base.

    Args:
        wish: what into what.
        out: folder of the result; by default beside the base, named after both.
        verify: load the result and compare it with base and adapter.
        say: told what is being done.

    Raises:
        ValueError: the adapter does not belong to the base, the target exists, no space is left, numbers do not fit into the format, or
            the result answers differently; with the remedy. Nothing is left behind then.
    """
    from .merge_files import can_merge_files, merge_files
    from .merge_model import merge_model
    from .verify import verify_merge

    target = (out or wish.base.parent / f"{wish.base.name}-{wish.adapter.name}").expanduser().absolute()
    refuse_existing(target, "--out")
    with new_folder(target) as folder:
        _copy_small_files(wish.base, folder)
        by_files = can_merge_files(wish)
        say("adding to the base's files, one tensor after the other" if by_files else "loading the base and merging")
        merged = merge_files(wish, folder) if by_files else merge_model(wish, folder)
        _put_template(wish.adapter, folder)
        if verify:
            say("loading the result and comparing its answers")
            merged.verification = verify_merge(wish, folder, merged.dtype)
    merged.path = target
    return merged


def make_wish(adapter: Adapter, base: Path, dtype: str = "auto", *, as_trained: bool = False) -> MergeWish:
    """What an adapter's own files say on how it belongs to its base.

    Args:
        adapter: as read.
        base: folder of the base model.
        dtype: of :data:`DTYPES`.
        as_trained: merge into the weights as they were packed in the run.

    Raises:
        ValueError: an adapter that was merged first is not found, or ``as_trained`` for a run that packed nothing.
    """
    first = [read_adapter(_first_folder(adapter, name)) for name in _of_run(adapter, "adapter").get("merge_first") or []]
    settings = _of_run(adapter, "model")
    loading = None
    if as_trained:
        if settings.get("quantization", "none") == "none":
            raise ValueError(
                f"--as-trained: the run of {adapter.name!r} says of no Quantization, so its base was used as it is stored. Leave it out."
            )
        known = {key: value for key, value in settings.items() if key in ModelSettings.model_fields}
        loading = ModelSettings(**known).loading
    return MergeWish((*first, adapter), base, dtype, loading)


def _of_run(adapter: Adapter, section: str) -> dict[str, Any]:
    values = adapter.run.get(section)
    return values if isinstance(values, dict) else {}


def _first_folder(adapter: Adapter, name: str) -> Path:
    places = [Path(name).expanduser(), *(parent / name for parent in list(adapter.folder.parents)[:2])]
    found = next((place for place in places if place.is_dir()), None)
    if found is None:
        tried = ", ".join(str(place) for place in places)
        raise ValueError(
            f"Merge first: {adapter.name!r} was trained on top of the adapter {name!r}, which is not found. Tried: {tried}. "
            f"Put its folder there."
        )
    return found


# --- what goes with the weights ------------------------------------------------------------------------------------------------


def _copy_small_files(base: Path, folder: Path) -> None:
    """Tokenizer, configuration, templates and the model's own code, byte for byte."""
    for file in base.iterdir():
        if (
            file.is_file()
            and not file.name.startswith(".")
            and not file.name.endswith(_WEIGHT_ENDINGS)
            and file.name not in _NOT_COPIED
        ):
            shutil.copyfile(file, folder / file.name)


def _put_template(adapter: Adapter, folder: Path) -> None:
    """The chat template that the run was told to use becomes the model's own.

    Raises:
        ValueError: it cannot be read any more.
    """
    if not adapter.chat_template:
        return
    template = read_chat_template(adapter.chat_template)
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    settings = read_json(folder / "tokenizer_config.json")
    if isinstance(settings, dict) and settings.pop("chat_template", None) is not None:  # older programs read this one first
        write_json(folder / "tokenizer_config.json", {**settings, "chat_template": template})
