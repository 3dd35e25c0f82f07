"""The command line's part of the queue."""

import json
import time
from datetime import datetime, timedelta
from pathlib import Path

import pytest
import tiny
from training_pro import cli
from training_pro.runs.queue import Queue


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with data and settings that name them by their name only; the program was started in it."""
    rows = tiny.conversations(4)
    for name in ("chats.jsonl", "more.jsonl"):
        (tmp_path / name).write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    data = "data:\n  dataset: chats.jsonl\n  more_datasets: ['more.jsonl = 2, 50 %']\n"
    (tmp_path / "run.yaml").write_text(f"adapter:\n  name: from-cli\n{data}", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def queue(*arguments: str) -> int:
    return cli.main(["queue", *arguments])


def test_added_listed_removed(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert queue() == 0
    assert "Nothing waits in" in capsys.readouterr().out
    tomorrow = datetime.now() + timedelta(days=1)
    assert queue("add", "run.yaml", "--set", "epochs=2", "--at", "tomorrow 7:05") == 0
    assert "from-cli waits in" in capsys.readouterr().out
    entry = Queue(place / "loras").read().entries[0]
    assert entry.start_at == tomorrow.replace(hour=7, minute=5, second=0, microsecond=0).timestamp()
    assert entry.config["training"]["epochs"] == 2
    assert entry.model == "SmolLM2-135M-Instruct (embedded)"
    assert queue("list") == 0
    assert f"  1 from-cli                       waiting   not before {tomorrow:%Y-%m-%d} 07:05" in capsys.readouterr().out
    assert queue("remove", "1") == 0
    assert "from-cli was taken out" in capsys.readouterr().out
    assert Queue(place / "loras").read().entries == ()


def test_files_are_named_in_full(place: Path) -> None:
    assert queue("add", "run.yaml") == 0
    config = Queue(place / "loras").read().entries[0].config
    assert config["data"]["dataset"] == str(place / "chats.jsonl")
    assert config["data"]["more_datasets"] == [f"{place / 'more.jsonl'} = 2, 50 %"]
    assert config["run"]["adapters_dir"] == str(place / "loras")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("add", "run.yaml", "--at", "soon"), "Start time: 'soon' is no time"),
        (("add", "run.yaml", "--set", "epochs=0"), "Epochs"),
        (("add", "run.yaml", "--set", "if_exists=resume"), "there is nothing to resume"),
        (("remove", "1"), "There is no entry 1: the queue has 0"),
        (("remove", "0"), "There is no entry 0"),
    ],
)
def test_mistakes(place: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], words: str) -> None:
    assert queue(*arguments) == cli.EXIT_MISTAKE
    assert words in capsys.readouterr().err
    assert Queue(place / "loras").read().entries == ()


def test_a_name_that_is_taken(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert queue("add", "run.yaml") == 0
    assert queue("add", "run.yaml") == cli.EXIT_MISTAKE
    assert "an entry of the queue makes 'from-cli' already" in capsys.readouterr().err
    taken = place / "loras" / "taken"
    taken.mkdir()
    (taken / "adapter_config.json").touch()
    assert queue("add", "run.yaml", "--set", "name=taken") == cli.EXIT_MISTAKE
    assert "there is an adapter or run called 'taken' already" in capsys.readouterr().err
    assert queue("add", "run.yaml", "--set", "name=taken", "--set", "if_exists=resume") == cli.EXIT_MISTAKE
    assert "there is no checkpoint" in capsys.readouterr().err


def test_how_entries_ended_and_a_pause_are_shown(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    waiting = Queue(place / "loras")
    entry = waiting.add("a", {}, start_at=time.time() - 5)
    waiting.end(entry.id, "failed", "The disk is full.")
    waiting.pause(True)
    for arguments in (("list", "--adapters-dir", "loras"), ("--adapters-dir", "loras", "list"), ()):
        assert queue(*arguments) == 0
        out = capsys.readouterr().out
        assert "The disk is full." in out
    assert queue("--adapters-dir", "elsewhere", "list") == 0
    assert "Nothing waits in" in capsys.readouterr().out
    assert "failed\n    The disk is full." in out
    assert "The queue is paused." in out
