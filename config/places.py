"""Settings that name files and folders, made independent of the folder in which the program was started."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..data.origins import parse_origin

if TYPE_CHECKING:
    from .model import RunConfig

_PLACES = ("model.path", "data.dataset", "data.text_file", "data.eval_dataset", "data.format_file", "run.adapters_dir")


def with_absolute_places(config: RunConfig) -> RunConfig:
    """A copy whose files and folders are named in full; what is not there stays as it was written.

    Settings that wait in the queue may be trained by a program that was started somewhere else.
    """
    values = config.to_dict()
    for field in _PLACES:
        section, key = field.split(".")
        if field == "run.adapters_dir" or _is_there(values[section][key]):
            values[section][key] = _absolute(values[section][key])
    more = []
    for line in config.data.more_datasets:
        path = parse_origin(line).path
        more.append(line.replace(path, _absolute(path), 1) if _is_there(path) else line)
    values["data"]["more_datasets"] = more
    made = type(config).from_dict(values)
    made._load_problems = [*config._load_problems, *made._load_problems]
    return made


def _is_there(path: str) -> bool:
    return bool(path) and Path(path).expanduser().exists()


def _absolute(path: str) -> str:
    return str(Path(path).expanduser().absolute())
