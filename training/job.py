"""One run from settings to adapter: opens the folder, borrows the model, trains, saves, gives everything back.

Guarantee: whatever happens, the diary ends with ``run_ended`` and words on what happened, what was learned is kept, and the base
model is as it was before. Existing results are only touched as the user said under "If the name exists".
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import train_utils
from ..config import RunConfig
from ..data.collate import Collator, Samples, padding_id
from ..matplotgraph import save_graph
from ..runs.checkpoints import Checkpoint, delete_old, differences, newest_checkpoint
from ..runs.control import ControlReader
from ..runs.events import EventWriter
from ..runs.state import FAILED, FINISHED, INTERRUPTED, RunReader, process_start_time
from ..runs.store import RunFolder, open_run_folder, set_aside, write_json
from .callbacks import RunCallback, StepRules
from .errors import NotFiniteLossError, OutOfMemoryError, RunError, SaveError, is_out_of_memory
from .loss import StepLoss
from .samples import answer_prompts
from .setup import RunSetup, plan_facts, prepare_run

logger = logging.getLogger(__name__)

LoadModel = Callable[[], tuple[Any, Any]]
Listener = Callable[..., None]


class InterruptedEarly(Exception):
    """The user stopped the run before the first step."""


@dataclass
class Outcome:
    """How a run ended.

    Attributes:
        status: finished, interrupted or failed.
        message: what happened, in words.
        remedy: what to do about it.
        folder: the run's folder.
        step: optimizer steps done.
        loss: smoothed training loss at the end.
        adapter_saved: whether the folder holds what was learned.
    """

    status: str
    message: str
    folder: RunFolder
    remedy: str = ""
    step: int = 0
    loss: float | None = None
    adapter_saved: bool = False


@dataclass(frozen=True)
class Ranks:
    """This process among those that train together."""

    index: int
    world_size: int

    @property
    def is_main(self) -> bool:
        """Whether this process writes."""
        return self.index == 0


def current_ranks() -> Ranks:
    """From what `accelerate launch` (torchrun) put into the environment; a single process otherwise."""
    return Ranks(int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1)))


def run_job(
    config: RunConfig, load_model: LoadModel, *, listener: Listener | None = None, on_folder: Callable[[RunFolder], None] | None = None
) -> Outcome:
    """Run a training to its end.

    Args:
        config: all settings.
        load_model: gives model and tokenizer; a loaded model is borrowed and given back.
        listener: also takes every event, as ``listener(event, **fields)``.
        on_folder: called with the run's folder as soon as it is open.

    Returns:
        How it ended. Mistakes that show only while it runs are an outcome ``failed`` with message and remedy.

    Raises:
        ConfigError: the settings have problems.
        ValueError: the name exists and the user did not say what to do.
        OSError: the folder cannot be made.
    """
    config.require_valid()
    ranks = current_ranks()
    folder = _open_folder(config, ranks)
    if on_folder:
        on_folder(folder)
    return _Run(config, load_model, folder, ranks, listener).run()


def _open_folder(config: RunConfig, ranks: Ranks) -> RunFolder:
    adapters_dir = Path(config.run.adapters_dir).expanduser().absolute()
    if ranks.is_main:
        folder = open_run_folder(adapters_dir, config.adapter.name, config.adapter.if_exists)
        if config.adapter.if_exists == "continue":
            set_aside(folder)
    if ranks.world_size == 1:
        return folder
    from accelerate import PartialState
    from accelerate.utils import broadcast_object_list

    PartialState()
    name = broadcast_object_list([str(folder.path) if ranks.is_main else ""])[0]
    return RunFolder(Path(name))


class _Run:
    """The state of one run while it goes on."""

    def __init__(
        self, config: RunConfig, load_model: LoadModel, folder: RunFolder, ranks: Ranks, listener: Listener | None
    ) -> None:
        self.config = config
        self.load_model = load_model
        self.folder = folder
        self.ranks = ranks
        self.listener = listener
        self.writer = EventWriter(folder.events if ranks.is_main else None)
        self.outcome = Outcome(FAILED, "", folder)
        self.checkpoint: Checkpoint | None = None
        self.controls = ControlReader(folder.control)

    def emit(self, event: str, **fields: Any) -> None:
        """Write an event and tell the listener."""
        self.writer(event, **fields)
        if self.listener and self.ranks.is_main:
            self.listener(event, **fields)

    # --- the frame: begin, end, errors -----------------------------------------------------------------------------------------

    def run(self) -> Outcome:
        """Train; never raises for what a user or a machine can cause."""
        try:
            self._begin()
            self._borrow_and_train()
        except (KeyboardInterrupt, InterruptedEarly):
            self._end(INTERRUPTED, "Interrupted by the user.")
        except RunError as error:
            self._end(FAILED, str(error), error.remedy)
        except (ValueError, OSError) as error:
            logger.debug("run failed", exc_info=True)
            self._end(FAILED, str(error))
        except Exception as error:
            logger.exception("The run stopped on an unexpected error")
            self._end(FAILED, f"Unexpected error: {type(error).__name__}: {error}", "Please report it with the log above.")
        finally:
            train_utils.free_memory()
            self._close()
        return self.outcome

    def _end(self, status: str, message: str, remedy: str = "") -> None:
        self.outcome.status, self.outcome.message, self.outcome.remedy = status, message, remedy

    def _begin(self) -> None:
        if self.config.adapter.if_exists == "resume":
            self.checkpoint = newest_checkpoint(self.folder)
        if self.ranks.is_main:
            self.folder.control.unlink(missing_ok=True)
            write_json(self.folder.parameters, self.config.to_dict())
        self.emit(
            "run_started",
            name=self.folder.name,
            pid=os.getpid(),
            process_started=process_start_time(),
            versions=_versions(),
            resumed_from_step=self.checkpoint.step if self.checkpoint else None,
        )
        for note in self.config.notes:
            self.emit("message", level="info", text=note)

    def _close(self) -> None:
        outcome = self.outcome
        fields = {"message": outcome.message, "remedy": outcome.remedy, "step": outcome.step, "loss": outcome.loss}
        try:
            if self.ranks.is_main and outcome.step:
                self._save_summary()
        except OSError as error:
            self.emit("message", level="warning", text=f"The graph could not be saved: {error}")
        adapter = str(self.folder.path) if outcome.adapter_saved else ""
        self.emit("run_ended", status=outcome.status, adapter=adapter, **fields)
        self.writer.close()

    def _save_summary(self) -> None:
        state = RunReader(self.folder).read()
        save_graph(self.folder, state)
        last = state.last_step
        summary = {
            "status": self.outcome.status,
            "message": self.outcome.message,
            "loss": last.get("loss"),
            "smoothed_loss": last.get("smoothed_loss"),
            "learning_rate": last.get("lr"),
            "epoch": last.get("epoch"),
            "current_steps": last.get("step"),
            "plan": {key: value for key, value in state.plan.items() if key not in ("t", "event", "learning_rates")},
            "data": state.report,
            "versions": _versions(),
        }
        write_json(self.folder.log, summary)

    def _stop_if_asked(self) -> None:
        if self.controls.read().stop:
            raise InterruptedEarly

    # --- the middle: data, plan, adapter, training -----------------------------------------------------------------------------

    def _borrow_and_train(self) -> None:
        self.emit("stage", stage="loading", detail="loading the model")
        model, tokenizer = self.load_model()
        self._stop_if_asked()
        with train_utils.borrowed(model, tokenizer):
            setup = self._prepare(model, tokenizer)
            self._check_checkpoint(setup, model)
            if hasattr(model.config, "use_cache"):
                model.config.use_cache = False
            self._answer(model, tokenizer, "before")
            self._stop_if_asked()
            self._train(setup, model, tokenizer)

    def _prepare(self, model: Any, tokenizer: Any) -> RunSetup:
        self.emit("stage", stage="preparing", detail="reading the data")

        def progress(rows: int, what: str) -> None:
            self._stop_if_asked()
            if rows and rows % 5000 == 0:
                self.emit("stage", stage="preparing", detail=f"{what}: {rows} rows")

        if self.ranks.is_main:
            setup = prepare_run(self.config, model, tokenizer, world_size=self.ranks.world_size, progress=progress)
        if self.ranks.world_size > 1:  # the others find it prepared
            from accelerate import PartialState

            PartialState().wait_for_everyone()
            if not self.ranks.is_main:
                setup = prepare_run(self.config, model, tokenizer, world_size=self.ranks.world_size)
        self.emit("prepared", report=setup.prepared.report.to_dict())
        self.emit("plan", **plan_facts(self.config, setup))
        for warning in setup.warnings:
            self.emit("message", level="warning", text=warning)
        return setup

    def _identity(self, setup: RunSetup, model: Any) -> dict[str, Any]:
        """What must be the same for an exact continuation."""
        plan, adapter = setup.sampler.plan, self.config.adapter
        return {
            "data": setup.prepared.fingerprint,
            "num_samples": plan.num_entries,
            "seed": self.config.training.seed,
            "world_size": plan.world_size,
            "accumulation": plan.accumulation,
            "batch_size": plan.batch_size,
            "model": f"{train_utils.model_identity(model)}, {train_utils.count_parameters(model)[1]} parameters",
            "adapter": f"rank {adapter.rank}, alpha {adapter.alpha}, {', '.join(sorted(setup.targets))}",
        }

    def _check_checkpoint(self, setup: RunSetup, model: Any) -> None:
        if self.checkpoint is None:
            return
        changed = differences(self.checkpoint, self._identity(setup, model))
        if changed:
            raise ValueError(
                f"If the name exists: {self.checkpoint.path.name} cannot be resumed exactly: {'; '.join(changed)}. "
                f"Put these settings back, or choose 'continue' to train the adapter further with the new ones (a new order and a "
                f"fresh optimizer)."
            )
        if self.checkpoint.step >= setup.sampler.plan.num_steps:
            raise ValueError(
                f"Epochs: this run is finished ({self.checkpoint.step} of {setup.sampler.plan.num_steps} steps), there is nothing to "
                f"resume. Got: {self.config.training.epochs:g}. Raise Epochs, or choose 'continue', 'replace' or 'new name'."
            )
        self.emit("message", level="info", text=f"Resuming at step {self.checkpoint.step} from {self.checkpoint.path.name}.")

    def _answer(self, model: Any, tokenizer: Any, when: str) -> None:
        settings = self.config.samples
        if not settings.prompts or not self.ranks.is_main:
            return
        self.emit("stage", stage="sampling", detail=f"answering {len(settings.prompts)} prompts {when} the training")
        for prompt, answer in answer_prompts(model, tokenizer, settings.prompts, settings.max_new_tokens):
            self.emit("sample", when=when, prompt=prompt, answer=answer)

    def _train(self, setup: RunSetup, model: Any, tokenizer: Any) -> None:
        from transformers import set_seed

        self.emit("stage", stage="training", detail="setting up the adapter")
        set_seed(self.config.training.seed)
        adapter = self.config.adapter
        if adapter.if_exists == "continue":
            peft_model = train_utils.continue_lora(model, self.folder.path)
        else:
            peft_model = train_utils.add_lora(
                model, rank=adapter.rank, alpha=adapter.alpha, dropout=adapter.dropout, targets=setup.targets
            )
        trained, total = train_utils.count_parameters(peft_model)
        self.emit("message", level="info", text=f"Training {trained:,} of {total:,} parameters ({trained / total:.2%}).")
        callback, trainer = self._make_trainer(setup, peft_model, tokenizer, self._identity(setup, model))
        self.emit("stage", stage="training", detail="")
        try:
            self._run_trainer(trainer, callback)
        finally:
            self.outcome.step = int(trainer.state.global_step)
            self.outcome.loss = None if self.outcome.step == 0 else callback.smoothed_loss
            trainer.optimizer = trainer.lr_scheduler = None
            trainer.accelerator.free_memory()
        self._answer(peft_model, tokenizer, "after")

    def _make_trainer(self, setup: RunSetup, peft_model: Any, tokenizer: Any, identity: dict[str, Any]) -> tuple[RunCallback, Any]:
        from .arguments import training_arguments
        from .trainer import PlannedTrainer

        config, checkpoints = self.config, self.config.checkpoints
        eval_data = setup.prepared.eval
        rules = StepRules(
            checkpoints.save_every_steps,
            checkpoints.save_every_epoch,
            checkpoints.eval_every_steps,
            eval_data is not None,
            checkpoints.stop_at_loss,
        )
        callback = RunCallback(setup.sampler.plan, rules, self.emit, self.controls)
        if self.checkpoint:
            callback.smoothed.load(self.checkpoint.marker.get("smoothed", []))

        def marker() -> dict[str, Any]:
            state = {"identity": identity, "cause": callback.save_cause, "smoothed": callback.smoothed.state()}
            return {**state, "step": trainer.state.global_step, "epoch": trainer.state.epoch, "loss": callback.smoothed_loss}

        def after_save(path: Path) -> None:
            step = trainer.state.global_step
            self.emit("checkpoint", step=step, epoch=trainer.state.epoch, folder=path.name, cause=callback.save_cause)
            delete_old(self.folder, checkpoints.keep_last)

        def on_evaluated(loss: StepLoss) -> None:
            step = trainer.state.global_step
            self.emit("evaluation", step=step, epoch=trainer.state.epoch, loss=loss.mean, trained_tokens=loss.num_trained)

        trainer = PlannedTrainer(
            model=peft_model,
            args=training_arguments(config, setup, self.folder, peft_model),
            sampler=setup.sampler,
            train_samples=Samples(setup.prepared.train),
            eval_samples=None if eval_data is None else Samples(eval_data),
            collator=Collator(padding_id(tokenizer)),
            schedule=config.training.schedule,
            warmup_steps=setup.warmup_steps,
            marker=marker,
            after_save=after_save,
            on_evaluated=on_evaluated,
            callbacks=[callback],
        )
        callback.trainer = trainer
        return callback, trainer

    def _run_trainer(self, trainer: Any, callback: RunCallback) -> None:
        """Train, and keep what was learned however it ends."""
        try:
            trainer.train(resume_from_checkpoint=str(self.checkpoint.path) if self.checkpoint else None)
        except (KeyboardInterrupt, NotFiniteLossError, SaveError):
            self._keep(trainer)
            raise
        except Exception as error:
            if not is_out_of_memory(error):
                self._keep(trainer)
                raise
            failed_step = int(trainer.state.global_step) + 1
            error.__traceback__ = None  # its frames hold the tensors that must be freed
            trainer.model.zero_grad()
            train_utils.free_memory()
            self._keep(trainer)
            raise OutOfMemoryError(failed_step, setup_batch(trainer), self.config.data.cutoff) from None
        self._keep(trainer)
        if callback.stop_cause.startswith("Interrupted"):
            self._end(INTERRUPTED, f"{callback.stop_cause} What was learned is saved; choose 'resume' to go on.")
        else:
            self._end(FINISHED, callback.stop_cause or "The training is finished.")

    def _keep(self, trainer: Any) -> None:
        """Make what was learned the adapter of this folder; nothing before the first step."""
        from .trainer import save_adapter

        if not trainer.state.global_step or (self.checkpoint and trainer.state.global_step <= self.checkpoint.step):
            return
        if not self.ranks.is_main:
            return
        self.emit("stage", stage="saving", detail="writing the adapter")
        try:
            save_adapter(trainer.accelerator.unwrap_model(trainer.model, keep_torch_compile=False), self.folder.path)
        except Exception as error:
            raise SaveError.from_exception(error, self.folder.path) from error
        self.outcome.adapter_saved = True


def setup_batch(trainer: Any) -> int:
    """True Batch Size that the run used."""
    return int(trainer.plan.batch_size)


def _versions() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for name in ("torch", "transformers", "peft", "accelerate", "bitsandbytes"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
