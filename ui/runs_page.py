"""The page of runs: a list, one opened or several compared, its parameters into the form, deletion with a question.

Guarantee: nothing is deleted without a second press that names what goes, and never a run that is going on. What is shown comes from the
runs' folders, so all pages show the same. Price: the diaries of the runs that are opened are read whole.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from ..config import RunConfig
from ..runs.registry import is_busy, latest
from ..runs.state import RUNNING, RunState, read_state
from ..runs.store import RunFolder
from ..runs.summary import RunList, RunSummary, summarize
from . import words
from .compat import event_options, html_block
from .host import Host
from .runs_list import NO_DETAILS, NO_RUNS, choice_label, compare_html, details_html, runs_html

MOST_COMPARED = 6
NO_NOTE = '<div id="tph-runs-note"></div>'


@dataclass
class RunsPage:
    """Components of the page that others wire.

    Attributes:
        chosen: the drop-down; its value is a list of folders.
        use: the button that copies the parameters of one run into the form.
        resume: the same, to go on with it.
        shown: outputs of :meth:`refresh`.
    """

    host: Host
    chosen: Any
    use: Any
    resume: Any
    shown: list[Any]

    def __post_init__(self) -> None:
        self._list = RunList()

    def refresh(self) -> list[Any]:
        """Look again what there is: the choices and the table."""
        import gradio as gr

        runs = self._list.read(self.host.adapters_dir())
        return [gr.update(choices=[(choice_label(run), str(run.folder.path)) for run in runs]), runs_html(runs)]

    def show(self, paths: list[str] | None) -> list[Any]:
        """One run in detail or several compared; and which buttons make sense for them."""
        import gradio as gr

        folders, note = self._folders(paths)
        said = note_html(note) if note else gr.update()
        details = NO_DETAILS
        if len(folders) == 1:
            details = details_html(*_opened(folders[0]))
        elif folders:
            details = compare_html([_opened(folder) for folder in folders])
        is_one = len(folders) == 1
        can_resume = is_one and summarize(folders[0]).is_unfinished
        buttons = [gr.update(interactive=on) for on in (is_one, can_resume, bool(folders))]
        return [details, said, *buttons, gr.update(visible=False)]

    def ask(self, paths: list[str] | None) -> list[Any]:
        """What would be deleted, as a question."""
        import gradio as gr

        folders, note = self._folders(paths)
        busy = [folder.name for folder in folders if is_going_on(folder)]
        if busy:
            note = f"{', '.join(busy)} is going on and cannot be deleted. Interrupt it first."
            return [note_html(note), gr.update(visible=False), ""]
        if not folders:
            return [note_html(note or "Choose runs first."), gr.update(visible=False), ""]
        question = " ".join(_what_goes(summarize(folder)) for folder in folders)
        return [NO_NOTE, gr.update(visible=True), f'<p id="tph-runs-question" role="alert">{escape(question)}</p>']

    def delete(self, paths: list[str] | None) -> list[Any]:
        """Delete the chosen runs, with everything in their folders."""
        import gradio as gr

        folders, note = self._folders(paths)
        gone = []
        for folder in folders:
            if is_going_on(folder):
                note = f"{folder.name} is going on and was not deleted."
                continue
            try:
                shutil.rmtree(folder.path)
                gone.append(folder.name)
            except OSError as error:
                note = f"{folder.name} could not be deleted: {error}. Does another program have it open?"
        said = f"Deleted: {', '.join(gone)}. " if gone else ""
        choices, table = self.refresh()
        left = [str(folder.path) for folder in folders if folder.path.is_dir()]
        return [note_html(said + note), gr.update(visible=False), gr.update(choices=choices["choices"], value=left), table]

    def keep(self) -> list[Any]:
        """Delete nothing."""
        import gradio as gr

        return [NO_NOTE, gr.update(visible=False)]

    def _folders(self, paths: list[str] | None) -> tuple[list[RunFolder], str]:
        """The chosen folders, as far as they are runs of the adapters' folder, and a word on the others."""
        own = self.host.adapters_dir().absolute()
        chosen = [RunFolder(Path(path)) for path in paths or []]
        known = [folder for folder in chosen if folder.path.absolute().parent == own and folder.path.is_dir()]
        note = "" if len(known) == len(chosen) else "A run that was chosen is not there any more."
        if len(known) > MOST_COMPARED:
            note = f"At most {MOST_COMPARED} runs are shown at once."
        return known[:MOST_COMPARED], note


def _opened(folder: RunFolder) -> tuple[RunFolder, RunState, RunConfig | None]:
    return folder, read_state(folder), read_config(folder)


def read_config(folder: RunFolder) -> RunConfig | None:
    """A run's parameters; None if there are none that can be read."""
    try:
        return RunConfig.from_file(folder.parameters)
    except (OSError, ValueError):
        return None


def is_going_on(folder: RunFolder) -> bool:
    """Whether a run uses this folder now, in this process or another."""
    handle = latest()
    is_own = is_busy() and handle is not None and handle.folder is not None and handle.folder.path == folder.path
    return is_own or summarize(folder).status == RUNNING


def _what_goes(run: RunSummary) -> str:
    files = [path for path in run.folder.path.rglob("*") if path.is_file()]
    size = words.size(sum(path.stat().st_size for path in files))
    held = ["its adapter"] if run.has_adapter else []
    held += [words.plural(run.num_checkpoints, "checkpoint")] if run.num_checkpoints else []
    inside = f", {' and '.join(held)} with it" if held else ""
    return f"{run.name} would be deleted for good: {words.plural(len(files), 'file')}, {size}{inside}."


def note_html(text: str) -> str:
    """A word of the page."""
    return f'<div id="tph-runs-note" class="tph-card" role="status"><p>{escape(text)}</p></div>' if text else NO_NOTE


def build_runs(host: Host) -> RunsPage:
    """Create the page's components in the current Blocks context and wire what concerns only them."""
    import gradio as gr

    with gr.Column(elem_classes=["tph-tab"]):
        with gr.Row(elem_classes=["tph-refreshed"]):
            chosen = gr.Dropdown(
                choices=[],
                value=[],
                multiselect=True,
                label="Runs",
                info=f"One to open it, up to {MOST_COMPARED} to compare them.",
                elem_id="tph-runs-chosen",
                elem_classes=["tph-field"],
                scale=10,
            )
            again = gr.Button("↻", elem_id="tph-runs-refresh", elem_classes=["tph-refresh"], min_width=42, scale=0)
        with gr.Row(elem_classes=["tph-buttons"]):
            use = gr.Button("Parameters into the form", elem_id="tph-runs-use", interactive=False, min_width=120)
            resume = gr.Button("Go on with it", elem_id="tph-runs-resume", interactive=False, min_width=120)
            delete = gr.Button("Delete …", variant="stop", elem_id="tph-runs-delete", interactive=False, min_width=120)
        note = html_block(NO_NOTE, elem_id="tph-runs-note-box")
        with gr.Column(visible=False) as question:
            asked = html_block("", elem_id="tph-runs-question-box")
            with gr.Row(elem_classes=["tph-buttons"]):
                really = gr.Button("Delete for good", variant="stop", elem_id="tph-runs-really", min_width=120)
                keep = gr.Button("Keep", elem_id="tph-runs-keep", min_width=120)
        details = html_block(NO_DETAILS, elem_id="tph-run-details-box")
        table = html_block(NO_RUNS, elem_id="tph-runs-box")
    page = RunsPage(host, chosen, use, resume, [chosen, table])
    again.click(page.refresh, None, page.shown, **event_options())
    chosen.change(page.show, chosen, [details, note, use, resume, delete, question], **event_options())
    delete.click(page.ask, chosen, [note, question, asked], **event_options())
    really.click(page.delete, chosen, [note, question, chosen, table], **event_options())
    keep.click(page.keep, None, [note, question], **event_options())
    return page


def config_of(paths: Sequence[str] | None, *, resume: bool) -> RunConfig:
    """The parameters of the one run that is chosen.

    Args:
        paths: the drop-down's value.
        resume: made to go on with that run.

    Raises:
        ValueError: not one run, or its parameters cannot be read.
    """
    if not paths or len(paths) != 1:
        raise ValueError("Choose one run first.")
    folder = RunFolder(Path(paths[0]))
    config = RunConfig.from_file(folder.parameters)
    if resume:  # 'new name' gives a folder another name than was asked for
        config.adapter.name, config.adapter.if_exists = folder.name, "resume"
    return config
