"""What is refused or said before the first step, since it would do nothing or was never proved right."""

from pathlib import Path

import pytest
import trials


@pytest.mark.parametrize(("name", "label"), [("ACCELERATE_USE_FSDP", "FSDP"), ("ACCELERATE_USE_DEEPSPEED", "DeepSpeed")])
def test_models_that_are_cut_over_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, label: str) -> None:
    monkeypatch.setenv(name, "true")
    outcome, _ = trials.run(trials.settings(tmp_path))
    assert (outcome.status, outcome.step) == ("failed", 0)
    assert outcome.message.startswith(f"{label}: a whole training on a model that is cut over several processes is not tested")
    assert "accelerate launch --multi_gpu" in outcome.message
    monkeypatch.setenv(name, "false")
    outcome, _ = trials.run(trials.settings(tmp_path, training={"epochs": 1}))
    assert outcome.status == "finished"


def test_the_best_of_no_evaluations(tmp_path: Path) -> None:
    words = "Save the best evaluation: there is no evaluation data"
    changes = {"checkpoints": {"save_best_eval": True}, "training": {"epochs": 1}}
    _, events = trials.run(trials.settings(tmp_path, **changes))
    assert words in events.texts()
    _, events = trials.run(trials.settings(tmp_path, adapter={"if_exists": "replace"}, data={"eval_share": 0.2}, **changes))
    assert words not in events.texts()


@pytest.mark.parametrize(
    ("section", "changes", "words"),
    [
        (
            "checkpoints",
            {"save_loss_start": 1.8},
            "Save from loss: it has no effect while Save when the loss falls by is off. Got: 1.8.",
        ),
        ("samples", {"every_steps": 5}, "Answer every n steps: it has no effect while Sample prompts is empty. Got: 5."),
        ("checkpoints", {"stop_at_epoch": 4}, "Stop at epoch: it has no effect, the run ends at epoch 2.5. Got: 4."),
        ("adapter", {"resume_from": "checkpoint-3"}, "Resume from: it has no effect while If the name exists is 'stop'."),
    ],
)
def test_settings_that_do_nothing(tmp_path: Path, section: str, changes: dict[str, object], words: str) -> None:
    assert words in " ".join(trials.settings(tmp_path, **{section: changes}).without_effect())
    assert trials.settings(tmp_path).without_effect() == []
