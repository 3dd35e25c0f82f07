"""The checkpoints of the shown run: a table, and what one may do with one: resume from it, make it the adapter, delete it.

Guarantee: nothing is deleted without a second press that names what goes, nor while the run trains; what is done concerns the run that
the page shows. Price: the markers and sizes of the checkpoints are read when one was saved or deleted, and not at every look.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from ...config import RunConfig
from ...runs.checkpoints import CheckpointRow, checkpoint_rows, delete_checkpoint, use_checkpoint
from ...runs.store import RunFolder
from .. import words
from ..compat import event_options, html_block
from ..host import Host
from ..log_lines import CAUSES
from ..questions import build_question
from ..session import PageSession

NO_NOTE = '<div id="tph-checkpoint-note"></div>'
# what the user, the disk or a settings file can bring about
_EXPECTED = (ValueError, OSError)


def checkpoints_html(rows: Sequence[CheckpointRow]) -> str:
    """All checkpoints as a table, newest first; a word where there are none."""
    if not rows:
        return '<p class="tph-muted">There is no checkpoint yet.</p>'
    titles = ("Checkpoint", "Epoch", "Loss", "Evaluation", "Size", "Saved because")
    head = "".join(f'<th scope="col">{title}</th>' for title in titles)
    body = "".join(_line(row) for row in reversed(rows))
    return f'<div class="tph-scroll"><table class="tph-table tph-list"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _line(row: CheckpointRow) -> str:
    best = ' <span class="tph-badge tph-is-finished">best</span>' if row.is_best else ""
    half = "" if row.is_complete else ' <span class="tph-badge tph-is-failed">not whole</span>'
    cells = [
        "" if row.epoch is None else f"{row.epoch:.2f}",
        words.loss(row.loss),
        words.loss(row.eval_loss),
        words.size(row.num_bytes),
        escape(CAUSES.get(row.cause, row.cause or "–")),
    ]
    name = f'<th scope="row">{escape(_step_words(row))}{best}{half}</th>'
    return f'<tr data-checkpoint="{escape(row.path.name)}">{name}{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>'


def _step_words(row: CheckpointRow) -> str:
    return f"step {row.step:,}" + (" (yours)" if row.path.name.endswith("-user") else "")


def choices_of(rows: Sequence[CheckpointRow]) -> list[tuple[str, str]]:
    """(words, folder's name) of the checkpoints, newest first."""
    found = []
    for row in reversed(rows):
        parts = [_step_words(row)]
        parts += [f"loss {words.loss(row.loss)}"] if row.loss is not None else []
        parts += [f"evaluation {words.loss(row.eval_loss)}"] if row.eval_loss is not None else []
        found.append((" · ".join(parts), row.path.name))
    return found


def resume_config(folder: RunFolder, name: str | None) -> RunConfig:
    """The parameters of a run, made to go on from one of its checkpoints.

    Raises:
        ValueError: none is chosen, it is gone or not whole, or the parameters cannot be read.
        OSError: likewise.
    """
    row = _chosen(folder, name)
    if not row.is_complete:
        raise ValueError(f"Checkpoint {row.path.name}: it is not whole (its save did not end). Choose another one.")
    config = RunConfig.from_file(folder.parameters)
    config.adapter.name, config.adapter.if_exists = folder.name, "resume"
    config.adapter.resume_from = row.path.name
    return config


def _chosen(folder: RunFolder, name: str | None) -> CheckpointRow:
    if not name:
        raise ValueError("Choose a checkpoint first.")
    row = next((row for row in checkpoint_rows(folder) if row.path.name == name), None)
    if row is None:
        raise ValueError(f"Checkpoint {name}: it is not there any more. Choose another one.")
    return row


def note_html(text: str, is_problem: bool = False) -> str:
    """A word under the buttons."""
    style = ' class="tph-error" role="alert"' if is_problem else ' role="status"'
    return f'<div id="tph-checkpoint-note"><p{style}>{escape(text)}</p></div>' if text else NO_NOTE


@dataclass
class CheckpointsPart:
    """The components, and what their buttons do.

    Attributes:
        box: the closed group that holds all of them; not shown without a run.
        table: the table.
        chosen: the drop-down; its value is the name of a checkpoint's folder.
        resume: the button that others wire, as it fills the form.
    """

    host: Host
    box: Any
    table: Any
    chosen: Any
    resume: Any
    note: Any

    def use(self, page: PageSession, name: str | None) -> list[Any]:
        """Make a checkpoint the run's adapter."""
        return self._do(page, name, lambda folder: use_checkpoint(folder, _chosen(folder, name).path))

    def ask(self, page: PageSession, name: str | None) -> list[Any]:
        """What would be deleted, as a question."""
        import gradio as gr

        try:
            row = _chosen(page.run(self.host)[0], name)
        except _EXPECTED as error:
            return [note_html(str(error), True), gr.update(visible=False), ""]
        question = f"{row.path.name} would be deleted for good: {words.size(row.num_bytes)}."
        return [NO_NOTE, gr.update(visible=True), f'<p id="tph-checkpoint-question" role="alert">{escape(question)}</p>']

    def delete(self, page: PageSession, name: str | None) -> list[Any]:
        """Delete a checkpoint."""

        def gone(folder: RunFolder) -> str:
            delete_checkpoint(folder, _chosen(folder, name).path)
            return f"{name} was deleted."

        return self._do(page, name, gone)

    def keep(self) -> list[Any]:
        """Delete nothing."""
        import gradio as gr

        return [NO_NOTE, gr.update(visible=False)]

    def _do(self, page: PageSession, name: str | None, what: Callable[[RunFolder], str]) -> list[Any]:
        """Note, question, table and choices after something was done with the chosen checkpoint."""
        import gradio as gr

        shown: list[Any] = [gr.update(), gr.update()]
        try:
            if reason := self.host.read_only():
                raise ValueError(reason)
            folder, _ = page.run(self.host)
            said = note_html(what(folder))
            rows = checkpoint_rows(folder)
            left = next((row.path.name for row in rows if row.path.name == name), None)
            shown = [checkpoints_html(rows), gr.update(choices=choices_of(rows), value=left)]
        except _EXPECTED as error:
            said = note_html(str(error), True)
        return [said, gr.update(visible=False), *shown]


def build_checkpoints(host: Host, session: Any) -> CheckpointsPart:
    """Create the components in the current Blocks context and wire what concerns only them."""
    import gradio as gr

    with gr.Accordion("Checkpoints", open=False, visible=False, elem_id="tph-checkpoints", elem_classes=["tph-group"]) as box:
        table = html_block(checkpoints_html([]), elem_id="tph-checkpoints-box")
        chosen = gr.Dropdown(
            choices=[],
            value=None,
            label="Checkpoint",
            elem_id="tph-checkpoint-chosen",
            elem_classes=["tph-field"],
            interactive=True,
        )
        with gr.Row(elem_classes=["tph-buttons", "tph-button-grid"]):
            resume = gr.Button("Resume from it", elem_id="tph-checkpoint-resume", min_width=100)
            use = gr.Button("Make it the adapter", elem_id="tph-checkpoint-use", min_width=100)
            delete = gr.Button("Delete …", variant="stop", elem_id="tph-checkpoint-delete", min_width=100)
        note = html_block(NO_NOTE, elem_id="tph-checkpoint-note-box")
        asking = build_question("tph-checkpoint", "tph-checkpoint-question-box", "Delete for good", "Keep")
        question, asked, really, keep = asking
    part = CheckpointsPart(host, box, table, chosen, resume, note)
    done = [note, question, table, chosen]
    use.click(part.use, [session, chosen], done, **event_options())
    delete.click(part.ask, [session, chosen], [note, question, asked], **event_options())
    really.click(part.delete, [session, chosen], done, **event_options())
    keep.click(part.keep, None, [note, question], **event_options())
    return part


class CheckpointTable:
    """The rows of a folder's checkpoints, read anew only when the diary or the folder has changed."""

    def __init__(self) -> None:
        self._key: tuple[Any, ...] = ()
        self._rows: list[CheckpointRow] = []

    def rows(self, path: Path, *news: int) -> list[CheckpointRow]:
        """The checkpoints there are now.

        Args:
            path: the run's folder.
            news: numbers that grow when something happened that the folder's date does not tell (events of the diary).
        """
        try:
            key = (path, path.stat().st_mtime_ns, *news)
        except OSError:
            return []
        if key != self._key:
            self._key, self._rows = key, checkpoint_rows(RunFolder(path))
        return self._rows
