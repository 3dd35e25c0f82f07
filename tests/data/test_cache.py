"""The place of prepared data: whole or not there, whatever interrupts; what a dead process left is removed, what a live one writes is not."""

import errno
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from training_pro.data.cache import OWNER, filling, remove_abandoned

NAME = "0123456789abcdef"


def left_behind(cache: Path, name: str = "1", **owner: object) -> Path:
    """A folder as an interrupted preparation leaves it."""
    folder = cache / f".{NAME}.{name}.tmp"
    (folder / "train").mkdir(parents=True)
    (folder / "train/samples.arrow").write_bytes(b"half")
    if owner:
        (folder / OWNER).write_text(json.dumps(owner), encoding="utf-8")
    return folder


def test_a_whole_folder_takes_its_place(tmp_path: Path) -> None:
    with filling(tmp_path / "cache" / NAME) as folder:
        (folder / "report.json").write_text("{}", encoding="utf-8")
        assert [path.name for path in (tmp_path / "cache").iterdir()] == [folder.name]
    assert [path.name for path in (tmp_path / "cache").rglob("*")] == [NAME, "report.json"]


class Stopped(BaseException):
    """Like KeyboardInterrupt."""


@pytest.mark.parametrize("error", [KeyboardInterrupt, Stopped, ValueError, OSError])
def test_an_interruption_leaves_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    def fill() -> None:
        with filling(tmp_path / NAME) as folder:
            (folder / "train").mkdir()
            raise error

    with pytest.raises(error):
        fill()
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_told(tmp_path: Path) -> None:
    with (
        pytest.raises(
            ValueError, match=r"Data set: the prepared data do not fit on the disk of .* Free space there, or .*_CACHE"
        ),
        filling(tmp_path / NAME),
    ):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert list(tmp_path.iterdir()) == []


def test_what_dead_processes_left_is_removed(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    me = psutil.Process()
    here = platform.node()
    gone = [
        left_behind(tmp_path, "1", machine=here, pid=child.pid, started=1.0),
        left_behind(tmp_path, "2", machine=here, pid=me.pid, started=me.create_time() - 100),  # its number was given to another
        left_behind(tmp_path, "3", machine=here),
        left_behind(tmp_path, "4"),
        left_behind(tmp_path, "5", machine="elsewhere", pid=me.pid, started=1.0),
    ]
    long_ago = time.time() - 2 * 86_400
    for folder in gone[3:]:
        os.utime(folder, (long_ago, long_ago))
    kept = [
        left_behind(tmp_path, "6", machine=here, pid=me.pid, started=me.create_time()),
        left_behind(tmp_path, "7"),
        left_behind(tmp_path, "8", machine="elsewhere", pid=child.pid, started=1.0),
    ]
    (tmp_path / NAME).mkdir()
    assert sorted(remove_abandoned(tmp_path)) == sorted(folder.name for folder in gone)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*(folder.name for folder in kept), NAME])
    assert remove_abandoned(tmp_path / "absent") == []


def test_two_may_fill_the_same_place(tmp_path: Path) -> None:
    with filling(tmp_path / NAME) as first:
        with filling(tmp_path / NAME) as second:
            assert first != second
            for folder in (first, second):
                (folder / "report.json").write_text(folder.name, encoding="utf-8")
        assert first.is_dir()
    assert (tmp_path / NAME / "report.json").read_text(encoding="utf-8") == second.name
    assert len(list(tmp_path.iterdir())) == 1
