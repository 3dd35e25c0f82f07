"""Settings that fit the data, the model and the memory better than the present ones: pure functions of what Check found.

Guarantee: every suggestion says why in a sentence, and only what differs from the present value is suggested. Nothing is changed here.
Price: rules of thumb; each says where it comes from.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from ..config import RunConfig
from ..custom_scheduler import NO_WARMUP
from ..train_utils import METHODS, OPTIMIZERS

Suggestion = tuple[str, Any, str]  # field, value, reason

# Learning rate of LoRA by parameters of the model: 3e-4 of alpaca-lora for small ones; 2e-4 up to 13B and 1e-4 for 33B and 65B,
# QLoRA (Dettmers et al. 2023, https://arxiv.org/abs/2305.14314, appendix B.2)
_LORA_RATES = ((3e9, 3e-4), (20e9, 2e-4), (math.inf, 1e-4))
# All weights want a tenth of it: "LoRA Without Regret" (Schulman et al. 2025, https://thinkingmachines.ai/blog/lora/) measures a factor
# of 10, and 2e-5 for 7B is what Stanford Alpaca and the recipes of Zephyr take
_FULL_SHARE = 0.1
# what other methods want, as their words on the form say
_OWN_RATES = {"vera": 1e-2, "ia3": 1e-2, "sift": 2e-4}
_LION_SHARE = 0.2  # Chen et al. 2023, https://arxiv.org/abs/2302.06675: 3 to 10 times smaller than AdamW's
_OTHER_SCALES = ("sgd", "schedule_free_sgd", "rmsprop", "rmsprop_bnb_8bit", "adagrad")  # their rates do not compare with AdamW's
_TOO_HIGH, _TOO_LOW = 3.0, 0.1  # times the usual rate; a user's own choice within is left alone
# passes over the data: 3, but 100 to 25,000 samples in all, as in OpenAI's guide to preparing chat data for fine-tuning
_EPOCHS, _LEAST_SAMPLES, _MOST_SAMPLES, _MOST_EPOCHS = 3, 100, 25_000, 25


@dataclass(frozen=True)
class Found:
    """What Check knows.

    Attributes:
        config: all settings.
        report: of the data (``DataReport.to_dict``).
        plan: of the run (``training.setup.plan_facts``).
        memory: bytes by part, and ``largest_batch``; empty if nothing was estimated.
        num_parameters: of the model; 0 = unknown.
        context: longest sample that the model takes; None = unknown.
        on_gpu: the model is on a device on which larger batches are faster.
    """

    config: RunConfig
    report: dict[str, Any]
    plan: dict[str, Any]
    memory: dict[str, Any] = field(default_factory=dict)
    num_parameters: int = 0
    context: int | None = None
    on_gpu: bool = False


def suggestions(found: Found) -> dict[str, tuple[Any, str]]:
    """Field -> (value, reason), in the order of the form; only what differs from the present value."""
    made: dict[str, tuple[Any, str]] = {}
    for rule in RULES:
        for name, value, reason in rule(found):
            if found.config.value(name) != value:
                made.setdefault(name, (value, reason))
    return made


def cutoff(found: Found) -> Iterator[Suggestion]:
    """As short as the data allow; longer where conversations are lost and the model can take them."""
    report, config = found.report, found.config
    if report["num_blocks"] or not report["longest"]:
        return  # texts are cut to it
    too_long = [row["tokens"] for row in report["too_long"] if row.get("tokens")]
    if report["num_too_long"]:
        longest = _next_multiple(max(too_long, default=0))
        is_whole = len(too_long) == report["num_too_long"]  # the report holds the first of them only
        if is_whole and longest <= (found.context or 0):
            words = f"{len(too_long):,} conversations of up to {max(too_long):,} tokens are left out now"
            yield "data.cutoff", longest, f"{words}; more memory is needed"
        return
    longest, rounded = report["longest"][0], _next_multiple(report["longest"][0])
    if rounded < config.data.cutoff and not report["num_cut"]:
        yield "data.cutoff", rounded, f"the longest sample has {longest:,} tokens"


def _next_multiple(tokens: int) -> int:
    return max(32, -(-tokens // 32) * 32)


def batch(found: Found) -> Iterator[Suggestion]:
    """As large as memory and data allow, with as many samples a step as the user wants."""
    wanted, plan = found.config.batching, found.plan
    batch_size, accumulation = wanted.true_batch_size, wanted.gradient_accumulation
    at_once, largest = batch_size * accumulation, found.memory.get("largest_batch")
    entries = "packs" if plan.get("num_packs") else "samples"
    if plan["batch_size"] < batch_size:
        yield "batching.true_batch_size", plan["batch_size"], f"there are no more {entries} than that"
    if plan["accumulation"] < accumulation:
        reason = f"one step would take {at_once:,} {entries}, more than there are"
        yield "batching.gradient_accumulation", plan["accumulation"], reason
        return
    if largest == 0 and not found.config.training.gradient_checkpointing:
        yield "training.gradient_checkpointing", True, "by the estimate not even one sample fits into memory without it"
    if not largest:
        return
    fitting = _batch_that_divides(at_once, largest)
    if largest < batch_size:
        yield "batching.true_batch_size", fitting, f"at most {largest:,} at once fit into memory, by the estimate"
        yield "batching.gradient_accumulation", at_once // fitting, f"the {at_once:,} {entries} a step stay the same"
    elif found.on_gpu and accumulation > 1 and fitting >= 2 * batch_size:
        yield (
            "batching.true_batch_size",
            fitting,
            f"{largest:,} at once fit into memory, by the estimate, and a GPU is faster with more",
        )
        yield "batching.gradient_accumulation", at_once // fitting, f"the {at_once:,} {entries} a step stay the same"


def _batch_that_divides(at_once: int, most: int) -> int:
    """The largest batch of at most ``most`` that goes into a step a whole number of times."""
    return next(size for size in range(min(at_once, most), 0, -1) if at_once % size == 0)


def epochs(found: Found) -> Iterator[Suggestion]:
    """Fewer passes over many samples, more over few."""
    config, num_samples = found.config, found.report["num_samples"]
    present = config.training.epochs
    if config.data.dementor:
        if present > 2:
            yield "training.epochs", 1.0, "with DEMENTOR every sentence comes in many blocks of one epoch already"
        return
    if not num_samples:
        return
    usual = float(_EPOCHS)
    if num_samples * usual > _MOST_SAMPLES:
        usual = float(max(1, _MOST_SAMPLES // num_samples))
    elif num_samples * usual < _LEAST_SAMPLES and not found.report["num_blocks"]:
        usual = float(min(_MOST_EPOCHS, _LEAST_SAMPLES // num_samples))
    if present > 2 * usual:
        yield "training.epochs", usual, f"with {num_samples:,} samples more passes mostly learn them by heart"
    elif present < usual / 2:
        yield (
            "training.epochs",
            usual,
            f"{num_samples:,} samples are few: with less than {_LEAST_SAMPLES} in all little is learned",
        )


def warmup(found: Found) -> Iterator[Suggestion]:
    """A tenth of the run, at most one epoch and 100 steps, as Training PRO suggests it."""
    training, num_steps, per_epoch = found.config.training, found.plan["num_steps"], found.plan["steps_per_epoch"][0]
    if training.schedule in (*NO_WARMUP, "one_cycle"):
        return  # a warm-up would have no effect, or move the peak
    steps = max(1, min(100, round(0.1 * num_steps), per_epoch))
    if not training.warmup_steps and not training.warmup_share:
        yield "training.warmup_steps", steps, f"a tenth of the run ({num_steps:,} steps), at most one epoch and 100 steps"
    elif training.warmup_steps > per_epoch:
        yield "training.warmup_steps", steps, f"{training.warmup_steps:,} steps are more than the first epoch ({per_epoch:,})"


def checkpoints(found: Found) -> Iterator[Suggestion]:
    """Every fifth to tenth of the run, as Training PRO suggests it; the ends of short epochs are enough."""
    saves, num_steps, per_epoch = found.config.checkpoints, found.plan["num_steps"], found.plan["steps_per_epoch"][0]
    if saves.save_every_steps >= num_steps > 5:
        reason = f"the run has only {num_steps:,} steps; this makes five checkpoints"
        yield "checkpoints.save_every_steps", math.ceil(num_steps / 5), reason
    elif per_epoch > 200 and not saves.save_every_steps:
        yield "checkpoints.save_every_steps", per_epoch // 2, "twice an epoch, so that little is lost if something happens"


def learning_rate(found: Found) -> Iterator[Suggestion]:
    """The usual one of the method and the model's size, where the present one is far from it."""
    training, method = found.config.training, found.config.adapter.method
    usual = usual_rate(method, training.optimizer, found.num_parameters, training.adafactor_scale or training.adafactor_relative)
    if usual is None or _TOO_LOW * usual <= training.learning_rate <= _TOO_HIGH * usual:
        return
    if OPTIMIZERS[training.optimizer].finds_rate:
        reason = f"{training.optimizer} finds the rate itself and wants 1 here"
    else:
        size = f", {found.num_parameters / 1e9:.2g}B weights" if found.num_parameters else ""
        how = "far too high" if training.learning_rate > usual else "very low"
        reason = f"{training.learning_rate:g} is {how} for {method} with {training.optimizer}{size}"
    yield "training.learning_rate", usual, reason


def usual_rate(method: str, optimizer: str, num_parameters: int, has_own_scale: bool = False) -> float | None:
    """A learning rate to begin with; None where no rule of thumb is known.

    Args:
        method: entry of METHODS.
        optimizer: entry of OPTIMIZERS.
        num_parameters: of the model; 0 = unknown, taken as small.
        has_own_scale: the optimizer measures its rate by the weights, or sets it itself.
    """
    if OPTIMIZERS[optimizer].finds_rate:
        return 1.0
    if has_own_scale or optimizer in _OTHER_SCALES or method not in METHODS:
        return None
    rate = next(rate for most, rate in _LORA_RATES if num_parameters <= most)
    if method == "full":
        rate *= _FULL_SHARE
    elif method in _OWN_RATES:
        rate = _OWN_RATES[method]
    elif method not in ("lora", "dora"):
        return None
    return float(f"{rate * (_LION_SHARE if 'lion' in optimizer else 1):.2g}")


RULES: tuple[Callable[[Found], Iterator[Suggestion]], ...] = (*(cutoff, batch, epochs, learning_rate, warmup, checkpoints),)
