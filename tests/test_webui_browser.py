"""The extension inside a page like the WebUI's, in a real browser: from data set to an adapter that answers in the chat.

The page is tests/webui_double/server.py, in a process of its own: chat, LoRA menu, restart button and the tabs of the extensions.
"""

import json
import os
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny

if not os.environ.get("CI"):  # there a missing gradio is an error
    pytest.importorskip("gradio")

from browser import Tab, browser, choose, fill, free_port, serve_command  # noqa: F401
from training_pro import ROOT
from training_pro.hosts.webui import CHAT_NOTICE
from training_pro.runs.store import RunFolder
from webui_double import loader

PATIENCE = 120_000  # milliseconds
QUESTION = "question 1: harbour festival soup"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A WebUI with this extension, the tiny model and a data set."""
    root = loader.make_root(tmp_path / "webui", user={"training_pro": ROOT})
    tiny.save_model(root / "user_data/models/tiny")
    rows = "\n".join(map(json.dumps, tiny.conversations(48)))
    (root / "user_data/training/datasets/chats.jsonl").write_text(rows, encoding="utf-8")
    return root


@pytest.fixture
def url(root: Path, browser: Any) -> Iterator[str]:  # noqa: F811
    """Its page."""
    port = free_port()
    command = [sys.executable, str(ROOT / "tests/webui_double/server.py"), str(root)]
    command += ["--cpu", "--model", "tiny", "--extensions", "training_pro", "--listen-port", str(port)]
    paths = str(ROOT / "tests/gradio_shim")
    with serve_command(command, port, env={**os.environ, "PYTHONPATH": paths, "GRADIO_SERVER_NAME": "127.0.0.1"}) as address:
        yield address


def wait(page: Any, condition: Callable[[], object]) -> None:
    """Wait until a condition is true; the page works on meanwhile (its requests pass through this thread)."""
    deadline = time.monotonic() + PATIENCE / 1000
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        page.wait_for_timeout(100)


def app_id(url: str) -> str:
    """What gradio calls the page that it serves now; another one after a restart, nothing in between."""
    try:
        with urllib.request.urlopen(f"{url}config", timeout=10) as answer:
            return str(json.load(answer)["app_id"])
    except OSError:
        return ""


class WebUI(Tab):
    """The page as a user of the WebUI works with it."""

    def enter(self, url: str) -> None:
        """Open the page, or open it again, and go to our tab."""
        self.page.goto(url)
        self.page.get_by_role("tab", name="Training PRO Hybrid", exact=True).wait_for(timeout=PATIENCE)
        self.go("Training PRO Hybrid")
        self.page.wait_for_selector("#tph-status:visible")

    def go(self, name: str) -> None:
        """Open a tab of the WebUI."""
        self.page.get_by_role("tab", name=name, exact=True).click()

    def chat(self, previous: str = "") -> str:
        """Ask the question; the answer, once it differs from the previous one."""
        self.go("Chat")
        answer = self.page.get_by_label("Answer", exact=True)
        self.page.get_by_label("Question", exact=True).fill(QUESTION)
        self.page.get_by_role("button", name="Generate").click()
        wait(self.page, lambda: answer.input_value() not in ("", previous))
        text = str(answer.input_value())
        self.go("Training PRO Hybrid")
        return text

    def apply_lora(self, name: str) -> None:
        """Choose in the LoRA menu and apply; an empty name takes off what is chosen."""
        self.go("Model")
        menu = self.page.get_by_label("LoRA(s)")
        if name:
            self.page.get_by_role("button", name="↻").locator("visible=true").click()
            menu.click()
            self.page.get_by_role("option", name=name, exact=True).click(timeout=PATIENCE)
            self.page.keyboard.press("Escape")
        else:
            menu.click()
            self.page.keyboard.press("Backspace")
            self.page.keyboard.press("Escape")
        self.page.get_by_role("button", name="Apply LoRAs").click()
        self.go("Training PRO Hybrid")

    def wait_text(self, selector: str, words: str) -> str:
        """Wait until an element shows some words; all that it shows then."""
        self.page.locator(f"{selector}:visible", has_text=words).first.wait_for(timeout=PATIENCE)
        return self.text(selector)

    def steps(self) -> int:
        """The step that the status shows; 0 before the first."""
        words = self.text("#tph-status").replace(",", "").split()
        return int(words[words.index("Step") + 1]) if "Step" in words else 0

    def wait_steps(self, more_than: int) -> None:
        """Wait until the status has gone on."""
        wait(self.page, lambda: self.steps() > more_than)


@pytest.fixture
def webui(browser: Any, url: str) -> Iterator[WebUI]:  # noqa: F811
    """A page of the WebUI in which our tab is open."""
    tab = WebUI(browser)
    tab.page.route(lambda address: "127.0.0.1" not in address, lambda route: route.abort())  # gradio asks others for fonts
    tab.enter(url)
    yield tab
    tab.page.close()


def test_from_data_set_to_an_adapter_that_answers(webui: WebUI, url: str, root: Path) -> None:
    page, run = webui.page, RunFolder(root / "user_data/loras/from-the-tab")
    webui.wait_text("#tph-model", "tiny · 107.8k parameters · float32 · cpu")
    said = webui.chat()

    page.click("#tph-start-button")
    webui.wait_text("#tph-problems", "There is nothing to train on")
    choose(page, "data.dataset", "chats.jsonl")
    fill(page, "adapter.name", "from-the-tab")
    fill(page, "training.epochs", "200")
    fill(page, "training.learning_rate", "1e-2")
    page.click("#tph-check-button")
    webui.wait_text("#tph-check", "2,400, 200 epochs of 12")

    page.click("#tph-start-button")
    webui.wait_text("#tph-status[data-status='running']", "of 2,400")
    webui.wait_steps(0)
    webui.wait_text("#tph-model", "is being trained")
    assert webui.chat(said) == CHAT_NOTICE

    assert [error for error in webui.errors if "https://" not in error] == []
    webui.enter(url)  # the page is loaded again
    webui.wait_text("#tph-status[data-status='running']", "from-the-tab")
    webui.wait_steps(webui.steps())

    old_page = app_id(url)
    webui.go("Session")
    page.get_by_role("button", name="Apply flags/extensions and restart").click()
    wait(page, lambda: app_id(url) not in ("", old_page))
    webui.enter(url)
    webui.wait_text("#tph-status[data-status='running']", "from-the-tab")
    webui.wait_steps(webui.steps())
    assert webui.chat() == CHAT_NOTICE

    page.click("#tph-stop-button")
    webui.wait_text("#tph-status[data-status='interrupted']", "What was learned is saved")
    assert "Apply LoRAs" in webui.wait_text("#tph-result", "from-the-tab is saved.")
    webui.wait_text("#tph-model", "float32 · cpu · context 512 tokens")
    assert webui.chat(CHAT_NOTICE) == said

    webui.apply_lora("from-the-tab")
    webui.wait_text("#tph-model", "A LoRA is applied to the model (from-the-tab). Take it off")
    assert webui.chat(said)
    page.click("#tph-start-button")
    webui.wait_text("#tph-problems", "A LoRA is applied to the model (from-the-tab). Take it off")
    webui.apply_lora("")
    webui.wait_text("#tph-model", "float32 · cpu · context 512 tokens")

    choose(page, "data.dataset", "chats.jsonl")
    fill(page, "adapter.name", "second")
    fill(page, "training.epochs", "1")
    page.click("#tph-start-button")
    webui.wait_text("#tph-status[data-status='finished']", "second")
    webui.wait_text("#tph-result", "second is saved.")
    assert run.has_adapter
    assert RunFolder(root / "user_data/loras/second").has_adapter
