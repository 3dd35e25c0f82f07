"""What a host hands the tab: callables and facts, since the tab may import neither the trainer nor the WebUI."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..config import RunConfig
    from ..runs.registry import RunHandle


@dataclass(frozen=True)
class CheckResult:
    """What "Check" found; the same code prepares the data for training.

    Attributes:
        problems: sentences on what must be mended; with any, the rest may be empty.
        warnings: sentences on likely mistakes.
        report: what preparation found (see ``data.report.DataReport.to_dict``).
        plan: num_steps, num_epochs, steps_per_epoch, num_batches, batch_size, accumulation, num_samples, warmup_steps, padding_share;
            schedule, schedule_words and learning_rates, (optimizer step, rate) in rising steps.
        memory: bytes by part: weights, adapter, gradients, optimizer, activations, total; and "available".
        suggestions: field -> (value, reason).
    """

    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    report: dict[str, Any] = field(default_factory=dict)
    plan: dict[str, Any] = field(default_factory=dict)
    memory: dict[str, Any] = field(default_factory=dict)
    suggestions: dict[str, tuple[Any, str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Host:
    """A place where the tab lives.

    Attributes:
        launch: start a run in the background. Raises ValueError (ConfigError) for the user's mistakes, RunBusyError if one is on.
        check: prepare, plan and estimate without training; never raises for the user's mistakes.
        preview: (config, first, num) -> samples as they would be trained (see ``data.preview.Preview.to_dict``); never raises likewise.
        model_facts: name, device, dtype, modules (name -> count), context, num_parameters; or problem: a sentence why nothing
            can be trained now (no model, llama.cpp, a LoRA is applied, multi-user mode).
        adapters_dir: where adapters live now (the WebUI can move it).
        data_sets: files and folders to offer as Data set: label -> path.
        text_files: likewise as Text file.
        in_webui: the model is the WebUI's; the form hides Model and Adapter folder.
    """

    launch: Callable[[RunConfig], RunHandle]
    check: Callable[[RunConfig], CheckResult]
    preview: Callable[[RunConfig, int, int], dict[str, Any]]
    model_facts: Callable[[], dict[str, Any]]
    adapters_dir: Callable[[], Path]
    data_sets: Callable[[], dict[str, str]]
    text_files: Callable[[], dict[str, str]]
    in_webui: bool = False
