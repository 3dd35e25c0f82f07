"""The settings of batching as the sampler's course, and what the plan of phases says before a run.

Guarantee: what Check shows of the phases is the plan of the run. Price: each phase is ordered once for its figures (see batching.facts).
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from ..batching.course import MODES, SWITCHES
from ..batching.forming import Former, How
from ..config import RunConfig
from ..data.prepare import Prepared
from ..hybrid_batching import PHASES, Course, HybridBatchSampler, PlanRow, Transition, switch_ranges
from ..hybrid_batching import Entries as BatchEntries
from .entries import Entries


def make_course(config: RunConfig) -> Course:
    """Phases and transitions as the settings say."""
    batching, phases = config.batching, MODES[config.batching.mode]
    transitions = tuple(_transition(batching, prefix) for prefix in list(SWITCHES)[: len(phases) - 1])
    return Course(phases, transitions, not batching.sequential_overlaps, batching.sequential_joins)


def _transition(batching: Any, prefix: str) -> Transition:
    """The first or the second one."""

    def value(name: str) -> Any:
        return getattr(batching, f"{prefix}_{name}")

    return Transition(
        value("by"),
        epochs=value("epochs"),
        steps=value("steps"),
        loss_range=(value("loss_low"), value("loss_high")),
        **{name: value(name) for name in ("minimum", "latest", "gradual", "smoothing")},
    )


def batch_entries(prepared: Prepared, entries: Entries) -> BatchEntries:
    """What the sampler orders: samples with their conversations or sections of texts; packs as they come."""
    if entries.packs is not None:
        return BatchEntries(entries.lengths)
    group, section = (prepared.column(name).astype(np.int64) for name in ("group", "section"))
    joins = prepared.joins
    hooks: dict[str, Any] = {}
    if joins is not None and joins.can_join:
        hooks = {
            "join_length": joins.join_length,
            "join_without_overlaps": partial(joins.join_length, skip_overlaps=True),
            "context_length": joins.context_length,
        }
    return BatchEntries(
        entries.lengths,
        group=group * (int(section.max()) + 1) + section,
        place=prepared.column("place"),
        overlap=prepared.column("overlap"),
        **hooks,
    )


def preview_packs(config: RunConfig, prepared: Prepared, entries: Entries) -> list[list[int]] | None:
    """The packs with which a run begins, as numbers of samples; None if nothing is packed."""
    if entries.packing is None:
        return entries.packs
    course = make_course(config)
    how = How(course.leave_out_overlaps, course.join_in_order, entries.packing)
    return Former(batch_entries(prepared, entries), how, config.training.seed).whole(course.phases[0]).trained()


def batching_identity(config: RunConfig) -> str | None:
    """What must be the same for an exact continuation; None for the mode that was there before there were others."""
    batching, mode = config.batching, config.batching.mode
    if mode == "shuffled":
        return None
    if not any(PHASES[name].is_ordered for name in MODES[mode]):
        return mode
    more = "" if batching.sequential_joins else ", single entries in order"
    return mode + more + ("" if batching.sequential_overlaps else ", without overlap blocks")


def phase_facts(config: RunConfig, sampler: HybridBatchSampler) -> dict[str, Any]:
    """The phases of a plan in numbers, for the diary and for Check.

    Returns:
        ``batching`` (the mode), ``phases`` (one entry for each stretch of like epochs: phase, before, begin, end, num_steps,
        num_entries, num_samples, joined_share, num_packs, fill, tokens, padding_share, new_share) and ``switches`` (see
        batching.facts.switch_ranges).
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


_ADDED = (
    *("num_steps", "num_batches", "num_new_batches", "num_entries", "num_units", "num_joined", "num_rows", "tokens"),
    "padded_tokens",
)


def _row(row: PlanRow) -> dict[str, Any]:
    return {
        **{"phase": row.phase, "before": row.before, "begin": round(row.begin, 5), "end": round(row.end, 5)},
        **{"num_steps": row.num_steps, "num_entries": row.num_entries, "num_samples": row.num_units, "tokens": row.tokens},
        "joined_share": round(row.joined_share, 5),
        "num_packs": row.num_rows if row.fill is not None else None,
        "fill": None if row.fill is None else round(row.fill, 5),
        "padding_share": round(row.padding_share, 5),
        "new_share": round(row.num_new_batches / max(1, row.num_batches), 5),
    }


def course_warnings(config: RunConfig, sampler: HybridBatchSampler) -> list[str]:
    """Sentences on phases that will not do what was probably meant."""
    course, found = sampler.course, []
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
    found += _joining_warnings(sampler)
    overlaps = int(sampler.entries.overlap.sum())
    if course.leave_out_overlaps and overlaps and any(PHASES[name].is_ordered for name in course.phases):
        if overlaps == len(sampler.entries):
            found.append("Overlap blocks in sequential: all blocks are overlap blocks, so none is left out.")
        else:
            found.append(f"Overlap blocks in sequential: {overlaps} of {len(sampler.entries)} blocks are left out in that phase.")
    return found


def _joining_warnings(sampler: HybridBatchSampler) -> list[str]:
    """Phases that should join neighbours, but find none."""
    course, entries = sampler.course, sampler.entries
    joining = [name for name in course.phases if PHASES[name].joins and (course.join_in_order or not PHASES[name].is_ordered)]
    found = []
    has_neighbours = bool(entries.neighbours(np.arange(len(entries))).any())
    for name in joining:
        if not sampler.joins(name) and (has_neighbours or not PHASES[name].is_ordered):
            found.append(
                f"Batching mode: in the phase '{name}' no two neighbours can be one sample. For conversations set Sample of a conversation "
                f"to auto or exchange; for text set Length of text blocks below the Cutoff; or raise Maximum context length (Cutoff)."
            )
    if joining and entries.can_join and entries.overlap.any() and not course.leave_out_overlaps and "sequential" in joining:
        found.append(
            f"Overlap blocks in sequential: {int(entries.overlap.sum())} overlap blocks stand between others, which are not joined across "
            f"them. Switch Overlap blocks in sequential off, or set Overlap to 0."
        )
    return found
