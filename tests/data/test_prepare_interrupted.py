"""What an interruption leaves, also a kill, and how progress is told."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tiny
import training_pro
from preparing import TEXT, chat, prepared, written
from training_pro.config import DataSettings
from training_pro.data import prepare as module
from training_pro.data import progress as progress_module
from training_pro.data.prepare import prepare
from training_pro.data.samples.chat import ChatSamples


class Stopped(BaseException):
    """Like KeyboardInterrupt."""


@pytest.mark.parametrize("error", [Stopped, KeyboardInterrupt, OSError])
def test_an_interruption_leaves_nothing(
    tmp_path: Path, chat_file: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    real, calls = ChatSamples.samples_many, []

    def interrupted(self: ChatSamples, *args: Any) -> Any:
        for made in real(self, *args):
            calls.append(1)
            if len(calls) == 10:
                raise error
            yield made

    monkeypatch.setattr(ChatSamples, "samples_many", interrupted)
    with pytest.raises(error):
        prepared(tmp_path, dataset=chat_file)
    assert len(calls) == 10
    assert list((tmp_path / "cache").iterdir()) == []
    assert len(prepared(tmp_path, dataset=chat_file).train) == 24


KILLED = """
import sys, time
from pathlib import Path
import tiny
from training_pro.config import DataSettings
from training_pro.data import stored
from training_pro.data.prepare import prepare

stored.TOKENS_AT_ONCE = 20

def progress(share, what):
    if share > 0.2:
        print("half", flush=True)
        time.sleep(60)

prepare(DataSettings(dataset=sys.argv[1]), tiny.fresh_tokenizer(), cache_dir=Path(sys.argv[2]), progress=progress)
"""


def test_a_killed_preparation_is_cleared_away_by_the_next(tmp_path: Path) -> None:
    """The process dies without a chance to clean up (SIGKILL, on Windows TerminateProcess)."""
    path = written(tmp_path, *[chat("who", "Oda " * 40)] * 3000)
    places = [str(Path(training_pro.__file__).parents[1]), str(Path(tiny.__file__).parent)]
    child = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(path), str(tmp_path / "cache")],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(places)},
        stdout=subprocess.PIPE,
    )
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == b"half\n"
        (half,) = (tmp_path / "cache").iterdir()
        assert (half / "train/samples.arrow").stat().st_size > 0
        other = prepared(tmp_path, dataset=written(tmp_path, chat("who", "Oda"), name="b.jsonl"))
        assert half.is_dir()  # of a living process
    finally:
        child.kill()
        child.wait()
    result = prepared(tmp_path, dataset=path)
    assert (result.report.cached, len(result.train)) == (False, 3000)
    assert len(other.train) == 1
    assert len(list((tmp_path / "cache").iterdir())) == 2
    assert not half.exists()


def test_another_process_may_be_faster(tmp_path: Path, chat_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared(tmp_path, dataset=chat_file)
    (folder,) = (tmp_path / "cache").iterdir()
    config = DataSettings(dataset=str(chat_file))
    module._prepare_into(folder, config, tiny.fresh_tokenizer(), None, None)  # finds the place taken
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [folder.name]
    (folder / "report.json").unlink()
    with pytest.raises(OSError, match="not empty"):
        module._prepare_into(folder, config, tiny.fresh_tokenizer(), None, None)


def test_progress_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress_module, "INTERVAL_SECONDS", 0.0)
    told: list[tuple[float, str]] = []
    config = DataSettings(
        dataset=str(written(tmp_path, *[chat("who", "Oda")] * 2500)), text_file=str(written(tmp_path, TEXT, name="a.txt"))
    )
    prepare(config, tiny.fresh_tokenizer(), cache_dir=tmp_path / "cache", progress=lambda *pair: told.append(pair))
    shares, words = [share for share, _ in told], [what for _, what in told]
    assert shares == sorted(shares)
    assert words[0].startswith("looking for prepared data: 0 MB compared")
    assert "a.jsonl: 1,250 rows" in words
    assert 0.3 < shares[words.index("a.jsonl: 1,250 rows")] < 0.7
    assert told[-1] == (1.0, "the data are prepared")


def test_progress_may_stop_it(tmp_path: Path, chat_file: Path) -> None:
    def stop(share: float, what: str) -> None:
        raise Stopped

    with pytest.raises(Stopped):
        prepare(DataSettings(dataset=str(chat_file)), tiny.fresh_tokenizer(), cache_dir=tmp_path / "cache", progress=stop)
    assert not (tmp_path / "cache").exists() or list((tmp_path / "cache").iterdir()) == []


def test_tokenizing_in_parallel_ends_with_the_preparation(monkeypatch: pytest.MonkeyPatch) -> None:
    for before, after in (("true", "true"), ("false", "false"), (None, "false")):
        monkeypatch.delenv("TOKENIZERS_PARALLELISM", raising=False)
        if before is not None:
            monkeypatch.setenv("TOKENIZERS_PARALLELISM", before)
        with module.tokenizing_on_all_cores():
            assert os.environ["TOKENIZERS_PARALLELISM"] == "true"
        assert os.environ["TOKENIZERS_PARALLELISM"] == after
