"""The table of optimizers, and what is said where one cannot run."""

from __future__ import annotations

import importlib.util

import pytest
from training_pro.adapting.optimizers import (
    ANYWHERE,
    OPTIMIZERS,
    bytes_per_parameter,
    fitting_optimizer,
    optimizer_class,
    optimizer_problem,
    taking,
)

PACKAGES = {"": "torch", "torch-optimi": "optimi"}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_entry_is_whole(name: str) -> None:
    info = OPTIMIZERS[name]
    assert info.words.endswith(".")
    assert info.devices
    assert set(info.devices) <= set(ANYWHERE)
    assert bool(info.package) == bool(info.at_least)
    assert bytes_per_parameter(name) >= 0
    assert info.without_paging in ("", *OPTIMIZERS)
    assert bool(info.without_paging) == bool(info.fixed.get("is_paged"))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_class_is_there(name: str) -> None:
    if importlib.util.find_spec(PACKAGES.get(OPTIMIZERS[name].package, OPTIMIZERS[name].package)) is None:
        pytest.skip(f"{OPTIMIZERS[name].package} is not installed")
    import torch

    assert issubclass(optimizer_class(name), torch.optim.Optimizer)


def test_names_that_forms_and_old_files_know() -> None:
    assert {"adamw_torch", "adamw_torch_fused", "adamw_bnb_8bit", "adafactor", "sgd", "adagrad"} <= set(OPTIMIZERS)
    assert taking("momentum") == ("muon", "schedule_free_sgd", "sgd", "rmsprop")
    assert bytes_per_parameter("sgd") == 0
    assert bytes_per_parameter("sgd", momentum=0.9) == 4


@pytest.mark.parametrize(
    ("name", "device", "version", "words"),
    [
        ("adamw_torch", "mps", "", ""),
        ("muon", "cpu", "", ""),
        ("adamw_bnb_8bit", "cuda", "0.49.2", ""),
        ("adamw_bnb_8bit", "cpu", "0.50.0", ""),
        ("adamw_bnb_8bit", "cpu", "0.49.2", "needs bitsandbytes 0.50 or newer on a CPU; 0.49.2 is installed"),
        ("adamw_bnb_8bit", "cpu", "0.9.0", "needs bitsandbytes 0.50 or newer on a CPU; 0.9.0 is installed"),
        ("adamw_bnb_8bit", "cuda", "0.48.1", "needs bitsandbytes 0.49 or newer; 0.48.1 is installed"),
        ("adamw_bnb_8bit", "mps", "0.50.2", "runs on cuda, cpu, xpu, and this model is on mps"),
        ("prodigy", "cpu", "", "needs the package prodigyopt, which is not installed"),
        ("schedule_free_adamw", "cuda", "1.3", 'pip install "schedulefree>=1.4"'),
    ],
)
def test_what_cannot_run_is_said_with_the_remedy(name: str, device: str, version: str, words: str) -> None:
    problem = optimizer_problem(name, device, lambda package: version)
    assert words in problem
    assert bool(words) == bool(problem)
    if problem:
        assert "Choose adamw_torch." in problem or "or choose adamw_torch." in problem
        with pytest.raises(ValueError, match="Optimizer: "):
            fitting_optimizer(name, device, lambda package: version)


@pytest.mark.parametrize("name", [name for name, info in OPTIMIZERS.items() if info.without_paging])
def test_paging_falls_back_where_there_is_none(name: str) -> None:
    assert fitting_optimizer(name, "cuda", lambda package: "0.50.2") == (name, [])
    other, notes = fitting_optimizer(name, "cpu", lambda package: "0.50.2")
    assert other == OPTIMIZERS[name].without_paging
    assert notes == [f"Optimizer: there is nothing to page on cpu, so {name} runs as {other}: the same steps."]


def test_the_fall_back_of_paged_adamw_needs_no_package() -> None:
    assert fitting_optimizer("paged_adamw_32bit", "cpu", lambda package: "")[0] == "adamw_torch"
