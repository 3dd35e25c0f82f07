"""Check's suggestions: a line with its reason and a button for each, and one button for all. Values go into the form's fields, nothing else.

Guarantee: what a button writes is what its line says. Price: gradio makes no components while a page is open, so that the lines are there
from the beginning, hidden.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape
from typing import Any

from ...config import RunConfig
from ..compat import html_block
from ..fields import label_of_field, to_widget, write_number

MOST = 10  # suggestions shown at once; training.suggesting has fewer rules
APPLY, APPLIED = "Apply", "Applied"


@dataclass
class SuggestionRow:
    """Components of one line."""

    row: Any
    text: Any
    button: Any


@dataclass
class SuggestionBox:
    """Components of all lines.

    Attributes:
        whole: the column around them.
        state: what is suggested now: field -> [value, reason]; in the order of the lines.
        all_button: applies every line.
    """

    whole: Any
    state: Any
    all_button: Any
    rows: list[SuggestionRow] = field(default_factory=list)

    @property
    def outputs(self) -> list[Any]:
        """Components that :func:`show` updates, in its order."""
        return [self.whole, self.state, self.all_button, *(part for row in self.rows for part in (row.row, row.text, row.button))]

    @property
    def buttons(self) -> list[Any]:
        """The lines' buttons, then the one for all."""
        return [*(row.button for row in self.rows), self.all_button]


def build_suggestions() -> SuggestionBox:
    """Make the hidden lines in the current Blocks context."""
    import gradio as gr

    state = gr.State({})
    with gr.Column(visible=False, elem_id="tph-suggestions", elem_classes=["tph-card", "tph-suggestions"]) as whole:
        html_block("<p><b>Suggestions</b></p>")
        rows = []
        for number in range(MOST):
            with gr.Row(visible=False, elem_classes=["tph-suggestion"]) as row:
                text = html_block("", elem_classes=["tph-suggestion-text"])
                button = gr.Button(APPLY, elem_id=f"tph-apply-{number}", size="sm", min_width=84, scale=0)
            rows.append(SuggestionRow(row, text, button))
        all_button = gr.Button("Apply all", elem_id="tph-apply-all", size="sm")
    return SuggestionBox(whole, state, all_button, rows)


def show(suggestions: Mapping[str, tuple[Any, str]]) -> list[Any]:
    """Updates of :attr:`SuggestionBox.outputs` that show these; none hides the box."""
    import gradio as gr

    kept = dict(list(suggestions.items())[:MOST])
    updates: list[Any] = [gr.update(visible=bool(kept)), {name: list(pair) for name, pair in kept.items()}]
    updates.append(gr.update(visible=len(kept) > 1, interactive=True))
    for name, (value, reason) in kept.items():
        updates += [gr.update(visible=True), line_html(name, value, reason), gr.update(value=APPLY, interactive=True)]
    for _ in range(MOST - len(kept)):
        updates += [gr.update(visible=False), "", gr.update()]
    return updates


def unchanged() -> list[Any]:
    """Updates of :attr:`SuggestionBox.outputs` that leave everything as it is."""
    import gradio as gr

    return [gr.update() for _ in range(3 + 3 * MOST)]


def line_html(name: str, value: Any, reason: str) -> str:
    """``Cutoff: 96. The longest sample has 90 tokens.``"""
    sentence = f"{reason[:1].upper()}{reason[1:]}."
    return f"<b>{escape(label_of_field(name))}: {escape(value_words(value))}.</b> {escape(sentence)}"


def value_words(value: Any) -> str:
    """A suggested value as people read it."""
    if isinstance(value, bool):
        return "on" if value else "off"
    return write_number(value) if isinstance(value, float) else str(value)


def applied(state: Mapping[str, Any], chosen: int | None) -> tuple[dict[str, Any], list[Any], str]:
    """What a press of a button does.

    Args:
        state: of :attr:`SuggestionBox.state`.
        chosen: number of the line; None = all.

    Returns:
        Values of fields (dotted name -> value as the field shows it), updates of :attr:`SuggestionBox.buttons`, and a word to the user.
    """
    import gradio as gr

    infos = {info.field: info for info in RunConfig.settings()}
    names = [name for name in state if name in infos]
    taken = [name for number, name in enumerate(names) if chosen in (None, number)]
    values = {name: to_widget(infos[name], state[name][0]) for name in taken}
    done = gr.update(value=APPLIED, interactive=False)
    buttons = [done if number < len(names) and names[number] in taken else gr.update() for number in range(MOST)]
    buttons.append(gr.update(interactive=False) if chosen is None else gr.update())
    said = ", ".join(f"{infos[name].label} is {value_words(state[name][0])} now" for name in taken)
    return values, buttons, f"{said}. Check again to see what that changes." if said else "Nothing is suggested. Press Check."
