"""Run folders: nothing that exists is overwritten without a word, and a backup keeps every file."""

import os
import re
from pathlib import Path

import pytest
from training_pro.adapting.wish import ADAPTER_FILES
from training_pro.runs import store
from training_pro.runs.store import (
    RunFolder,
    back_up,
    list_runs,
    open_run_folder,
    read_json,
    set_aside,
    write_json,
)

DIARY = (
    "events.jsonl",
    "control.json",
    "training_parameters.json",
    "training_log.json",
    "training_graph.json",
    "training_graph.png",
)


def make(folder: Path, *names: str) -> RunFolder:
    """A run folder with files of these names; names that end in / are folders with a file in them."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        path = folder / (f"{name}state.bin" if name.endswith("/") else name)
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"content of {name}", encoding="utf-8")
    return RunFolder(folder)


def content(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


# --- JSON ----------------------------------------------------------------------------------------------------------------------


def test_json_is_written_readably(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"größe": [1, Path("x")]})
    assert path.read_text(encoding="utf-8") == '{\n  "größe": [\n    1,\n    "x"\n  ]\n}\n'
    assert read_json(path) == {"größe": [1, "x"]}
    assert list(tmp_path.iterdir()) == [path]


def test_json_that_is_missing_or_damaged(tmp_path: Path) -> None:
    assert read_json(tmp_path / "no.json") is None
    (tmp_path / "half.json").write_text('{"a": ', encoding="utf-8")
    assert read_json(tmp_path / "half.json") is None
    (tmp_path / "bytes.json").write_bytes(b"\xff")
    assert read_json(tmp_path / "bytes.json") is None


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.json"
    write_json(path, 1)

    def full(self: Path, text: str, encoding: str) -> int:
        self.touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="No space left"):
        write_json(path, 2)
    monkeypatch.undo()
    assert read_json(path) == 1
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(("refusals", "succeeds"), [(3, True), (99, False)])
def test_a_reader_on_windows_holds_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusals: int, succeeds: bool
) -> None:
    calls: list[int] = []
    real = os.replace

    def replace(source: Path, target: Path) -> None:
        calls.append(1)
        if len(calls) <= refusals:
            raise PermissionError(13, "The file is in use")
        real(source, target)

    monkeypatch.setattr(store.os, "replace", replace)
    monkeypatch.setattr(store.time, "sleep", lambda seconds: None)
    if succeeds:
        write_json(tmp_path / "a.json", 1)
        assert (read_json(tmp_path / "a.json"), len(calls)) == (1, 4)
    else:
        with pytest.raises(PermissionError, match="in use"):
            write_json(tmp_path / "a.json", 1)
        assert len(calls) == 20
        assert list(tmp_path.iterdir()) == []


# --- what a folder holds -------------------------------------------------------------------------------------------------------


def test_files_by_name(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "x")
    paths = (folder.events, folder.control, folder.parameters, folder.log, folder.graph_data, folder.graph)
    assert tuple(path.name for path in paths) == DIARY
    assert {path.parent for path in paths} == {tmp_path / "x"}
    assert folder.name == "x"


@pytest.mark.parametrize(
    ("names", "has_adapter", "has_result"),
    [
        ((), False, False),
        (DIARY, False, False),
        (ADAPTER_FILES, True, True),
        ((*DIARY, *ADAPTER_FILES), True, True),
        (("adapter_config.json",), False, True),
        ((*DIARY, "checkpoint-10/"), False, True),
        (("notes.txt",), False, True),
    ],
)
def test_what_must_not_be_lost(tmp_path: Path, names: tuple[str, ...], has_adapter: bool, has_result: bool) -> None:
    folder = make(tmp_path / "x", *names)
    assert (folder.has_adapter, folder.has_result) == (has_adapter, has_result)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "x")
    assert (folder.has_adapter, folder.has_result) == (False, False)


# --- opening -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("if_exists", ["stop", "replace", "new name"])
@pytest.mark.parametrize("names", [None, (), DIARY])
def test_a_new_name_or_a_failed_attempt_blocks_nothing(tmp_path: Path, if_exists: str, names: tuple[str, ...] | None) -> None:
    if names is not None:
        make(tmp_path / "loras/x", *names)
    folder = open_run_folder(tmp_path / "loras", "x", if_exists)
    assert folder.path == tmp_path / "loras/x"
    assert folder.path.is_dir()
    assert set(content(folder.path)) == set(names or ())


def test_stop(tmp_path: Path) -> None:
    make(tmp_path / "x", *ADAPTER_FILES)
    message = (
        f"Name: there is an adapter or run called 'x' already ({tmp_path / 'x'}). Choose another name, or say under 'If the name"
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        open_run_folder(tmp_path, "x", "stop")
    assert len(content(tmp_path / "x")) == 2


def test_replace_keeps_every_file_in_a_dated_backup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store.time, "strftime", lambda form: {"%Y-%m-%d-%Hh%M": "2026-01-31-12h05"}[form])
    for number, backup in enumerate(
        ("x-backup-2026-01-31-12h05-np", "x-backup-2026-01-31-12h05-2-np", "x-backup-2026-01-31-12h05-3-np")
    ):
        before = content(make(tmp_path / "x", *DIARY, *ADAPTER_FILES, "checkpoint-5/", f"notes-{number}.txt").path)
        assert len(before) == 10
        folder = open_run_folder(tmp_path, "x", "replace")
        assert (folder.path, content(folder.path)) == (tmp_path / "x", {})
        assert content(tmp_path / backup) == before
    assert len(list(tmp_path.iterdir())) == 4


def test_a_new_name_counts_up(tmp_path: Path) -> None:
    make(tmp_path / "x", *ADAPTER_FILES)
    make(tmp_path / "x-2")
    assert open_run_folder(tmp_path, "x", "new name").path == tmp_path / "x-3"
    assert len(content(tmp_path / "x")) == 2


def test_resume_and_continue_take_what_is_there(tmp_path: Path) -> None:
    names = (*DIARY, *ADAPTER_FILES, "checkpoint-5/")
    make(tmp_path / "x", *names)
    for if_exists in ("resume", "continue"):
        assert open_run_folder(tmp_path, "x", if_exists).path == tmp_path / "x"
        assert len(content(tmp_path / "x")) == len(names)
    make(tmp_path / "y", "checkpoint-5/")
    assert open_run_folder(tmp_path, "y", "resume").path == tmp_path / "y"


@pytest.mark.parametrize("names", [None, DIARY])
def test_nothing_to_resume(tmp_path: Path, names: tuple[str, ...] | None) -> None:
    if names:
        make(tmp_path / "x", *names)
    with pytest.raises(
        ValueError, match="If the name exists: there is nothing to resume at .*x. Check the Name, or choose 'stop'"
    ):
        open_run_folder(tmp_path, "x", "resume")


@pytest.mark.parametrize("names", [None, DIARY, ("checkpoint-5/",), ("adapter_config.json",)])
def test_nothing_to_continue(tmp_path: Path, names: tuple[str, ...] | None) -> None:
    if names:
        make(tmp_path / "x", *names)
    with pytest.raises(
        ValueError, match="If the name exists: there is no adapter to continue at .*x. Choose 'resume', or another"
    ):
        open_run_folder(tmp_path, "x", "continue")


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        open_run_folder(tmp_path / "file", "x", "stop")


# --- backups and lists ---------------------------------------------------------------------------------------------------------


def test_set_aside_keeps_the_adapter_where_it_was(tmp_path: Path) -> None:
    before = content(make(tmp_path / "x", *DIARY, *ADAPTER_FILES, "checkpoint-5/").path)
    backup = set_aside(RunFolder(tmp_path / "x"))
    assert content(backup) == before
    assert content(tmp_path / "x") == {name: before[name] for name in ADAPTER_FILES}
    assert re.fullmatch(r"x-backup-\d{4}-\d\d-\d\d-\d\dh\d\d-np", backup.name)
    bare = set_aside(make(tmp_path / "y", "checkpoint-5/"))
    assert (content(tmp_path / "y"), list(content(bare))) == ({}, ["checkpoint-5/state.bin"])


def test_the_webuis_list_hides_backups(tmp_path: Path) -> None:
    make(tmp_path / "x", *ADAPTER_FILES)
    assert back_up(RunFolder(tmp_path / "x")).name.endswith((".txt", "-np", ".pt", ".json"))  # what the WebUI hides


def test_runs_are_listed_newest_first(tmp_path: Path) -> None:
    make(tmp_path / "old", *ADAPTER_FILES)
    make(tmp_path / "new", "training_parameters.json")
    make(tmp_path / "empty")
    make(tmp_path / ".hidden", *ADAPTER_FILES)
    (tmp_path / "file.txt").touch()
    for age, name in enumerate(("new", "old")):
        os.utime(tmp_path / name, (1000 - age, 1000 - age))
    assert [folder.name for folder in list_runs(tmp_path)] == ["new", "old"]
    assert list_runs(tmp_path / "nowhere") == []


# --- several programs ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("if_exists", ["stop", "resume", "continue", "replace"])
def test_a_folder_in_which_another_program_trains(tmp_path: Path, if_exists: str) -> None:
    import psutil
    from training_pro.runs.events import EventWriter

    folder = make(tmp_path / "a")
    diary = EventWriter(folder.events)
    diary("run_started", name="a", pid=os.getppid(), process_started=psutil.Process(os.getppid()).create_time())
    with pytest.raises(ValueError, match=rf"Name: 'a' is being trained by another program now .process {os.getppid()}."):
        open_run_folder(tmp_path, "a", if_exists)
    assert open_run_folder(tmp_path, "a", "new name").name == "a-2"
    diary("run_ended", status="failed")
    diary.close()
    assert open_run_folder(tmp_path, "a", "stop").name == "a"  # an attempt that left nothing but its diary


def test_a_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    with pytest.raises(ValueError, match="is a file, or another program made it just now"):
        open_run_folder(tmp_path, "a", "stop")


def test_detailed_logs_are_no_result(tmp_path: Path) -> None:
    folder = make(tmp_path / "a", "logs/")
    assert not folder.has_result
    assert make(tmp_path / "a", "adapter_config.json").has_result
