"""What can go wrong in a run, in words a user can act on."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

_LESS_MEMORY = (
    "Lower True Batch Size (and raise Gradient Accumulation Steps by the same factor), lower the Cutoff, "
    "turn on Use Gradient Checkpoint, or load the model in 4-bit."
)


class InterruptedEarly(Exception):
    """The user stopped the run before the first step."""


class RunError(Exception):
    """A run that could not go on; ``remedy`` says what to do."""

    def __init__(self, message: str, remedy: str = "") -> None:
        self.remedy = remedy
        super().__init__(message)


class SaveError(RunError):
    """A checkpoint or the adapter could not be written."""

    def __init__(self, folder: Path, reason: str) -> None:
        try:
            free = f"{shutil.disk_usage(folder.parent).free / 1e9:.1f} GB are free there"
        except OSError:
            free = "the folder cannot be reached"
        super().__init__(
            f"Saving to {folder} failed: {reason} ({free}).",
            "Make room on that disk or choose another Adapter folder; checkpoints saved before are untouched, so the run can be resumed.",
        )


class NotFiniteLossError(RunError):
    """The loss or the gradient is NaN or infinite; the weights are still those of the last good step."""

    def __init__(self, what: str, value: float, step: int) -> None:
        super().__init__(
            f"The {what} became {value} in step {step}; the weights before that step are kept.",
            "Lower the Learning Rate (a third of it), use Warmup Steps, or set Precision to bfloat16 or float32.",
        )


class OutOfMemoryError(RunError):
    """The device's memory does not hold a step."""

    def __init__(self, step: int, batch_size: int, cutoff: int) -> None:
        super().__init__(
            f"Out of memory in step {step} with True Batch Size {batch_size} and Cutoff {cutoff} tokens.", _LESS_MEMORY
        )

    @classmethod
    def outside_steps(cls, stage: str) -> RunError:
        """Memory ran out before or after the training itself.

        Args:
            stage: what the run was doing, such as "loading the model".
        """
        return RunError(f"Out of memory while {stage}.", f"Unload other models. {_LESS_MEMORY}")


_MEMORY_WORDS = ("out of memory", "can't allocate memory", "not enough memory", "alloc_failed")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception means that memory ran out, on whatever device."""
    words = str(error).lower()
    return (
        isinstance(error, MemoryError)
        or (isinstance(error, OSError) and error.errno == errno.ENOMEM)
        or (isinstance(error, RuntimeError) and any(sign in words for sign in _MEMORY_WORDS))
    )


def is_lost_process(error: BaseException) -> bool:
    """Whether an exception means that another of the processes that train together is gone."""
    return type(error).__name__ in ("DistBackendError", "DistNetworkError") or (
        isinstance(error, RuntimeError) and "by peer" in str(error).lower()
    )


def forget_frames(error: BaseException) -> None:
    """Let go of what an exception's frames hold (the tensors of the failed step), down the whole chain of causes."""
    seen: set[int] = set()
    pending: list[BaseException | None] = [error]
    while pending:
        current = pending.pop()
        if current is not None and id(current) not in seen:
            seen.add(id(current))
            current.__traceback__ = None
            pending += [current.__cause__, current.__context__]
