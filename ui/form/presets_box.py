"""The closed box above the form: presets, the form as YAML, and the command line that does the same. Components only; see filling.py."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import Any

from ..compat import accepted, html_block
from ..host import Host
from .command import SHELLS, own_shell
from .presets import DEFAULTS, Preset, list_presets

NO_WORDS = '<div id="tph-preset-words"></div>'


@dataclass
class PresetsBox:
    """Components that others wire, by what they are for."""

    chosen: Any
    words: Any
    load: Any
    delete: Any
    name: Any
    asked: Any  # state: the name that a second press of Save replaces
    save: Any
    yaml: Any
    write: Any
    read: Any
    upload: Any
    download: Any
    shell: Any
    command: Any


def preset_choices(host: Host) -> list[tuple[str, str]]:
    """(words, key) of the presets; the user's own behind the others."""
    return [
        (f"{preset.name} (yours)" if preset.is_own else preset.name, preset.key) for preset in list_presets(host.adapters_dir())
    ]


def preset_words(preset: Preset) -> str:
    """What a preset is for, as HTML."""
    return f'<div id="tph-preset-words" class="tph-muted">{escape(preset.words)}</div>'


def build_presets(host: Host) -> PresetsBox:
    """Make the box in the current Blocks context."""
    import gradio as gr

    def button(label: str, name: str, **options: Any) -> Any:
        return gr.Button(label, elem_id=f"tph-{name}", min_width=110, **options)

    def field(label: str, name: str, **options: Any) -> dict[str, Any]:
        return {"label": label, "elem_id": f"tph-{name}", "elem_classes": ["tph-field"], **options}

    with gr.Accordion("Presets, YAML, command line", open=False, elem_id="tph-presets", elem_classes=["tph-group"]):
        info = "Sets all fields; model, data, name and prompts stay as they are unless the preset names them."
        chosen = gr.Dropdown(choices=preset_choices(host), value=DEFAULTS, **field("Preset", "preset", info=info))
        words = html_block(preset_words(list_presets(host.adapters_dir())[0]))
        with gr.Row(elem_classes=["tph-buttons"]):
            load = button("Load", "preset-load")
            delete = button("Delete", "preset-delete", interactive=False)
        with gr.Row(elem_classes=["tph-refreshed", "tph-save-as"]):
            name = gr.Textbox(**field("Save the form as", "preset-name", placeholder="my preset", max_lines=1))
            save = button("Save", "preset-save")
        asked = gr.State("")
        copyable = accepted(gr.Textbox, show_copy_button=True, buttons=["copy"])
        info = "What differs from the defaults. May be changed here, or another one pasted; Into the form takes it over."
        yaml = gr.Textbox(lines=6, max_lines=16, **field("YAML", "yaml", info=info), **copyable)
        with gr.Row(elem_classes=["tph-buttons"]):
            write = button("Show the form", "yaml-write")
            read = button("Into the form", "yaml-read")
            upload = gr.UploadButton(
                "Open a file …", file_types=[".yaml", ".yml", ".json"], elem_id="tph-yaml-upload", min_width=110
            )
            download = html_block("", elem_id="tph-yaml-download-box")
        info = "The same without the page. Show the form writes it."
        shell = gr.Radio(choices=list(SHELLS), value=own_shell(), **field("Command line for", "shell", info=info))
        command = gr.Textbox(lines=2, max_lines=8, interactive=False, **field("Command line", "command"), **copyable)
    return PresetsBox(chosen, words, load, delete, name, asked, save, yaml, write, read, upload, download, shell, command)
