"""The file of a sparse increment: chosen components of some weights, and what they are now.

``sift.safetensors`` holds for each weight ``NAME.indices`` (k,) int32, flat and ascending, and ``NAME.values`` (k,) float32;
``sift_config.json`` says of what base they are: its name, the shapes, and digests of what the base has at these components, in each number
format that it may be loaded in.

Guarantee: files appear whole or not at all; a base that differs in a single chosen component is refused, whatever its name. Price: 8 bytes
for a component (at a rate of 5 % a fifth of a bfloat16 model's size); the base's own values are not in the file, but in the base.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .keeping import whole_files

WEIGHTS_FILE, CONFIG_FILE = "sift.safetensors", "sift_config.json"
SIFT_FILES = (WEIGHTS_FILE, CONFIG_FILE)
FORMAT, VERSION = "sift", 1

_DIGEST_BYTES = 16
# number formats that a base may be loaded in, whatever it was trained in
_FORMATS = ("float32", "bfloat16", "float16")


def digests(originals: Any) -> dict[str, str]:
    """Of what a base has at the chosen components (k,): number format -> digest of the values in it."""
    import torch

    names = dict.fromkeys([str(originals.dtype).removeprefix("torch."), *_FORMATS])
    return {name: _digest(originals.to(getattr(torch, name))) for name in names}


def _digest(values: Any) -> str:
    import torch

    raw = values.detach().cpu().contiguous().view(torch.uint8).numpy()
    return hashlib.blake2b(raw.data, digest_size=_DIGEST_BYTES).hexdigest()


def matches(originals: Any, wanted: dict[str, str]) -> bool:
    """Whether a base has what the increment was trained on, in the number format it is loaded in."""
    name = str(originals.dtype).removeprefix("torch.")
    return name in wanted and _digest(originals) == wanted[name]


@dataclass(frozen=True)
class SiftFile:
    """A sparse increment on disk.

    Attributes:
        folder: where it lies.
        config: content of ``sift_config.json``.
    """

    folder: Path
    config: dict[str, Any]

    @property
    def names(self) -> list[str]:
        """Parameters of which it has components, in the model's order."""
        return list(self.config["weights"])

    def weight(self, name: str) -> dict[str, Any]:
        """Facts of one weight: shape, components, base (digests)."""
        facts: dict[str, Any] = self.config["weights"][name]
        return facts

    def tensors(self) -> Iterator[tuple[str, Any, Any]]:
        """Name, indices (k,) and values (k,) of each weight, one after the other.

        Raises:
            ValueError: the file is damaged.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(str(self.folder / WEIGHTS_FILE), framework="pt") as file:
                for name in self.names:
                    indices, values = file.get_tensor(f"{name}.indices"), file.get_tensor(f"{name}.values")
                    self._check(name, indices, values)
                    yield name, indices, values
        except (OSError, SafetensorError) as error:
            raise ValueError(
                f"{self.folder / WEIGHTS_FILE} cannot be read: {error} Train it again or take a checkpoint."
            ) from error

    def _check(self, name: str, indices: Any, values: Any) -> None:
        facts = self.weight(name)
        size = 1
        for length in facts["shape"]:
            size *= int(length)
        fits = indices.shape == values.shape == (facts["components"],)
        if not fits or (len(indices) and not 0 <= int(indices.min()) <= int(indices.max()) < size):
            raise ValueError(
                f"{self.folder / WEIGHTS_FILE} and {CONFIG_FILE} disagree on {name}. Take both files from the same training."
            )


def is_sift_folder(folder: Path) -> bool:
    """Whether a sparse increment lies here."""
    return all((Path(folder) / name).is_file() for name in SIFT_FILES)


def read_sift(folder: Path) -> SiftFile:
    """Read what a sparse increment is of.

    Raises:
        ValueError: there is none, or it is of a newer kind.
    """
    folder = Path(folder)
    try:
        config = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(
            f"There is no SIFT result in {folder}: {CONFIG_FILE} cannot be read: {error}. Choose its folder."
        ) from error
    if not isinstance(config, dict) or config.get("format") != FORMAT or not isinstance(config.get("weights"), dict):
        raise ValueError(
            f"{folder / CONFIG_FILE} is no description of a SIFT result. Choose a folder that a SIFT training wrote."
        )
    if config.get("version") != VERSION:
        raise ValueError(
            f"{folder / CONFIG_FILE} has version {config.get('version')!r}, this program reads {VERSION}. Update it."
        )
    return SiftFile(folder, config)


def write_sift(folder: Path, tensors: dict[str, Any], config: dict[str, Any]) -> None:
    """Write both files, each whole.

    Args:
        folder: existing.
        tensors: ``NAME.indices`` and ``NAME.values``.
        config: what :class:`SiftFile` reads.
    """
    from safetensors.torch import save_file

    with whole_files(folder) as place:
        save_file(tensors, str(place / WEIGHTS_FILE), metadata={"format": "pt", "kind": FORMAT, "version": str(VERSION)})
        text = json.dumps({"format": FORMAT, "version": VERSION, **config}, indent=2, ensure_ascii=False)
        (place / CONFIG_FILE).write_text(text + "\n", encoding="utf-8")
