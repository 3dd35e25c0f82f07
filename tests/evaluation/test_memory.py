"""The memory estimate: exact where it can be, and in proportion where it is a rule of thumb."""

from types import SimpleNamespace
from typing import Any

import pytest
import tiny
import torch
import transformers
from training_pro.evaluation.memory import ADAM_STATES, adapter_parameters, estimate_memory
from training_pro.train_utils import OPTIMIZERS, add_lora, count_parameters, linear_module_names, resolve_targets


def gpt2() -> Any:
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(n_embd=16, n_layer=2, n_head=2, vocab_size=40))


def grouped() -> Any:
    return tiny.model(num_key_value_heads=2, tie_word_embeddings=False)


@pytest.mark.parametrize("make", [tiny.model, grouped, gpt2])
@pytest.mark.parametrize("targets", [["all-linear"], ["q-v"], ["k-v-down"]])
@pytest.mark.parametrize("rank", [1, 8])
def test_adapter_parameters_are_those_of_peft(make: Any, targets: list[str], rank: int) -> None:
    model = make()
    names = resolve_targets(targets, linear_module_names(model))
    expected = adapter_parameters(model, names, rank)
    assert expected > 0
    assert count_parameters(add_lora(model, rank=rank, alpha=1, dropout=0.0, targets=names))[0] == expected


def test_modules_by_their_whole_path() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.Linear(5, 7))
    assert adapter_parameters(model, ["1"], rank=2) == 2 * (5 + 7)
    assert adapter_parameters(model, ["absent"], rank=2) == 0


def estimate(model: Any = None, **changes: Any) -> dict[str, int]:
    options = {"num_trained": 1000, "batch_size": 2, "longest": 10, "optimizer": "adamw_torch", "checkpointing": False}
    return estimate_memory(model or tiny.model(), **{**options, **changes})


def test_the_parts_in_bytes() -> None:
    model = tiny.model()
    parts = estimate(model)
    assert parts["weights"] == 4 * sum(parameter.numel() for parameter in model.parameters())
    assert (parts["adapter"], parts["gradients"], parts["optimizer"]) == (4000, 4000, 8000)
    # 20 tokens: 2 layers of 10 x 64 + 4 x 128 numbers, and the logits of 400 tokens three times, 4 bytes each
    assert parts["activations"] == 20 * (2 * (640 + 512) * 4 + 3 * 400 * 4)
    assert parts["total"] == sum(parts[name] for name in ("weights", "adapter", "gradients", "optimizer", "activations"))
    assert parts["available"] > 0


def test_what_lowers_it() -> None:
    base = estimate()
    assert estimate(checkpointing=True)["activations"] == 20 * (2 * 64 * 4 + 3 * 400 * 4) < base["activations"]
    assert estimate(batch_size=1)["activations"] == base["activations"] / 2 == estimate(longest=5)["activations"]
    assert estimate(optimizer="sgd")["optimizer"] == 0
    assert estimate(tiny.model().bfloat16())["weights"] == base["weights"] / 2


def test_a_model_with_other_names_for_its_sizes() -> None:
    parts = estimate(gpt2())
    assert parts["activations"] == 20 * (2 * (10 * 16 + 4 * 64) * 4 + 3 * 40 * 4)


def test_every_optimizer_is_known() -> None:
    assert set(ADAM_STATES) == set(OPTIMIZERS)


def test_what_a_gpu_has_left(monkeypatch: pytest.MonkeyPatch) -> None:
    weight = SimpleNamespace(device=SimpleNamespace(type="cuda"), numel=lambda: 10, element_size=lambda: 2)
    model = SimpleNamespace(
        parameters=lambda: iter([weight]), config=SimpleNamespace(hidden_size=4, num_hidden_layers=1, vocab_size=0)
    )
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (700, 1000))
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 50)
    parts = estimate(model)
    assert (parts["available"], parts["weights"]) == (750, 20)
    assert parts["activations"] == 20 * (10 * 4 + 4 * 16) * 2  # 2 bytes a number on a GPU
