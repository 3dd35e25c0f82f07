"""The table of optimizers: what each is, which package makes it, where it runs, what it takes and what it keeps in memory.

A new optimizer is one line here; its row in the tests (tests/training/test_optimizers.py) follows by itself: a step, a save and a resume
to the bit, on the devices that it claims. Guarantee: no entry is a name only; what is missing on a machine is said before the run, with
the command that installs it. Price: none; importing this needs no torch.

Left out, since they cannot run here or anywhere: optimizers of apex, torchdistx, torch_xla and torch_npu (their packages are gone or for
other machines), torchao's (compiled at run time; the WebUI switches the compiler off), LOMO and the layer-wise ones (they step inside the
backward pass, which leaves no accumulation and no clipping), GrokAdamW (its package rests since 2024).
"""

from __future__ import annotations

import importlib
import importlib.metadata
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

ANYWHERE = ("cuda", "cpu", "mps", "xpu")
_BITSANDBYTES_DEVICES = ("cuda", "cpu", "xpu")


@dataclass(frozen=True)
class OptimizerInfo:
    """One optimizer.

    Attributes:
        words: what it is and when to take it, for the form.
        path: ``module:class``; a module with a dot in front stands beside this one.
        bytes_per_parameter: of its states, per trained weight, in float32 training; of matrices where it saves memory on these only.
        takes: names of the settings that have an effect on it, with its own values where the user leaves them at 0.
        fixed: further arguments.
        package: what pip installs; "" comes with torch or transformers.
        at_least: oldest version that works; "" = any.
        on_cpu_from: oldest version that works on a CPU.
        devices: where it runs.
        without_paging: the optimizer that takes its place where memory cannot be paged; "" = it needs none.
        averages: it keeps averaged weights beside those in training (schedule-free) and wants a constant rate.
        finds_rate: it finds the step size itself and wants a Learning Rate of about 1.
        embeddings_apart: 8 bits are too coarse for embeddings: these get 32-bit states of the same algorithm.
    """

    words: str
    path: str
    bytes_per_parameter: float
    takes: dict[str, float] = field(default_factory=dict)
    fixed: dict[str, Any] = field(default_factory=dict)
    package: str = ""
    at_least: str = ""
    on_cpu_from: str = ""
    devices: tuple[str, ...] = ANYWHERE
    without_paging: str = ""
    averages: bool = False
    finds_rate: bool = False
    embeddings_apart: bool = False


_ADAM = {"beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8}
_LION = {"beta1": 0.9, "beta2": 0.99}
_LOW_RANK = {"projection_rank": 128, "projection_gap": 200}
_EIGHT_BITS = 1 + 4 / 256  # a byte, and a float32 scale for every 256 of them


def _bitsandbytes(words: str, name: str, states: float, takes: dict[str, float], **more: Any) -> OptimizerInfo:
    fixed: dict[str, Any] = {key: more.pop(key) for key in ("optim_bits", "is_paged", "alpha") if key in more}
    return OptimizerInfo(
        words,
        f"bitsandbytes.optim:{name}",
        states,
        takes,
        fixed,
        package="bitsandbytes",
        at_least="0.49",
        on_cpu_from="0.50",
        devices=_BITSANDBYTES_DEVICES,
        embeddings_apart=fixed.get("optim_bits") == 8,
        **more,
    )


def _schedule_free(words: str, name: str, states: float, takes: dict[str, float]) -> OptimizerInfo:
    path = f"schedulefree:{name}"
    return OptimizerInfo(words, path, states, takes, package="schedulefree", at_least="1.4", averages=True)


_PAGED = "pages its states out to the computer's memory when the GPU's is full"

OPTIMIZERS: dict[str, OptimizerInfo] = {
    "adamw_torch": OptimizerInfo("the safe choice.", "torch.optim:AdamW", 8, _ADAM),
    "adamw_torch_fused": OptimizerInfo(
        "adamw_torch in one kernel; faster on a GPU.", "torch.optim:AdamW", 8, _ADAM, {"fused": True}
    ),
    "adamw_bnb_8bit": _bitsandbytes(
        "AdamW with states of 8 bits: a quarter of the memory.", "AdamW", 2 * _EIGHT_BITS, _ADAM, optim_bits=8
    ),
    "paged_adamw_32bit": _bitsandbytes(
        f"AdamW that {_PAGED}.", "AdamW", 8, _ADAM, optim_bits=32, is_paged=True, without_paging="adamw_torch"
    ),
    "paged_adamw_8bit": _bitsandbytes(
        f"8-bit AdamW that {_PAGED}.",
        "AdamW",
        2 * _EIGHT_BITS,
        _ADAM,
        optim_bits=8,
        is_paged=True,
        without_paging="adamw_bnb_8bit",
    ),
    "nadam": OptimizerInfo("AdamW with Nesterov momentum.", "torch.optim:NAdam", 8, _ADAM, {"decoupled_weight_decay": True}),
    "radam": OptimizerInfo("AdamW that needs no warm-up.", "torch.optim:RAdam", 8, _ADAM, {"decoupled_weight_decay": True}),
    "stable_adamw": OptimizerInfo(
        "AdamW that clips each weight's update instead of the gradient.",
        "optimi:StableAdamW",
        8,
        {**_ADAM, "beta2": 0.99, "epsilon": 1e-6},
        {"triton": False},
        package="torch-optimi",
        at_least="0.3",
    ),
    "ademamix": _bitsandbytes(
        "AdamW with a second, slow momentum; for long runs.", "AdEMAMix", 12, _ADAM, optim_bits=32, alpha=5.0
    ),
    "ademamix_8bit": _bitsandbytes(
        "AdEMAMix with states of 8 bits.", "AdEMAMix", 3 * _EIGHT_BITS, _ADAM, optim_bits=8, alpha=5.0
    ),
    "paged_ademamix_32bit": _bitsandbytes(
        f"AdEMAMix that {_PAGED}.", "AdEMAMix", 12, _ADAM, optim_bits=32, is_paged=True, alpha=5.0, without_paging="ademamix"
    ),
    "paged_ademamix_8bit": _bitsandbytes(
        f"8-bit AdEMAMix that {_PAGED}.",
        "AdEMAMix",
        3 * _EIGHT_BITS,
        _ADAM,
        optim_bits=8,
        is_paged=True,
        alpha=5.0,
        without_paging="ademamix_8bit",
    ),
    "lion": OptimizerInfo(
        "steps by the sign alone, half the memory; take a third to a tenth of AdamW's rate.",
        "optimi:Lion",
        4,
        _LION,
        {"triton": False},
        package="torch-optimi",
        at_least="0.3",
    ),
    "lion_32bit": _bitsandbytes(
        "Lion of bitsandbytes; take a third to a tenth of AdamW's rate.", "Lion", 4, _LION, optim_bits=32
    ),
    "lion_8bit": _bitsandbytes("Lion with states of 8 bits.", "Lion", _EIGHT_BITS, _LION, optim_bits=8),
    "paged_lion_32bit": _bitsandbytes(
        f"Lion that {_PAGED}.", "Lion", 4, _LION, optim_bits=32, is_paged=True, without_paging="lion_32bit"
    ),
    "paged_lion_8bit": _bitsandbytes(
        f"8-bit Lion that {_PAGED}.", "Lion", _EIGHT_BITS, _LION, optim_bits=8, is_paged=True, without_paging="lion_8bit"
    ),
    "adafactor": OptimizerInfo(
        "AdamW whose states are rows and columns: next to no memory.",
        "transformers.optimization:Adafactor",
        0.25,
        {"adafactor_scale": 0, "adafactor_relative": 0},
    ),
    "muon": OptimizerInfo(
        "moves whole matrices in evened-out directions; embeddings, head and vectors get AdamW. AdamW's rates fit.",
        "torch.optim:Muon",
        4,
        {"momentum": 0.95, **_ADAM},
    ),
    "galore": OptimizerInfo(
        "AdamW whose states lie in a part of each gradient's space; saves memory in full fine-tuning only.",
        ".low_rank:GaLore",
        4,
        {**_ADAM, **_LOW_RANK},
    ),
    "apollo": OptimizerInfo(
        "like galore, with the whole gradient scaled by what the part tells; for full fine-tuning.",
        ".low_rank:Apollo",
        4,
        {**_ADAM, **_LOW_RANK},
    ),
    "schedule_free_adamw": _schedule_free("AdamW that averages instead of lowering the rate.", "AdamWScheduleFree", 8, _ADAM),
    "schedule_free_radam": _schedule_free("schedule-free AdamW that needs no warm-up.", "RAdamScheduleFree", 8, _ADAM),
    "schedule_free_sgd": _schedule_free(
        "SGD that averages instead of lowering the rate.", "SGDScheduleFree", 4, {"momentum": 0.9}
    ),
    "prodigy": OptimizerInfo(
        "AdamW that finds its rate; set Learning Rate to 1.",
        "prodigyopt:Prodigy",
        16,
        _ADAM,
        package="prodigyopt",
        at_least="1.1",
        finds_rate=True,
    ),
    "sgd": OptimizerInfo("plain steps along the gradient; wants a much higher rate.", "torch.optim:SGD", 0, {"momentum": 0}),
    "rmsprop": OptimizerInfo(
        "divides by the running size of the gradient.",
        "torch.optim:RMSprop",
        4,
        {"beta2": 0.99, "epsilon": 1e-8, "momentum": 0},
    ),
    "rmsprop_bnb_8bit": _bitsandbytes(
        "RMSprop with states of 8 bits.", "RMSprop", _EIGHT_BITS, {"beta2": 0.99, "epsilon": 1e-8}, optim_bits=8
    ),
    "adagrad": OptimizerInfo(
        "divides by the whole past of the gradient; steps only get smaller.", "torch.optim:Adagrad", 4, {"epsilon": 1e-10}
    ),
}


def optimizer_class(name: str) -> type[Any]:
    """The class of an optimizer; imports its package."""
    module, _, attribute = OPTIMIZERS[name].path.partition(":")
    found: type[Any] = getattr(importlib.import_module(module, __package__), attribute)
    return found


def taking(setting: str) -> tuple[str, ...]:
    """Names of the optimizers on which a setting has an effect."""
    return tuple(name for name, info in OPTIMIZERS.items() if setting in info.takes)


def bytes_per_parameter(name: str, *, momentum: float = 0.0) -> float:
    """Memory of an optimizer's states per trained weight, in bytes; an estimate for those that keep a part of it only.

    Args:
        name: entry of :data:`OPTIMIZERS`.
        momentum: SGD and RMSprop keep one more state with it.
    """
    more = 4.0 if momentum and name in ("sgd", "rmsprop") else 0.0
    return OPTIMIZERS[name].bytes_per_parameter + more


# --- on this machine -----------------------------------------------------------------------------------------------------------


def installed_version(package: str) -> str:
    """Version of an installed package; "" if it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version.split("+")[0])[:3])


def optimizer_problem(name: str, device_type: str, version_of: Callable[[str], str] = installed_version) -> str:
    """Why an optimizer cannot run on this machine, with the remedy; "" if it can.

    Args:
        name: entry of :data:`OPTIMIZERS`.
        device_type: cuda, cpu, mps, xpu, ...
        version_of: gives the version of an installed package, "" if there is none.
    """
    info = OPTIMIZERS[name]
    if device_type not in info.devices:
        return (
            f"Optimizer: {name} runs on {', '.join(info.devices)}, and this model is on {device_type}. Got: {name!r}. "
            f"Choose adamw_torch."
        )
    if not info.package:
        return ""
    wanted = max(info.at_least, info.on_cpu_from if device_type == "cpu" else "", key=_numbers)
    found = version_of(info.package)
    if not found:
        reason = f"needs the package {info.package}, which is not installed"
    elif _numbers(found) < _numbers(wanted):
        where = " on a CPU" if wanted == info.on_cpu_from != info.at_least else ""
        reason = f"needs {info.package} {wanted} or newer{where}; {found} is installed"
    else:
        return ""
    return (
        f'Optimizer: {name} {reason}. Got: {name!r}. Install it (pip install "{info.package}>={wanted}"), or choose adamw_torch.'
    )


def fitting_optimizer(name: str, device_type: str, version_of: Callable[[str], str] = installed_version) -> tuple[str, list[str]]:
    """The optimizer that really runs, and sentences on why it is another one.

    Raises:
        ValueError: it cannot run here, and nothing sane can take its place; with the remedy.
    """
    other = OPTIMIZERS[name].without_paging
    notes = []
    if other and device_type != "cuda":
        notes.append(f"Optimizer: there is nothing to page on {device_type}, so {name} runs as {other}: the same steps.")
        name = other
    if problem := optimizer_problem(name, device_type, version_of):
        raise ValueError(problem)
    return name, notes
