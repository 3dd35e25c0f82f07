"""What the tab's buttons do: read the form, ask the host or the run's folder, and say what came of it."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

from ..config import Problem, RunConfig
from .check.preview import NO_PREVIEW, PAGE, preview_html
from .check.report import NO_REPORT, report_html
from .facts import model_html
from .fields import NOTHING
from .form import Form
from .form.problems import NO_PROBLEMS, error_problems, problems_html
from .form.suggest import show, unchanged
from .host import Host
from .live.checkpoints import resume_config
from .runs.page import config_of
from .session import PageSession

COPIED = "The parameters were copied."
TRAINING = "training"  # id of the page with the form
# what a user, the disk or the model can bring about; anything else is a fault of the program and goes to its log
EXPECTED_ERRORS = (ValueError, OSError, RuntimeError, ImportError)


def message_html(problems: list[Problem | str] | None = None, note: str = "", title: str = "") -> str:
    """The box beside the buttons: ``#tph-problems``, and ``#tph-note`` for a word that is no problem."""
    word = f'<p id="tph-note" role="status">{escape(note)}</p>' if note else ""
    return (problems_html(problems, title) if problems else NO_PROBLEMS) + word


class Actions:
    """What the buttons do; each returns the new content of the components it belongs to."""

    def __init__(self, host: Host, form: Form) -> None:
        self._host = host
        self._form = form

    def check(self, *values: Any) -> Iterator[tuple[Any, ...]]:
        """Prepare, plan and estimate without training."""
        import gradio as gr

        config = self._form.config(values)
        problems: list[Problem | str] = list(config.problems())
        facts = model_html(self._host.model_facts())
        if problems:
            yield message_html(problems), NO_REPORT, facts, self._open_advanced(problems), *show({})
            return
        waiting = '<div id="tph-check" class="tph-card" data-status="checking"><p>Reading and counting the data …</p></div>'
        yield message_html(), waiting, facts, gr.update(), *show({})
        try:
            found = self._host.check(config)
        except EXPECTED_ERRORS as error:
            problems = error_problems(error)
            yield message_html(problems), NO_REPORT, facts, self._open_advanced(problems), *show({})
            return
        yield (
            message_html(),
            report_html(found, config.data.cutoff, config.checkpoints.save_every_steps),
            facts,
            gr.update(),
            *show(found.suggestions),
        )

    def preview(self, move: int, place: int, *values: Any) -> Iterator[tuple[Any, ...]]:
        """Show samples as they are trained, from the first on or a page further.

        Args:
            move: samples to go on from those that are shown; 0 begins anew.
            place: first sample that is shown.
            values: of the form's fields.
        """
        import gradio as gr

        config = self._form.config(values)
        problems: list[Problem | str] = list(config.problems())
        if problems:
            yield message_html(problems), NO_PREVIEW, gr.update(visible=False), 0, self._open_advanced(problems)
            return
        if not move:
            waiting = '<div id="tph-preview" class="tph-card" data-status="reading"><p>Reading the data …</p></div>'
            yield message_html(), waiting, gr.update(visible=False), 0, gr.update()
        try:
            found = self._host.preview(config, max(0, place + move) if move else 0, PAGE)
        except EXPECTED_ERRORS as error:
            problems = error_problems(error)
            yield message_html(problems), NO_PREVIEW, gr.update(visible=False), 0, self._open_advanced(problems)
            return
        has_pages = found["num_entries"] > PAGE
        yield message_html(), preview_html(found), gr.update(visible=has_pages), found["first"], gr.update()

    def start(self, *values: Any) -> tuple[Any, ...]:
        """Start a run in the background; returns at once. The report of Check makes room for the run."""
        import gradio as gr

        config = self._form.config(values)
        facts = self._host.model_facts()
        reasons = dict.fromkeys(reason for reason in (facts.get("problem"), self._host.read_only()) if reason)
        problems: list[Problem | str] = [*reasons, *config.problems()]
        note = ""
        if not problems:
            try:
                handle = self._host.launch(config)
                note = f"{handle.name} was started. You may close this page: the run goes on, and a page opened later shows it."
            except EXPECTED_ERRORS as error:
                problems = error_problems(error)
        report = gr.update() if problems else NO_REPORT
        suggested = unchanged() if problems else show({})
        return message_html(problems, note), report, model_html(facts), self._open_advanced(problems), *suggested

    def copy_from(self, path: str | None) -> list[Any]:
        """Load the parameters of a former run into the form."""
        import gradio as gr

        unchanged = [gr.update() for _ in self._form.components]
        if path in (None, "", NOTHING):
            return [message_html(), *unchanged]
        try:
            config = RunConfig.from_file(Path(str(path)).expanduser())
        except EXPECTED_ERRORS as error:
            return [message_html(error_problems(error)), *unchanged]
        return self.take_over(config)

    def use_run(self, if_exists: str, paths: list[str] | None) -> list[Any]:
        """Load the parameters of a run of the list into the form, and show the form."""
        import gradio as gr

        to_form = gr.update(selected=TRAINING)
        try:
            taken = self.take_over(config_of(paths, if_exists=if_exists))
        except EXPECTED_ERRORS as error:
            return [message_html(error_problems(error)), to_form, *(gr.update() for _ in self._form.components)]
        return [taken[0], to_form, *taken[1:]]

    def resume_from(self, page: PageSession, name: str | None) -> list[Any]:
        """Load the parameters of the shown run into the form, made to go on from one of its checkpoints."""
        import gradio as gr

        try:
            config = resume_config(page.run(self._host)[0], name)
        except EXPECTED_ERRORS as error:
            return [message_html(error_problems(error)), *(gr.update() for _ in self._form.components)]
        return self.take_over(config, f"{COPIED} Start training goes on from {name}.")

    def take_over(self, config: RunConfig, done: str = COPIED) -> list[Any]:
        """The message and the fields' values that show a configuration of somewhere else.

        Args:
            config: that configuration.
            done: a sentence that says what happened.
        """
        shown = {info.field for info in self._form.infos}
        bad: list[Problem | str] = [problem for problem in config.problems() if problem.field in shown]
        bad += config.notes
        return [message_html(bad, done, "Have a look at:"), *self._form.values(config)]

    def _open_advanced(self, problems: list[Problem | str]) -> Any:
        """The advanced group opens if a problem lies in it."""
        import gradio as gr

        advanced = {info.field for info in self._form.infos if info.advanced}
        is_hidden = any(isinstance(problem, Problem) and problem.field in advanced for problem in problems)
        return gr.update(open=True) if is_hidden else gr.update()
