"""What a learning curve says, in plain words with the evidence, and what to change.

What it does: looks at the training loss, the evaluation losses and the learning rate of a run and names what is typical: unstable, nothing
learned, still falling, levelled off, over-fitting since a step, memorised, well fitted.

Guarantee: silent where the data do not say: each finding needs enough steps and a difference that the noise of the losses cannot explain
(three standard errors; two that it is level). A change of the batching phase is no trend: trends are looked for within the last phase, and not where the
learning rate has come down so far that a flat loss says nothing. Price: some passes over the steps.

Example: ``over-fitting``: "The evaluation loss was lowest at step 120 (1.842) and has risen to 1.910 since, while the training loss fell
from 1.31 to 0.92." Advice: take the checkpoint nearest to that step, or train fewer epochs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..runs.state import RunState, phase_stretches
from .curves import FEWEST_STEPS, Curve, Trend, changes_at_epochs, difference, read_curve, spikes, trend

# share of the highest learning rate under which a flat loss says nothing
LOW_RATE = 0.1
# share of the loss by which it must change over the last third to count as still falling, and within which it counts as level
STILL_FALLING = 0.01
LEVEL = 0.04
SURE_OF_LEVEL = 2.0
LEARNED_BY_HEART = 0.35
MANY_SPIKES = 3


@dataclass(frozen=True)
class Finding:
    """One thing that a curve shows.

    Attributes:
        kind: unstable, nothing learned, still falling, plateau, over-fitting, memorised or well fitted.
        words: what is seen, with the numbers it rests on.
        advice: what to change.
    """

    kind: str
    words: str
    advice: str


@dataclass(frozen=True)
class _Run:
    """What the rules look at.

    Attributes:
        whole: all steps.
        phases: the steps of each phase.
        evaluations: (step, loss) in order.
    """

    whole: Curve
    phases: list[Curve]
    evaluations: list[tuple[int, float]]

    @property
    def last(self) -> Curve:
        """The last phase."""
        return self.phases[-1]

    @property
    def end(self) -> Curve:
        """The last third of the last phase, as far as the learning rate was high enough to move anything."""
        moving = self.last.part(self.last.rate >= LOW_RATE * self.whole.rate.max())
        return moving.part(slice(len(moving) * 2 // 3, None))


def diagnose(state: RunState) -> list[Finding]:
    """What the curves of a run show, most important first; empty where they do not say.

    Args:
        state: of a run that is going on or has ended.
    """
    if not_finite := _not_finite(state):
        return [not_finite]
    whole = read_curve(state.steps)
    if len(whole) < FEWEST_STEPS:
        return []
    borders = [(begin["step"], end["step"]) for begin, end in phase_stretches(state)]
    phases = [whole.part((whole.step > begin) & (whole.step <= end)) for begin, end in borders]
    # a diary of a time before there were phases has none
    run = _Run(whole, [phase for phase in phases if len(phase)] or [whole], _evaluations(state))
    found = [finding for rule in RULES if (finding := rule(run))]
    kinds = {finding.kind for finding in found}
    return [finding for finding in found if not kinds & _SILENCED_BY.get(finding.kind, set())]


def _not_finite(state: RunState) -> Finding | None:
    message = str(state.end.get("message", ""))
    if state.status != "failed" or "not finite" not in message and "nan" not in message.lower():
        return None
    advice = "Lower Learning Rate to a third, use a Warmup, and look at the sample that the message names."
    return Finding("unstable", f"The training broke off: {message}", advice)


def _evaluations(state: RunState) -> list[tuple[int, float]]:
    found = [(event.get("step"), event.get("loss")) for event in state.evaluations]
    return [(int(step), float(loss)) for step, loss in found if isinstance(step, int) and isinstance(loss, (int, float))]


# --- rules ---------------------------------------------------------------------------------------------------------------------


def _unstable(run: _Run) -> Finding | None:
    jumps = [step for phase in run.phases for step in spikes(phase)]
    last = run.last
    rise = trend(last.part(slice(len(last) // 2, None))) if len(last) >= 2 * FEWEST_STEPS else None
    advice = "Lower Learning Rate to a third; a Warmup and more Gradient Accumulation Steps help as well."
    if rise is not None and rise.is_above(0.02 * last.mean):
        words = f"The loss rises: by {rise.change:.3f} over the second half of the steps (standard error {rise.error:.3f})."
        return Finding("unstable", words, advice)
    if len(jumps) >= MANY_SPIKES:
        shown = ", ".join(map(str, jumps[:5]))
        return Finding("unstable", f"The loss jumps up at {len(jumps)} steps, far beyond its usual noise: {shown} ….", advice)
    return None


def _nothing_learned(run: _Run) -> Finding | None:
    curve = run.phases[0]
    if len(curve) < 2 * FEWEST_STEPS:
        return None
    move, held_out = trend(curve), run.evaluations
    if not _is_level(move, curve) or len(held_out) > 1 and held_out[0][1] - held_out[-1][1] > STILL_FALLING * curve.mean:
        return None
    highest = float(run.whole.rate.max())
    words = f"The loss stays at {curve.mean:.3f}: it changed by {move.change:+.3f} over {len(curve)} steps (standard error {move.error:.3f})."
    advice = f"Raise Learning Rate (it is {highest:.2g} at most) by a factor of 3 to 10, or look with Preview at what is trained."
    return Finding("nothing learned", words, advice)


def _still_falling(run: _Run) -> Finding | None:
    end = run.end
    if len(end) < FEWEST_STEPS:
        return None
    move = trend(end)
    if not move.is_below(-STILL_FALLING * end.mean):
        return None
    words = f"The loss is still falling: by {-move.change:.3f} over the last {len(end)} steps (standard error {move.error:.3f})."
    return Finding("still falling", words, "More epochs would lower it further; watch the evaluation loss.")


def _plateau(run: _Run) -> Finding | None:
    end = run.end
    if len(end) < FEWEST_STEPS or not difference(run.last.part(slice(len(run.last) // 10)), end).is_below(-0.02 * end.mean):
        return None
    move = trend(end)
    if not _is_level(move, end) or move.is_below(-STILL_FALLING * end.mean):
        return None
    words = f"The loss has levelled off at {end.mean:.3f}: over the last {len(end)} steps it changed by {move.change:+.3f}."
    advice = "More epochs of the same would change little. For a lower loss: a higher LoRA Rank, more or cleaner data."
    return Finding("plateau", words, advice)


def _is_level(move: Trend, curve: Curve) -> bool:
    """Whether a loss surely moves less than matters."""
    limit = LEVEL * curve.mean
    return move.is_above(-limit, SURE_OF_LEVEL) and move.is_below(limit, SURE_OF_LEVEL)


def _overfitting(run: _Run) -> Finding | None:
    held_out = run.evaluations
    if len(held_out) < 3:
        return None
    best = min(range(len(held_out)), key=lambda place: held_out[place][1])
    step, lowest = held_out[best]
    later = held_out[best + 1 :]
    if not later or any(loss < lowest * 1.003 for _, loss in later):
        return None
    rise = later[-1][1] / lowest - 1
    if rise < (0.01 if len(later) > 1 else 0.03):
        return None
    around, end = _mean_around(run.whole, step), _mean_around(run.whole, later[-1][0])
    if around is None or end is None or end > around:
        return None  # both rise: unstable, or another phase
    words = (
        f"The evaluation loss was lowest at step {step} ({lowest:.3f}) and has risen to {later[-1][1]:.3f} since, "
        f"while the training loss fell from {around:.3f} to {end:.3f}."
    )
    advice = "Take the checkpoint nearest to that step, or train fewer epochs; a lower Learning Rate, more LoRA Dropout or more data help."
    return Finding("over-fitting", words, advice)


def _mean_around(curve: Curve, step: int) -> float | None:
    """Training loss of the steps just before and at a step."""
    near = curve.part((curve.step <= step) & (curve.step > step - max(8, len(curve) // 20)))
    return near.mean if len(near) else None


def _memorised(run: _Run) -> Finding | None:
    end = run.whole.part(slice(-max(8, len(run.whole) // 20), None))
    changes = changes_at_epochs(run.last)[-2:]
    held_out = run.evaluations
    advice = (
        "Fewer epochs or a lower Learning Rate: the model repeats these texts instead of learning from them. More data help most."
    )
    if len(changes) > 1 and all(change.is_below(-0.1 * end.mean) for change in changes):
        words = (
            f"The loss falls in steps at the beginning of epochs (by {-changes[-1].change:.3f} at the last), and is flat within them: "
            f"samples are recognised when they come again."
        )
        return Finding("memorised", words, advice)
    if end.mean < LEARNED_BY_HEART and held_out and held_out[-1][1] > 3 * end.mean and held_out[-1][1] - end.mean > 0.7:
        words = f"The training loss is {end.mean:.3f}, the loss on held-out samples {held_out[-1][1]:.3f}: the data are known by heart."
        return Finding("memorised", words, advice)
    return None


def _well_fitted(run: _Run) -> Finding | None:
    held_out = run.evaluations
    if len(held_out) < 3:
        return None
    first, last, lowest = held_out[0][1], held_out[-1][1], min(loss for _, loss in held_out)
    end = _mean_around(run.whole, held_out[-1][0])
    if end is None or first - last < 0.01 * first or last > lowest * 1.003:
        return None
    if held_out[-2][1] - last > STILL_FALLING * last or abs(last - end) > 0.15 * last:
        return None
    words = f"Training and evaluation loss have come down together, to {end:.3f} and {last:.3f}, and hardly move any more."
    return Finding("well fitted", words, "Nothing needs to be changed.")


RULES: tuple[Callable[[_Run], Finding | None], ...] = (
    _unstable,
    _overfitting,
    _memorised,
    _nothing_learned,
    _still_falling,
    _plateau,
    _well_fitted,
)
# kind -> kinds beside which it would confuse
_SILENCED_BY: dict[str, set[str]] = {
    "nothing learned": {"unstable"},
    "still falling": {"unstable", "over-fitting", "memorised"},
    "plateau": {"unstable", "over-fitting", "memorised", "nothing learned", "well fitted"},
    "well fitted": {"unstable", "over-fitting", "memorised", "still falling"},
}


def to_plain(findings: list[Finding]) -> list[dict[str, Any]]:
    """For a summary file."""
    return [vars(finding) for finding in findings]
