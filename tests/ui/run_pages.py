"""Runs on the disk for tests of the page of runs, and how a user opens them."""

import os
from typing import Any

import psutil
from fake_host import FakeHost, save_adapter, start_diary, write_steps
from training_pro.config import RunConfig
from training_pro.runs.store import RunFolder, write_json


def make_run(fake: FakeHost, name: str, *, steps: int, status: str, rank: int, checkpoint: int = 0) -> RunFolder:
    """A run of another process; with ``status=""`` it goes on."""
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
    return folder


def open_runs(tab: Any, *names: str) -> Any:
    """Go to the page of runs and choose some, one after the other."""
    page = tab.page
    page.get_by_role("tab", name="Runs").click()
    page.wait_for_selector("#tph-runs tr[data-run]")
    for name in names:
        choose_entry(page, "#tph-runs-chosen", f"{name} ·")
    return page


def choose_entry(page: Any, field: str, label: str) -> None:
    """Choose an entry of a drop-down that is no setting."""
    page.click(f"{field} input")
    page.locator("ul.options li, ul[role=listbox] li").filter(has_text=label).first.click()
    page.keyboard.press("Escape")
    page.locator(f"{field} input").blur()
