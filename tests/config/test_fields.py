"""Every setting once, with label, help, bounds; every kind of mistake in words; all of them at once."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from training_pro.config import ConfigError, DataSettings, Problem, RunConfig
from training_pro.config.field import setting_info
from training_pro.config.loading import json_schema
from training_pro.custom_scheduler import SCHEDULES
from training_pro.data.formats import SOURCES
from training_pro.train_utils import OPTIMIZERS

INFOS = RunConfig.settings()


def problems_of(**sections: dict[str, Any]) -> list[Problem]:
    """Problems of a configuration that is good but for what is given."""
    sections.setdefault("data", {}).setdefault("dataset", __file__)
    return RunConfig.from_dict(sections).problems()


# --- the fields ----------------------------------------------------------------------------------------------------------------


def test_every_setting_has_label_and_help() -> None:
    assert len(INFOS) > 40
    for info in INFOS:
        assert info.label[0].isupper(), info.field
        assert info.help.endswith("."), info.field
        assert len(info.help) > 15, info.field


def test_names_are_unique_in_all_sections() -> None:
    """So that ``--set epochs=2`` needs no section."""
    keys = [info.key for info in INFOS]
    assert sorted(set(keys)) == sorted(keys)
    assert len({info.label for info in INFOS}) == len(INFOS)


def test_conditions_name_settings_and_values_that_exist() -> None:
    by_field = {info.field: info for info in INFOS}
    conditions = [(info, *condition) for info in INFOS for condition in info.only_if.items()]
    assert len(conditions) > 20
    for info, field, values in conditions:
        control = by_field[field]
        allowed = control.choices or (True, False)
        assert set(values) < set(allowed), f"{info.field} would always or never be shown"
        assert control.field != info.field


def test_what_the_form_needs_to_know() -> None:
    infos = {info.field: info for info in INFOS}
    cutoff = infos["data.cutoff"]
    assert (cutoff.label, cutoff.unit, cutoff.kind) == ("Maximum context length (Cutoff)", "tokens", "integer")
    assert (cutoff.default, cutoff.minimum, cutoff.maximum, cutoff.advanced) == (512, 8, 1_048_576, False)
    rate = infos["training.learning_rate"]
    assert (rate.kind, rate.default, rate.minimum, rate.maximum) == ("number", 3e-4, 0, 1)
    assert (infos["adapter.targets"].kind, infos["adapter.targets"].default) == ("list", ["all-linear"])
    assert (infos["training.gradient_checkpointing"].kind, infos["adapter.name"].kind) == ("flag", "text")
    assert infos["training.seed"].advanced
    assert infos["adapter.dropout"].maximum == 1


def test_choices_come_from_the_tables() -> None:
    infos = {info.field: info for info in INFOS}
    assert infos["training.schedule"].choices == tuple(SCHEDULES)
    assert infos["training.optimizer"].choices == tuple(OPTIMIZERS)
    assert infos["data.format"].choices == ("auto", *SOURCES)
    assert all(info.default in info.choices for info in INFOS if info.choices)


def test_default_lists_are_not_shared() -> None:
    RunConfig().adapter.targets.append("q_proj")
    assert RunConfig().adapter.targets == ["all-linear"]


def test_a_field_that_is_no_setting() -> None:
    from pydantic import BaseModel

    class Other(BaseModel):
        size: int = 1

    with pytest.raises(AssertionError, match=r"other.size was not declared with setting\(\)"):
        setting_info("other", "size", Other.model_fields["size"])


def test_the_schema_is_json_and_knows_every_setting() -> None:
    schema = json.loads(json_schema(RunConfig))
    assert list(schema["properties"]) == list(RunConfig.model_fields)
    for info in INFOS:
        section = schema["$defs"][schema["properties"][info.section]["$ref"].split("/")[-1]]
        entry = section["properties"][info.key]
        assert (entry["title"], entry["description"], entry["unit"]) == (info.label, info.help, info.unit)
        assert section["additionalProperties"] is False
    assert schema["$defs"]["DataSettings"]["properties"]["cutoff"]["minimum"] == 8


# --- mistakes ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        (
            "training.learning_rate",
            "0,0003",
            "Learning Rate (training.learning_rate): That is no number. Got: '0,0003'. Write digits, like 0.0003 (a point, no comma).",
        ),
        ("training.learning_rate", None, "Learning Rate (training.learning_rate): That is no number. Got: None. Write digits"),
        ("training.learning_rate", 0, "It must be more than 0. Got: 0. Write for example 0.0003."),
        ("training.learning_rate", 2, "It must be at most 1. Got: 2."),
        ("training.learning_rate", float("nan"), "Got: nan."),
        ("training.epochs", float("inf"), "Epochs (training.epochs): It must be at most 10000. Got: inf."),
        ("adapter.rank", 0, "LoRA Rank (adapter.rank): It must be at least 1. Got: 0. Write for example 16."),
        ("adapter.rank", 1.5, "LoRA Rank (adapter.rank): It must be a whole number. Got: 1.5. Write for example 16."),
        ("adapter.rank", "many", "It must be a whole number. Got: 'many'."),
        ("adapter.rank", None, "It must be a whole number. Got: None."),
        ("adapter.rank", "9" * 5000, "LoRA Rank (adapter.rank): It must be a whole number."),
        ("adapter.dropout", 1, "LoRA Dropout (adapter.dropout): It must be less than 1. Got: 1."),
        ("training.gradient_checkpointing", "maybe", "It must be true or false. Got: 'maybe'. Write true or false."),
        ("training.gradient_checkpointing", [], "It must be true or false. Got: []."),
        (
            "training.schedule",
            "cosin",
            "LR Scheduler (training.schedule): That is not one of the choices. Got: 'cosin'. Did you mean 'cosine'?",
        ),
        ("training.schedule", "zzz", f"Got: 'zzz'. Choose from: {', '.join(SCHEDULES)}."),
        ("adapter.name", 2024, "Name (adapter.name): It must be text. Got: 2024. Write it in quotes: '2024'."),
        (
            "adapter.targets",
            "q_proj",
            "Target modules (adapter.targets): It must be a list. Got: 'q_proj'. Write for example [q_proj].",
        ),
        ("adapter.targets", [1], "Target modules (adapter.targets): It must be text. Got: 1."),
    ],
)
def test_each_kind_of_mistake_in_words(field: str, value: Any, expected: str) -> None:
    section, key = field.split(".")
    (problem,) = problems_of(**{section: {key: value}})
    assert expected in str(problem)
    assert problem.field == field


def test_a_mistake_of_another_kind_keeps_pydantics_words() -> None:
    from training_pro.config.problems import from_pydantic

    problem = from_pydantic({"type": "new_kind", "msg": "Odd", "input": 1}, "a.b", "Label", "x")
    assert str(problem) == "Label (a.b): Odd. Got: 1. Write for example 'x'."


def test_unusable_values_leave_the_default_and_the_rest() -> None:
    config = RunConfig.from_dict({"adapter": {"rank": "many", "alpha": 8}, "training": {"epochs": 2}})
    assert (config.adapter.rank, config.adapter.alpha, config.training.epochs) == (16, 8, 2)


@pytest.mark.parametrize(
    ("data", "field", "remedy"),
    [
        ({"training": {"learning_rat": 1}}, "training.learning_rat", "Did you mean 'training.learning_rate' (Learning Rate)?"),
        ({"training": {"rank": 1}}, "training.rank", "Did you mean 'adapter.rank' (LoRA Rank)?"),
        ({"epochs": 3}, "epochs", "Did you mean 'training.epochs' (Epochs)?"),
        ({"adaptr": {"rank": 3}}, "adaptr", "Did you mean"),
        ({"data": {"zzzzzz": 3}}, "data.zzzzzz", "Remove it; `training-pro config --example` shows every setting."),
        ({"data": {7: 3}}, "data.7", "Remove it; `training-pro config --example` shows every setting."),
    ],
)
def test_unknown_settings_name_the_nearest(data: dict, field: str, remedy: str) -> None:
    data = {**data, "data": {**data.get("data", {}), "dataset": __file__}}
    (problem,) = RunConfig.from_dict(data).problems()
    assert (problem.field, problem.label, problem.message) == (field, "Unknown setting", "There is no such setting.")
    assert problem.remedy.startswith(remedy)


def test_a_section_that_is_a_value() -> None:
    (problem,) = problems_of(training=5)  # type: ignore[arg-type]
    assert "A section holds settings, not a value. Got: 5. Write 'training:' and the settings below it" in str(problem)
    assert problems_of(training=None) == []  # type: ignore[arg-type]


def test_all_problems_at_once() -> None:
    data = {
        **{"adapter": {"name": "a.b", "rank": 0, "targets": []}, "training": {"learning_rate": "x", "schedule": "y"}},
        **{"data": {"cutoff": 1, "cutof": 2}, "zz": 1, "run": {"workers": "z"}},
    }
    config = RunConfig.from_dict(data)
    expected = [
        *("data.cutof", "zz", "adapter.rank", "data.cutoff", "training.learning_rate", "training.schedule", "run.workers"),
        *("adapter.name", "adapter.targets", "data.dataset"),
    ]
    assert [problem.field for problem in config.problems()] == expected
    with pytest.raises(
        ConfigError, match="(?s)data.cutof.*LoRA Rank.*That is no number.*with a dot.*nothing to train on"
    ) as caught:
        config.require_valid()
    assert [problem.field for problem in caught.value.problems] == expected
    assert isinstance(caught.value, ValueError)
    assert len(str(caught.value).splitlines()) == len(expected)


def test_a_good_configuration_has_no_problems(tmp_path: Path) -> None:
    config = RunConfig.from_dict({"data": {"dataset": __file__}, "run": {"adapters_dir": str(tmp_path / "new/loras")}})
    assert config.problems() == []
    config.require_valid()


def test_a_field_with_a_problem_of_its_own_is_not_reported_twice() -> None:
    assert [problem.field for problem in problems_of(adapter={"name": 5, "targets": 3})] == ["adapter.name", "adapter.targets"]


# --- checks of more than one field, and of the disk ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sections", "expected"),
    [
        (
            {"data": {"dataset": ""}},
            "Data set (data.dataset): There is nothing to train on. Got: ''. Choose a Data set or a Text file.",
        ),
        (
            {"data": {"dataset": "no.json"}},
            "Data set (data.dataset): There is no such file or folder. Got: 'no.json'. Looked for /",
        ),
        ({"data": {"text_file": "no.txt"}}, "Text file (data.text_file): There is no such file or folder."),
        ({"data": {"eval_dataset": "no.json"}}, "Evaluation data set (data.eval_dataset): There is no such file"),
        ({"model": {"chat_template": "no.jinja"}}, "Chat template (model.chat_template): There is no such file"),
        ({"model": {"path": "no"}}, "Model (model.path): There is no model in that folder (no config.json). Got: 'no'."),
        ({"data": {"format": "template"}}, "Format file (data.format_file): The data format 'template' needs a format file."),
        (
            {"data": {"eval_dataset": __file__, "eval_share": 0.1}},
            "Evaluation share (data.eval_share): There is an Evaluation data set",
        ),
        (
            {"adapter": {"targets": []}},
            "Target modules (adapter.targets): No module would be trained. Got: []. Choose all-linear.",
        ),
        ({"run": {"adapters_dir": __file__}}, "Adapter folder (run.adapters_dir): "),
        ({"run": {"adapters_dir": f"{__file__}/loras"}}, f"{__file__} is a file."),
    ],
)
def test_checks(sections: dict, expected: str) -> None:
    (problem,) = problems_of(**sections)
    assert expected in str(problem)


def test_a_folder_that_is_not_writable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: str(path) != str(tmp_path))
    (problem,) = problems_of(run={"adapters_dir": str(tmp_path / "loras")})
    assert (problem.message, problem.label) == (f"The folder {tmp_path} is not writable.", "Adapter folder")


def test_paths_with_a_tilde(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    (tmp_path / "a.json").touch()
    assert problems_of(data={"dataset": "~/a.json"}, run={"adapters_dir": "~/loras"}) == []
    (problem,) = problems_of(data={"dataset": "~/b.json"})
    assert problem.remedy == f"Looked for {tmp_path / 'b.json'}."


@pytest.mark.parametrize("text", ["x" * 5000, "a\0b", "~no_such_user_here/a"])
def test_texts_that_no_system_takes_for_a_path(text: str) -> None:
    sections = {"model": {"path": text, "chat_template": text}, "data": {"dataset": text}, "run": {"adapters_dir": text}}
    fields = [problem.field for problem in problems_of(**sections)]
    assert fields == ["data.dataset", "model.chat_template", "model.path"]


def test_a_model_folder(tmp_path: Path) -> None:
    (tmp_path / "config.json").touch()
    assert problems_of(model={"path": str(tmp_path)}) == []


def test_sections_alone_refuse_unknown_keys() -> None:
    with pytest.raises(ValueError, match="Extra inputs are not permitted"):
        DataSettings(cutof=3)  # type: ignore[call-arg]
