"""The page of runs: a list, one opened or several compared, its parameters into the form, deletion with a question.

Guarantee: nothing is deleted without a second press that names what goes, and never a run that is going on. What is shown comes from the
runs' folders, so all pages show the same. Price: the diaries of the runs that are opened are read whole.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any, Literal

from ...config import RunConfig
from ...runs.removal import removal_of, removal_problem, remove_run
from ...runs.state import RUNNING, RunState, read_state
from ...runs.store import RunFolder
from ...runs.summary import RunSummary, summarize
from .. import words
from ..compat import event_options, html_block
from ..feed import feed_of
from ..host import Host
from ..questions import build_question
from .export import build_export
from .list import NO_DETAILS, NO_RUNS, choice_label, compare_html, details_html, runs_html
from .queue_page import QueuePage, build_queue
from .watch import ListSession, SharedRuns, changes

MOST_COMPARED = 6
NEWEST, BY_NAME = "newest first", "by name"
ORDERS = (NEWEST, BY_NAME)
_BUTTONS: tuple[tuple[str, str, Literal["secondary", "stop"]], ...] = (
    ("Parameters into the form", "use", "secondary"),
    ("Train it further", "continue", "secondary"),
    ("Go on with it", "resume", "secondary"),
    ("Delete …", "delete", "stop"),
)
NO_NOTE = '<div id="tph-runs-note"></div>'


@dataclass
class RunsPage:
    """Components of the page that others wire.

    Attributes:
        chosen: the drop-down; its value is a list of folders.
        order: in which order they are listed; ``session``: gr.State with the page's :class:`ListSession`.
        to_form: buttons that copy the parameters of one run into the form, by what is to be done with its folder ("" = nothing).
        shown: outputs of :meth:`refresh`.
        queue: the part with the queue.
    """

    host: Host
    chosen: Any
    order: Any
    session: Any
    to_form: dict[str, Any]
    shown: list[Any]
    queue: QueuePage | None = None

    def __post_init__(self) -> None:
        self._runs = SharedRuns(self.host.adapters_dir)

    def refresh(self, order: str | None, session: ListSession) -> list[Any]:
        """Look again what there is: the choices and the table.

        Args:
            order: one of ORDERS.
            session: of the page; its stream keeps that order.
        """
        session.order = order or ORDERS[0]
        return self._list(session, anew=True)

    def _list(self, session: ListSession, *, anew: bool = False) -> list[Any]:
        import gradio as gr

        runs = in_order(self._runs.read(anew=anew), session.order)
        return [gr.update(choices=[(choice_label(run), str(run.folder.path)) for run in runs]), runs_html(runs)]

    async def watch(self, session: ListSession) -> AsyncIterator[list[Any]]:
        """Updates of :attr:`shown` and of the queue, for as long as the page is open."""
        import gradio as gr

        queue = self.queue

        def look() -> list[tuple[Any, Any]]:
            choices, table = self._list(session)
            # a drop-down that is open should not change with every step: only what there is counts
            stamp = (session.order, [(run.folder.path, run.status) for run in self._runs.read()])
            return [(stamp, choices), (table, table), *(queue.look() if queue else [])]

        async for news in changes(look):
            yield [gr.update() if update is None else update for update in news]

    def show(self, paths: list[str] | None) -> list[Any]:
        """One run in detail or several compared; and which buttons make sense for them."""
        import gradio as gr

        folders, note = self._folders(paths)
        if len(folders) > MOST_COMPARED:
            folders, note = folders[:MOST_COMPARED], f"At most {MOST_COMPARED} runs are shown at once."
        said = note_html(note) if note else gr.update()
        details = NO_DETAILS
        if len(folders) == 1:
            details = _details(folders[0])
        elif folders:
            details = compare_html([_opened(folder) for folder in folders])
        found = summarize(folders[0]) if len(folders) == 1 else None
        can_continue = found is not None and found.has_adapter and found.status != RUNNING
        on = (found is not None, can_continue, found is not None and found.is_unfinished, bool(folders))
        return [details, said, *(gr.update(interactive=is_on) for is_on in on), gr.update(visible=False)]

    def ask(self, paths: list[str] | None) -> list[Any]:
        """What would be deleted, as a question; the last value is what the second press deletes."""
        import gradio as gr

        closed = gr.update(visible=False)
        if word := self.host.read_only():
            return [note_html(word), closed, "", []]
        folders, note = self._folders(paths)
        hindered = [problem for folder in folders if (problem := removal_problem(folder, self.host.adapters_dir()))]
        if hindered:
            return [note_html(" ".join(hindered)), closed, "", []]
        if not folders:
            return [note_html(note or "Choose runs first."), closed, "", []]
        question = " ".join([*(_what_goes(summarize(folder)) for folder in folders), "There is no bin to take it back from."])
        asked = f'<p id="tph-runs-question" role="alert">{escape(question)}</p>'
        return [note_html(note), gr.update(visible=True), asked, [str(folder.path) for folder in folders]]

    def delete(self, asked: list[str] | None, session: ListSession) -> list[Any]:
        """Delete the runs that the question named, with everything in their folders."""
        import gradio as gr

        if word := self.host.read_only():
            return [note_html(word), gr.update(visible=False), gr.update(), gr.update()]
        folders, note = self._folders(asked)
        gone, words_ = [], [note] if note else []
        for folder in folders:
            try:
                remove_run(folder, self.host.adapters_dir())
                gone.append(folder.name)
            except (ValueError, OSError) as error:
                words_.append(str(error))
        said = [f"Deleted: {', '.join(gone)}.", *words_] if gone else words_
        choices, table = self._list(session, anew=True)
        left = [str(folder.path) for folder in folders if folder.path.is_dir()]
        return [note_html(" ".join(said)), gr.update(visible=False), gr.update(choices=choices["choices"], value=left), table]

    def keep(self) -> list[Any]:
        """Delete nothing."""
        import gradio as gr

        return [NO_NOTE, gr.update(visible=False)]

    def _folders(self, paths: list[str] | None) -> tuple[list[RunFolder], str]:
        """The chosen folders, as far as they are runs of the adapters' folder, and a word on the others."""
        own = self.host.adapters_dir().absolute()
        chosen = [RunFolder(Path(path)) for path in paths or []]
        known = [folder for folder in chosen if folder.path.absolute().parent == own and folder.path.is_dir()]
        return known, "" if len(known) == len(chosen) else "A run that was chosen is not there any more."


def in_order(runs: Sequence[RunSummary], order: str) -> list[RunSummary]:
    """Runs as the user wants them: newest first, as they come, or by name, with 2 before 10."""
    if order != BY_NAME:
        return list(runs)
    return sorted(runs, key=lambda run: [_rank(part) for part in re.split(r"([0-9]+)", run.name.lower()) if part])


def _rank(part: str) -> tuple[bool, int, str]:
    return (False, int(part), "") if part.isdigit() else (True, 0, part)


def _opened(folder: RunFolder) -> tuple[RunFolder, RunState, RunConfig | None]:
    return folder, read_state(folder), read_config(folder)


def _details(folder: RunFolder) -> str:
    """One run opened, out of what the page that shows it as the running one has read already."""
    config = read_config(folder)
    try:
        feed = feed_of(folder)
    except OSError:  # an adapter without a diary
        return details_html(folder, RunState(name=folder.name), config)
    with feed.lock:
        return details_html(folder, feed.read(), config, feed.columns)


def read_config(folder: RunFolder) -> RunConfig | None:
    """A run's parameters; None if there are none that can be read."""
    try:
        return RunConfig.from_file(folder.parameters)
    except (OSError, ValueError):
        return None


def _what_goes(run: RunSummary) -> str:
    found = removal_of(run.folder)
    held = ["its adapter"] if run.has_adapter else []
    held += [words.plural(run.num_checkpoints, "checkpoint")] if run.num_checkpoints else []
    inside = f", {' and '.join(held)} with it" if held else ""
    return (
        f"{run.name} would be deleted for good: {words.plural(found.num_files, 'file')}, {words.size(found.num_bytes)}{inside}."
    )


def note_html(text: str) -> str:
    """A word of the page."""
    return f'<div id="tph-runs-note" class="tph-card" role="status"><p>{escape(text)}</p></div>' if text else NO_NOTE


def build_runs(host: Host) -> RunsPage:
    """Create the page's components in the current Blocks context and wire what concerns only them."""
    import gradio as gr

    with gr.Column(elem_classes=["tph-tab"]):
        queue = build_queue(host)
        with gr.Row(elem_classes=["tph-refreshed", "tph-runs-line"]):
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
        with gr.Row(elem_classes=["tph-buttons", "tph-many"]):
            buttons = [
                gr.Button(words_, elem_id=f"tph-runs-{name}", interactive=False, min_width=120, variant=variant)
                for words_, name, variant in _BUTTONS
            ]
        note = html_block(NO_NOTE, elem_id="tph-runs-note-box")
        asking = build_question("tph-runs", "tph-runs-question-box", "Delete for good", "Keep", min_width=120)
        question, asked, really, keep = asking
        details = html_block(NO_DETAILS, elem_id="tph-run-details-box")
        build_export(host, chosen)
        order = gr.Dropdown(list(ORDERS), value=ORDERS[0], label="Order", elem_id="tph-runs-order", elem_classes=["tph-field"])
        table = html_block(NO_RUNS, elem_id="tph-runs-box")
    use, further, resume, delete = buttons
    session = gr.State(ListSession())
    page = RunsPage(host, chosen, order, session, {"": use, "continue": further, "resume": resume}, [chosen, table], queue)
    named = gr.State([])
    again.click(page.refresh, [order, session], page.shown, **event_options())
    order.input(page.refresh, [order, session], page.shown, **event_options())
    chosen.change(page.show, chosen, [details, note, *buttons, question], **event_options())
    delete.click(page.ask, chosen, [note, question, asked, named], **event_options())
    really.click(page.delete, [named, session], [note, question, chosen, table], **event_options())
    keep.click(page.keep, None, [note, question], **event_options())
    _watch(page, [again.click, order.input, delete.click])
    return page


def _watch(page: RunsPage, starts: list[Any]) -> None:
    """Follow the disk from the page's opening on; the WebUI has a button that ends all streams of its page, ours start this one again."""
    import gradio as gr
    from gradio.context import Context

    root = Context.root_block
    assert root is not None, "build_runs() is called inside a Blocks context"
    outputs = [*page.shown, *(page.queue.shown if page.queue else [])]
    gr.on([root.load, *starts], page.watch, page.session, outputs, **event_options())


def config_of(paths: Sequence[str] | None, *, if_exists: str = "") -> RunConfig:
    """The parameters of the one run that is chosen.

    Args:
        paths: the drop-down's value.
        if_exists: made to go on with that run: "resume" its training, or "continue" with its adapter; "" = as they are.

    Raises:
        ValueError: not one run, or its parameters cannot be read.
    """
    if not paths or len(paths) != 1:
        raise ValueError("Choose one run first.")
    folder = RunFolder(Path(paths[0]))
    config = RunConfig.from_file(folder.parameters)
    if if_exists:  # 'new name' gives a folder another name than was asked for
        config.adapter.name, config.adapter.if_exists = folder.name, if_exists
    return config
