"""What the tests inside the double of the WebUI share: a WebUI with the tiny model, runs in it, and their ends."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny
import trials
from training_pro import ROOT
from training_pro.config import RunConfig
from training_pro.hosts import webui
from training_pro.runs import registry
from training_pro.runs.control import change_control
from training_pro.runs.queue_runner import stop_runner
from training_pro.runs.registry import RunHandle
from training_pro.runs.state import RunState, read_state
from webui_double import loader

FLAGS = ("--cpu", "--extensions", "training_pro")
LONG = {"epochs": 400.0}
PATIENCE = 180.0  # seconds that a run may take on a busy machine


@pytest.fixture(scope="module", autouse=True)
def _light() -> Iterator[None]:
    """As in tests/training: nothing old is collected again and again, and no picture is drawn."""
    trials.freeze_heap()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("training_pro.matplotgraph.draw_graph", trials.no_picture)
        yield


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A --model-dir with the tiny model."""
    folder = tmp_path_factory.mktemp("models")
    tiny.save_model(folder / "tiny")
    return folder


@pytest.fixture
def start_webui(tmp_path: Path, model_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """``start_webui(*flags, model="tiny")``: be the WebUI with this extension until the test ends; runs end with it."""
    monkeypatch.setattr(registry, "_current", None)
    root = loader.make_root(tmp_path / "root", user={"training_pro": ROOT})
    contexts: list[Any] = []

    def start(*flags: str, model: str = "tiny") -> Any:
        contexts.append(loader.webui(root, *FLAGS, "--model-dir", str(model_dir), *flags))
        host = contexts[-1].__enter__()
        assert all((host.LoRA, host.training, host.text_generation))  # the server imports all its modules
        if model:
            host.load_model(model)
        host.load_extensions()
        return host

    yield start
    stop_runner()  # the thread that every page begins
    handle = registry.latest()
    if handle and handle.is_alive and handle.folder:
        change_control(handle.folder.control, stop=True)
        handle.thread.join(PATIENCE)
    for context in contexts:
        context.__exit__(None, None, None)
    assert not registry.is_busy()


@pytest.fixture
def host(start_webui: Callable[..., Any]) -> Any:
    """The WebUI with the tiny model."""
    return start_webui()


def form(tmp_path: Path, name: str = "trial", **changes: Any) -> RunConfig:
    """What the tab hands the host: it does not know where adapters go."""
    settings = trials.settings(tmp_path, adapter={"name": name, **changes.pop("adapter", {})}, **changes)
    return settings.model_copy(update={"run": RunConfig().run})


def wait(condition: Callable[[], Any]) -> Any:
    """The first true value of a condition."""
    deadline = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.01)
    return found


def end(handle: RunHandle) -> RunState:
    """Wait for the end of a run; its state."""
    assert handle.thread
    assert handle.folder
    handle.thread.join(PATIENCE)
    assert not handle.is_alive
    return read_state(handle.folder)


def start_long_run(tmp_path: Path, name: str = "trial") -> RunHandle:
    """A run that goes on until it is interrupted, and has done a step."""
    handle = webui.make_host().launch(form(tmp_path, name, training=LONG))
    wait(lambda: handle.folder and read_state(handle.folder).steps)
    return handle


def interrupt(handle: RunHandle) -> RunState:
    assert handle.folder
    change_control(handle.folder.control, stop=True)
    return end(handle)


def logits(host: Any) -> Any:
    import torch

    ids = torch.arange(40).remainder(host.shared.model.config.vocab_size)[None]
    with torch.no_grad():
        return host.shared.model(input_ids=ids).logits


def reply(host: Any, text: str = "question 1") -> str:
    return list(host.text_generation.generate_reply(text, {"max_new_tokens": 8}))[-1]


def is_same(host: Any, before: Any) -> bool:
    import torch

    return bool(torch.equal(logits(host), before))
