"""The settings of batching as the sampler's course, and what the plan of phases says before a run.

Guarantee: what Check shows of the phases is the plan of the run. Price: each phase is ordered once for its figures (see batching.facts).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from ..batching.course import MODES
from ..config import RunConfig
from ..data.prepare import Prepared
from ..hybrid_batching import PHASES, Course, HybridBatchSampler, PlanRow, Transition, switch_ranges
from ..hybrid_batching import Entries as BatchEntries
from .entries import Entries


def make_course(config: RunConfig) -> Course:
    """Phases and transitions as the settings say."""
    batching = config.batching
    transition = Transition(
        batching.switch_by,
        epochs=batching.switch_epochs,
        steps=batching.switch_steps,
        loss_range=(batching.switch_loss_low, batching.switch_loss_high),
        minimum=batching.switch_minimum,
        latest=batching.switch_latest,
        gradual=batching.switch_gradual,
    )
    phases = MODES[batching.mode]
    return Course(phases, (transition,) * (len(phases) - 1), not batching.sequential_overlaps)


def batch_entries(prepared: Prepared, entries: Entries) -> BatchEntries:
    """What the sampler orders: samples with their conversations or sections of texts; packs as they come."""
    if entries.packs is not None:
        return BatchEntries(entries.lengths)
    group, section = (prepared.column(name).astype(np.int64) for name in ("group", "section"))
    return BatchEntries(
        entries.lengths,
        group=group * (int(section.max()) + 1) + section,
        place=prepared.column("place"),
        overlap=prepared.column("overlap"),
    )


def batching_identity(config: RunConfig) -> str | None:
    """What must be the same for an exact continuation; None for the mode that was there before there were others."""
    mode, overlaps = config.batching.mode, config.batching.sequential_overlaps
    if mode == "shuffled":
        return None
    return mode if overlaps or not any(PHASES[name].is_ordered for name in MODES[mode]) else f"{mode}, without overlap blocks"


def phase_facts(config: RunConfig, sampler: HybridBatchSampler) -> dict[str, Any]:
    """The phases of a plan in numbers, for the diary and for Check.

    Returns:
        ``batching`` (the mode), ``phases`` (one entry for each stretch of like epochs: phase, before, begin, end, num_steps,
        num_samples, tokens, padding_share, new_share) and ``switches`` (see batching.facts.switch_ranges).
    """
    return {
        "batching": config.batching.mode,
        "phases": [_row(row) for row in _merged(sampler.plan_rows())],
        "switches": switch_ranges(sampler.plan, sampler.earliest_plan()),
    }


def _merged(rows: list[PlanRow]) -> list[PlanRow]:
    """Consecutive whole epochs of one phase as one row."""
    merged: list[PlanRow] = []
    for row in rows:
        last = merged[-1] if merged else None
        if last and last.stage == row.stage and _is_whole(last) and _is_whole(row):
            added = {name: getattr(last, name) + getattr(row, name) for name in _ADDED}
            merged[-1] = replace(last, end=row.end, **added)
        else:
            merged.append(row)
    return merged


def _is_whole(row: PlanRow) -> bool:
    return row.begin.is_integer() and row.end.is_integer() and not row.before


_ADDED = ("num_steps", "num_batches", "num_new_batches", "num_entries", "num_units", "tokens", "padded_tokens")


def _row(row: PlanRow) -> dict[str, Any]:
    return {
        **{"phase": row.phase, "before": row.before, "begin": round(row.begin, 5), "end": round(row.end, 5)},
        **{"num_steps": row.num_steps, "num_samples": row.num_units, "tokens": row.tokens},
        "padding_share": round(row.padding_share, 5),
        "new_share": round(row.num_new_batches / max(1, row.num_batches), 5),
    }


def course_warnings(config: RunConfig, sampler: HybridBatchSampler) -> list[str]:
    """Sentences on phases that will not do what was probably meant."""
    batching, course, found = config.batching, sampler.course, []
    reached = {switch["stage"]: switch["steps"] for switch in switch_ranges(sampler.plan, sampler.earliest_plan())}
    for stage in range(1, course.last_stage + 1):
        phase = course.phases[stage]
        if stage not in reached:
            found.append(
                f"Batching mode: the run ends before its phase '{phase}' begins. Raise Epochs ({config.training.epochs:g}) or let "
                f"the switch come earlier."
            )
        elif reached[stage][1] is None:
            found.append(f"Batching mode: the phase '{phase}' begins only if the loss comes down; the run may end before.")
    if batching.packing != "none" and "length" in course.phases:
        found.append(
            f"Batching mode: with Packing {batching.packing!r} all packs are about as long, so that grouping by length changes little."
        )
    overlaps = int(sampler.entries.overlap.sum())
    if course.leave_out_overlaps and overlaps and any(PHASES[name].is_ordered for name in course.phases):
        if overlaps == len(sampler.entries):
            found.append("Overlap blocks in sequential: all blocks are overlap blocks, so none is left out.")
        else:
            found.append(f"Overlap blocks in sequential: {overlaps} of {len(sampler.entries)} blocks are left out in that phase.")
    return found
