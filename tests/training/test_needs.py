"""The memory that Check names follows the settings: method, checkpointing, optimizer, route, batch; and how large a batch may be."""

from pathlib import Path
from typing import Any

import pytest
import tiny
import trials
from training_pro.train_utils import borrowed
from training_pro.training import needs
from training_pro.training.setup import prepare_run


def memory(folder: Path, **changes: Any) -> dict[str, int]:
    model, tokenizer = tiny.model(), tiny.fresh_tokenizer()
    with borrowed(model, tokenizer):
        return prepare_run(trials.settings(folder, **changes), model, tokenizer).memory


def test_it_follows_the_settings(tmp_path: Path) -> None:
    base = memory(tmp_path)
    assert base["total"] == sum(base[name] for name in ("weights", "adapter", "gradients", "optimizer", "activations"))
    assert base["optimizer"] == 2 * base["adapter"] == 2 * base["gradients"] > 0
    assert memory(tmp_path, training={"optimizer": "sgd"})["optimizer"] == 0
    assert memory(tmp_path, training={"gradient_checkpointing": True})["activations"] < base["activations"]
    assert memory(tmp_path, batching={"true_batch_size": 1})["activations"] < base["activations"]
    assert memory(tmp_path, adapter={"targets": ["q-v"]})["activations"] < base["activations"]
    full = memory(tmp_path, adapter={"method": "full"})
    assert full["gradients"] == full["weights"] == full["adapter"]  # trained in place; a copy is kept to be given back
    from_disk = memory(tmp_path, adapter={"method": "full", "full_copy": "disk"})
    assert from_disk["adapter"] == 0


def test_how_many_would_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At most the run's entries; fewer where there is less memory; the batch that is named does fit."""
    everything = memory(tmp_path)
    assert everything["largest_batch"] == 10
    need = memory(tmp_path, batching={"true_batch_size": 4})["total"]
    estimate = needs.estimate_memory
    weights = everything["weights"]
    for limit, wanted in ((need, 4), (need - 1, 3), (1, 0)):
        monkeypatch.setattr(
            needs, "estimate_memory", lambda *given, limit=limit: {**estimate(*given), "available": limit - weights}
        )
        assert memory(tmp_path)["largest_batch"] == wanted
