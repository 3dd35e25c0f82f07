"""The table of checkpoints without a browser: what it shows, and what its buttons do and refuse."""

import dataclasses
import os
from pathlib import Path
from typing import Any

import pytest
from fake_host import FakeHost, write_steps

if not os.environ.get("CI"):  # there a missing gradio is an error
    pytest.importorskip("gradio")

from training_pro.config import RunConfig
from training_pro.runs.checkpoints import CheckpointRow, checkpoint_rows
from training_pro.runs.store import RunFolder, write_json
from training_pro.ui.live import checkpoints as module
from training_pro.ui.live.checkpoints import CheckpointsPart, CheckpointTable, checkpoints_html, choices_of, resume_config
from training_pro.ui.session import PageSession

EVIL = '<img src=x onerror="alert(1)">'


def row(step: int, name: str = "", **more: Any) -> CheckpointRow:
    known = {"epoch": step / 10, "loss": 2.0, "eval_loss": None, "cause": "steps", "num_bytes": 2048}
    return CheckpointRow(Path(name or f"checkpoint-{step}"), step, **{**known, "is_complete": True, "is_best": False, **more})


@pytest.fixture
def folder(fake: FakeHost) -> RunFolder:
    data = {
        "adapter": {"name": "run", "rank": 5},
        "data": {"dataset": str(fake.data)},
        "run": {"adapters_dir": str(fake.adapters)},
    }
    made = fake.host.launch(RunConfig.from_dict(data)).folder
    assert made is not None
    write_steps(fake.emit, 30)
    for step in (10, 20):
        make_checkpoint(made, step)
    return made


def make_checkpoint(folder: RunFolder, step: int) -> Path:
    place = folder.path / f"checkpoint-{step}"
    place.mkdir()
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        (place / name).write_text(str(step), encoding="utf-8")
    write_json(place / "training_pro.json", {"cause": "steps", "loss": 2.5, "saved": float(step)})
    return place


def part(fake: FakeHost, **host: Any) -> CheckpointsPart:
    return CheckpointsPart(dataclasses.replace(fake.host, **host), None, None, None, None, None)


def test_the_table_newest_first() -> None:
    rows = [
        row(10, is_best=True, eval_loss=1.5),
        row(20, "checkpoint-20-user", cause="user"),
        row(30, cause=EVIL, is_complete=False),
    ]
    html = checkpoints_html(rows)
    assert html.index("step 30") < html.index("step 20 (yours)") < html.index("step 10")
    assert html.count(">best<") == html.count(">not whole<") == 1
    for words in ("1.500", "2.0 kB", "you asked for it", "every n steps"):
        assert words in html
    assert "<img" not in html
    assert choices_of(rows)[1:] == [
        ("step 20 (yours) · loss 2.000", "checkpoint-20-user"),
        ("step 10 · loss 2.000 · evaluation 1.500", "checkpoint-10"),
    ]
    assert "no checkpoint yet" in checkpoints_html([])


def test_what_is_done_while_the_run_goes_on_and_after_it(fake: FakeHost, folder: RunFolder) -> None:
    page, session = part(fake), PageSession()
    for refused in (page.use(session, "checkpoint-10"), page.delete(session, "checkpoint-10")):
        assert "the run is going on" in refused[0]
    fake.end("interrupted")
    said, _, table, choices = page.use(session, "checkpoint-10")
    assert "checkpoint-10 is the adapter" in said
    assert choices["value"] == "checkpoint-10"  # it stays chosen
    assert (folder.path / "adapter_model.safetensors").read_text() == "10"
    said, question, asked = page.ask(session, "checkpoint-20")
    assert question["visible"]
    assert "checkpoint-20 would be deleted for good" in asked
    assert page.keep()[1]["visible"] is False
    said, question, table, choices = page.delete(session, "checkpoint-20")
    assert "checkpoint-20 was deleted." in said
    assert "step 20" not in table
    assert ([name for _, name in choices["choices"]], choices["value"]) == (["checkpoint-10"], None)
    assert [entry.path.name for entry in checkpoint_rows(folder)] == ["checkpoint-10"]
    assert "it is not there any more" in page.delete(session, "checkpoint-20")[0]
    assert "Choose a checkpoint first." in page.ask(session, None)[0]


def test_nothing_is_done_where_nothing_may_be_changed_or_another_run_is_shown(fake: FakeHost, folder: RunFolder) -> None:
    fake.end("interrupted")
    locked = part(fake, read_only=lambda: "Several users share it.")
    stale = PageSession(folder=fake.adapters / "other", started=1.0)
    for answer in (locked.delete(PageSession(), "checkpoint-10"), locked.use(PageSession(), "checkpoint-10")):
        assert "Several users share it." in answer[0]
    for answer in (part(fake).delete(stale, "checkpoint-10"), part(fake).use(stale, "checkpoint-10")):
        assert "this page still showed other" in answer[0]
    assert len(checkpoint_rows(folder)) == 2
    assert not folder.has_adapter


def test_the_parameters_to_resume_with(folder: RunFolder) -> None:
    adapter = resume_config(folder, "checkpoint-10").adapter
    assert (adapter.name, adapter.if_exists, adapter.resume_from, adapter.rank) == ("run", "resume", "checkpoint-10", 5)
    (folder.path / "checkpoint-20" / "training_pro.json").unlink()
    with pytest.raises(ValueError, match="Checkpoint checkpoint-20: it is not whole"):
        resume_config(folder, "checkpoint-20")
    with pytest.raises(ValueError, match="Choose a checkpoint first"):
        resume_config(folder, "")


def test_the_markers_are_read_again_only_after_news(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    reads = []
    monkeypatch.setattr(module, "checkpoint_rows", lambda given: reads.append(given) or checkpoint_rows(given))
    table = CheckpointTable()
    assert len(table.rows(folder.path, 1)) == 2
    table.rows(folder.path, 1)
    assert len(reads) == 1
    table.rows(folder.path, 2)  # the diary says that one is whole now
    make_checkpoint(folder, 30)
    assert len(table.rows(folder.path, 2)) == 3
    assert len(reads) == 3
    assert table.rows(folder.path / "gone") == []
