"""What Check found: one class for the trainer that finds it, the command line and the tab that show it. Plain values only."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class CheckReport:
    """What a run would do; the same code prepares the data for training.

    Attributes:
        problems: sentences on what must be mended; with any, the rest may be empty.
        warnings: sentences on likely mistakes.
        report: what preparation found (see ``data.report.DataReport.to_dict``).
        plan: num_steps, num_epochs, steps_per_epoch, num_batches, batch_size, accumulation, num_samples, warmup_steps, padding_share;
            phases and switches (see ``training.course.phase_facts``); schedule, schedule_words and learning_rates, (optimizer step,
            rate) in rising steps.
        memory: bytes by part: weights, adapter, gradients, optimizer, activations, total; "available"; "limit", what may
            be in use, the model's own weights included; and "largest_batch", the largest True Batch Size that fits by this estimate.
        suggestions: field -> (value, reason).
    """

    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    report: dict[str, Any] = field(default_factory=dict)
    plan: dict[str, Any] = field(default_factory=dict)
    memory: dict[str, Any] = field(default_factory=dict)
    suggestions: dict[str, tuple[Any, str]] = field(default_factory=dict)
