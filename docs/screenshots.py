"""The screenshots of docs/screenshots: the standalone page with the embedded model, a real run in a real browser.

    python docs/screenshots.py [--model FOLDER] [--out docs/screenshots]

Serves the page, fills the form as a user would, checks, trains with hybrid batching, pauses, finishes, and opens the run on the page of
runs; pictures of 1280 and of 390 pixels. Needs the packages of the tests (pip install -e ".[test]") and a Chromium, and some minutes.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path += [str(ROOT / "import_root"), str(ROOT / "tests")]

PATIENCE = 900_000  # milliseconds for what trains
FIELDS = {"adapter.name": "brinmoor", "data.eval_share": "0.1", "training.epochs": "3", "samples.prompts": "Who is Tobias Renn?"}


def fill_form(page: Any) -> None:
    """What a user would type."""
    from browser import choose, fill

    choose(page, "data.dataset", "brinmoor_chat.jsonl")
    choose(page, "batching.mode", "hybrid")
    for field, value in FIELDS.items():
        fill(page, field, value)
        page.keyboard.press("Tab")


def wait_for_words(page: Any, words: str) -> None:
    """Until the status says something."""
    page.wait_for_function(f"document.querySelector('#tph-status').innerText.includes({words!r})", timeout=PATIENCE)


def shoot(browser: Any, url: str, out: Path) -> None:
    """All pictures."""
    from browser import Tab

    tab = Tab(browser, 1280, 1000).open(url)
    page = tab.page

    def picture(name: str, place: str = "") -> None:
        if place:
            page.evaluate(f"document.querySelector({place!r}).scrollIntoView()")
        page.wait_for_timeout(1500)
        page.screenshot(path=str(out / f"{name}.png"))
        print(out / f"{name}.png", flush=True)

    fill_form(page)
    page.click("#tph-check-button")
    page.wait_for_selector("#tph-check[data-status=ok]", timeout=PATIENCE)
    picture("check")
    page.click("#tph-start-button")
    wait_for_words(page, "sequential")  # the second phase has begun
    page.click("#tph-pause-button")
    wait_for_words(page, "Paused at")
    picture("tab", "body")
    picture("curves", "#tph-curve-box")
    page.click("#tph-pause-button")
    page.wait_for_selector("#tph-status[data-status=finished]", timeout=PATIENCE)
    page.get_by_role("tab", name="Runs").click()
    page.wait_for_selector("#tph-runs tr[data-run]")
    page.click("#tph-runs-chosen input")
    page.locator("ul.options li, ul[role=listbox] li").filter(has_text="brinmoor ·").first.click()
    page.keyboard.press("Escape")
    page.wait_for_selector("#tph-run-details[data-runs='1'] svg")
    picture("runs")
    page = Tab(browser, 390, 844).open(url).page
    picture("tab-phone", "#tph-run")


def main() -> None:
    """Serve, drive, shoot."""
    from browser import CHROMIUM_ARGUMENTS, find_chromium, free_port, serve_command
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="", help="folder; default: the embedded model")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "screenshots")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        port = free_port()
        command = [sys.executable, "-m", "training_pro.cli", "serve", "--port", str(port), "--no-browser"]
        command += ["--data-dir", str(ROOT / "examples"), "--adapters-dir", "loras"]
        command += ["--model", str(Path(options.model).absolute())] if options.model else []
        env = {**os.environ, "PYTHONPATH": str(ROOT / "import_root")}
        with serve_command(command, port, timeout=600, cwd=folder, env=env) as url, sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=find_chromium(), args=list(CHROMIUM_ARGUMENTS))
            shoot(browser, url, options.out)
            browser.close()


if __name__ == "__main__":
    main()
