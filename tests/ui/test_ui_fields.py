"""Fields of the form: every setting has one, values survive the way there and back, wrong ones become problems."""

import re
from typing import Any

import pytest
from training_pro.config import RunConfig
from training_pro.config.field import SettingInfo
from training_pro.ui import fields
from training_pro.ui.fields import form_from_settings, form_settings, from_widget, settings_from_form, to_widget, write_number

INFOS = {info.field: info for info in RunConfig.settings()}
HOSTS_OWN = {
    *("model.path", "model.dtype", "model.quantization", "model.double_quantization", "model.compute_dtype", "model.max_memory"),
    "run.adapters_dir",
}


def form_values(**changes: object) -> list[object]:
    infos = form_settings(False)
    values = dict(zip([info.field for info in infos], form_from_settings(infos, RunConfig()), strict=True))
    for key, value in changes.items():
        field = key.replace("__", ".")
        assert field in values
        values[field] = value
    return list(values.values())


def config_of(**changes: object) -> RunConfig:
    return settings_from_form(form_settings(False), form_values(**changes), {})


def test_every_setting_has_a_field_in_a_known_group() -> None:
    assert [info.field for info in form_settings(False)] == list(INFOS)
    assert {info.field for info in form_settings(True)} == set(INFOS) - HOSTS_OWN
    groups = {fields.group_of(info) for info in INFOS.values()}
    assert groups == set(fields.GROUPS)
    assert (
        *("Model and adapter", "Data", "Batching", "Learning rate", "Stops and checkpoints", "Samples", "Advanced"),
    ) == fields.GROUPS


def test_advanced_settings_stand_in_the_advanced_group() -> None:
    assert fields.group_of(INFOS["training.seed"]) == "Advanced"
    assert fields.group_of(INFOS["training.learning_rate"]) == "Learning rate"


def test_a_setting_has_an_effect_only_with_all_of_its_conditions() -> None:
    steps = INFOS["batching.switch_steps"]
    assert fields.has_effect(steps, {"batching.mode": "hybrid", "batching.switch_by": "steps"})
    assert not fields.has_effect(steps, {"batching.mode": "hybrid", "batching.switch_by": "loss"})
    assert not fields.has_effect(steps, {"batching.mode": "length", "batching.switch_by": "steps"})
    assert fields.has_effect(INFOS["training.seed"], {})


def test_defaults_survive_the_form() -> None:
    assert config_of().to_dict() == RunConfig().to_dict()


@pytest.mark.parametrize(
    ("field", "value", "shown"),
    [
        ("training.learning_rate", 3e-4, "3e-4"),
        ("adapter.rank", 8, 8),
        ("data.dataset", "", "None"),
        ("data.dataset", "/a/b.jsonl", "/a/b.jsonl"),
        ("adapter.targets", ["q_proj", "all-linear"], ["q_proj", "all-linear"]),
        ("samples.prompts", ["Who?", "Two\nlines"], "Who?\nTwo⏎lines"),
        ("data.hard_cut", " \\n ", " \\n "),
        ("checkpoints.save_every_epoch", False, False),
    ],
)
def test_a_value_is_shown_and_read_back(field: str, value: object, shown: object) -> None:
    info = INFOS[field]
    assert to_widget(info, value) == shown
    section, key = field.split(".")
    config = RunConfig.from_dict({section: {key: from_widget(info, shown)}})
    assert getattr(getattr(config, section), key) == value
    assert not config._load_problems


def test_wrong_values_are_problems_all_at_once() -> None:
    config = config_of(
        training__learning_rate="fast",
        adapter__rank=None,
        batching__true_batch_size=2.5,
        data__cutoff=1,
        adapter__name="a.b",
        adapter__targets=[],
    )
    found = {problem.field: problem for problem in config.problems()}
    assert {
        *("training.learning_rate", "adapter.rank", "batching.true_batch_size", "data.cutoff", "adapter.name"),
        *("adapter.targets", "data.dataset"),
    } == set(found)
    assert found["training.learning_rate"].value == "fast"
    assert found["adapter.rank"].value == ""


@pytest.mark.parametrize("text", ["3e-4", "0.0003", " 3E-4 ", ".0003"])
def test_learning_rates_may_be_typed_in_any_notation(text: str) -> None:
    config = config_of(training__learning_rate=text)
    assert config.training.learning_rate == pytest.approx(3e-4)


def test_the_host_decides_its_own_settings() -> None:
    infos = form_settings(True)
    values = form_from_settings(infos, RunConfig())
    config = settings_from_form(infos, values, {"run.adapters_dir": "/somewhere/loras", "model.path": ""})
    assert config.run.adapters_dir == "/somewhere/loras"


@pytest.mark.parametrize(
    ("value", "text"),
    [(3e-4, "3e-4"), (2.5e-5, "2.5e-5"), (0.01, "0.01"), (1.0, "1"), (0, "0"), (1e-7, "1e-7"), (0.001, "0.001")],
)
def test_numbers_are_written_as_people_do(value: float, text: str) -> None:
    assert write_number(value) == text
    assert float(text) == value


def test_a_unit_is_said_once() -> None:
    assert fields.label_of(INFOS["data.cutoff"]).endswith("· tokens")
    assert fields.label_of(INFOS["training.epochs"]) == "Epochs"
    assert fields.label_of(INFOS["training.warmup_steps"]) == "Warmup Steps"


def test_what_is_wrong_in_a_hidden_field_is_no_problem() -> None:
    wrong = {"batching__switch_epochs": None, "data__dataset": __file__}
    assert config_of(**wrong).problems() == []  # the run is not hybrid
    (problem,) = config_of(**wrong, batching__mode="hybrid").problems()
    assert problem.field == "batching.switch_epochs"


def test_help_is_short_and_goes_on_with_the_chosen_entry() -> None:
    mode = INFOS["batching.mode"]
    assert fields.help_of(mode, "length") == (
        "Which samples come together, and in which order.\nSamples of like length together: least padding."
    )
    assert fields.help_of(mode, "no such mode") == mode.help
    assert fields.help_of(INFOS["training.epochs"], 3) == INFOS["training.epochs"].help


@pytest.mark.parametrize("info", [info for info in INFOS.values() if len(info.choices) > 2], ids=lambda info: info.field)
def test_long_lists_have_words_for_each_entry(info: SettingInfo) -> None:
    if info.field in ("model.dtype", "model.compute_dtype", "training.precision", "data.language", "data.add_bos"):
        return  # names of formats and languages, yes and no
    assert set(info.choice_words) == set(info.choices)
    for name, words in info.choice_words.items():
        assert words.endswith("."), name
        assert not words.startswith(f"{name}:")
        assert len(words) < 160, name
    assert len(info.help) < 200


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ((4, 1, "none"), "4 × 1 = 4 samples for each optimizer step"),
        ((2, 600, "none"), "2 × 600 = 1,200 samples"),
        ((2, 4, "best_fit"), "2 × 4 = 8 packs"),
        ((None, 4, "none"), ""),
        ((2.5, 4, "none"), ""),
        ((0, 4, "none"), ""),
        (("x", 4, None), ""),
    ],
)
def test_samples_of_a_step(values: tuple[Any, Any, Any], words: str) -> None:
    text = re.sub(r"<[^>]+>", "", fields.product_html(*values))
    assert text.startswith(words)
    assert bool(text) == bool(words)


def test_target_choices_are_ready_choices_then_modules() -> None:
    choices = fields.target_choices(["q_proj", "all-linear", "v_proj"])
    assert choices[0] == "all-linear"
    assert choices[-2:] == ["q_proj", "v_proj"]
    assert len(choices) == len(set(choices))
