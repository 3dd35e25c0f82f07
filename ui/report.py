"""What Check found, as HTML: data, plan, memory, rows left out, warnings. Pure functions of the result."""

from __future__ import annotations

from html import escape
from pathlib import PurePath
from typing import Any

from . import words
from .fields import label_of_field
from .host import CheckResult

NO_REPORT = '<div id="tph-check"></div>'
_SHOWN_ROWS = 20
_MEMORY_WORDS = ("weights", "adapter", "gradients", "optimizer", "activations")


def report_html(result: CheckResult, save_every_steps: int = 0) -> str:
    """The report in ``#tph-check``; problems come first.

    Args:
        result: what the host's check returned.
        save_every_steps: the form's save interval, shown with the plan; 0 = at the end of epochs only.
    """
    status = "problems" if result.problems else "ok"
    parts = [_sentences("tph-level-error", result.problems), _sentences("tph-level-warning", result.warnings)]
    facts = [*data_facts(result.report), *plan_facts(result.plan, save_every_steps), *memory_facts(result.memory)]
    parts.append(_table(facts))
    parts.append(_suggestions(result.suggestions))
    parts.append(_sentences("tph-level-info", [str(note) for note in result.report.get("notes", [])]))
    parts.append(_left_out("Broken rows", result.report.get("num_broken", 0), result.report.get("broken", [])))
    parts.append(_left_out("Too long rows", result.report.get("num_too_long", 0), result.report.get("too_long", [])))
    title = "Check: not ready" if result.problems else "Check: ready to train"
    return f'<div id="tph-check" class="tph-card" data-status="{status}"><p><b>{title}</b></p>{"".join(parts)}</div>'


def data_facts(report: dict[str, Any]) -> list[tuple[str, str]]:
    """Pairs of words and value about the data."""
    if not report:
        return []
    facts = [("File", f"{_short(entry['file'])}: {entry.get('format', '')}, {entry.get('encoding', '')}") for entry in report.get("files", [])[:5]]
    if len(report.get("files", [])) > 5:
        facts.append(("File", f"and {len(report['files']) - 5} more"))
    facts.append(("Rows", f"{report.get('num_rows', 0):,} read{_and_broken(report)}"))
    if report.get("num_blocks"):
        small = report.get("num_small_blocks", 0)
        facts.append(("Text blocks", f"{report['num_blocks']:,}" + (f", {small:,} ignored as too small" if small else "")))
    held_out = report.get("num_eval_samples", 0)
    facts.append(("Samples", f"{report.get('num_samples', 0):,}" + (f", and {held_out:,} held out for evaluation" if held_out else "")))
    tokens, trained = report.get("num_tokens", 0), report.get("num_trained_tokens", 0)
    share = f" ({trained / tokens:.0%})" if tokens else ""
    facts.append(("Tokens", f"{tokens:,}, of which {trained:,} trained{share}"))
    if report.get("longest"):
        facts.append(("Longest", f"{', '.join(f'{length:,}' for length in report['longest'][:3])} tokens"))
    if report.get("num_untrained"):
        facts.append(("Left out", f"{words.plural(report['num_untrained'], 'sample')} without a trained token"))
    return facts


def _and_broken(report: dict[str, Any]) -> str:
    extra = [
        f"{report[key]:,} {name}" for key, name in (("num_broken", "broken"), ("num_too_long", "over the cutoff")) if report.get(key)
    ]
    return f", {' and '.join(extra)} left out" if extra else ""


def plan_facts(plan: dict[str, Any], save_every_steps: int = 0) -> list[tuple[str, str]]:
    """Pairs of words and value about the plan of the run."""
    if not plan:
        return []
    steps, per_epoch, epochs = plan.get("num_steps", 0), plan.get("steps_per_epoch"), plan.get("num_epochs")
    # an epoch with parts, or phases of several lengths, has a list here
    each = f"{per_epoch:,} in each epoch" if isinstance(per_epoch, int) else ""
    over = f"{epochs:g} epochs" if isinstance(epochs, (int, float)) else ""
    facts = [("Steps", ", ".join(part for part in (f"{steps:,}", over, each) if part))]
    if plan.get("batch_size"):
        batch, accumulation = plan["batch_size"], plan.get("accumulation", 1)
        product = f"{batch} × {accumulation} = {batch * accumulation}" if accumulation != 1 else f"{batch}"
        facts.append(("Samples a step", product))
    warmup = plan.get("warmup_steps") or 0
    facts.append(("Warm-up", f"{words.plural(round(warmup), 'step')} ({warmup / steps:.0%} of the run)" if warmup and steps else "none"))
    if save_every_steps:
        facts.append(("Checkpoints", f"every {words.plural(save_every_steps, 'step')}, {steps // save_every_steps:,} in all"))
    if plan.get("padding_share") is not None:
        facts.append(("Padding", f"{plan['padding_share']:.1%} of what is computed"))
    return facts


def memory_facts(memory: dict[str, Any]) -> list[tuple[str, str]]:
    """Pairs of words and value about the memory that the run needs."""
    if not memory.get("total"):
        return []
    parts = ", ".join(f"{name} {words.size(memory[name])}" for name in _MEMORY_WORDS if memory.get(name))
    free = memory.get("available")
    room = f" of {words.size(free)} there" if free else ""
    tight = " – too much, lower True Batch Size or the cutoff" if free and memory["total"] > free else ""
    return [("Memory", f"about {words.size(memory['total'])}{room}{tight}" + (f" ({parts})" if parts else ""))]


def _table(facts: list[tuple[str, str]]) -> str:
    rows = "".join(f'<tr><th scope="row">{escape(label)}</th><td>{escape(value)}</td></tr>' for label, value in facts)
    return f'<table class="tph-table"><tbody>{rows}</tbody></table>' if rows else ""


def _sentences(style: str, sentences: list[str]) -> str:
    entries = "".join(f'<li class="{style}">{escape(sentence)}</li>' for sentence in sentences)
    return f'<ul class="tph-messages">{entries}</ul>' if entries else ""


def _suggestions(suggestions: dict[str, tuple[Any, str]]) -> str:
    return _sentences("tph-level-info", [f"{label_of_field(field)}: {value} – {reason}" for field, (value, reason) in suggestions.items()])


def _left_out(title: str, number: int, entries: list[dict[str, Any]]) -> str:
    if not number:
        return ""
    shown = "".join(f"<li><code>{escape(_place(entry))}</code> {escape(str(entry.get('reason', '')))}</li>" for entry in entries[:_SHOWN_ROWS])
    more = f'<li class="tph-muted">and {number - min(number, _SHOWN_ROWS, len(entries)):,} more</li>' if number > min(_SHOWN_ROWS, len(entries)) else ""
    return f'<details class="tph-rows"><summary>{title}: {number:,}</summary><ul>{shown}{more}</ul></details>'


def _place(entry: dict[str, Any]) -> str:
    line = entry.get("line")
    return _short(str(entry.get("file", ""))) + (f":{line}" if line not in (None, "") else "")


def _short(path: str) -> str:
    """The last two parts of a path: enough to recognise a file."""
    parts = PurePath(path).parts
    return "/".join(parts[-2:]) if len(parts) > 2 else path
