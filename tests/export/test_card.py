"""The model card: what it says, that the hub can read it, and that a card of the user's is never touched."""

import json
import re
from pathlib import Path
from typing import Any

import export_cases
import pytest
import trials
from huggingface_hub import ModelCard
from training_pro.export.card import is_ours, make_card, write_card
from training_pro.runs.store import RunFolder


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """An adapter with the diary of a run."""
    base = export_cases.tiny_base(tmp_path / "models" / "tiny-base")
    path = export_cases.adapter(tmp_path / "loras" / "mine", base, export_cases.lora(["q_proj", "v_proj"]))
    (path / "README.md").unlink(missing_ok=True)
    data = {"dataset": "/home/somebody/secret/talks.jsonl", "cutoff": 128}
    export_cases.of_run(
        path,
        model={"path": str(base), "chat_template": "/home/somebody/my.jinja"},
        data=data,
        adapter={"name": "mine"},
        training={"epochs": 2, "learning_rate": 0.001},
        run={"adapters_dir": "/home/somebody/loras"},
    )
    report = {
        "files": [{"file": "/home/somebody/secret/talks.jsonl", "rows": 60, "format": "messages"}],
        **{"num_samples": 50, "num_eval_samples": 8, "num_tokens": 4194, "num_trained_tokens": 1689, "num_too_long": 2},
    }
    events = [
        {"event": "run_started", "name": "mine", "t": 1.0, "pid": 1, "process_started": 1.0},
        {"event": "prepared", "report": report},
        {"event": "plan", "num_steps": 30},
        {"event": "step", "step": 1, "epoch": 0.1, "loss": 3.2, "smoothed_loss": 3.192, "lr": 0.1},
        {"event": "evaluation", "step": 0, "epoch": 0.0, "loss": 3.5},
        {"event": "evaluation", "step": 30, "epoch": 2.0, "loss": 1.25},
        {"event": "step", "step": 30, "epoch": 2.0, "loss": 1.0, "smoothed_loss": 1.11, "lr": 0.0},
    ]
    (path / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events), encoding="utf-8")
    log = {"message": "The training is finished.", "versions": {"torch": "2.9", "peft": "0.18"}}
    (path / "training_log.json").write_text(json.dumps(log), encoding="utf-8")
    (path / "training_graph.png").write_bytes(b"\x89PNG")
    return RunFolder(path)


def card(folder: RunFolder) -> str:
    return (folder.path / "README.md").read_text(encoding="utf-8")


def test_what_the_card_says(folder: RunFolder) -> None:
    assert make_card(folder) == ""
    text = card(folder)
    for words in (
        "# mine",
        "An adapter (LoRA) for **tiny-base** (rank 4; on q_proj, v_proj)",
        "| Optimizer steps | 30 of 30 |",
        "| Training loss, smoothed | 3.192 → 1.110 |",
        "| Loss on held-out samples | 3.500 → 1.250 |",
        "![Loss and learning rate](training_graph.png)",
        "| talks.jsonl | 60 rows, messages |",
        "| Held-out samples | 8 |",
        "| Tokens, of an epoch | 4,194, 1,689 of them trained |",
        "| Not trained | 2 conversations over the cutoff |",
        "| Chat template | my.jinja |",
        "| Maximum context length (Cutoff) | 128 tokens |",
        "| Learning Rate | 0.001 |",
        "training-pro merge mine --base tiny-base",
        "llama-server -m BASE.gguf --lora FILE.gguf",
        "PeftModel.from_pretrained",
        "torch 2.9, peft 0.18",
    ):
        assert words in text, words
    assert "LoRA Rank" not in text  # its default


def test_nothing_of_the_machine_gets_into_it(folder: RunFolder, tmp_path: Path) -> None:
    make_card(folder)
    assert "somebody" not in card(folder)
    assert "secret" not in card(folder)
    assert str(tmp_path) not in card(folder)


def test_the_hub_reads_its_front_matter(folder: RunFolder) -> None:
    make_card(folder)
    data = ModelCard.load(folder.path / "README.md").data.to_dict()
    assert data == {
        "library_name": "peft",
        "pipeline_tag": "text-generation",
        "base_model": "tiny-base",
        "tags": ["training-pro-hybrid", "lora"],
    }


def test_a_base_of_the_hub_keeps_its_owner(folder: RunFolder) -> None:
    export_cases.of_run(folder.path, model={"path": "HuggingFaceTB/SmolLM2-135M-Instruct"})
    make_card(folder)
    assert ModelCard.load(folder.path / "README.md").data.base_model == "HuggingFaceTB/SmolLM2-135M-Instruct"


@pytest.mark.parametrize(
    ("config", "name", "tag", "words"),
    [
        ({"use_dora": True}, "DoRA", "dora", "llama.cpp has no DoRA adapters"),
        ({"peft_type": "VERA"}, "VeRA", "vera", "llama.cpp has no VeRA adapters"),
        ({"peft_type": "IA3"}, "(IA)3", "ia-3", "llama.cpp has no (IA)3 adapters"),
    ],
)
def test_other_adapters(folder: RunFolder, config: dict[str, Any], name: str, tag: str, words: str) -> None:
    file = folder.path / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **config}))
    make_card(folder)
    assert f"An adapter ({name}) for" in card(folder)
    assert tag in ModelCard.load(folder.path / "README.md").data.tags
    assert words in card(folder)


def test_whole_models_and_sparse_increments(folder: RunFolder) -> None:
    (folder.path / "adapter_config.json").unlink()
    (folder.path / "sift.safetensors").write_bytes(b"")
    make_card(folder)
    assert "A sparse increment (SIFT) for **tiny-base**" in card(folder)
    assert "PeftModel" not in card(folder)
    (folder.path / "sift.safetensors").unlink()
    (folder.path / "config.json").write_text("{}")
    make_card(folder)
    assert "A whole model: a full fine-tuning of **tiny-base**" in card(folder)
    assert ModelCard.load(folder.path / "README.md").data.to_dict()["library_name"] == "transformers"
    (folder.path / "config.json").unlink()
    with pytest.raises(ValueError, match="holds no adapter and no model"):
        make_card(folder)


# --- whose card it is ----------------------------------------------------------------------------------------------------------


def test_our_own_card_is_written_again(folder: RunFolder) -> None:
    make_card(folder)
    first = card(folder)
    export_cases.of_run(folder.path, training={"epochs": 9})
    assert make_card(folder) == ""
    assert card(folder) != first
    assert "| Epochs | 9.0 epochs |" in card(folder)


@pytest.mark.parametrize(
    "edit",
    [
        lambda text: text + "My own words.\n",
        lambda text: text.replace("library_name: peft", "library_name: peft\nlicense: mit"),
        lambda text: re.sub(r"<!-- written by .*-->\n", "", text),
        lambda text: "My own card.",
    ],
)
def test_an_edited_card_is_left_alone(folder: RunFolder, edit: Any) -> None:
    make_card(folder)
    edited = edit(card(folder))
    assert edited != card(folder)
    (folder.path / "README.md").write_text(edited, encoding="utf-8")
    assert re.search("was edited, so it is left as it is", make_card(folder))
    assert card(folder) == edited


def test_pefts_form_is_replaced_unless_something_was_filled_in(folder: RunFolder, tmp_path: Path) -> None:
    base = tmp_path / "models" / "tiny-base"
    form = (export_cases.adapter(tmp_path / "plain", base, export_cases.lora(["q_proj"])) / "README.md").read_text(
        encoding="utf-8"
    )
    assert is_ours(form)
    (folder.path / "README.md").write_text(form, encoding="utf-8")
    assert make_card(folder) == ""
    assert "# mine" in card(folder)
    filled = form.replace("[More Information Needed]", "A lighthouse keeper.", 1)
    assert filled != form
    shortened = form.replace("## Model Details", "", 1)
    assert shortened != form
    for edited in (filled, shortened, form + "\nTrained by me.\n"):
        (folder.path / "README.md").write_text(edited, encoding="utf-8")
        assert "was edited" in make_card(folder)
        assert card(folder) == edited


def test_a_card_never_stops_a_run(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training_pro.export.card.card_text", lambda folder, kind, state: 1 / 0)
    assert write_card(folder) == "The model card could not be written: division by zero"
    assert sorted(path.name for path in folder.path.glob("*README*")) == []


# --- in a run ------------------------------------------------------------------------------------------------------------------


def test_a_run_leaves_a_card_and_the_users_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training_pro.matplotgraph.draw_graph", trials.no_picture)
    outcome, _ = trials.run(trials.settings(tmp_path, training={"epochs": 1}))
    assert outcome.status == "finished"
    text = card(outcome.folder)
    assert is_ours(text)
    assert "| Optimizer steps | 5 of 5 |" in text
    assert "| How it ended | The training is finished. |" in text
    (outcome.folder.path / "README.md").write_text("Mine.", encoding="utf-8")
    again, events = trials.run(trials.settings(tmp_path, training={"epochs": 2}, adapter={"if_exists": "resume"}))
    assert again.step > 5
    assert card(again.folder) == "Mine."
    assert "was edited, so it is left as it is" in events.texts()
