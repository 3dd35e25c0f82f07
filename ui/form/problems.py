"""The box of problems beside the Start button, which also marks the fields they belong to. Pure functions of texts.

Everything that comes from outside is escaped, for HTML and for CSS.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from ...config import ConfigError, Problem, RunConfig
from ..fields import GROUPS, element_id, group_of

NO_PROBLEMS = '<div id="tph-problems" role="alert"></div>'


def problems_html(problems: Sequence[Problem | str], title: str = "") -> str:
    """All problems at once: a list, and a mark with the message at each field that has one.

    ``data-first`` names the first marked field of the form; the page brings it into sight (draft.SHOW_FIRST_JS).

    Args:
        problems: problems of fields, or sentences.
        title: words above the list; empty: how many there are.
    """
    if not problems:
        return NO_PROBLEMS
    count = len(problems)
    title = title or ("One thing must be mended first:" if count == 1 else f"{count} things must be mended first:")
    entries = "".join(f"<li>{_entry(problem)}</li>" for problem in problems)
    marked = marked_fields([problem for problem in problems if isinstance(problem, Problem)])
    style = f"<style>{''.join(_mark(field, message) for field, message in marked.items())}</style>" if marked else ""
    first = f' data-first="{element_id(next(iter(marked)))}"' if marked else ""
    return f'<div id="tph-problems" role="alert" class="tph-card tph-bad"{first}><p>{escape(title)}</p><ul>{entries}</ul>{style}</div>'


def marked_fields(problems: Sequence[Problem]) -> dict[str, str]:
    """What to say at each field, from the top of the form to its bottom; problems of what is no field have no place there."""
    places = {info.field: (GROUPS.index(group_of(info)), place) for place, info in enumerate(RunConfig.settings())}
    said: dict[str, list[str]] = {}
    for problem in sorted((one for one in problems if one.field in places), key=lambda one: places[one.field]):
        said.setdefault(problem.field, []).append(problem.message)
    return {field: " ".join(dict.fromkeys(messages)) for field, messages in said.items()}


def error_problems(error: BaseException) -> list[Problem | str]:
    """What to show for an exception of a start."""
    if isinstance(error, ConfigError):
        return list(error.problems)
    return [str(error) or type(error).__name__]


def show_value(value: Any) -> str:
    """A value as it appears in a message: short, and with a word for nothing."""
    if value is None or value == "":
        return "nothing"
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _entry(problem: Problem | str) -> str:
    """A sentence, with a link to the field."""
    if isinstance(problem, str):
        return escape(problem)
    got = f"Got: {show_value(problem.value)}."
    label = escape(problem.label)
    if problem.field in marked_fields([problem]):
        label = f'<a href="#{element_id(problem.field)}">{label}</a>'
    return f"<b>{label}</b>: {escape(problem.message)} {escape(got)} {escape(problem.remedy)}"


def _mark(field: str, message: str) -> str:
    """A frame around the field and the message below it; works in every gradio version, as no field can show an error of its own."""
    selector, message = "#" + _css_escape(element_id(field)), _css_escape(message)
    frame = ",".join(f"{selector} {inner}" for inner in ("input:not(.border-none)", "textarea", ".container>.wrap"))
    return (
        f"{frame}{{border-color:var(--tph-bad)!important;box-shadow:0 0 0 1px var(--tph-bad)!important}}"
        f'{selector}::after{{content:"{message}";display:block;margin-top:4px;color:var(--tph-bad);font-size:12.5px;font-weight:600}}'
    )


def _css_escape(text: str) -> str:
    return "".join(sign if sign.isascii() and (sign.isalnum() or sign in "-_") else f"\\{ord(sign):x} " for sign in text)
