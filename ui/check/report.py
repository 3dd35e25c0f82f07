"""What Check found, as HTML: data, plan, memory, rows left out, warnings. Pure functions of the result."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import PurePath
from typing import Any

from ...data.report import DataReport
from ...runs.check_report import CheckReport
from .. import words
from .pictures import histogram_html, memory_html, phases_html, schedule_html

NO_REPORT = '<div id="tph-check"></div>'
_SHOWN_ROWS = 20


def report_html(result: CheckReport, cutoff: int = 0, save_every_steps: int = 0) -> str:
    """The report in ``#tph-check``; problems come first.

    Args:
        result: what the host's check returned.
        cutoff: the form's, shown with the lengths; 0 = not shown.
        save_every_steps: the form's save interval, shown with the plan; 0 = at the end of epochs only.
    """
    status = "problems" if result.problems else "ok"
    report = result.report
    facts = [*data_facts(report), *plan_facts(result.plan, save_every_steps)]
    parts = [_sentences("tph-level-error", result.problems), _sentences("tph-level-warning", result.warnings)]
    parts += [facts_table(facts) if facts else "", histogram_html(report.get("histogram", []), cutoff)]
    if report.get("sources"):
        parts.append(_sentences("tph-level-info", DataReport(sources=report["sources"]).source_lines()))
    parts.append(_sentences("tph-level-info", [str(note) for note in report.get("notes", [])]))
    parts.append(_left_out("Broken rows", report.get("num_broken", 0), report.get("broken", [])))
    parts.append(_left_out("Too long rows", report.get("num_too_long", 0), report.get("too_long", [])))
    parts += [phases_html(result.plan), schedule_html(result.plan), memory_html(result.memory)]
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
    broken = (report.get("num_broken"), "broken")
    facts.append(("Rows", _joined(f"{report.get('num_rows', 0):,} read", broken)))
    if report.get("num_blocks"):
        small = (report.get("num_small_blocks"), "ignored as too small")
        facts.append(("Text blocks", _joined(f"{report['num_blocks']:,}", small)))
    held_out = (report.get("num_eval_samples"), "held out for evaluation")
    facts.append(("Samples", _joined(f"{report.get('num_samples', 0):,}", held_out)))
    tokens, trained = report.get("num_tokens", 0), report.get("num_trained_tokens", 0)
    share = f" ({trained / tokens:.0%})" if tokens else ""
    facts.append(("Tokens", f"{tokens:,}, of which {trained:,} trained{share}"))
    if longest := report.get("longest"):
        second = f", the second longest {longest[1]:,}" if len(longest) > 1 else ""
        facts.append(("Longest", f"{longest[0]:,} tokens{second}"))
    return facts + _left_out_facts(report)


def _left_out_facts(report: dict[str, Any]) -> list[tuple[str, str]]:
    """What is cut or dropped, each with its share; nothing for what did not happen."""
    unit, samples = report.get("unit", "conversations"), report.get("num_samples", 0) + report.get("num_eval_samples", 0)
    too_long, cut, untrained = (report.get(name, 0) for name in ("num_too_long", "num_cut", "num_untrained"))
    facts = []
    if too_long:
        facts.append(("Dropped", f"{too_long:,} {unit} over the cutoff ({too_long / (samples + too_long):.1%})"))
    if cut:
        replies = report.get("num_cut_replies", 0)
        rest = f", {words.plural(replies, 'reply', 'replies')} of theirs dropped" if replies else ""
        facts.append(("Cut", f"{cut:,} {unit} shortened to the cutoff ({min(1.0, cut / max(1, samples)):.1%}){rest}"))
    if untrained:
        facts.append(("Left out", f"{words.plural(untrained, 'sample')} without a trained token"))
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


def _epochs(plan: dict[str, Any]) -> str:
    """``, 2.5 epochs of 200, 200, 100``: steps of each epoch if they differ."""
    epochs, per_epoch = plan.get("num_epochs"), plan.get("steps_per_epoch")
    if not isinstance(epochs, (int, float)):
        return ""
    counts = per_epoch if isinstance(per_epoch, (list, tuple)) else [per_epoch] if per_epoch else []
    each = [f"{counts[0]:,}"] if len(set(counts)) == 1 else [f"{count:,}" for count in counts[:6]] + ["…"] * (len(counts) > 6)
    return f", {epochs:g} {'epoch' if epochs == 1 else 'epochs'}" + (f" of {', '.join(each)}" if each else "")


def facts_table(facts: Sequence[tuple[str, str]]) -> str:
    """Pairs of words and value as a table of two columns."""
    rows = "".join(f'<tr><th scope="row">{escape(label)}</th><td>{escape(value)}</td></tr>' for label, value in facts)
    return f'<table class="tph-table"><tbody>{rows}</tbody></table>'


def _sentences(style: str, sentences: list[str]) -> str:
    entries = "".join(f'<li class="{style}">{escape(sentence)}</li>' for sentence in sentences)
    return f'<ul class="tph-messages">{entries}</ul>' if entries else ""


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
