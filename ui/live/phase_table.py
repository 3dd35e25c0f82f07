"""The phases of a run in numbers, as HTML under the graph. A pure function of the run's state.

Guarantee: the numbers are those of the table that the run ends with (evaluation.phase_table); names are escaped. Price: one walk through
the steps each time it is drawn while the run goes on.
"""

from __future__ import annotations

from html import escape

from ...evaluation.phase_table import BEFORE, basis, changes, phase_rows, table_cells
from ...runs.state import RunState


def phase_table_html(state: RunState) -> str:
    """``#tph-phases``; empty before there is more to say than the status line does."""
    rows = state.phase_table or phase_rows(state)  # an ended run has written its rows
    if len(rows) < 2 or not state.steps:
        return ""
    titles, cells = table_cells(rows)
    head = "".join(f'<th scope="col">{escape(title)}</th>' for title in titles)
    body = "".join(_line(row.get("cause") or "", line) for row, line in zip(rows, cells, strict=True))
    notes = [basis(rows), *(f"Since the first measurement: {line}." for line in changes(rows) if not line.startswith(BEFORE))]
    words = "".join(f'<p class="tph-muted">{escape(note)}</p>' for note in notes if note)
    return (
        f'<div id="tph-phases" class="tph-card"><b>Phases</b><div class="tph-scroll"><table class="tph-table tph-list"><thead><tr>{head}'
        f"</tr></thead><tbody>{body}</tbody></table></div>{words}</div>"
    )


def _line(cause: str, cells: list[str]) -> str:
    name, *numbers = cells
    why = f' title="{escape(cause)}"' if cause else ""
    return f'<tr><th scope="row"{why}>{escape(name)}</th>{"".join(f"<td>{escape(number)}</td>" for number in numbers)}</tr>'
