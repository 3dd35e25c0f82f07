"""Presets: settings under a name, as YAML. Shipped ones lie in examples/presets, the user's own in a hidden folder beside the adapters.

Guarantee: a preset holds only what differs from the defaults, and never where a result goes or what it is called; nothing is replaced or
deleted without the user's word, and shipped ones never. A file that cannot be read is named, not skipped. Price: none.

The folder ends in -np and begins with a dot: the WebUI hides the one in its LoRA menu, everybody else the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ... import ROOT
from ...config import RunConfig
from ...config.checks import file_name_problem
from ...config.loading import changes_yaml

SHIPPED = ROOT / "examples" / "presets"
OWN_FOLDER = ".training_pro_presets-np"
DEFAULTS = "Defaults"
# what a preset is not about: which model and data, what the result is called, and where it goes
_NEVER_SAVED = ("adapter.name", "adapter.if_exists", "adapter.resume_from", "adapter.resume_changed", "run.adapters_dir")
_KEPT = (
    *(
        "model.path",
        "data.dataset",
        "data.text_file",
        "data.more_datasets",
        "data.eval_dataset",
        "data.format",
        "data.format_file",
    ),
    *(
        "samples.prompts",
        "run.adapters_dir",
        "adapter.name",
        "adapter.if_exists",
        "adapter.resume_from",
        "adapter.resume_changed",
    ),
)
_MOST_SIGNS = 60


@dataclass(frozen=True)
class Preset:
    """A preset that can be chosen.

    Attributes:
        name: shown, and of own ones the name of the file.
        path: of the file; None for the defaults.
        is_own: the user's, who may delete it.
        words: what it is for.
    """

    name: str
    path: Path | None
    is_own: bool = False
    words: str = ""

    @property
    def key(self) -> str:
        """What stands for it in a drop-down."""
        return str(self.path) if self.path else DEFAULTS


def list_presets(adapters_dir: Path) -> list[Preset]:
    """The defaults, then the shipped ones, then the user's own by name."""
    presets = [Preset(DEFAULTS, None, words="Every setting as it is at first.")]
    for path in sorted(SHIPPED.glob("*.yaml")):
        title, words = _comment(path)
        presets.append(Preset(title or path.stem, path, words=words))
    own = sorted((adapters_dir / OWN_FOLDER).glob("*.yaml"), key=lambda path: path.stem.lower())
    return presets + [Preset(path.stem, path, is_own=True, words="Saved by you.") for path in own]


def _comment(path: Path) -> tuple[str, str]:
    """The first line of a file's leading comment, and the others."""
    lines: list[str] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.lstrip("# "))
    return (lines[0], " ".join(lines[1:])) if lines else ("", "")


def find_preset(adapters_dir: Path, key: str | None) -> Preset:
    """The preset that a drop-down's value stands for.

    Raises:
        ValueError: it is not there (any more), or none is chosen.
    """
    for preset in list_presets(adapters_dir):
        if preset.key == key:
            return preset
    raise ValueError("Preset: choose one of the list first." if not key else "Preset: that one is not there any more.")


def apply_preset(preset: Preset, current: RunConfig) -> RunConfig:
    """The preset's settings; what it does not mention is a default, except for model, data and name, which stay as they are.

    Args:
        preset: the one to load.
        current: what the form shows now.

    Raises:
        ValueError: its file cannot be read.
    """
    loaded = RunConfig.from_file(preset.path) if preset.path else RunConfig()
    nested = loaded.to_dict()
    changed = loaded.changes()
    for info in RunConfig.settings():
        if info.field in _KEPT and info.field not in changed:
            nested[info.section][info.key] = current.value(info.field)
    config = RunConfig.from_dict(nested)
    config._load_problems = loaded._load_problems
    config._notes = loaded.notes
    return config


def save_preset(adapters_dir: Path, name: str, config: RunConfig) -> Path:
    """Write the user's own preset; one of that name is replaced.

    Raises:
        ValueError: a name that cannot be a file's, or values that nobody can read.
        OSError: the folder cannot be written.
    """
    path = own_path(adapters_dir, name)
    if config._load_problems:
        wrong = ", ".join(problem.label for problem in config._load_problems)
        raise ValueError(f"Preset: mend these fields first: {wrong}.")
    path.parent.mkdir(parents=True, exist_ok=True)
    saved = config.model_copy(deep=True)
    for info in RunConfig.settings():
        if info.field in _NEVER_SAVED:
            setattr(getattr(saved, info.section), info.key, info.default)
    path.write_text(changes_yaml(saved), encoding="utf-8")
    return path


def own_path(adapters_dir: Path, name: str) -> Path:
    """The file of the user's own preset of a name.

    Raises:
        ValueError: a name that cannot be a file's, or that another preset has.
    """
    name = name.strip()
    problem = file_name_problem(name)
    if problem:
        raise ValueError(f"Save as: {problem[0]} Got: {name!r}. {problem[1]}")
    if len(name) > _MOST_SIGNS:
        raise ValueError(f"Save as: that is too long. Got: {len(name)} signs. Use at most {_MOST_SIGNS}.")
    taken = [preset.name.lower() for preset in list_presets(adapters_dir) if not preset.is_own]
    if name.lower() in taken:
        raise ValueError(f"Save as: that preset comes with the program and stays as it is. Got: {name!r}. Choose another name.")
    return adapters_dir / OWN_FOLDER / f"{name}.yaml"


def delete_preset(preset: Preset) -> None:
    """Delete one of the user's own.

    Raises:
        ValueError: it comes with the program.
        OSError: the file cannot be deleted.
    """
    if not preset.is_own or preset.path is None:
        raise ValueError(f"Preset: {preset.name!r} comes with the program and cannot be deleted.")
    preset.path.unlink()
