"""Deleting a run: only what lies in the adapters' folder, never what a link points at, never a run that is going on."""

import os
import shutil
from pathlib import Path
from typing import Any

import psutil
import pytest
from training_pro.runs import registry
from training_pro.runs.events import EventWriter
from training_pro.runs.removal import removal_of, removal_problem, remove_run
from training_pro.runs.store import RunFolder, list_runs, write_json


@pytest.fixture
def adapters(tmp_path: Path) -> Path:
    return tmp_path / "loras"


def make(path: Path, *, running: bool = False) -> RunFolder:
    folder = RunFolder(path)
    (path / "checkpoint-3").mkdir(parents=True)
    (path / "checkpoint-3" / "state.bin").write_bytes(b"x" * 1000)
    write_json(folder.parameters, {})
    diary = EventWriter(folder.events)
    parent = os.getppid()
    diary("run_started", name="a", pid=parent, process_started=psutil.Process(parent).create_time())
    if not running:
        diary("run_ended", status="finished")
    diary.close()
    return folder


def test_a_run_is_gone_for_good(adapters: Path) -> None:
    run, other = make(adapters / "a"), make(adapters / "b")
    found = removal_of(run)
    assert found.num_files == 3
    assert found.num_bytes == 1000 + run.events.stat().st_size + run.parameters.stat().st_size
    remove_run(run, adapters)
    assert [path.name for path in adapters.iterdir()] == ["b"]
    assert other.events.is_file()


def test_nothing_elsewhere(adapters: Path, tmp_path: Path) -> None:
    make(adapters / "a")
    outside = make(tmp_path / "outside")
    for path in (outside.path, adapters, adapters / "a" / "checkpoint-3", adapters / "..", adapters / "." / ".." / "outside"):
        with pytest.raises(ValueError, match="so it is not deleted"):
            remove_run(RunFolder(path), adapters)
    with pytest.raises(ValueError, match="x is not there any more"):
        remove_run(RunFolder(adapters / "x"), adapters)
    assert (adapters / "a" / "checkpoint-3").is_dir()
    assert outside.events.is_file()


def test_what_a_link_points_at_stays(adapters: Path, tmp_path: Path) -> None:
    outside = make(tmp_path / "outside")
    adapters.mkdir()
    try:
        (adapters / "link").symlink_to(outside.path, target_is_directory=True)
    except OSError:
        pytest.skip("this system lets no user make links")
    with pytest.raises(ValueError, match="link is a link to .*outside"):
        remove_run(RunFolder(adapters / "link"), adapters)
    inner = make(adapters / "a")
    (inner.path / "data").symlink_to(outside.path, target_is_directory=True)
    assert removal_of(inner).num_files == 4
    remove_run(inner, adapters)
    assert removal_of(outside).num_files == 3
    assert not inner.path.exists()


def test_an_adapters_folder_behind_a_link_is_no_link(adapters: Path, tmp_path: Path) -> None:
    run = make(adapters / "a")
    try:
        (tmp_path / "elsewhere").symlink_to(adapters, target_is_directory=True)
    except OSError:
        pytest.skip("this system lets no user make links")
    remove_run(RunFolder(tmp_path / "elsewhere" / "a"), tmp_path / "elsewhere")
    assert not run.path.exists()


def test_a_run_that_is_going_on_stays(adapters: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make(adapters / "a", running=True)
    with pytest.raises(ValueError, match="a is going on and cannot be deleted. Stop it first"):
        remove_run(run, adapters)
    monkeypatch.setattr(registry, "_current", None)
    starting = make(adapters / "b")
    registry.claim("b")  # its folder is not open yet
    try:
        assert "is going on" in removal_problem(starting, adapters)
        assert removal_problem(make(adapters / "c"), adapters) == ""
    finally:
        registry.release()
    assert removal_problem(starting, adapters) == ""


def test_what_cannot_be_deleted_is_said(adapters: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any) -> None:
        raise PermissionError(13, "in use")

    run = make(adapters / "a")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", refuse)
        with pytest.raises(OSError, match="a could not be deleted: .*in use. Does another program have it open"):
            remove_run(run, adapters)
    assert removal_of(run).num_files == 3
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", refuse)
        with pytest.raises(OSError, match="a could not be deleted whole: .*What is left lies in .*-deleted-"):
            remove_run(run, adapters)
    assert list_runs(adapters) == []  # what is left shows in no list
