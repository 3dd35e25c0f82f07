"""A paused training inside the WebUI: the chat has the half-trained model, nothing changes it, and the run goes on bit-equal."""

import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import trials
from training_pro.hosts import webui
from training_pro.runs.control import change_control
from training_pro.runs.registry import RunHandle
from training_pro.runs.state import FINISHED, INTERRUPTED, read_state
from webui_case import _light, end, form, host, interrupt, is_same, logits, model_dir, reply, start_webui, wait

__all__ = ["_light", "host", "model_dir", "start_webui"]  # fixtures

LONG: dict[str, Any] = {"epochs": 400.0, "learning_rate": 0.2, "schedule": "constant"}


def paused_run(tmp_path: Path, name: str = "trial", **changes: Any) -> RunHandle:
    """A run that was paused after some steps and waits."""
    handle = webui.make_host().launch(form(tmp_path, name, **{"training": LONG, **changes}))
    wait(lambda: handle.folder and len(read_state(handle.folder).steps) > 3)
    return pause(handle)


def pause(handle: RunHandle) -> RunHandle:
    assert handle.folder
    change_control(handle.folder.control, pause=True, save_requests=1)
    wait(lambda: read_state(handle.folder).is_paused and not gives_notice())
    return handle


def gives_notice() -> bool:
    """Whether the chat would get the notice."""
    try:
        webui.optional_hook("custom_generate_reply")
    except AttributeError:
        return False
    return True


def test_the_chat_answers_with_the_half_trained_model(host: Any, tmp_path: Path) -> None:
    """As the checkpoint of that step does, once its adapter is applied to the model."""
    base, said = logits(host), reply(host)
    assert reply(host) == said
    handle = paused_run(tmp_path)
    assert handle.folder
    half, answer = logits(host), reply(host)
    assert answer != webui.CHAT_NOTICE
    assert not torch.equal(half, base)
    assert not host.shared.model.training
    change_control(handle.folder.control, pause=False)
    wait(lambda: not read_state(handle.folder).is_paused)
    wait(lambda: reply(host) == webui.CHAT_NOTICE)
    interrupt(handle)
    assert is_same(host, base)
    (saved,) = handle.folder.path.glob("checkpoint-*-user")
    host.LoRA.add_lora_to_model([f"{handle.folder.name}/{saved.name}"])
    assert torch.equal(logits(host), half)
    assert reply(host) == answer


def test_the_run_goes_on_as_if_nothing_had_been(host: Any, tmp_path: Path) -> None:
    """Whatever the chat drew meanwhile: also replies that sample, and that set seeds."""
    import random

    changes: dict[str, Any] = {"training": {"epochs": 8.0}, "adapter": {"dropout": 0.2}}
    plain = webui.make_host().launch(form(tmp_path, "plain", **changes))
    end(plain)
    handle = webui.make_host().launch(form(tmp_path, "asked", **changes))
    wait(lambda: handle.folder and len(read_state(handle.folder).steps) > 2)
    assert handle.folder
    for _ in range(2):
        pause(handle)
        for seed in range(3):
            torch.manual_seed(seed), random.seed(seed)
            assert reply(host) != webui.CHAT_NOTICE
        change_control(handle.folder.control, pause=False)
        wait(lambda: not read_state(handle.folder).is_paused)
    state = end(handle)
    assert state.status == FINISHED
    assert state.paused_seconds > 0
    assert plain.folder
    assert [entry["loss"] for entry in state.steps] == [entry["loss"] for entry in read_state(plain.folder).steps]
    assert trials.same(trials.weights(handle.folder), trials.weights(plain.folder))


def test_nothing_changes_the_model_in_a_pause(host: Any, tmp_path: Path) -> None:
    gradio = pytest.importorskip("gradio")
    handle = paused_run(tmp_path)
    with pytest.raises(gradio.Error, match="cannot be changed now"):
        host.LoRA.add_lora_to_model(["trial"])
    assert host.models.active_generation_count == 1  # not idle
    assert interrupt(handle).status == INTERRUPTED


def test_going_on_waits_for_the_reply_and_says_so(host: Any, tmp_path: Path) -> None:
    handle = paused_run(tmp_path)
    assert handle.folder
    with host.shared.generation_lock:  # somebody's reply
        change_control(handle.folder.control, pause=False)
        wait(lambda: "Stop in the chat ends it" in read_state(handle.folder).detail)
        steps = len(read_state(handle.folder).steps)
        time.sleep(0.3)
        assert len(read_state(handle.folder).steps) == steps
    wait(lambda: len(read_state(handle.folder).steps) > steps)
    assert read_state(handle.folder).detail == ""
    assert interrupt(handle).status == INTERRUPTED


def test_a_reply_that_was_stopped_may_end_its_last_token(host: Any) -> None:
    """Its thread is at work a moment longer than it holds the lock."""
    go, order = threading.Event(), []

    def gentask() -> None:
        go.wait(30)
        order.append("writer")

    with webui.ModelUse(host.shared.model, host.shared.tokenizer) as use:
        use.take()
        with use.lent(order.append):
            writer = threading.Thread(target=gentask)
            writer.start()
            threading.Timer(0.3, go.set).start()
        order.append("back")
    assert order == ["writer", "back"]


def test_a_stop_and_a_discard_in_a_pause(host: Any, tmp_path: Path) -> None:
    base = logits(host)
    handle = paused_run(tmp_path)
    assert interrupt(handle).status == INTERRUPTED
    assert is_same(host, base)
    handle = paused_run(tmp_path, "other")
    assert handle.folder
    change_control(handle.folder.control, discard=True)
    assert end(handle).status == "discarded"
    assert is_same(host, base)
    assert not list(handle.folder.path.glob("checkpoint-*"))
    assert reply(host) != webui.CHAT_NOTICE


def test_no_lock_before_the_server_runs(host: Any) -> None:
    host.shared.generation_lock = None
    with webui.ModelUse(host.shared.model, host.shared.tokenizer) as use:
        use.take()
        with use.lent(lambda text: None):
            assert not gives_notice()
        assert gives_notice()
