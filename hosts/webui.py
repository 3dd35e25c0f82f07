"""The extension inside text-generation-webui: the only module that imports the WebUI's ``modules.*``.

At its top it imports only the standard library and light modules of ours, since a missing package while loading would stop the whole
WebUI; what is missing is shown in the tab instead, with the command that mends it.

While a training steps, a chat request is answered with a notice at once: the host looks up ``custom_generate_reply`` on the loaded
extension for each reply, and script.py has it for that time. While it is paused the notice is gone, and the chat answers with the
half-trained model. What would change the model in the middle of a training (applying a LoRA, the WebUI's own training) is refused with a
word, and the idle-unload thread sees a model at work.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from pathlib import Path
from typing import Any

from .. import ROOT
from ..runs import registry
from ..runs.control import read_control
from ..runs.events import EventWriter

logger = logging.getLogger("training_pro")

params: dict[str, Any] = {"display_name": "Training PRO Hybrid", "is_tab": True}

CHAT_NOTICE = (
    "*A training is going on with this model, so it cannot answer now. Press Pause in the Training PRO Hybrid tab and it answers as it is by "
    "then, or wait for the training's end.*"
)
CHANGE_NOTICE = (
    "A training is going on with this model, so it cannot be changed now. "
    "Wait for its end or stop it in the Training PRO Hybrid tab, then try again."
)
# class of the loaded model -> loader, for those that cannot train; the loader's flag may name the one that is chosen for the next load
_UNTRAINABLE = {
    "LlamaServer": "llama.cpp",
    "Exllamav3Model": "ExLlamav3",
    "Exllamav3HF": "ExLlamav3_HF",
    "TensorRTLLMModel": "TensorRT-LLM",
}
# the WebUI's functions, by module, through which its pages and its API change the loaded model: the first step of each
_CHANGERS = (("LoRA", "add_lora_transformers"), ("training", "clean_path"))
# the WebUI's rail of tabs is as wide as a short word, and a longer one would push the labels of all tabs out of sight
_RAIL_CSS = ".header_bar button { text-wrap: wrap; max-width: var(--header-width); }"


def setup() -> None:
    """Called by the WebUI when the extension is loaded; nothing to do before a page asks."""


def custom_css() -> str:
    """The tab's style sheet."""
    from ..ui.css import CSS

    return f"{CSS}\n{_RAIL_CSS}\n"


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
    from .exporting import export_result

    return Host(
        launch=_launch,
        check=_check,
        preview=_preview,
        model_facts=_model_facts,
        adapters_dir=adapters_dir,
        data_sets=lambda: files.data_sets(data_dir()),
        text_files=lambda: files.text_files(data_dir()),
        in_webui=True,
        read_only=_read_only,
        exposure=_exposure,
        complete=_with_host_places,
        export=export_result,
        model_name=_model_name,
    )


def _read_only() -> str:
    """Why nothing may be changed from a page; empty if everything may."""
    from modules import shared

    if getattr(shared.args, "multi_user", False):
        return "The WebUI runs in multi-user mode (--multi-user), in which training is off. Restart it without that flag."
    return ""


def _exposure() -> str:
    """What strangers could do where the WebUI can be reached from other machines without a login; empty if they cannot."""
    from modules import shared

    from ..ui.notices import STRANGERS

    args = shared.args
    flags = [flag for flag in ("listen", "share") if getattr(args, flag, False)]
    has_login = getattr(args, "gradio_auth", None) or getattr(args, "gradio_auth_path", None)
    if not flags or has_login or _read_only():
        return ""
    given = " and ".join(f"--{flag}" for flag in flags)
    return f"The WebUI is open to other machines ({given}) and asks for no login. {STRANGERS} Add --gradio-auth NAME:PASSWORD, or start it without {given}."


def _model_name(config: Any) -> str:
    """Name of the loaded model, or of the one that was put away as idle; empty if there is none."""
    from modules import shared

    return str(shared.model_name) if shared.model is not None or _is_unloaded_as_idle() else ""


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

    if forbidden := _read_only():
        return forbidden
    if registry.is_busy():
        return ""
    if shared.model is None or shared.tokenizer is None:
        return "No model is loaded. Load one in the Model tab, with the Transformers loader."
    return _refusal_of_model(shared.model, list(shared.lora_names))


def _refusal_of_model(model: Any, lora_names: list[str]) -> str:
    kind = type(model).__name__
    if kind in _UNTRAINABLE:
        return (
            f"The loaded model runs in {_UNTRAINABLE[kind]}, which cannot be trained. "
            f"Load a model in Hugging Face format (safetensors) with the Transformers loader."
        )
    if not hasattr(model, "get_input_embeddings"):
        return f"The loaded model ({kind}) is no Hugging Face model. Load one with the Transformers loader."
    from ..train_utils import carries_adapter

    if not carries_adapter(model):
        return ""
    if lora_names:
        return f"A LoRA is applied to the model ({', '.join(lora_names)}). Take it off: Model tab, empty LoRA(s), press Apply LoRAs. Then start again."
    return (
        "The model carries an adapter that is not in the LoRA menu, from another training or a failed Apply LoRAs. "
        "Load the model again in the Model tab (Unload, Load). Then start again."
    )


def _model_facts() -> dict[str, Any]:
    from modules import shared

    from .facts import model_facts

    if _is_unloaded_as_idle():
        return {"name": str(shared.model_name), "detail": "was unloaded as idle, is loaded again at Check or Start"}
    model, name = shared.model, str(shared.model_name)  # the Model tab may take it away at any time
    problem = refusal()
    if problem:
        return {"problem": problem}
    if registry.is_busy() or model is None:
        return {"name": name, "detail": "is being trained"}
    return model_facts(model, name)


def _is_unloaded_as_idle() -> bool:
    """Whether the WebUI has put the model away for want of use and would load it for the next reply."""
    from modules import shared

    is_known = shared.model_name not in (None, "", "None")
    return shared.model is None and getattr(shared.args, "idle_timeout", 0) > 0 and is_known and not shared.args.multi_user


def _load_if_idle() -> None:
    from modules import models

    if _is_unloaded_as_idle() and not registry.is_busy():
        models.load_model_if_idle_unloaded()


def _with_host_places(config: Any) -> Any:
    """The form's settings with the WebUI's model and adapter folder."""
    return config.model_copy(  # which keeps what was wrong when the form was read
        update={
            "model": config.model.model_copy(update={"path": ""}),
            "run": config.run.model_copy(update={"adapters_dir": str(adapters_dir())}),
        }
    )


def _launch(config: Any) -> registry.RunHandle:
    from modules import shared

    from .worker import start_run

    _load_if_idle()
    problem = refusal()
    if problem:
        raise ValueError(problem)
    config = _with_host_places(config)
    use = ModelUse(shared.model, shared.tokenizer)
    return start_run(config, use.take, around=lambda: use, lend=use.lent)


def _check(config: Any) -> Any:
    from modules import shared

    from ..runs.check_report import CheckReport
    from . import engine

    _load_if_idle()
    problem = refusal()
    if problem:
        return CheckReport(problems=[problem])
    model, tokenizer = shared.model, shared.tokenizer
    return engine.check(_with_host_places(config), lambda: (model, tokenizer))


def _preview(config: Any, first: int, num: int) -> dict[str, Any]:
    from modules import shared

    from ..data.preview import Preview
    from . import engine

    _load_if_idle()
    problem = refusal()
    if problem:
        return Preview(problems=[problem]).to_dict()
    model, tokenizer = shared.model, shared.tokenizer
    return engine.preview(_with_host_places(config), lambda: (model, tokenizer), first, num).to_dict()


# --- keeping others away from a model in training ------------------------------------------------------------------------------

WRITER_SECONDS = 10.0
POLL_SECONDS = 0.5  # how often a run that waits for a reply looks whether the user stops it
_models_in_use: list[Any] = []  # the model of the running training; never more than one
_models_lent: list[Any] = []  # the same, while the training is paused
_WRITER = "(gentask)"  # how the WebUI's threads that write a reply are named; one may outlive the lock by a token


def optional_hook(name: str) -> Any:
    """Hooks that come and go; script.py asks here for a name that it does not have.

    The WebUI looks for ``custom_generate_reply`` before each reply. Asked in this way it is found also on a script that the WebUI
    has executed anew in the middle of a training.

    Raises:
        AttributeError: there is no such hook now.
    """
    if name == "custom_generate_reply" and _is_shared_model_in_use() and not _models_lent:
        return _notice
    raise AttributeError(f"Training PRO Hybrid has no {name!r} now")


def _is_shared_model_in_use() -> bool:
    """Whether the WebUI's model is being trained; it may have loaded another one meanwhile."""
    if not _models_in_use:
        return False
    from modules import shared

    return any(model is shared.model for model in _models_in_use)


def _notice(*args: Any, **kwargs: Any) -> Iterator[str]:
    yield CHAT_NOTICE


def _count_as_active(change: int) -> None:
    """Let the idle-unload thread see a reply in progress, and at its end a model that was just in use."""
    from modules import models

    lock = getattr(models, "_generation_count_lock", None)
    if lock is not None:
        with lock:
            models.active_generation_count += change
    models.last_generation_time = time.time()


@contextmanager
def _changes_refused() -> Iterator[None]:
    """Meanwhile the WebUI's buttons and requests that would change the model in training are answered with CHANGE_NOTICE."""
    replaced: list[tuple[Any, str, Any]] = []
    for module_name, name in _CHANGERS:
        module = sys.modules.get(f"modules.{module_name}")
        original = getattr(module, name, None)
        if original is not None:
            replaced.append((module, name, original))
            setattr(module, name, _refusing(original))
    try:
        yield
    finally:
        for module, name, original in replaced:
            setattr(module, name, original)


def _refusing(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def refuse(*args: Any, **kwargs: Any) -> Any:
        if not _is_shared_model_in_use():
            return original(*args, **kwargs)
        import gradio as gr

        raise gr.Error(CHANGE_NOTICE)

    return refuse


class ModelUse:
    """The WebUI's model for the time of a run.

    From `take` to the end of the ``with`` statement chat requests get a notice, the model cannot be changed, and it is not unloaded
    as idle. It holds its own references, so that an unload by the user does not end the run. Within :meth:`lent` the chat has the model.
    """

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._held = ExitStack()

    def __enter__(self) -> ModelUse:
        return self

    def __exit__(self, *error: object) -> None:
        self._held.close()

    def take(self) -> tuple[Any, Any]:
        """Model and tokenizer, once the reply that is being written has ended; at once, and not in use, if the user stops the run."""
        from ..training.pausing import random_kept

        lock = _generation_lock()
        if _acquire(lock):
            try:
                _models_in_use.append(self._model)
                _count_as_active(+1)
                self._held.callback(self._give_back)
                self._held.enter_context(_changes_refused())
                # a run seeds the process's random numbers, from which the WebUI draws the seeds of its replies
                self._held.enter_context(random_kept())
            finally:
                lock.release()
        return self._model, self._tokenizer

    @contextmanager
    def lent(self, say: Callable[[str], None]) -> Iterator[None]:
        """The training is paused: chat requests are answered by the model. On leaving, the reply that is being written ends first.

        Args:
            say: writes a word into the run's diary; "" ends it.
        """
        _models_lent.append(self._model)
        try:
            yield
        finally:
            lock = _generation_lock()
            if not lock.acquire(timeout=POLL_SECONDS):
                say("waiting for the reply that is being written; Stop in the chat ends it")
                lock.acquire()
                say("")
            try:
                _models_lent.clear()
                _wait_for_writers()
            finally:
                lock.release()

    @staticmethod
    def _give_back() -> None:
        _count_as_active(-1)
        _models_in_use.clear()


def _generation_lock() -> Any:
    """What the WebUI holds while it writes a reply; it has none before its server runs."""
    from modules import shared

    return getattr(shared, "generation_lock", None) or threading.Lock()


def _wait_for_writers() -> None:
    """A reply that was stopped has given its lock back, but its thread may still be at its last token."""
    for thread in threading.enumerate():
        if thread.name.endswith(_WRITER):
            thread.join(WRITER_SECONDS)


def _acquire(lock: threading.Lock) -> bool:
    """Wait for a lock, with a word in the diary of the present run; False if the user stops that run meanwhile."""
    if lock.acquire(timeout=POLL_SECONDS):
        return True
    handle = registry.latest()
    if handle and handle.folder:
        diary = EventWriter(handle.folder.events)
        diary("stage", stage="loading", detail="waiting for the reply that is being written")
        diary.close()
    while not lock.acquire(timeout=POLL_SECONDS):
        if handle and handle.folder and read_control(handle.folder.control).wants_end:
            return False
    return True
