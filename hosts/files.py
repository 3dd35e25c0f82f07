"""Files to offer in the form: what lies in a data folder, by name."""

from __future__ import annotations

from pathlib import Path

from ..data.sources import ENDINGS

_TEXT = tuple(ending for ending, layout in ENDINGS.items() if layout == "text")
_ROWS = tuple(ending for ending, layout in ENDINGS.items() if layout != "text")


def data_sets(folder: Path) -> dict[str, str]:
    """Files with rows (JSON, JSONL), and folders of them: name -> path."""
    return _choices(folder, _ROWS)


def text_files(folder: Path) -> dict[str, str]:
    """Text files, and folders of them: name -> path."""
    return _choices(folder, _TEXT)


def _choices(folder: Path, endings: tuple[str, ...]) -> dict[str, str]:
    found: dict[str, str] = {}
    for entry in sorted(_entries(folder), key=lambda entry: entry.name.lower()):
        if entry.name.startswith((".", "put-trainer-datasets-here")):
            continue
        if entry.is_file() and entry.suffix.lower() in endings:
            found[entry.name] = str(entry)
        elif entry.is_dir() and any(file.suffix.lower() in endings for file in _entries(entry)):
            found[f"{entry.name}/"] = str(entry)
    return found


def _entries(folder: Path) -> list[Path]:
    """What lies in a folder; nothing if it is not there or may not be read."""
    try:
        return list(folder.iterdir())
    except OSError:
        return []
