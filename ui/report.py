"""What Check found, as HTML: data, plan, memory, rows left out, warnings. Pure functions of the result."""

from __future__ import annotations

from html import escape
from pathlib import PurePath
from typing import Any

from ..data.report import DataReport
from . import words
from .fields import label_of_field
from .host import CheckResult
from .plots import Curve, chart

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
    parts.append(schedule_html(result.plan))
    parts.append(_suggestions(result.suggestions))
    if result.report.get("sources"):
        parts.append(_sentences("tph-level-info", DataReport(sources=result.report["sources"]).source_lines()))
    parts.append(_sentences("tph-level-info", [str(note) for note in result.report.get("notes", [])]))
    parts.append(_left_out("Broken rows", result.report.get("num_broken", 0), result.report.get("broken", [])))
    parts.append(_left_out("Too long rows", result.report.get("num_too_long", 0), result.report.get("too_long", [])))
    title = "Check: not ready" if result.problems else "Check: ready to train"
    return f'<div id="tph-check" class="tph-card" data-status="{status}"><p><b>{title}</b></p>{"".join(parts)}</div>'


def data_facts(report: dict[str, Any]) -> list[tuple[str, str]]:
    """Pairs of words and value about the data."""
    if not report:
        return []
    files = report.get("files", [])
    facts = [("File", f"{_short(entry['file'])}: {entry.get('format', '')}, {entry.get('encoding', '')}") for entry in files[:5]]
    if len(files) > 5:
        facts.append(("", f"and {words.plural(len(files) - 5, 'more file', 'more files')}"))
    broken, too_long = (report.get("num_broken"), "broken"), (report.get("num_too_long"), "over the cutoff")
    facts.append(("Rows", _joined(f"{report.get('num_rows', 0):,} read", broken, too_long)))
    if report.get("num_blocks"):
        small = (report.get("num_small_blocks"), "ignored as too small")
        facts.append(("Text blocks", _joined(f"{report['num_blocks']:,}", small)))
    held_out = (report.get("num_eval_samples"), "held out for evaluation")
    facts.append(("Samples", _joined(f"{report.get('num_samples', 0):,}", held_out)))
    tokens, trained = report.get("num_tokens", 0), report.get("num_trained_tokens", 0)
    share = f" ({trained / tokens:.0%})" if tokens else ""
    facts.append(("Tokens", f"{tokens:,}, of which {trained:,} trained{share}"))
    if report.get("longest"):
        facts.append(("Longest", f"{', '.join(f'{length:,}' for length in report['longest'][:3])} tokens"))
    if report.get("num_untrained"):
        facts.append(("Left out", f"{words.plural(report['num_untrained'], 'sample')} without a trained token"))
    return facts


def _joined(first: str, *counted: tuple[int | None, str]) -> str:
    """``812 read, 3 broken, 8 over the cutoff``; counts of nothing are left out."""
    return ", ".join([first, *(f"{number:,} {what}" for number, what in counted if number)])


def plan_facts(plan: dict[str, Any], save_every_steps: int = 0) -> list[tuple[str, str]]:
    """Pairs of words and value about the plan of the run."""
    if not plan:
        return []
    steps, warmup = plan.get("num_steps", 0), round(plan.get("warmup_steps") or 0)
    facts = [("Steps", f"{steps:,}{_epochs(plan)}")]
    if plan.get("batch_size"):
        batch, accumulation = plan["batch_size"], plan.get("accumulation", 1)
        product = "" if accumulation == 1 else f" × {accumulation} = {batch * accumulation}"
        facts.append(("Samples a step", f"{batch}{product}"))
    share = f" ({warmup / steps:.0%} of the run)" if steps else ""
    facts.append(("Warm-up", f"{words.plural(warmup, 'step')}{share}" if warmup else "none"))
    if save_every_steps:
        facts.append(("Checkpoints", f"every {words.plural(save_every_steps, 'step')}, {steps // save_every_steps:,} in all"))
    if plan.get("padding_share") is not None:
        facts.append(("Padding", f"{plan['padding_share']:.1%} of what is computed"))
    if plan.get("num_trained_parameters"):
        places = f" on {', '.join(plan['targets'])}" if plan.get("targets") else ""
        facts.append(("Trained weights", f"{plan['num_trained_parameters']:,} by {plan.get('method', 'lora')}{places}"))
    if plan.get("result_bytes"):
        facts.append(("Size of the result", f"{plan['result_bytes'] / 1e6:,.1f} MB"))
    if plan.get("precision"):
        facts.append(("Precision", str(plan["precision"])))
    return facts


def schedule_html(plan: dict[str, Any]) -> str:
    """The learning rate over the planned run as a small chart, and what the schedule does in words."""
    points = [(float(step), float(rate)) for step, rate in plan.get("learning_rates", [])]
    if not points:
        return ""
    picture = chart(f"Learning rate: {plan.get('schedule', '')}", [Curve("", "tph-rate", points)], points[-1][0], from_zero=True)
    sentence = escape(str(plan.get("schedule_words", "")))
    return f'<div class="tph-schedule">{picture}<p class="tph-axis">optimizer steps</p><p class="tph-muted">{sentence}</p></div>'


def _epochs(plan: dict[str, Any]) -> str:
    """``, 2.5 epochs of 200, 200, 100``: steps of each epoch if they differ."""
    epochs, per_epoch = plan.get("num_epochs"), plan.get("steps_per_epoch")
    if not isinstance(epochs, (int, float)):
        return ""
    counts = per_epoch if isinstance(per_epoch, (list, tuple)) else [per_epoch] if per_epoch else []
    each = [f"{counts[0]:,}"] if len(set(counts)) == 1 else [f"{count:,}" for count in counts[:6]] + ["…"] * (len(counts) > 6)
    return f", {epochs:g} {'epoch' if epochs == 1 else 'epochs'}" + (f" of {', '.join(each)}" if each else "")


def memory_facts(memory: dict[str, Any]) -> list[tuple[str, str]]:
    """Pairs of words and value about the memory that the run needs."""
    if not memory.get("total"):
        return []
    parts = ", ".join(f"{name} {words.size(memory[name])}" for name in _MEMORY_WORDS if memory.get(name))
    free = f"; {words.size(memory['available'])} are free now" if memory.get("available") else ""
    return [("Memory", f"about {words.size(memory['total'])}" + (f" ({parts})" if parts else "") + free)]


def _table(facts: list[tuple[str, str]]) -> str:
    rows = "".join(f'<tr><th scope="row">{escape(label)}</th><td>{escape(value)}</td></tr>' for label, value in facts)
    return f'<table class="tph-table"><tbody>{rows}</tbody></table>' if rows else ""


def _sentences(style: str, sentences: list[str]) -> str:
    entries = "".join(f'<li class="{style}">{escape(sentence)}</li>' for sentence in sentences)
    return f'<ul class="tph-messages">{entries}</ul>' if entries else ""


def _suggestions(suggestions: dict[str, tuple[Any, str]]) -> str:
    sentences = [f"{label_of_field(field)}: {value} is suggested, {reason}." for field, (value, reason) in suggestions.items()]
    return _sentences("tph-level-info", sentences)


def _left_out(title: str, number: int, entries: list[dict[str, Any]]) -> str:
    if not number:
        return ""
    shown = [f"<li><code>{escape(_place(entry))}</code> {escape(_reason(entry))}</li>" for entry in entries[:_SHOWN_ROWS]]
    if number > len(shown):
        shown.append(f'<li class="tph-muted">and {number - len(shown):,} more</li>')
    return f'<details class="tph-rows"><summary>{title}: {number:,}</summary><ul>{"".join(shown)}</ul></details>'


def _reason(entry: dict[str, Any]) -> str:
    return str(entry.get("reason") or (f"{entry['tokens']:,} tokens" if "tokens" in entry else ""))


def _place(entry: dict[str, Any]) -> str:
    line = entry.get("line")
    return _short(str(entry.get("file", ""))) + (f":{line}" if line not in (None, "") else "")


def _short(path: str) -> str:
    """The last two parts of a path: enough to recognise a file."""
    parts = PurePath(path).parts
    return "/".join(["…", *parts[-2:]]) if len(parts) > 3 else path
