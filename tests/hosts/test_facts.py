"""What the form shows of a loaded model, and what a command line needs to load it again."""

from pathlib import Path
from typing import Any

import tiny
from training_pro.hosts.facts import model_facts
from training_pro.train_utils import load_base_model


def test_facts_of_a_model_of_a_folder(tmp_path: Path) -> None:
    folder = tiny.save_model(tmp_path / "tiny-model")
    model, _ = load_base_model(folder)
    facts = model_facts(model, "tiny")
    assert (facts["name"], facts["device"]) == ("tiny", "cpu")
    assert (facts["folder"], facts["quantization"]) == (str(folder), "none")
    assert facts["num_parameters"] == sum(weight.numel() for weight in model.parameters())


def test_a_model_of_no_folder_has_none(tiny_model: Any) -> None:
    assert model_facts(tiny_model, "tiny")["folder"] == ""
