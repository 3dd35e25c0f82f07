"""Merge and GGUF of a run's result from the page, in a real browser, with a real adapter."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

if not os.environ.get("CI"):  # there a missing gradio is an error
    pytest.importorskip("gradio")

import export_cases
from browser import serve
from fake_host import FakeHost
from training_pro.hosts.exporting import export_result
from training_pro.runs import registry
from training_pro.ui.page import build_page

pytestmark = pytest.mark.filterwarnings("ignore")  # gradio 4's own, about its dependencies


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return export_cases.tiny_base(tmp_path / "models" / "tiny")


@pytest.fixture
def url(browser: Any, tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(registry, "_current", None)
    fake = FakeHost(tmp_path)
    export_cases.adapter(fake.adapters / "mine", base, export_cases.lora(["q_proj", "v_proj"]))
    with serve(build_page(replace(fake.host, export=export_result))) as address:
        yield address


def choose_run(page: Any, name: str) -> None:
    page.get_by_role("tab", name="Runs").click()
    page.wait_for_selector(f"#tph-runs tr[data-run='{name}']")
    page.click("#tph-runs-chosen input")
    page.locator("ul.options li, ul[role=listbox] li").filter(has_text=f"{name} ·").first.click()
    page.keyboard.press("Escape")


def choose_kind(page: Any, words: str) -> None:
    page.click("#tph-export-kind input")
    page.locator("ul.options li, ul[role=listbox] li").filter(has_text=words).first.click()


def test_merge_and_gguf(url: str, open_tab: Any, tmp_path: Path, base: Path) -> None:
    tab = open_tab(url)
    page = tab.page
    page.get_by_role("tab", name="Runs").click()
    page.get_by_text("Use the result elsewhere").click()
    page.click("#tph-export-button")
    page.wait_for_selector("#tph-export[data-status=failed]")
    assert "Choose one run first." in tab.text("#tph-export")
    choose_run(page, "mine")
    page.click("#tph-export-button")
    page.wait_for_selector("#tph-export[data-status=done]")
    assert f"Written: {base.parent / 'tiny-mine'}" in tab.text("#tph-export")
    assert (base.parent / "tiny-mine" / "model.safetensors").is_file()
    choose_kind(page, "LoRA as GGUF")
    page.wait_for_selector("#tph-export-verify", state="hidden")
    page.fill("#tph-export-out textarea", str(tmp_path / "mine.gguf"))
    page.click("#tph-export-button")
    page.wait_for_function("document.querySelector('#tph-export').textContent.includes('mine.gguf')")
    page.wait_for_selector("#tph-export[data-status=done]")
    assert (tmp_path / "mine.gguf").stat().st_size > 0
    choose_kind(page, "Model as GGUF")
    page.wait_for_selector("#tph-export-like textarea", state="visible")
    page.wait_for_selector("#tph-export-base", state="hidden")
    page.fill("#tph-export-out textarea", "")
    page.fill("#tph-export-model textarea", str(base.parent / "tiny-mine"))
    page.click("#tph-export-button")
    page.wait_for_selector("#tph-export[data-status=failed]")
    assert "'GGUF of the base'" in tab.text("#tph-export")
    assert tab.errors == []
