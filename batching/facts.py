"""The plan in numbers: steps, tokens and padding of each phase in each epoch, and when switches can come.

Guarantee: steps are those of the plan; tokens and padding are counted on the batches themselves. Price: each phase is ordered once, and
each epoch within which a phase begins; further whole epochs of a phase are taken to pad as much as its first (the tokens are the same).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from .batches import Batches
from .plan import RunPlan, Segment

# epoch -> first batch, end and batches of each of its stretches
Parts = Callable[[int], list[tuple[int, int, Batches]]]


@dataclass(frozen=True)
class PlanRow:
    """A phase in an epoch.

    Attributes:
        epoch: counted from 0.
        stage: number of the phase.
        phase: its name.
        before: phase that fades out meanwhile; "" = none.
        num_steps: optimizer steps.
        num_batches: over all ranks.
        num_new_batches: those of ``phase``, not of ``before``.
        num_entries: entries that are trained.
        num_units: samples that they become.
        num_joined: entries that are trained together with another one, or with others before them as context.
        num_rows: packs; without packing samples.
        tokens: of these samples, context included.
        padded_tokens: of the batches, each padded to its longest row.
        begin: epochs done at the begin.
        end: epochs done at the end.
        capacity: tokens that a pack can hold; 0 = nothing is packed.
    """

    epoch: int
    stage: int
    phase: str
    before: str
    num_steps: int
    num_batches: int
    num_new_batches: int
    num_entries: int
    num_units: int
    num_joined: int
    num_rows: int
    tokens: int
    padded_tokens: int
    begin: float
    end: float
    capacity: int = 0

    @property
    def joined_share(self) -> float:
        """Entries that are not trained alone, over all entries."""
        return self.num_joined / self.num_entries if self.num_entries else 0.0

    @property
    def fill(self) -> float | None:
        """Share of the packs that holds tokens; None if nothing is packed."""
        return self.tokens / (self.num_rows * self.capacity) if self.num_rows and self.capacity else None

    @property
    def padding_share(self) -> float:
        """Padding over all tokens of the padded batches."""
        return 1 - self.tokens / self.padded_tokens if self.padded_tokens else 0.0


def plan_rows(plan: RunPlan, parts: Parts, capacity: int = 0) -> list[PlanRow]:
    """One row for each segment of a plan that is planned, not past.

    Args:
        plan: of the run.
        parts: the batches of an epoch.
        capacity: see :class:`PlanRow`.
    """
    rows = []
    whole: dict[str, PlanRow] = {}
    for segment in plan.segments:
        if segment.is_past:
            continue
        is_whole = segment.end - segment.begin == 1 and not segment.before
        if is_whole and segment.phase in whole:
            row = whole[segment.phase]
            rows.append(replace(row, epoch=segment.epoch, stage=segment.stage, begin=segment.begin, end=segment.end))
            continue
        rows.append(_row(plan, segment, parts, capacity))
        if is_whole:
            whole[segment.phase] = rows[-1]
    return rows


def _row(plan: RunPlan, segment: Segment, parts: Parts, capacity: int) -> PlanRow:
    batches = next(made for begin, _, made in parts(segment.epoch) if begin == segment.position)
    num = segment.num_batches
    return PlanRow(
        segment.epoch,
        segment.stage,
        segment.phase,
        segment.before,
        num // plan.window,
        num,
        int(batches.is_new[:num].sum()),
        len(batches.drawn(num)),
        batches.num_units(num),
        batches.rows.units.num_joined(batches.num_units(num)),
        int(batches.borders[num]),
        int(batches.tokens()[:num].sum()),
        int(batches.padded()[:num].sum()),
        segment.begin,
        segment.end,
        capacity,
    )


def switch_ranges(latest: RunPlan, earliest: RunPlan) -> list[dict[str, Any]]:
    """When each switch comes, by step and epoch.

    Args:
        latest: the plan with losses that come as late as they may.
        earliest: the one with losses that come as early.

    Returns:
        For each phase but the first: ``phase``, ``stage``, ``cause``, ``steps`` and ``epochs``, each a pair of the earliest and the latest;
        None in place of the latest if the run may end before.
    """
    ranges = []
    latest_of = {switch.stage: switch for switch in latest.switches}
    for switch in earliest.switches:
        at_latest = latest_of.get(switch.stage)
        step = earliest.step_of(switch)
        last = latest.step_of(at_latest) if at_latest else None
        ranges.append(
            {
                **{"phase": switch.phase, "stage": switch.stage, "cause": (at_latest or switch).cause},
                "steps": (step, last),
                "epochs": (earliest.epoch_at(step), None if last is None else latest.epoch_at(last)),
            }
        )
    return ranges
