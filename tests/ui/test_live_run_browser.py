"""Each live control in a real browser during a real run, and its effect on the run: in its diary and its folder, not only on the page."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

if not os.environ.get("CI"):  # there a missing gradio is an error
    pytest.importorskip("gradio")

from browser import type_choice
from training_pro.config import RunConfig
from training_pro.runs.events import read_events
from training_pro.runs.state import RunState, read_state
from training_pro.runs.store import RunFolder, write_json

PATIENCE = 240.0  # seconds
pytestmark = [
    pytest.mark.filterwarnings("ignore"),  # gradio 4's own, about its dependencies
    pytest.mark.timeout(1500),  # a real run and two pages, perhaps on a busy machine
]
RATE = 1e-3


class LiveRun:
    """A run that a page started: what its diary says."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder

    @property
    def state(self) -> RunState:
        return read_state(self.folder)

    def events(self, kind: str, **fields: Any) -> list[dict[str, Any]]:
        found = [event for event in read_events(self.folder.events)[0] if event["event"] == kind]
        return [event for event in found if all(event.get(name) == value for name, value in fields.items())]

    def wait(self, condition: Callable[[RunState], Any]) -> RunState:
        deadline = time.monotonic() + PATIENCE
        while not condition(state := self.state):
            assert time.monotonic() < deadline, (
                f"it did not come: {state.status} {state.last_step} {state.messages[-3:]} {state.end}"
            )
            time.sleep(0.1)
        return state

    def control(self, name: str) -> dict[str, Any]:
        """The event that says when a wish took effect."""
        self.wait(lambda state: name in state.controls)
        return self.events("control", name=name)[-1]


def start(tab: Any, tmp_path: Path, adapters: Path, name: str) -> LiveRun:
    """Start a long run from the page, with parameters out of a file."""
    config = {
        "adapter": {"name": name, "rank": 4},
        "data": {"dataset": str(tmp_path / "data" / "chats.jsonl"), "eval_share": 0.2},
        "batching": {"mode": "hybrid", "switch_epochs": 900.0},
        "training": {"epochs": 1000.0, "learning_rate": RATE, "schedule": "constant"},
        "checkpoints": {
            "save_every_epoch": False,
            "eval_every_steps": 1_000_000,
            "understanding_samples": 0,
            "stop_at_loss": 0.001,
        },
        "run": {"adapters_dir": str(adapters)},
    }
    file = tmp_path / f"{name}.json"
    write_json(file, RunConfig.from_dict(config).to_dict())
    type_choice(tab.page, "copy_from", str(file))
    tab.page.wait_for_function(f"document.querySelector('#tph-adapter-name :is(input, textarea)').value === '{name}'")
    tab.page.click("#tph-start-button")
    run = LiveRun(RunFolder(adapters / name))
    run.wait(lambda state: len(state.steps) > 3)
    tab.page.wait_for_selector("#tph-pause-button", state="visible")
    return run


def set_value(tab: Any, name: str, text: str) -> None:
    field = f"#tph-live-{name} :is(input, textarea)"
    tab.page.fill(field, text)
    tab.page.press(field, "Enter")


def values(tab: Any) -> list[str]:
    names = ("stop_at_loss", "stop_at_epoch", "lr_scale")
    return [str(tab.page.input_value(f"#tph-live-{name} :is(input, textarea)")) for name in names]


def take_checkpoint(tab: Any, words: str, button: str) -> None:
    tab.page.click("#tph-checkpoint-chosen input")
    tab.page.locator("ul.options li, ul[role=listbox] li").filter(has_text=words).first.click()
    tab.page.click(f"#tph-checkpoint-{button}")


def use_resume_and_delete(tab: Any, run: LiveRun, paused_at: int) -> None:
    """The table of checkpoints: make one the adapter, resume from it and stop at an epoch, delete it."""
    page, saved = tab.page, run.folder.path / f"checkpoint-{paused_at}-user"
    page.click("#tph-checkpoints > button, #tph-checkpoints button.label-wrap")
    take_checkpoint(tab, f"step {paused_at:,} (yours)", "use")
    page.wait_for_selector(f"#tph-checkpoint-note >> text={saved.name} is the adapter 'steered' now.")
    weights = "adapter_model.safetensors"
    assert (run.folder.path / weights).read_bytes() == (saved / weights).read_bytes()
    page.click("#tph-checkpoint-resume")
    page.wait_for_selector(f"#tph-note >> text=Start training goes on from {saved.name}.")
    page.click("#tph-start-button")
    run.wait(lambda state: state.is_live and state.last_step["step"] > paused_at)
    assert run.events("run_started")[-1]["resumed_from_step"] == paused_at
    page.wait_for_selector("#tph-pause-button", state="visible")
    target = round(run.state.last_step["epoch"] + 2, 1)
    set_value(tab, "stop_at_epoch", str(target))
    ended = run.wait(lambda state: not state.is_live)
    assert ended.status == "finished"
    assert f"reached Stop at epoch {target:g}" in ended.end["message"]
    assert ended.last_step["epoch"] == pytest.approx(target, abs=0.15)
    tab.wait_status("finished")
    take_checkpoint(tab, f"step {paused_at:,} (yours)", "delete")
    page.click("#tph-checkpoint-really")
    page.wait_for_selector(f"#tph-checkpoint-note >> text={saved.name} was deleted.")
    assert not saved.exists()


@pytest.fixture
def run_page(real_url: str, tmp_path: Path, adapters: Path, open_tab: Any) -> tuple[Any, str]:
    return open_tab(real_url), real_url


def test_each_control_and_its_effect_on_the_run(run_page: Any, tmp_path: Path, adapters: Path, open_tab: Any) -> None:
    tab, url = run_page
    run = start(tab, tmp_path, adapters, "steered")

    set_value(tab, "lr_scale", "0.5")
    scaled = run.control("lr_scale")
    assert scaled["value"] == 0.5
    state = run.wait(lambda state: state.last_step["step"] > scaled["step"] + 1)
    rates = {step["step"]: step["lr"] for step in state.steps}
    assert rates[scaled["step"]] == pytest.approx(RATE)
    assert rates[scaled["step"] + 1] == pytest.approx(RATE / 2)

    second = open_tab(url, width=390)
    second.page.wait_for_selector("#tph-pause-button", state="visible")
    assert values(second) == ["0.001", "", "0.5"]  # a page opened later
    second.page.click("#tph-pause-button")
    paused_at = run.wait(lambda state: state.is_paused).last_step["step"]
    for page in (tab, second):
        page.page.wait_for_selector(f"#tph-status[data-paused] >> text=Paused at step {paused_at:,}")
    bar = tab.page.get_attribute("#tph-status .tph-bar > div", "style")
    tab.page.click("#tph-evaluate-button")
    evaluated = run.wait(lambda state: state.evaluations and state.evaluations[-1]["step"] == paused_at)
    tab.page.click("#tph-save-button")
    run.wait(lambda state: state.checkpoints)
    saved = run.folder.path / f"checkpoint-{paused_at}-user"
    assert saved.is_dir()
    time.sleep(1.0)
    assert run.state.last_step["step"] == paused_at  # it does stand still
    assert tab.page.get_attribute("#tph-status .tph-bar > div", "style") == bar
    assert evaluated.evaluations[-1]["loss"] > 0
    tab.page.click("#tph-pause-button >> text=Resume")
    state = run.wait(lambda state: not state.is_paused and state.last_step["step"] > paused_at)
    assert [event["step"] for event in run.events("paused")] == [event["step"] for event in run.events("unpaused")] == [paused_at]
    assert [step["step"] for step in state.steps] == list(range(1, state.last_step["step"] + 1))

    second.page.click("#tph-phase-button")
    asked = run.control("phase_requests")
    state = run.wait(
        lambda state: state.phases[-1]["phase"] == "sequential" and state.last_step["step"] > state.phases[-1]["step"]
    )
    assert state.phases[-1]["step"] <= asked["step"] + 5  # but for the batches that are drawn already
    tab.page.wait_for_selector("#tph-phase-button", state="hidden")
    tab.reload()
    tab.page.wait_for_selector("#tph-pause-button", state="visible")
    assert values(tab) == ["0.001", "", "0.5"]

    set_value(tab, "stop_at_loss", "50")  # above it: the run has reached it
    ended = run.wait(lambda state: not state.is_live)
    assert ended.status == "finished"
    assert "reached Stop at loss 50" in ended.end["message"]
    assert ended.last_step["step"] - run.control("stop_at_loss")["step"] <= 1
    assert "reached Stop at loss 50" in tab.wait_status("finished")

    use_resume_and_delete(tab, run, paused_at)
    for one in (tab, second):
        assert one.errors == []
        width = one.page.viewport_size["width"]
        assert one.page.evaluate("document.documentElement.scrollWidth") == width


def test_discard_leaves_nothing_and_stop_keeps(run_page: Any, tmp_path: Path, adapters: Path) -> None:
    tab, _ = run_page
    run = start(tab, tmp_path, adapters, "thrown-away")
    tab.page.click("#tph-save-button")
    run.wait(lambda state: state.checkpoints)
    tab.page.click("#tph-discard-button")
    tab.page.wait_for_selector("#tph-discard-question")
    assert run.state.is_live  # it only asked
    tab.page.click("#tph-discard-really")
    assert run.wait(lambda state: not state.is_live).status == "discarded"
    assert "Discarded: nothing was saved" in tab.wait_status("discarded")
    assert not run.folder.has_adapter
    assert list(run.folder.path.glob("checkpoint-*")) == []

    kept = start(tab, tmp_path, adapters, "kept")
    tab.page.click("#tph-stop-button")
    assert kept.wait(lambda state: not state.is_live).status == "interrupted"
    tab.wait_status("interrupted")
    assert kept.folder.has_adapter
    assert kept.events("control", name="stop")[-1]["step"] == kept.state.last_step["step"]
    assert tab.errors == []
