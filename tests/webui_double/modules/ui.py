"""The one helper of the WebUI's page that extensions use."""

import gradio as gr

refresh_symbol = "↻"


def create_refresh_button(refresh_component, refresh_method, refreshed_args, elem_class, interactive=True):
    """A small button: on a click it calls refresh_method and gives the component its refreshed arguments."""

    def refresh():
        refresh_method()
        new = refreshed_args() if callable(refreshed_args) else refreshed_args
        return gr.update(**(new or {}))

    classes = [elem_class] if isinstance(elem_class, str) else list(elem_class)
    button = gr.Button(refresh_symbol, elem_classes=[*classes, "refresh-icon-btn"], interactive=interactive)
    button.click(refresh, [], [refresh_component])
    return button
