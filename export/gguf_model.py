"""A model folder as GGUF, by the pattern of a GGUF of its base.

What it does: takes vocabulary, settings and the list of tensors from any GGUF of the base (whatever its quantization), and the
weights from the folder. So nothing about tokenizers has to be guessed, which is where conversions go wrong.

Guarantee: every tensor of the pattern is in the result under its name and in its shape, with the folder's weights; what the
pattern has and the folder has not (tables that llama.cpp's converter computes) is copied. A folder of another shape is refused.
Price: one tensor in float32 at a time; families whose weights llama.cpp stores otherwise than row by row (experts, ...) are
refused.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..runs.store import read_json
from .files import new_file, refuse_existing, require_space
from .gguf_adapter import import_gguf, llama_name
from .gguf_families import Family, family_of
from .merge_files import BaseFiles

if TYPE_CHECKING:
    import numpy as np

NUMBER_FORMATS = ("f32", "f16", "bf16", "q8_0")
COMPUTED = ("rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight")
# of the pattern's words about itself, those that hold for what was trained from it, too
_COPIED_WORDS = ("general.license", "general.license.name", "general.license.link", "general.languages")
_NOT_COPIED = ("GGUF.", "general.", "split.", "quantize.", "tokenizer.chat_template")
# architectures whose tensors are those of transformers, up to the order of rows and a shift of the norms
PLAIN = (
    "llama",
    "qwen2",
    "qwen3",
    "gemma",
    "gemma2",
    "gemma3",
    "granite",
    "smollm3",
    "olmo2",
    "phi3",
    "stablelm",
    "starcoder2",
    "command-r",
    "olmo",
    "phi2",
    "glm4",
    "gptneox",
    "falcon",
    "cohere2",
)
NORM_SHIFT = {"gemma": 1.0, "gemma2": 1.0, "gemma3": 1.0}  # these families store their norms less one


@dataclass
class GgufModel:
    """What was written.

    Attributes:
        path: the file.
        architecture: llama.cpp's name of it.
        num_tensors: written with the folder's weights.
        notes: sentences for the user.
    """

    path: Path
    architecture: str
    num_tensors: int
    notes: list[str] = field(default_factory=list)


def write_gguf_model(folder: Path, like: Path | None, out: Path | None = None, number_format: str = "f16") -> GgufModel:
    """Write a model folder as one GGUF file.

    Args:
        folder: of the model, e.g. a merged one.
        like: any GGUF of its base.
        out: the file; by default ``<folder>-<number format>.gguf`` beside the folder.
        number_format: of :data:`NUMBER_FORMATS`, for matrices; vectors stay in float32.

    Raises:
        ValueError: no pattern, another model, an architecture that is not stored row by row, or no space; with the remedy.
    """
    gguf = import_gguf()
    folder = folder.expanduser().absolute()
    path = (out or folder.with_name(f"{folder.name}-{number_format}.gguf")).expanduser().absolute()
    if number_format not in NUMBER_FORMATS:
        raise ValueError(f"--dtype: {number_format!r} is not known for a model. Choose one of {', '.join(NUMBER_FORMATS)}.")
    if not (folder / "config.json").is_file():
        what = (
            "is an adapter: merge it first (training-pro merge), or leave --like out"
            if (folder / "adapter_config.json").is_file()
            else "is no model folder"
        )
        raise ValueError(f"{folder} {what}.")
    if like is None or not like.is_file():
        raise ValueError(_without_pattern(folder, like))
    refuse_existing(path, "--out")
    family, config = family_of(folder)
    pattern = gguf.GGUFReader(like)
    architecture = gguf.MODEL_ARCH_NAMES[gguf.MODEL_ARCH[family.name]]
    _refuse_other(architecture, str(pattern.get_field("general.architecture").contents()), folder, like)
    with ExitStack() as stack:
        source = _Source(BaseFiles(folder, stack), family, config, NORM_SHIFT.get(architecture, 0.0))
        copied = source.check(
            {tensor.name: tuple(int(size) for size in reversed(tensor.shape)) for tensor in pattern.tensors}, like
        )
        require_space(path, sum(_num_bytes(tensor, _kind(tensor, number_format)) for tensor in pattern.tensors))
        with new_file(path) as unfinished:
            _write(unfinished, pattern, source, _Target(architecture, folder, number_format, copied))
    notes = [f"Copied from {like.name}: {', '.join(copied)}"] if copied else []
    return GgufModel(path, architecture, len(pattern.tensors) - len(copied), notes + source.notes)


def _without_pattern(folder: Path, like: Path | None) -> str:
    lead = "" if like is None else f" Got: {like}, which is no file."
    return (
        f"A model is written as GGUF by the pattern of its base: give any GGUF of the base with --like BASE.gguf.{lead} Without one, use "
        f'llama.cpp\'s own script, from a checkout of llama.cpp: python convert_hf_to_gguf.py "{folder}" --outtype f16 '
        f'--outfile "{folder.name}-f16.gguf"'
    )


def _refuse_other(architecture: str, pattern: str, folder: Path, like: Path) -> None:
    if architecture not in PLAIN:
        raise ValueError(
            f"{architecture}: llama.cpp does not store this family's weights row by row, so it cannot be written by a pattern. "
            f'Use llama.cpp\'s script: python convert_hf_to_gguf.py "{folder}" --outtype f16'
        )
    if architecture != pattern:
        raise ValueError(f"--like: {like} is a {pattern}, {folder.name} a {architecture}. Give a GGUF of this model's base.")


# --- weights -------------------------------------------------------------------------------------------------------------------


class _Source:
    """The folder's weights by llama.cpp's names, in its order."""

    def __init__(self, files: BaseFiles, family: Family, config: Any, norm_shift: float) -> None:
        self._files, self._family, self._config, self._norm_shift = files, family, config, norm_shift
        self._of: dict[str, str] = {}
        self._num_rows: dict[str, int] = {}
        self._nameless: list[str] = []
        for name in files.names:
            module, _, part = name.rpartition(".")
            found = llama_name(module, family, config)
            if found and part in ("weight", "bias"):
                self._of[found.removesuffix("weight") + part] = name
            else:
                self._nameless.append(name)

    def check(self, wanted: dict[str, tuple[int, ...]], like: Path) -> list[str]:
        """Compare with a pattern's names and shapes (as numpy has them).

        Returns:
            Names that only the pattern has and that may be copied.

        Raises:
            ValueError: a weight is missing, too much, or of another shape.
        """
        missing = [name for name in wanted if name not in self._of]
        other = [name for name, shape in wanted.items() if name in self._of and not self._fits(name, shape)]
        too_much = [name for name in self._of if name not in wanted and name != "output.weight"]
        problems = [name for name in missing if name not in COMPUTED] + other + too_much
        if "output.weight" in self._of and "output.weight" not in wanted and not self._head_is_embedding():
            problems.append("output.weight")
        if problems:
            raise ValueError(
                f"--like: {like} does not fit the model: {len(problems)} weights are missing or of another shape, the first: {problems[0]}. "
                f"Give a GGUF of this model's base."
            )
        return missing

    def _fits(self, name: str, shape: tuple[int, ...]) -> bool:
        """Whether a weight has the pattern's shape; rows behind the last token, which some families have, are left out."""
        own = self._files.shape(self._of[name])
        if name in ("token_embd.weight", "output.weight") and own[0] > shape[0]:
            self._num_rows[name] = shape[0]
        return own == shape or (name in self._num_rows and own[1:] == shape[1:])

    @property
    def notes(self) -> list[str]:
        """What was left out, after :meth:`check`."""
        notes = [f"{name}: {rows} rows, those behind the last token are left out" for name, rows in self._num_rows.items()]
        if self._nameless:
            count = len(self._nameless)
            notes.append(
                f"{count} tensors have no place in llama.cpp's language models and are left out, the first: {self._nameless[0]}"
            )
        return notes

    def _head_is_embedding(self) -> bool:
        """Some folders store a tied head all the same."""
        import torch

        head, embedding = (self._files.read(self._of[name]) for name in ("output.weight", "token_embd.weight"))
        return head.shape == embedding.shape and torch.equal(head, embedding)

    def read(self, name: str) -> np.ndarray:
        """A weight in float32, as llama.cpp has it."""
        own = self._of[name]
        values: np.ndarray = self._files.read(own).float().numpy()
        values = values[: self._num_rows.get(name)]
        leaf = own.rpartition(".")[0].rpartition(".")[2]
        order = self._family.rows(leaf, values.shape[0], self._config)
        if order is not None:
            values = values[order]
        return values + self._norm_shift if name.endswith("norm.weight") else values


# --- the file ------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Target:
    architecture: str
    folder: Path
    number_format: str
    copied: list[str]


def _kind(tensor: Any, number_format: str) -> Any:
    """The number format of a tensor: vectors in float32, matrices as asked for, in float16 where q8_0's blocks do not fit."""
    gguf = import_gguf()
    if len(tensor.shape) < 2 or number_format == "f32":
        return gguf.GGMLQuantizationType.F32
    kinds = {"f16": "F16", "bf16": "BF16", "q8_0": "Q8_0"}
    if number_format == "q8_0" and int(tensor.shape[0]) % 32:
        return gguf.GGMLQuantizationType.F16
    return gguf.GGMLQuantizationType[kinds[number_format]]


def _num_bytes(tensor: Any, kind: Any) -> int:
    gguf = import_gguf()
    block, size = gguf.GGML_QUANT_SIZES[kind]
    return int(tensor.n_elements) * int(size) // int(block)


def _write(path: Path, pattern: Any, source: _Source, target: _Target) -> None:
    import numpy as np

    gguf = import_gguf()
    writer = gguf.GGUFWriter(path, target.architecture)
    try:
        _write_facts(writer, pattern, target)
        for tensor in pattern.tensors:
            kind = tensor.tensor_type if tensor.name in target.copied else _kind(tensor, target.number_format)
            shape = [int(size) for size in reversed(tensor.shape)]
            # any type but bytes tells the writer that the shape is that of the numbers
            writer.add_tensor_info(tensor.name, shape, np.dtype(np.float32), _num_bytes(tensor, kind), raw_dtype=kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for tensor in pattern.tensors:
            if tensor.name in target.copied:
                writer.write_tensor_data(tensor.data)
            else:
                writer.write_tensor_data(gguf.quantize(source.read(tensor.name), _kind(tensor, target.number_format)))
    finally:
        writer.close()


def _write_facts(writer: Any, pattern: Any, target: _Target) -> None:
    """The pattern's settings and vocabulary; name, number format and chat template are the folder's own."""
    gguf = import_gguf()
    for key, entry in pattern.fields.items():
        if key.startswith(_NOT_COPIED) and key not in _COPIED_WORDS:
            continue
        kind = entry.types[0]
        inner = entry.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(key, entry.contents(), kind, inner)
    kinds = {"f32": "ALL_F32", "f16": "MOSTLY_F16", "bf16": "MOSTLY_BF16", "q8_0": "MOSTLY_Q8_0"}
    writer.add_type(gguf.GGUFType.MODEL)
    writer.add_name(target.folder.name)
    writer.add_file_type(gguf.LlamaFileType[kinds[target.number_format]])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    template = chat_template(target.folder) or _text(pattern, "tokenizer.chat_template")
    if template:
        writer.add_chat_template(template)


def _text(pattern: Any, key: str) -> str:
    entry = pattern.get_field(key)
    return str(entry.contents()) if entry is not None else ""


def chat_template(folder: Path) -> str:
    """The chat template of a model folder; empty if it has none."""
    file = folder / "chat_template.jinja"
    if file.is_file():
        return file.read_text(encoding="utf-8")
    settings = read_json(folder / "tokenizer_config.json")
    template = settings.get("chat_template") if isinstance(settings, dict) else None
    return template if isinstance(template, str) else ""
