"""The queue in the double of the WebUI, with the tiny model: it waits for the model it is meant for, and trains one after another."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("gradio")

from training_pro.hosts import webui
from training_pro.runs.queue import DONE, RUNNING, WAITING, Queue
from training_pro.runs.queue_entry import add_to_queue
from training_pro.runs.queue_runner import Place, QueueRunner
from training_pro.runs.state import read_state
from training_pro.runs.store import RunFolder
from training_pro.ui.runs.queue_page import obstacle
from webui_case import _light, form, model_dir, start_webui, wait

__all__ = ["_light", "model_dir", "start_webui"]


def test_entries_wait_for_their_model_and_are_trained_one_after_another(start_webui: Callable[..., Any], tmp_path: Path) -> None:
    host = start_webui()
    tab = webui.make_host()
    queue = Queue(tab.adapters_dir())
    runner = QueueRunner(Place(tab.adapters_dir, tab.launch, partial(obstacle, tab)))
    for name in ("one", "two"):
        config = tab.complete(form(tmp_path, name, training={"epochs": 1}))
        add_to_queue(queue, config, model=tab.model_name(config), start_at=None)
    model, host.shared.model = host.shared.model, None
    runner.tick()
    first = queue.read().entries[0]
    assert (first.state, first.model) == (WAITING, "tiny")
    assert first.word.startswith("It waits. No model is loaded.")
    host.shared.model, host.shared.model_name = model, "another"
    runner.tick()
    assert queue.read().entries[0].word == "It waits for the model tiny; another is loaded now."
    host.shared.model_name = "tiny"

    def states() -> list[str]:
        runner.tick()
        return [entry.state for entry in queue.read().entries]

    assert states() == [RUNNING, WAITING]
    wait(lambda: states() == [DONE, DONE])
    for name in ("one", "two"):
        folder = RunFolder(tab.adapters_dir() / name)
        assert read_state(folder).status == "finished"
        assert folder.has_adapter


def test_multi_user_mode_trains_nothing(start_webui: Callable[..., Any], tmp_path: Path) -> None:
    start_webui("--multi-user")
    tab = webui.make_host()
    queue = Queue(tab.adapters_dir())
    config = tab.complete(form(tmp_path, "one"))
    add_to_queue(queue, config, model="tiny", start_at=None)
    QueueRunner(Place(tab.adapters_dir, tab.launch, partial(obstacle, tab))).tick()
    entry = queue.read().entries[0]
    assert entry.state == WAITING
    assert "multi-user mode" in entry.word
