"""Gradients before the first step, for methods that choose what they train by them (``Fitted.choose``).

What it does: when everything is set up (checkpointing, number format, processes), gives the method a way to run forward and backward over
the batches of the first optimizer steps, with the loss that training has: the sum over trained tokens of all of them and all ranks.

Guarantee: the order of the run, the random state and what the meters have counted are as if nothing had been; a resumed run chooses nothing
anew. Price: as many passes over these batches as the method takes.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import Any

import torch
from transformers import TrainerCallback

from .noise import BatchPlace

Choose = Callable[[Callable[[float], None], bool], list[str]]

_HALF = "fp16"


class ChooseFirst(TrainerCallback):
    """Lets a method choose before the first step.

    Args:
        choose: ``Fitted.choose``.
        num_steps: optimizer steps whose batches are looked at.
        emit: takes events.
        trainer: the run's PlannedTrainer.
    """

    def __init__(self, choose: Choose, num_steps: int, emit: Callable[..., None], trainer: Any) -> None:
        self._choose = choose
        self._num_steps = num_steps
        self._emit = emit
        self.trainer = trainer

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Everything is set up and nothing is trained yet."""
        if state.global_step:
            return
        self._emit("stage", stage="training", detail="choosing by the gradient of the first batches")
        trainer = self.trainer
        was_training = trainer.model.training
        try:
            for words in self._choose(self._gradients(), trainer.accelerator.mixed_precision == _HALF):
                self._emit("message", level="info", text=words)
        finally:
            trainer.model.train(was_training)
        self._emit("stage", stage="training", detail="")

    def _gradients(self) -> Callable[[float], None]:
        """Forward and backward over this rank's batches; the same every time."""
        trainer = self.trainer
        accelerator, plan, loss = trainer.accelerator, trainer.plan, trainer.batch_loss
        rank, ranks = accelerator.process_index, accelerator.num_processes
        # what is drawn here is not drawn from the run: the sampler begins anew with every iteration
        drawn = list(islice(iter(trainer.sampler), min(self._num_steps, plan.num_steps) * plan.window))[rank::ranks]
        samples, collator = trainer.train_dataset, trainer.data_collator
        device = next(trainer.model.parameters()).device
        count = sum(len(self._batch(collator, samples, indices, device)["targets"]) for indices in drawn)
        total = accelerator.reduce(torch.tensor(float(count), device=device), reduction="sum") if ranks > 1 else count

        def backward(scale: float) -> None:
            trainer.model.train()
            for number, indices in enumerate(drawn):
                batch = self._batch(collator, samples, indices, device)
                with loss.attached(), accelerator.autocast():
                    objective = loss.training_losses(trainer.model, batch, BatchPlace(0, number, rank)).objective
                    (objective * scale / total).backward()

        return backward

    @staticmethod
    def _batch(collator: Any, samples: Any, indices: list[Any], device: torch.device) -> dict[str, Any]:
        made = collator([samples[index] for index in indices])
        return {name: value.to(device) if isinstance(value, torch.Tensor) else value for name, value in made.items()}
