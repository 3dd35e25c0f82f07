"""The standalone page with the real engine, in a real browser: from data set to trained adapter, with a reload on the way."""

import os
from pathlib import Path
from typing import Any

import pytest

if not os.environ.get("CI"):  # there a missing gradio is an error
    pytest.importorskip("gradio")

from browser import choose, fill
from training_pro.runs.state import read_state
from training_pro.runs.store import RunFolder

PATIENCE = 400_000  # milliseconds


@pytest.mark.timeout(900)
def test_from_data_set_to_adapter(real_url: str, adapters: Path, open_tab: Any) -> None:
    tab = open_tab(real_url)
    page = tab.page
    assert "tiny-model" in tab.text("#tph-model")

    page.click("#tph-start-button")
    page.wait_for_selector("#tph-problems li")
    assert "There is nothing to train on" in tab.text("#tph-problems")

    choose(page, "data.dataset", "chats.jsonl")
    fill(page, "adapter.name", "from-the-page")
    fill(page, "training.epochs", "40")
    fill(page, "training.learning_rate", "1e-2")
    fill(page, "samples.prompts", "where is the lighthouse")
    page.click("#tph-check-button")
    page.wait_for_selector("#tph-check:has-text('480')", timeout=PATIENCE)  # 48 samples, batches of 4, 40 epochs
    assert "48" in tab.text("#tph-check")

    page.click("#tph-start-button")
    page.wait_for_selector("#tph-status[data-status='running']:has-text('of 480')", timeout=PATIENCE)
    tab.reload()
    assert "from-the-page" in tab.wait_status("running", "finished", timeout=PATIENCE)
    page.click("#tph-stop-button")
    ended = tab.wait_status("interrupted", "finished", timeout=PATIENCE)
    assert "from-the-page" in ended

    folder = RunFolder(adapters / "from-the-page")
    state = read_state(folder)
    assert folder.has_adapter
    assert folder.graph.is_file()
    assert state.steps
    if state.status == "interrupted":
        choose(page, "adapter.if_exists", "resume")
        choose(page, "data.dataset", "chats.jsonl")
        fill(page, "adapter.name", "from-the-page")
        fill(page, "training.epochs", "40")
        fill(page, "training.learning_rate", "1e-2")
        page.click("#tph-start-button")
        page.wait_for_selector("#tph-status[data-status='running']", timeout=PATIENCE)
        tab.wait_status("finished", timeout=PATIENCE)
        resumed = read_state(folder)
        assert [entry["step"] for entry in resumed.steps] == list(range(1, 481))
    assert "from-the-page" in tab.text("#tph-result")
    assert tab.errors == []
