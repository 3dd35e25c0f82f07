"""A chosen path -> the files to read, in natural order (file2 before file10), subfolders included.

Guarantee: the order depends on names only, not on the file system; hidden files (a leading dot) are left out, files of
other kinds are named in the notes; a folder that links lead to twice is read once.
Price: the names of a folder are held in memory.
"""

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from ..formats.messages import listed
from .encoding import refuse_binary

# ending of a file -> how it is laid out
ENDINGS: dict[str, str] = {
    **dict.fromkeys((".txt", ".text", ".md", ".markdown"), "text"),
    ".json": "json",
    **dict.fromkeys((".jsonl", ".ndjson"), "json lines"),
}


def list_files(path: str | Path, *, label: str = "Data set", notes: list[str] | None = None) -> list[Path]:
    """The files to read, in reading order.

    Args:
        path: file or folder; hidden files and folders inside a folder are left out.
        label: the form's label of the path.
        notes: gets the names of files of other kinds.

    Raises:
        ValueError: nothing is there, or nothing that can be read.
    """
    root = Path(path)
    if not _is_folder(path, label):
        _require_ending(root, label)
        return [root]
    found = sorted(_walk(root, label), key=lambda file: natural_key(file.relative_to(root).as_posix()))
    files = [file for file in found if file.suffix.lower() in ENDINGS]
    if not files:
        raise ValueError(
            f"{label}: the folder {root} holds no file that can be read. Put files there that end in {', '.join(ENDINGS)}."
        )
    others = [file.relative_to(root).as_posix() for file in found if file.suffix.lower() not in ENDINGS]
    if others and notes is not None:
        notes.append(f"files of other kinds not read ({len(others):,}): {listed(others)}")
    return files


def natural_key(name: str) -> list[tuple[list[str | int], str]]:
    """Sorting key of a path with '/' that counts: file2 before file10.

    >>> sorted(["b/1", "a10", "A2"], key=natural_key)
    ['A2', 'a10', 'b/1']
    """
    parts = name.split("/")
    return [
        ([int(piece) if piece.isdecimal() else piece.casefold() for piece in re.split(r"(\d+)", part)], part) for part in parts
    ]


def _is_folder(path: str | Path, label: str) -> bool:
    if not str(path).strip():
        raise ValueError(f"{label}: no file is chosen. Choose a file or a folder.")
    try:
        mode = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError, ValueError):
        raise ValueError(f"{label}: {path} does not exist. Check the path, or choose another file.") from None
    except OSError as error:
        raise _unreadable(path, error, label) from error
    if not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):
        raise ValueError(f"{label}: {path} is neither a file nor a folder. Choose another file.")
    return stat.S_ISDIR(mode)


def _require_ending(path: Path, label: str) -> None:
    if path.suffix.lower() not in ENDINGS:
        refuse_binary(path, label)
        raise ValueError(
            f"{label}: the ending of {path} is none of {', '.join(ENDINGS)}. Save it as one of these, or choose another file."
        )


def _unreadable(path: str | Path, error: OSError, label: str) -> ValueError:
    return ValueError(f"{label}: {path} cannot be read ({error.strerror}). Check its permissions, or choose another file.")


def _walk(root: Path, label: str) -> Iterator[Path]:
    """All files below `root` that are not hidden; a folder that links lead to twice is read once."""

    def refuse(error: OSError) -> None:
        raise _unreadable(error.filename, error, label) from error

    seen: set[str] = set()
    for folder, subfolders, names in os.walk(root, onerror=refuse, followlinks=True):
        real = os.path.realpath(folder)
        subfolders[:] = [] if real in seen else sorted(name for name in subfolders if not name.startswith("."))
        yield from (Path(folder, name) for name in names if not name.startswith(".") and real not in seen)
        seen.add(real)
