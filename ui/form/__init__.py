"""The form: one field for each setting, in groups, made from what RunConfig says of its settings.

A new setting appears here by itself, in the group of its section; see fields.py for the rules.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from ...config import RunConfig
from ...config.field import SettingInfo
from ..compat import event_options, html_block
from ..fields import (
    ADVANCED,
    FILE_FIELDS,
    GROUPS,
    NOTHING,
    PRODUCT_OF,
    TARGETS_FIELD,
    element_id,
    form_from_settings,
    form_settings,
    group_of,
    has_effect,
    help_of,
    is_wide,
    label_of,
    product_html,
    settings_from_form,
    step_of,
    target_choices,
    to_widget,
    widget_of,
)
from ..host import Host

REFRESH = "↻"


@dataclass
class Form:
    """The fields of one page.

    Attributes:
        infos: the settings that have a field; ``components`` are those fields in the same order.
        advanced: the closed group of advanced settings.
        product: the line that says how many samples a step trains.
    """

    host: Host
    infos: list[SettingInfo]
    components: list[Any] = field(default_factory=list)
    advanced: Any = None
    product: Any = None

    def config(self, values: Sequence[Any]) -> RunConfig:
        """The configuration that the fields' values show.

        A file that is offered can also be named as the field lists it: that is what gradio 4 hands on when the field is left
        after the same entry was chosen again.
        """
        own = {"model.path": "", "run.adapters_dir": str(self.host.adapters_dir())} if self.host.in_webui else {}
        found = [self._file_of(info, value) for info, value in zip(self.infos, values, strict=True)]
        return settings_from_form(self.infos, found, own)

    def _file_of(self, info: SettingInfo, value: Any) -> Any:
        """The path of an offered file that is named as its field lists it; everything else as it is."""
        is_name = info.field in FILE_FIELDS and isinstance(value, str) and value != NOTHING and not Path(value).is_absolute()
        return dict(self.file_choices(info.field)).get(value, value) if is_name and value else value

    def values(self, config: RunConfig) -> list[Any]:
        """The fields' values that show a configuration."""
        return form_from_settings(self.infos, config)

    def updates(self, values: dict[str, Any]) -> list[Any]:
        """Updates of all fields, of which these get other values (dotted name -> value as the field shows it)."""
        import gradio as gr

        return [gr.update(value=values[info.field]) if info.field in values else gr.update() for info in self.infos]

    def component(self, name: str) -> Any:
        """The field of a setting, by its dotted name."""
        return next(made for info, made in zip(self.infos, self.components, strict=True) if info.field == name)

    def fresh_choices(self) -> list[Any]:
        """Updates of :meth:`choice_components` to what there is now."""
        import gradio as gr

        files = [gr.update(choices=self.file_choices(name)) for name in FILE_FIELDS]
        modules = self.host.model_facts().get("modules")  # not known before a model is loaded, nor while it is in use
        return [*files, gr.update(choices=target_choices(list(modules))) if modules else gr.update()]

    @property
    def choice_components(self) -> list[Any]:
        """The fields whose choices change with the disk and the model."""
        return [self.component(name) for name in (*FILE_FIELDS, TARGETS_FIELD)]

    def file_choices(self, name: str) -> list[tuple[str, str]]:
        """(label, path) of the files that a field offers."""
        listing: Callable[[], dict[str, str]] = getattr(self.host, FILE_FIELDS[name])
        return [(NOTHING, NOTHING), *listing().items()]


def build_form(host: Host) -> Form:
    """Make all groups and fields in the current Blocks context."""
    import gradio as gr

    form = Form(host, form_settings(host.in_webui))
    made: dict[str, Any] = {}
    for group in GROUPS:
        infos = [info for info in form.infos if group_of(info) == group]
        if group == ADVANCED:
            with gr.Accordion(group, open=False, elem_id="tph-advanced", elem_classes=["tph-group"]) as form.advanced:
                _build_fields(form, infos, made)
        else:
            with gr.Column(elem_classes=["tph-group"]):
                html_block(f"<h3>{group}</h3>")
                _build_fields(form, infos, made)
    form.components = [made[info.field] for info in form.infos]
    _hide_without_effect(form, made)
    _help_on_choices(form, made)
    _show_product(form, made)
    return form


def _hide_without_effect(form: Form, made: dict[str, Any]) -> None:
    """Show fields that depend on others only while they have an effect."""
    import gradio as gr

    controls = list(dict.fromkeys(field for info in form.infos for field in info.only_if))

    def shown(infos: list[SettingInfo], *values: Any) -> Any:
        state = dict(zip(controls, values, strict=True))
        updates = [gr.update(visible=has_effect(info, state)) for info in infos]
        return updates[0] if len(updates) == 1 else updates

    for control in controls:
        infos = [info for info in form.infos if control in info.only_if]
        fields = [made[info.field] for info in infos]
        made[control].change(partial(shown, infos), [made[name] for name in controls], fields, **event_options())


def _help_on_choices(form: Form, made: dict[str, Any]) -> None:
    """Below the help of a field with many entries stands what the chosen one does."""
    for info in form.infos:
        if info.choice_words:
            field = made[info.field]
            field.change(partial(_help_update, info), field, field, **event_options())


def _help_update(info: SettingInfo, value: Any) -> Any:
    import gradio as gr

    return gr.update(info=help_of(info, value))


def _show_product(form: Form, made: dict[str, Any]) -> None:
    """How many samples an optimizer step trains, beside the two numbers that make it."""
    fields = [made[name] for name in PRODUCT_OF]
    for part in fields:
        part.change(product_html, fields, form.product, **event_options())


def _build_fields(form: Form, infos: list[SettingInfo], made: dict[str, Any]) -> None:
    """The fields of a group; the style sheet lays them out in two columns, or one on a phone."""
    import gradio as gr

    with gr.Row(elem_classes=["tph-grid"]):
        for info in infos:
            made[info.field] = _build_field(form, info)
            if info.field == PRODUCT_OF[1]:
                defaults = [made[PRODUCT_OF[0]].value, info.default, "none"]
                form.product = html_block(product_html(*defaults), elem_id="tph-product-box", elem_classes=["tph-wide"])


def _build_field(form: Form, info: SettingInfo) -> Any:
    import gradio as gr

    kind = widget_of(info)
    common: dict[str, Any] = {
        "label": label_of(info),
        "info": help_of(info, info.default),
        "value": to_widget(info, _initial(form, info)),
        "elem_id": element_id(info.field),
        "interactive": True,
        "min_width": 200,
        "visible": has_effect(info, {other.field: other.default for other in form.infos}),
    }
    if kind == "flag":
        return gr.Checkbox(**common, elem_classes=["tph-field", "tph-flag"])
    common["elem_classes"] = ["tph-field", "tph-wide"] if is_wide(info) else ["tph-field"]
    if kind == "choice":
        return gr.Dropdown(**common, choices=list(info.choices))
    if kind == "targets":
        modules = list(form.host.model_facts().get("modules") or {})
        return gr.Dropdown(**common, choices=target_choices(modules), multiselect=True, allow_custom_value=True)
    if kind == "file":
        return with_refresh(common, lambda: form.file_choices(info.field))
    if kind == "number":
        # no bounds and no precision here: gradio would refuse or round by itself, RunConfig names all problems at once
        return gr.Number(**common, step=step_of(info))
    lines = 3 if kind == "lines" else 1
    return gr.Textbox(**common, lines=lines, max_lines=12 if kind == "lines" else 1)


def _initial(form: Form, info: SettingInfo) -> Any:
    return str(form.host.adapters_dir()) if info.field == "run.adapters_dir" else info.default


def with_refresh(common: dict[str, Any], choices: Callable[..., list[tuple[str, str]]], given: Any = None) -> Any:
    """A drop-down that also takes what is typed, and a small button that looks again what there is to choose.

    Args:
        common: arguments of the drop-down.
        choices: gives them, from the value of ``given`` if there is one.
        given: another field.
    """
    import gradio as gr

    with gr.Row(elem_classes=["tph-refreshed"]):
        made = gr.Dropdown(**common, choices=choices(), allow_custom_value=True, scale=10)
        button = gr.Button(REFRESH, elem_id=f"{common['elem_id']}-refresh", elem_classes=["tph-refresh"], min_width=42, scale=0)
    button.click(lambda *values: gr.update(choices=choices(*values)), given, made, **event_options())
    return made
