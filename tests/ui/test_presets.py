"""Presets: what is kept, what is never saved, names, and that the shipped ones are what they say."""

from pathlib import Path

import pytest
from training_pro.config import RunConfig
from training_pro.config.loading import parse_yaml
from training_pro.ui.form import presets
from training_pro.ui.form.presets import DEFAULTS, apply_preset, delete_preset, find_preset, list_presets, own_path, save_preset

SHIPPED = sorted(presets.SHIPPED.glob("*.yaml"))
# set by the shipped presets at least: each must differ from the defaults in what its name promises
PROMISES = {
    "chat_lora_small_gpu": {"training.gradient_checkpointing": True, "batching.true_batch_size": 1},
    "qlora_8gb": {"model.quantization": "nf4", "batching.true_batch_size": 1},
    "raw_text_style": {"adapter.rank": 8, "data.add_eos": "end of section"},
    "hybrid_conversations": {"batching.mode": "hybrid"},
    "full_fine_tuning": {"adapter.method": "full", "training.learning_rate": 2e-5},
}


def typed(**sections: dict) -> RunConfig:
    return RunConfig.from_dict(sections)


@pytest.fixture
def mine() -> RunConfig:
    return typed(
        adapter={"name": "veltmor", "rank": 64, "if_exists": "replace"},
        data={"dataset": "/data/a.jsonl", "cutoff": 2048},
        samples={"prompts": ["Who?"]},
        run={"adapters_dir": "/loras"},
    )


def test_every_usual_case_has_a_preset() -> None:
    assert {path.stem for path in SHIPPED} == set(PROMISES)
    assert len({preset.name for preset in list_presets(Path("nowhere"))}) == len(PROMISES) + 1


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_presets_hold_only_what_differs(path: Path) -> None:
    config = RunConfig.from_file(path)
    data_set = config.model_copy(update={"data": config.data.model_copy(update={"text_file": __file__})})
    assert data_set.problems() == []
    assert config.notes == []
    written = {f"{section}.{key}" for section, pairs in parse_yaml(path.read_text(), "x").items() for key in pairs}
    assert written == set(config.changes())
    assert {field: config.value(field) for field in PROMISES[path.stem]} == PROMISES[path.stem]
    assert config.without_effect() == []
    preset = next(preset for preset in list_presets(Path("nowhere")) if preset.path == path)
    assert preset.name != path.stem
    assert len(preset.words) > 40


def test_a_preset_keeps_model_data_and_name(tmp_path: Path, mine: RunConfig) -> None:
    full = find_preset(tmp_path, str(presets.SHIPPED / "full_fine_tuning.yaml"))
    config = apply_preset(full, mine)
    assert (config.adapter.method, config.adapter.rank, config.data.cutoff) == ("full", 16, 512)
    assert (config.adapter.name, config.adapter.if_exists) == ("veltmor", "replace")
    assert (config.data.dataset, config.samples.prompts, config.run.adapters_dir) == ("/data/a.jsonl", ["Who?"], "/loras")


def test_the_defaults_are_a_preset(tmp_path: Path, mine: RunConfig) -> None:
    config = apply_preset(find_preset(tmp_path, DEFAULTS), mine)
    assert set(config.changes()) == {
        *("adapter.name", "adapter.if_exists", "data.dataset", "samples.prompts", "run.adapters_dir")
    }


def test_saved_and_loaded_again(tmp_path: Path, mine: RunConfig) -> None:
    path = save_preset(tmp_path, " long talks ", mine)
    assert path == tmp_path / ".training_pro_presets-np" / "long talks.yaml"
    text = path.read_text(encoding="utf-8")
    assert "veltmor" not in text
    assert "/loras" not in text
    preset = find_preset(tmp_path, str(path))
    assert (preset.name, preset.is_own) == ("long talks", True)
    config = apply_preset(preset, typed(adapter={"name": "other"}, data={"dataset": "/data/b.jsonl"}))
    assert (config.adapter.name, config.adapter.if_exists, config.adapter.rank) == ("other", "stop", 64)
    assert config.data.dataset == "/data/a.jsonl"  # the preset names its data


def test_the_webui_and_the_list_of_runs_hide_the_folder(tmp_path: Path, mine: RunConfig) -> None:
    from training_pro.runs.store import list_runs

    save_preset(tmp_path, "one", mine)
    (entry,) = tmp_path.iterdir()
    assert entry.name.endswith("-np")  # the WebUI's LoRA menu leaves these out
    assert list_runs(tmp_path) == []


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("", "A name is needed"),
        ("../out", "parts of a path"),
        ("a\\b", "parts of a path"),
        ("con", "reserved"),
        (".hidden", "begins or ends with a dot"),
        ("x" * 61, "too long"),
        ("QLoRA on 8 GB", "comes with the program"),
        ("defaults", "comes with the program"),
    ],
)
def test_names_that_cannot_be(tmp_path: Path, name: str, words: str) -> None:
    with pytest.raises(ValueError, match=f"Save as: .*{words}"):
        save_preset(tmp_path, name, RunConfig())
    assert list(tmp_path.iterdir()) == []


def test_values_that_nobody_can_read_are_not_saved(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Preset: mend these fields first: LoRA Rank, Learning Rate"):
        save_preset(tmp_path, "wrong", typed(adapter={"rank": "many"}, training={"learning_rate": "fast"}))


def test_deleting(tmp_path: Path) -> None:
    path = save_preset(tmp_path, "mine", RunConfig())
    delete_preset(find_preset(tmp_path, str(path)))
    assert not path.exists()
    with pytest.raises(ValueError, match="not there any more"):
        find_preset(tmp_path, str(path))
    with pytest.raises(ValueError, match="comes with the program and cannot be deleted"):
        delete_preset(find_preset(tmp_path, str(SHIPPED[0])))
    assert SHIPPED[0].exists()
    with pytest.raises(ValueError, match="choose one of the list first"):
        find_preset(tmp_path, None)


def test_a_broken_file_of_the_users_is_said(tmp_path: Path) -> None:
    path = own_path(tmp_path, "broken")
    path.parent.mkdir()
    path.write_text("training: [", encoding="utf-8")
    with pytest.raises(ValueError, match="not valid YAML"):
        apply_preset(find_preset(tmp_path, str(path)), RunConfig())
