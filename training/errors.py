"""What can go wrong in a run, in words a user can act on."""

from __future__ import annotations

import shutil
from pathlib import Path


class RunError(Exception):
    """A run that could not go on; ``remedy`` says what to do."""

    def __init__(self, message: str, remedy: str = "") -> None:
        self.remedy = remedy
        super().__init__(message)


class SaveError(RunError):
    """A checkpoint or the adapter could not be written."""

    @classmethod
    def from_exception(cls, error: Exception, folder: Path) -> SaveError:
        """With the place, the reason and how much room is left."""
        try:
            free = f"{shutil.disk_usage(folder.parent).free / 1e9:.1f} GB are free there"
        except OSError:
            free = "the folder cannot be reached"
        return cls(
            f"Saving to {folder} failed: {error} ({free}).",
            "Make room on that disk or choose another Adapter folder; checkpoints saved before are untouched, so the run can be resumed.",
        )


class NotFiniteLossError(RunError):
    """The loss is NaN or infinite; the weights are still those of the last good step."""

    def __init__(self, loss: float, step: int) -> None:
        super().__init__(
            f"The loss became {loss} in step {step}; the weights before that step are kept.",
            "Lower the Learning Rate (a third of it), use Warmup Steps, or set Precision to bfloat16 or float32.",
        )


class OutOfMemoryError(RunError):
    """The device's memory does not hold a step."""

    def __init__(self, step: int, batch_size: int, cutoff: int) -> None:
        super().__init__(
            f"Out of memory in step {step} with True Batch Size {batch_size} and Cutoff {cutoff} tokens.",
            "Lower True Batch Size (and raise Gradient Accumulation Steps by the same factor), lower the Cutoff, "
            "turn on Use Gradient Checkpoint, or load the model in 4-bit.",
        )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception means that memory ran out, on whatever device."""
    words = str(error).lower()
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and ("out of memory" in words or "can't allocate memory" in words or "not enough memory" in words)
    )
