"""The optimizer of a run: from the settings to an object that Trainer steps.

What it does: says before the run what cannot run or runs as something else, sorts weights into groups (with and without decay, each with
its own rate), gives embeddings and vectors to the optimizer that suits them, and looks after optimizers that keep averaged weights.

Guarantee: what is shown as the rate of a group is the planned factor times the group's own rate; evaluating or saving never changes a
weight in training, not by a bit. Price: while averaged weights are looked at, the trained weights are there twice.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from ..adapting.optimizers import OPTIMIZERS, fitting_optimizer, optimizer_class
from ..adapting.paired import PairedOptimizer
from ..config import RunConfig

# settings of the form that the optimizers take, by their names there
VALUES = (
    *("beta1", "beta2", "epsilon", "momentum", "adafactor_scale", "adafactor_relative"),
    *("projection_rank", "projection_gap"),
)
LOW_RATE = 0.1  # under it an optimizer that finds its own rate is slowed down
# what a group holds by the user's word; everything else in it is what the optimizer has gathered
GROUP_SETTINGS = ("weight_decay", "betas", "beta1", "beta2", "eps", "momentum", "alpha")
_UNDECAYED = ("lora_magnitude_vector", "ia3_", "vera_lambda")  # they scale: 0 is not where they belong

Group = dict[str, Any]


@dataclass(frozen=True)
class OptimizerChoice:
    """An optimizer and its settings.

    Attributes:
        name: entry of OPTIMIZERS; what really runs.
        learning_rate: base rate.
        weight_decay: pull towards 0.
        values: settings of :data:`VALUES`; 0 or absent = the optimizer's own.
        seed: for what it draws.
    """

    name: str
    learning_rate: float
    weight_decay: float = 0.0
    values: dict[str, float] = field(default_factory=dict)
    seed: int = 0

    def value(self, setting: str) -> float:
        """What the user wants, or the optimizer's own."""
        return self.values.get(setting) or OPTIMIZERS[self.name].takes[setting]


def choose_optimizer(config: RunConfig, device_type: str) -> tuple[OptimizerChoice, list[str]]:
    """The optimizer for a run on a device, and sentences for the user: what runs in its place, what is likely a mistake.

    Raises:
        ValueError: it cannot run here; with the remedy.
    """
    training = config.training
    name, notes = fitting_optimizer(training.optimizer, device_type)
    info = OPTIMIZERS[name]
    values = {setting: float(getattr(training, setting)) for setting in VALUES if setting in info.takes}
    if info.finds_rate and training.learning_rate < LOW_RATE:
        notes.append(
            f"Learning Rate: {name} finds the rate itself and multiplies it with this. Got: {training.learning_rate:g}. Set it to 1."
        )
    if values.get("adafactor_relative"):
        notes.append(
            "Adafactor takes its own rate: Learning Rate and LR Scheduler have no effect, and the rate that is shown is not used."
        )
    return OptimizerChoice(name, training.learning_rate, training.weight_decay, values, training.seed), notes


# --- groups --------------------------------------------------------------------------------------------------------------------


def decayed_names(model: Any) -> set[str]:
    """Parameters that weight decay pulls at: no biases, no normalisations, no vectors that scale."""
    from transformers.pytorch_utils import ALL_LAYERNORM_LAYERS
    from transformers.trainer_pt_utils import get_parameter_names

    patterns = [r"bias", r"layernorm", r"rmsnorm", r"(?:^|\.)norm(?:$|\.)", r"_norm(?:$|\.)"]
    names = get_parameter_names(model, ALL_LAYERNORM_LAYERS, patterns)
    return {name for name in names if not any(part in name for part in _UNDECAYED)}


def default_groups(model: Any, learning_rate: float, weight_decay: float) -> list[Group]:
    """All trained parameters in two groups, with and without weight decay."""
    decayed = decayed_names(model)
    named = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    with_decay = [parameter for name, parameter in named if name in decayed]
    without = [parameter for name, parameter in named if name not in decayed]
    groups = [(with_decay, weight_decay), (without, 0.0)]
    return [{"params": params, "lr": learning_rate, "weight_decay": decay} for params, decay in groups if params]


def _split(groups: Sequence[Group], belongs: Callable[[Any], bool]) -> tuple[list[Group], list[Group]]:
    """The groups' parameters that belong and those that do not, each with the settings of its group."""

    def part(wanted: bool) -> list[Group]:
        parts = [{**group, "params": [entry for entry in group["params"] if belongs(entry) == wanted]} for group in groups]
        return [group for group in parts if group["params"]]

    return part(True), part(False)


def _lookup_weights(model: Any) -> set[int]:
    """Identities of the weights of embeddings and of the output head."""
    modules: list[Any] = [module for module in model.modules() if isinstance(module, torch.nn.Embedding)]
    modules.append(model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None)
    return {id(module.weight) for module in modules if getattr(module, "weight", None) is not None}


# --- making it -----------------------------------------------------------------------------------------------------------------


def make_optimizer(model: Any, choice: OptimizerChoice, groups: Sequence[Group] | None = None) -> torch.optim.Optimizer:
    """The optimizer of a model's trained parameters.

    Args:
        model: its parameters with ``requires_grad`` are trained.
        choice: from :func:`choose_optimizer`.
        groups: parameters with ``lr`` and ``weight_decay`` where a method wants them apart (LoRA+); None = :func:`default_groups`.

    Raises:
        ValueError: the groups' rates differ and the optimizer takes only one.
    """
    info = OPTIMIZERS[choice.name]
    chosen = list(groups) if groups is not None else default_groups(model, choice.learning_rate, choice.weight_decay)
    if info.finds_rate and len({group["lr"] for group in chosen}) > 1:
        raise ValueError(
            f"Optimizer: {choice.name} takes one rate for all weights, and the method wants several. Got: {choice.name!r}. "
            f"Choose adamw_torch, or switch off what sets other rates (LoRA+)."
        )
    if choice.name == "muon":
        return _muon(model, choice, chosen)
    if info.embeddings_apart:
        lookup = _lookup_weights(model)
        apart, others = _split(chosen, lambda parameter: id(parameter) in lookup)
        if apart:
            wide = _build(choice, apart, optim_bits=32)
            return PairedOptimizer([_build(choice, others), wide]) if others else wide
    return _build(choice, chosen)


def _muon(model: Any, choice: OptimizerChoice, groups: Sequence[Group]) -> torch.optim.Optimizer:
    """Muon for matrices, AdamW for everything else."""
    lookup = _lookup_weights(model)
    matrices, others = _split(groups, lambda parameter: parameter.dim() == 2 and id(parameter) not in lookup)
    parts: list[torch.optim.Optimizer] = []
    if matrices:
        momentum = choice.value("momentum")
        # so scaled, AdamW's rates fit (Liu et al. 2025, https://arxiv.org/abs/2502.16982)
        fitting = "match_rms_adamw"
        parts.append(torch.optim.Muon(matrices, lr=choice.learning_rate, momentum=momentum, adjust_lr_fn=fitting))
    if others:
        parts.append(torch.optim.AdamW(others, lr=choice.learning_rate, betas=_betas(choice), eps=choice.value("epsilon")))
    return PairedOptimizer(parts)


def _build(choice: OptimizerChoice, groups: Sequence[Group], **more: Any) -> torch.optim.Optimizer:
    """One optimizer of the table with the settings that it takes."""
    kind = optimizer_class(choice.name)
    arguments = {"lr": choice.learning_rate, **_arguments(choice), **more}
    with contextlib.redirect_stdout(io.StringIO()):  # prodigyopt prints
        made: torch.optim.Optimizer = kind([dict(group) for group in groups], **arguments)
    for group, wanted in zip(made.param_groups, groups, strict=True):
        group["lr"] = wanted["lr"]
    return made


def _betas(choice: OptimizerChoice) -> tuple[float, float]:
    return choice.value("beta1"), choice.value("beta2")


def _arguments(choice: OptimizerChoice) -> dict[str, Any]:
    """Keyword arguments of the optimizer's class."""
    info = OPTIMIZERS[choice.name]
    arguments: dict[str, Any] = dict(info.fixed)
    if "beta1" in info.takes:
        third = (0.9999,) if info.path.endswith(":AdEMAMix") else ()
        arguments["betas"] = (*_betas(choice), *third)
    elif "beta2" in info.takes:
        arguments["alpha"] = choice.value("beta2")  # what RMSprop calls it
    if "epsilon" in info.takes:
        arguments["eps"] = choice.value("epsilon")
    if "momentum" in info.takes:
        arguments["momentum"] = choice.value("momentum")
    if "projection_rank" in info.takes:
        arguments |= {name: int(choice.value(name)) for name in ("projection_rank", "projection_gap")}
        arguments["seed"] = choice.seed
    if choice.name == "adafactor":
        arguments |= {"scale_parameter": bool(choice.value("adafactor_scale")), "relative_step": False}
        if choice.value("adafactor_relative"):
            arguments |= {"relative_step": True, "lr": None}
    return arguments


# --- averaged weights ----------------------------------------------------------------------------------------------------------


def keeps_averages(optimizer: Any) -> bool:
    """Whether an optimizer (also one that accelerate wraps) keeps averaged weights beside those in training."""
    inner = getattr(optimizer, "optimizer", optimizer)
    return bool(getattr(inner, "param_groups", None)) and "train_mode" in inner.param_groups[0]


def trained_parameters(optimizer: Any) -> list[Any]:
    """Everything that an optimizer steps, in its order."""
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


@contextmanager
def averaged_weights(optimizer: Any) -> Iterator[None]:
    """Meanwhile the model has the averaged weights, where the optimizer keeps any; afterwards exactly those in training."""
    if not keeps_averages(optimizer) or not optimizer.param_groups[0]["train_mode"]:
        yield
        return
    inner = getattr(optimizer, "optimizer", optimizer)
    parameters = trained_parameters(inner)
    kept = [parameter.detach().clone() for parameter in parameters]
    inner.eval()
    try:
        yield
    finally:
        inner.train()  # its way back is rounded
        set_weights(parameters, kept)


def settle(optimizer: Any) -> None:
    """Leave the averaged weights in the model for good; the training is over."""
    if keeps_averages(optimizer) and optimizer.param_groups[0]["train_mode"]:
        getattr(optimizer, "optimizer", optimizer).eval()


@torch.no_grad()
def set_weights(parameters: Sequence[Any], values: Sequence[Any]) -> None:
    """Copy values into parameters."""
    for parameter, value in zip(parameters, values, strict=True):
        parameter.copy_(value)


# A checkpoint's adapter has the averaged weights, which are the ones to use; those in training cannot be computed back to the bit.
TRAINED_WEIGHTS = "trained_weights.pt"


def save_trained_weights(optimizer: Any, checkpoint: Path) -> None:
    """Put the weights in training beside an optimizer's state, where it keeps averages."""
    if keeps_averages(optimizer):
        torch.save([parameter.detach().cpu() for parameter in trained_parameters(optimizer)], checkpoint / TRAINED_WEIGHTS)


def load_trained_weights(optimizer: Any, checkpoint: Path) -> None:
    """Go on with the weights in training that :func:`save_trained_weights` wrote.

    Raises:
        ValueError: the checkpoint lacks them.
    """
    if not keeps_averages(optimizer):
        return
    path = checkpoint / TRAINED_WEIGHTS
    if not path.is_file():
        raise ValueError(
            f"If the name exists: {checkpoint.name} lacks {TRAINED_WEIGHTS}, so it cannot be resumed exactly. "
            f"Choose 'continue' to train its adapter further with a fresh optimizer."
        )
    set_weights(trained_parameters(optimizer), torch.load(path, map_location="cpu", weights_only=True))
