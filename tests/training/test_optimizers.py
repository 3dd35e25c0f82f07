"""Every optimizer of the table in real trainings: it moves weights, follows the schedule, and goes on after a resume to the bit."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tiny
import torch
import trials
from training_pro.adapting.optimizers import OPTIMIZERS, bytes_per_parameter, optimizer_problem
from training_pro.train_utils import add_lora
from training_pro.training.optimizers import (
    TRAINED_WEIGHTS,
    OptimizerChoice,
    averaged_weights,
    choose_optimizer,
    default_groups,
    keeps_averages,
    load_trained_weights,
    make_optimizer,
    settle,
)

RATES = {"prodigy": 1.0, "sgd": 0.5, "adagrad": 0.05, "rmsprop": 0.003, "schedule_free_sgd": 0.5}
DEVICE = "cpu"


def runs_here(name: str) -> Any:
    """The name, to be skipped where its package is missing or too old for this device, with the reason."""
    real = OPTIMIZERS[name].without_paging or name
    problem = optimizer_problem(real, DEVICE)
    return pytest.param(name, marks=pytest.mark.skipif(bool(problem), reason=problem))


EVERY = [runs_here(name) for name in OPTIMIZERS]
AVERAGING = [runs_here(name) for name, info in OPTIMIZERS.items() if info.averages]


def options(name: str, **more: Any) -> dict[str, Any]:
    schedule = "constant_with_warmup" if OPTIMIZERS[name].averages else "cosine"
    training = {"epochs": 1, "optimizer": name, "learning_rate": RATES.get(name, 0.01), "schedule": schedule, "warmup_steps": 1}
    training |= {"weight_decay": 0.1, "projection_rank": 3, "projection_gap": 2}
    if name.startswith("schedule_free"):
        training["warmup_steps"] = 0
    if "radam" in name:
        training["epochs"] = 2  # its first five steps only gather
    # from 4096 weights on bitsandbytes keeps 8 bits
    return {"training": {**training, **more}, "adapter": {"rank": 64 if "8bit" in name else 4}}


@pytest.mark.parametrize("name", EVERY)
def test_it_trains_and_goes_on_to_the_bit(tmp_path: Path, name: str) -> None:
    changes = options(name)
    with trials.watched() as whole:
        first, events = trials.run(trials.settings(tmp_path, 8, run={"adapters_dir": str(tmp_path / "whole")}, **changes))
    num_steps, stop = (8, 6) if "radam" in name else (4, 2)
    assert (first.status, first.step, len(whole)) == ("finished", num_steps, num_steps)
    ups = {key: value for key, value in trials.weights(first.folder).items() if "lora_B" in key}
    assert ups
    assert all(float(value.abs().max()) > 0 for value in ups.values())  # they begin at 0
    assert all(torch.isfinite(value).all() for value in ups.values())
    assert len({step[2] for step in whole}) >= 4

    with trials.watched() as parts:
        stopped, _ = trials.run(trials.settings(tmp_path, 8, **changes), stop_at=stop)
        assert (stopped.status, stopped.step) == ("interrupted", stop)
        changes["adapter"]["if_exists"] = "resume"
        second, _ = trials.run(trials.settings(tmp_path, 8, **changes))
    assert (second.status, second.step) == ("finished", num_steps), second.message
    assert parts == whole
    assert trials.same(trials.weights(first.folder), trials.weights(second.folder))
    if OPTIMIZERS[name].without_paging:
        assert f"{name} runs as {OPTIMIZERS[name].without_paging}" in events.texts()


@pytest.mark.parametrize("name", ["adamw_torch", "adafactor", runs_here("lion"), "muon", runs_here("adamw_bnb_8bit")])
def test_states_are_as_large_as_the_table_says(name: str) -> None:
    weight = torch.nn.Parameter(torch.randn(128, 128))
    model = torch.nn.Module()
    model.weight = weight
    optimizer = make_optimizer(model, OptimizerChoice(name, 0.01))
    for _ in range(2):
        weight.grad = torch.randn(128, 128)
        optimizer.step()
    held = sum(
        value.numel() * value.element_size()
        for key, value in optimizer.state[weight].items()
        if torch.is_tensor(value) and not key.startswith("qmap")  # one table for the whole run
    )
    assert held / weight.numel() == pytest.approx(bytes_per_parameter(name), rel=0.05, abs=0.2)


def test_settings_reach_the_optimizer(tmp_path: Path) -> None:
    model = add_lora(tiny.model(), rank=4, alpha=8, dropout=0.0, targets=["q_proj"])

    def made(optimizer: str, **values: float) -> Any:
        config = trials.settings(tmp_path, training={"optimizer": optimizer, "weight_decay": 0.2, **values})
        return make_optimizer(model, choose_optimizer(config, DEVICE)[0])

    group = made("adamw_torch").param_groups[0]
    assert (group["betas"], group["eps"], group["weight_decay"], group["lr"]) == ((0.9, 0.999), 1e-8, 0.2, 0.02)
    group = made("adamw_torch_fused", beta1=0.8, beta2=0.95, epsilon=1e-6).param_groups[0]
    assert (group["betas"], group["eps"], group["fused"]) == ((0.8, 0.95), 1e-6, True)
    assert made("sgd").param_groups[0]["momentum"] == 0
    assert made("sgd", momentum=0.7).param_groups[0]["momentum"] == 0.7
    group = made("rmsprop", beta2=0.9).param_groups[0]
    assert (group["alpha"], group["eps"]) == (0.9, 1e-8)
    group = made("muon").param_groups[0]
    assert (group["momentum"], group["weight_decay"]) == (0.95, 0.2)
    group = made("adafactor", adafactor_scale=True).param_groups[0]
    assert (group["scale_parameter"], group["relative_step"], group["lr"]) == (True, False, 0.02)
    group = made("adafactor", adafactor_relative=True).param_groups[0]
    assert (group["scale_parameter"], group["relative_step"], group["lr"]) == (False, True, 0.02)
    group = made("galore", projection_rank=7, projection_gap=9).param_groups[0]
    assert (group["projection_rank"], group["projection_gap"], group["seed"]) == (7, 9, 42)


def test_biases_norms_and_scales_do_not_decay() -> None:
    model = tiny.model(attention_bias=True)
    decays = {id(parameter): group["weight_decay"] for group in default_groups(model, 0.1, 0.3) for parameter in group["params"]}
    named = dict(model.named_parameters())
    assert len(decays) == len(named)
    for name, parameter in named.items():
        assert decays[id(parameter)] == (0.0 if parameter.dim() == 1 else 0.3), name


def test_muon_leaves_embeddings_and_vectors_to_adamw() -> None:
    model = tiny.model(tie_word_embeddings=False)
    optimizer: Any = make_optimizer(model, OptimizerChoice("muon", 0.01))
    muon, adamw = optimizer.parts
    names = {id(parameter): name for name, parameter in model.named_parameters()}

    def held(part: Any) -> set[str]:
        return {names[id(parameter)] for group in part.param_groups for parameter in group["params"]}

    assert (type(muon), type(adamw)) == (torch.optim.Muon, torch.optim.AdamW)
    assert held(muon) | held(adamw) == set(names.values())
    assert {"model.embed_tokens.weight", "lm_head.weight", "model.norm.weight"} <= held(adamw)
    assert "model.layers.0.self_attn.q_proj.weight" in held(muon)


@pytest.mark.parametrize("name", [runs_here("adamw_bnb_8bit")])
def test_embeddings_get_states_of_32_bits(name: str) -> None:
    model = tiny.model(hidden_size=128)
    optimizer: Any = make_optimizer(model, OptimizerChoice(name, 0.01))
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    optimizer.step()
    assert optimizer.state[model.model.embed_tokens.weight]["state1"].dtype == torch.float32
    assert optimizer.state[model.model.layers[0].mlp.up_proj.weight]["state1"].dtype == torch.uint8


@pytest.mark.parametrize("name", ["adamw_torch", "muon", "galore"])
def test_groups_keep_their_own_rates(name: str) -> None:
    model = add_lora(tiny.model(), rank=4, alpha=8, dropout=0.0, targets=["q_proj"])
    trained = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    low = [parameter for name, parameter in trained if "lora_A" in name]
    high = [parameter for name, parameter in trained if "lora_B" in name]
    groups = [{"params": low, "lr": 0.01, "weight_decay": 0.0}, {"params": high, "lr": 0.16, "weight_decay": 0.1}]
    optimizer = make_optimizer(model, OptimizerChoice(name, 0.01), groups)
    assert [(group["lr"], group["weight_decay"]) for group in optimizer.param_groups] == [(0.01, 0.0), (0.16, 0.1)]


def test_the_schedule_scales_each_group_from_its_own_rate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from training_pro.training import optimizers

    def apart(model: Any, rate: float, decay: float) -> list[dict[str, Any]]:
        trained = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
        parts = [([parameter for name, parameter in trained if kind in name]) for kind in ("lora_A", "lora_B")]
        return [{"params": part, "lr": rate * factor, "weight_decay": decay} for part, factor in zip(parts, (1, 16), strict=True)]

    monkeypatch.setattr(optimizers, "default_groups", apart)
    changes = {"training": {"epochs": 1, "schedule": "linear", "warmup_steps": 0, "learning_rate": 0.004}}
    with trials.watched() as whole:
        trials.run(trials.settings(tmp_path, 8, run={"adapters_dir": str(tmp_path / "whole")}, **changes))
    assert [step[3] for step in whole] == [pytest.approx([0.004 * part, 0.064 * part]) for part in (1, 0.75, 0.5, 0.25)]
    with trials.watched() as parts:
        trials.run(trials.settings(tmp_path, 8, **changes), stop_at=2)
        changes["adapter"] = {"if_exists": "resume"}
        trials.run(trials.settings(tmp_path, 8, **changes))
    assert parts == whole


@pytest.mark.parametrize("name", [runs_here("prodigy")])
def test_one_rate_for_all_is_asked_for(name: str) -> None:
    first, second = torch.nn.Parameter(torch.ones(2)), torch.nn.Parameter(torch.ones(2))
    groups = [{"params": [first], "lr": 1.0, "weight_decay": 0.0}, {"params": [second], "lr": 2.0, "weight_decay": 0.0}]
    with pytest.raises(ValueError, match="prodigy takes one rate for all weights.*Choose adamw_torch"):
        make_optimizer(torch.nn.Module(), OptimizerChoice(name, 1.0), groups)


@pytest.mark.parametrize(
    ("training", "words"),
    [
        ({"optimizer": "prodigy", "learning_rate": 3e-4}, "finds the rate itself and multiplies it with this. Got: 0.0003"),
        ({"optimizer": "adafactor", "adafactor_relative": True}, "Adafactor takes its own rate"),
        ({"optimizer": "adamw_torch"}, ""),
    ],
)
def test_likely_mistakes_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, training: dict[str, Any], words: str) -> None:
    monkeypatch.setattr("training_pro.adapting.optimizers.installed_version", lambda package: "99.0")
    monkeypatch.setattr("training_pro.adapting.optimizers.optimizer_problem", lambda *args: "")
    _, notes = choose_optimizer(trials.settings(tmp_path, training=training), DEVICE)
    assert words in " ".join(notes)
    assert bool(words) == bool(notes)


def test_schedule_free_wants_a_constant_rate(tmp_path: Path) -> None:
    wrong = trials.settings(tmp_path, training={"optimizer": "schedule_free_adamw", "schedule": "cosine"})
    assert [problem.field for problem in wrong.problems()] == ["training.schedule"]
    assert "Choose constant_with_warmup" in str(wrong.problems()[0])
    right = trials.settings(tmp_path, training={"optimizer": "schedule_free_adamw", "schedule": "constant_with_warmup"})
    assert right.problems() == []


def test_what_is_missing_stops_the_run_before_it_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training_pro.adapting.optimizers.importlib.metadata.version", _none_installed)
    outcome, _ = trials.run(trials.settings(tmp_path, training={"optimizer": "prodigy", "learning_rate": 1}))
    assert (outcome.status, outcome.step) == ("failed", 0)
    assert 'pip install "prodigyopt>=1.1"' in outcome.message


def _none_installed(package: str) -> str:
    import importlib.metadata

    raise importlib.metadata.PackageNotFoundError(package)


# --- averaged weights ----------------------------------------------------------------------------------------------------------


def averaging(name: str) -> tuple[torch.nn.Parameter, Any]:
    model = torch.nn.Module()
    model.weight = torch.nn.Parameter(torch.ones(40, 40))
    optimizer: Any = make_optimizer(model, OptimizerChoice(name, 0.1))
    optimizer.train()
    for number in range(8):
        model.weight.grad = torch.randn(40, 40, generator=torch.Generator().manual_seed(number))
        optimizer.step()
    return model.weight, optimizer


@pytest.mark.parametrize("name", AVERAGING)
def test_a_look_at_the_average_changes_no_bit(name: str) -> None:
    weight, optimizer = averaging(name)
    assert keeps_averages(optimizer)
    before = weight.detach().clone()
    with averaged_weights(SimpleNamespace(optimizer=optimizer, param_groups=optimizer.param_groups)):
        average = weight.detach().clone()
        with averaged_weights(optimizer):
            assert torch.equal(weight, average)
    assert not torch.equal(average, before)
    assert torch.equal(weight, before)
    settle(optimizer)
    settle(optimizer)
    assert torch.equal(weight, average)


@pytest.mark.parametrize("name", AVERAGING)
def test_checkpoints_hold_the_average_and_what_goes_on(tmp_path: Path, name: str) -> None:
    changes = options(name)
    changes["data"] = {"eval_share": 0.2}
    changes["checkpoints"] = {"save_every_steps": 2, "eval_every_steps": 1}
    with trials.watched() as looked_at:
        outcome, events = trials.run(trials.settings(tmp_path, 10, **changes))
    assert (outcome.status, len(events.all("evaluation"))) == ("finished", outcome.step + 1)  # the first is before the training
    changes["checkpoints"] = {}
    with trials.watched() as undisturbed:
        other, _ = trials.run(trials.settings(tmp_path, 10, run={"adapters_dir": str(tmp_path / "other")}, **changes))
    assert looked_at == undisturbed  # evaluations and saves change nothing
    assert trials.same(trials.weights(outcome.folder), trials.weights(other.folder))
    last = outcome.folder.path / f"checkpoint-{outcome.step}"
    assert trials.same(trials.weights(last), trials.weights(outcome.folder))  # both are the average
    in_training = torch.load(last / TRAINED_WEIGHTS, weights_only=True)
    saved = {tuple(value.shape): value for value in trials.weights(last).values()}
    assert any(not torch.equal(value, saved[tuple(value.shape)]) for value in in_training if tuple(value.shape) in saved)


@pytest.mark.parametrize("name", AVERAGING)
def test_a_checkpoint_without_them_cannot_be_resumed(tmp_path: Path, name: str) -> None:
    _, optimizer = averaging(name)
    with pytest.raises(ValueError, match="lacks trained_weights.pt, so it cannot be resumed exactly. Choose 'continue'"):
        load_trained_weights(optimizer, tmp_path)
    assert not keeps_averages(torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], 0.1))
