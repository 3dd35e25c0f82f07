"""Settings of the training method that exclude each other or point nowhere, before a model is looked at."""

from pathlib import Path
from typing import Any

import pytest
import trials
from training_pro.adapting.methods import METHODS


def problems(folder: Path, training: dict[str, Any] | None = None, **adapter: Any) -> list[str]:
    return [str(entry) for entry in trials.settings(folder, adapter=adapter, training=training or {}).problems()]


@pytest.mark.parametrize(
    ("adapter", "training", "message"),
    [
        ({"targets": []}, {}, "Target modules: No module would be trained"),
        ({"first_layer": 4, "last_layer": 2}, {}, "Layers from: The range begins behind its end. Got: 4. Set it to 2"),
        ({"lora_plus": 16}, {"optimizer": "prodigy"}, "LoRA+ ratio: prodigy takes one rate for all weights. Got: 16"),
        ({"merge_first": ["absent"]}, {}, "Merge first: 'absent' is neither the name nor the folder of an adapter"),
        ({"method": "lisa"}, {}, "Method: Got: 'lisa'"),
        ({"initialisation": "corda"}, {}, "Initialisation: Got: 'corda'"),
        ({"bias": "some"}, {}, "Train biases: Got: 'some'"),
        ({"oft_block_size": 1}, {}, "OFT block size: It must be at least 2. Got: 1"),
    ],
)
def test_what_cannot_be(tmp_path: Path, adapter: dict[str, Any], training: dict[str, Any], message: str) -> None:
    found = problems(tmp_path, training, **adapter)
    label, words = message.split(": ", 1)
    assert len(found) == 1
    assert found[0].startswith(f"{label} (adapter.{next(iter(adapter))}): ")
    assert words in found[0]


def test_what_may_be(tmp_path: Path) -> None:
    for method in METHODS:
        assert problems(tmp_path, method=method) == []
    assert problems(tmp_path, method="full", targets=[]) == []
    assert problems(tmp_path, first_layer=4, last_layer=0) == []
    assert problems(tmp_path, {"optimizer": "prodigy"}, lora_plus=1) == []
    adapter = tmp_path / "loras" / "first"
    adapter.mkdir(parents=True)
    (adapter / "adapter_config.json").touch()
    assert problems(tmp_path, merge_first=["first", str(adapter)]) == []
