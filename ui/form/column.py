"""The form's half of the page: copy parameters, presets, the fields; and their events. What they do is in actions.py and filling.py.

Guarantee: whatever fills the fields, the browser's draft has it too. Price: none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from ...runs.store import list_runs
from ..actions import Actions
from ..compat import event_options
from ..fields import NOTHING
from ..host import Host
from . import Form, build_form, with_refresh
from .draft import LOOKED_JS, READ_JS, RESTORED_JS, SHOW_FIRST_JS, keep_js
from .filling import Filling
from .presets_box import PresetsBox, build_presets
from .suggest import SuggestionBox

BY_DATE, BY_NAME = "by date", "by name"


@dataclass
class FormColumn:
    """Components of this half that others wire.

    Attributes:
        order: how the former runs are sorted.
    """

    host: Host
    copy_from: Any
    order: Any
    presets: PresetsBox
    form: Form


def build_form_column(host: Host) -> FormColumn:
    """Make the column's components in the current Blocks context."""
    import gradio as gr

    with gr.Row(elem_classes=["tph-copy-row"]):
        order = gr.Radio(
            choices=[BY_DATE, BY_NAME],
            value=BY_DATE,
            label="Sort",
            elem_id="tph-copy-order",
            elem_classes=["tph-field"],
            scale=0,
            min_width=170,
            render=False,
        )
        common = {
            "label": "Copy parameters from",
            "info": "A former run, or the path of a training_parameters.json or YAML file. All fields below take its values.",
            "value": NOTHING,
            "elem_id": "tph-copy_from",
            "elem_classes": ["tph-field"],
        }
        copy_from = with_refresh(common, lambda chosen=BY_DATE: run_choices(host, chosen), order)
        order.render()
    order.change(lambda chosen: gr.update(choices=run_choices(host, chosen)), order, copy_from, **event_options())
    presets = build_presets(host)
    return FormColumn(host, copy_from, order, presets, build_form(host))


def run_choices(host: Host, order: str = BY_DATE) -> list[tuple[str, str]]:
    """(name, file of parameters) of the former runs, newest first or by name."""
    runs = [folder for folder in list_runs(host.adapters_dir()) if folder.parameters.is_file()]
    if order == BY_NAME:
        runs.sort(key=lambda folder: folder.name.lower())
    return [(NOTHING, NOTHING), *((folder.name, str(folder.parameters)) for folder in runs)]


def wire_form(column: FormColumn, actions: Actions, box: Any, suggestions: SuggestionBox, page: Any) -> None:
    """Events of this half.

    Args:
        column: its components.
        actions: what the tab's buttons do.
        box: where messages go.
        suggestions: Check's, whose buttons write into the fields.
        page: the Blocks in which all of this is.
    """
    import gradio as gr

    form, filling = column.form, Filling(column.host, column.form, actions)
    fields = [box, *form.components]
    column.copy_from.input(actions.copy_from, column.copy_from, fields, **event_options())
    _wire_presets(column, filling, box)
    for number, button in enumerate(suggestions.buttons):
        chosen = None if button is suggestions.all_button else number
        outputs = [box, *suggestions.buttons, *form.components]
        button.click(partial(filling.apply, chosen), suggestions.state, outputs, **event_options())
    # not the event "input": gradio 6 says nothing of the first key after the fields were filled by the program
    changes = [field.change for field in form.components]
    keep = keep_js(form.infos, str(column.host.adapters_dir()))
    gr.on(changes, None, form.components, None, js=keep, **event_options())
    # the script of the line above presses it while fields are marked; nothing is asked of the server otherwise
    again, looked = gr.Button("Look again", elem_id="tph-recheck"), gr.Textbox(elem_id="tph-looked")
    found = again.click(filling.recheck, form.components, looked, **event_options(trigger_mode="always_last"))
    found.then(None, [looked, box], box, js=LOOKED_JS, **event_options())
    draft = gr.Textbox(visible=False)
    restored = page.load(filling.restore, draft, form.components, js=READ_JS, **event_options())
    restored.then(None, None, None, js=RESTORED_JS, **event_options())
    page.load(filling.choices, None, column.presets.chosen, **event_options())


def _wire_presets(column: FormColumn, filling: Filling, box: Any) -> None:
    """Events of the closed box."""
    presets, form = column.presets, column.form
    fields = [box, *form.components]

    def on(event: Callable[..., Any], fn: Any, inputs: Any, outputs: Any) -> Any:
        return event(fn, inputs, outputs, **event_options())

    on(presets.chosen.change, filling.describe, presets.chosen, [presets.words, presets.delete])
    on(presets.load.click, filling.load, [presets.chosen, *form.components], fields)
    on(presets.save.click, filling.save, [presets.name, presets.asked, *form.components], [box, presets.chosen, presets.asked])
    on(presets.delete.click, filling.delete, presets.chosen, [box, presets.chosen])
    written = [presets.yaml, presets.download, presets.command, box]
    on(presets.write.click, filling.write, [presets.shell, *form.components], written)
    on(presets.shell.change, filling.command, [presets.shell, presets.yaml], presets.command)
    on(presets.read.click, filling.read, presets.yaml, fields)
    on(presets.upload.upload, filling.upload, presets.upload, fields)


def show_first(event: Any) -> None:
    """After an event that may have marked fields: the first of them comes into sight."""
    event.then(None, None, None, js=SHOW_FIRST_JS, **event_options())
