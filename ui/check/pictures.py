"""Pictures and tables of what Check found: lengths, phases, schedule, memory. Pure functions of plain values; everything is escaped."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from ...evaluation.plan_cells import phase_cells, switch_words
from .. import words
from ..charts.plots import Curve, Ground, chart

MEMORY_PARTS = ("weights", "adapter", "gradients", "optimizer", "activations")
_WIDTH, _HEIGHT = 1000, 100


def histogram_html(bins: Sequence[Sequence[int]], cutoff: int) -> str:
    """How long the samples are, and where the cutoff is; empty without samples.

    Args:
        bins: pairs (upper bound in tokens, number of samples) of equal width, shortest first.
        cutoff: tokens; 0 = unknown.
    """
    most = max((number for _, number in bins), default=0)
    if not most:
        return ""
    width = bins[0][0]
    right = max(bins[-1][0], cutoff)
    bars = "".join(
        f'<rect class="tph-length" x="{(upper - width) / right * _WIDTH + 1:.1f}" width="{max(1.0, width / right * _WIDTH - 2):.1f}" '
        f'y="{_HEIGHT * (1 - max(number / most, 0.02)):.1f}" height="{_HEIGHT * max(number / most, 0.02):.1f}">'
        f"<title>{upper - width + 1:,} to {upper:,} tokens: {number:,}</title></rect>"
        for upper, number in bins
        if number
    )
    place = min(cutoff / right, 1.0) * _WIDTH
    line = f'<path class="tph-cutoff" d="M{place:.1f} 0V{_HEIGHT}"/>' if cutoff else ""
    label = (
        f'<span class="tph-cutoff-word" style="right:{100 - place / _WIDTH * 100:.2f}%">cutoff {cutoff:,}</span>'
        if cutoff
        else ""
    )
    told = ", ".join(f"up to {upper:,} tokens: {number:,}" for upper, number in bins if number)
    return (
        f'<figure class="tph-lengths"><figcaption><b>Lengths</b> <span class="tph-muted">samples by tokens, at most {most:,} in a bar'
        f'</span></figcaption><div class="tph-lengths-x">{label}</div>'
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" preserveAspectRatio="none" role="img" aria-label="samples by length: {escape(told)}">'
        f'{bars}{line}</svg><div class="tph-lengths-x"><span>0</span><span class="tph-right">{right:,}</span></div></figure>'
    )


def phases_html(plan: dict[str, Any]) -> str:
    """The phases as a table, and a sentence on each switch; empty for a plan that knows none."""
    cells = phase_cells(plan)
    if not cells:
        return ""
    head = "".join(f"<th>{escape(title)}</th>" for title in cells[0])
    rows = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in line)}</tr>" for line in cells[1:])
    switches = "".join(f"<li>{escape(sentence)}</li>" for sentence in switch_words(plan))
    listed = f'<ul class="tph-muted">{switches}</ul>' if switches else ""
    table = f'<table class="tph-table tph-list"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'
    return f'<div class="tph-scroll" id="tph-plan-phases" tabindex="0" role="region" aria-label="Phases">{table}</div>{listed}'


def schedule_html(plan: dict[str, Any]) -> str:
    """The learning rate over the planned run with its phases, and what the schedule does in words."""
    points = [(float(step), float(rate)) for step, rate in plan.get("learning_rates", [])]
    if not points:
        return ""
    bands, begin = [], 0.0
    for row in plan.get("phases", []):
        bands.append((begin, begin + row["num_steps"], str(row["phase"])))
        begin += row["num_steps"]
    has_phases = len({name for _, _, name in bands}) > 1
    ground = Ground(0.0, points[-1][0] or 1.0, bands if has_phases else ())
    picture = chart(f"Learning rate: {plan.get('schedule', '')}", [Curve("", "tph-rate", points)], from_zero=True, ground=ground)
    sentence = escape(str(plan.get("schedule_words", "")))
    return f'<div class="tph-schedule">{picture}<p class="tph-axis">optimizer steps</p><p class="tph-muted">{sentence}</p></div>'


def memory_html(memory: dict[str, Any]) -> str:
    """What the run needs by part, as a bar and in numbers, against what there is; and the largest batch that fits. Empty if unknown."""
    total = memory.get("total")
    if not total:
        return ""
    limit = memory.get("limit") or 0
    scale = max(total, limit)
    parts = [(number, name, memory[name]) for number, name in enumerate(MEMORY_PARTS) if memory.get(name)]
    bar = "".join(f'<i class="tph-part-{number}" style="width:{size / scale:.2%}"></i>' for number, _, size in parts)
    legend = "".join(f'<li class="tph-part-{number}">{name} <b>{words.size(size)}</b></li>' for number, name, size in parts)
    there = f" of {words.size(limit)} that may be used" if limit else ""
    fits = "tph-over" if limit and total > limit else ""
    return (
        f'<div class="tph-memory {fits}"><p><b>Memory</b> about {words.size(total)}{there}</p>'
        f'<div class="tph-parts" role="img" aria-label="{words.size(total)}{there}">{bar}</div><ul>{legend}</ul>{_largest(memory)}</div>'
    )


def _largest(memory: dict[str, Any]) -> str:
    largest = memory.get("largest_batch")
    if largest is None:
        return ""
    if not largest:
        return '<p class="tph-error">By this estimate not even a True Batch Size of 1 fits.</p>'
    return f'<p id="tph-largest">Largest True Batch Size that fits: <b>{largest:,}</b></p>'
