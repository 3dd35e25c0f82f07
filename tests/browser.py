"""A real browser for tests of the page: headless Chromium through playwright, pages on free ports, and words for gradio's fields.

    from browser import browser, open_tab      # fixtures, in a conftest.py
    from browser import choose, fill, serve    # in the test

Without a browser the tests are skipped with a word that says so; with CI set in the environment they fail instead.
"""

import os
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

CHROMIUM_ARGUMENTS = (
    *("--no-sandbox", "--headless", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
)
_NAMES = ("chromium", "chromium-browser", "google-chrome")
PATIENCE = 90_000  # milliseconds that a page may take on a busy machine


def find_chromium() -> str | None:
    """Path of a Chromium: TRAINING_PRO_CHROMIUM if set, else the first that is on the PATH."""
    return os.environ.get("TRAINING_PRO_CHROMIUM") or next((path for name in _NAMES if (path := shutil.which(name))), None)


def _skip(reason: str) -> None:
    if os.environ.get("CI"):
        pytest.fail(f"CI must run the tests in a browser, but {reason}", pytrace=False)
    pytest.skip(f"no test in a browser: {reason}")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """One Chromium for all tests of a module. Not longer: while it lives, asyncio.run() does not work in this thread."""
    path = find_chromium()
    if path is None:
        _skip(f"none of {', '.join(_NAMES)} is on the PATH and TRAINING_PRO_CHROMIUM is not set")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError as error:
        _skip(f"playwright is not installed ({error})")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=list(CHROMIUM_ARGUMENTS))
        yield chromium
        chromium.close()


class Tab:
    """A page of the browser that remembers its errors.

    Attributes:
        page: playwright's page.
        errors: console errors and uncaught exceptions so far, except for files that gradio asks from other machines.
    """

    def __init__(self, browser: Any, width: int = 1280, height: int = 900) -> None:
        self.page = browser.new_page(viewport={"width": width, "height": height})
        self.page.set_default_timeout(PATIENCE)
        self.errors: list[str] = []
        self.page.on("console", self._on_console)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))

    def _on_console(self, message: Any) -> None:
        place = (message.location or {}).get("url", "")
        is_elsewhere = place.startswith("http") and "127.0.0.1" not in place and "localhost" not in place
        if message.type == "error" and not is_elsewhere:
            self.errors.append(message.text)

    def open(self, url: str) -> "Tab":
        """Go to the page and wait until the tab is there and has heard from the server."""
        self.page.goto(url)
        self._wait_ready()
        return self

    def _wait_ready(self) -> None:
        self.page.wait_for_selector('#tph-status:not([data-status="connecting"])')

    def reload(self) -> None:
        """Load the page again. What the old page says while it is torn down (gradio 6: aborted streams) is no error of ours."""
        before = list(self.errors)
        self.page.reload()
        self._wait_ready()
        self.errors[:] = before

    def text(self, selector: str) -> str:
        """Visible text of an element."""
        return str(self.page.inner_text(selector))

    def wait_status(self, *statuses: str, timeout: int = PATIENCE) -> str:
        """Wait until the shown run is in one of the states; returns the text of its status."""
        self.page.wait_for_selector(", ".join(f'#tph-status[data-status="{status}"]' for status in statuses), timeout=timeout)
        return self.text("#tph-status")


@pytest.fixture
def open_tab(browser: Any) -> Iterator[Any]:
    """A function that opens a page: ``open_tab(url, width=1280) -> Tab``; all are closed at the end."""
    tabs: list[Tab] = []

    def open_one(url: str, width: int = 1280) -> Tab:
        tabs.append(Tab(browser, width))
        return tabs[-1].open(url)

    yield open_one
    for tab in tabs:
        tab.page.close()


@pytest.fixture
def browser_page(browser: Any) -> Iterator[Any]:
    """An empty page of the browser."""
    tab = Tab(browser)
    yield tab.page
    tab.page.close()


# --- the tab's fields, by the dotted name of their setting ----------------------------------------------------------------------


def selector(field: str) -> str:
    """CSS selector of a field's input."""
    return f"#tph-{field.replace('.', '-')} :is(input, textarea)"


def fill(page: Any, field: str, value: str) -> None:
    """Write into a text or number field."""
    page.fill(selector(field), value)


def value_of(page: Any, field: str) -> str:
    """What a field shows."""
    return str(page.input_value(selector(field)))


def choose(page: Any, field: str, label: str) -> None:
    """Choose an entry of a drop-down; one that opened before its choices had come is opened again."""
    entry = page.locator("ul.options li, ul[role=listbox] li").filter(has_text=label).first
    for attempt in range(10):
        page.click(selector(field))
        try:
            entry.wait_for(state="visible", timeout=1000 + 500 * attempt)
            break
        except Exception as error:
            if attempt == 9 or "Timeout" not in type(error).__name__:
                raise
            page.press(selector(field), "Escape")
            page.locator(selector(field)).blur()
    entry.click()


def type_choice(page: Any, field: str, text: str) -> None:
    """Type something into a drop-down that takes what is not among its choices."""
    page.fill(selector(field), text)
    page.press(selector(field), "Enter")
    page.keyboard.press("Tab")


# --- pages ---------------------------------------------------------------------------------------------------------------------


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def serve(page: Any) -> Iterator[str]:
    """Serve a gr.Blocks in this process; gives its address.

    Gradio asks itself whether it is there, with little patience: on a busy machine it may need a second attempt.
    """
    import httpx  # gradio asks itself with it
    from training_pro.ui.page import launch_options

    for attempt in range(3):
        port = free_port()
        try:
            page.queue().launch(server_name="127.0.0.1", server_port=port, prevent_thread_lock=True, **launch_options())
            break
        except (ValueError, OSError, httpx.HTTPError):
            page.close()
            if attempt == 2:
                raise
    try:
        yield f"http://127.0.0.1:{port}/"
    finally:
        page.close()


@contextmanager
def serve_command(command: Sequence[str], port: int, *, timeout: float = 120, **options: Any) -> Iterator[str]:
    """Run a command that serves a page on a port; gives its address when it answers.

    Args:
        command: program and arguments.
        port: where it will listen; see free_port.
        timeout: seconds until it must answer.
        **options: for subprocess.Popen, for example cwd and env.
    """
    url = f"http://127.0.0.1:{port}/"
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(list(command), stdout=output, stderr=subprocess.STDOUT, **options)
        try:
            _wait_for_answer(process, url, time.monotonic() + timeout, output)
            yield url
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)


def _wait_for_answer(process: Any, url: str, deadline: float, output: Any) -> None:
    while time.monotonic() < deadline:
        if process.poll() is not None:
            output.seek(0)
            raise RuntimeError(f"the server ended with {process.returncode}:\n{output.read()}")
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(0.3)
    raise TimeoutError(f"{url} did not answer in time")
