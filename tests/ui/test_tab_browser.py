"""The tab in a real browser with a host that needs no model: what a user sees, on whichever gradio is installed."""

import os
import threading
from pathlib import Path
from typing import Any

import pytest

if not os.environ.get("CI"):  # there a missing gradio is an error
    pytest.importorskip("gradio")

from browser import choose, fill, serve, type_choice, value_of
from fake_host import FakeHost, save_adapter, start_diary, write_steps
from training_pro.runs.control import read_control
from training_pro.runs.store import RunFolder
from training_pro.ui.live import watch
from training_pro.ui.page import build_page

pytestmark = pytest.mark.filterwarnings("ignore")  # gradio 4's own, about its dependencies


def start(tab: Any, name: str = "my-lora") -> None:
    fill(tab.page, "adapter.name", name)
    choose(tab.page, "data.dataset", "animals.jsonl")
    tab.page.click("#tph-start-button")
    tab.wait_status("running")


def folder_of(fake: FakeHost, name: str = "my-lora") -> RunFolder:
    return RunFolder(fake.adapters / name)


def test_all_wrong_values_are_listed_marked_and_kept(url: str, fake: FakeHost, open_tab: Any) -> None:
    tab = open_tab(url)
    assert "tiny · float32 · cpu" in tab.text("#tph-model")
    fill(tab.page, "training.learning_rate", "fast")
    fill(tab.page, "adapter.rank", "0")
    fill(tab.page, "adapter.name", "a.b")
    fill(tab.page, "batching.true_batch_size", "")
    tab.page.click("#tph-start-button")
    tab.page.wait_for_selector("#tph-problems li")
    problems = tab.text("#tph-problems")
    for words in (
        "Learning Rate: That is no number. Got: 'fast'.",
        "LoRA Rank: It must be at least 1. Got: 0.",
        "Name: A name with a dot",
        "True Batch Size: It must be a whole number. Got: nothing.",
        "Data set: There is nothing to train on.",
    ):
        assert words in problems
    mark = "getComputedStyle(document.querySelector('#tph-training-learning_rate'), '::after').content"
    assert tab.page.evaluate(mark) == '"That is no number."'
    assert tab.page.evaluate(mark.replace("learning_rate", "epochs")) in ("none", "normal")
    assert value_of(tab.page, "training.learning_rate") == "fast"
    assert not fake.launched

    fill(tab.page, "training.learning_rate", "2e-4")
    fill(tab.page, "adapter.rank", "4")
    fill(tab.page, "batching.true_batch_size", "2")
    start(tab, "mended")
    tab.page.wait_for_selector("#tph-note >> text=mended was started.")
    assert tab.page.locator("#tph-problems li").count() == 0
    (config,) = fake.launched
    assert (config.training.learning_rate, config.adapter.rank, config.batching.true_batch_size) == (2e-4, 4, 2)
    assert config.data.dataset == str(fake.data / "animals.jsonl")
    assert tab.errors == []


def test_a_problem_in_the_advanced_group_opens_it(url: str, open_tab: Any) -> None:
    tab = open_tab(url)
    assert not tab.page.is_visible("#tph-training-seed")
    tab.page.click("#tph-advanced button")
    fill(tab.page, "training.seed", "-1")
    tab.page.click("#tph-advanced button >> nth=0")
    tab.page.wait_for_selector("#tph-training-seed", state="hidden")
    tab.page.click("#tph-check-button")
    tab.page.wait_for_selector("#tph-training-seed", state="visible")
    assert "Seed" in tab.text("#tph-problems")
    assert tab.errors == []


def test_fields_without_effect_are_hidden(url: str, fake: FakeHost, open_tab: Any) -> None:
    tab = open_tab(url)
    steps, epochs = "#tph-batching-switch_steps", "#tph-batching-switch_epochs"
    assert not tab.page.is_visible(steps)
    choose(tab.page, "batching.mode", "hybrid")
    tab.page.wait_for_selector(epochs, state="visible")
    assert not tab.page.is_visible(steps)
    choose(tab.page, "batching.switch_by", "steps")
    tab.page.wait_for_selector(steps, state="visible")
    tab.page.wait_for_selector(epochs, state="hidden")
    fill(tab.page, "batching.switch_steps", "77")
    choose(tab.page, "batching.mode", "length")
    tab.page.wait_for_selector(steps, state="hidden")
    choose(tab.page, "data.dataset", "animals.jsonl")
    tab.page.click("#tph-check-button")
    tab.page.wait_for_selector('#tph-check[data-status="ok"]')
    (config,) = fake.checked
    assert (config.batching.mode, config.batching.switch_steps) == ("length", 77)  # what is hidden keeps its value
    assert tab.errors == []


def test_copied_parameters_show_the_fields_that_they_need(url: str, fake: FakeHost, open_tab: Any, tmp_path: Path) -> None:
    former = tmp_path / "former.yaml"
    former.write_text("batching: {mode: hybrid, switch_by: steps, switch_steps: 33}\n", encoding="utf-8")
    tab = open_tab(url)
    type_choice(tab.page, "copy_from", str(former))
    tab.page.wait_for_selector("#tph-batching-switch_steps", state="visible")
    assert tab.page.input_value("#tph-batching-switch_steps input") == "33"
    assert tab.errors == []


def test_preview_shows_samples_page_by_page(url: str, fake: FakeHost, open_tab: Any) -> None:
    tab = open_tab(url)
    choose(tab.page, "data.dataset", "animals.jsonl")
    assert not tab.page.is_visible("#tph-preview-next-button")
    tab.page.click("#tph-preview-button")
    tab.page.wait_for_selector('#tph-preview[data-first="0"]')
    assert "Samples 1 to 5 of 7" in tab.text("#tph-preview")
    assert tab.page.inner_text("#tph-preview [data-number='3'] mark").startswith("yes")
    assert tab.page.locator('#tph-preview [data-border="hard cut"]').count() == 1
    tab.page.click("#tph-preview-next-button")
    tab.page.wait_for_selector('#tph-preview[data-first="2"]')  # the last page is full
    tab.page.click("#tph-preview-back-button")
    tab.page.wait_for_selector('#tph-preview[data-first="0"]')
    assert fake.previewed == [(0, 5), (5, 5), (0, 5)]
    assert tab.errors == []


def test_preview_says_what_must_be_mended(url: str, fake: FakeHost, open_tab: Any) -> None:
    tab = open_tab(url)
    tab.page.click("#tph-preview-button")
    tab.page.wait_for_selector("#tph-problems >> text=Data set")
    assert fake.previewed == []
    choose(tab.page, "data.dataset", "animals.jsonl")
    fake.check_result = ValueError("Data set: nothing is left to train on.")
    tab.page.click("#tph-preview-button")
    tab.page.wait_for_selector("#tph-problems >> text=nothing is left")
    assert tab.errors == []


def test_check_shows_its_report(url: str, fake: FakeHost, open_tab: Any) -> None:
    tab = open_tab(url)
    choose(tab.page, "data.dataset", "animals.jsonl")
    tab.page.click("#tph-check-button")
    tab.page.wait_for_selector('#tph-check[data-status="ok"]')
    report = tab.text("#tph-check")
    for words in ("812 read, 2 broken", "203, 1 epoch of 203", "20 steps (10% of the run)", "about 2.0 GB"):
        assert words in report
    tab.page.click("#tph-check summary")
    assert "animals.jsonl:17 no JSON <here>" in tab.text("#tph-check")
    assert len(fake.checked) == 1
    assert tab.errors == []


def test_no_model_is_said_at_once_and_again_after_a_reload(fake: FakeHost, open_tab: Any) -> None:
    fake.facts = {"problem": "No model is loaded. Load one in the Model tab."}
    with serve(build_page(fake.host)) as url:
        tab = open_tab(url)
        assert tab.text('#tph-model[data-status="problem"]') == "No model is loaded. Load one in the Model tab."
        choose(tab.page, "data.dataset", "animals.jsonl")
        tab.page.click("#tph-start-button")
        tab.page.wait_for_selector("#tph-problems li")
        assert "No model is loaded." in tab.text("#tph-problems")
        assert not fake.launched
        fake.facts = {"name": "tiny", "device": "cpu"}
        tab.reload()
        tab.page.wait_for_selector('#tph-model[data-status="ok"]')
        assert tab.errors == []


def test_two_pages_and_a_reload_follow_the_same_run(url: str, fake: FakeHost, open_tab: Any) -> None:
    first, second = open_tab(url), open_tab(url)
    first.wait_status("idle")
    start(first)
    write_steps(fake.emit, 10)
    fake.emit("message", level="warning", text="Gradient accumulation was <lowered>.")
    for tab in (first, second):
        tab.page.wait_for_selector("#tph-status >> text=10 of 40")
        assert "1 min 15 s" in tab.wait_status("running")
        assert "Gradient accumulation was <lowered>." in tab.text("#tph-status")
        tab.page.wait_for_selector("#tph-curve svg >> nth=1")
    first.reload()
    first.page.wait_for_selector("#tph-status >> text=10 of 40")

    second.page.click("#tph-save-button")
    second.page.wait_for_selector("#tph-control-note >> text=A checkpoint is saved")
    assert read_control(folder_of(fake).control).save_requests == 1
    start_again = "The run 'my-lora' is going on."
    fill(second.page, "adapter.name", "other")
    choose(second.page, "data.dataset", "animals.jsonl")
    second.page.click("#tph-start-button")
    second.page.wait_for_selector("#tph-problems li")
    assert start_again in second.text("#tph-problems")

    second.page.click("#tph-stop-button")
    second.page.wait_for_selector("#tph-control-note >> text=keeps what was learned")
    assert read_control(folder_of(fake).control).stop
    first.page.wait_for_selector("#tph-status >> text=stopping after this step")
    for when, answer in (("before", "no <idea>"), ("after", "in Lake Orla")):
        fake.emit("sample", when=when, prompt="Where?", answer=answer)
    save_adapter(folder_of(fake))
    fake.end("interrupted", adapter=str(folder_of(fake).path))
    for tab in (first, second):
        tab.wait_status("interrupted")
        result = tab.text("#tph-result")
        assert "my-lora is saved." in result
        assert "no <idea>" in tab.text("#tph-samples-box")
        assert "in Lake Orla" in tab.text("#tph-samples-box")
        assert tab.errors == []


@pytest.mark.parametrize(
    ("pid", "end", "status", "words"),
    [
        (None, {"status": "finished"}, "finished", "is saved"),
        (
            None,
            {"status": "failed", "message": "Out of memory.", "remedy": "Lower True Batch Size."},
            "failed",
            "Lower True Batch Size.",
        ),
        (2**22 - 7, {}, "died", "Press Start training to begin anew"),
    ],
)
def test_a_page_opened_later_finds_the_run_that_was(
    url: str, fake: FakeHost, open_tab: Any, pid: int | None, end: dict[str, str], status: str, words: str
) -> None:
    folder = folder_of(fake, "before")
    emit = start_diary(folder, pid, None if pid is None else 1.0)
    write_steps(emit, 7)
    if end:
        save_adapter(folder)
        emit("run_ended", adapter=str(folder.path) if status == "finished" else "", **end)
    tab = open_tab(url)
    assert "7 of 40" in tab.wait_status(status)
    assert words in tab.text("#tph-live")
    assert tab.errors == []


def test_copy_parameters_from_a_former_run(url: str, fake: FakeHost, open_tab: Any) -> None:
    tab = open_tab(url)
    fill(tab.page, "adapter.rank", "7")
    fill(tab.page, "training.learning_rate", "1e-5")
    fill(tab.page, "samples.prompts", "Who?\nWhere?")
    tab.page.click("#tph-checkpoints-save_every_epoch input")
    start(tab, "former")
    fake.end()
    tab.reload()
    assert value_of(tab.page, "adapter.rank") == "7"  # what was typed survives; so something else must stand there
    fill(tab.page, "adapter.rank", "16")
    fill(tab.page, "training.learning_rate", "3e-4")
    fill(tab.page, "samples.prompts", "")
    tab.page.click("#tph-checkpoints-save_every_epoch input")
    choose(tab.page, "copy_from", "former")
    tab.page.wait_for_selector("#tph-note >> text=The parameters were copied.")
    assert value_of(tab.page, "adapter.rank") == "7"
    assert value_of(tab.page, "adapter.name") == "former"
    assert value_of(tab.page, "training.learning_rate") == "1e-5"
    assert value_of(tab.page, "samples.prompts") == "Who?\nWhere?"
    assert value_of(tab.page, "data.dataset") == "animals.jsonl"
    assert not tab.page.is_checked("#tph-checkpoints-save_every_epoch input")
    assert tab.errors == []


def test_files_can_be_refreshed_and_typed(url: str, fake: FakeHost, open_tab: Any, tmp_path: Path) -> None:
    tab = open_tab(url)
    (fake.data / "new.json").write_text("[]", encoding="utf-8")
    tab.page.click("#tph-data-dataset-refresh")
    tab.page.wait_for_timeout(500)
    choose(tab.page, "data.dataset", "new.json")
    elsewhere = tmp_path / "elsewhere.txt"
    elsewhere.write_text("Once.", encoding="utf-8")
    type_choice(tab.page, "data.text_file", str(elsewhere))
    type_choice(tab.page, "adapter.targets", "my_module")
    tab.page.click("#tph-check-button")
    tab.page.wait_for_selector('#tph-check[data-status="ok"]')
    (config,) = fake.checked
    assert config.data.dataset == str(fake.data / "new.json")
    assert config.data.text_file == str(elsewhere)
    assert "my_module" in config.adapter.targets
    assert tab.errors == []


def test_a_closed_page_leaves_no_stream_behind(url: str, fake: FakeHost, open_tab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "HEARTBEAT_SECONDS", 0.5)
    looks = threading.Semaphore(0)
    read = watch.RunFollower.read

    def counted(self: Any) -> Any:
        looks.release()
        return read(self)

    monkeypatch.setattr(watch.RunFollower, "read", counted)
    tab = open_tab(url)
    assert all(looks.acquire(timeout=90) for _ in range(4))
    tab.page.close()
    for _ in range(40):
        if not looks.acquire(timeout=3):
            return
    pytest.fail("the stream of a closed page goes on")


def test_a_phone_shows_everything_in_one_column(url: str, fake: FakeHost, open_tab: Any) -> None:
    tab = open_tab(url, width=390)
    assert tab.page.evaluate("document.documentElement.scrollWidth") == 390
    tab.page.click("#tph-jump a")
    start(tab)
    write_steps(fake.emit, 3)
    tab.page.wait_for_selector("#tph-curve svg")
    boxes = [tab.page.locator(f"#tph-{name}").bounding_box() for name in ("start-button", "status", "curve", "adapter-name")]
    assert all(box and box["x"] >= 0 and box["x"] + box["width"] <= 390 for box in boxes)
    assert tab.errors == []
