"""Check: everything of a run but the training, with suggestions. Uses the same code as the run, so it shows what would happen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .. import train_utils
from ..config import RunConfig
from ..custom_scheduler import NO_WARMUP
from .errors import OutOfMemoryError, is_out_of_memory
from .setup import plan_facts, prepare_run


@dataclass
class CheckReport:
    """What a run would do; see ui.host.CheckResult for the fields."""

    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    report: dict[str, Any] = field(default_factory=dict)
    plan: dict[str, Any] = field(default_factory=dict)
    memory: dict[str, Any] = field(default_factory=dict)
    suggestions: dict[str, tuple[Any, str]] = field(default_factory=dict)


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
    except (ValueError, OSError) as error:
        return CheckReport(problems=[str(error)])
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        memory = OutOfMemoryError.outside_steps("loading the model")
        return CheckReport(problems=[f"{memory} {memory.remedy}"])
    warnings = list(setup.warnings)
    if setup.memory["total"] > setup.memory["available"] + setup.memory["weights"]:
        warnings.append(
            "This will probably not fit into memory: lower True Batch Size or the Cutoff, or use Gradient Checkpoint."
        )
    report = setup.prepared.report.to_dict()
    return CheckReport([], warnings, report, plan, setup.memory, suggestions(config, report, plan))


def suggestions(config: RunConfig, report: dict[str, Any], plan: dict[str, Any]) -> dict[str, tuple[Any, str]]:
    """Settings that fit these data better: field -> (value, reason). Only what differs from the present value."""
    found: dict[str, tuple[Any, str]] = {}
    num_steps, per_epoch, longest = plan["num_steps"], plan["steps_per_epoch"][0], report["longest"][0]
    warmup = max(1, min(100, round(0.1 * num_steps), per_epoch))
    if config.training.schedule in (*NO_WARMUP, "one_cycle"):
        pass  # a warm-up would have no effect, or move the peak
    elif not config.training.warmup_steps and not config.training.warmup_share:
        found["training.warmup_steps"] = (warmup, f"a tenth of the run ({num_steps} steps), at most one epoch and 100 steps")
    elif config.training.warmup_steps > per_epoch:
        found["training.warmup_steps"] = (
            warmup,
            f"{config.training.warmup_steps} steps are more than the first epoch ({per_epoch})",
        )
    if per_epoch > 200 and not config.checkpoints.save_every_steps:
        found["checkpoints.save_every_steps"] = (per_epoch // 2, "twice an epoch, so that little is lost if something happens")
    rounded = max(32, -(-longest // 32) * 32)
    if rounded < config.data.cutoff and not report["num_too_long"] and not report["num_blocks"]:
        found["data.cutoff"] = (rounded, f"the longest sample has {longest} tokens")
    return found
