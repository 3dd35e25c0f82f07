"""The Hugging Face Trainer, with our batches, our schedule and our loss.

What is ours: the batch sampler (one planned sequence for the whole run), the learning rate as a function of planned progress, the
loss over trained tokens, token-weighted evaluation, and checkpoints that count only when they are whole. Optimizer, accumulation,
mixed precision, gradient clipping and DDP are Trainer's and accelerate's; runs under FSDP or DeepSpeed are refused beforehand (setup).
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader
from transformers import PrinterCallback, Trainer, TrainingArguments
from transformers.trainer import OPTIMIZER_NAME

from ..custom_scheduler import SCHEDULES, Progress, Schedule
from ..data.collate import Collator, Samples
from ..hybrid_batching import HybridBatchSampler, RunPlan
from ..runs.checkpoints import mark_complete
from ..train_utils import Fitted
from .errors import SaveError
from .loss import LossMeter, StepLoss
from .noise import BatchPlace
from .optimizers import GROUP_SETTINGS, averaged_weights, load_trained_weights, save_trained_weights, settle
from .ranks import Ranks
from .step import BatchLoss

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Feed:
    """What a run is made of.

    Attributes:
        sampler: the run's batches.
        train_samples: map-style samples, addressed by the sampler's indices.
        eval_samples: held-out samples, or None.
        batch_loss: computes a batch, by the route that was chosen for the model.
        pad_id: token id to pad with.
        schedule: the learning rate over the run.
        make_optimizer: gives the optimizer of a model's trained parameters, each group with its own base rate.
    """

    sampler: HybridBatchSampler
    train_samples: Samples
    eval_samples: Samples | None
    batch_loss: BatchLoss
    pad_id: int
    schedule: Schedule
    make_optimizer: Callable[[Any], torch.optim.Optimizer]


@dataclass(frozen=True)
class Reports:
    """What a run asks and tells on its way.

    Attributes:
        marker: gives what is written into a checkpoint's marker.
        name: gives the name of the folder of the checkpoint that is being saved.
        after_save: called with the checkpoint's folder once it is whole (main process only).
        on_evaluated: called with the loss on the held-out samples.
        rest: called between two steps, when everything that the step brought is saved, on all ranks.
    """

    marker: Callable[[], dict[str, Any]]
    name: Callable[[], str]
    after_save: Callable[[Path], None]
    on_evaluated: Callable[[StepLoss], None]
    rest: Callable[[], None]


class PlannedTrainer(Trainer):
    """Runs a planned sequence of batches.

    Args:
        fitted: the model and how it is saved.
        args: transformers' own.
        feed: what the run is made of.
        reports: what it asks and tells.
        callbacks: what watches it.
        ranks: the processes that train together.
    """

    def __init__(
        self, fitted: Fitted, args: TrainingArguments, feed: Feed, reports: Reports, *, callbacks: list[Any], ranks: Ranks
    ) -> None:
        super().__init__(
            model=fitted.model,
            args=args,
            train_dataset=feed.train_samples,
            data_collator=feed.batch_loss.collator(feed.pad_id),
            callbacks=callbacks,
        )
        self.remove_callback(PrinterCallback)
        self.fitted = fitted
        self.sampler = feed.sampler
        self.eval_samples = feed.eval_samples
        self.batch_loss = feed.batch_loss
        self._eval_collator = Collator(feed.pad_id)
        self.trigger_step: int | None = None
        self.lr_scale = 1.0
        self._planned_factor = schedule_factor(feed.schedule, lambda: self.plan, lambda: self.trigger_step)
        self.reports = reports
        self.ranks = ranks
        self.meter = LossMeter(self.accelerator)
        self.last_grad_norm: float | None = None
        self._place: BatchPlace | None = None
        self._saving_in: Path | None = None
        self._make_optimizer = feed.make_optimizer
        self._base_rates: list[float] = []
        # our loss divides by num_items_in_batch itself, so Trainer must count them and must not divide again
        self.model_accepts_loss_kwargs = True

    @property
    def plan(self) -> RunPlan:
        """The run's plan."""
        return self.sampler.plan

    def get_train_dataloader(self) -> DataLoader:
        """Batches of the whole run; accelerate hands rank r every world-size-th of them."""
        samples: Any = self.train_dataset
        loader = DataLoader(
            samples,
            batch_sampler=self.sampler,
            collate_fn=self.data_collator,
            num_workers=self.args.dataloader_num_workers,
            pin_memory=self.args.dataloader_pin_memory,
        )
        prepared: DataLoader = self.accelerator.prepare(loader)
        return prepared

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """The run's optimizer; the rates of its groups are what the schedule scales."""
        if self.optimizer is None:
            self.optimizer = self._make_optimizer(self.model if model is None else model)
            self._base_rates = [float(group["lr"]) for group in self.optimizer.param_groups]
        return self.optimizer

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """Learning rate as a function of planned progress; ``num_training_steps`` is Trainer's guess and not used."""
        if self.lr_scheduler is None:
            chosen: Any = optimizer or self.optimizer
            self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(chosen, self._factor)
            self._created_lr_scheduler = True
        return self.lr_scheduler

    def _factor(self, step: int) -> float:
        """Of the base rates, for the step that follows ``step`` finished ones: the schedule's, times what the user wants of it."""
        return self._planned_factor(step) * self.lr_scale

    def is_ramped_down(self, step: int) -> bool:
        """Whether a ramp-down that the loss triggered has reached 0, so that further steps would change nothing."""
        return self.trigger_step is not None and self._planned_factor(step) <= 0

    def align_schedule(self, step: int) -> None:
        """Put the rates where the plan has them after ``step`` optimizer steps.

        The scheduler alone would lag behind where half precision skips a step, and would keep a checkpoint's rates where the user
        changed Learning Rate or Epochs before resuming.
        """
        scheduler, factor = self.lr_scheduler, self._factor(step)
        rates: list[Any] = [base * factor for base in self._base_rates]
        for group, base, rate in zip(self._groups(), self._base_rates, rates, strict=True):
            group["initial_lr"], group["lr"] = base, rate
        assert scheduler is not None
        scheduler.base_lrs, scheduler.last_epoch, scheduler._last_lr = [*self._base_rates], step, rates

    def _groups(self) -> list[dict[str, Any]]:
        assert self.optimizer is not None
        return list(self.optimizer.param_groups)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        """What the optimizer has gathered comes from the checkpoint, its settings from the run's."""
        if checkpoint is None:
            return
        assert self.optimizer is not None
        settings = [{key: group[key] for key in GROUP_SETTINGS if key in group} for group in self._groups()]
        # older transformers loads to a device called cpu:0 where several processes train on CPUs, which torch refuses
        state = torch.load(Path(checkpoint) / OPTIMIZER_NAME, map_location="cpu", weights_only=True)
        self.optimizer.load_state_dict(state)
        load_trained_weights(self.optimizer, Path(checkpoint))
        for group, setting in zip(self._groups(), settings, strict=True):
            group.update(setting)
        self.align_schedule(self.state.global_step)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        super()._save_optimizer_and_scheduler(output_dir)
        if self.args.should_save:
            save_trained_weights(self.optimizer, Path(output_dir))

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """Train; however it ends, the model is left with the weights that are its result."""
        try:
            return super().train(*args, **kwargs)
        finally:
            settle(self.optimizer)

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Summed loss of the batch over the number of trained tokens of the whole optimizer step.

        What is reported is the cross-entropy without label smoothing, so that it can be compared with other runs and evaluations.
        """
        losses = self.batch_loss.training_losses(model, inputs, self._next_place())
        num_tokens = inputs["num_tokens"]
        self.meter.add(losses.each.sum(), len(inputs["targets"]), num_tokens, inputs["input_ids"].numel() - num_tokens)
        assert num_items_in_batch is not None, "Trainer did not count the labels"
        # DDP averages gradients over ranks; the sum over all trained tokens is wanted
        loss = losses.objective * self.accelerator.num_processes / num_items_in_batch
        return (loss, None) if return_outputs else loss

    def _next_place(self) -> BatchPlace:
        """Of the batch that comes now; a resumed run begins at a whole step, so it counts the same."""
        step, last = int(self.state.global_step), self._place
        number = last.number + 1 if last is not None and last.step == step else 0
        self._place = BatchPlace(step, number, self.ranks.index)
        return self._place

    def training_step(self, *args: Any, **kwargs: Any) -> Any:
        """One batch forward and backward; everything else that calls the model finds it with its own attention."""
        with self.batch_loss.attached():
            return super().training_step(*args, **kwargs)

    def floating_point_ops(self, inputs: Any) -> int:
        """Not counted: it would walk through all parameters for every batch."""
        return 0

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> Any:
        norm = super()._get_grad_norm(model, grad_norm=grad_norm)
        self.last_grad_norm = float(norm) if norm is not None else None
        return norm

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Mean loss per trained token of the held-out samples, over all ranks."""
        assert self.eval_samples is not None, "evaluation without evaluation samples"
        # not the wrapped model: DistributedDataParallel has nothing to add where no gradient is made
        batches = (self.eval_samples, self._eval_collator, self.plan.batch_size)
        with averaged_weights(self.optimizer):
            result = evaluate_loss(self.model, self.batch_loss, *batches, self.accelerator)
        self.reports.on_evaluated(result)
        metrics = {"eval_loss": result.mean}
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        if self.args.should_save:  # newer transformers calls this on every process
            with averaged_weights(self.optimizer):
                save_adapter(self.fitted, Path(output_dir or str(self.args.output_dir)))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """Nothing: the method took the checkpoint's weights up already."""

    def _maybe_log_save_evaluate(self, *args: Any, **kwargs: Any) -> None:
        """After each step: what is due, then whatever comes before the next one."""
        super()._maybe_log_save_evaluate(*args, **kwargs)
        self.reports.rest()

    def save_now(self) -> None:
        """Save a checkpoint between two steps; must be called on all ranks."""
        self._save_checkpoint(self.model, None)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Save all of a checkpoint, then its marker; a save that fails leaves nothing behind and the older ones in place.

        Raises:
            SaveError: on all processes, whichever of them could not write.
        """
        output, usual = Path(str(self.args.output_dir)), f"checkpoint-{self.state.global_step}"
        folder = output / self.reports.name()
        # transformers names the folder itself: one with another name is written elsewhere and moved, beside the usual one of this step
        self._saving_in = None if folder.name == usual else output / ".saving"
        written = (self._saving_in or output) / usual
        self.ranks.share(lambda: shutil.rmtree(written, ignore_errors=True))  # what a killed process left of it
        failure = ""
        try:
            super()._save_checkpoint(model, trial)
        except Exception as error:
            failure = _words(error)
        finally:
            self._saving_in = None
        failure = self.ranks.first_failure(failure) or self.ranks.share(lambda: self._complete(written, folder))
        if failure:
            self.ranks.share(lambda: shutil.rmtree(written, ignore_errors=True))
            raise SaveError(folder, failure)
        if self.ranks.is_main:
            self.reports.after_save(folder)

    def _get_output_dir(self, trial: Any) -> str:
        return str(self._saving_in) if self._saving_in else super()._get_output_dir(trial)

    def _complete(self, written: Path, folder: Path) -> str:
        """Declare a checkpoint whole, under its name; what went wrong, or ""."""
        try:
            mark_complete(written, self.reports.marker())
            if written != folder:
                shutil.rmtree(folder, ignore_errors=True)
                written.replace(folder)
                shutil.rmtree(written.parent, ignore_errors=True)
        except OSError as error:
            return _words(error)
        return ""


def _words(error: Exception) -> str:
    logger.debug("saving failed", exc_info=error)
    return str(error) or type(error).__name__


def schedule_factor(
    schedule: Schedule, current_plan: Callable[[], RunPlan], trigger_step: Callable[[], int | None] = lambda: None
) -> Callable[[int], float]:
    """Factor of the base learning rate for the step that follows ``step`` finished ones.

    Args:
        schedule: name, warm-up and options.
        current_plan: the run's plan as it is now; a switch may change it.
        trigger_step: optimizer steps that were done when the loss triggered what waits for it; None = not yet.
    """

    def factor(step: int) -> float:
        plan, trigger = current_plan(), trigger_step()
        return SCHEDULES[schedule.name](
            Progress(
                epoch=plan.epoch_at(step),
                num_epochs=plan.num_epochs,
                warmup_epochs=plan.epoch_at(schedule.warmup_steps) if schedule.warmup_steps else 0.0,
                step=step,
                num_steps=0 if schedule.by_epochs else plan.num_steps,
                base_lr=schedule.base_lr,
                options=schedule.options,
                warmup_steps=schedule.warmup_steps,
                trigger=None if trigger is None else plan.epoch_at(trigger),
            )
        )

    return factor


def evaluate_loss(
    model: Any, batch_loss: BatchLoss, samples: Samples, collator: Any, batch_size: int, accelerator: Any
) -> StepLoss:
    """Loss over all trained tokens of samples, padded; must be called on all ranks. The model's training mode is kept.

    Every rank makes the same number of batches, so that none waits for another: where samples run out it takes a filler.
    """
    meter = LossMeter(accelerator)
    was_training = model.training
    model.eval()
    device = next(model.parameters()).device
    try:
        with torch.no_grad(), accelerator.autocast():
            for first in range(0, len(samples), accelerator.num_processes * batch_size):
                start = first + accelerator.process_index * batch_size
                indices = list(range(start, min(start + batch_size, len(samples)))) or [-1]
                made = collator([samples[index] for index in indices])
                batch: dict[str, Any] = {
                    name: value.to(device) if isinstance(value, torch.Tensor) else value for name, value in made.items()
                }
                meter.add(batch_loss.loss_sum(model, batch), len(batch["targets"]), batch["num_tokens"])
    finally:
        model.train(was_training)
    return meter.read()


def save_adapter(fitted: Fitted, folder: Path, *, is_result: bool = False) -> None:
    """Write what was learned, for a checkpoint or as the result; files appear whole or not at all."""
    (fitted.result if is_result else fitted.save)(folder)
