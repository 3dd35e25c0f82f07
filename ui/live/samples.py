"""The answers to a user's prompts over time, as HTML: the base model's first, then on the way, then at the end. A pure function of samples.

Guarantee: answers stand side by side in the order of their steps, each in a card of its own that a phone shows too (the row scrolls, the
page does not); everything is escaped; what is left out of a long row is counted. Price: none.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

NEWEST_SHOWN = 12  # besides the base model's


def samples_html(samples: Sequence[dict[str, Any]]) -> str:
    """One row for each prompt; empty before there is an answer.

    Args:
        samples: events, in the order in which they came.
    """
    answers: dict[str, list[dict[str, Any]]] = {}
    for sample in samples:
        answers.setdefault(str(sample.get("prompt", "")), []).append(sample)
    rows = "".join(_row(prompt, entries) for prompt, entries in answers.items())
    return f'<div class="tph-card"><b>Samples</b>{rows}</div>' if rows else ""


def _row(prompt: str, entries: list[dict[str, Any]]) -> str:
    # a resumed run answers again what it begins with: the last answer of a time counts
    latest: dict[str, dict[str, Any]] = {}
    for entry in entries:
        title = _title(entry)
        latest.pop(title, None)
        latest[title] = entry
    base = [title for title in latest if title == _title({"when": "before"})]
    others = [title for title in latest if title not in base]
    left_out = len(others) - NEWEST_SHOWN
    cards = "".join(_card(title, latest[title]) for title in base)
    if left_out > 0:
        cards += f'<p class="tph-muted tph-left-out">{left_out} earlier answers are in events.jsonl.</p>'
    cards += "".join(_card(title, latest[title]) for title in others[-NEWEST_SHOWN:])
    return f'<p class="tph-prompt">{escape(prompt)}</p><div class="tph-answers" tabindex="0" role="group" aria-label="Answers">{cards}</div>'


def _title(sample: dict[str, Any]) -> str:
    when = sample.get("when")
    if when == "before":
        return "Before, base model"
    return f"Step {sample.get('step', '?'):,}" if when == "step" and isinstance(sample.get("step"), int) else "After"


def _card(title: str, sample: dict[str, Any]) -> str:
    answer = str(sample.get("answer", ""))
    text = f"<p>{escape(answer)}</p>" if answer.strip() else '<p class="tph-muted">(nothing)</p>'
    return f'<div class="tph-answer" data-when="{escape(str(sample.get("when", "")))}"><b>{escape(title)}</b>{text}</div>'
