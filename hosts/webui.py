"""The extension inside text-generation-webui: the only module that imports the WebUI's ``modules.*``.

At its top it imports only the standard library and light modules of ours, since a missing package while loading would stop the whole
WebUI; what is missing is shown in the tab instead, with the command that mends it.

While a training steps, a chat request is answered with a notice at once: the host looks up ``custom_generate_reply`` on the loaded
extension for each reply, so we put one there for that time. The model is kept busy for the idle-unload thread.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .. import ROOT
from ..runs import registry

logger = logging.getLogger("training_pro")

params: dict[str, Any] = {"display_name": "Training PRO Hybrid", "is_tab": True}

CHAT_NOTICE = (
    "*A training is going on with this model, so it cannot answer now. Wait for its end or press Interrupt in the Training PRO Hybrid tab.*"
)
_UNTRAINABLE = ("LlamaServer", "Exllamav3Model", "Exllamav3HF", "TensorRTLLMModel")


def setup() -> None:
    """Called by the WebUI when the extension is loaded; nothing to do before a page asks."""


def custom_css() -> str:
    """The tab's style sheet."""
    from ..ui.css import CSS

    return CSS


def custom_js() -> str:
    """No script of ours is needed."""
    return ""


def ui() -> None:
    """Build the tab inside the WebUI's page."""
    try:
        from ..ui.tab import build_tab

        build_tab(make_host())
    except ImportError as error:
        import gradio as gr

        logger.exception("Training PRO Hybrid cannot be shown")
        gr.Markdown(missing_package_text(error))


def missing_package_text(error: ImportError) -> str:
    """What to do about a package that is not there."""
    requirements = ROOT / "requirements.txt"
    return (
        f"**Training PRO Hybrid cannot start: {error}.**\n\nInstall what it needs into the WebUI's environment "
        f"(run `cmd_windows.bat`, `cmd_linux.sh` or `cmd_macos.sh` first) and restart:\n\n"
        f'`{Path(sys.executable).name} -m pip install -r "{requirements}" --upgrade`'
    )


# --- what the tab asks the host ------------------------------------------------------------------------------------------------


def make_host() -> Any:
    """The WebUI as a host of the tab."""
    from ..ui.host import Host
    from . import files

    return Host(
        launch=_launch,
        check=_check,
        model_facts=_model_facts,
        adapters_dir=adapters_dir,
        data_sets=lambda: files.data_sets(data_dir()),
        text_files=lambda: files.text_files(data_dir()),
        in_webui=True,
    )


def adapters_dir() -> Path:
    """Where the WebUI keeps LoRAs now."""
    from modules import shared

    return Path(shared.args.lora_dir).absolute()


def data_dir() -> Path:
    """Where the WebUI keeps training data."""
    from modules import shared

    return Path(shared.user_data_dir).absolute() / "training" / "datasets"


def refusal() -> str:
    """Why nothing can be trained now, in a sentence with the remedy; empty if something can."""
    from modules import shared

    if getattr(shared.args, "multi_user", False):
        return "The WebUI runs in multi-user mode (--multi-user), in which training is off. Restart it without that flag."
    if registry.is_busy():
        return ""
    if shared.model is None or shared.tokenizer is None:
        return "No model is loaded. Load one in the Model tab, with the Transformers loader."
    kind = type(shared.model).__name__
    loader = str(getattr(shared.args, "loader", "") or "")
    if kind in _UNTRAINABLE or loader.lower().startswith(("llama.cpp", "exllama", "tensorrt")):
        return (
            f"The loaded model runs in {loader or kind}, which cannot be trained. "
            f"Load a model in Hugging Face format (safetensors) with the Transformers loader."
        )
    if shared.lora_names or getattr(shared.model, "peft_config", None):
        names = ", ".join(shared.lora_names) or "an adapter"
        return f"A LoRA is applied to the model ({names}). Remove it: Model tab, LoRA(s): None, Apply LoRAs. Then start again."
    if not hasattr(shared.model, "get_input_embeddings"):
        return f"The loaded model ({kind}) is no Hugging Face model. Load one with the Transformers loader."
    return ""


def _model_facts() -> dict[str, Any]:
    from modules import shared

    from .facts import model_facts

    problem = refusal()
    if problem:
        return {"problem": problem}
    if registry.is_busy() or shared.model is None:
        return {"name": str(shared.model_name), "detail": "is being trained"}
    return model_facts(shared.model, str(shared.model_name))


def _with_host_places(config: Any) -> Any:
    """The form's settings with the WebUI's model and adapter folder."""
    completed = config.model_copy(
        update={
            "model": config.model.model_copy(update={"path": ""}),
            "run": config.run.model_copy(update={"adapters_dir": str(adapters_dir())}),
        }
    )
    completed._load_problems = config._load_problems
    return completed


def _launch(config: Any) -> registry.RunHandle:
    from modules import shared

    from .worker import start_run

    problem = refusal()
    if problem:
        raise ValueError(problem)
    config = _with_host_places(config)
    model, tokenizer = shared.model, shared.tokenizer  # own references: Unload must not pull them away
    return start_run(config, lambda: (model, tokenizer), around=model_in_use)


def _check(config: Any) -> Any:
    from modules import shared

    from ..training.check import check_run
    from ..ui.host import CheckResult

    problem = refusal() or ("A training is going on. Check when it has ended." if registry.is_busy() else "")
    if problem:
        return CheckResult(problems=[problem])
    model, tokenizer = shared.model, shared.tokenizer
    return CheckResult(**vars(check_run(_with_host_places(config), lambda: (model, tokenizer))))


# --- keeping chat and idle unload away from a model in training ----------------------------------------------------------------


def _notice(*args: Any, **kwargs: Any) -> Iterator[str]:
    yield CHAT_NOTICE


@contextmanager
def _no_reply_running() -> Iterator[None]:
    """Hold the WebUI's generation lock for a moment, so that no reply is being written."""
    from modules import shared

    lock = getattr(shared, "generation_lock", None)
    if lock is None:
        yield
        return
    with lock:
        yield


def _count_as_active(change: int) -> None:
    """Let the idle-unload thread see a reply in progress."""
    from modules import models

    lock = getattr(models, "_generation_count_lock", None)
    if lock is not None:
        with lock:
            models.active_generation_count += change


@contextmanager
def model_in_use() -> Iterator[None]:
    """For the time of a run: running replies end first, later ones get a notice, and the model is not unloaded as idle."""
    from modules import extensions

    modules = [module for module, _ in extensions.iterator() if getattr(module, "ui", None) is ui]
    with _no_reply_running():
        for module in modules:
            module.custom_generate_reply = _notice
        _count_as_active(+1)
    try:
        yield
    finally:
        with _no_reply_running():
            _count_as_active(-1)
            for module in modules:
                if hasattr(module, "custom_generate_reply"):
                    del module.custom_generate_reply
