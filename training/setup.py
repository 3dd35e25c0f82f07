"""Everything that is decided before the first step: data, plan, modules, number format. Check and training both call this.

Guarantee: what Check shows is what a run does, since :func:`prepare_run` is the one place where it is decided.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .. import train_utils
from ..config import RunConfig
from ..data.prepare import Prepared, prepare
from ..evaluation.memory import adapter_parameters, estimate_memory
from ..hybrid_batching import HybridBatchSampler, fit_accumulation
from .trainer import schedule_factor

FEW_TRAINED_SHARE = 0.02


@dataclass
class RunSetup:
    """A run that could start now.

    Attributes:
        prepared: the data.
        sampler: the run's batches; its ``plan`` has the steps.
        targets: names of the modules that get an adapter.
        precision: float32, bfloat16 or float16.
        warmup_steps: optimizer steps.
        warnings: sentences on adjusted settings and likely mistakes.
        num_trained: weights of the adapter.
        memory: bytes by part (see evaluation.memory).
    """

    prepared: Prepared
    sampler: HybridBatchSampler
    targets: list[str]
    precision: str
    warmup_steps: int
    num_trained: int
    memory: dict[str, int]
    warnings: list[str] = field(default_factory=list)


def prepare_run(
    config: RunConfig,
    model: Any,
    tokenizer: Any,
    *,
    world_size: int = 1,
    progress: Callable[[int, str], None] | None = None,
) -> RunSetup:
    """Prepare data and plan for a loaded model.

    The tokenizer's chat template may be exchanged; call this inside :func:`train_utils.borrowed`.

    Raises:
        ValueError: the user's settings and this model or these data do not fit; with the remedy.
    """
    warnings: list[str] = []
    train_utils.refuse_adapter(model)
    _check_context(config, model)
    targets = train_utils.resolve_targets(config.adapter.targets, train_utils.linear_module_names(model))
    precision = _precision(config, model)
    prepared, _ = prepare_samples(config, model, tokenizer, progress=progress)
    _check_vocabulary(model, tokenizer, prepared)
    sampler = _make_sampler(config, prepared, world_size, warnings)
    warmup_steps = _warmup_steps(config, sampler.plan.num_steps, warnings)
    _warn_about_data(config, tokenizer, prepared, warnings)
    num_trained = adapter_parameters(model, targets, config.adapter.rank)
    memory = estimate_memory(
        model,
        num_trained=num_trained,
        batch_size=sampler.plan.batch_size,
        longest=prepared.report.longest[0],
        optimizer=config.training.optimizer,
        checkpointing=config.training.gradient_checkpointing,
    )
    return RunSetup(prepared, sampler, targets, precision, warmup_steps, num_trained, memory, warnings)


def prepare_samples(
    config: RunConfig, model: Any, tokenizer: Any, *, progress: Callable[[int, str], None] | None = None
) -> tuple[Prepared, list[list[int]] | None]:
    """The samples and, if they are packed, the packs (numbers of samples); preview calls this too.

    Args:
        model: asked for embeddings by related packing only; else it may be None.
    """
    if config.model.chat_template:
        tokenizer.chat_template = train_utils.read_chat_template(config.model.chat_template)
    return prepare(config.data, tokenizer, seed=config.training.seed, progress=progress), None


def plan_facts(config: RunConfig, setup: RunSetup) -> dict[str, Any]:
    """The plan in numbers, for the diary and for Check."""
    plan = setup.sampler.plan
    factor = schedule_factor(config.training.schedule, plan, setup.warmup_steps, config.training.learning_rate)
    places = sorted({round(plan.num_steps * part / 100) for part in range(101)})
    return {
        "num_steps": plan.num_steps,
        "num_epochs": plan.num_epochs,
        "steps_per_epoch": list(plan.steps_per_epoch),
        "num_batches": plan.num_batches,
        "batch_size": plan.batch_size,
        "accumulation": plan.accumulation,
        "world_size": plan.world_size,
        "num_samples": plan.num_entries,
        "warmup_steps": setup.warmup_steps,
        "schedule": config.training.schedule,
        "learning_rate": config.training.learning_rate,
        "learning_rates": [(step, config.training.learning_rate * factor(step)) for step in places],
        "targets": setup.targets,
        "precision": setup.precision,
        "num_trained_parameters": setup.num_trained,
        "memory": setup.memory,
    }


def _check_context(config: RunConfig, model: Any) -> None:
    longest = train_utils.context_length(model)
    if longest is not None and config.data.cutoff > longest:
        raise ValueError(
            f"Maximum context length (Cutoff): the model takes at most {longest} tokens. Got: {config.data.cutoff}. "
            f"Set it to {longest} or less."
        )


def _precision(config: RunConfig, model: Any) -> str:
    import torch

    device = next(model.parameters()).device.type
    bf16 = device != "cuda" or torch.cuda.is_bf16_supported(including_emulation=False)
    return train_utils.choose_precision(config.training.precision, train_utils.model_dtype_name(model), device, bf16)


def _check_vocabulary(model: Any, tokenizer: Any, prepared: Prepared) -> None:
    import pyarrow.compute as pc

    rows = model.get_input_embeddings().weight.shape[0]
    column = prepared.train.with_format("arrow")[:]["input_ids"]
    highest = pc.max(pc.list_flatten(column)).as_py()
    if highest is not None and highest >= rows:
        raise ValueError(
            f"Model: the tokenizer does not fit the model: it gives token {highest} ({tokenizer.convert_ids_to_tokens(highest)!r}), "
            f"the model knows {rows} tokens. Load the tokenizer that belongs to the model."
        )


def _make_sampler(config: RunConfig, prepared: Prepared, world_size: int, warnings: list[str]) -> HybridBatchSampler:
    num_samples = len(prepared.lengths)
    wanted, accumulation = config.batching.true_batch_size, config.batching.gradient_accumulation
    batch_size = min(wanted, max(1, num_samples // world_size))
    if batch_size < wanted:
        warnings.append(f"True Batch Size lowered from {wanted} to {batch_size}: there are only {num_samples} samples.")
    fitting = fit_accumulation(num_samples, batch_size, accumulation, world_size)
    if fitting < accumulation:
        warnings.append(
            f"Gradient Accumulation Steps lowered from {accumulation} to {fitting}: "
            f"one step would need {accumulation * batch_size * world_size} samples, there are {num_samples}."
        )
    return HybridBatchSampler(
        prepared.lengths.tolist(),
        batch_size=batch_size,
        num_epochs=config.training.epochs,
        accumulation=fitting,
        world_size=world_size,
        seed=config.training.seed,
    )


def _warmup_steps(config: RunConfig, num_steps: int, warnings: list[str]) -> int:
    steps = config.training.warmup_steps or round(config.training.warmup_share * num_steps)
    if steps >= num_steps and steps:
        lowered = max(0, num_steps // 10)
        warnings.append(f"Warmup Steps lowered from {steps} to {lowered}: the whole run has only {num_steps} steps.")
        return lowered
    return steps


def _warn_about_data(config: RunConfig, tokenizer: Any, prepared: Prepared, warnings: list[str]) -> None:
    report = prepared.report
    share = report.num_trained_tokens / max(1, report.num_tokens)
    if share < FEW_TRAINED_SHARE:
        warnings.append(f"Only {share:.1%} of the tokens are trained. Check Train on and the data.")
    if config.data.text_file and config.data.add_eos != "none" and tokenizer.eos_token_id is None:
        warnings.append("Add EOS token: the tokenizer has no EOS token, so blocks end without one.")
    if "split" in report.routes:
        warnings.append("The chat template rewrites earlier turns, so each reply became a sample of its own.")
    dropped = report.num_too_long / max(1, report.num_samples + report.num_too_long)
    if dropped > 0.1:
        warnings.append(
            f"{report.num_too_long} conversations ({dropped:.0%}) are longer than the cutoff of {config.data.cutoff} tokens and are "
            f"left out. Raise Maximum context length (Cutoff)."
        )
