"""Watches the phases of a run: says when one begins, and lets the next one begin by loss or at the user's word.

Guarantee: all ranks switch at the same batch, since they decide by the same numbers (losses over all ranks, the main process's wishes).
Price: one addition per step.
"""

from __future__ import annotations

from typing import Any

from ..batching.course import SMOOTHING_STEPS, SWITCHES
from ..batching.trigger import LossWindow, loss_cause
from ..hybrid_batching import HybridBatchSampler
from .loss import StepLoss


class PhaseWatch:
    """The phases of a run that goes on.

    Args:
        sampler: the run's batches.
        emit: takes events.
    """

    def __init__(self, sampler: HybridBatchSampler, emit: Any) -> None:
        self._sampler = sampler
        self._emit = emit
        self._window = self._window_of(0)
        self._served = 0
        self._decided_at: int | None = None
        self._warned: set[int] = set()

    def _window_of(self, stage: int) -> LossWindow:
        """An empty one, as long as the transition that ends the phase asks for."""
        transitions = self._sampler.course.transitions
        return LossWindow(transitions[stage].smoothing if stage < len(transitions) else SMOOTHING_STEPS)

    def begin(self) -> None:
        """The run begins, with its first phase; not where it is resumed."""
        self._say_begin(0)

    def add(self, step: int, loss: StepLoss) -> str:
        """Take in a step.

        Args:
            step: optimizer steps done.
            loss: of the last of them, over all ranks.

        Returns:
            Why the loss ends the phase now, in words; "" if it does not.
        """
        sampler = self._sampler
        if step >= sampler.plan.num_steps:
            return ""
        if self.ends_at(step):
            self._window = self._window_of(sampler.stage_at(step))
            self._say_begin(step)
            self._decided_at = None
            return ""
        self._window.add(loss.loss_sum, loss.num_trained)
        if self._decided_at is not None:
            return ""
        stage = sampler.stage_at(step)
        in_stage = sampler.plan.epoch_at(step) - sampler.plan.epoch_at(self._stage_begin(stage))
        self._warn_if_below(stage, in_stage)
        return loss_cause(sampler.course, stage, in_stage, self._window)

    def ends_at(self, step: int) -> bool:
        """Whether another phase begins after ``step`` optimizer steps."""
        sampler = self._sampler
        return bool(step < sampler.plan.num_steps and sampler.stage_at(step) != sampler.stage_at(step - 1))

    def switch(self, step: int, cause: str, num_requests: int) -> bool:
        """Let the next phase begin, if a loss or the user says so.

        Args:
            step: optimizer steps done.
            cause: of :meth:`add`, agreed upon by all ranks; "" = none.
            num_requests: how often the user asked for it in this run.

        Returns:
            Whether the plan has changed.
        """
        asked = num_requests > self._served
        self._served = max(num_requests, self._served)
        if not asked and not cause:
            return False
        switch = self._sampler.next_phase(step, "asked for by the user" if asked else cause)
        if switch is None:
            if asked:
                self._emit("message", level="info", text=f"Next phase now: {self._why_not(step)}")
            return False
        self._decided_at = step
        plan = self._sampler.plan
        begins = plan.step_of(switch)
        text = f"The phase '{switch.phase}' begins after step {begins} (epoch {plan.epoch_at(begins):.2f}): {switch.cause}."
        self._emit("message", level="info", text=text)
        return True

    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"losses": self._window.state(), "decided_at": self._decided_at}

    def load(self, state: dict[str, Any], step: int, *, decided: bool = True) -> None:
        """From a checkpoint.

        Args:
            state: of :meth:`state`.
            step: optimizer steps that were done.
            decided: a switch that was decided on is still to come; not where the order begins anew.
        """
        self._window = self._window_of(self._sampler.stage_at(step))
        self._window.load(state.get("losses", []))
        self._decided_at = state.get("decided_at") if decided else None

    def _stage_begin(self, stage: int) -> int:
        """Optimizer steps that were done when a phase began."""
        plan = self._sampler.plan
        return next((plan.step_of(switch) for switch in plan.switches if switch.stage == stage), 0)

    def _say_begin(self, step: int) -> None:
        sampler = self._sampler
        plan, segment = sampler.plan, sampler.plan.segment_at(step)
        switch = next((switch for switch in plan.switches if switch.stage == segment.stage), None)
        self._emit(
            "phase",
            step=step,
            epoch=round(plan.epoch_at(step), 5),
            phase=segment.phase,
            stage=segment.stage,
            cause=switch.cause if switch else "",
            decided_at=self._decided_at,
            before=segment.before,
            gradual=switch.gradual if switch else 0.0,
        )

    def _why_not(self, step: int) -> str:
        sampler = self._sampler
        stage = sampler.stage_at(step)
        if stage == sampler.course.last_stage:
            return f"'{sampler.course.phases[stage]}' is the last phase of this run."
        begins = self._stage_begin(stage + 1)
        if begins > step:
            return f"'{sampler.course.phases[stage + 1]}' begins after step {begins} already."
        return "the run ends with the batches that are already drawn."

    def _warn_if_below(self, stage: int, epochs_in_stage: float) -> None:
        """A phase whose loss was low from its beginning on ends as soon as it may: probably not what was meant."""
        course = self._sampler.course
        if stage in self._warned or stage >= course.last_stage:
            return
        if course.transitions[stage].by != "loss" or not self._window.is_full:
            return
        low, earliest = course.transitions[stage].loss_range[0], course.earliest_by_loss(stage)
        if self._window.mean < low and epochs_in_stage < earliest:
            self._warned.add(stage)
            label = list(SWITCHES.values())[min(stage, len(SWITCHES) - 1)]
            text = (
                f"{label} at loss: the smoothed loss {self._window.mean:.3f} is below {low:g} already, so that the phase "
                f"'{course.phases[stage]}' ends after its shortest length of {earliest:g} epochs. Lower {label} at loss, from."
            )
            self._emit("message", level="warning", text=text)
