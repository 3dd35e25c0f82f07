"""The line about the model at the top of the tab. Pure functions of what the host says."""

from __future__ import annotations

from html import escape
from typing import Any

from . import words


def model_html(facts: dict[str, Any]) -> str:
    """``#tph-model``: which model would be trained, or prominently why none can be.

    Args:
        facts: see :class:`training_pro.ui.host.Host`, ``model_facts``.
    """
    problem = facts.get("problem")
    if problem:
        text = f"<p>{escape(str(problem))}</p>"
        return f'<div id="tph-model" class="tph-card tph-bad" data-status="problem" role="alert">{text}</div>'
    parts = [f"<b>{escape(str(facts.get('name') or 'a model without a name'))}</b>"]
    if facts.get("num_parameters"):
        parts.append(f"{short_count(facts['num_parameters'])} parameters")
    parts += [escape(str(facts[key])) for key in ("dtype", "device", "detail") if facts.get(key)]
    if facts.get("context"):
        parts.append(f"context {words.count(facts['context'])} tokens")
    return f'<div id="tph-model" class="tph-card" data-status="ok"><p>Model: {" · ".join(parts)}</p></div>'


def short_count(number: float) -> str:
    """134.5M, 7B."""
    for factor, letter in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if number >= factor:
            return f"{number / factor:.4g}{letter}"
    return f"{number:g}"
