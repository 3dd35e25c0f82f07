"""One run from settings to adapter: opens the folder, borrows the model, trains, saves, gives everything back.

Guarantee: whatever happens, the diary ends with ``run_ended`` and words on what happened, what was learned is kept, and the base
model is as it was before. Existing results are only touched as the user said under "If the name exists".
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .. import train_utils
from ..config import RunConfig
from ..data.collate import padding_id
from ..runs.checkpoints import Checkpoint, choose_checkpoint
from ..runs.control import ControlReader, change_control
from ..runs.state import DISCARDED, FAILED, FINISHED, INTERRUPTED, process_start_time, read_state
from ..runs.store import RunFolder, open_run_folder, set_aside, write_json
from .assembly import RunContext, make_trainer
from .callbacks import KEPT, RunCallback
from .discarding import Before, backups, discard, look_before
from .errors import InterruptedEarly, OutOfMemoryError, SaveError, forget_frames, is_out_of_memory
from .finished import take_finished_result
from .frame import Diary, Listener, Outcome, end_by_error, library_versions, save_summary
from .logs import attach_log
from .pausing import Lend, lend_to_nobody
from .ranks import current_ranks
from .resuming import continue_changed, continue_order, identity_of, refuse_changes
from .routes import Trial, choose_route, run_pieces
from .samples import Sampler
from .setup import RunSetup, plan_facts, prepare_run
from .step import BatchLoss, Extras
from .wishes import with_data

logger = logging.getLogger(__name__)

PROGRESS_SECONDS = 2.0

LoadModel = Callable[[], tuple[Any, Any]]


def run_job(
    config: RunConfig,
    load_model: LoadModel,
    *,
    listener: Listener | None = None,
    on_folder: Callable[[RunFolder], None] | None = None,
    lend: Lend = lend_to_nobody,
) -> Outcome:
    """Run a training to its end.

    Args:
        config: all settings.
        load_model: gives model and tokenizer; a loaded model is borrowed and given back.
        listener: also takes every event, as ``listener(event, **fields)``.
        on_folder: called with the run's folder as soon as it is open.
        lend: entered while the user pauses the run: others may use the model meanwhile (see :mod:`.pausing`).

    Returns:
        How it ended. Mistakes that show only while it runs are an outcome ``failed`` with message and remedy.

    Raises:
        ConfigError: the settings have problems.
        ValueError: the name exists and the user did not say what to do, or there is nothing to resume.
        OSError: the folder cannot be made or written.
        RunError: on processes other than the main one, instead of these.
    """
    config.require_valid()
    ranks = current_ranks()
    ranks.join()
    folder, before = ranks.share(lambda: _open_folder(config))
    is_resumed = config.adapter.if_exists == "resume"
    run = _Run(
        config=config,
        folder=folder,
        ranks=ranks,
        emit=Diary(folder if ranks.is_main else None, listener),
        reader=ControlReader(folder.control),
        checkpoint=choose_checkpoint(folder, config.adapter.resume_from) if is_resumed else None,
        lend=lend,
        load_model=load_model,
        before=before,
        outcome=Outcome(FAILED, "", folder),
    )
    if on_folder:
        on_folder(folder)
    return run.run()


def _open_folder(config: RunConfig) -> tuple[RunFolder, Before]:
    """The run's folder, by the user's word, and what was there; what was asked of a former run in it is forgotten."""
    place, name = Path(config.run.adapters_dir).expanduser().absolute(), config.adapter.name
    others = backups(place, name)
    folder = open_run_folder(place, name, config.adapter.if_exists)
    if config.adapter.if_exists == "continue":
        set_aside(folder)
    checkpoint = choose_checkpoint(folder, config.adapter.resume_from) if config.adapter.if_exists == "resume" else None
    folder.control.unlink(missing_ok=True)
    if checkpoint and (scale := checkpoint.marker.get("lr_scale", 1.0)) != 1.0:  # this goes on, and can be changed
        change_control(folder.control, lr_scale=scale)
    folder.events.touch()
    return folder, look_before(folder, backups(place, name) - others)


@dataclass(kw_only=True)
class _Run(RunContext):
    """The state of one run while it goes on."""

    emit: Diary
    load_model: LoadModel
    before: Before
    outcome: Outcome

    # --- the frame: begin and end ----------------------------------------------------------------------------------------------

    def run(self) -> Outcome:
        """Train; never raises for what a user or a machine can cause."""
        try:
            self._begin()
            self._borrow_and_train()
        except (KeyboardInterrupt, Exception) as error:
            end_by_error(self.outcome, error, self.emit.stage)
            self._discard_if_asked(error)
        finally:
            self._close()
        return self.outcome

    def _begin(self) -> None:
        self.emit(
            "run_started",
            name=self.folder.name,
            pid=os.getpid(),
            process_started=process_start_time(),
            versions=library_versions(),
            resumed_from_step=self.checkpoint.step if self.checkpoint else None,
        )
        if self.ranks.is_main:
            attach_log(self.emit, self.config, self.folder, self.checkpoint.step if self.checkpoint else None)
        if not self.checkpoint:  # settings that turn out to fit no checkpoint must not take the place of the run's own
            self._write_parameters()
        for note in self.config.notes:
            self.emit("message", level="info", text=note)

    def _write_parameters(self) -> None:
        if self.ranks.is_main:
            write_json(self.folder.parameters, self.config.to_dict())

    def _close(self) -> None:
        outcome = self.outcome
        try:
            train_utils.free_memory()
            if self.ranks.is_main and outcome.step and (missing := save_summary(outcome, self.emit)):
                self.emit("message", level="warning", text=missing)
        except Exception as error:
            logger.debug("closing failed", exc_info=True)
            self.emit("message", level="warning", text=f"The graph and the summary could not be saved: {error}")
        self.emit(
            "run_ended",
            status=outcome.status,
            message=outcome.message,
            remedy=outcome.remedy,
            adapter=str(self.folder.path) if outcome.adapter_saved else "",
            step=outcome.step,
            loss=outcome.loss,
        )
        self.emit.close()

    def _stop_if_asked(self) -> None:
        if self.reader.read().wants_end:
            raise InterruptedEarly

    def _discard_if_asked(self, error: BaseException) -> None:
        """The user wanted nothing of it, before the first step."""
        if not isinstance(error, InterruptedEarly) or not self.ranks.is_main or not self.reader.read().discard:
            return
        try:
            self.outcome.end(DISCARDED, discard(self.folder, self.before))
        except OSError as failure:
            self.outcome.end(FAILED, f"Stop and discard: the folder {self.folder.path} could not be put back: {failure}.")

    # --- the middle: data, plan, adapter, training -----------------------------------------------------------------------------

    def _borrow_and_train(self) -> None:
        self.emit("stage", stage="loading", detail="loading the model")
        model, tokenizer = self.load_model()
        self.ranks.share(self._stop_if_asked)
        with train_utils.borrowed(model, tokenizer):
            setup = self._prepare(model, tokenizer)
            identity = identity_of(self.config, setup, model)
            if self.checkpoint and not self._can_resume(self.checkpoint, setup, identity, (model, tokenizer)):
                return
            if hasattr(model.config, "use_cache"):
                model.config.use_cache = False
            self.ranks.share(lambda: self._answer_before(model, tokenizer))
            self._train(setup, model, tokenizer, identity)

    def _prepare(self, model: Any, tokenizer: Any) -> RunSetup:
        self.emit("stage", stage="preparing", detail="reading the data")

        said = time.monotonic()

        def progress(share: float, what: str) -> None:
            nonlocal said
            self._stop_if_asked()
            if time.monotonic() - said > PROGRESS_SECONDS:
                said = time.monotonic()
                self.emit("stage", stage="preparing", detail=what, share=round(share, 3))

        def prepare(progress: Any = None) -> RunSetup:
            return prepare_run(self.config, model, tokenizer, world_size=self.ranks.world_size, progress=progress)

        made: list[RunSetup] = []
        self.ranks.share(lambda: made.append(prepare(progress)))
        setup = made[0] if made else prepare()  # the others find it prepared
        self.emit("prepared", report=setup.prepared.report.to_dict())
        self.emit("plan", **plan_facts(self.config, setup))
        for line in setup.entries.lines:
            self.emit("message", level="info", text=f"Packing: {line}.")
        for warning in setup.warnings:
            self.emit("message", level="warning", text=warning)
        return setup

    def _can_resume(self, checkpoint: Checkpoint, setup: RunSetup, identity: dict[str, Any], loaded: tuple[Any, Any]) -> bool:
        """Whether there are steps left; raises where the checkpoint does not fit."""
        changed = refuse_changes(checkpoint, identity, by_word=self.config.adapter.resume_changed)
        self.has_new_order = bool(changed)
        if changed:
            notes = continue_changed(checkpoint, setup.sampler, changed, identity)
        else:
            notes = continue_order(checkpoint, setup.sampler)
        plan, stop_at = setup.sampler.plan, self.config.checkpoints.stop_at_epoch
        if checkpoint.step >= plan.num_steps:
            self.ranks.share(lambda: self._finish_from(checkpoint, setup, *loaded))
            self.outcome.adapter_saved, self.outcome.step = True, checkpoint.step
            self.outcome.end(FINISHED, f"The training was finished; its adapter was made from {checkpoint.path.name}.")
            return False
        if 0 < stop_at <= plan.epoch_at(checkpoint.step):
            raise ValueError(
                f"Stop at epoch: {checkpoint.path.name} is at epoch {plan.epoch_at(checkpoint.step):.2f} already. Got: {stop_at:g}. "
                f"Write a later one, or 0 for off."
            )
        self._write_parameters()
        self.emit("message", level="info", text=f"Resuming at step {checkpoint.step} from {checkpoint.path.name}.")
        for note in notes:
            self.emit("message", level="warning" if changed else "info", text=note)
        if setup.sampler.journal or changed:
            self.emit("plan", **plan_facts(self.config, setup))
        return True

    def _finish_from(self, checkpoint: Checkpoint, setup: RunSetup, model: Any, tokenizer: Any) -> None:
        fitted = self._fit(model, setup, tokenizer)
        try:
            take_finished_result(self.folder, checkpoint, setup.sampler.plan, fitted)
        finally:
            fitted.undo()

    def _answer_before(self, model: Any, tokenizer: Any) -> None:
        """What the base model says; a resumed run has its answers already."""
        answered = {entry["prompt"] for entry in read_state(self.folder).samples if entry["when"] == "before"}
        if not self.checkpoint or not answered.issuperset(self.config.samples.prompts):
            Sampler(self.config, tokenizer, self.emit).answer(model, "before", 0, stop=self._stop_if_asked)

    def _train(self, setup: RunSetup, model: Any, tokenizer: Any, identity: dict[str, Any]) -> None:
        from transformers import set_seed

        self.emit("stage", stage="training", detail="setting up the adapter")
        set_seed(self.config.training.seed)
        fitted = self._fit(model, setup, tokenizer)
        try:
            self._train_fitted(setup, fitted, tokenizer, identity)
        finally:
            fitted.undo()

    def _train_fitted(self, setup: RunSetup, fitted: train_utils.Fitted, tokenizer: Any, identity: dict[str, Any]) -> None:
        trained, total = train_utils.count_parameters(fitted.model)
        self.emit("message", level="info", text=f"Training {trained:,} of {total:,} parameters ({trained / total:.2%}).")
        batch_loss = self._choose_route(setup, fitted.model, padding_id(tokenizer))
        callback, trainer = make_trainer(self, setup, fitted, batch_loss, tokenizer=tokenizer, identity=identity)
        self.emit("stage", stage="training", detail="")
        try:
            self._run_trainer(trainer, callback)
        finally:
            self.outcome.step = int(trainer.state.global_step)
            self.outcome.loss = None if self.outcome.step == 0 else callback.smoothed_loss
            trainer.optimizer = trainer.lr_scheduler = None
            trainer.accelerator.free_memory()
        if self.ranks.is_main and self.outcome.status != DISCARDED:
            self._answer_after(fitted.model, tokenizer)

    def _choose_route(self, setup: RunSetup, peft_model: Any, pad_id: int) -> BatchLoss:
        """Try on the model which way of computing its batches is exact; all processes take the main one's."""
        entries, train = setup.entries, setup.prepared.train

        def choose() -> Any:
            pieces = run_pieces(*entries.pieces(train, setup.prepared.lengths.tolist(), setup.sampler.longest_items()))
            trial = Trial(peft_model, pieces, pad_id, setup.precision, entries.has_borders)
            return choose_route(trial, self.config.batching.route)

        route = self.ranks.share(choose)
        for reason in route.reasons:
            self.emit("message", level="warning" if entries.has_borders else "info", text=reason)
        self.emit("message", level="info", text=route.words)
        training = self.config.training
        extras = Extras(training.neftune_alpha, training.label_smoothing, training.seed)
        return BatchLoss(peft_model, route, extras)

    def _answer_after(self, model: Any, tokenizer: Any) -> None:
        """Answers of the trained model; the training is done and saved, whatever happens here."""
        try:
            Sampler(self.config, tokenizer, self.emit).answer(model, "after", self.outcome.step)
        except (KeyboardInterrupt, Exception) as error:
            logger.debug("answering failed", exc_info=True)
            reason = "interrupted" if isinstance(error, KeyboardInterrupt) else str(error)
            self.emit("message", level="warning", text=f"The prompts could not be answered after the training: {reason}.")

    def _fit(self, model: Any, setup: RunSetup, tokenizer: Any) -> train_utils.Fitted:
        """The model made trainable by the method that was chosen: fresh, or with what was learned before."""
        device = next(model.parameters()).device
        size = setup.sampler.plan.batch_size
        wish = with_data(setup.wish, setup.prepared, tokenizer, padding_id(tokenizer), batch_size=size, device=device)
        if self.checkpoint:
            fitted = train_utils.refit(model, self.checkpoint.path, replace(wish, resuming=True))
        elif self.config.adapter.if_exists == "continue":
            fitted = train_utils.refit(model, self.folder.path, wish)
        else:
            fitted = train_utils.fit(model, wish)
        for note in fitted.notes:
            self.emit("message", level="info", text=note)
        return fitted

    # --- training, and keeping what was learned --------------------------------------------------------------------------------

    def _run_trainer(self, trainer: Any, callback: RunCallback) -> None:
        try:
            trainer.train(resume_from_checkpoint=str(self.checkpoint.path) if self.checkpoint else None)
        except (KeyboardInterrupt, Exception) as error:
            failed_step = int(trainer.state.global_step) + 1
            if not is_out_of_memory(error):
                self._rescue(trainer)
                raise
            forget_frames(error)
            trainer.model.zero_grad()
            train_utils.free_memory()
            self._rescue(trainer)
            memory = OutOfMemoryError(failed_step, trainer.plan.batch_size, self.config.data.cutoff)
            if not self.ranks.is_main:  # the main process will only see that this one is gone
                logger.error("Process %d: %s %s", self.ranks.index, memory, memory.remedy)
            raise memory from None
        stop = callback.stop
        if stop.kind == DISCARDED:
            self.outcome.end(DISCARDED, self.ranks.share(lambda: discard(self.folder, self.before)))
            return
        self.ranks.share(lambda: self._keep(trainer))
        self.ranks.share(lambda: self.rotate(is_over=True) if self.checkpoint else None)
        if stop.kind == KEPT:
            self.outcome.end(INTERRUPTED, f"{stop.words} What was learned is saved; choose 'resume' to go on.")
        else:
            self.outcome.end(FINISHED, stop.words or "The training is finished.")

    def _rescue(self, trainer: Any) -> None:
        """Keep what was learned before an error; if that fails too, the first error is the one to tell."""
        try:
            self._keep(trainer)
        except Exception as error:
            logger.debug("keeping failed", exc_info=True)
            self.emit("message", level="warning", text=str(error))

    def _keep(self, trainer: Any) -> None:
        """Make what was learned the adapter of this folder; nothing before the first step."""
        from .trainer import save_adapter

        step = trainer.state.global_step
        is_older = self.checkpoint is not None and step <= self.checkpoint.step and self.folder.has_adapter
        if not self.ranks.is_main or not step or is_older:
            return
        self.emit("stage", stage="saving", detail="writing the adapter")
        try:
            save_adapter(trainer.fitted, self.folder.path, is_result=True)
        except Exception as error:
            raise SaveError(self.folder.path, str(error) or type(error).__name__) from error
        self.outcome.adapter_saved = True
