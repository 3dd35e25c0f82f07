"""The draft of a browser: what fits comes back, what does not is left out."""

import json
from typing import Any

import pytest
from training_pro.config import RunConfig
from training_pro.ui.fields import form_from_settings, form_settings
from training_pro.ui.form.draft import keep_js, read_draft

INFOS = form_settings(False)


def draft(**changes: Any) -> str:
    values = dict(zip([info.field for info in INFOS], form_from_settings(INFOS, RunConfig()), strict=True))
    return json.dumps({**values, "@adapters": "/loras", **{key.replace("__", "."): value for key, value in changes.items()}})


def test_everything_comes_back() -> None:
    found = read_draft(INFOS, draft(adapter__rank=0, training__learning_rate="fast", batching__mode="hybrid"), "/loras")
    assert set(found) == {info.field for info in INFOS}
    assert (found["adapter.rank"], found["training.learning_rate"], found["batching.mode"]) == (0, "fast", "hybrid")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("batching__mode", "no such mode"),
        ("checkpoints__save_every_epoch", "yes"),
        ("adapter__targets", ["q_proj", 3]),
        ("adapter__targets", "q_proj"),
        ("adapter__rank", "16"),
        ("adapter__rank", True),
        ("adapter__name", 7),
        ("data__dataset", None),
    ],
)
def test_what_does_not_fit_is_left_out(field: str, value: Any) -> None:
    found = read_draft(INFOS, draft(**{field: value}), "/loras")
    assert field.replace("__", ".") not in found
    assert len(found) == len(INFOS) - 1


def test_an_emptied_number_stays_empty() -> None:
    assert read_draft(INFOS, draft(adapter__rank=None), "/loras")["adapter.rank"] is None


@pytest.mark.parametrize("text", [None, "", "{", "[1]", "7", '{"nothing": 1}'])
def test_texts_that_are_no_draft(text: str | None) -> None:
    assert read_draft(INFOS, text, "/loras") == {}


def test_the_folder_of_another_place_is_not_taken_over() -> None:
    text = draft(run__adapters_dir="/elsewhere")
    assert read_draft(INFOS, text, "/loras")["run.adapters_dir"] == "/elsewhere"  # what the user typed
    assert "run.adapters_dir" not in read_draft(INFOS, text, "/other")


def test_the_script_knows_the_fields_in_their_order() -> None:
    script = keep_js(INFOS, 'C:\\lo"ras')
    names = script.split("const names = ")[1].split(";")[0]
    assert json.loads(names) == [info.field for info in INFOS]
    assert json.dumps('C:\\lo"ras') in script
