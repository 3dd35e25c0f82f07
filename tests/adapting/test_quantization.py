"""Packed bases: recognised, loaded, refused with words, and kept to the bit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tiny
import torch
from hypothesis import given
from hypothesis import strategies as st
from training_pro import train_utils
from training_pro.adapting.quantization import (
    QUANTIZATIONS,
    CannotLoad,
    Loading,
    compute_dtype_of,
    is_quantized,
    keep_packed,
    loading_arguments,
    num_weights,
    packed_layers,
    parse_memory,
    quantization_problem,
    refuse_changing_base,
    unpacked_weight,
)
from training_pro.train_utils import load_base_model, model_dtype_name

pytest.importorskip("bitsandbytes")
PACKED = [name for name in QUANTIZATIONS if name != "none"]
LAYERS = 2 * 7  # linear layers of the tiny model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save_model(tmp_path_factory.mktemp("model") / "veltmor")


@pytest.fixture(autouse=True)
def _on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_utils, "best_device", lambda: "cpu")


def loaded(folder: Path, quantization: str, **more: Any) -> Any:
    return load_base_model(folder, Loading(quantization=quantization, **more))[0]


# --- loading and recognising ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", QUANTIZATIONS)
def test_every_quantization_is_loaded_and_recognised(folder: Path, name: str) -> None:
    model = loaded(folder, name)
    assert is_quantized(model) == QUANTIZATIONS[name]
    assert len(list(packed_layers(model))) == (LAYERS if name != "none" else 0)
    assert (model_dtype_name(model), model.training) == ("float32", False)
    own = dict(tiny.model().named_parameters())
    assert sum(num_weights(parameter) for parameter in model.parameters()) == sum(weight.numel() for weight in own.values())
    assert torch.equal(model.get_input_embeddings().weight, own["model.embed_tokens.weight"])
    if name != "none":
        stored = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
        assert stored < 0.6 * sum(weight.numel() * 4 for weight in own.values())


@pytest.mark.parametrize(("double", "compute"), [(True, "bfloat16"), (False, "float32"), (False, "float16")])
def test_the_wishes_for_4_bits(folder: Path, double: bool, compute: str) -> None:
    model = loaded(folder, "nf4", double=double, compute_dtype=compute)
    layer = next(module for _, module in packed_layers(model))
    assert layer.weight.quant_state.nested == double
    assert compute_dtype_of(model) == model_dtype_name(model) == compute
    assert compute_dtype_of(tiny.model()) == ""


def test_the_other_weights_follow_load_model_in(folder: Path) -> None:
    model = loaded(folder, "int8", dtype="bfloat16")
    assert model_dtype_name(model) == "bfloat16"  # not what an 8-bit config says of 4 bits
    assert model.model.norm.weight.dtype == torch.bfloat16


@pytest.mark.parametrize("name", PACKED)
@pytest.mark.parametrize("called", [False, True])
def test_unpacked_weights_are_what_a_layer_computes_with(folder: Path, name: str, called: bool) -> None:
    layer = loaded(folder, name).train().model.layers[0].mlp.up_proj
    inputs = torch.randn(5, 64, generator=torch.Generator().manual_seed(1), requires_grad=True)
    if called:
        layer(inputs)
    weight = unpacked_weight(layer).float()
    assert weight.shape == (128, 64)
    original = tiny.model().model.layers[0].mlp.up_proj.weight.detach()
    assert 0 < float((weight - original).norm() / original.norm()) < (0.02 if name == "int8" else 0.15)
    assert torch.allclose(layer(inputs), inputs @ weight.T, atol=1e-5)
    with pytest.raises(ValueError, match="Linear has no packed weight to unpack"):
        unpacked_weight(torch.nn.Linear(2, 2))


def with_config(method: str, trains: Any) -> Any:
    class Quantizer:
        @property
        def is_trainable(self) -> bool:
            if isinstance(trains, Exception):
                raise trains
            return bool(trains)

    model = tiny.model()
    model.config.quantization_config = {"quant_method": method}
    model.hf_quantizer = Quantizer()
    return model


@pytest.mark.parametrize(
    ("method", "trains", "name", "reason"),
    [
        ("gptq", True, "GPTQ", ""),
        ("awq", ImportError("no gptqmodel"), "AWQ", "ImportError: no gptqmodel"),
        ("hqq", True, "HQQ", ""),
        ("quark", False, "quark", "there is no way back through its layers"),
    ],
)
def test_other_packings_are_named_and_refused_if_they_cannot_train(method: str, trains: Any, name: str, reason: str) -> None:
    model = with_config(method, trains)
    assert is_quantized(model) == name
    if not reason:
        keep_packed(model)
    else:
        with pytest.raises(ValueError, match=f"quantized by {name}, which cannot be trained here .{reason}.*bitsandbytes"):
            keep_packed(model)
    with pytest.raises(ValueError, match=f"Method full: it changes the weights.*packed .{name}.*train a LoRA"):
        refuse_changing_base(model, "Method full")


def test_ordinary_models_pass() -> None:
    model = tiny.model()
    keep_packed(model)
    refuse_changing_base(model, "Method full")
    assert is_quantized(model) == ""
    assert is_quantized(SimpleNamespace(modules=list)) == ""


# --- what cannot be loaded -----------------------------------------------------------------------------------------------------


def test_without_bitsandbytes_the_command_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.metadata

    def none(package: str) -> str:
        raise importlib.metadata.PackageNotFoundError(package)

    monkeypatch.setattr("training_pro.adapting.quantization.importlib.metadata.version", none)
    with pytest.raises(CannotLoad, match=r"Quantization: 4-bit NF4 .*not installed.*'nf4'.*\(pip install bitsandbytes\)"):
        loaded(folder, "nf4")
    assert quantization_problem("none", "cpu") == ""
    assert loaded(folder, "none") is not None


def test_devices_it_is_not_tried_on() -> None:
    assert "8-bit bitsandbytes is not tried on mps. Got: 'int8'. Choose none" in quantization_problem("int8", "mps")
    assert [quantization_problem("fp4", device) for device in ("cuda", "cpu", "xpu")] == ["", "", ""]


def test_what_a_gpu_gets() -> None:
    arguments = loading_arguments(Loading(quantization="nf4"), "cuda", bf16_supported=False)
    config = arguments["quantization_config"]
    assert (arguments["dtype"], arguments["device_map"]) == ("auto", {"": "cuda"})
    assert (config.load_in_4bit, config.bnb_4bit_quant_type, config.bnb_4bit_use_double_quant) == (True, "nf4", True)
    assert config.bnb_4bit_compute_dtype == torch.float16
    better = loading_arguments(Loading(quantization="fp4"), "cuda", bf16_supported=True)["quantization_config"]
    assert (better.bnb_4bit_compute_dtype, better.bnb_4bit_quant_type) == (torch.bfloat16, "fp4")
    assert loading_arguments(Loading(), "cuda", bf16_supported=True) == {"dtype": "auto"}
    spread = loading_arguments(Loading(max_memory=("0: 1GiB", "1=2GiB")), "cuda", bf16_supported=True)
    assert (spread["device_map"], spread["max_memory"]) == ("auto", {0: 2**30, 1: 2**31})
    with pytest.raises(CannotLoad, match="no GPU is named, so nothing could be trained. Write for example 0: 10GiB"):
        loading_arguments(Loading(max_memory=("cpu: 1GiB",)), "cuda", bf16_supported=True)


@given(st.dictionaries(st.one_of(st.just("cpu"), st.integers(0, 15)), st.integers(1, 10**6), min_size=1))
def test_memory_is_read_back(wanted: dict[int | str, int]) -> None:
    assert parse_memory(f"{device}: {size}MiB" for device, size in wanted.items()) == {
        device: size * 2**20 for device, size in wanted.items()
    }


@pytest.mark.parametrize("entry", ["10GiB", "0: ten GiB", "0: 10", "gpu0: 1GiB", "-1: 1GiB", ""])
def test_memory_that_cannot_be_read(entry: str) -> None:
    with pytest.raises(CannotLoad, match=r"Maximum memory: it cannot be read. Got: .*Write a GPU's number or cpu, and a size"):
        parse_memory([entry])
    with pytest.raises(CannotLoad, match="cpu is there twice"):
        parse_memory(["cpu: 1GB", "cpu: 2GB"])


@pytest.mark.parametrize("name", ["none", "nf4"])
def test_a_model_that_does_not_fit_is_refused(folder: Path, name: str) -> None:
    with pytest.raises(CannotLoad, match="the model does not fit.*cannot be trained. Got: cpu: 50KB. Give more"):
        loaded(folder, name, max_memory=("cpu: 50KB",))
    model = loaded(folder, name, max_memory=("cpu: 1GB",))
    assert {parameter.device.type for parameter in model.parameters()} == {"cpu"}


# --- kept as it is -------------------------------------------------------------------------------------------------------------


def packed_bytes(model: Any) -> dict[str, torch.Tensor]:
    """Everything that the packed weights are made of."""
    found = {f"{name}.data": parameter.detach().clone() for name, parameter in model.named_parameters()}
    for path, layer in packed_layers(model):
        state = getattr(layer.weight, "quant_state", None)
        if state is None:
            found[f"{path}.scales"] = (layer.state.SCB if layer.weight.SCB is None else layer.weight.SCB).clone()
        else:
            found |= {f"{path}.{key}": value.clone() for key, value in state.as_dict(packed=True).items()}
    return found


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    assert len(first) > 2 * LAYERS
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("name", PACKED)
def test_an_answer_changes_no_packed_byte(folder: Path, name: str) -> None:
    """bitsandbytes rearranges 4-bit weights for CPUs with AVX512-BF16 as soon as a model answers; then nothing can be trained."""
    model = loaded(folder, name)
    before = packed_bytes(model)
    with torch.no_grad():
        first = model(torch.arange(9)[None]).logits
        second = model(torch.arange(9)[None]).logits
    assert torch.equal(first, second)
    assert same(before, packed_bytes(model))
    layer = model.model.layers[0].mlp.up_proj.train()
    inputs = torch.ones(1, 64, requires_grad=True)
    layer(inputs).sum().backward()
    assert float(inputs.grad.abs().max()) > 0


def test_weights_that_were_rearranged_already_are_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = loaded(folder, "nf4")
    layer = model.model.layers[1].mlp.up_proj
    keep_packed(model)
    layer.weight.quant_state.packing_format_for_cpu = True
    with pytest.raises(ValueError, match="rearranged the 4-bit weights of model.layers.1.mlp.up_proj .* Reload the model"):
        keep_packed(model)


def test_bitsandbytes_still_has_what_is_switched_off(folder: Path) -> None:
    """If this fails, bitsandbytes has changed how it rearranges weights: see keep_packed."""
    import bitsandbytes

    made: Callable[..., Any] = bitsandbytes.nn.Linear4bit
    assert hasattr(made(64, 64), "support_avx512bf16_for_cpu")
    layer = loaded(folder, "nf4").model.layers[0].mlp.up_proj
    assert layer.support_avx512bf16_for_cpu is False
