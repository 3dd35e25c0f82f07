"""Parameter files of Training PRO and of the WebUI's own tab: every old parameter is translated or named."""

import json
from pathlib import Path
from typing import Any

import pytest
from training_pro.config import RunConfig
from training_pro.config.legacy import from_old_parameters, is_old_parameters

# as Training PRO's `PARAMETERS` lists and its form fills them
TRAINING_PRO: dict[str, Any] = {
    **{"lora_name": "veltmor", "always_override": False, "save_steps": 500, "micro_batch_size": 4, "batch_size": 0, "epochs": 3},
    **{"learning_rate": "3e-4", "lr_scheduler_type": "FP_half_time_annealing", "lora_rank": 32, "lora_alpha": 64},
    **{"lora_dropout": 0.05, "cutoff_len": 256, "dataset": "None", "eval_dataset": "None", "format": "None", "eval_steps": 100},
    **{"raw_text_file": "None", "higher_rank_limit": False, "warmup_steps": 100, "optimizer": "adamw_torch"},
    **{"hard_cut_string": "\\n\\n\\n", "train_only_after": "", "stop_at_loss": 0, "add_eos_token": True, "min_chars": 0},
    **{"report_to": "None", "precize_slicing_overlap": True, "add_eos_token_type": "Every Block", "save_steps_under_loss": 0},
    **{"add_bos_token": True, "training_projection": "q-v", "sliding_window": False, "warmup_ratio": 0, "grad_accumulation": 1},
    **{"neft_noise_alpha": 0, "group_by_length": False, "eliminate_long_blocks": True, "stop_at_epoch": 0},
    **{"datasetJSONL": "None", "eval_datasetJSONL": "None", "eval_stepsJSONL": 100, "hybrid_training": False},
    **{"hybrid_data_ratio": 100, "hybrid_text_ratio": 100, "lora_RS": False, "lora_RS_alpha": 16, "lora_modulessave": False},
    **{"use_grad_checkpoint": False},
}
# as the tab of the WebUI 4.7 writes them
WEBUI: dict[str, Any] = {
    **{"lora_name": "veltmor", "always_override": False, "all_linear": True, "q_proj_en": True, "v_proj_en": True},
    **{"k_proj_en": False, "o_proj_en": False, "gate_proj_en": False, "down_proj_en": False, "up_proj_en": False},
    **{"save_steps": 0, "micro_batch_size": 4, "batch_size": 32, "epochs": 3, "learning_rate": "3e-4"},
    **{"lr_scheduler_type": "cosine", "lora_rank": 8, "lora_alpha": 16, "lora_dropout": 0, "cutoff_len": 512, "dataset": "None"},
    **{"eval_dataset": "None", "format": "None", "eval_steps": 100, "text_dataset": "None", "warmup_steps": 100},
    **{"optimizer": "adamw_torch", "stride_length": 256, "stop_at_loss": 0, "add_eos_token": True, "excess_length": "drop"},
    **{"report_to": "None", "gradient_checkpointing": True},
}
# parameter -> another value than in the file, and what else must be set for it to have an effect
OTHER_TRAINING_PRO: dict[str, tuple[Any, dict[str, Any]]] = {
    **{"lora_name": ("other", {}), "always_override": (True, {}), "save_steps": (7, {}), "micro_batch_size": (2, {})},
    **{"batch_size": (64, {"grad_accumulation": 0}), "epochs": (2, {}), "learning_rate": ("1e-5", {})},
    **{"lr_scheduler_type": ("linear", {}), "lora_rank": (64, {}), "lora_alpha": (8, {}), "lora_dropout": (0.1, {})},
    **{"cutoff_len": (1024, {}), "dataset": ("chat", {}), "eval_dataset": ("chat", {}), "format": ("alpaca-format", {})},
    **{"eval_steps": (50, {"eval_dataset": "chat"}), "raw_text_file": ("book", {}), "warmup_steps": (5, {})},
    **{"optimizer": ("adafactor", {}), "hard_cut_string": ("###", {}), "train_only_after": ("### Response:", {})},
    **{"stop_at_loss": (1.2, {}), "add_eos_token": (False, {}), "min_chars": (9, {}), "report_to": ("wandb", {})},
    **{"precize_slicing_overlap": (False, {}), "add_eos_token_type": ("Hard Cut Blocks Only", {})},
    **{"save_steps_under_loss": (1.8, {}), "add_bos_token": (False, {}), "training_projection": ("q-k-v-o", {})},
    **{"sliding_window": (True, {}), "warmup_ratio": (0.1, {}), "grad_accumulation": (4, {}), "neft_noise_alpha": (5, {})},
    **{
        "group_by_length": (True, {}),
        "eliminate_long_blocks": (False, {}),
        "stop_at_epoch": (2, {}),
        "datasetJSONL": ("lines", {}),
    },
    **{
        "eval_datasetJSONL": ("lines", {}),
        "eval_stepsJSONL": (50, {"eval_datasetJSONL": "lines"}),
        "hybrid_training": (True, {"dataset": "chat", "raw_text_file": "book"}),
    },
    **{"hybrid_data_ratio": (50, {"hybrid_training": True}), "hybrid_text_ratio": (50, {"hybrid_training": True})},
    **{
        "lora_RS": (True, {}),
        "lora_RS_alpha": (32, {"lora_RS": True}),
        "lora_modulessave": (True, {}),
        "use_grad_checkpoint": (True, {}),
    },
}
OTHER_WEBUI: dict[str, tuple[Any, dict[str, Any]]] = {
    **{name: value for name, value in OTHER_TRAINING_PRO.items() if name in WEBUI},
    **{"all_linear": (False, {}), "batch_size": (64, {}), "text_dataset": ("docs", {}), "excess_length": ("truncate", {})},
    **{"stride_length": (128, {"text_dataset": "docs"}), "gradient_checkpointing": (False, {})},
    **{f"{name}_proj_en": (name not in "qv", {"all_linear": False}) for name in ("q", "v", "k", "o", "gate", "down", "up")},
}
ONLY_THE_FORM = {"higher_rank_limit"}  # it let the old sliders go further; the number itself is lora_rank


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of an adapter in the WebUI's user_data, with data sets where the WebUI keeps them."""
    sets, formats = tmp_path / "user_data/training/datasets", tmp_path / "user_data/training/formats"
    for path in (sets, formats, tmp_path / "user_data/loras/veltmor"):
        path.mkdir(parents=True)
    for name in ("chat.json", "docs.json", "lines.jsonl", "book.txt"):
        (sets / name).write_text("[]", encoding="utf-8")
    (sets / "books").mkdir()
    (formats / "alpaca-format.json").write_text("{}", encoding="utf-8")
    return tmp_path / "user_data/loras/veltmor"


def read(folder: Path, base: dict[str, Any], **changes: Any) -> RunConfig:
    path = folder / "training_parameters.json"
    path.write_text(json.dumps({**base, **changes}, indent=2), encoding="utf-8")
    return RunConfig.from_file(path)


def settings(config: RunConfig) -> dict[str, Any]:
    """What differs from the defaults, dotted."""
    default = RunConfig().to_dict()
    return {
        f"{section}.{key}": value
        for section, values in config.to_dict().items()
        for key, value in values.items()
        if value != default[section][key]
    }


def test_the_lists_of_the_old_tabs_are_whole() -> None:
    assert (len(TRAINING_PRO), len(WEBUI)) == (48, 33)
    assert set(OTHER_TRAINING_PRO) | ONLY_THE_FORM == set(TRAINING_PRO)
    assert set(OTHER_WEBUI) == set(WEBUI)
    assert is_old_parameters(TRAINING_PRO)
    assert is_old_parameters(WEBUI)
    assert not is_old_parameters({"adapter": {"name": "x"}})


def test_a_file_of_training_pro(folder: Path) -> None:
    config = read(folder, TRAINING_PRO, datasetJSONL="lines", raw_text_file="book", hybrid_training=True)
    sets = folder.parents[1] / "training/datasets"
    assert settings(config) == {
        **{"adapter.name": "veltmor", "adapter.rank": 32, "adapter.alpha": 64, "adapter.targets": ["q-v"]},
        **{"data.dataset": str(sets / "lines.jsonl"), "data.text_file": str(sets / "book.txt"), "data.cutoff": 256},
        **{"data.overlap": 0.5, "training.warmup_steps": 100, "training.schedule": "FP_half_time_annealing"},
        **{"checkpoints.save_every_steps": 500},
    }
    assert (config.problems(), config.notes) == ([], [])


def test_hybrid_training_takes_its_percentages(folder: Path) -> None:
    both = {"datasetJSONL": "lines", "raw_text_file": "book", "hybrid_training": True}
    found = settings(read(folder, TRAINING_PRO, **both, hybrid_data_ratio=25, hybrid_text_ratio=100))
    assert found["data.dataset_share"] == 0.25
    assert "data.text_share" not in found
    config = read(folder, TRAINING_PRO, **both, hybrid_text_ratio=0)
    assert (config.data.text_file, config.data.text_share) == ("", 1.0)
    assert config.notes == ["hybrid_text_ratio = 0: that file is not used."]


def test_old_steps_are_batches(folder: Path) -> None:
    config = read(folder, TRAINING_PRO, grad_accumulation=8, save_steps=500, eval_dataset="chat", eval_steps=64)
    assert (config.training.warmup_steps, config.checkpoints.save_every_steps) == (13, 63)  # rounded up, as the old trainers did
    assert config.checkpoints.eval_every_steps == 8
    assert config.notes == [
        "The old trainer counted batches where optimizer steps are counted here, 8 batches each: "
        "warmup_steps 100 = 13, save_steps 500 = 63, eval_steps 64 = 8."
    ]


def test_texts_of_older_webuis(folder: Path) -> None:
    old = {name: value for name, value in WEBUI.items() if name not in ("stride_length", "excess_length", "text_dataset")}
    config = read(folder, old, raw_text_file="book", overlap_len=128, newline_favor_len=128)
    assert (config.data.overlap, config.data.text_file) == (0.25, str(folder.parents[1] / "training/datasets/book.txt"))
    assert "newline_favor_len = 128 has no counterpart here and is ignored." in config.notes


def test_saves_by_loss(folder: Path) -> None:
    saves = read(folder, TRAINING_PRO, save_steps_under_loss=1.8).checkpoints
    assert (saves.save_on_loss_fall, saves.save_loss_start) == (10, 1.8)
    assert read(folder, TRAINING_PRO, save_steps_under_loss=0.0).checkpoints.save_on_loss_fall == 0


def test_a_file_of_the_webuis_tab(folder: Path) -> None:
    config = read(folder, WEBUI, dataset="chat", eval_dataset="chat", eval_steps=25, lora_dropout=0.0)
    sets = folder.parents[1] / "training/datasets"
    assert settings(config) == {
        **{"adapter.name": "veltmor", "adapter.rank": 8, "adapter.alpha": 16, "adapter.dropout": 0},
        **{"batching.gradient_accumulation": 8, "data.dataset": str(sets / "chat.json"), "training.schedule": "cosine"},
        **{"data.eval_dataset": str(sets / "chat.json"), "checkpoints.eval_every_steps": 4, "training.warmup_steps": 13},
        **{"training.gradient_checkpointing": True},
    }
    assert config.problems() == []
    assert [note[:42] for note in config.notes] == ["The old trainer counted batches where opti"]


def test_an_untouched_form_has_nothing_to_say(folder: Path) -> None:
    assert read(folder, TRAINING_PRO).notes == []
    assert [note[:18] for note in read(folder, WEBUI).notes] == ["The old trainer co"]  # its 100 warm-up steps are 13 of ours


@pytest.mark.parametrize(
    ("base", "name", "value", "needs"),
    [
        *(pytest.param(TRAINING_PRO, name, *other, id=f"pro-{name}") for name, other in OTHER_TRAINING_PRO.items()),
        *(pytest.param(WEBUI, name, *other, id=f"webui-{name}") for name, other in OTHER_WEBUI.items()),
    ],
)
def test_no_old_parameter_vanishes_silently(folder: Path, base: dict, name: str, value: Any, needs: dict) -> None:
    assert base[name] != value
    before, after = read(folder, base, **needs), read(folder, base, **needs, **{name: value})
    new_notes = set(after.notes) - set(before.notes)
    assert settings(after) != settings(before) or any(name in note or "cut too long rows off" in note for note in new_notes)


def test_parameters_nobody_knows_are_named(folder: Path) -> None:
    config = read(folder, TRAINING_PRO, lora_magic=3, quiet="")
    assert config.notes == ["lora_magic = 3 has no counterpart here and is ignored."]


@pytest.mark.parametrize(
    ("changes", "field", "value"),
    [
        ({"always_override": True}, "adapter.if_exists", "replace"),
        ({"always_override": False}, "adapter.if_exists", "stop"),  # a new name must be able to start
        ({"optimizer": "adamw_hf"}, "training.optimizer", "adamw_torch"),
        ({"training_projection": "all"}, "adapter.targets", ["all-linear"]),
        ({"add_eos_token": False}, "data.add_eos", "none"),
        ({"add_eos_token_type": "Hard Cut Blocks Only"}, "data.add_eos", "end of section"),
        ({"precize_slicing_overlap": False}, "data.overlap", 0.0),
        ({"batch_size": 128, "grad_accumulation": 0}, "batching.gradient_accumulation", 32),
        ({"batch_size": 2, "grad_accumulation": 0}, "batching.gradient_accumulation", 1),
        ({"batch_size": 128, "grad_accumulation": 3}, "batching.gradient_accumulation", 3),
        ({"epochs": 3.0, "lora_rank": 8.0}, "adapter.rank", 8),
        ({"neft_noise_alpha": 5}, "training.neftune_alpha", 5),
        ({"group_by_length": True}, "batching.mode", "length"),
        ({"sliding_window": True}, "data.dementor", True),
        ({"sliding_window": True, "precize_slicing_overlap": True}, "data.overlap", 0.0),
        ({"stop_at_epoch": 2}, "checkpoints.stop_at_epoch", 2),
        ({"report_to": "tensorboard"}, "run.log_to", "tensorboard"),
        ({"optimizer": "adamw_8bit"}, "training.optimizer", "adamw_bnb_8bit"),
        ({"optimizer": "adamw_apex_fused"}, "training.optimizer", "adamw_torch_fused"),
    ],
)
def test_translations(folder: Path, changes: dict, field: str, value: Any) -> None:
    section, key = field.split(".")
    assert getattr(getattr(read(folder, TRAINING_PRO, **changes), section), key) == value


def test_modules_of_the_webuis_tab(folder: Path) -> None:
    assert read(folder, WEBUI, all_linear=False, k_proj_en=True).adapter.targets == ["q_proj", "v_proj", "k_proj"]
    before_all_linear = {name: value for name, value in WEBUI.items() if name != "all_linear"}
    assert read(folder, before_all_linear).adapter.targets == ["q_proj", "v_proj"]
    nothing = {f"{name}_proj_en": False for name in "qv"}
    (problem,) = read(folder, WEBUI, all_linear=False, dataset="chat", **nothing).problems()
    assert problem.field == "adapter.targets"


def test_values_that_mean_nothing_are_problems(folder: Path) -> None:
    config = read(folder, TRAINING_PRO, dataset="chat", lora_rank="many", lr_scheduler_type="greedy", learning_rate="fast")
    assert {problem.field: problem.value for problem in config.problems()} == {
        **{"adapter.rank": "many", "training.schedule": "greedy", "training.learning_rate": "fast"}
    }


def test_data_sets_are_found(folder: Path) -> None:
    sets = folder.parents[1] / "training/datasets"
    assert read(folder, WEBUI, text_dataset="docs").data.dataset == str(sets / "docs.json")
    assert read(folder, TRAINING_PRO, raw_text_file="books").data.text_file == str(sets / "books")  # a folder of texts
    config = read(folder, TRAINING_PRO, dataset="lost")
    assert config.data.dataset == "lost.json"
    assert config.notes == [f"The data set 'lost' was not found near {folder}; choose the file again."]


def test_a_folder_that_is_called_like_a_data_set_is_none(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "elsewhere/book").mkdir(parents=True)
    monkeypatch.chdir(folder / "elsewhere")
    assert read(folder, TRAINING_PRO, raw_text_file="book").data.text_file.endswith("training/datasets/book.txt")


def test_more_than_one_data_set(folder: Path) -> None:
    config = read(folder, TRAINING_PRO, dataset="chat", datasetJSONL="lines", raw_text_file="book")
    assert (config.data.dataset, bool(config.data.text_file)) == ("", True)
    assert config.notes == [
        "dataset = 'chat' is not used, since datasetJSONL is set too.",
        "A text file and a data set are named: the old trainer took the text alone, so the data set is left out.",
    ]


def test_formats(folder: Path) -> None:
    config = read(folder, TRAINING_PRO, dataset="chat", format="alpaca-format")
    assert config.data.format == "template"
    assert config.data.format_file == str(folder.parents[1] / "training/formats/alpaca-format.json")
    config = read(folder, WEBUI, format="ChatML")
    assert (config.data.format, config.data.format_file) == ("auto", "")
    assert config.notes[1:] == ["format = 'ChatML': the rows are recognised by their keys; choose a Format file if they are not."]
    assert not any("format" in note for note in read(folder, WEBUI, format="Chat Template").notes)


def test_overlap_of_text_documents(folder: Path) -> None:
    assert read(folder, WEBUI, text_dataset="docs", stride_length=128).data.overlap == 0.25
    assert read(folder, WEBUI, text_dataset="docs", stride_length=2048).data.overlap == 0.9
    assert read(folder, WEBUI, dataset="chat", stride_length=128).data.overlap == 0


def test_only_what_the_file_says_is_set(tmp_path: Path) -> None:
    assert from_old_parameters({"lora_name": "x", "micro_batch_size": 2}, tmp_path) == (
        {"adapter": {"name": "x"}, "batching": {"true_batch_size": 2}},
        [],
    )


def test_the_old_rslora_and_whole_modules(folder: Path) -> None:
    found = settings(read(folder, TRAINING_PRO, lora_RS=True, lora_RS_alpha=24, lora_modulessave=True))
    assert (found["adapter.rslora"], found["adapter.rslora_alpha"]) == (True, 24)
    assert (found["adapter.train_head"], found["adapter.train_embeddings"]) == (True, True)
    assert "adapter.rslora_alpha" not in settings(read(folder, TRAINING_PRO, lora_RS_alpha=24))
