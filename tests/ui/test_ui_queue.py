"""What the queue's part of the page says and refuses, without a browser."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("gradio")

from fake_host import FakeHost
from training_pro.config import RunConfig
from training_pro.runs.queue import DONE, FAILED, RUNNING, Entry, Owner, Queue, QueueState
from training_pro.ui.notices import notices_html
from training_pro.ui.runs.queue_html import NO_QUEUE, entry_choices, queue_html, start_words
from training_pro.ui.runs.queue_page import QueuePage, obstacle


class FormOf:
    """A form that shows one configuration."""

    def __init__(self, config: RunConfig) -> None:
        self.shown = config
        self.components: list[Any] = []

    def config(self, values: Any) -> RunConfig:
        return self.shown


@pytest.fixture
def fake(tmp_path: Path) -> FakeHost:
    return FakeHost(tmp_path)


@pytest.fixture
def page(fake: FakeHost) -> QueuePage:
    return QueuePage(fake.host, None, None, None, [])


def config(fake: FakeHost, **adapter: Any) -> RunConfig:
    data = {"dataset": str(fake.data / "animals.jsonl")}
    return RunConfig.from_dict({"adapter": {"name": "waits", **adapter}, "data": data})


def add(page: QueuePage, shown: RunConfig, start_at: str = "") -> str:
    return str(page.add(FormOf(shown), start_at)[0])  # type: ignore[arg-type]


def test_nothing_waits() -> None:
    assert queue_html(QueueState(), 0.0) == NO_QUEUE


def test_what_an_entry_says() -> None:
    now = time.time()
    entries = (
        Entry("1", "<b>x</b>", model="<i>m</i>", start_at=now + 3600, word="It waits for <u>."),
        Entry("2", "two", state=RUNNING),
        Entry("3", "three", state=FAILED, error="<u>no such file</u>"),
        Entry("4", "four", state=DONE, error="The training is finished."),
    )
    html = queue_html(QueueState(entries, owner=Owner.me()), now)
    for raw in ("<b>x", "<i>m", "<u>"):
        assert raw not in html
    assert "not before" in html
    assert "no such file" in html
    assert html.count('data-state="') == 4
    assert entry_choices(entries)[1] == ("2. two · running", "2")
    assert start_words(entries[1], now) == ""
    assert start_words(replace(entries[0], start_at=now - 1), now) == "when it is its turn"


def test_pauses_and_a_queue_without_a_program() -> None:
    waiting = (Entry("1", "x"),)
    assert "No program works on the queue now" in queue_html(QueueState(waiting), 0.0)
    assert "No program" not in queue_html(QueueState(waiting, owner=Owner.me()), 0.0)
    assert "nothing further is started" in queue_html(QueueState(waiting, is_paused=True), 0.0)
    assert "&lt;x&gt; failed" in queue_html(QueueState(waiting, is_paused=True, word="<x> failed"), 0.0)


def test_added_with_the_name_of_the_model(page: QueuePage, fake: FakeHost) -> None:
    assert "waits was added. It begins when it is its turn." in add(page, config(fake))
    entry = page.queue().read().entries[0]
    assert (entry.name, entry.model, entry.start_at) == ("waits", "tiny", None)
    assert entry.config["run"]["adapters_dir"] == str(fake.adapters)
    fake.facts["name"] = ""
    assert "No model is loaded, so it takes the one that is there then" in add(page, config(fake, name="second"))


@pytest.mark.parametrize(
    ("adapter", "start_at", "words"),
    [
        ({"rank": 0}, "", "LoRA Rank"),
        ({}, "soon", "&#x27;soon&#x27; is no time"),
        ({"name": "taken"}, "", "there is an adapter or run called"),
        ({"if_exists": "resume"}, "", "there is nothing to resume"),
        ({"name": "taken", "if_exists": "resume"}, "", "there is no checkpoint"),
        ({"if_exists": "continue"}, "", "there is no adapter to continue"),
    ],
)
def test_refused(page: QueuePage, fake: FakeHost, adapter: dict[str, Any], start_at: str, words: str) -> None:
    (fake.adapters / "taken").mkdir()
    (fake.adapters / "taken" / "adapter_config.json").touch()
    said = add(page, config(fake, **adapter), start_at)
    assert words in said
    assert "Not added" in said
    assert page.queue().read().entries == ()


def test_a_name_that_waits_already(page: QueuePage, fake: FakeHost) -> None:
    add(page, config(fake))
    assert "an entry of the queue makes" in add(page, config(fake))
    assert "was added" in add(page, config(fake, if_exists="continue"))  # it trains what the first one leaves further


def test_every_change_asks_whether_it_may(page: QueuePage, fake: FakeHost) -> None:
    entry = page.queue().add("x", {})
    fake.read_only = "Multi-user mode <1>."
    told = [
        add(page, config(fake)),
        page.change(lambda queue, entry_id: str(queue.remove(entry_id)), entry.id)[0],
        page.switch(Queue.pause, True)[0],
        page.switch(Queue.go_on_after_failures, False)[0],
    ]
    assert all("Multi-user mode &lt;1&gt;." in words for words in told)
    assert page.queue().read().entries == (entry,)
    assert (page.queue().read().is_paused, page.queue().read().goes_on) == (False, True)


def test_a_change_says_what_is_wrong(page: QueuePage) -> None:
    entry = page.queue().add("x", {})
    assert "Choose an entry of the queue first" in page.change(lambda queue, entry_id: None, None)[0]
    assert "not there any more" in page.change(lambda queue, entry_id: queue.move(entry_id, 1), "gone")[0]
    update = page.change(lambda queue, entry_id: str(queue.remove(entry_id) and ""), entry.id)[2]
    assert update["value"] is None  # the drop-down lets go of what is gone


def test_a_damaged_file_is_said(page: QueuePage, fake: FakeHost) -> None:
    Queue(fake.adapters).path.write_text("{")
    assert "is damaged" in page.view()[0]
    assert len(page.look()) == len(page.view())


def test_what_an_entry_waits_for(fake: FakeHost) -> None:
    wanted = config(fake)
    assert obstacle(fake.host, wanted, "tiny") == ""
    assert obstacle(fake.host, wanted, "") == ""
    assert obstacle(fake.host, wanted, "llama") == "It waits for the model llama; tiny is loaded now."
    fake.facts["problem"] = "No model is loaded."
    assert obstacle(fake.host, wanted, "tiny") == "It waits. No model is loaded."
    fake.read_only = "Multi-user mode."
    assert obstacle(fake.host, wanted, "tiny") == "Multi-user mode."


def test_notices_are_escaped_and_come_only_where_there_are_any(fake: FakeHost) -> None:
    assert "tph-card" not in notices_html(fake.host)
    fake.exposure, fake.read_only = "<b>open</b>", "<i>closed</i>"
    html = notices_html(fake.host)
    assert html.count("tph-card") == 2
    assert "<b>" not in html
    assert "<i>" not in html
