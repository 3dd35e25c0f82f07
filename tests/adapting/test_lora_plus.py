"""LoRA+: the groups are those of peft's own optimizer."""

from typing import Any

import families
import pytest
import torch
from peft.optimizers import create_loraplus_optimizer
from training_pro.adapting.lora_plus import with_lora_plus
from training_pro.train_utils import add_lora
from training_pro.training.optimizers import default_groups


def rates(groups: list[dict[str, Any]]) -> dict[int, tuple[float, float]]:
    return {id(weight): (group["lr"], group["weight_decay"]) for group in groups for weight in group["params"]}


@pytest.mark.parametrize("ratio", [4.0, 16.0])
def test_the_rates_are_those_of_peft(ratio: float) -> None:
    model = add_lora(families.make("Llama"), rank=2, alpha=4, dropout=0.0, targets=["q_proj", "down_proj"])
    theirs = create_loraplus_optimizer(model, torch.optim.AdamW, lr=1e-3, loraplus_lr_ratio=ratio, loraplus_weight_decay=0.0)
    ours = with_lora_plus(model, default_groups(model, 1e-3, 0.0), ratio)
    expected = {key: rate for key, (rate, _) in rates(theirs.param_groups).items()}
    assert {key: rate for key, (rate, _) in rates(ours).items()} == expected
    assert len(set(expected.values())) == 2


def test_decay_and_everything_else_stay() -> None:
    model = add_lora(families.make("Llama"), rank=2, alpha=4, dropout=0.0, targets=["q_proj"])
    groups = default_groups(model, 1e-3, 0.1)
    assert all(decay == 0.1 for _, decay in rates(with_lora_plus(model, groups, 16)).values())
    assert rates(with_lora_plus(model, groups, 0)) == rates(with_lora_plus(model, groups, 1)) == rates(groups)
