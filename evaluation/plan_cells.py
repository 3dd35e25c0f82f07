"""The phases of a plan as cells of a table, and when each switch comes in words; the command line and the tab show the same."""

from __future__ import annotations

from typing import Any


def phase_cells(plan: dict[str, Any]) -> list[list[str]]:
    """One stretch of like epochs a line, the titles first; empty if the plan knows no phases.

    Args:
        plan: what Check found out about the run (``training.course.phase_facts``).
    """
    rows = plan.get("phases", [])
    if not rows:
        return []
    is_packed = any(row.get("fill") is not None for row in rows)
    cells = [["phase", "epochs", "steps", "samples", "joined", "tokens", "padding", *(["packs", "full"] if is_packed else [])]]
    for row in rows:
        name = f"{row['before']} > {row['phase']}" if row["before"] else row["phase"]
        cells.append([name, f"{row['begin']:.4g} to {row['end']:.4g}", f"{row['num_steps']:,}", f"{row['num_samples']:,}"])
        cells[-1] += [f"{row['joined_share']:.0%}", f"{row['tokens']:,}", f"{row['padding_share']:.1%}"]
        cells[-1] += [f"{row['num_packs']:,}", f"{row['fill']:.1%}"] if is_packed else []
    return cells


def switch_words(plan: dict[str, Any]) -> list[str]:
    """A sentence on each switch of phases: when it comes, and why.

    Args:
        plan: as above.
    """
    return [_switch(switch) for switch in plan.get("switches", [])]


def _switch(switch: dict[str, Any]) -> str:
    (first, last), (begin, end) = switch["steps"], switch["epochs"]
    if last is None:
        place = f"after step {first:,} (epoch {begin:.4g}) at the earliest, perhaps not within this run"
    elif first == last:
        place = f"after step {first:,} (epoch {begin:.4g})"
    else:
        place = f"between step {first:,} and {last:,} (epoch {begin:.4g} to {end:.4g})"
    return f"switch to {switch['phase']}: {place}; {switch['cause']}"
