"""The double as a page: a model, the extensions' tabs, restart, the LoRA menu reduced to a box and a button.

    python tests/webui_double/server.py ROOT --cpu --model tiny --extensions my-ext --listen-port 7860

ROOT comes from `loader.make_root`. The order of things is that of the WebUI: model, lock, extensions, Blocks, queue, launch;
when `shared.need_restart` is set the page is closed and built again, with the extensions loaded once more. With PyPI's gradio
4.37.2 put tests/gradio_shim on PYTHONPATH.
"""

import os
import sys
import time
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).resolve().parents[1])  # tests, so that this folder's modules stay out of the way
from webui_double import loader  # noqa: E402


def build(host: loader.Host) -> Any:
    """The page, inside whose Blocks the extensions make their tabs."""
    import gradio as gr

    shared = host.shared
    host.load_extensions()
    shared.persistent_interface_state.update({"mode": shared.settings["mode"], "loader": shared.args.loader or "llama.cpp"})

    def apply(names: list[str]) -> str:
        host.LoRA.add_lora_to_model(names)
        return "Successfully applied the LoRAs"

    def reply(question: str) -> str:
        return list(host.text_generation.generate_reply(question, {"max_new_tokens": 16}))[-1]

    def restart() -> None:
        shared.need_restart = True

    with gr.Blocks(analytics_enabled=False, title="WebUI double") as page:
        with gr.Tab("Chat"):
            question, answer = gr.Textbox(label="Question"), gr.Textbox(label="Answer")
            gr.Button("Generate").click(reply, question, answer)
        with gr.Tab("Model"):
            status = gr.Markdown("Ready")
            names = gr.Dropdown(host.utils.get_available_loras(), value=[], multiselect=True, label="LoRA(s)")
            host.ui.create_refresh_button(
                names, lambda: None, lambda: {"choices": host.utils.get_available_loras()}, "refresh-button"
            )
            gr.Button("Apply LoRAs").click(apply, names, status)
        with gr.Tab("Session"):
            gr.Button("Apply flags/extensions and restart").click(restart)
        host.extensions.create_extensions_tabs()
    return page.queue()


def main() -> None:
    """Serve until killed."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    root, *flags = sys.argv[1:]
    with loader.webui(Path(root).resolve(), *flags) as host:
        args = host.shared.args
        if args.model:
            host.load_model(args.model)
        while True:
            page = build(host)
            page.launch(server_port=args.listen_port, prevent_thread_lock=True)
            while not host.shared.need_restart:
                time.sleep(0.2)
            host.shared.need_restart = False
            time.sleep(0.5)
            page.close()
            time.sleep(0.5)


if __name__ == "__main__":
    main()
