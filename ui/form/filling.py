"""What fills the form from elsewhere, or writes it down: presets, YAML, the command line, suggestions, the draft of the browser.

Guarantee: fields change only when something could be read whole; what is wrong with it is said in the box and marked at the fields.
"""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ...config import Problem, RunConfig
from ...config.loading import changes_yaml, parse_config
from ..actions import EXPECTED_ERRORS, Actions, message_html
from ..host import Host
from . import Form
from .command import train_command
from .draft import read_draft
from .presets import DEFAULTS, apply_preset, delete_preset, find_preset, own_path, save_preset
from .presets_box import NO_WORDS, preset_choices, preset_words
from .problems import error_problems
from .suggest import applied


class Filling:
    """The buttons beside the form; each returns the new content of the components it belongs to."""

    def __init__(self, host: Host, form: Form, actions: Actions) -> None:
        self._host = host
        self._form = form
        self._actions = actions

    def recheck(self, *values: Any) -> str:
        """The problems anew, for :data:`draft.LOOKED_JS` to put into the box: what is mended goes away."""
        return message_html(list(self._form.config(values).problems()))

    def restore(self, draft: str | None) -> list[Any]:
        """The fields as this browser left them."""
        return self._form.updates(read_draft(self._form.infos, draft, str(self._host.adapters_dir())))

    # --- presets ---------------------------------------------------------------------------------------------------------------

    def describe(self, key: str | None) -> tuple[Any, Any]:
        """What the chosen preset is for, and whether it can be deleted."""
        import gradio as gr

        try:
            preset = find_preset(self._host.adapters_dir(), key)
        except ValueError:
            return NO_WORDS, gr.update(interactive=False)
        return preset_words(preset), gr.update(interactive=preset.is_own)

    def load(self, key: str | None, *values: Any) -> list[Any]:
        """Take over a preset: the message, and all fields."""
        try:
            preset = find_preset(self._host.adapters_dir(), key)
            config = apply_preset(preset, self._form.config(values))
        except EXPECTED_ERRORS as error:
            return self._refused(error)
        return self._actions.take_over(config, f"The preset {preset.name} was loaded.")

    def save(self, name: str | None, asked: str, *values: Any) -> tuple[Any, ...]:
        """Save the form; one that exists is replaced at the second press. Gives message, choices, the name asked about."""
        import gradio as gr

        name = (name or "").strip()
        try:
            self._require_writable()
            folder = self._host.adapters_dir()
            if own_path(folder, name).is_file() and asked != name:
                note = f"There is a preset {name} already. Press Save again to replace it."
                return message_html(note=note), gr.update(), name
            path = save_preset(folder, name, self._form.config(values))
        except EXPECTED_ERRORS as error:
            return message_html(error_problems(error)), gr.update(), ""
        return message_html(note=f"The preset {name} was saved ({path})."), self._choices(str(path)), ""

    def delete(self, key: str | None) -> tuple[Any, Any]:
        """Delete one of the user's own; gives message and choices."""
        import gradio as gr

        try:
            self._require_writable()
            preset = find_preset(self._host.adapters_dir(), key)
            delete_preset(preset)
        except EXPECTED_ERRORS as error:
            return message_html(error_problems(error)), gr.update()
        return message_html(note=f"The preset {preset.name} was deleted."), self._choices(DEFAULTS)

    def choices(self) -> Any:
        """The presets that there are now."""
        import gradio as gr

        return gr.update(choices=preset_choices(self._host))

    def _choices(self, key: str) -> Any:
        import gradio as gr

        return gr.update(choices=preset_choices(self._host), value=key)

    def _require_writable(self) -> None:
        reason = self._host.read_only()
        if reason:
            raise ValueError(reason)

    # --- YAML and command line -------------------------------------------------------------------------------------------------

    def write(self, shell: str, *values: Any) -> tuple[str, str, str, Any]:
        """The form as YAML, a link to download it, the command line, and the message."""
        config = self._form.config(values)
        wrong: list[Problem | str] = list(config._load_problems)
        title = "These fields are left out, since nobody can read them:" if wrong else "Not all is said:"
        config = for_terminal(self._host.complete(config), self._host.model_facts(), self._host.in_webui)
        if self._host.in_webui and not config.model.path:
            wrong.append(
                "The folder of the model is not known now. Add it: --set model.path=FOLDER, or path under model in the YAML."
            )
        text = changes_yaml(config)
        return text, download_html(text, config.adapter.name), train_command(config, shell), message_html(wrong, title=title)

    def command(self, shell: str, text: str | None) -> str:
        """The command line for another shell, from the YAML that is shown; empty if none is."""
        try:
            return train_command(parse_config(RunConfig, text or ""), shell) if (text or "").strip() else ""
        except ValueError:
            return ""

    def read(self, text: str | None, *values: Any) -> list[Any]:
        """Take over the YAML of the box; what it does not mention is a default."""
        return self._read(lambda: parse_config(RunConfig, text or ""), "The YAML was taken over.")

    def upload(self, path: str | None, *values: Any) -> list[Any]:
        """Take over a file of the user's: YAML, JSON or old parameters."""
        place = Path(str(path))
        return self._read(lambda: RunConfig.from_file(place), f"{place.name} was taken over.")

    def _read(self, read: Any, note: str) -> list[Any]:
        try:
            config = read()
        except EXPECTED_ERRORS as error:
            return self._refused(error)
        return self._actions.take_over(config, note)

    def _refused(self, error: BaseException) -> list[Any]:
        return [message_html(error_problems(error)), *self._form.updates({})]

    # --- suggestions -----------------------------------------------------------------------------------------------------------

    def apply(self, chosen: int | None, state: Mapping[str, Any] | None) -> list[Any]:
        """Write one suggestion, or all, into the fields; gives message, buttons and fields."""
        values, buttons, note = applied(state or {}, chosen)
        return [message_html(note=note), *buttons, *self._form.updates(values)]


def download_html(text: str, name: str) -> str:
    """A link that saves the YAML from the browser; nothing is written on the server."""
    href = f"data:text/yaml;charset=utf-8,{quote(text)}"
    return f'<a id="tph-yaml-download" href="{href}" download="{escape(name, quote=True)}.yaml">Download</a>'


def for_terminal(config: RunConfig, facts: Mapping[str, Any], in_webui: bool) -> RunConfig:
    """The settings for a run outside of the WebUI: its model by folder, loaded as the WebUI has it.

    Args:
        config: what a start would take.
        facts: of the model (``Host.model_facts``): folder, quantization, dtype.
        in_webui: the model is the WebUI's.
    """
    if not in_webui:
        return config
    loading = {"path": facts.get("folder", ""), "quantization": facts.get("quantization") or "none"}
    if loading["quantization"] == "none" and facts.get("dtype"):
        loading["dtype"] = facts["dtype"]
    known = {name: value for name, value in loading.items() if value}
    return config.model_copy(update={"model": config.model.model_copy(update=known)})
