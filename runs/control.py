"""What the user asks of a running training, through a small file in the run's folder.

The same file works for the tab, the standalone page, the command line and under accelerate: rank 0 reads it at every step and
tells the other ranks.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from pathlib import Path

from .store import read_json, write_json


@dataclass(frozen=True)
class Control:
    """Wishes of the user.

    Attributes:
        stop: end the run now, save and keep what was learned.
        save_requests: how often "save now" was pressed; a save happens when the number has grown.
        stop_at_loss: stop at or under this smoothed loss; None leaves the configuration's value, 0 = off.
        phase_requests: how often "next phase now" was pressed; the next phase begins when the number has grown.
    """

    stop: bool = False
    save_requests: int = 0
    stop_at_loss: float | None = None
    phase_requests: int = 0


def read_control(path: Path) -> Control:
    """The present wishes; none if there is no file."""
    data = read_json(path)
    if not isinstance(data, dict):
        return Control()
    known = {field.name for field in fields(Control)}
    return Control(**{name: value for name, value in data.items() if name in known})


def change_control(path: Path, **changes: object) -> Control:
    """Change some wishes and write them all; returns what is now asked for."""
    control = Control(**{**asdict(read_control(path)), **changes})
    write_json(path, asdict(control))
    return control


class ControlReader:
    """Reads the file only when it has changed: cheap enough for every step."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp: tuple[int, int, int] | None = None
        self._control = Control()

    def read(self) -> Control:
        """The present wishes."""
        try:
            stat = self._path.stat()
        except OSError:
            return Control()
        stamp = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
        if stamp != self._stamp:
            self._stamp, self._control = stamp, read_control(self._path)
        return self._control
