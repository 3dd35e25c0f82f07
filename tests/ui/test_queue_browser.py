"""The queue, several pages, a host that is read-only or open to strangers: in a real browser."""

import os
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest

if not os.environ.get("CI"):  # there a missing gradio is an error
    pytest.importorskip("gradio")

from browser import choose, fill
from fake_host import FakeHost
from run_pages import choose_entry, make_run, open_runs
from training_pro.runs import registry
from training_pro.runs.queue import Queue
from training_pro.runs.state import read_state
from training_pro.runs.store import RunFolder

pytestmark = pytest.mark.filterwarnings("ignore")  # gradio 4's own, about its dependencies


@pytest.fixture
def fake(fake: FakeHost) -> FakeHost:
    """A host with one run, so that there is something to list."""
    make_run(fake, "first", steps=40, status="finished", rank=8)
    return fake


@pytest.fixture
def tab(url: str, open_tab: Any) -> Iterator[Any]:
    """A page whose form is filled."""
    tab = open_tab(url)
    fill(tab.page, "adapter.name", "waits")
    choose(tab.page, "data.dataset", "animals.jsonl")
    yield tab
    assert tab.errors == []


def add(tab: Any, start_at: str = "", name: str = "") -> None:
    """Let the form's settings wait."""
    page = tab.page
    if name:
        page.get_by_role("tab", name="Training").click()
        fill(page, "adapter.name", name)
    open_runs(tab)
    page.fill("#tph-queue-start :is(input, textarea)", start_at)
    page.click("#tph-queue-add")


def entry(tab: Any, number: int) -> str:
    """Text of an entry, by its place from 1."""
    return str(tab.page.locator("#tph-queue tr[data-entry]").nth(number - 1).inner_text())


def wait_entries(tab: Any, *states: str) -> None:
    """Wait until the queue has entries of these states, in this order."""
    found = "[...document.querySelectorAll('#tph-queue tr[data-entry]')].map(row => row.dataset.state).join(' ')"
    tab.page.wait_for_function(f"{found} === '{' '.join(states)}'")


def test_one_after_another_and_not_before_its_time(tab: Any, fake: FakeHost, url: str, open_tab: Any) -> None:
    add(tab)
    tab.page.wait_for_selector("#tph-queue-note:has-text('waits was added. It begins when it is its turn')")
    wait_entries(tab, "running")
    soon = (datetime.now() + timedelta(seconds=15)).replace(microsecond=0)
    add(tab, f"{soon:%Y-%m-%d %H:%M:%S}", name="next")
    tab.page.wait_for_selector("#tph-queue-note li, #tph-queue-note:has-text('next was added. It begins not before')")
    wait_entries(tab, "running", "waiting")
    other = open_tab(url)  # a second browser shows the same
    open_runs(other)
    wait_entries(other, "running", "waiting")
    assert len(fake.launched) == 1
    fake.end(message="The training is finished.")
    wait_entries(tab, "done", "running")
    assert [config.adapter.name for config in fake.launched] == ["waits", "next"]
    assert read_state(RunFolder(fake.adapters / "next")).started >= soon.timestamp()
    fake.end(status="failed", message="The loss is no number at step 3.")
    for one in (tab, other):
        wait_entries(one, "done", "failed")
        one.page.wait_for_selector("#tph-queue .tph-said:has-text('The loss is no number at step 3.')")
    tab.reload()
    open_runs(tab)
    wait_entries(tab, "done", "failed")
    assert other.errors == []


def test_what_is_wrong_is_said_when_it_is_added(tab: Any, fake: FakeHost) -> None:
    fill(tab.page, "training.epochs", "0")
    add(tab, "soon")
    tab.page.wait_for_selector("#tph-queue-note li")
    said = tab.text("#tph-queue-note")
    assert "Epochs" in said
    assert "'soon' is no time" in said
    tab.page.get_by_role("tab", name="Training").click()
    fill(tab.page, "training.epochs", "1")
    add(tab, name="first")
    tab.page.wait_for_selector("#tph-queue-note:has-text(\"there is an adapter or run called 'first' already\")")
    assert Queue(fake.adapters).read().entries == ()


def test_order_pause_and_removal(tab: Any, fake: FakeHost) -> None:
    fake.facts["problem"] = "No model is loaded. Load one in the Model tab."
    add(tab)
    wait_entries(tab, "waiting")
    tab.page.wait_for_selector("#tph-queue .tph-said:has-text('It waits. No model is loaded.')")
    tab.page.check("#tph-queue-pause input")
    tab.page.wait_for_selector("#tph-queue:has-text('The queue is paused')")
    fake.facts.pop("problem")
    add(tab, name="next")
    wait_entries(tab, "waiting", "waiting")
    choose_entry(tab.page, "#tph-queue-chosen", "2. next")
    tab.page.click("#tph-queue-up")
    tab.page.wait_for_selector("#tph-queue tr[data-entry]:has-text('1. next')")
    assert not fake.launched
    tab.page.click("#tph-queue-remove")
    tab.page.wait_for_selector("#tph-queue-note:has-text('next was taken out of the queue')")
    wait_entries(tab, "waiting")
    tab.page.uncheck("#tph-queue-pause input")
    wait_entries(tab, "running")
    assert [config.adapter.name for config in fake.launched] == ["waits"]
    choose_entry(tab.page, "#tph-queue-chosen", "1. waits")
    tab.page.click("#tph-queue-remove")
    tab.page.wait_for_selector("#tph-queue-note:has-text('waits is being trained. Press Stop and keep first')")
    fake.end()
    wait_entries(tab, "done")


def test_another_model_is_said_and_not_trained(tab: Any, fake: FakeHost) -> None:
    tab.page.get_by_role("tab", name="Runs").click()
    tab.page.check("#tph-queue-goes-on input") if tab.page.is_visible("#tph-queue-goes-on") else None
    fake.facts["problem"] = "No model is loaded."
    add(tab)
    wait_entries(tab, "waiting")
    assert "tiny" in entry(tab, 1)
    fake.facts.update(name="another")
    fake.facts.pop("problem")
    tab.page.wait_for_selector("#tph-queue .tph-said:has-text('It waits for the model tiny; another is loaded now.')")
    assert not fake.launched
    fake.facts.update(name="tiny")
    wait_entries(tab, "running")


def test_two_pages_press_start(tab: Any, fake: FakeHost, url: str, open_tab: Any) -> None:
    other = open_tab(url)
    fill(other.page, "adapter.name", "other")
    choose(other.page, "data.dataset", "animals.jsonl")
    for page in (tab.page, other.page):
        page.locator("#tph-start-button").dispatch_event("click")
    told = {}
    for one in (tab, other):
        one.page.wait_for_selector("#tph-note:has-text('was started'), #tph-problems:has-text('is going on')")
        told[one] = one.text("#tph-problems-box")
    assert len(fake.launched) == 1
    winner = fake.launched[0].adapter.name
    assert sorted("was started" in words for words in told.values()) == [False, True]
    loser = next(words for words in told.values() if "was started" not in words)
    assert f"The run '{winner}' is going on" in loser
    for one in (tab, other):
        assert winner in one.wait_status("running")
    assert registry.is_busy()
    fake.end()
    assert other.errors == []


def test_nothing_is_changed_where_it_is_read_only(fake: FakeHost, url: str, open_tab: Any) -> None:
    fake.read_only = "The WebUI runs in multi-user mode (--multi-user), in which training is off."
    queue = Queue(fake.adapters)
    kept = queue.add("kept", {}, start_at=2e9)
    tab = open_tab(url)
    page = tab.page
    fill(page, "adapter.name", "waits")
    choose(page, "data.dataset", "animals.jsonl")
    page.click("#tph-start-button")
    page.wait_for_selector("#tph-problems:has-text('multi-user mode')")
    add(tab)
    page.wait_for_selector("#tph-queue-note:has-text('multi-user mode')")
    choose_entry(page, "#tph-queue-chosen", "1. kept")
    page.click("#tph-queue-remove")
    page.wait_for_timeout(500)
    page.click("#tph-queue-pause input")
    page.wait_for_function("!document.querySelector('#tph-queue-pause input').checked")  # the server takes the tick back
    open_runs(tab, "first")
    page.wait_for_selector("#tph-runs-delete:not([disabled])")
    page.click("#tph-runs-delete")
    page.wait_for_selector("#tph-runs-note:has-text('multi-user mode')")
    assert page.is_hidden("#tph-runs-really")
    assert not fake.launched
    assert queue.read().entries == (kept,)
    assert not queue.read().is_paused
    assert (fake.adapters / "first").is_dir()
    assert tab.errors == []


@pytest.mark.parametrize("width", [1280, 390])
def test_strangers(fake: FakeHost, browser: Any, open_tab: Any, width: int) -> None:
    from browser import serve
    from training_pro.ui.notices import STRANGERS
    from training_pro.ui.page import build_page

    fake.exposure = f"The WebUI is open to other machines (--listen) and asks for no login. {STRANGERS}"
    Queue(fake.adapters).add(
        "a-name-as-long-as-names-of-adapters-tend-to-be-in-the-end", {}, model="A-Model-3B-Instruct", start_at=2e9
    )
    with serve(build_page(fake.host)) as address:
        tab = open_tab(address, width)
        assert "delete runs with their adapters" in tab.text("[data-notice='exposure']")
        open_runs(tab, "first")
        assert tab.page.is_visible("[data-notice='exposure']")
        assert tab.page.evaluate("document.documentElement.scrollWidth") <= width
        assert tab.errors == []


def test_no_notice_where_there_is_nothing_to_say(tab: Any) -> None:
    assert tab.page.locator("#tph-notices .tph-card").count() == 0
