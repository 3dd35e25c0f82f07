"""Wishes of the user: written whole, read at every step, never an error of the training."""

import os
from pathlib import Path

import pytest
from training_pro.runs.control import Control, ControlReader, change_control, read_control


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "control.json"


def test_no_file_no_wishes(path: Path) -> None:
    assert read_control(path) == Control(stop=False, save_requests=0, stop_at_loss=None) == ControlReader(path).read()


def test_a_change_keeps_the_other_wishes(path: Path) -> None:
    assert change_control(path, save_requests=1) == Control(save_requests=1)
    assert change_control(path, stop_at_loss=1.5) == Control(save_requests=1, stop_at_loss=1.5)
    assert change_control(path, phase_requests=2) == Control(save_requests=1, stop_at_loss=1.5, phase_requests=2)
    assert change_control(path, stop=True) == Control(True, 1, 1.5, 2) == read_control(path)


def test_a_wish_that_there_is_not(path: Path) -> None:
    with pytest.raises(TypeError, match="stopp"):
        change_control(path, stopp=True)
    assert not path.exists()


@pytest.mark.parametrize("text", ["", "[]", "{", "3"])
def test_a_damaged_file_holds_no_wishes(path: Path, text: str) -> None:
    path.write_text(text)
    assert read_control(path) == Control()


def test_wishes_of_a_later_version_are_ignored(path: Path) -> None:
    path.write_text('{"stop": true, "skip_phase": 3}')
    assert read_control(path) == Control(stop=True)


def test_the_reader_sees_changes_and_reads_only_those(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[Path] = []
    monkeypatch.setattr("training_pro.runs.control.read_json", lambda place: reads.append(place) or {"save_requests": len(reads)})
    reader = ControlReader(path)
    assert reader.read() == Control()
    path.write_text("1")
    assert [reader.read().save_requests for _ in range(3)] == [1, 1, 1]
    path.write_text("22")
    assert [reader.read().save_requests for _ in range(3)] == [2, 2, 2]
    assert len(reads) == 2


def test_a_change_in_the_same_moment_and_of_the_same_length_is_seen(path: Path) -> None:
    reader = ControlReader(path)
    for number in (1, 2, 3):
        change_control(path, save_requests=number)
        os.utime(path, (1000, 1000))
        assert reader.read().save_requests == number


def test_a_removed_file_takes_the_wishes_back(path: Path) -> None:
    reader = ControlReader(path)
    change_control(path, stop=True)
    assert reader.read().stop
    path.unlink()
    assert not reader.read().stop
