"""Run folders: one per adapter, holding everything a run must remember, in readable JSON.

Guarantee: files are written beside their place and moved there whole, so a reader or a crash never meets half a file. Nothing that
exists is overwritten without the user's word (``if_exists``).
"""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_RESULT_ENDINGS = (".safetensors", ".json", ".jinja", ".model", ".txt")


def write_json(path: Path, data: Any) -> None:
    """Write JSON so that a reader sees the old file or the new one, never a part."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.tmp")
    try:
        temporary.write_text(json.dumps(data, indent=2, ensure_ascii=False, default=str) + "\n", encoding="utf-8")
        for attempt in range(20):
            try:
                os.replace(temporary, path)
                return
            except PermissionError:  # Windows: a reader has the file open for a moment
                if attempt == 19:
                    raise
                time.sleep(0.05)
    finally:
        temporary.unlink(missing_ok=True)


def read_json(path: Path) -> Any:
    """The file's content, or None if it is missing or no JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


@dataclass(frozen=True)
class RunFolder:
    """The files of one run, by name."""

    path: Path

    @property
    def name(self) -> str:
        """Name of the adapter."""
        return self.path.name

    @property
    def events(self) -> Path:
        """Everything that happened, one JSON object a line."""
        return self.path / "events.jsonl"

    @property
    def control(self) -> Path:
        """What the user asks of the running training."""
        return self.path / "control.json"

    @property
    def parameters(self) -> Path:
        """The run's configuration."""
        return self.path / "training_parameters.json"

    @property
    def log(self) -> Path:
        """A summary of the run, as the WebUI's own tab leaves one."""
        return self.path / "training_log.json"

    @property
    def graph_data(self) -> Path:
        """Points of the graph: loss and learning rate over epochs."""
        return self.path / "training_graph.json"

    @property
    def graph(self) -> Path:
        """The graph as a picture."""
        return self.path / "training_graph.png"

    @property
    def logs(self) -> Path:
        """Detailed logs for other programs (see training.logs)."""
        return self.path / "logs"

    @property
    def has_adapter(self) -> bool:
        """Whether a trained adapter lies here, or what else a method leaves as its result."""
        from ..config.settings_model import RESULT_FILES  # not above: the WebUI loads this module at its start

        return any(all(any(self.path.glob(pattern)) for pattern in patterns) for patterns in RESULT_FILES)

    @property
    def has_result(self) -> bool:
        """Whether anything lies here that must not be lost; the diary of an attempt that learned nothing is no result."""
        return self.path.is_dir() and any(entry.name not in self._diary for entry in self.path.iterdir())

    @property
    def result_files(self) -> list[Path]:
        """What was learned and what it needs to be loaded; neither the run's diary nor what was exported."""
        files = [path for path in sorted(self.path.iterdir()) if path.is_file() and path.name not in self._diary]
        return [path for path in files if path.suffix in _RESULT_ENDINGS]

    @property
    def _diary(self) -> set[str]:
        return {
            path.name for path in (self.events, self.control, self.parameters, self.log, self.graph_data, self.graph, self.logs)
        }


def open_run_folder(adapters_dir: Path, name: str, if_exists: str) -> RunFolder:
    """The folder of a run that is about to start, by the user's word on existing ones.

    Args:
        adapters_dir: where adapters live.
        name: the adapter's name (checked by the configuration).
        if_exists: stop, resume, continue, replace or new name.

    Raises:
        ValueError: the name exists and the user did not say what to do, or there is nothing to resume or continue.
        OSError: the folder cannot be made.
    """
    from .summary import other_process  # not above: it reads what this module names

    folder = RunFolder(adapters_dir / name)
    if problem := folder_problem(adapters_dir, name, if_exists):
        raise ValueError(problem)
    if folder.has_result and if_exists == "replace":
        back_up(folder)
    elif if_exists == "new name" and folder.path.exists() and (folder.has_result or other_process(folder)):
        folder = RunFolder(_free_path(adapters_dir / name))
    is_there = folder.path.is_dir()
    try:
        folder.path.mkdir(parents=True, exist_ok=is_there)
    except FileExistsError:
        raise ValueError(f"Name: {folder.path} is a file, or another program made it just now. Choose another name.") from None
    return folder


def folder_problem(adapters_dir: Path, name: str, if_exists: str) -> str:
    """Why no run can begin under that name, in words; empty if one can. Nothing is touched.

    Args:
        adapters_dir: where adapters live.
        name: the adapter's.
        if_exists: the user's word on a folder that is there.
    """
    from .summary import other_process  # not above: it reads what this module names

    folder = RunFolder(adapters_dir / name)
    if if_exists != "new name" and (pid := other_process(folder)):
        return (
            f"Name: {name!r} is being trained by another program now (process {pid}). Wait for its end, or choose another name."
        )
    if if_exists == "continue" and not folder.has_adapter:
        return f"If the name exists: there is no adapter to continue at {folder.path}. Choose 'resume', or another name."
    if if_exists == "stop" and folder.has_result:
        return (
            f"Name: there is an adapter or run called {name!r} already ({folder.path}). "
            f"Choose another name, or say under 'If the name exists' what to do: resume, continue, replace or new name."
        )
    if if_exists == "resume" and not folder.has_result:
        return (
            f"If the name exists: there is nothing to resume at {folder.path}. Check the Name, or choose 'stop' for a first run."
        )
    return ""


def _free_path(path: Path) -> Path:
    number = 2
    while (candidate := path.with_name(f"{path.name}-{number}")).exists():
        number += 1
    return candidate


def back_up(folder: RunFolder) -> Path:
    """Move everything of a run into a dated folder beside the adapters; nothing is deleted.

    Returns:
        The backup: ``<adapters>/<name>-backup-2026-01-31-12h05-np`` (the ending keeps it out of the WebUI's LoRA list).
    """
    target = backup_path(folder)
    shutil.move(str(folder.path), str(target))
    return target


def backup_path(folder: RunFolder) -> Path:
    """A free dated name beside a run's folder, which the WebUI's LoRA list does not show."""
    stamp = time.strftime("%Y-%m-%d-%Hh%M")
    target = folder.path.with_name(f"{folder.name}-backup-{stamp}-np")
    number = 2
    while target.exists():
        target = folder.path.with_name(f"{folder.name}-backup-{stamp}-{number}-np")
        number += 1
    return target


def set_aside(folder: RunFolder) -> Path:
    """Before an adapter is trained further: keep a copy of it, and move its checkpoints and diary away.

    Returns:
        The backup folder (named as by :func:`back_up`).
    """
    backup = back_up(folder)
    folder.path.mkdir()
    for path in RunFolder(backup).result_files:
        shutil.copy2(path, folder.path / path.name)
    return backup


def list_runs(adapters_dir: Path) -> list[RunFolder]:
    """Folders with a run or an adapter, newest first."""
    if not adapters_dir.is_dir():
        return []
    folders = [RunFolder(path) for path in adapters_dir.iterdir() if path.is_dir() and not path.name.startswith(".")]
    runs = [folder for folder in folders if folder.has_adapter or folder.parameters.is_file()]
    return sorted(runs, key=lambda folder: folder.path.stat().st_mtime, reverse=True)
