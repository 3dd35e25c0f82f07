"""Check: everything of a run but the training, with suggestions. Uses the same code as the run, so it shows what would happen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .. import train_utils
from ..batching.course import SWITCHES
from ..config import RunConfig
from ..data.collate import Collator, Samples
from ..runs.check_report import CheckReport
from .errors import OutOfMemoryError, is_out_of_memory
from .setup import RunSetup, plan_facts, prepare_run
from .suggesting import Found, suggestions

LOSS_SAMPLES = 16


def check_run(
    config: RunConfig, load_model: Callable[[], tuple[Any, Any]], progress: Callable[[float, str], None] | None = None
) -> CheckReport:
    """Prepare, plan and estimate; the user's mistakes are problems, never exceptions."""
    problems = [str(problem) for problem in config.problems()]
    if problems:
        return CheckReport(problems=problems)
    try:
        model, tokenizer = load_model()
        with train_utils.borrowed(model, tokenizer):
            setup = prepare_run(config, model, tokenizer, progress=progress)
            plan = plan_facts(config, setup)
            low_loss = _low_loss_warnings(config, setup, model)
            report = setup.prepared.report.to_dict()
            better = suggestions(_found(config, setup, model, report, plan))
    except (ValueError, OSError) as error:
        return CheckReport(problems=[str(error)])
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        memory = OutOfMemoryError.outside_steps("loading the model")
        return CheckReport(problems=[f"{memory} {memory.remedy}"])
    warnings = [*setup.warnings, *low_loss]
    if setup.memory["total"] > setup.memory["limit"]:
        warnings.append(
            "This will probably not fit into memory: lower True Batch Size or the Cutoff, or use Gradient Checkpoint."
        )
    return CheckReport([], warnings, report, plan, setup.memory, better)


def _found(config: RunConfig, setup: RunSetup, model: Any, report: dict[str, Any], plan: dict[str, Any]) -> Found:
    """What suggestions are made from."""
    return Found(
        config,
        report,
        plan,
        setup.memory,
        num_parameters=train_utils.count_parameters(model)[1],
        context=train_utils.context_length(model),
        on_gpu=next(model.parameters()).device.type != "cpu",
    )


def _low_loss_warnings(config: RunConfig, setup: RunSetup, model: Any) -> list[str]:
    """Whether losses that are waited for are there before the run begins: then phases end as soon as they may."""
    course = setup.sampler.course
    waiting = [stage for stage, transition in enumerate(course.transitions) if transition.by == "loss"]
    if not waiting:
        return []
    loss = mean_loss(model, setup.entries.samples(setup.prepared.train), LOSS_SAMPLES, config.training.seed)
    found = []
    for stage in waiting:
        low, high = course.transitions[stage].loss_range
        if loss > high:
            continue
        place = f"below {low:g}" if loss < low else f"in the range {low:g} to {high:g}"
        label = list(SWITCHES.values())[stage]
        found.append(
            f"{label} at loss: the loss of the model on these data is about {loss:.2f} before the training, {place} already. The phase "
            f"'{course.phases[stage]}' would end after its shortest length of {course.earliest_by_loss(stage):g} epochs and "
            f"'{course.phases[stage + 1]}' begin. Lower the range, or switch by epochs."
        )
    return found


def mean_loss(model: Any, samples: Samples, most: int, seed: int) -> float:
    """Loss per trained token of some samples, drawn by seed over all of them.

    Args:
        model: its mode is kept.
        samples: prepared samples.
        most: how many are looked at.
        seed: decides which.
    """
    import numpy as np
    import torch

    device, was_training = next(model.parameters()).device, model.training
    chosen = np.random.default_rng(seed).permutation(len(samples))[:most]
    loss_sum, num_trained = 0.0, 0
    model.eval()
    try:
        with torch.no_grad():
            for index in chosen.tolist():
                batch = Collator(0)([samples[index]])
                logits = model(input_ids=batch["input_ids"].to(device), use_cache=False).logits.flatten(0, 1)
                chosen = logits[batch["positions"].to(device)].float()
                loss_sum += float(torch.nn.functional.cross_entropy(chosen, batch["targets"].to(device), reduction="sum"))
                num_trained += len(batch["targets"])
    finally:
        model.train(was_training)
    return loss_sum / max(1, num_trained)
