"""The fixtures of browser.py for the tests of this folder: pages with a host that needs no model, and with the real engine."""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny
from browser import browser, browser_page, free_port, open_tab, serve, serve_command
from fake_host import FakeHost
from training_pro import ROOT
from training_pro.runs import registry
from training_pro.runs.queue_runner import stop_runner

__all__ = ["browser", "browser_page", "open_tab"]


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHost]:
    """A host without any run; what a test starts is over at its end."""
    monkeypatch.setattr(registry, "_current", None)
    yield FakeHost(tmp_path)
    stop_runner()  # the thread that every page begins
    registry.release()


@pytest.fixture
def url(browser: Any, fake: FakeHost) -> Iterator[str]:
    """Address of a page of that host."""
    from training_pro.ui.page import build_page

    with serve(build_page(fake.host)) as address:
        yield address


@pytest.fixture
def adapters(tmp_path: Path) -> Path:
    """Where the real engine's adapters lie."""
    return tmp_path / "adapters"


@pytest.fixture
def real_url(tmp_path: Path, adapters: Path, browser: Any) -> Iterator[str]:
    """`training-pro serve` in a process of its own, with the tiny model and 48 conversations in data/chats.jsonl."""
    data = tmp_path / "data"
    data.mkdir()
    (data / "chats.jsonl").write_text("\n".join(map(json.dumps, tiny.conversations(48))), encoding="utf-8")
    model = tiny.save_model(tmp_path / "tiny-model")
    port = free_port()
    command = [sys.executable, "-m", "training_pro.cli", "serve", "--port", str(port), "--no-browser"]
    command += ["--model", str(model), "--data-dir", str(data), "--adapters-dir", str(adapters)]
    paths = [str(ROOT / "import_root"), str(ROOT / "tests" / "gradio_shim")]
    with serve_command(command, port, env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)}) as address:
        yield address
