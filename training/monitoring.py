"""What is measured beside the loss while a run goes on: context understanding, on the same held-out replies again and again.

What it does: draws the replies once, measures the model before the first step and at each evaluation (switches of phases and the run's
end are evaluations too), and writes each measurement into the diary.

Guarantee: the main process draws, all have the same replies; all make as many forward passes as every other, so that none waits for
another. No random state is touched, so a run with measurements trains what one without does. A resumed run compares with the first
measurement of the whole run. Price: see evaluation.understanding; at most Context understanding samples replies a measurement.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from ..evaluation.replies import ReplySample, draw_replies
from ..evaluation.understanding import Understanding, describe, measure

if TYPE_CHECKING:
    import torch

    from ..config import RunConfig
    from .setup import RunSetup


def draw_sample(config: RunConfig, setup: RunSetup, tokenizer: Any) -> ReplySample | None:
    """The replies that a run measures; None if it measures none, since it is off or holds no conversation out."""
    most, prepared = config.checkpoints.understanding_samples, setup.prepared
    if not most or prepared.eval is None:
        return None
    groups = np.unique(prepared.eval["group"])

    def read(number: int) -> dict[str, Any] | None:
        try:
            return prepared.conversation(int(groups[number]), held_out=True)
        except KeyError:  # a text
            return None

    return draw_replies(read, len(groups), tokenizer, most=most, cutoff=config.data.cutoff, seed=config.training.seed)


class Monitor:
    """Measures a run's model.

    Args:
        sample: the replies; None measures nothing.
        pad_id: token to pad with.
        emit: takes events.
        known: measurements of the run that this one continues, as events.
    """

    def __init__(
        self, sample: ReplySample | None, pad_id: int, emit: Callable[..., None], known: list[dict[str, Any]] | None = None
    ) -> None:
        self._pad_id = pad_id
        self._sample = sample if sample is not None and sample.replies else None
        self._emit = emit
        self._identity = sample.identity if sample is not None else ""
        first = known[0] if known else {}
        fits = first.get("sample") == self._identity
        self._first = {name: _numbers(values) for name, values in first.get("saved", {}).items()} if fits else None
        for line in describe(sample) if sample is not None else []:
            emit("message", level="info", text=line)

    def measure(self, trainer: Any) -> Understanding | None:
        """Measure the model as it stands; must be called on all processes. Its training mode is kept.

        Args:
            trainer: of the run.
        """
        if self._sample is None:
            return None
        begun = time.monotonic()
        accelerator, model, plan = trainer.accelerator, trainer.model, trainer.plan
        batch_loss, was_training = trainer.batch_loss, model.training
        device = next(model.parameters()).device

        def losses(batch: dict[str, Any]) -> torch.Tensor:
            moved = {name: value.to(device) if hasattr(value, "to") else value for name, value in batch.items()}
            each: torch.Tensor = batch_loss.losses(model, moved).each
            return each

        longest = max(len(text.input_ids) for reply in self._sample.replies for text in reply.texts.values())
        model.eval()
        try:
            with accelerator.autocast():
                found = measure(
                    self._sample,
                    losses,
                    batch_tokens=plan.batch_size * longest,
                    pad_id=self._pad_id,
                    part=(accelerator.process_index, accelerator.num_processes),
                    add_up=lambda sums: _over_processes(sums, accelerator),
                    first=self._first,
                )
        finally:
            model.train(was_training)
        self._write(found, trainer.state, time.monotonic() - begun)
        return found

    def _write(self, found: Understanding, state: Any, seconds: float) -> None:
        place = {"step": state.global_step, "epoch": state.epoch or 0.0, "seconds": round(seconds, 3)}
        more: dict[str, Any] = {}
        if self._first is None:  # later measurements are compared with it, reply by reply, also after a resume
            self._first = found.saved
            more = {"saved": {name: [round(float(value), 6) for value in values] for name, values in found.saved.items()}}
        self._emit("understanding", **place, **found.to_event(), **more)


def _numbers(values: list[float | None]) -> np.ndarray:
    """From the diary, which writes NaN as None."""
    return np.array([math.nan if value is None else value for value in values], dtype=np.float64)


def _over_processes(sums: np.ndarray, accelerator: Any) -> np.ndarray:
    if accelerator.num_processes == 1:
        return sums
    import torch

    total = accelerator.reduce(torch.from_numpy(sums).to(accelerator.device), reduction="sum")
    return np.asarray(total.cpu().numpy())
