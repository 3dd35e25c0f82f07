"""What can be made of a run's result for other programs: a merged model folder, a LoRA or a model for llama.cpp.

Guarantee: nothing is overwritten, and what is being done is told as it goes on; it is the same work as the commands merge and gguf.
Price: a thread while it works; a page that closes meanwhile loses the words, not the work.
"""

from __future__ import annotations

import queue
import re
import threading
import time
from collections.abc import Callable, Iterator
from html import escape
from pathlib import Path
from typing import Any

from ..compat import event_options, html_block
from ..host import Host

MERGE, GGUF_ADAPTER, GGUF_MODEL = "merge", "gguf adapter", "gguf model"
KINDS = {
    "Merge into the base: a model folder": MERGE,
    "LoRA as GGUF, for llama.cpp": GGUF_ADAPTER,
    "Model as GGUF, for llama.cpp": GGUF_MODEL,
}
# the first of each is the usual one
FORMATS = {
    MERGE: ("auto", "float32", "bfloat16", "float16"),
    GGUF_ADAPTER: ("f32", "f16"),
    GGUF_MODEL: ("f16", "f32", "bf16", "q8_0"),
}
EMPTY = '<div id="tph-export"></div>'
# the commands' options, as the fields are called
_FIELD_WORDS = {
    r"--like(?: BASE\.gguf)?": "GGUF of the base",
    r"--out\b": "Write to",
    r"--base\b": "Base model",
    r"--dtype\b": "Number format",
    r"training-pro merge\b": "Merge into the base",
    r"--no-verify\b": "Compare",
}
_POLL_SECONDS = 0.2

# (wish, told line by line what is done) -> what was written
Write = Callable[[dict[str, Any], Callable[[str], None]], Path]


def in_form_words(text: str) -> str:
    """A message of the commands, with the form's names for their options."""
    for option, words in _FIELD_WORDS.items():
        text = re.sub(option, f"'{words}'", text)
    return text


def lines_html(lines: list[str], status: str) -> str:
    """What was said so far; ``status`` is working, done or failed (then the last line says why)."""
    levels = ["info"] * len(lines)
    if status == "failed" and lines:
        levels[-1] = "error"
    entries = "".join(f'<li class="tph-level-{level}">{escape(line)}</li>' for level, line in zip(levels, lines, strict=True))
    title = {"working": "Working …", "done": "Done", "failed": "Nothing was written"}[status]
    head = f'<p><b>{title}</b></p><ul class="tph-messages">{entries}</ul>'
    return f'<div id="tph-export" class="tph-card" data-status="{status}" role="status">{head}</div>'


def read_wish(values: dict[str, Any], paths: list[str] | None) -> dict[str, Any]:
    """What the fields ask for.

    Args:
        values: kind, dtype, base, out, like, model (folder of a merged model), verify.
        paths: the chosen runs.

    Raises:
        ValueError: something is missing; in the fields' words.
    """
    kind = values["kind"]
    texts = {name: str(values.get(name) or "").strip() for name in ("base", "out", "like", "model", "dtype")}
    source = texts["model"] if kind == GGUF_MODEL and texts["model"] else ""
    if not source:
        if not paths or len(paths) != 1:
            missing = " or name a folder under 'Model folder'" if kind == GGUF_MODEL else ""
            raise ValueError(f"Choose one run{missing} first.")
        source = paths[0]
    if not Path(source).expanduser().is_dir():
        raise ValueError(f"There is no folder {source}.")
    wish: dict[str, Any] = {"kind": kind, "source": source, "dtype": texts["dtype"], "out": texts["out"]}
    if kind == GGUF_MODEL:
        return {**wish, "like": texts["like"]}
    return {**wish, "base": texts["base"], **({"verify": bool(values.get("verify"))} if kind == MERGE else {})}


def work(write: Write, wish: dict[str, Any]) -> Iterator[str]:
    """The card's HTML while it goes on, and at the end.

    Args:
        write: the host's ``export``.
        wish: what is to be written.
    """
    said: queue.Queue[str] = queue.Queue()
    ended: list[str] = []

    def run() -> None:
        try:
            said.put(f"Written: {write(wish, said.put)}")
            ended.append("done")
        except (ValueError, OSError, RuntimeError, ImportError) as error:
            said.put(in_form_words(str(error)))
            ended.append("failed")
        except BaseException:
            said.put("It stopped by a fault of the program; its log says more.")
            ended.append("failed")
            raise

    thread, lines = threading.Thread(target=run, daemon=True), []
    thread.start()
    yield lines_html([], "working")
    while thread.is_alive() or not said.empty():
        news = []
        while not said.empty():
            news.append(in_form_words(said.get()))
        if news:
            lines += news
            yield lines_html(lines, "working")
        time.sleep(_POLL_SECONDS)
    yield lines_html(lines, ended[0] if ended else "failed")


def build_export(host: Host, chosen: Any) -> None:
    """Create the card in the current Blocks context.

    Args:
        chosen: the component whose value is the list of chosen runs.
    """
    import gradio as gr

    export = host.export
    if export is None:
        return
    with gr.Accordion("Use the result elsewhere: merge, GGUF", open=False, elem_id="tph-export-card", elem_classes=["tph-group"]):
        with gr.Row(elem_classes=["tph-grid"]):
            kind = gr.Dropdown(
                list(KINDS), value=next(iter(KINDS)), label="What", **_field("kind", "Of the run that is chosen above.")
            )
            dtype = gr.Dropdown(
                list(FORMATS[MERGE]), value="auto", label="Number format", **_field("dtype", "auto: as the base has it.")
            )
            base = gr.Textbox(label="Base model", **_field("base", "Its folder; empty: the one that the run names."))
            out = gr.Textbox(
                label="Write to", **_field("out", "Empty: beside the base, or in the run's folder. Nothing is overwritten.")
            )
            model = gr.Textbox(
                label="Model folder",
                visible=False,
                **_field("model", "A merged model; empty: the chosen run, after full fine-tuning."),
            )
            like = gr.Textbox(
                label="GGUF of the base", visible=False, **_field("like", "Any GGUF of the same base: its vocabulary is taken.")
            )
            verify = gr.Checkbox(
                value=True,
                label="Compare",
                **_field("verify", "Loads the result and compares its answers with base and adapter."),
            )
        write = gr.Button("Write", elem_id="tph-export-button", min_width=120)
        box = html_block(EMPTY, elem_id="tph-export-box")

    def shown(words: str) -> list[Any]:
        chosen_kind = KINDS[words]
        is_model = chosen_kind == GGUF_MODEL
        formats = gr.update(choices=list(FORMATS[chosen_kind]), value=FORMATS[chosen_kind][0])
        visible = [gr.update(visible=flag) for flag in (not is_model, is_model, is_model, chosen_kind == MERGE)]
        return [formats, *visible]

    def start(paths: list[str] | None, words: str, *values: Any) -> Iterator[str]:
        if word := host.read_only():
            yield lines_html([word], "failed")
            return
        try:
            wish = read_wish({"kind": KINDS[words], **dict(zip(names, values, strict=True))}, paths)
        except ValueError as error:
            yield lines_html([str(error)], "failed")
            return
        yield from work(export, wish)

    names = ("dtype", "base", "out", "model", "like", "verify")
    kind.change(shown, kind, [dtype, base, model, like, verify], **event_options())
    write.click(start, [chosen, kind, dtype, base, out, model, like, verify], box, **event_options())


def _field(name: str, help_: str) -> dict[str, Any]:
    return {"info": help_, "elem_id": f"tph-export-{name}", "elem_classes": ["tph-field"], "min_width": 200, "interactive": True}
