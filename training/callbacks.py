"""What happens at each optimizer step beside the training itself: events, controls, evaluations, saves and stops, all by the plan.

The callback owns progress: Trainer's own epoch, total and time left are wrong for a planned stream (it counts one epoch).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from transformers import TrainerCallback

from ..batching.planning import HAIR
from ..hybrid_batching import RunPlan
from ..runs.control import Control
from ..train_utils import free_memory
from .controls import Controls
from .errors import NotFiniteLossError
from .gauge import MemoryGauge
from .loss import StepLoss
from .pausing import Lend, answering, lend_to_nobody, wait_for_change
from .phases import PhaseWatch
from .saves import BEST, STOP, USER, SaveWatch, StepFacts

SMOOTHING_STEPS = 10
KEPT, DISCARDED, REACHED = "kept", "discarded", "reached"  # how a run can stop before its plan ends


@dataclass(frozen=True)
class StepRules:
    """When to evaluate and stop.

    Attributes:
        eval_every_steps: 0 = at each epoch's end.
        has_eval: whether there are held-out samples.
        stop_at_loss: smoothed loss at or under which the run stops; 0 = off.
        stop_at_epoch: epochs after which the run stops; 0 = off.
        ramp_at_loss: smoothed loss at or under which the learning rate begins to ramp down; 0 = off.
    """

    eval_every_steps: int
    has_eval: bool
    stop_at_loss: float
    stop_at_epoch: float = 0.0
    ramp_at_loss: float = 0.0


class SmoothedLoss:
    """Mean over the last optimizer steps, weighted by trained tokens."""

    def __init__(self, num_steps: int = SMOOTHING_STEPS) -> None:
        self._num_steps = num_steps
        self._window: list[StepLoss] = []

    def add(self, loss: StepLoss) -> float:
        """Take in a step; the smoothed loss including it."""
        self._window = [*self._window, loss][-self._num_steps :]
        return sum(entry.loss_sum for entry in self._window) / max(1, sum(entry.num_trained for entry in self._window))

    @property
    def is_full(self) -> bool:
        """Whether the window has all its steps; one noisy step must not stop a run."""
        return len(self._window) == self._num_steps

    def state(self) -> list[list[float]]:
        """For a checkpoint."""
        return [[entry.loss_sum, entry.num_trained, entry.num_tokens] for entry in self._window]

    def load(self, state: list[list[float]]) -> None:
        """From a checkpoint."""
        self._window = [StepLoss(loss, int(trained), int(tokens)) for loss, trained, tokens in state]


class Pace:
    """Seconds per step, smoothed; evaluation, saving and pauses do not count."""

    def __init__(self) -> None:
        self._begun = time.monotonic()
        self.seconds_per_step = 0.0

    def begin(self) -> None:
        """A step begins."""
        self._begun = time.monotonic()

    def end(self) -> float:
        """A step ends; its seconds."""
        seconds = time.monotonic() - self._begun
        weight = 0.1 if self.seconds_per_step else 1.0
        self.seconds_per_step += weight * (seconds - self.seconds_per_step)
        return seconds


@dataclass
class Stop:
    """Why a run ends before its plan does.

    Attributes:
        kind: kept or discarded (the user's word), reached (a rule), "" = it does not.
        words: for the user.
    """

    kind: str = ""
    words: str = ""

    def __bool__(self) -> bool:
        return bool(self.kind)


class RunCallback(TrainerCallback):
    """Watches and steers a run.

    Args:
        plan: the run's plan.
        rules: when to evaluate and stop.
        emit: takes events.
        controls: what the user asks for.
        phases: the phases of the run.
        saves: decides on checkpoints.
    """

    def __init__(
        self, plan: RunPlan, rules: StepRules, emit: Any, controls: Controls, phases: PhaseWatch, saves: SaveWatch
    ) -> None:
        self._take_plan(plan)
        self.rules = rules
        self.emit = emit
        self.controls = controls
        self.phases = phases
        self.saves = saves
        self.trainer: Any = None
        self.plan_facts: Callable[[], dict[str, Any]] = dict  # the plan as it is now
        self.answer_samples: Callable[[int], None] = lambda step: None  # where they are due
        self.lend: Lend = lend_to_nobody
        self.smoothed = SmoothedLoss()
        self.smoothed_loss = math.nan
        self.last_loss = math.nan
        self.stop = Stop()
        self.save_cause = ""
        self._pace = Pace()
        self._loss = StepLoss(math.nan, 0, 0)
        self._rate = 0.0
        self._evaluated: tuple[int, float] = (-1, math.nan)
        self._gauge: MemoryGauge | None = None

    def _take_plan(self, plan: RunPlan) -> None:
        self.plan = plan
        self._epoch_ends = frozenset(plan.epoch_ends)

    # --- one step --------------------------------------------------------------------------------------------------------------

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Say which phase a run begins with; a resumed one has said so."""
        if state.global_step == 0:
            self.phases.begin()
            if self.rules.has_eval:
                self.trainer.evaluate()  # what the run begins with

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Start the clock of a step."""
        self._pace.begin()

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Look at loss and gradient before the weights move, so that a NaN never reaches them."""
        trainer, step = self.trainer, state.global_step + 1
        self._loss = trainer.meter.read()
        self._rate = float(trainer.optimizer.param_groups[0]["lr"])
        if not math.isfinite(self._loss.mean):
            raise NotFiniteLossError("loss", self._loss.mean, step)
        norm = trainer.last_grad_norm
        # under float16 a gradient may overflow: its scaler skips that step and lowers the scale
        if norm is not None and not math.isfinite(norm) and trainer.accelerator.scaler is None:
            raise NotFiniteLossError("gradient", norm, step)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        """Report the step, then decide what follows it."""
        step = state.global_step
        state.epoch = self.plan.epoch_at(step)
        if self.trainer.lr_scheduler.last_epoch != step:
            self.trainer.align_schedule(step)
        self._report(step)
        self._watch_for_ramp(step)
        cause = self.phases.add(step, self._loss)
        accelerator = self.trainer.accelerator
        wishes, (is_due, time_is_up) = self.controls.take(accelerator, step, bool(cause), self.saves.time_is_up)
        self._scale(step, wishes)
        self._switch(step, cause if is_due else "", wishes)
        self._decide(step, wishes, control, time_is_up)
        return control

    def _report(self, step: int) -> None:
        seconds = self._pace.end()
        self.saves.add_time(seconds)
        self.last_loss = self._loss.mean
        self.smoothed_loss = self.smoothed.add(self._loss)
        self.emit(
            "step",
            step=step,
            epoch=round(self.plan.epoch_at(step), 5),
            loss=round(self.last_loss, 6),
            smoothed_loss=round(self.smoothed_loss, 6),
            lr=self._rate,
            lr_scale=self.trainer.lr_scale,
            grad_norm=self.trainer.last_grad_norm,
            tokens=self._loss.num_tokens,
            trained_tokens=self._loss.num_trained,
            padding=self._loss.num_padding,
            tokens_per_second=round(self._loss.num_tokens / seconds, 1) if seconds else None,
            seconds=round(seconds, 4),
            time_left=round(self._pace.seconds_per_step * (self.plan.num_steps - step), 1),
            **self._memory(),
        )

    def _memory(self) -> dict[str, int]:
        """The bytes that the run takes, where it is time to look."""
        if self._gauge is None:
            self._gauge = MemoryGauge(self.trainer.args.device)
        taken = self._gauge.read()
        return {} if taken is None else {"memory": taken}

    def _watch_for_ramp(self, step: int) -> None:
        """Note the step at which the smoothed loss has come down far enough; the next one has the full rate still."""
        limit = self.rules.ramp_at_loss
        if limit > 0 and self.trainer.trigger_step is None and self.smoothed.is_full and self.smoothed_loss <= limit:
            self.trainer.trigger_step = step
            text = f"Step {step}: the smoothed loss {self.smoothed_loss:.4f} reached Ramp-down at loss {limit:g}."
            self.emit("message", level="info", text=f"{text} The learning rate comes down now.")

    # --- what the user asks for ------------------------------------------------------------------------------------------------

    def _scale(self, step: int, wishes: Control) -> None:
        """A new scale of the learning rate holds from the next step on."""
        if wishes.lr_scale != self.trainer.lr_scale:
            self.trainer.lr_scale = wishes.lr_scale
            self.trainer.align_schedule(step)

    def _switch(self, step: int, cause: str, wishes: Control) -> None:
        """Let the next phase begin, if a loss or the user says so."""
        if self.phases.switch(step, cause, wishes.phase_requests):
            self._take_plan(self.trainer.plan)
            self.trainer.align_schedule(step)
            self.emit("plan", **self.plan_facts())

    def _wants_evaluation(self) -> bool:
        """Whether the user asked for an evaluation, and there is something to evaluate with."""
        is_asked = self.controls.is_asked("evaluate_requests")
        if is_asked and not self.rules.has_eval:
            text = "Evaluate now: this run has no evaluation data. Give the next one an Evaluation data set or Evaluation share."
            self.emit("message", level="info", text=text)
        return is_asked and self.rules.has_eval

    def _decide(self, step: int, wishes: Control, control: Any, time_is_up: bool) -> None:
        rules, is_last = self.rules, step >= self.plan.num_steps
        at_epoch_end = step in self._epoch_ends
        # a run that has reached its end is finished, whatever else was asked for
        self.stop = Stop() if is_last and not wishes.discard else self._stop_of(step, wishes)
        facts = StepFacts(step, is_last, at_epoch_end, self.smoothed_loss, self.smoothed.is_full, time_is_up)
        self.save_cause = self.saves.cause(facts, asked=self.controls.is_asked("save_requests"), stops=bool(self.stop))
        asked = self._wants_evaluation()
        is_discarded = self.stop.kind == DISCARDED
        control.should_save = bool(self.save_cause) and not is_discarded
        due = step % rules.eval_every_steps == 0 if rules.eval_every_steps else at_epoch_end
        is_end = is_last or self.stop.kind == REACHED  # who stops it does not want to wait
        wanted = due or asked or is_end or self.phases.ends_at(step)
        control.should_evaluate = rules.has_eval and wanted and not is_discarded
        control.should_training_stop = bool(self.stop) or is_last

    def _stop_of(self, step: int, wishes: Control) -> Stop:
        if wishes.discard:
            return Stop(DISCARDED, "Stopped and discarded by the user.")
        if wishes.stop:
            return Stop(KEPT, "Interrupted by the user.")
        limit = self.rules.stop_at_loss if wishes.stop_at_loss is None else wishes.stop_at_loss
        if limit > 0 and self.smoothed.is_full and self.smoothed_loss <= limit:
            return Stop(REACHED, f"The smoothed loss {self.smoothed_loss:.4f} reached Stop at loss {limit:g}.")
        limit, epoch = (
            self.rules.stop_at_epoch if wishes.stop_at_epoch is None else wishes.stop_at_epoch,
            self.plan.epoch_at(step),
        )
        if limit > 0 and epoch >= limit - HAIR:
            return Stop(REACHED, f"Epoch {epoch:.2f} of {self.plan.num_epochs:g} reached Stop at epoch {limit:g}.")
        if self.trainer.is_ramped_down(step):
            return Stop(REACHED, "The learning rate has come down to 0, as Ramp-down at loss asked.")
        return Stop()

    # --- evaluations and saves -------------------------------------------------------------------------------------------------

    @property
    def eval_loss(self) -> float | None:
        """Loss on the held-out samples at the present step; None if it was not measured."""
        step, loss = self._evaluated
        return loss if step == self.trainer.state.global_step else None

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        """The best evaluation so far may be worth a checkpoint of its own."""
        step, loss = state.global_step, float(kwargs["metrics"]["eval_loss"])
        self._evaluated = step, loss
        if step and self.saves.evaluated(loss) and not control.should_save:
            self.save_cause, control.should_save = BEST, True
        return control

    # --- between two steps -----------------------------------------------------------------------------------------------------

    def rest(self, step: int, control: Any) -> None:
        """What comes after the saves and evaluations of a step, before the next one; must be called on all ranks."""
        if control.should_training_stop:
            return
        self.answer_samples(step)
        if self.controls.wishes.pause:
            self._pause(step, control)

    def _pause(self, step: int, control: Any) -> None:
        """Wait until the user lets the run go on; what is asked for meanwhile is done at once."""
        self.emit("paused", step=step)
        begun = time.monotonic()
        accelerator = self.trainer.accelerator
        while self.controls.wishes.pause and not self.stop:
            with answering(self.trainer, fresh=True), self.lend(self._say):
                wait_for_change(lambda: self.controls.take(accelerator, step)[0], self.controls.wishes)
            self._serve(step, self.controls.wishes, control)
        free_memory()  # what the replies have left behind
        self.emit("unpaused", step=step, seconds=round(time.monotonic() - begun, 3))

    def _say(self, text: str) -> None:
        self.emit("stage", stage="training", detail=text)

    def _serve(self, step: int, wishes: Control, control: Any) -> None:
        """Do what a user asks of a run that waits."""
        self._scale(step, wishes)
        self._switch(step, "", wishes)
        ends = wishes.discard or wishes.stop
        self.stop = self._stop_of(step, wishes) if ends else Stop()
        if self._wants_evaluation() and not ends:
            self.trainer.evaluate()
        cause = USER if self.controls.is_asked("save_requests") else STOP if ends else ""
        if (cause or control.should_save) and not wishes.discard:
            self.save_cause = cause or self.save_cause
            self.trainer.save_now()
        control.should_save = False
        control.should_training_stop = bool(self.stop)
