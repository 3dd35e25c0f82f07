"""The live controls, the curves' axes, samples, checkpoints and log in a real browser, with a host that needs no model."""

import os
from pathlib import Path
from typing import Any

import pytest
from fake_host import FakeHost, write_steps

if not os.environ.get("CI"):  # there a missing gradio is an error
    pytest.importorskip("gradio")

from training_pro.config import RunConfig
from training_pro.runs.control import Control, read_control
from training_pro.runs.store import RunFolder, write_json

pytestmark = pytest.mark.filterwarnings("ignore")  # gradio 4's own, about its dependencies
BUTTONS = ("pause", "save", "evaluate", "phase", "stop", "discard")


def launch(fake: FakeHost, name: str = "my-lora", **checkpoints: Any) -> RunFolder:
    data = {"dataset": str(fake.data / "animals.jsonl")}
    run = {"adapter": {"name": name, "rank": 5}, "data": data, "run": {"adapters_dir": str(fake.adapters)}}
    folder = fake.host.launch(RunConfig.from_dict({**run, "checkpoints": checkpoints})).folder
    assert folder is not None
    return folder


def value_of(tab: Any, name: str) -> str:
    return str(tab.page.input_value(f"#tph-live-{name} :is(input, textarea)"))


def set_value(tab: Any, name: str, text: str, *, by_enter: bool = False) -> None:
    field = f"#tph-live-{name} :is(input, textarea)"
    tab.page.fill(field, text)
    if by_enter:
        tab.page.press(field, "Enter")
    else:
        tab.page.click(f"#tph-live-{name}-apply")


def wait_value(tab: Any, name: str, text: str) -> None:
    tab.page.wait_for_function(f"document.querySelector('#tph-live-{name} input, #tph-live-{name} textarea').value === '{text}'")


def wait_note(tab: Any, words: str) -> None:
    tab.page.wait_for_selector(f"#tph-control-note >> text={words}")


def shown(tab: Any) -> list[str]:
    return [name for name in BUTTONS if tab.page.is_visible(f"#tph-{name}-button")]


def is_within(tab: Any, width: int) -> bool:
    return bool(tab.page.evaluate("document.documentElement.scrollWidth") == width)


def test_what_applies_is_shown_and_values_in_force_on_every_page(url: str, fake: FakeHost, open_tab: Any) -> None:
    first, second = open_tab(url), open_tab(url, width=390)
    assert shown(first) == []
    folder = launch(fake, stop_at_loss=1.5)
    first.page.wait_for_selector("#tph-stop-button", state="visible")
    assert shown(first) == ["stop", "discard"]  # nothing is planned yet
    write_steps(fake.emit, 3)
    first.page.wait_for_selector("#tph-pause-button", state="visible")
    assert shown(first) == ["pause", "save", "stop", "discard"]
    assert [value_of(first, name) for name in ("stop_at_loss", "stop_at_epoch", "lr_scale")] == ["1.5", "", "1"]
    fake.emit("prepared", report={"num_eval_samples": 3})
    fake.emit("plan", num_steps=40, num_epochs=2.0, batching="hybrid")
    for tab, width in ((first, 1280), (second, 390)):
        tab.page.wait_for_selector("#tph-phase-button", state="visible")
        assert shown(tab) == list(BUTTONS)
        boxes = [tab.page.locator(f"#tph-{name}-button").bounding_box() for name in BUTTONS]
        assert all(box["x"] >= 0 and box["x"] + box["width"] <= width and box["height"] >= 36 for box in boxes)
        assert is_within(tab, width)

    set_value(first, "stop_at_loss", "1,2")
    wait_note(first, "at or under 1.2; it is 3.025 now")
    wait_value(second, "stop_at_loss", "1.2")
    set_value(second, "lr_scale", "0.5", by_enter=True)
    wait_note(second, "multiplied by 0.5")
    wait_value(first, "lr_scale", "0.5")
    assert read_control(folder.control) == Control(stop_at_loss=1.2, lr_scale=0.5)
    first.page.fill("#tph-live-stop_at_epoch :is(input, textarea)", "1.")  # being typed while another page changes something
    set_value(second, "stop_at_loss", "")
    wait_note(second, "Stop at loss is off now.")
    wait_value(first, "stop_at_loss", "")
    assert value_of(first, "stop_at_epoch") == "1."
    first.reload()
    first.page.wait_for_selector("#tph-stop-button", state="visible")
    wait_value(first, "lr_scale", "0.5")
    assert [value_of(first, name) for name in ("stop_at_loss", "stop_at_epoch")] == ["", ""]
    assert first.errors == second.errors == []


def test_a_wrong_value_is_said_at_the_field(url: str, fake: FakeHost, open_tab: Any) -> None:
    folder = launch(fake)
    write_steps(fake.emit, 3)
    tab = open_tab(url, width=390)
    tab.page.wait_for_selector("#tph-live-lr_scale", state="visible")
    field = "#tph-live-stop_at_epoch :is(input, textarea)"
    colour = f"getComputedStyle(document.querySelector('{field}')).borderColor"
    usual = tab.page.evaluate(colour)
    set_value(tab, "stop_at_epoch", "soon")
    wait_note(tab, "Stop at epoch: this cannot be used. Got: 'soon'. Write for example 2.5")
    assert tab.page.evaluate(colour) != usual
    assert value_of(tab, "stop_at_epoch") == "soon"  # to be mended
    assert not folder.control.exists()
    set_value(tab, "stop_at_epoch", "1.5")
    wait_note(tab, "The run ends at epoch 1.5")
    assert tab.page.evaluate(colour) == usual
    assert is_within(tab, 390)
    assert tab.errors == []


def test_pause_is_one_button_that_says_what_it_does(url: str, fake: FakeHost, open_tab: Any) -> None:
    folder = launch(fake)
    write_steps(fake.emit, 3)
    first, second = open_tab(url), open_tab(url)
    first.page.click("#tph-pause-button")
    wait_note(first, "stands still after this step")
    for tab in (first, second):
        tab.page.wait_for_selector("#tph-pause-button >> text=Resume")
        tab.page.wait_for_selector("#tph-status >> text=pausing after this step")
    fake.emit("paused", step=3)
    for tab in (first, second):
        tab.page.wait_for_selector('#tph-status[data-status="running"][data-paused="true"] >> text=Paused at step 3')
    assert read_control(folder.control).pause
    second.page.click("#tph-pause-button")
    wait_note(second, "goes on")
    first.page.wait_for_selector("#tph-pause-button >> text=Pause")
    fake.emit("unpaused", step=3, seconds=2.0)
    first.page.wait_for_selector("#tph-status:not([data-paused]) >> text=training")
    assert not read_control(folder.control).pause
    assert first.errors == second.errors == []


def test_discarding_asks_once_more_within_the_page(url: str, fake: FakeHost, open_tab: Any) -> None:
    folder = launch(fake)
    write_steps(fake.emit, 3)
    tab = open_tab(url)
    tab.page.click("#tph-discard-button")
    tab.page.wait_for_selector("#tph-discard-question >> text=Throw away what my-lora has learned in 3 steps")
    assert not folder.control.exists()
    tab.page.click("#tph-discard-keep")
    tab.page.wait_for_selector("#tph-discard-really", state="hidden")
    assert not folder.control.exists()
    tab.page.click("#tph-discard-button")
    tab.page.click("#tph-discard-really")
    wait_note(tab, "thrown away")
    tab.page.wait_for_selector("#tph-status >> text=discarding what was learned")
    assert read_control(folder.control) == Control(discard=True)
    fake.end("discarded", message="Discarded: nothing was saved.", adapter="")
    assert "nothing was saved" in tab.wait_status("discarded")
    tab.page.wait_for_selector("#tph-controls", state="hidden")
    assert tab.errors == []


def test_axes_ranges_and_scale_of_the_curves(url: str, fake: FakeHost, open_tab: Any) -> None:
    launch(fake)
    write_steps(fake.emit, 30)
    tab, other = open_tab(url), open_tab(url)
    page = tab.page
    page.wait_for_selector("#tph-axis", state="visible")
    assert page.inner_text("#tph-curve .tph-axis") == "epochs"

    def pick(field: str, label: str) -> None:
        page.click(f"#tph-{field} input")
        page.locator("ul.options li, ul[role=listbox] li").filter(has_text=label).first.click()

    assert not page.is_visible("#tph-range-from")
    pick("axis", "step")
    page.wait_for_selector("#tph-curve .tph-axis >> text=optimizer steps")
    pick("scale", "log")
    pick("range", "from – to")
    page.wait_for_selector("#tph-range-from", state="visible")
    page.fill("#tph-range-from :is(input, textarea)", "10")
    page.fill("#tph-range-to :is(input, textarea)", "ten")
    page.press("#tph-range-to :is(input, textarea)", "Enter")
    page.wait_for_selector("#tph-range-note >> text=To: that is no number. Got: 'ten'")
    page.fill("#tph-range-to :is(input, textarea)", "20")
    page.press("#tph-range-to :is(input, textarea)", "Enter")
    page.wait_for_selector("#tph-range-note-box", state="hidden")
    page.wait_for_function("document.querySelector('#tph-curve .tph-x span').innerText === '10'")
    drawn = "document.querySelector('#tph-curve path.tph-raw').getAttribute('d').split('L').length"
    page.wait_for_function(f"{drawn} === 11")
    assert other.page.inner_text("#tph-curve .tph-axis") == "epochs"  # each page has its own view
    for number in (31, 32):
        fake.emit("step", step=number, epoch=number / 20, loss=9.0, smoothed_loss=9.0, lr=1e-4)
    page.wait_for_timeout(2500)
    assert page.evaluate(drawn) == 11
    assert tab.errors == other.errors == []


def make_checkpoint(fake: FakeHost, folder: RunFolder, step: int, **marker: Any) -> None:
    place = folder.path / f"checkpoint-{step}"
    place.mkdir()
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        (place / name).write_text(f"{{}} {step}", encoding="utf-8")
    write_json(place / "training_pro.json", {"cause": "steps", "epoch": step / 20, "loss": 2.5, "saved": float(step), **marker})
    fake.emit("checkpoint", step=step, epoch=step / 20, folder=place.name, cause="steps")


@pytest.mark.parametrize("width", [1280, 390])
def test_the_table_of_checkpoints(url: str, fake: FakeHost, open_tab: Any, width: int) -> None:
    folder = launch(fake)
    write_steps(fake.emit, 30)
    make_checkpoint(fake, folder, 10, eval_loss=1.25)
    make_checkpoint(fake, folder, 20, eval_loss=1.75)
    tab = open_tab(url, width=width)
    page = tab.page
    page.click("#tph-checkpoints > button, #tph-checkpoints button.label-wrap")
    page.wait_for_selector("#tph-checkpoints-box tr[data-checkpoint]")
    listed = [page.locator("#tph-checkpoints-box tbody tr").nth(place).inner_text() for place in (0, 1)]
    assert listed[0].startswith("step 20")
    assert "1.750" in listed[0]
    assert "best" in listed[1]
    assert "every n steps" in listed[1]

    def take(step: int, button: str) -> None:
        page.click("#tph-checkpoint-chosen input")
        page.locator("ul.options li, ul[role=listbox] li").filter(has_text=f"step {step}").first.click()
        page.click(f"#tph-checkpoint-{button}")

    page.click("#tph-checkpoint-use")
    page.wait_for_selector("#tph-checkpoint-note >> text=Choose a checkpoint first.")
    take(10, "use")
    page.wait_for_selector("#tph-checkpoint-note >> text=the run is going on")
    assert not folder.has_adapter
    fake.end("interrupted")
    tab.wait_status("interrupted")
    page.click("#tph-checkpoint-use")
    page.wait_for_selector("#tph-checkpoint-note >> text=checkpoint-10 is the adapter 'my-lora' now.")
    assert (folder.path / "adapter_model.safetensors").read_text() == "{} 10"
    take(20, "delete")
    page.wait_for_selector("#tph-checkpoint-question >> text=checkpoint-20 would be deleted for good")
    page.click("#tph-checkpoint-keep")
    page.wait_for_selector("#tph-checkpoint-really", state="hidden")
    assert (folder.path / "checkpoint-20").is_dir()
    page.click("#tph-checkpoint-delete")
    page.click("#tph-checkpoint-really")
    page.wait_for_selector("#tph-checkpoint-note >> text=checkpoint-20 was deleted.")
    assert not (folder.path / "checkpoint-20").exists()
    page.wait_for_function("document.querySelectorAll('#tph-checkpoints-box tbody tr').length === 1")
    take(10, "resume")
    page.wait_for_selector("#tph-note >> text=Start training goes on from checkpoint-10.")
    for field, value in (("name", "my-lora"), ("if_exists", "resume"), ("resume_from", "checkpoint-10"), ("rank", "5")):
        page.wait_for_function(f"document.querySelector('#tph-adapter-{field} :is(input, textarea)').value === '{value}'")
    assert is_within(tab, width)
    assert tab.errors == []


@pytest.mark.parametrize("width", [1280, 390])
def test_samples_over_time_and_the_log(url: str, fake: FakeHost, open_tab: Any, width: int, tmp_path: Path) -> None:
    launch(fake)
    write_steps(fake.emit, 5)
    for when, step in (("before", 0), *(("step", step) for step in range(10, 80, 10)), ("after", 80)):
        fake.emit("sample", when=when, step=step, prompt="Where is <Orla>?", answer=f"{when} {step} " + "a long answer " * 12)
    tab = open_tab(url, width=width)
    page = tab.page
    page.wait_for_selector("#tph-samples-box .tph-answer >> nth=8")
    titles = [card.inner_text().split("\n")[0] for card in page.locator("#tph-samples-box .tph-answer").all()]
    assert titles == ["Before, base model", *(f"Step {step}" for step in range(10, 80, 10)), "After"]
    tops = {round(card.bounding_box()["y"]) for card in page.locator("#tph-samples-box .tph-answer").all()}
    assert len(tops) == 1  # side by side
    page.locator("#tph-samples-box .tph-answer").last.scroll_into_view_if_needed()
    last = page.locator("#tph-samples-box .tph-answer").last.bounding_box()
    assert last["x"] >= 0
    assert last["x"] + last["width"] <= width
    assert is_within(tab, width)

    assert page.is_hidden("#tph-log-box")
    page.click("#tph-log button.label-wrap, #tph-log > button")
    page.wait_for_selector("#tph-log-box li >> nth=0")
    fake.emit("message", level="warning", text="Mind <the> gap.")
    page.wait_for_selector("#tph-log-box li.tph-level-warning >> text=Mind <the> gap.")
    assert page.is_visible("#tph-log-box")  # what is open stays open
    assert page.locator("#tph-log-box li").first.inner_text().endswith("Mind <the> gap.")
    assert page.locator("#tph-log-box li").last.inner_text().endswith("The run begins.")
    assert tab.errors == []
