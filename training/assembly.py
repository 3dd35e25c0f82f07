"""Puts the trainer of a run together: what feeds it, what it tells, what watches and steers it; fresh, or where a checkpoint stands.

Guarantee: a checkpoint's marker holds everything that :func:`make_trainer` needs to go on as if nothing had been. Price: none.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import train_utils
from ..config import RunConfig
from ..custom_scheduler import RAMP_DOWN
from ..data.collate import Samples, padding_id
from ..runs.checkpoints import Checkpoint, delete_old
from ..runs.control import ControlReader
from ..runs.state import read_state
from ..runs.store import RunFolder
from .callbacks import RunCallback, StepRules
from .choosing import ChooseFirst
from .controls import Controls
from .loss import StepLoss
from .monitoring import Monitor, draw_sample
from .optimizers import make_optimizer
from .pausing import Lend, lend_to_nobody
from .phases import PhaseWatch
from .ranks import Ranks
from .samples import Sampler
from .saves import SaveRules, SaveWatch, checkpoint_name
from .setup import RunSetup, plan_facts, run_schedule
from .step import BatchLoss
from .wishes import optimizer_groups


@dataclass
class RunContext:
    """What belongs to a run from its begin to its end.

    Attributes:
        config: all settings.
        folder: of the run.
        ranks: the processes that train together.
        emit: takes events.
        reader: of what the user asks for.
        checkpoint: what is resumed; None = a fresh run.
        has_new_order: it is resumed with changes.
        lend: what a host does while the run waits.
    """

    config: RunConfig
    folder: RunFolder
    ranks: Ranks
    emit: Callable[..., None]
    reader: ControlReader
    checkpoint: Checkpoint | None = None
    has_new_order: bool = False
    lend: Lend = lend_to_nobody

    @property
    def marker(self) -> dict[str, Any]:
        """Of the checkpoint that is resumed."""
        return self.checkpoint.marker if self.checkpoint else {}

    def rotate(self, *, is_over: bool = False) -> None:
        """Delete old checkpoints; the one that was resumed stays as long as the run goes on, since the user may discard the rest."""
        settings = self.config.checkpoints
        kept = self.checkpoint.path.name if self.checkpoint and not is_over else ""
        delete_old(self.folder, settings.keep_last, keep_best=settings.keep_best, kept=kept)


def save_rules(config: RunConfig) -> SaveRules:
    """What the settings say about saves."""
    settings = config.checkpoints
    return SaveRules(
        every_steps=settings.save_every_steps,
        every_epoch=settings.save_every_epoch,
        every_minutes=settings.save_every_minutes,
        fall=settings.save_on_loss_fall / 100,
        fall_start=settings.save_loss_start,
        best_eval=settings.save_best_eval,
    )


def step_rules(config: RunConfig, *, has_eval: bool) -> StepRules:
    """What the settings say about evaluations and stops."""
    settings = config.checkpoints
    ramp = config.training.lr_trigger_loss if config.training.schedule == RAMP_DOWN else 0.0
    return StepRules(settings.eval_every_steps, has_eval, settings.stop_at_loss, settings.stop_at_epoch, ramp)


def make_callback(run: RunContext, setup: RunSetup) -> RunCallback:
    """What watches and steers a run."""
    rules = step_rules(run.config, has_eval=setup.prepared.eval is not None)
    phases, saves = PhaseWatch(setup.sampler, run.emit), SaveWatch(save_rules(run.config))
    controls = Controls(run.reader, run.emit, lr_scale=float(run.marker.get("lr_scale", 1.0)))
    callback = RunCallback(setup.sampler.plan, rules, run.emit, controls, phases, saves)
    callback.lend = run.lend
    if run.checkpoint:
        callback.smoothed.load(run.marker.get("smoothed", []))
        phases.load(run.marker.get("phases", {}), run.checkpoint.step, decided=not run.has_new_order)
        saves.load(run.marker.get("saves", {}))
    return callback


def make_trainer(
    run: RunContext,
    setup: RunSetup,
    fitted: train_utils.Fitted,
    batch_loss: BatchLoss,
    *,
    tokenizer: Any,
    identity: dict[str, Any],
) -> tuple[RunCallback, Any]:
    """The trainer of a run, and what steers it.

    Args:
        run: the run.
        setup: its data and plan.
        fitted: the model, trainable.
        batch_loss: how its batches are computed.
        tokenizer: of the model.
        identity: what must be the same for an exact continuation.
    """
    from .arguments import training_arguments
    from .trainer import Feed, PlannedTrainer

    callback = make_callback(run, setup)
    eval_data, choice = setup.prepared.eval, setup.optimizer
    feed = Feed(
        sampler=setup.sampler,
        train_samples=setup.entries.samples(setup.prepared.train),
        eval_samples=None if eval_data is None else Samples(eval_data),
        batch_loss=batch_loss,
        pad_id=padding_id(tokenizer),
        schedule=run_schedule(run.config, setup.warmup_steps, by_epochs=setup.sampler.has_past),
        make_optimizer=lambda model: make_optimizer(model, choice, optimizer_groups(model, setup.wish, choice)),
    )
    reports = _Reporter(run, setup, callback, _make_monitor(run, setup, tokenizer), identity)
    args = training_arguments(run.config, setup, run.folder, fitted.model)
    trainer = PlannedTrainer(fitted, args, feed, reports.reports(), callbacks=[callback], ranks=run.ranks)
    callback.trainer, callback.plan_facts = trainer, lambda: plan_facts(run.config, setup)
    callback.answer_samples = _samples_on_the_way(run, tokenizer, trainer)
    if fitted.choose:
        trainer.add_callback(ChooseFirst(fitted.choose, run.config.adapter.sift_steps, run.emit, trainer))
    if run.checkpoint:
        trainer.trigger_step = run.marker.get("trigger_step")
        _take_up_scale(run, callback, trainer)
    return callback, trainer


def _take_up_scale(run: RunContext, callback: RunCallback, trainer: Any) -> None:
    """The scale of the learning rate goes on as it was."""
    trainer.lr_scale = callback.controls.wishes.lr_scale
    if run.checkpoint and trainer.lr_scale != 1:
        run.emit("control", name="lr_scale", value=trainer.lr_scale, step=run.checkpoint.step)
        text = f"Learning rate scale: {trainer.lr_scale:g}, as it was at {run.checkpoint.path.name}."
        run.emit("message", level="info", text=text)


def _samples_on_the_way(run: RunContext, tokenizer: Any, trainer: Any) -> Callable[[int], None]:
    sampler = Sampler(run.config, tokenizer, run.emit)

    def answer(step: int) -> None:
        if run.ranks.is_main and sampler.is_due(step):
            sampler.answer_on_the_way(trainer, step, lambda: run.reader.read().wants_end)

    return answer


def _make_monitor(run: RunContext, setup: RunSetup, tokenizer: Any) -> Monitor:
    """Measures context understanding; the replies are drawn by the main process."""
    sample = run.ranks.share(lambda: draw_sample(run.config, setup, tokenizer))
    known = read_state(run.folder).understanding if run.checkpoint else []
    return Monitor(sample, padding_id(tokenizer), run.emit, known)


@dataclass(frozen=True)
class _Reporter:
    """What a trainer asks and tells."""

    run: RunContext
    setup: RunSetup
    callback: RunCallback
    monitor: Monitor
    identity: dict[str, Any]

    def reports(self) -> Any:
        from .trainer import Reports

        return Reports(self.marker, self.name, self.after_save, self.on_evaluated, self.rest)

    @property
    def _state(self) -> Any:
        return self.callback.trainer.state

    def name(self) -> str:
        return checkpoint_name(self._state.global_step, self.callback.save_cause)

    def marker(self) -> dict[str, Any]:
        callback, trainer, plan = self.callback, self.callback.trainer, self.setup.sampler.plan
        step = self._state.global_step
        return {
            **{"identity": self.identity, "cause": callback.save_cause, "saved": time.time()},
            **{"step": step, "epoch": self._state.epoch, "num_epochs": plan.num_epochs},
            **{"loss": callback.smoothed_loss, "eval_loss": callback.eval_loss, "smoothed": callback.smoothed.state()},
            **{"sampler": self.setup.sampler.state_dict(step * plan.window), "phases": callback.phases.state()},
            **{"trigger_step": trainer.trigger_step, "lr_scale": trainer.lr_scale, "saves": callback.saves.state()},
        }

    def after_save(self, path: Path) -> None:
        callback, state = self.callback, self._state
        losses = {"loss": round(callback.smoothed_loss, 6), "eval_loss": callback.eval_loss}
        self.run.emit(
            "checkpoint", step=state.global_step, epoch=state.epoch, folder=path.name, cause=callback.save_cause, **losses
        )
        callback.saves.saved()
        self.run.rotate()

    def on_evaluated(self, loss: StepLoss) -> None:
        state, trainer = self._state, self.callback.trainer
        place = {"step": state.global_step, "epoch": state.epoch or 0.0}
        self.run.emit("evaluation", **place, loss=loss.mean, trained_tokens=loss.num_trained)
        self.monitor.measure(trainer)

    def rest(self) -> None:
        self.callback.rest(self._state.global_step, self.callback.trainer.control)
