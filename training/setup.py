"""Everything that is decided before the first step: data, plan, modules, number format. Check and training both call this.

Guarantee: what Check shows is what a run does, since :func:`prepare_run` is the one place where it is decided.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .. import train_utils
from ..adapting.sift import sift_notes
from ..config import RunConfig
from ..custom_scheduler import OPTIONS, Schedule, schedule_notes
from ..data.packing import NEEDS_VECTORS
from ..data.prepare import Prepared, prepare
from ..hybrid_batching import HybridBatchSampler, RunPlan, fit_accumulation
from .course import batch_entries, course_warnings, make_course, phase_facts, preview_packs
from .entries import Entries, data_settings, make_entries
from .needs import learning_of, memory_needs
from .optimizers import OptimizerChoice, choose_optimizer
from .trainer import schedule_factor
from .wishes import make_wish

FEW_TRAINED_SHARE = 0.02

Progress = Callable[[float, str], None]


@dataclass
class RunSetup:
    """A run that could start now.

    Attributes:
        prepared: the data.
        entries: what the sampler draws: samples or packs of them.
        sampler: the run's batches; its ``plan`` has the steps.
        wish: the training method and its settings; its ``targets`` are the places that get an adapter.
        precision: float32, bfloat16 or float16.
        warmup_steps: optimizer steps.
        warnings: sentences on adjusted settings and likely mistakes.
        size: what the method trains and leaves behind.
        optimizer: what moves the weights.
        memory: bytes by part (see evaluation.memory).
    """

    prepared: Prepared
    entries: Entries
    sampler: HybridBatchSampler
    wish: train_utils.Wish
    precision: str
    warmup_steps: int
    size: train_utils.Size
    optimizer: OptimizerChoice
    memory: dict[str, int]
    warnings: list[str] = field(default_factory=list)

    @property
    def targets(self) -> list[str]:
        """Names of the modules that get an adapter."""
        return self.wish.targets.names


def prepare_run(
    config: RunConfig,
    model: Any,
    tokenizer: Any,
    *,
    world_size: int = 1,
    progress: Progress | None = None,
) -> RunSetup:
    """Prepare data and plan for a loaded model.

    The tokenizer's chat template may be exchanged; call this inside :func:`train_utils.borrowed`.

    Raises:
        ValueError: the user's settings and this model or these data do not fit; with the remedy.
    """
    warnings: list[str] = []
    _refuse_sharding()
    train_utils.refuse_adapter(model)
    train_utils.keep_packed(model)
    _check_context(config, model)
    wish = make_wish(config, model)
    size = train_utils.model_size(model, wish)
    warnings += size.notes
    if wish.method == "sift":
        warnings += sift_notes(config.training.learning_rate, config.training.optimizer)
    precision = _precision(config, model)
    choice, notes = choose_optimizer(config, next(model.parameters()).device.type)
    warnings += notes
    prepared, entries = _prepare(config, model, tokenizer, progress)
    _check_vocabulary(model, tokenizer, prepared)
    _refuse_untrained(prepared)
    sampler = _make_sampler(config, prepared, entries, world_size, warnings)
    warmup_steps = _warmup_steps(config, sampler.plan.num_steps, warnings)
    _warn_about_schedule(config, sampler.plan, warmup_steps, warnings)
    _warn_about_data(config, tokenizer, prepared, warnings)
    warnings += config.without_effect()
    memory = memory_needs(config, model, learning_of(wish, size, model, choice), sampler, precision, entries.lengths)
    return RunSetup(prepared, entries, sampler, wish, precision, warmup_steps, size, choice, memory, warnings)


def prepare_samples(
    config: RunConfig, model: Any, tokenizer: Any, *, progress: Progress | None = None
) -> tuple[Prepared, list[list[int]] | None]:
    """The samples and, if they are packed, the packs (numbers of samples); preview calls this too.

    Args:
        model: asked for embeddings by related packing only; else it may be None.
    """
    prepared, entries = _prepare(config, model, tokenizer, progress)
    return prepared, preview_packs(config, prepared, entries)


def _prepare(config: RunConfig, model: Any, tokenizer: Any, progress: Progress | None) -> tuple[Prepared, Entries]:
    if config.model.chat_template:
        tokenizer.chat_template = train_utils.read_chat_template(config.model.chat_template)
    embed = _embedder(config, model, tokenizer)
    prepared = prepare(data_settings(config), tokenizer, seed=config.training.seed, progress=progress, embed=embed)
    return prepared, make_entries(config, prepared, progress)


def _embedder(config: RunConfig, model: Any, tokenizer: Any) -> Any:
    """What places samples by their content, where the packing asks for it; None otherwise."""
    batching = config.batching
    if batching.packing not in NEEDS_VECTORS:
        return None
    from ..data.packing.embedding import make_embedder

    return make_embedder(batching.pack_embedding, model, tokenizer, folder=batching.pack_embedding_folder)


def plan_facts(config: RunConfig, setup: RunSetup) -> dict[str, Any]:
    """The plan in numbers, for the diary and for Check."""
    plan = setup.sampler.plan
    schedule = run_schedule(config, setup.warmup_steps, by_epochs=setup.sampler.has_past)
    factor = schedule_factor(schedule, lambda: plan)
    places = sorted({round(plan.num_steps * part / 100) for part in range(101)})
    return {
        "num_steps": plan.num_steps,
        "num_epochs": plan.num_epochs,
        "steps_per_epoch": list(plan.steps_per_epoch),
        "num_batches": plan.num_batches,
        "batch_size": plan.batch_size,
        "accumulation": plan.accumulation,
        "world_size": plan.world_size,
        "num_samples": len(setup.prepared.lengths),
        **setup.entries.facts,
        **phase_facts(config, setup.sampler),
        "warmup_steps": setup.warmup_steps,
        "schedule": schedule.name,
        "schedule_words": schedule.words,
        "learning_rate": config.training.learning_rate,
        "learning_rates": [(step, config.training.learning_rate * factor(step)) for step in places],
        "targets": setup.targets,
        "precision": setup.precision,
        "method": setup.wish.method,
        "num_trained_parameters": setup.size.num_trained,
        "result_bytes": setup.size.num_bytes,
        "memory": setup.memory,
    }


def _refuse_sharding() -> None:
    """Whole runs on models that are cut over processes were never proved right, so they do not begin."""
    for name, label in (("ACCELERATE_USE_FSDP", "FSDP"), ("ACCELERATE_USE_DEEPSPEED", "DeepSpeed")):
        if os.environ.get(name, "").lower() in ("1", "true", "yes"):
            raise ValueError(
                f"{label}: a whole training on a model that is cut over several processes is not tested, so it is refused rather than "
                f"trained wrongly. Start it without {label} (accelerate launch --multi_gpu: each process holds the whole model), load the "
                f"model in 4-bit, or spread it by Maximum memory in one process."
            )


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
    rows, highest = model.get_input_embeddings().weight.shape[0], prepared.report.highest_token
    if highest >= rows:
        raise ValueError(
            f"Model: the tokenizer does not fit the model: it gives token {highest} ({tokenizer.convert_ids_to_tokens(highest)!r}), "
            f"the model knows {rows} tokens. Load the tokenizer that belongs to the model."
        )


def _refuse_untrained(prepared: Prepared) -> None:
    if not prepared.report.num_trained_tokens:
        raise ValueError(
            f"Train on: none of the {prepared.report.num_tokens} tokens is trained, so nothing could be learned. "
            f"Choose 'everything', or check the data."
        )


def _make_sampler(
    config: RunConfig, prepared: Prepared, entries: Entries, world_size: int, warnings: list[str]
) -> HybridBatchSampler:
    word, ordered = entries.word, batch_entries(prepared, entries)
    wanted, accumulation = config.batching.true_batch_size, config.batching.gradient_accumulation

    def made(batch_size: int, accumulation: int) -> HybridBatchSampler:
        return HybridBatchSampler(
            ordered,
            batch_size=batch_size,
            num_epochs=config.training.epochs,
            accumulation=accumulation,
            world_size=world_size,
            seed=config.training.seed,
            phase=make_course(config),
            packing=entries.packing,
        )

    sampler = made(wanted, accumulation)
    num_entries = sampler.most_rows() if sampler.is_packed else len(entries.lengths)
    batch_size = min(wanted, max(1, num_entries // world_size))
    if batch_size < wanted:
        warnings.append(f"True Batch Size lowered from {wanted} to {batch_size}: there are only {num_entries} {word}.")
    fitting = fit_accumulation(num_entries, batch_size, accumulation, world_size)
    if fitting < accumulation:
        warnings.append(
            f"Gradient Accumulation Steps lowered from {accumulation} to {fitting}: "
            f"one step would need {accumulation * batch_size * world_size} {word}, there are {num_entries}."
        )
    if (batch_size, fitting) != (wanted, accumulation):
        sampler = made(batch_size, fitting)
    warnings.extend(course_warnings(config, sampler))
    return sampler


def _warmup_steps(config: RunConfig, num_steps: int, warnings: list[str]) -> int:
    steps = config.training.warmup_steps or round(config.training.warmup_share * num_steps)
    if steps >= num_steps and steps:
        lowered = max(0, num_steps // 10)
        warnings.append(f"Warmup Steps lowered from {steps} to {lowered}: the whole run has only {num_steps} steps.")
        return lowered
    return steps


def run_schedule(config: RunConfig, warmup_steps: int, *, by_epochs: bool = False) -> Schedule:
    """The schedule that the settings mean.

    Args:
        config: all settings.
        warmup_steps: optimizer steps.
        by_epochs: steps cannot be its clock, since they had another size before the run was resumed with changes.
    """
    training = config.training
    options = {name: float(getattr(training, name)) for name in OPTIONS}
    # joined entries and phases that begin by loss change the number of steps on the way
    is_hybrid = len(make_course(config).phases) > 1
    return Schedule(training.schedule, training.learning_rate, warmup_steps, options, by_epochs or is_hybrid)


def _warn_about_schedule(config: RunConfig, plan: RunPlan, warmup_steps: int, warnings: list[str]) -> None:
    schedule, first = run_schedule(config, warmup_steps), plan.steps_per_epoch[0]
    warnings.extend(schedule_notes(schedule, num_epochs=plan.num_epochs, num_steps=plan.num_steps, first_epoch_steps=first))


def _warn_about_data(config: RunConfig, tokenizer: Any, prepared: Prepared, warnings: list[str]) -> None:
    report, batching = prepared.report, config.batching
    if batching.packing in NEEDS_VECTORS and batching.pack_attention != "shared":
        warnings.append(
            f"Packing {batching.packing!r} asks for Attention in packs: shared. With {batching.pack_attention!r} the samples of a "
            f"pack do not see each other, so that their being related has no use."
        )
    share = report.num_trained_tokens / max(1, report.num_tokens)
    if share < FEW_TRAINED_SHARE:
        warnings.append(f"Only {share:.1%} of the tokens are trained. Check Train on and the data.")
    if prepared.eval is None and config.checkpoints.save_best_eval:
        warnings.append(
            "Save the best evaluation: there is no evaluation data, so nothing is the best. Give an Evaluation data set or share."
        )
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
