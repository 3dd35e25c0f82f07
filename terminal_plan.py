"""The plan of a run on a terminal: a table, the phases, and the schedule as a picture of characters. Pure functions of Check's result."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Any

from .data.words import counted
from .evaluation.plan_cells import phase_cells, switch_words
from .evaluation.text_table import aligned

BLOCKS, PLAIN = " ▁▂▃▄▅▆▇█", " .:|#"  # from nothing to a full character; PLAIN for terminals that have no blocks
_SHOWN_EPOCHS = 8


def plan_table(plan: dict[str, Any], report: dict[str, Any]) -> list[str]:
    """One fact a line, in two columns.

    Args:
        plan: what Check found out about the run.
        report: what it found out about the data.
    """
    warmup, steps, batch = plan["warmup_steps"], plan["num_steps"], plan["batch_size"]
    factors = [batch, *(number for number in (plan["accumulation"], plan["world_size"]) if number > 1)]
    product = " × ".join(map(str, factors))
    at_once = batch * plan["accumulation"] * plan["world_size"]
    entries = "packs" if plan.get("packing") else "samples"
    facts = [
        ("steps", f"{steps:,}"),
        ("epochs", f"{plan['num_epochs']:g}"),
        ("steps per epoch", _counts(plan["steps_per_epoch"])),
        ("warm-up", f"{counted(warmup, 'steps', ',')} ({warmup / steps:.0%} of the run)" if warmup else "none"),
        ("batches", f"{plan['num_batches']:,}"),
        (f"{entries} per step", f"{product} = {at_once}" if len(factors) > 1 else product),
        ("samples", f"{plan['num_samples']:,}" + (f" in {plan['num_packs']:,} packs" if plan.get("num_packs") else "")),
        ("tokens", f"{report['num_tokens']:,}, of which {report['num_trained_tokens']:,} are trained, each epoch"),
        ("learning rate", f"{plan['learning_rate']:g}"),
        ("schedule", f"{plan['schedule']}: {plan['schedule_words']}"),
    ]
    width = max(len(label) for label, _ in facts)
    return [f"{label:{width}}  {value}" for label, value in facts]


def _counts(counts: Sequence[int]) -> str:
    """``200, 200, 100``; one number if all are the same."""
    if len(set(counts)) == 1:
        return f"{counts[0]:,}"
    shown = [f"{count:,}" for count in counts[:_SHOWN_EPOCHS]]
    return ", ".join([*shown, "..."] if len(counts) > _SHOWN_EPOCHS else shown)


def phase_table(plan: dict[str, Any]) -> list[str]:
    """The phases, one stretch of like epochs a line, and when each switch comes.

    Args:
        plan: what Check found out about the run.
    """
    cells = phase_cells(plan)
    return [*aligned(cells, num_names=2), *switch_words(plan)] if cells else []


def phase_strip(plan: dict[str, Any], width: int = 60) -> str:
    """The phases by their first letters, as wide as the picture of the schedule; where one grows in, both letters in turn.

    Args:
        plan: what Check found out about the run.
        width: columns.
    """
    rows = plan.get("phases", [])
    ends = [sum(row["num_steps"] for row in rows[: number + 1]) for number in range(len(rows))]
    letters = []
    for column in range(width):
        row = rows[min(bisect_right(ends, column * ends[-1] / (width - 1)), len(rows) - 1)]
        letters.append(row["before"][0] if row["before"] and column % 2 else row["phase"][0])
    return "".join(letters)


def schedule_picture(points: Sequence[tuple[int, float]], *, width: int = 60, height: int = 6, levels: str = BLOCKS) -> list[str]:
    """Learning rates as columns, the highest rate at the top left, 0 at the bottom::

        0.001 |   ▄██▆▂
              |  ▅█████▇▃
            0 |▂▇████████▅▁
               step 0     200

    Args:
        points: (optimizer step, learning rate) in rising steps; the last is the end of the run.
        width: columns; each shows the rate of the step that it begins with.
        height: lines.
        levels: characters from nothing to full.
    """
    steps, rates = [step for step, _ in points], [rate for _, rate in points]
    highest, full = max(rates) or 1.0, len(levels) - 1
    columns = [rates[bisect_right(steps, place * steps[-1] / (width - 1)) - 1] for place in range(width)]
    heights = [round(rate / highest * height * full) for rate in columns]
    top, bottom = f"{max(rates):g}", "0"
    margin = max(len(top), len(bottom))
    lines = []
    for line in range(height):
        label = top if line == 0 else bottom if line == height - 1 else ""
        below = (height - 1 - line) * full
        drawn = "".join(levels[min(max(filled - below, 0), full)] for filled in heights)
        lines.append(f"{label:>{margin}} |{drawn}".rstrip())
    first, last = "step 0", f"{steps[-1]:,}"
    return [*lines, " " * (margin + 2) + first + last.rjust(width - len(first))]


def plan_page(result: Any, encoding: str | None) -> list[str]:
    """What ``training-pro plan`` shows.

    Args:
        result: a ``runs.check_report.CheckReport``.
        encoding: of the terminal, which may have no block characters.
    """
    if result.problems:
        return ["This cannot start:", *(f"  {problem}" for problem in result.problems)]
    levels = BLOCKS if _can_show(BLOCKS, encoding) else PLAIN
    table = plan_table(result.plan, result.report)
    if not _can_show("×", encoding):
        table = [line.replace("×", "x") for line in table]
    picture = schedule_picture(result.plan["learning_rates"], levels=levels)
    phases = phase_table(result.plan)
    if len({row["phase"] for row in result.plan.get("phases", [])}) > 1:
        margin = picture[-1].index("step 0")
        names = dict.fromkeys(name for row in result.plan["phases"] for name in (row["before"], row["phase"]) if name)
        picture += [" " * margin + phase_strip(result.plan), " " * margin + ", ".join(f"{name[0]} {name}" for name in names)]
    middle = ["", *phases, ""] if phases else [""]
    return [*table, *middle, *picture, *(f"warning: {warning}" for warning in result.warnings)]


def _can_show(text: str, encoding: str | None) -> bool:
    try:
        text.encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
