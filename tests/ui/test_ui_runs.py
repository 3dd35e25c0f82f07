"""What the page of runs says, and that it deletes nothing that it should not."""

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("gradio")

from fake_host import FakeHost, save_adapter, start_diary, write_steps
from training_pro.config import RunConfig
from training_pro.runs import registry
from training_pro.runs.state import RunState, read_state
from training_pro.runs.store import RunFolder
from training_pro.runs.summary import RunSummary, is_going_on
from training_pro.ui.runs.list import compare_html, details_html, differing_settings, result_rows, runs_html, unusual_settings
from training_pro.ui.runs.page import BY_NAME, NEWEST, RunsPage, config_of, in_order
from training_pro.ui.runs.watch import ListSession, SharedRuns, changes


def config(**sections: Any) -> RunConfig:
    return RunConfig.from_dict(sections)


def test_only_what_differs_is_compared() -> None:
    one, two = config(adapter={"name": "a", "rank": 8}), config(adapter={"name": "b", "rank": 8}, training={"epochs": 2})
    assert differing_settings([one, two]) == [("Epochs", ["3", "2"])]
    assert differing_settings([one, None, two]) == [("Epochs", ["3", "?", "2"])]
    assert differing_settings([one, None]) == []
    assert unusual_settings(two) == [("LoRA Rank", "8"), ("Epochs", "2")]


def test_names_are_escaped(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "<b>x</b>")
    summary = RunSummary(folder, "failed", data="<i>y</i>", message="<u>")
    for html in (runs_html([summary]), details_html(folder, RunState(), None), compare_html([(folder, RunState(), None)] * 2)):
        assert "<b>x</b>" not in html
        assert "<i>y" not in html


def test_results_of_runs_with_and_without_evaluations() -> None:
    state = RunState(status="finished", started=10, updated=80, steps=[{"step": 4, "smoothed_loss": 1.5}])
    state.evaluations = [{"loss": 2.0}, {"loss": None}, {"loss": 1.25}, {"loss": 1.75}]
    rows = dict(result_rows([state, RunState()]))
    assert rows["Best evaluation loss"] == ["1.250", "–"]
    assert rows["Evaluation loss"] == ["1.750", "–"]
    assert rows["Took"] == ["1 min 10 s", "–"]
    assert rows["State"] == ["finished", "adapter only"]


def test_ids_come_once_on_a_page(tmp_path: Path) -> None:
    emit = start_diary(RunFolder(tmp_path / "a"))
    write_steps(emit, 3)
    emit.close()
    folder = RunFolder(tmp_path / "a")
    html = details_html(folder, read_state(folder), None)
    assert 'id="tph-status"' not in html
    assert 'id="tph-curve"' not in html
    assert 'data-part="tph-status"' in html


@pytest.fixture
def page(tmp_path: Path) -> RunsPage:
    return RunsPage(FakeHost(tmp_path).host, None, None, None, {}, [])


def test_nothing_outside_the_adapters_folder_is_deleted(page: RunsPage, tmp_path: Path) -> None:
    own = page.host.adapters_dir()
    (own / "a" / "checkpoint-1").mkdir(parents=True)
    outside = tmp_path / "outside"
    outside.mkdir()
    note = page.delete(
        [str(outside), str(own), str(own / ".." / "outside"), str(own / "a" / "checkpoint-1"), str(own / "no")], ListSession()
    )[0]
    assert outside.is_dir()
    assert (own / "a" / "checkpoint-1").is_dir()
    assert "not there any more" in note
    assert "Deleted" not in note


def test_a_run_of_this_process_is_going_on_before_its_diary_begins(page: RunsPage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_current", None)
    handle = registry.claim("a")
    try:
        handle.folder = RunFolder(page.host.adapters_dir() / "a")
        handle.folder.path.mkdir()
        assert is_going_on(handle.folder)
        assert "cannot be deleted" in page.ask([str(handle.folder.path)])[0]
        page.delete([str(handle.folder.path)], ListSession())
        assert handle.folder.path.is_dir()
    finally:
        registry.release()
    assert not is_going_on(handle.folder)


def test_parameters_of_not_exactly_one_run() -> None:
    for paths in (None, [], ["a", "b"]):
        with pytest.raises(ValueError, match="Choose one run first"):
            config_of(paths)


def test_runs_by_name() -> None:
    runs = [RunSummary(RunFolder(Path(name))) for name in ("run10", "b", "run9", "A2", "10", "a10")]
    assert [run.name for run in in_order(runs, BY_NAME)] == ["10", "A2", "a10", "b", "run9", "run10"]
    assert in_order(runs, NEWEST) == runs
    assert in_order(runs, "") == runs


def test_the_question_names_what_goes_and_only_that_is_deleted(page: RunsPage) -> None:
    own = page.host.adapters_dir()
    for name in ("a", "b"):
        emit = start_diary(RunFolder(own / name), 2**22 - 3, 1.0)
        emit("run_ended", status="finished")
        emit.close()
    _, _, asked, named = page.ask([str(own / "a")])
    assert "a would be deleted for good: 2 files" in asked
    assert "There is no bin" in asked
    assert named == [str(own / "a")]
    assert "Deleted: a." in page.delete(named, ListSession())[0]
    assert (own / "b").is_dir()
    assert not (own / "a").exists()
    assert "Choose runs first" in page.ask([])[0]


def test_a_read_only_host_deletes_nothing(tmp_path: Path) -> None:
    fake = FakeHost(tmp_path)
    fake.read_only = "Multi-user mode."
    page = RunsPage(fake.host, None, None, None, {}, [])
    (fake.adapters / "a").mkdir()
    assert "Multi-user mode." in page.ask([str(fake.adapters / "a")])[0]
    assert "Multi-user mode." in page.delete([str(fake.adapters / "a")], ListSession())[0]
    assert (fake.adapters / "a").is_dir()


def test_a_running_run_is_not_trained_further(page: RunsPage) -> None:
    import os

    import psutil

    folder = RunFolder(page.host.adapters_dir() / "a")
    parent = os.getppid()
    emit = start_diary(folder, parent, psutil.Process(parent).create_time())
    write_steps(emit, 3)
    save_adapter(folder)
    buttons = [update["interactive"] for update in page.show([str(folder.path)])[2:6]]
    assert buttons == [True, False, False, True]  # parameters, further, go on, delete
    emit("run_ended", status="finished")
    emit.close()
    assert [update["interactive"] for update in page.show([str(folder.path)])[2:6]] == [True, True, False, True]


def test_the_streams_first_word_is_everything_and_then_only_news() -> None:
    import asyncio

    looks = iter([[("a", 1), ("b", 2)], [("a", 1), ("b", 2)], [("a", 1), ("c", 3)]])

    async def first_two() -> list[list[Any]]:
        found = []
        async for news in changes(lambda: next(looks)):
            found.append(news)
            if len(found) == 2:
                break
        return found

    assert asyncio.run(first_two()) == [[1, 2], [None, 3]]


def test_the_runs_are_read_once_for_all_pages(tmp_path: Path) -> None:
    shared = SharedRuns(lambda: tmp_path)
    assert shared.read() == []
    emit = start_diary(RunFolder(tmp_path / "a"))
    emit.close()
    assert shared.read() == []  # a moment ago there was none
    assert [run.name for run in shared.read(anew=True)] == ["a"]
    assert [run.name for run in shared.read()] == ["a"]
