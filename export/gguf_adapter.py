"""A LoRA as GGUF: the file that llama.cpp takes with ``--lora`` on top of any quantization of the base.

Guarantee: every pair of the adapter is in the file under llama.cpp's name, or nothing is written and the message says why.
Where all modules share one strength, the numbers are those of the adapter; where they do not (ranks or alphas of their own),
what differs is multiplied into B, since the file has one alpha for all. Price: the adapter's size in memory, twice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .adapter import Adapter, Pair, lora_pairs, more_than_pairs
from .files import new_file, refuse_existing, require_space
from .gguf_families import Family, family_of
from .merge_files import BaseFiles, is_packed

if TYPE_CHECKING:
    import numpy as np

NUMBER_FORMATS = ("f32", "f16")
MERGE_INSTEAD = "Merge the adapter into the base (training-pro merge), and convert the merged folder."


@dataclass
class GgufAdapter:
    """What was written.

    Attributes:
        path: the file.
        architecture: llama.cpp's name of it.
        alpha: the file's one alpha; llama.cpp multiplies ``B @ A`` by alpha / rank.
        num_pairs: modules with an adapter.
        rescaled: modules whose strength went into B.
        notes: sentences for the user.
    """

    path: Path
    architecture: str
    alpha: float
    num_pairs: int
    rescaled: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def write_gguf_adapter(adapter: Adapter, base: Path, out: Path | None = None, number_format: str = "f32") -> GgufAdapter:
    """Write a LoRA for llama.cpp.

    Args:
        adapter: as read.
        base: folder of the base model; only its config.json is read.
        out: the file; by default ``<name>-lora-<number format>.gguf`` in the adapter's folder.
        number_format: of :data:`NUMBER_FORMATS`.

    Raises:
        ValueError: llama.cpp has no form for this adapter or this model, the target exists, or no space is left; with the remedy.
    """
    gguf = import_gguf()
    path = (out or adapter.folder / f"{adapter.name}-lora-{number_format}.gguf").expanduser().absolute()
    if number_format not in NUMBER_FORMATS:
        raise ValueError(f"--dtype: {number_format!r} is not known for an adapter. Choose one of {', '.join(NUMBER_FORMATS)}.")
    refuse_existing(path, "--out")
    pairs = exportable_pairs(adapter)
    _refuse_shapes(pairs, base)
    family, config = family_of(base)
    tensors, alpha, rescaled = llama_tensors(pairs, family, config)
    stored = {name: _as_stored(name, values, number_format) for name, values in tensors.items()}
    require_space(path, sum(values.nbytes for values in stored.values()))
    architecture = gguf.MODEL_ARCH_NAMES[gguf.MODEL_ARCH[family.name]]
    with new_file(path) as unfinished:
        _write(unfinished, architecture, stored, {"alpha": alpha, "name": adapter.name, "base": base.name})
    return GgufAdapter(path, architecture, alpha, len(pairs), rescaled, _notes(adapter, rescaled))


def _notes(adapter: Adapter, rescaled: list[str]) -> list[str]:
    notes = []
    if rescaled:
        notes.append(
            f"{len(rescaled)} modules have a strength of their own; it is multiplied into their B, since the file has one alpha."
        )
    first = (adapter.run.get("adapter") or {}).get("merge_first") or []
    if first:
        notes.append(
            f"The adapter was trained on top of {', then '.join(map(str, first))}: write these as GGUF too, and give llama.cpp a --lora "
            f"for each."
        )
    return notes


def import_gguf() -> Any:
    """The ``gguf`` package.

    Raises:
        ValueError: it is not installed.
    """
    try:
        import gguf
    except ImportError as error:
        raise ValueError("Writing GGUF needs the Python package 'gguf'. Install it: pip install gguf") from error
    return gguf


def exportable_pairs(adapter: Adapter) -> dict[str, Pair]:
    """The adapter's pairs, if they are all of it.

    Raises:
        ValueError: llama.cpp has no form for this kind of adapter; with the reason.
    """
    if adapter.method != "lora":
        raise ValueError(f"Adapter: llama.cpp knows LoRA only. Got: {adapter.method.upper()}. {MERGE_INSTEAD}")
    reason = more_than_pairs(adapter.config)
    pairs, others = ({}, []) if reason else lora_pairs(adapter)
    if others:
        reason = f"it holds tensors that are no LoRA pairs ({', '.join(others[:3])}{', ...' if len(others) > 3 else ''})"
    if reason:
        raise ValueError(f"Adapter: {adapter.name!r} cannot be told to llama.cpp as a LoRA, because {reason}. {MERGE_INSTEAD}")
    if not pairs:
        raise ValueError(f"Adapter: {adapter.weights} holds no LoRA pairs. Give the folder of a finished adapter.")
    return pairs


def _refuse_shapes(pairs: Mapping[str, Pair], base: Path) -> None:
    """Compare with the base's weights, where its files have them unpacked: llama.cpp would say it only on loading."""
    if is_packed(base):
        return
    with ExitStack() as stack:
        files = BaseFiles(base, stack)
        for module, pair in pairs.items():
            inputs, outputs = int(pair.a.shape[1]), int(pair.b.shape[0])
            shape = files.shape(f"{module}.weight")
            if shape and sorted(shape) != sorted((inputs, outputs)):
                raise ValueError(
                    f"Adapter: for {module} it takes {inputs} numbers and gives {outputs}, and the base's weight there is "
                    f"{' x '.join(map(str, shape))}. It is the adapter of another model; give that model's folder with --base."
                )


# --- names, order and strength -------------------------------------------------------------------------------------------------


def llama_tensors(
    pairs: Mapping[str, Pair], family: Family, config: Mapping[str, Any]
) -> tuple[dict[str, np.ndarray], float, list[str]]:
    """An adapter in llama.cpp's names and order.

    Args:
        pairs: by the name of the module in transformers.
        family: of the base model.
        config: of the base model's language part.

    Returns:
        Tensors by name, the file's alpha, and the modules whose strength went into B.

    Raises:
        ValueError: a module that llama.cpp has no name for, or cannot adapt.
    """
    names = {module: llama_name(module, family, config) for module in pairs}
    unknown = [module for module, name in names.items() if not name]
    if unknown:
        raise ValueError(
            f"Adapter: llama.cpp has no name for {len(unknown)} of its modules, the first: {unknown[0]} ({family.name}). "
            f"Is it the adapter of another model? If not: {MERGE_INSTEAD}"
        )
    alpha = common_alpha(pairs.values())
    tensors: dict[str, np.ndarray] = {}
    rescaled = []
    for module, pair in pairs.items():
        name = names[module]
        _refuse_tied(module, name, bool(config.get("tie_word_embeddings", True)))
        a, b = pair.a.float().numpy(), pair.b.float().numpy()
        factor = pair.scale * pair.rank / alpha
        if abs(factor - 1) > 1e-6:
            b = b * factor
            rescaled.append(module)
        order = family.rows(module.rpartition(".")[2], b.shape[0], config)
        tensors[f"{name}.lora_a"] = a.T if pair.is_embedding else a
        tensors[f"{name}.lora_b"] = b if order is None or pair.is_embedding else b[order]
    return tensors, alpha, rescaled


def llama_name(module: str, family: Family, config: Mapping[str, Any]) -> str:
    """llama.cpp's name of a module's weight, e.g. ``blk.0.attn_q.weight``; empty if it has none."""
    gguf = import_gguf()
    num_layers = config.get("num_hidden_layers") or config.get("n_layer") or 0
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH[family.name], int(num_layers))
    text = module.replace("language_model.", "")
    candidates = (text, text.removeprefix("model."), f"model.{text}", f"transformer.{text}")
    found = next(filter(None, (names.get_name(key=f"{key}.weight", try_suffixes=(".weight",)) for key in candidates)), None)
    return str(found or "")


def common_alpha(pairs: Any) -> float:
    """The alpha that most modules have, where llama.cpp multiplies by alpha / rank."""
    counts = Counter(round(pair.scale * pair.rank, 6) for pair in pairs)
    return float(counts.most_common(1)[0][0])


def _refuse_tied(module: str, name: str, is_tied: bool) -> None:
    """llama.cpp keeps one tensor for embedding and head where they are one: an adapter for either would act on both."""
    if is_tied and name in ("token_embd.weight", "output.weight"):
        raise ValueError(
            f"Adapter: {module} has a LoRA, and in this model embedding and head are one tensor, which llama.cpp cannot adapt "
            f"separately. {MERGE_INSTEAD}"
        )


# --- the file ------------------------------------------------------------------------------------------------------------------


def _as_stored(name: str, values: np.ndarray, number_format: str) -> np.ndarray:
    import numpy as np

    stored = np.ascontiguousarray(values.astype(np.float32 if number_format == "f32" else np.float16))
    if not np.isfinite(stored).all():
        raise ValueError(f"Adapter: {name} does not fit into {number_format}. Choose --dtype f32, or train the adapter again.")
    return stored


def _write(path: Path, architecture: str, tensors: Mapping[str, np.ndarray], facts: Mapping[str, Any]) -> None:
    gguf = import_gguf()
    writer = gguf.GGUFWriter(path, architecture)
    try:
        writer.add_type(gguf.GGUFType.ADAPTER)
        writer.add_name(str(facts["name"]))
        writer.add_base_model_count(1)
        writer.add_base_model_name(0, str(facts["base"]))
        writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
        writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, float(facts["alpha"]))
        for name, values in tensors.items():
            writer.add_tensor(name, values)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
    finally:
        writer.close()
