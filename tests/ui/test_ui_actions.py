"""What the buttons do, without a browser: the handlers get the fields' values and give the components' new content."""

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import pytest
from fake_host import FakeHost, save_adapter, start_diary

if not os.environ.get("CI"):  # there a missing gradio is an error
    pytest.importorskip("gradio")

from training_pro.config import RunConfig
from training_pro.runs import registry
from training_pro.runs.registry import RunBusyError
from training_pro.runs.store import RunFolder, write_json
from training_pro.ui.actions import Actions
from training_pro.ui.css import CSS
from training_pro.ui.fields import form_settings
from training_pro.ui.form import Form
from training_pro.ui.page import build_page, launch_options
from training_pro.ui.session import PageSession
from training_pro.ui.tab import run_choices


class Page:
    """Handlers with a form whose fields are the settings' names."""

    def __init__(self, fake: FakeHost) -> None:
        infos = form_settings(fake.host.in_webui)
        self.form = Form(fake.host, infos, [info.field for info in infos])
        self.actions = Actions(fake.host, self.form)
        self.fake = fake

    def values(self, **changes: Any) -> list[Any]:
        values = dict(zip([info.field for info in self.form.infos], self.form.values(RunConfig()), strict=True))
        values["data.dataset"] = str(self.fake.data / "animals.jsonl")
        if "run.adapters_dir" in values:
            values["run.adapters_dir"] = str(self.fake.adapters)
        for key, value in changes.items():
            values[key.replace("__", ".")] = value
        return list(values.values())


def is_unchanged(update: Any) -> bool:
    return isinstance(update, dict) and set(update) <= {"__type__"}


def test_start_launches_what_the_form_shows(fake: FakeHost) -> None:
    page = Page(fake)
    box, report, *_ = page.actions.start(*page.values(adapter__name="first", training__learning_rate="2e-4"))
    assert "tph-note" in box
    assert "<li>" not in box
    assert report == '<div id="tph-check"></div>'
    (config,) = fake.launched
    assert (config.adapter.name, config.training.learning_rate) == ("first", 2e-4)


def test_an_offered_file_may_be_named_as_it_is_listed(fake: FakeHost) -> None:
    page = Page(fake)
    page.actions.start(*page.values(data__dataset="animals.jsonl"))
    assert fake.launched[0].data.dataset == str(fake.data / "animals.jsonl")


def test_start_lists_all_problems_and_launches_nothing(fake: FakeHost) -> None:
    page = Page(fake)
    fake.facts = {"problem": "No model is loaded."}
    box, report, model, advanced, *_ = page.actions.start(*page.values(training__learning_rate="fast", training__seed=-1))
    assert not fake.launched
    for words in ("No model is loaded.", "Learning Rate", "Seed"):
        assert words in box
    assert is_unchanged(report)
    assert "No model is loaded." in model
    assert advanced["open"] is True  # the Seed is an advanced setting


def test_a_second_start_is_told_of_the_first(fake: FakeHost) -> None:
    page = Page(fake)
    page.actions.start(*page.values(adapter__name="first"))
    box, *_ = page.actions.start(*page.values(adapter__name="second"))
    assert "The run &#x27;first&#x27; is going on." in box
    with pytest.raises(RunBusyError, match="first"):
        registry.claim("third")


def test_a_name_that_exists_is_a_problem(fake: FakeHost) -> None:
    page = Page(fake)
    taken = RunFolder(fake.adapters / "taken")
    start_diary(taken)
    save_adapter(taken)
    box, *_ = page.actions.start(*page.values(adapter__name="taken"))
    assert "If the name exists" in box


def test_check_says_that_it_works_then_reports(fake: FakeHost) -> None:
    page = Page(fake)
    waiting, done = page.actions.check(*page.values(checkpoints__save_every_steps=50))
    assert 'data-status="checking"' in waiting[1]
    assert 'data-status="ok"' in done[1]
    assert "every 50 steps" in done[1]
    assert len(fake.checked) == 1


def test_check_shows_problems_of_the_form_and_errors_of_the_host(fake: FakeHost) -> None:
    page = Page(fake)
    (only,) = page.actions.check(*page.values(adapter__rank=0))
    assert "LoRA Rank" in only[0]
    assert not fake.checked
    fake.check_result = OSError("The disk is gone <now>.")
    *_, last = page.actions.check(*page.values())
    assert "The disk is gone &lt;now&gt;." in last[0]


def test_where_nothing_may_be_changed_no_run_is_started(fake: FakeHost) -> None:
    page = Page(fake)
    page.actions = Actions(dataclasses.replace(fake.host, read_only=lambda: "Several users share this WebUI."), page.form)
    box, *_ = page.actions.start(*page.values())
    assert "Several users share this WebUI." in box
    assert not fake.launched


def test_resume_from_a_checkpoint_fills_the_form(fake: FakeHost) -> None:
    page = Page(fake)
    page.actions.start(*page.values(adapter__name="first", adapter__rank=7))
    fake.end("interrupted")
    box, *values = page.actions.resume_from(PageSession(), "checkpoint-20")
    assert "Checkpoint checkpoint-20: it is not there any more." in box
    assert all(is_unchanged(value) for value in values)
    write_json(make_folder(fake.adapters / "first" / "checkpoint-20") / "training_pro.json", {"cause": "steps"})
    box, *values = page.actions.resume_from(PageSession(), "checkpoint-20")
    assert "Start training goes on from checkpoint-20." in box
    adapter = page.form.config(values).adapter
    assert (adapter.name, adapter.if_exists, adapter.resume_from, adapter.rank) == ("first", "resume", "checkpoint-20", 7)


def make_folder(path: Path) -> Path:
    path.mkdir()
    return path


def test_copy_from_a_former_run(fake: FakeHost) -> None:
    page = Page(fake)
    page.actions.start(*page.values(adapter__name="first", adapter__rank=7, samples__prompts="Who?\nWhere?"))
    choices = dict(run_choices(fake.host))
    assert list(choices) == ["None", "first"]
    box, *values = page.actions.copy_from(choices["first"])
    assert "The parameters were copied." in box
    config = page.form.config(values)
    assert (config.adapter.name, config.adapter.rank, config.samples.prompts) == ("first", 7, ["Who?", "Where?"])


def test_copy_from_an_old_file_says_what_has_no_counterpart(fake: FakeHost, tmp_path: Path) -> None:
    old = {
        "lora_name": "veteran",
        "micro_batch_size": 3,
        "batch_size": 12,
        "lora_rank": 64,
        "learning_rate": "1e-5",
        "odd_thing": 5,
    }
    path = tmp_path / "training_parameters.json"
    path.write_text(json.dumps(old), encoding="utf-8")
    page = Page(fake)
    box, *values = page.actions.copy_from(str(path))
    assert "odd_thing" in box
    config = page.form.config(values)
    assert (config.adapter.name, config.adapter.rank, config.training.learning_rate) == ("veteran", 64, 1e-5)
    assert (config.batching.true_batch_size, config.batching.gradient_accumulation) == (3, 4)


@pytest.mark.parametrize("choice", ["None", "", None])
def test_copy_from_nothing_changes_nothing(fake: FakeHost, choice: str | None) -> None:
    _, *values = Page(fake).actions.copy_from(choice)
    assert values
    assert all(is_unchanged(value) for value in values)


def test_copy_from_a_bad_file_changes_nothing_and_says_why(fake: FakeHost) -> None:
    box, *values = Page(fake).actions.copy_from(str(fake.data / "missing.yaml"))
    assert "There is no configuration file" in box
    assert all(is_unchanged(value) for value in values)


def test_in_the_webui_the_host_decides_model_and_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_current", None)
    fake = FakeHost(tmp_path / "webui", in_webui=True)
    page = Page(fake)
    page.actions.start(*page.values(adapter__name="inside"))
    registry.release()
    (config,) = fake.launched
    assert config.run.adapters_dir == str(fake.adapters)
    assert config.model.path == ""


@pytest.mark.parametrize("in_webui", [True, False])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_page_has_one_field_for_each_setting(tmp_path: Path, in_webui: bool) -> None:
    page = build_page(FakeHost(tmp_path, in_webui=in_webui).host)
    ids = [getattr(block, "elem_id", None) for block in page.blocks.values()]
    for info in form_settings(in_webui):
        assert ids.count(f"tph-{info.section}-{info.key}") == 1
    assert ("tph-model-path" in ids) is not in_webui
    options = launch_options()
    assert ("css" in options) is not hasattr(page, "css") or CSS in str(page.css or options.get("css"))


def test_selectors_have_no_comma_in_parentheses() -> None:
    """Gradio splits every selector at its commas to put a prefix before each part."""
    import re

    selectors = re.findall(r"(?:^|\})\s*([^{}@]+)\{", CSS)
    assert len(selectors) > 50
    assert not [selector for selector in selectors if re.search(r"\([^)]*,", selector)]
