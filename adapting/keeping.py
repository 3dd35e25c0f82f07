"""Weights that a method changes: copies to give back, and files that appear whole or not at all.

Guarantee: after :meth:`Kept.restore` every kept weight has the bits that it had. Price: one copy of them in the computer's memory.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


class Kept:
    """Copies of weights, in the computer's memory, while a run changes them."""

    def __init__(self) -> None:
        self._copies: list[tuple[Any, Any, Any]] = []
        self._seen: set[int] = set()

    def keep(self, parameter: Any) -> None:
        """Copy a weight as it is now; one that is kept already is left alone."""
        import torch

        if id(parameter) in self._seen:
            return
        self._seen.add(id(parameter))
        self._copies.append((parameter, parameter.data, parameter.data.to("cpu", copy=True).contiguous()))
        assert isinstance(parameter, torch.Tensor)

    def put_back(self, parameter: Any) -> None:
        """Give one weight the bits and the place that it had; it stays kept."""
        data, copy = next((data, copy) for kept, data, copy in self._copies if kept is parameter)
        data.copy_(copy)
        parameter.data = data

    def restore(self) -> None:
        """Put everything back where it was."""
        while self._copies:
            parameter, data, copy = self._copies.pop()
            data.copy_(copy)
            parameter.data = data
        self._seen.clear()

    @property
    def num_bytes(self) -> int:
        """Memory of the copies."""
        return sum(copy.numel() * copy.element_size() for _, _, copy in self._copies)


@contextmanager
def whole_files(folder: Path) -> Iterator[Path]:
    """A folder to write into, whose files are then moved to ``folder``, each whole; if writing fails, none is."""
    temporary = folder / ".saving"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        for file in temporary.iterdir():
            file.replace(folder / file.name)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
