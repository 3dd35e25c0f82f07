"""Results appear whole or not at all, nothing is overwritten, and a full disk is known beforehand."""

from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest
from training_pro.export.files import gigabytes, new_file, new_folder, require_space


def test_a_folder_appears_at_the_end(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "result"
    with new_folder(target) as folder:
        (folder / "file").write_text("x")
        assert not target.exists()
    assert (target / "file").read_text() == "x"
    assert [path.name for path in target.parent.iterdir()] == ["result"]


def test_a_file_appears_at_the_end(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "result.gguf"
    with new_file(target) as file:
        file.write_text("x")
        assert not target.exists()
    assert target.read_text() == "x"
    assert [path.name for path in target.parent.iterdir()] == ["result.gguf"]


def write(make: Any, target: Path, then: Any) -> None:
    with make(target) as place:
        (place / "part" if place.is_dir() else place).write_text("x")
        then()


def stop() -> None:
    raise RuntimeError("stop")


@pytest.mark.parametrize("make", [new_folder, new_file])
def test_nothing_is_left_of_what_failed(tmp_path: Path, make: Any) -> None:
    with pytest.raises(RuntimeError, match="stop"):
        write(make, tmp_path / "result", stop)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("make", [new_folder, new_file])
def test_nothing_is_overwritten(tmp_path: Path, make: Any) -> None:
    target = tmp_path / "result"
    target.write_text("mine")
    with pytest.raises(ValueError, match=r"exists, and nothing is overwritten.*--out"):
        write(make, target, stop)
    target.unlink()
    with pytest.raises(ValueError, match="exists, and nothing is overwritten"):
        write(make, target, lambda: target.write_text("somebody was faster"))
    assert [path.name for path in tmp_path.iterdir()] == ["result"]
    assert target.read_text() == "somebody was faster"


def test_a_full_disk_is_known_beforehand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda place: usage(10**12, 0, 3 * 10**9))
    require_space(tmp_path / "not" / "yet" / "there", 2 * 10**9)
    with pytest.raises(ValueError, match=r"not enough space for .*: 4\.1 GB are needed, 3\.0 GB are free.*--out"):
        require_space(tmp_path / "not" / "yet" / "there", 4 * 10**9)


def test_sizes_for_people() -> None:
    assert (gigabytes(1_520_000_000), gigabytes(2_340_000)) == ("1.5 GB", "2.3 MB")
