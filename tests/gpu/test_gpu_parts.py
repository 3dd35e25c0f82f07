"""What check_gpu.py measures, tried where it can be: exactness on any device, kernels and memory on a GPU only."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))

import gpu_parts as parts  # noqa: E402

on_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@pytest.mark.parametrize(("dtype", "bound"), [("float32", 1e-5), ("bfloat16", 1.5e-2), ("float16", 2e-3)])
@pytest.mark.parametrize("window", [None, 37])
def test_kernels(dtype: str, bound: float, window: int | None) -> None:
    for kernel in parts.kernels_for(dtype):
        assert max(parts.kernel_errors(kernel, dtype, window, 0.3)) <= bound


@pytest.mark.parametrize("name", ["llama", "mistral, window 48"])
def test_models(name: str) -> None:
    found = parts.model_errors(name, "float32")
    assert found["route"].startswith("flat")
    assert found["neighbours"] == 0
    assert max(found["gradient"], found["loss"], found["padded_gradient"]) < 2e-5
    half = parts.model_errors(name, "bfloat16")
    assert half["gradient"] <= max(2e-2, 2 * half["padded_gradient"])


def test_the_samples_of_the_timing_fill_their_packs() -> None:
    packs = next(parts.timing_batches("packed", 1, capacity=256, batch_size=4))
    single = next(parts.timing_batches("flat", 1, capacity=256, batch_size=4))
    assert len(packs) == len(single) == 4
    assert all(sum(entry["lengths"]) == len(entry["input_ids"]) <= 256 for entry in packs + single)
    assert sum(len(entry["input_ids"]) for entry in packs) > 0.9 * 4 * 256


@on_gpu
@pytest.mark.parametrize("name", parts.MODELS)
def test_models_on_a_gpu(name: str) -> None:
    found = parts.model_errors(name, "bfloat16")
    assert "varlen" in found["route"]
    assert found["neighbours"] == 0
    assert found["gradient"] <= max(2e-2, 2 * found["padded_gradient"])


@on_gpu
def test_memory_of_the_loss_on_a_gpu() -> None:
    assert parts.head_memory("chunked", 2048) < 0.7 * parts.head_memory("full", 2048)


@on_gpu
def test_runs_on_a_gpu(tmp_path: Path) -> None:
    for words, value, good in parts.whole_runs(tmp_path):
        assert good, (words, value)
