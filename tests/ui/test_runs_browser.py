"""The page of runs in a real browser: list, one opened, two compared, parameters into the form, deletion with a question."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

if not os.environ.get("CI"):  # there a missing gradio is an error
    pytest.importorskip("gradio")

from browser import serve, value_of
from fake_host import FakeHost, save_adapter, start_diary, write_steps
from training_pro.config import RunConfig
from training_pro.runs import registry
from training_pro.runs.store import RunFolder, write_json
from training_pro.ui.page import build_page

pytestmark = pytest.mark.filterwarnings("ignore")  # gradio 4's own, about its dependencies


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHost]:
    monkeypatch.setattr(registry, "_current", None)
    host = FakeHost(tmp_path)
    make_run(host, "first", steps=40, status="finished", rank=8)
    make_run(host, "second", steps=20, status="interrupted", rank=32, checkpoint=20)
    make_run(host, "third", steps=10, status="", rank=8)
    yield host
    registry.release()


@pytest.fixture
def url(browser: Any, fake: FakeHost) -> Iterator[str]:
    with serve(build_page(fake.host)) as address:
        yield address


def make_run(fake: FakeHost, name: str, *, steps: int, status: str, rank: int, checkpoint: int = 0) -> None:
    folder = RunFolder(fake.adapters / name)
    folder.path.mkdir()
    config = {**RunConfig().to_dict(), "adapter": {"name": name, "rank": rank}, "data": {"dataset": "/data/animals.jsonl"}}
    write_json(folder.parameters, config)
    another = os.getppid()
    emit = start_diary(folder, another, psutil.Process(another).create_time())
    write_steps(emit, steps)
    if checkpoint:
        place = folder.path / f"checkpoint-{checkpoint}"
        place.mkdir()
        write_json(place / "training_pro.json", {"cause": "user"})
    if status:
        emit("run_ended", status=status, message="")
        save_adapter(folder)
    emit.close()


def open_runs(tab: Any, *names: str) -> Any:
    page = tab.page
    page.get_by_role("tab", name="Runs").click()
    page.wait_for_selector("#tph-runs tr[data-run]")
    for name in names:
        page.click("#tph-runs-chosen input")
        page.locator("ul.options li, ul[role=listbox] li").filter(has_text=f"{name} ·").first.click()
    page.keyboard.press("Escape")
    return page


def test_list_open_compare(url: str, open_tab: Any) -> None:
    tab = open_tab(url)
    page = open_runs(tab, "first")
    listed = {name: tab.text(f"#tph-runs tr[data-run='{name}']") for name in ("first", "second", "third")}
    assert "finished" in listed["first"]
    assert "40 of 40" in listed["first"]
    assert "2.100" in listed["first"]
    assert "interrupted" in listed["second"]
    assert "animals.jsonl" in listed["second"]
    assert "running" in listed["third"]
    page.wait_for_selector("#tph-run-details[data-runs='1'] svg")
    details = tab.text("#tph-run-details")
    assert "first" in details
    assert "LoRA Rank\t8" in details
    assert page.is_enabled("#tph-runs-use")
    assert not page.is_enabled("#tph-runs-resume")

    open_runs(tab, "second")
    page.wait_for_selector("#tph-run-details[data-runs='2']")
    compared = tab.text("#tph-run-details")
    assert "LoRA Rank\t8\t32" in compared
    assert "Learning Rate" not in compared  # the same in both
    assert page.locator(".tph-compared path.tph-line").count() == 2
    assert not page.is_enabled("#tph-runs-use")
    assert not tab.errors


def test_go_on_with_a_run(url: str, open_tab: Any) -> None:
    tab = open_tab(url)
    page = open_runs(tab, "second")
    page.wait_for_selector("#tph-runs-resume:not([disabled])")
    page.click("#tph-runs-resume")
    page.wait_for_selector("#tph-start-button", state="visible")
    page.wait_for_function("document.querySelector('#tph-adapter-name textarea, #tph-adapter-name input').value === 'second'")
    assert value_of(page, "adapter.if_exists") == "resume"
    assert value_of(page, "adapter.rank") == "32"
    assert not tab.errors


def test_deletion_asks_and_spares_a_run_that_is_going_on(url: str, fake: FakeHost, open_tab: Any) -> None:
    tab = open_tab(url)
    page = open_runs(tab, "second")
    page.wait_for_selector("#tph-runs-delete:not([disabled])")
    page.click("#tph-runs-delete")
    page.wait_for_selector("#tph-runs-question", state="visible")
    assert "second would be deleted for good" in tab.text("#tph-runs-question")
    assert "its adapter and 1 checkpoint" in tab.text("#tph-runs-question")
    page.click("#tph-runs-keep")
    page.wait_for_selector("#tph-runs-really", state="hidden")
    assert (fake.adapters / "second" / "events.jsonl").is_file()

    page.click("#tph-runs-delete")
    page.click("#tph-runs-really")
    page.wait_for_selector("#tph-runs-note:has-text('Deleted: second')")
    assert not (fake.adapters / "second").exists()
    assert page.locator("#tph-runs tr[data-run]").count() == 2

    open_runs(tab, "third")
    page.wait_for_selector("#tph-runs-delete:not([disabled])")
    page.click("#tph-runs-delete")
    page.wait_for_selector("#tph-runs-note:has-text('third is going on')")
    assert page.is_hidden("#tph-runs-really")
    assert (fake.adapters / "third").is_dir()
    assert not tab.errors
