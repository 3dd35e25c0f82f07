"""Configurations as files: YAML, JSON, overrides, and back."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from config_cases import configurations
from hypothesis import given
from training_pro.config import RunConfig
from training_pro.config.loading import apply_overrides, example_yaml, parse_yaml, save_yaml, to_yaml

FIELDS = {info.field for info in RunConfig.settings()}


def read(tmp_path: Path, text: str, *overrides: str, name: str = "run.yaml") -> RunConfig:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return RunConfig.from_file(path, list(overrides))


# --- reading -------------------------------------------------------------------------------------------------------------------


def test_a_short_file(tmp_path: Path) -> None:
    config = read(tmp_path, f"data:\n  dataset: {__file__}\ntraining:\n  epochs: 1.5\n  learning_rate: 3e-4\nadapter:\n")
    assert (config.training.epochs, config.training.learning_rate, config.adapter.name) == (1.5, 3e-4, "my-lora")
    assert (config.problems(), config.notes) == ([], [])


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *(("3e-4", 3e-4), ("1E-5", 1e-5), ("5e-05", 5e-5), ("1e1", 10.0), (".5", 0.5), ("1.", 1.0), ("-2.5e+3", -2500.0)),
        *(("12", 12), ("-3", -3), ("true", True), ("null", None), ("3e-4x", "3e-4x"), ("'3e-4'", "3e-4"), ("q_proj", "q_proj")),
        *(("[q_proj, 1e-3]", ["q_proj", 1e-3]), ("", None), (".inf", math.inf), ("e", "e"), ("2.5.6", "2.5.6")),
    ],
)
def test_values_in_yaml(text: str, value: Any) -> None:
    read_value = parse_yaml(text, "here")
    assert read_value == value
    assert type(read_value) is type(value)


def test_json_with_letters_outside_the_basic_plane(tmp_path: Path) -> None:
    text = json.dumps({"data": {"hard_cut": "🌊\t\n"}})
    assert "\\ud83c" in text
    assert read(tmp_path, text, name="a.json").data.hard_cut == "🌊\t\n"


def test_yaml_in_one_line(tmp_path: Path) -> None:
    assert read(tmp_path, "{training: {epochs: 2}}").training.epochs == 2


def test_a_byte_order_mark_is_no_problem(tmp_path: Path) -> None:
    assert read(tmp_path, "\ufefftraining: {epochs: 2}").training.epochs == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("training:\n  epochs: [1\n", "(?s)run.yaml is not valid YAML: .*line 3.*Check the indentation near that line"),
        ("a: b: c", "(?s)is not valid YAML: .*line 1"),
        ("{a: ", "is not valid YAML"),
        ("- 1\n- 2", "run.yaml holds no settings: it must be sections such as 'data:'.* Got: list"),
        ("", "holds no settings.* Got: nothing"),
        ("!!python/object:os.system {}", "is not valid YAML"),
    ],
)
def test_texts_that_are_no_configuration(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read(tmp_path, text)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"There is no configuration file .*no.yaml \(looked in .*\). Check the name"):
        RunConfig.from_file(tmp_path / "no.yaml")
    with pytest.raises(ValueError, match="The configuration file .* cannot be read: .*directory"):
        RunConfig.from_file(tmp_path)
    (tmp_path / "a.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="a.yaml cannot be read: .*Save it as UTF-8 text"):
        RunConfig.from_file(tmp_path / "a.yaml")


# --- overrides -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("override", "field", "value"),
    [
        ("epochs=2", "training.epochs", 2),
        ("training.epochs=2.5", "training.epochs", 2.5),
        ("learning_rate=1e-5", "training.learning_rate", 1e-5),
        (" rank = 8", "adapter.rank", 8),
        ("dataset=", "data.dataset", ""),
        ("dataset=a=b.json", "data.dataset", "a=b.json"),
        ("targets=[q_proj, v_proj]", "adapter.targets", ["q_proj", "v_proj"]),
        ("gradient_checkpointing=true", "training.gradient_checkpointing", True),
        ("name='2024'", "adapter.name", "2024"),
    ],
)
def test_overrides_win(tmp_path: Path, override: str, field: str, value: Any) -> None:
    section, key = field.split(".")
    config = read(tmp_path, "training: {epochs: 7}\nadapter:\n", override)
    assert getattr(getattr(config, section), key) == value


def test_the_last_override_wins_and_the_rest_stays() -> None:
    data = {"training": {"epochs": 1, "seed": 3}, "adapter": 5}
    result = apply_overrides(data, ["epochs=2", "training.epochs=3", "rank=4"], FIELDS)
    assert result == {"training": {"epochs": 3, "seed": 3}, "adapter": {"rank": 4}}
    assert data == {"training": {"epochs": 1, "seed": 3}, "adapter": 5}


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("epoch=2", "Unknown setting (epoch): There is no such setting. Got: 2. Did you mean 'training.epochs' (Epochs)?"),
        ("training.rang=2", "Unknown setting (training.rang): There is no such setting. Got: 2. Did you mean"),
        ("epochs=many", "Epochs (training.epochs): That is no number. Got: 'many'."),
    ],
)
def test_overrides_with_problems(tmp_path: Path, override: str, problem: str) -> None:
    found = [str(entry) for entry in read(tmp_path, f"data: {{dataset: {__file__}}}", override).problems()]
    assert len(found) == 1
    assert found[0].startswith(problem)


def test_overrides_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--set 'epochs' has no '='. Write --set epochs=2"):
        read(tmp_path, "training: {}", "epochs")
    with pytest.raises(ValueError, match=r"--set targets=\[a is not valid YAML"):
        read(tmp_path, "training: {}", "targets=[a")


# --- writing and reading back --------------------------------------------------------------------------------------------------


def test_the_example_gives_the_defaults(tmp_path: Path) -> None:
    text = example_yaml(RunConfig)
    config = read(tmp_path, text)
    assert config.to_dict() == RunConfig().to_dict()
    assert [problem.field for problem in config.problems()] == ["data.dataset"]  # what only the user can say
    for info in RunConfig.settings():
        assert f"  # {info.label}" in text
        assert info.help in text
    assert "\n  # Epochs [epochs]: How often every sample is seen." in text
    assert "Choices: auto, float32, bfloat16, float16." in text
    assert "  #   end of section: Only the last block before a hard cut or the end of the text.\n" in text


@given(configurations())
def test_what_is_written_is_read_back(config: RunConfig) -> None:
    assert config._load_problems == []
    again = RunConfig.from_dict(parse_yaml(to_yaml(config), "here"))
    assert again.to_dict() == config.to_dict()
    assert again._load_problems == []
    assert RunConfig.from_dict(parse_yaml(json.dumps(config.to_dict()), "here")).to_dict() == config.to_dict()


def test_a_saved_file(tmp_path: Path) -> None:
    config = RunConfig.from_dict({"adapter": {"name": "3e-4", "targets": ["q_proj"]}, "data": {"hard_cut": "\\n\\n"}})
    save_yaml(config, tmp_path / "a.yaml")
    assert RunConfig.from_file(tmp_path / "a.yaml").to_dict() == config.to_dict()
