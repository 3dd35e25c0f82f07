"""Trainings on packed bases, beside the same training on the unpacked weights in float32; the base comes back to the bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
import trials
from test_quantization import PACKED, loaded, packed_bytes, same
from training_pro import train_utils
from training_pro.adapting.quantization import packed_layers, unpacked_weight
from training_pro.train_utils import METHODS

# largest difference of a loss of about 6 from that of the run on unpacked weights: 4-bit layers compute what they unpack to;
# 8-bit layers round their inputs to 8 bits in evaluation only
TRAINING_BOUND = {"nf4": 1e-6, "fp4": 1e-6, "int8": 2e-4}
EVALUATION_BOUND = {"nf4": 1e-6, "fp4": 1e-6, "int8": 0.02}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save_model(tmp_path_factory.mktemp("model") / "veltmor")


@pytest.fixture(autouse=True)
def _on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_utils, "best_device", lambda: "cpu")
    monkeypatch.setattr("training_pro.matplotgraph.draw_graph", trials.no_picture)


def unpacked(packed: Any) -> Any:
    """An ordinary float32 model with the weights that the packed one computes with."""
    model = tiny.model()
    layers = dict(model.named_modules())
    with torch.no_grad():
        for path, layer in packed_layers(packed):
            layers[path].weight.copy_(unpacked_weight(layer).float())
    return model


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(torch.arange(3, 40)[None], use_cache=False).logits.clone()
    return found


def settings(folder: Path, name: str, **changes: Any) -> Any:
    changes.setdefault("training", {}).setdefault("epochs", 1)
    return trials.settings(folder, 10, run={"adapters_dir": str(folder / name)}, **changes)


def losses(events: trials.Events) -> list[float]:
    return [entry["loss"] for entry in events.all("step")]


@pytest.mark.parametrize("name", PACKED)
def test_it_trains_as_on_the_unpacked_weights(folder: Path, tmp_path: Path, name: str) -> None:
    base = loaded(folder, name)
    oracle = unpacked(base)
    before, answer = packed_bytes(base), logits(base)
    changes: dict[str, Any] = {"data": {"eval_share": 0.2}, "samples": {"prompts": ["where"], "max_new_tokens": 4}}
    with trials.watched() as whole:
        outcome, events = trials.run(settings(tmp_path, "packed", **changes), base)
    assert (outcome.status, len(losses(events))) == ("finished", outcome.step), outcome.message
    assert len(events.all("sample")) == 2  # it answered before and after
    assert same(before, packed_bytes(base))
    assert torch.equal(answer, logits(base))
    assert not any(parameter.requires_grad for _, layer in packed_layers(base) for parameter in layer.parameters())

    other, exact = trials.run(settings(tmp_path, "exact", **changes), oracle)
    assert other.status == "finished"
    assert losses(exact)[0] - losses(exact)[-1] > 0.1  # it learns something
    assert losses(events) == pytest.approx(losses(exact), abs=TRAINING_BOUND[name])
    evaluated, right = ([entry["loss"] for entry in each.all("evaluation")] for each in (events, exact))
    assert evaluated == pytest.approx(right, abs=EVALUATION_BOUND[name])
    assert not torch.allclose(answer, logits(tiny.model()), atol=1e-3)  # packing has a price, so that equal losses mean something

    with trials.watched() as parts:
        trials.run(settings(tmp_path, "parts", **changes), base, stop_at=2)
        resumed = {**changes, "adapter": {"if_exists": "resume"}}
        last, _ = trials.run(settings(tmp_path, "parts", **resumed), base)
    assert last.status == "finished", last.message
    assert parts == whole
    assert trials.same(trials.weights(last.folder), trials.weights(outcome.folder))


def test_a_packed_model_of_somebody_else_is_not_rearranged(folder: Path, tmp_path: Path) -> None:
    """As a host loads it: bitsandbytes would rearrange its weights for some CPUs when it answers the prompts."""
    base = loaded(folder, "nf4")
    for _, layer in packed_layers(base):
        layer.support_avx512bf16_for_cpu = True
    before = packed_bytes(base)
    outcome, _ = trials.run(settings(tmp_path, "host", samples={"prompts": ["where"], "max_new_tokens": 2}), base)
    assert outcome.status == "finished", outcome.message
    assert same(before, packed_bytes(base))
    assert all(layer.support_avx512bf16_for_cpu for _, layer in packed_layers(base))  # given back as it was


@pytest.mark.parametrize("name", ["nf4", "int8"])
@pytest.mark.parametrize("more", [{"gradient_checkpointing": True}, {"precision": "bfloat16"}])
def test_checkpointing_and_bfloat16(folder: Path, tmp_path: Path, name: str, more: dict[str, Any]) -> None:
    base = loaded(folder, name)
    before = packed_bytes(base)
    plain, events = trials.run(settings(tmp_path, "plain"), base)
    changed, others = trials.run(settings(tmp_path, "changed", training=dict(more)), base)
    assert (plain.status, changed.status) == ("finished", "finished"), changed.message
    bound = 1e-5 if "gradient_checkpointing" in more else 0.1
    assert losses(others) == pytest.approx(losses(events), abs=bound)
    assert same(before, packed_bytes(base))


@pytest.mark.parametrize("dtype", ["bfloat16"])
def test_a_base_of_16_bits_beside_the_packed_weights(folder: Path, tmp_path: Path, dtype: str) -> None:
    base = loaded(folder, "nf4", dtype=dtype, compute_dtype=dtype)
    before, answer = packed_bytes(base), logits(base)
    outcome, events = trials.run(settings(tmp_path, "half"), base)
    assert outcome.status == "finished", outcome.message
    _, exact = trials.run(settings(tmp_path, "exact"), unpacked(base))
    assert losses(events) == pytest.approx(losses(exact), abs=0.05)
    assert all(float(value.abs().max()) > 0 for key, value in trials.weights(outcome.folder).items() if "lora_B" in key)
    assert same(before, packed_bytes(base))
    assert torch.equal(answer, logits(base))


@pytest.mark.parametrize("method", ["full", "sift"])
@pytest.mark.parametrize("name", ["nf4", "int8"])
def test_methods_that_change_the_base_are_refused(folder: Path, tmp_path: Path, name: str, method: str) -> None:
    if method not in METHODS:
        pytest.skip("that method is not in the table")
    base = loaded(folder, name)
    before = packed_bytes(base)
    outcome, _ = trials.run(settings(tmp_path, "refused", adapter={"method": method}), base)
    assert (outcome.status, outcome.step) == ("failed", 0)
    assert "quantiz" in outcome.message or "packed" in outcome.message
    assert same(before, packed_bytes(base))


def test_the_settings_load_it(folder: Path, tmp_path: Path) -> None:
    """Through the settings, as a user of the page or the command line does."""
    from training_pro.hosts import local

    config = settings(tmp_path, "form")
    config.model.path, config.model.quantization = str(folder), "nf4"
    local._loaded.clear()
    try:
        model, _ = local.load_model(config)
        assert train_utils.is_quantized(model) == "4-bit NF4 bitsandbytes"
        config.model.quantization = "none"
        assert train_utils.is_quantized(local.load_model(config)[0]) == ""
    finally:
        local._loaded.clear()
