"""Files to offer in the form: what lies in a data folder, by name."""

from __future__ import annotations

from pathlib import Path

from ..data.sources import ENDINGS

_TEXT = tuple(ending for ending, layout in ENDINGS.items() if layout == "text")
_ROWS = tuple(ending for ending, layout in ENDINGS.items() if layout != "text")


def data_sets(folder: Path) -> dict[str, str]:
    """Files with rows (JSON, JSONL): name -> path."""
    return _choices(folder, _ROWS, with_folders=False)


def text_files(folder: Path) -> dict[str, str]:
    """Text files, and folders of them: name -> path."""
    return _choices(folder, _TEXT, with_folders=True)


def _choices(folder: Path, endings: tuple[str, ...], *, with_folders: bool) -> dict[str, str]:
    if not folder.is_dir():
        return {}
    found: dict[str, str] = {}
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name.lower()):
        if entry.name.startswith(".") or entry.name.startswith("put-trainer-datasets-here"):
            continue
        if entry.is_file() and entry.suffix.lower() in endings:
            found[entry.name] = str(entry)
        elif with_folders and entry.is_dir() and any(file.suffix.lower() in endings for file in entry.iterdir()):
            found[f"{entry.name}/"] = str(entry)
    return found
