"""The form in a real browser: marks at fields, suggestions, presets, YAML and command line, the draft, on whichever gradio is installed."""

import dataclasses
import json
import os
import shlex
import threading
from pathlib import Path
from typing import Any

import pytest

if not os.environ.get("CI"):  # there a missing gradio is an error
    pytest.importorskip("gradio")

from browser import choose, fill, value_of
from fake_host import CHECK_RESULT, FakeHost, save_adapter, start_diary
from training_pro.config import RunConfig
from training_pro.config.loading import parse_yaml
from training_pro.runs.check_report import CheckReport
from training_pro.runs.store import RunFolder
from training_pro.ui.form.filling import Filling

pytestmark = pytest.mark.filterwarnings("ignore")  # gradio 4's own, about its dependencies

SUGGESTED = {
    "data.cutoff": (96, "the longest sample has 90 tokens"),
    "training.learning_rate": (2e-5, "0.0003 is far too high for full"),
    "training.gradient_checkpointing": (True, "nothing fits without it"),
}
ROW = {"before": "", "num_samples": 400, "joined_share": 0.0, "tokens": 9000, "padding_share": 0.02}
CHECKED = dataclasses.replace(
    CHECK_RESULT,
    report={**CHECK_RESULT.report, "histogram": [(50, 300), (100, 510)], "num_too_long": 10, "too_long": []},
    plan={
        **CHECK_RESULT.plan,
        "phases": [{**ROW, "phase": "length", "begin": 0, "end": 1, "num_steps": 103}]
        + [{**ROW, "phase": "sequential", "begin": 1, "end": 2, "num_steps": 100}],
        "switches": [{"phase": "sequential", "steps": (103, 103), "epochs": (1.0, 1.0), "cause": "after 1 epoch"}],
        "schedule": "linear",
        "learning_rates": [(0, 3e-4), (203, 0.0)],
    },
    memory={**CHECK_RESULT.memory, "activations": 2**30, "limit": 2**33, "largest_batch": 12},
    suggestions=SUGGESTED,
)
IN_SIGHT = """(id) => { const box = document.getElementById(id).getBoundingClientRect();
    return box.top >= 0 && box.bottom <= window.innerHeight }"""


def mark_of(tab: Any, field: str) -> str:
    """The sentence at a field; empty if it is not marked."""
    place = f"document.querySelector('#tph-{field.replace('.', '-')}')"
    said = str(tab.page.evaluate(f"getComputedStyle({place}, '::after').content"))
    return "" if said in ("none", "normal") else said.strip('"')


def border_of(tab: Any, field: str) -> str:
    inner = f"#tph-{field.replace('.', '-')} :is(textarea, .container > .wrap, input)"
    return str(tab.page.evaluate(f"getComputedStyle(document.querySelector('{inner}')).borderTopColor"))


def wait_value(tab: Any, field: str, value: str) -> None:
    tab.page.wait_for_function(
        "([id, value]) => document.querySelector(`#${id} :is(input, textarea)`).value === value",
        arg=[f"tph-{field.replace('.', '-')}", value],
    )


@pytest.mark.parametrize("width", [1280, 390])
def test_wrong_fields_are_marked_at_once_and_cleared_one_by_one(url: str, fake: FakeHost, open_tab: Any, width: int) -> None:
    tab = open_tab(url, width=width)
    plain = border_of(tab, "adapter.rank")
    fill(tab.page, "adapter.rank", "0")
    fill(tab.page, "training.epochs", "-1")
    tab.page.click("#tph-advanced button")
    fill(tab.page, "training.seed", "-1")
    tab.page.click("#tph-advanced button >> nth=0")
    tab.page.click("#tph-start-button")
    tab.page.wait_for_selector("#tph-problems li >> nth=3")
    said = {field: mark_of(tab, field) for field in ("adapter.rank", "training.epochs", "training.seed", "data.dataset")}
    assert said == {
        "adapter.rank": "It must be at least 1.",
        "training.epochs": "It must be more than 0.",
        "training.seed": "It must be at least 0.",
        "data.dataset": "There is nothing to train on.",
    }
    assert border_of(tab, "adapter.rank") == border_of(tab, "data.dataset") != plain
    assert tab.page.is_visible("#tph-training-seed")  # its group opened
    tab.page.wait_for_function(IN_SIGHT, arg="tph-adapter-rank")  # the first of them, though the button is far below on a phone
    fill(tab.page, "adapter.rank", "8")
    tab.page.wait_for_function("document.querySelectorAll('#tph-problems li').length === 3")
    assert (mark_of(tab, "adapter.rank"), mark_of(tab, "training.epochs")) == ("", "It must be more than 0.")
    assert border_of(tab, "adapter.rank") != border_of(tab, "training.epochs")
    fill(tab.page, "training.epochs", "2")
    fill(tab.page, "training.seed", "1")
    choose(tab.page, "data.dataset", "animals.jsonl")
    tab.page.wait_for_selector("#tph-problems:not([data-first])", state="attached")
    assert not any(mark_of(tab, field) for field in said)
    assert fake.launched == []
    assert tab.errors == []


def test_a_link_of_the_box_leads_to_the_field(url: str, open_tab: Any) -> None:
    tab = open_tab(url)
    choose(tab.page, "data.dataset", "animals.jsonl")
    fill(tab.page, "checkpoints.keep_last", "-1")
    tab.page.click("#tph-check-button")
    tab.page.wait_for_selector("#tph-problems[data-first='tph-checkpoints-keep_last']")
    tab.page.wait_for_function(IN_SIGHT, arg="tph-checkpoints-keep_last")
    tab.page.wait_for_timeout(1500)  # it is scrolled to smoothly
    tab.page.evaluate("window.scrollTo(0, 0)")
    tab.page.wait_for_function(f"id => !({IN_SIGHT})(id)", arg="tph-checkpoints-keep_last")
    tab.page.click("#tph-problems a >> text=Keep checkpoints")
    tab.page.wait_for_function(IN_SIGHT, arg="tph-checkpoints-keep_last")
    assert tab.errors == []


def test_samples_of_a_step_are_shown_while_one_types(url: str, open_tab: Any) -> None:
    tab = open_tab(url)
    assert tab.text("#tph-product") == "4 × 1 = 4 samples for each optimizer step"
    fill(tab.page, "batching.gradient_accumulation", "8")
    tab.page.wait_for_selector("#tph-product >> text=4 × 8 = 32 samples")
    choose(tab.page, "batching.packing", "best_fit")
    tab.page.wait_for_selector("#tph-product >> text=32 packs")
    fill(tab.page, "batching.true_batch_size", "0")
    tab.page.wait_for_selector("#tph-product:empty", state="attached")
    assert tab.errors == []


def test_help_speaks_of_the_chosen_entry_only(url: str, open_tab: Any) -> None:
    tab = open_tab(url)
    field = "#tph-adapter-method"
    assert "the safe choice" in tab.text(field)
    assert "VeRA" not in tab.text(field)
    choose(tab.page, "adapter.method", "vera")
    tab.page.wait_for_selector(f"{field} >> text=wants a learning rate of about 1e-2")
    assert "the safe choice" not in tab.text(field)
    assert tab.errors == []


def test_check_is_shown_and_its_suggestions_applied(url: str, fake: FakeHost, open_tab: Any) -> None:
    fake.check_result = CHECKED
    tab = open_tab(url)
    choose(tab.page, "data.dataset", "animals.jsonl")
    tab.page.click("#tph-check-button")
    tab.page.wait_for_selector("#tph-suggestions", state="visible")
    report = tab.text("#tph-check")
    for words in ("10 conversations over the cutoff (1.2%)", "cutoff 512", "sequential", "Largest True Batch Size that fits: 12"):
        assert words in report
    assert tab.page.locator("#tph-check rect.tph-length").count() == 2
    assert tab.page.locator("#tph-check path.tph-cutoff").count() == 1
    assert tab.page.locator("#tph-check table tbody tr >> text=sequential").count() == 1
    assert tab.page.locator(".tph-suggestion:visible").count() == 3
    assert "Learning Rate: 2e-5. 0.0003 is far too high for full." in tab.text("#tph-suggestions")
    tab.page.click("#tph-apply-1")
    wait_value(tab, "training.learning_rate", "2e-5")
    tab.page.wait_for_selector("#tph-apply-1 >> text=Applied")
    assert value_of(tab.page, "data.cutoff") == "512"
    tab.page.click("#tph-apply-all")
    wait_value(tab, "data.cutoff", "96")
    tab.page.wait_for_selector("#tph-note >> text=Use Gradient Checkpoint is on now")
    assert tab.page.is_checked("#tph-training-gradient_checkpointing input")
    tab.reload()  # what was applied is there again
    wait_value(tab, "data.cutoff", "96")
    tab.page.click("#tph-check-button")
    tab.page.wait_for_selector("#tph-check[data-status=ok]")
    assert (fake.checked[-1].data.cutoff, fake.checked[-1].training.learning_rate) == (96, 2e-5)
    fake.check_result = CheckReport(problems=["The data set is empty."])
    tab.page.click("#tph-check-button")
    tab.page.wait_for_selector("#tph-suggestions", state="hidden")
    assert tab.errors == []


def test_presets_are_saved_loaded_after_a_reload_and_deleted(url: str, fake: FakeHost, open_tab: Any) -> None:
    tab = open_tab(url)
    tab.page.click("#tph-presets button >> nth=0")
    fill(tab.page, "adapter.rank", "24")
    choose(tab.page, "batching.mode", "hybrid")
    tab.page.fill("#tph-preset-name :is(input, textarea)", "my talks")
    tab.page.click("#tph-preset-save")
    tab.page.wait_for_selector("#tph-note >> text=The preset my talks was saved")
    tab.page.click("#tph-preset-save")
    tab.page.wait_for_selector("#tph-note >> text=Press Save again to replace it")
    choose(tab.page, "preset", "Full fine-tuning")
    tab.page.wait_for_selector("#tph-preset-words >> text=Every weight of a small model")
    tab.page.click("#tph-preset-load")
    wait_value(tab, "adapter.method", "full")
    tab.page.wait_for_selector("#tph-adapter-rank", state="hidden")
    tab.reload()
    wait_value(tab, "adapter.method", "full")  # what a preset filled in survives a reload, too
    tab.page.click("#tph-presets button >> nth=0")
    assert tab.page.is_disabled("#tph-preset-delete")
    choose(tab.page, "preset", "my talks (yours)")
    tab.page.wait_for_selector("#tph-preset-delete:not([disabled])")
    tab.page.click("#tph-preset-load")
    wait_value(tab, "batching.mode", "hybrid")
    assert value_of(tab.page, "adapter.rank") == "24"
    tab.page.wait_for_selector("#tph-batching-switch_epochs", state="visible")
    tab.page.click("#tph-preset-delete")
    tab.page.wait_for_selector("#tph-note >> text=The preset my talks was deleted")
    assert list((fake.adapters / ".training_pro_presets-np").iterdir()) == []
    assert tab.errors == []


def test_yaml_and_command_line_are_the_form(url: str, fake: FakeHost, open_tab: Any) -> None:
    tab = open_tab(url)
    fill(tab.page, "adapter.name", "as typed")
    fill(tab.page, "training.learning_rate", "5e-5")
    fill(tab.page, "samples.prompts", "Who's there?\nA & B")
    choose(tab.page, "data.dataset", "animals.jsonl")
    tab.page.click("#tph-presets button >> nth=0")
    tab.page.click("#tph-shell label >> text=Linux")
    tab.page.click("#tph-yaml-write")
    tab.page.wait_for_selector("#tph-yaml-download")
    command = tab.page.input_value("#tph-command textarea")
    text = tab.page.input_value("#tph-yaml textarea")
    with tab.page.expect_download() as download:
        tab.page.click("#tph-yaml-download")
    assert download.value.suggested_filename == "as typed.yaml"
    assert Path(download.value.path()).read_text(encoding="utf-8") == text
    tab.page.click("#tph-shell label >> text=PowerShell")
    tab.page.wait_for_function("document.querySelector('#tph-command textarea').value.includes(\"Who''\")")
    tab.page.click("#tph-start-button")
    tab.wait_status("running")
    (launched,) = fake.launched
    overrides = [word for word in shlex.split(command)[3:] if word != "--set"]
    assert RunConfig.from_overrides(overrides).to_dict() == launched.to_dict()
    assert RunConfig.from_dict(parse_yaml(text, "YAML")).to_dict() == launched.to_dict()
    assert tab.errors == []


def test_yaml_is_pasted_and_old_files_are_opened(url: str, open_tab: Any, tmp_path: Path) -> None:
    tab = open_tab(url)
    tab.page.click("#tph-presets button >> nth=0")
    tab.page.fill("#tph-yaml textarea", "training: {epochs: 7, speed: 2}\n")
    tab.page.click("#tph-yaml-read")
    wait_value(tab, "training.epochs", "7")
    old = tmp_path / "training_parameters.json"
    parameters = {"lora_name": "veltmor", "micro_batch_size": 2, "grad_accumulation": 4, "save_steps_under_loss": 1.8}
    old.write_text(json.dumps({**parameters, "stop_at_epoch": 2, "group_by_length": True}), encoding="utf-8")
    with tab.page.expect_file_chooser() as chooser:
        tab.page.click("#tph-yaml-upload")
    chooser.value.set_files(str(old))
    wait_value(tab, "adapter.name", "veltmor")
    shown = {
        name: value_of(tab.page, f"checkpoints.{name}") for name in ("stop_at_epoch", "save_on_loss_fall", "save_loss_start")
    }
    assert shown == {"stop_at_epoch": "2", "save_on_loss_fall": "10", "save_loss_start": "1.8"}
    assert value_of(tab.page, "batching.mode") == "length"
    assert value_of(tab.page, "training.epochs") == "3"  # what the file does not say is a default
    assert tab.errors == []


def test_what_was_typed_survives_a_reload_of_this_browser_only(url: str, open_tab: Any) -> None:
    first, second = open_tab(url), open_tab(url)
    fill(first.page, "adapter.name", "mine")
    fill(first.page, "training.learning_rate", "not yet a number")
    choose(first.page, "batching.mode", "hybrid")
    first.page.uncheck("#tph-checkpoints-save_every_epoch input")
    fill(second.page, "adapter.name", "theirs")
    first.page.wait_for_function("JSON.parse(localStorage['tph-form'] || '{}')['checkpoints.save_every_epoch'] === false")
    for tab, name in ((first, "mine"), (second, "theirs")):
        tab.reload()
        wait_value(tab, "adapter.name", name)
    assert value_of(first.page, "training.learning_rate") == "not yet a number"
    assert value_of(first.page, "batching.mode") == "hybrid"
    first.page.wait_for_selector("#tph-batching-switch_epochs", state="visible")
    assert not first.page.is_checked("#tph-checkpoints-save_every_epoch input")
    assert value_of(second.page, "batching.mode") == "shuffled"
    third = open_tab(url)
    assert value_of(third.page, "adapter.name") == "my-lora"
    assert first.errors == second.errors == third.errors == []


def test_former_runs_are_sorted_by_date_or_name(url: str, fake: FakeHost, open_tab: Any) -> None:
    for age, name in enumerate(("beta", "alpha", "gamma")):
        folder = RunFolder(fake.adapters / name)
        start_diary(folder)
        save_adapter(folder)
        os.utime(folder.path, (1_700_000_000 + age, 1_700_000_000 + age))

    def listed(tab: Any) -> list[str]:
        tab.page.click("#tph-copy_from input")
        tab.page.wait_for_selector("ul.options li, ul[role=listbox] li")
        found = [name for name in tab.page.locator("ul.options li, ul[role=listbox] li").all_inner_texts()]
        tab.page.press("#tph-copy_from input", "Escape")
        tab.page.locator("#tph-copy_from input").blur()
        return [name.replace("✓", "").strip() for name in found][1:]

    tab = open_tab(url)
    assert listed(tab) == ["gamma", "alpha", "beta"]
    tab.page.click("#tph-copy-order label >> text=by name")
    tab.page.wait_for_timeout(800)
    assert listed(tab) == ["alpha", "beta", "gamma"]
    tab.page.click("#tph-copy_from-refresh")
    tab.page.wait_for_timeout(800)
    assert listed(tab) == ["alpha", "beta", "gamma"]
    assert tab.errors == []


def test_a_phone_needs_no_sideways_scrolling(url: str, fake: FakeHost, open_tab: Any) -> None:
    fake.check_result = CHECKED
    tab = open_tab(url, width=390)
    tab.page.click("#tph-presets button >> nth=0")
    fill(tab.page, "samples.prompts", "word " * 60)
    tab.page.click("#tph-yaml-write")
    tab.page.wait_for_selector("#tph-yaml-download")
    choose(tab.page, "data.dataset", "animals.jsonl")
    tab.page.click("#tph-check-button")
    tab.page.wait_for_selector("#tph-suggestions", state="visible")
    assert tab.page.evaluate("document.documentElement.scrollWidth") == 390
    parts = (
        "tph-preset",
        "tph-preset-save",
        "tph-yaml",
        "tph-command",
        "tph-check",
        "tph-suggestions",
        "tph-apply-0",
        "tph-product",
    )
    boxes = {name: tab.page.locator(f"#{name}").bounding_box() for name in parts}
    assert {name for name, box in boxes.items() if not box or box["x"] < 0 or box["x"] + box["width"] > 390} == set()
    assert tab.errors == []


def test_a_late_look_at_the_marks_replaces_nothing_newer(url: str, open_tab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    free = threading.Event()
    free.set()
    slow = Filling.recheck

    def recheck(self: Filling, *values: Any) -> str:
        free.wait(60)
        return slow(self, *values)

    monkeypatch.setattr(Filling, "recheck", recheck)
    tab = open_tab(url)
    tab.page.click("#tph-presets button >> nth=0")
    fill(tab.page, "adapter.rank", "0")
    tab.page.click("#tph-check-button")
    tab.page.wait_for_selector("#tph-problems[data-first]")
    tab.page.click("#tph-preset-load")  # the defaults; a word beside the marks, and a change of the field that is marked
    tab.page.wait_for_selector("#tph-note >> text=The preset Defaults was loaded.")
    wait_value(tab, "adapter.rank", str(RunConfig().adapter.rank))
    tab.page.wait_for_selector("#tph-problems[data-again]")  # the data set is missing, still
    assert "The preset Defaults was loaded." in tab.text("#tph-note")
    free.clear()
    fill(tab.page, "training.epochs", "2")
    tab.page.wait_for_timeout(600)  # it is being looked at
    tab.page.fill("#tph-preset-name :is(input, textarea)", "newer")
    tab.page.click("#tph-preset-save")
    tab.page.wait_for_selector("#tph-note >> text=The preset newer was saved")
    free.set()
    fill(tab.page, "training.epochs", "-1")
    tab.page.wait_for_timeout(1500)
    assert "The preset newer was saved" in tab.text("#tph-note")
    assert tab.page.query_selector("#tph-problems[data-first]") is None
    tab.page.click("#tph-check-button")
    tab.page.wait_for_selector("#tph-problems li >> nth=1")
    fill(tab.page, "training.epochs", "1")  # one change after the other, faster than the answers
    tab.page.wait_for_selector("#tph-problems[data-again] li", state="attached")
    choose(tab.page, "data.dataset", "animals.jsonl")
    tab.page.wait_for_selector("#tph-problems:not([data-first])", state="attached")
    assert tab.errors == []
