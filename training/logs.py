"""Detailed logs for programs of the user's: TensorBoard, or Weights & Biases offline, in the folder ``logs`` of the run.

What it does: listens to the run's diary and hands on its numbers: loss, learning rate, gradient norm, tokens/s, evaluations, gains, phases.
Guarantee: a logger that fails is told nothing more and says so once; it never ends a run. Nothing is sent anywhere: Weights & Biases runs
offline, without a login and with its own error reports off. Price: the package is the user's to install; some hundredths of a millisecond
a step for TensorBoard.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from ..config import RunConfig
from ..config.log_packages import LOG_PACKAGES, missing_package
from ..runs.store import RunFolder

logger = logging.getLogger(__name__)

PROJECT = "training-pro"
# name of the number in the log -> the field of the step event
STEP_NUMBERS = {
    "train/loss": "loss",
    "train/smoothed_loss": "smoothed_loss",
    "train/learning_rate": "lr",
    "train/gradient_norm": "grad_norm",
    "train/tokens_per_second": "tokens_per_second",
    "train/epoch": "epoch",
}


class Sink(Protocol):
    """What takes numbers and words."""

    def numbers(self, values: Mapping[str, float], step: int) -> None:
        """Values at an optimizer step."""

    def words(self, name: str, text: str, step: int) -> None:
        """A text at an optimizer step."""

    def close(self) -> None:
        """The run is over."""


class TensorBoardSink:
    """Event files that ``tensorboard --logdir`` reads.

    Args:
        folder: of the run.
        resumed_from_step: the run goes on after this step; later points of the former start are hidden. None: a new run.
    """

    def __init__(self, folder: RunFolder, resumed_from_step: int | None) -> None:
        from torch.utils.tensorboard import SummaryWriter

        purge = None if resumed_from_step is None else resumed_from_step + 1
        self._writer = SummaryWriter(str(folder.logs / "tensorboard"), purge_step=purge)

    def numbers(self, values: Mapping[str, float], step: int) -> None:
        """Values at an optimizer step."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def words(self, name: str, text: str, step: int) -> None:
        """A text at an optimizer step."""
        self._writer.add_text(name, text, step)

    def close(self) -> None:
        """Write what is still held back."""
        self._writer.close()


class WandbSink:
    """A run of Weights & Biases on the disk only; ``wandb sync`` sends it if the user wants that.

    Args:
        folder: of the run.
        config: all settings, shown beside the curves.
    """

    def __init__(self, folder: RunFolder, config: RunConfig) -> None:
        # before its import: else it may report errors of its own to its makers
        os.environ.update(WANDB_MODE="offline", WANDB_ERROR_REPORTING="false", WANDB_SILENT="true")
        import wandb

        folder.logs.mkdir(parents=True, exist_ok=True)
        settings = wandb.Settings(console="off", disable_git=True, save_code=False)
        place = {"project": PROJECT, "name": folder.name, "dir": str(folder.logs)}
        self._run = wandb.init(**place, config=config.to_dict(), mode="offline", reinit=True, settings=settings)

    def numbers(self, values: Mapping[str, float], step: int) -> None:
        """Values at an optimizer step; steps never fall, so what comes later for an earlier one counts for the newest."""
        self._run.log({**values, "step": step})

    def words(self, name: str, text: str, step: int) -> None:
        """A text at an optimizer step."""
        self._run.log({name: text, "step": step})

    def close(self) -> None:
        """Write what is still held back."""
        self._run.finish()


class RunLog:
    """Listens to the diary, as ``log(event, **fields)``.

    Args:
        sink: takes numbers and words.
        say: takes a word to the user if the log fails.
    """

    def __init__(self, sink: Sink, say: Callable[[str], None]) -> None:
        self._sink: Sink | None = sink
        self._say = say
        self._step = 0

    def __call__(self, event: str, **fields: Any) -> None:
        """One event; never raises."""
        sink = self._sink
        if sink is None:
            return
        try:
            self._take(sink, event, fields)
        except Exception as error:
            self._sink = None
            logger.debug("The detailed log failed", exc_info=True)
            self._say(f"Detailed logs: writing failed ({error or type(error).__name__}). The training goes on without them.")

    def _take(self, sink: Sink, event: str, fields: dict[str, Any]) -> None:
        step = fields.get("step")
        self._step = step if isinstance(step, int) else self._step
        if event == "step":
            sink.numbers(_known({name: fields.get(key) for name, key in STEP_NUMBERS.items()}), self._step)
        elif event == "evaluation":
            sink.numbers(_known({"evaluation/loss": fields.get("loss")}), self._step)
        elif event == "understanding":
            gains = fields.get("gains") or {}
            sink.numbers(_known({f"gains/{name}": gain.get("mean") for name, gain in gains.items()}), self._step)
        elif event == "phase":
            sink.words("phase", f"{fields.get('phase', '')} ({fields.get('cause', '')})", self._step)
        elif event == "run_ended":
            sink.words("end", f"{fields.get('status', '')}: {fields.get('message', '')}", self._step)
            sink.close()
            self._sink = None


def _known(values: dict[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in values.items() if isinstance(value, (int, float))}


def make_log(
    config: RunConfig, folder: RunFolder, say: Callable[[str], None], resumed_from_step: int | None = None
) -> RunLog | None:
    """The log that the settings ask for; None, with a word to the user, where it cannot be made.

    Args:
        config: all settings.
        folder: of the run.
        say: takes the word.
        resumed_from_step: the run goes on after this step; None: a new run.
    """
    wanted = config.run.log_to
    if not LOG_PACKAGES[wanted]:
        return None
    try:
        sink: Sink = TensorBoardSink(folder, resumed_from_step) if wanted == "tensorboard" else WandbSink(folder, config)
    except Exception as error:
        logger.debug("The detailed log could not be begun", exc_info=True)
        missing = missing_package(wanted)
        remedy = f" Install it with: pip install {missing}." if missing else ""
        say(
            f"Detailed logs: {wanted} cannot be used ({error or type(error).__name__}).{remedy} The training goes on without them."
        )
        return None
    return RunLog(sink, say)


def attach_log(emit: Any, config: RunConfig, folder: RunFolder, resumed_from_step: int | None) -> None:
    """Let the log that the settings ask for, if any, listen to a run's diary.

    Args:
        emit: the diary (training.frame.Diary).
        config: all settings.
        folder: of the run.
        resumed_from_step: see :func:`make_log`.
    """
    log = make_log(config, folder, lambda text: emit("message", level="warning", text=text), resumed_from_step)
    if log is not None:
        emit.listen(log)
