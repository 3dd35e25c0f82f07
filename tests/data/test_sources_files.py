"""Paths in, files out: the order, what is left out, and what is refused."""

import os
from itertools import permutations
from pathlib import Path

import pytest
from training_pro.data.sources import files as sources_files
from training_pro.data.sources.files import list_files, natural_key

NAMES = ["a/file2.txt", "a/file10.txt", "b.md", "file1.txt", "File3.txt", "file20.jsonl", "z/deep/er/x.JSON"]


def written(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x", encoding="utf-8")


def names_in(folder: Path, **options) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in list_files(folder, **options)]


@pytest.mark.parametrize("order", list(permutations(["file1", "file2", "file10", "File11"])))
def test_natural_order_does_not_depend_on_the_given_one(order):
    assert sorted(order, key=natural_key) == ["file1", "file2", "file10", "File11"]


def test_a_folder_is_listed_in_natural_order(tmp_path):
    written(tmp_path, *reversed(NAMES), ".git/x.txt", ".hidden.txt", "table.csv", "a/picture.png")
    notes: list[str] = []
    assert names_in(tmp_path, notes=notes) == NAMES
    assert notes == ["files of other kinds not read (2): a/picture.png, table.csv"]


def test_a_single_file_is_itself(tmp_path):
    written(tmp_path, ".hidden.txt")
    assert list_files(tmp_path / ".hidden.txt") == [tmp_path / ".hidden.txt"]


def test_linked_folders_are_read_once_and_loops_end(tmp_path):
    written(tmp_path, "real/a.txt")
    root = tmp_path / "root"
    root.mkdir()
    for name in ("link2", "link1"):
        (root / name).symlink_to(tmp_path / "real")
    (tmp_path / "real" / "loop").symlink_to(root)
    assert names_in(root) == ["link1/a.txt"]


def test_paths_that_cannot_be_read(tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    (tmp_path / "circle.txt").symlink_to(tmp_path / "circle.txt")
    for path, message in (
        ("", "Text file: no file is chosen. Choose a file"),
        (tmp_path / "none.txt", "Text file: .*none.txt does not exist. Check the path"),
        (empty, "Text file: the folder .*empty holds no file that can be read. Put files there that end in .txt"),
        (tmp_path / "circle.txt", "Text file: .*circle.txt cannot be read .*Check its permissions"),
    ):
        with pytest.raises(ValueError, match=message):
            list_files(path, label="Text file")


@pytest.mark.skipif(os.name != "posix", reason="a device file")
def test_a_device_is_no_file():
    with pytest.raises(ValueError, match="null is neither a file nor a folder"):
        list_files(os.devnull)


def test_a_folder_that_the_system_refuses(tmp_path, monkeypatch):
    def walk(root, onerror, followlinks):
        onerror(PermissionError(13, "Permission denied", str(root / "sub")))
        yield from ()

    monkeypatch.setattr(sources_files.os, "walk", walk)
    with pytest.raises(ValueError, match=r"Data set: .*sub cannot be read \(Permission denied\)"):
        list_files(tmp_path)


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.csv", b"a,b", r"Data set: the ending of .*a.csv is none of \.txt, .*\.jsonl, \.ndjson. Save it as one of these"),
        ("a", b"x", "the ending of .*a is none of"),
        ("a.parquet", b"PAR1..", "a.parquet is a Parquet table, not text. Save it as JSON lines"),
    ],
)
def test_files_of_other_kinds(tmp_path, name, data, message):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ValueError, match=message):
        list_files(tmp_path / name)
