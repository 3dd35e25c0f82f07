"""The page of runs in a real browser: list, one opened, two compared, parameters into the form, deletion with a question."""

import os
from typing import Any

import pytest

if not os.environ.get("CI"):  # there a missing gradio is an error
    pytest.importorskip("gradio")

from browser import value_of
from fake_host import FakeHost
from run_pages import make_run, open_runs

pytestmark = pytest.mark.filterwarnings("ignore")  # gradio 4's own, about its dependencies


@pytest.fixture
def fake(fake: FakeHost) -> FakeHost:
    """A host with a finished, an interrupted and a running run."""
    make_run(fake, "first", steps=40, status="finished", rank=8)
    make_run(fake, "second", steps=20, status="interrupted", rank=32, checkpoint=20)
    make_run(fake, "third", steps=10, status="", rank=8)
    return fake


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
    page.get_by_text("Log", exact=True).last.click()
    assert "The run ended, finished" in tab.text("#tph-run-details")
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


@pytest.mark.parametrize(("button", "if_exists"), [("resume", "resume"), ("continue", "continue"), ("use", "stop")])
def test_go_on_with_a_run(url: str, open_tab: Any, button: str, if_exists: str) -> None:
    tab = open_tab(url)
    page = open_runs(tab, "second")
    page.wait_for_selector(f"#tph-runs-{button}:not([disabled])")
    page.click(f"#tph-runs-{button}")
    page.wait_for_selector("#tph-start-button", state="visible")
    page.wait_for_function("document.querySelector('#tph-adapter-name textarea, #tph-adapter-name input').value === 'second'")
    assert value_of(page, "adapter.if_exists") == if_exists
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
    assert "no bin" in tab.text("#tph-runs-question")
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


def test_two_pages_and_the_disk_agree(url: str, fake: FakeHost, open_tab: Any) -> None:
    first, second = open_tab(url), open_tab(url)
    for tab in (first, second):
        open_runs(tab)
    make_run(fake, "tenth", steps=5, status="finished", rank=8)
    for tab in (first, second):
        tab.page.wait_for_selector("#tph-runs tr[data-run='tenth']")
    names = "[...document.querySelectorAll('#tph-runs tr[data-run]')].map(row => row.dataset.run).join(' ')"
    assert first.page.evaluate(names).startswith("tenth ")
    first.page.click("#tph-runs-order input")
    first.page.locator("ul.options li, ul[role=listbox] li").filter(has_text="by name").click()
    first.page.wait_for_function(f"{names} === 'first second tenth third'")
    make_run(fake, "run10", steps=5, status="finished", rank=8)
    make_run(fake, "run9", steps=5, status="finished", rank=8)
    first.page.wait_for_function(f"{names} === 'first run9 run10 second tenth third'")
    second.page.wait_for_function(f"{names}.startsWith('run9 run10 tenth')")
    assert not first.errors
    assert not second.errors


def test_a_run_whose_process_died_says_so_and_can_go_on(url: str, fake: FakeHost, open_tab: Any) -> None:
    from fake_host import start_diary, write_steps
    from training_pro.runs.store import RunFolder, write_json

    gone = RunFolder(fake.adapters / "gone")
    emit = start_diary(gone, 2**22 - 3, 1.0)
    write_steps(emit, 7)
    emit("checkpoint", step=5, epoch=0.25, folder="checkpoint-5", cause="steps")
    emit.close()
    (gone.path / "checkpoint-5").mkdir()
    write_json(gone.path / "checkpoint-5" / "training_pro.json", {"cause": "steps"})
    tab = open_tab(url)
    page = open_runs(tab, "gone")
    page.wait_for_selector("#tph-run-details[data-runs='1']")
    assert "ended without a word" in tab.text("#tph-runs tr[data-run='gone']")
    assert "The process that trained is gone" in tab.text("#tph-run-details")
    assert "A checkpoint of step 5 is there" in tab.text("#tph-run-details")
    page.wait_for_selector("#tph-runs-resume:not([disabled])")
    assert not page.is_enabled("#tph-runs-continue")
    assert not tab.errors


def test_nothing_is_wider_than_a_phone(url: str, open_tab: Any) -> None:
    tab = open_tab(url, width=390)
    for names in ((), ("first",), ("second",)):
        page = open_runs(tab, *names)
        page.wait_for_timeout(500)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.locator("#tph-run-details[data-runs='2']").count() == 1
    assert not tab.errors
