"""What happens at each optimizer step beside the training itself: events, controls, evaluations, saves and stops, all by the plan.

The callback owns progress: Trainer's own epoch, total and time left are wrong for a planned stream (it counts one epoch).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from transformers import TrainerCallback

from ..hybrid_batching import RunPlan
from ..runs.control import Control, ControlReader
from .errors import NotFiniteLossError
from .loss import StepLoss
from .phases import PhaseWatch

SMOOTHING_STEPS = 10


@dataclass(frozen=True)
class StepRules:
    """When to evaluate, save and stop.

    Attributes:
        save_every_steps: 0 = off.
        save_every_epoch: also at each epoch's end.
        eval_every_steps: 0 = at each epoch's end.
        has_eval: whether there are held-out samples.
        stop_at_loss: smoothed loss at or under which the run stops; 0 = off.
        ramp_at_loss: smoothed loss at or under which the learning rate begins to ramp down; 0 = off.
    """

    save_every_steps: int
    save_every_epoch: bool
    eval_every_steps: int
    has_eval: bool
    stop_at_loss: float
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
    """Seconds per step, smoothed; evaluation and saving do not count."""

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


class RunCallback(TrainerCallback):
    """Watches and steers a run.

    Args:
        plan: the run's plan.
        rules: when to evaluate, save and stop.
        emit: takes events.
        controls: reads what the user asks for.
        phases: the phases of the run.
    """

    def __init__(self, plan: RunPlan, rules: StepRules, emit: Any, controls: ControlReader, phases: PhaseWatch) -> None:
        self._take_plan(plan)
        self.rules = rules
        self.emit = emit
        self.controls = controls
        self.phases = phases
        self.trainer: Any = None
        self.plan_facts: Callable[[], dict[str, Any]] = dict  # the plan as it is now
        self.smoothed = SmoothedLoss()
        self.smoothed_loss = math.nan
        self.last_loss = math.nan
        self.stop_cause = ""
        self.save_cause = ""
        self._pace = Pace()
        self._served_saves = 0
        self._wishes = Control()
        self._loss = StepLoss(math.nan, 0, 0)
        self._rate = 0.0

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
        wishes, is_due = self._agree(bool(cause))
        if self.phases.switch(step, cause if is_due else "", wishes.phase_requests):
            self._take_plan(self.trainer.plan)
            self.trainer.align_schedule(step)
            self.emit("plan", **self.plan_facts())
        self._decide(step, wishes, control)
        return control

    def _report(self, step: int) -> None:
        seconds = self._pace.end()
        self.last_loss = self._loss.mean
        self.smoothed_loss = self.smoothed.add(self._loss)
        self.emit(
            "step",
            step=step,
            epoch=round(self.plan.epoch_at(step), 5),
            loss=round(self.last_loss, 6),
            smoothed_loss=round(self.smoothed_loss, 6),
            lr=self._rate,
            grad_norm=self.trainer.last_grad_norm,
            tokens=self._loss.num_tokens,
            trained_tokens=self._loss.num_trained,
            padding=self._loss.num_padding,
            tokens_per_second=round(self._loss.num_tokens / seconds, 1) if seconds else None,
            seconds=round(seconds, 4),
            time_left=round(self._pace.seconds_per_step * (self.plan.num_steps - step), 1),
        )

    def _watch_for_ramp(self, step: int) -> None:
        """Note the step at which the smoothed loss has come down far enough; the next one has the full rate still."""
        limit = self.rules.ramp_at_loss
        if limit > 0 and self.trainer.trigger_step is None and self.smoothed.is_full and self.smoothed_loss <= limit:
            self.trainer.trigger_step = step
            text = f"Step {step}: the smoothed loss {self.smoothed_loss:.4f} reached Ramp-down at loss {limit:g}."
            self.emit("message", level="info", text=f"{text} The learning rate comes down now.")

    def _agree(self, is_due: bool) -> tuple[Control, bool]:
        """What the user asks for, and whether the loss ends the phase: rank 0 decides, all ranks get the same answer."""
        accelerator = self.trainer.accelerator
        wishes = self.controls.read() if accelerator.is_main_process else Control()
        if accelerator.num_processes > 1:
            stop_at_loss = -1.0 if wishes.stop_at_loss is None else wishes.stop_at_loss
            told = [float(wishes.stop), float(wishes.save_requests), stop_at_loss, float(wishes.phase_requests), float(is_due)]
            numbers = torch.tensor(told, dtype=torch.float64, device=accelerator.device)
            torch.distributed.broadcast(numbers, src=0)
            stop, saves, loss, requests, due = numbers.tolist()
            wishes, is_due = Control(bool(stop), int(saves), None if loss < 0 else loss, int(requests)), bool(due)
        for name, value in asdict(wishes).items():
            if value != getattr(self._wishes, name):
                self.emit("control", name=name, value=value)
        self._wishes = wishes
        return wishes, is_due

    def _decide(self, step: int, wishes: Control, control: Any) -> None:
        rules, is_last = self.rules, step >= self.plan.num_steps
        at_epoch_end = step in self._epoch_ends
        # a run that has reached its end is finished, whatever else was asked for
        self.stop_cause = "" if is_last else self._stop_cause(step, wishes)
        if wishes.save_requests > self._served_saves:
            self._served_saves, self.save_cause = wishes.save_requests, "user"
        elif self.stop_cause:
            self.save_cause = "stop"
        elif (at_epoch_end and rules.save_every_epoch) or is_last:
            self.save_cause = "epoch"
        elif rules.save_every_steps and step % rules.save_every_steps == 0:
            self.save_cause = "steps"
        else:
            self.save_cause = ""
        due = step % rules.eval_every_steps == 0 if rules.eval_every_steps else at_epoch_end
        control.should_save = bool(self.save_cause)
        is_end = is_last or bool(self.stop_cause and not wishes.stop)  # who interrupts does not want to wait
        control.should_evaluate = rules.has_eval and (due or is_end or self._phase_ends(step))
        control.should_training_stop = bool(self.stop_cause) or is_last

    def _phase_ends(self, step: int) -> bool:
        sampler = self.trainer.sampler
        return bool(step < self.plan.num_steps and sampler.stage_at(step) != sampler.stage_at(step - 1))

    def _stop_cause(self, step: int, wishes: Control) -> str:
        if wishes.stop:
            return "Interrupted by the user."
        limit = self.rules.stop_at_loss if wishes.stop_at_loss is None else wishes.stop_at_loss
        if limit > 0 and self.smoothed.is_full and self.smoothed_loss <= limit:
            return f"The smoothed loss {self.smoothed_loss:.4f} reached Stop at loss {limit:g}."
        if self.trainer.is_ramped_down(step):
            return "The learning rate has come down to 0, as Ramp-down at loss asked."
        return ""
