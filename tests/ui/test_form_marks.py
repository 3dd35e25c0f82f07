"""What fills the form from elsewhere, without a browser: presets, YAML, files, the draft, marks that go away, the command line."""

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import pytest
from fake_host import FakeHost

if not os.environ.get("CI"):  # there a missing gradio is an error
    pytest.importorskip("gradio")

from training_pro.config import RunConfig
from training_pro.ui.actions import Actions, message_html
from training_pro.ui.fields import form_settings
from training_pro.ui.form import Form
from training_pro.ui.form.command import POSIX, POWERSHELL, own_shell
from training_pro.ui.form.filling import Filling, for_terminal
from training_pro.ui.form.presets import DEFAULTS, SHIPPED, list_presets


class Page:
    """Handlers with a form whose fields are the settings' names."""

    def __init__(self, fake: FakeHost) -> None:
        infos = form_settings(fake.host.in_webui)
        self.form = Form(fake.host, infos, [info.field for info in infos])
        self.filling = Filling(fake.host, self.form, Actions(fake.host, self.form))
        self.data = str(fake.data / "animals.jsonl")

    def values(self, **changes: Any) -> list[Any]:
        shown = {"data.dataset": self.data, **{key.replace("__", "."): value for key, value in changes.items()}}
        defaults = self.form.values(RunConfig())
        return [shown.get(info.field, value) for info, value in zip(self.form.infos, defaults, strict=True)]

    def named(self, updates: list[Any]) -> dict[str, Any]:
        """Values that a handler gives the fields; those that it leaves alone are missing."""
        named = zip([info.field for info in self.form.infos], updates, strict=True)
        plain = ((field, update.get("value", ...) if isinstance(update, dict) else update) for field, update in named)
        return {field: value for field, value in plain if value is not ...}


def test_marks_go_away_when_a_field_is_mended(fake: FakeHost) -> None:
    page = Page(fake)
    wrong = page.values(adapter__rank=0, training__learning_rate="fast")
    assert "LoRA Rank" in page.filling.recheck(*wrong)
    once = page.filling.recheck(*page.values(adapter__rank=8, training__learning_rate="fast"))
    assert "Learning Rate" in once
    assert "LoRA Rank" not in once
    assert page.filling.recheck(*page.values(adapter__rank=8)) == message_html()


def test_a_preset_fills_the_form(fake: FakeHost) -> None:
    page = Page(fake)
    box, *updates = page.filling.load(str(SHIPPED / "full_fine_tuning.yaml"), *page.values(adapter__name="mine"))
    assert "The preset Full fine-tuning was loaded." in box
    shown = page.named(updates)
    assert (shown["adapter.method"], shown["adapter.name"], shown["data.dataset"]) == ("full", "mine", page.data)
    box, *updates = page.filling.load("/no/such.yaml", *page.values())
    assert "not there any more" in box
    assert page.named(updates) == {}


def test_a_preset_is_replaced_at_the_second_press_only(fake: FakeHost) -> None:
    page = Page(fake)
    first = page.filling.save("mine", "", *page.values(adapter__rank=8))
    assert "The preset mine was saved" in first[0]
    assert first[1]["value"].endswith("mine.yaml")
    box, _, asked = page.filling.save("mine", first[2], *page.values(adapter__rank=64))
    assert "Press Save again to replace it" in box
    assert page.named(page.filling.load(first[1]["value"], *page.values())[1:])["adapter.rank"] == 8
    other = page.filling.save("other", asked, *page.values())  # another name needs its own second press
    assert "saved" in other[0]
    page.filling.save("mine", "mine", *page.values(adapter__rank=64))
    assert page.named(page.filling.load(first[1]["value"], *page.values())[1:])["adapter.rank"] == 64


def test_deleting_a_preset(fake: FakeHost) -> None:
    page = Page(fake)
    key = page.filling.save("mine", "", *page.values())[1]["value"]
    assert page.filling.describe(key)[1]["interactive"] is True
    assert page.filling.describe(DEFAULTS)[1]["interactive"] is False
    box, choices = page.filling.delete(key)
    assert "The preset mine was deleted." in box
    assert choices["value"] == DEFAULTS
    assert "cannot be deleted" in page.filling.delete(str(SHIPPED / "qlora_8gb.yaml"))[0]


def test_nothing_is_written_where_nothing_may_be_changed(fake: FakeHost) -> None:
    page = Page(fake)
    key = page.filling.save("mine", "", *page.values())[1]["value"]
    host = dataclasses.replace(fake.host, read_only=lambda: "This WebUI is shared: nothing may be changed.")
    filling = Filling(host, page.form, Actions(host, page.form))
    assert "nothing may be changed" in filling.save("new", "", *page.values())[0]
    assert "nothing may be changed" in filling.delete(key)[0]
    assert [preset.name for preset in list_presets(fake.adapters) if preset.is_own] == ["mine"]


def test_the_form_as_yaml_and_back(fake: FakeHost) -> None:
    page = Page(fake)
    changes = {"adapter__rank": 8, "training__learning_rate": "2e-4", "samples__prompts": "Who?\nWhy?"}
    values = page.values(**changes, run__adapters_dir=str(fake.adapters))
    text, link, command, box = page.filling.write(POSIX, *values)
    assert "rank: 8" in text
    assert 'download="my-lora.yaml"' in link
    assert "--set adapter.rank=8" in command
    assert box == message_html()
    box, *updates = page.filling.read(text, *page.values())
    assert "The YAML was taken over." in box
    assert list(page.named(updates).values()) == values
    assert page.filling.command(POWERSHELL, text).startswith("python ")
    assert page.filling.command(POSIX, text) == command
    assert page.filling.command(POSIX, "a: [") == page.filling.command(POSIX, "") == ""


def test_values_that_nobody_can_read_are_said_beside_the_yaml(fake: FakeHost) -> None:
    page = Page(fake)
    text, _, _, box = page.filling.write(own_shell(), *page.values(adapter__rank=0))
    assert "rank" not in text
    assert "left out" in box
    assert "LoRA Rank" in box


@pytest.mark.parametrize(("text", "words"), [("", "holds no settings"), ("- 1", "holds no settings"), ("a: [", "not valid YAML")])
def test_yaml_that_is_none_changes_nothing(fake: FakeHost, text: str, words: str) -> None:
    page = Page(fake)
    box, *updates = page.filling.read(text, *page.values())
    assert words in box
    assert page.named(updates) == {}


def test_files_of_users(fake: FakeHost, tmp_path: Path) -> None:
    page = Page(fake)
    old = tmp_path / "training_parameters.json"
    old.write_text(json.dumps({"lora_name": "veltmor", "micro_batch_size": 2, "lora_rank": 64, "neft_noise_alpha": 5}))
    shown = page.named(page.filling.upload(str(old), *page.values())[1:])
    assert (shown["adapter.name"], shown["adapter.rank"], shown["training.neftune_alpha"]) == ("veltmor", 64, 5)
    (tmp_path / "wrong.yaml").write_text("training: {epochs: many, speed: 3}\n")
    box, *updates = page.filling.upload(str(tmp_path / "wrong.yaml"), *page.values())
    assert "Epochs" in box
    assert page.named(updates)["training.epochs"] == 3


def test_the_draft_of_a_browser_fills_the_form(fake: FakeHost) -> None:
    page = Page(fake)
    assert page.named(page.filling.restore('{"adapter.rank": 7, "adapter.bogus": 1}')) == {"adapter.rank": 7}
    assert page.named(page.filling.restore("")) == {}


def test_suggestions_are_written_into_the_fields(fake: FakeHost) -> None:
    page = Page(fake)
    state = {"training.learning_rate": [2e-5, "why"], "data.cutoff": [96, "why"]}
    box, *rest = page.filling.apply(1, state)
    assert "(Cutoff) is 96 now" in box
    assert page.named(rest[-len(page.form.infos) :]) == {"data.cutoff": 96}
    assert set(page.named(page.filling.apply(None, state)[-len(page.form.infos) :])) == set(state)


def test_a_model_without_a_folder_is_said(tmp_path: Path) -> None:
    fake = FakeHost(tmp_path, in_webui=True)
    page = Page(fake)
    assert "The folder of the model is not known now" in page.filling.write(POSIX, *page.values())[3]
    fake.facts["folder"] = "/models/tiny"
    text, _, command, box = page.filling.write(POSIX, *page.values())
    assert box == message_html()
    assert "path: /models/tiny" in text
    assert "--set model.path=/models/tiny --set model.dtype=float32" in command


def test_a_run_outside_of_the_webui_loads_the_same_model() -> None:
    config = RunConfig()
    facts = {"folder": "/models/big", "dtype": "bfloat16", "quantization": ""}
    told = for_terminal(config, facts, in_webui=True)
    assert (told.model.path, told.model.dtype, told.model.quantization) == ("/models/big", "bfloat16", "none")
    packed = for_terminal(config, {**facts, "quantization": "nf4"}, in_webui=True)
    assert (packed.model.dtype, packed.model.quantization) == ("auto", "nf4")
    assert for_terminal(config, facts, in_webui=False) is config
    assert for_terminal(config, {"problem": "No model."}, in_webui=True).to_dict() == config.to_dict()
