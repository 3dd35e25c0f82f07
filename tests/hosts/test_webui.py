"""The extension inside the WebUI, against the double of the WebUI's modules: refusals, runs, the LoRA menu, chat while a model trains."""

import random
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tiny
from training_pro.config import ConfigError
from training_pro.hosts import webui
from training_pro.runs import registry
from training_pro.runs.registry import RunBusyError
from training_pro.runs.state import FAILED, FINISHED, INTERRUPTED, read_state
from training_pro.runs.store import RunFolder
from webui_case import (
    LONG,
    PATIENCE,
    _light,
    end,
    form,
    host,
    interrupt,
    is_same,
    logits,
    model_dir,
    reply,
    start_long_run,
    start_webui,
    wait,
)

__all__ = ["_light", "host", "model_dir", "start_webui"]  # fixtures


# --- what cannot be trained, and why --------------------------------------------------------------------------------------------


def refused(tmp_path: Path) -> str:
    """What the tab says of the model; Check and Start say the same, and nothing is written."""
    tab = webui.make_host()
    problem = str(tab.model_facts()["problem"])
    assert tab.check(form(tmp_path)).problems == [problem]
    assert tab.preview(form(tmp_path), 0, 5)["problems"] == [problem]
    with pytest.raises(ValueError, match="[.]$") as caught:
        tab.launch(form(tmp_path))
    assert str(caught.value) == problem
    assert not (tab.adapters_dir() / "trial").exists()
    assert not registry.is_busy()
    return problem


def test_without_a_model(start_webui: Callable[..., Any], tmp_path: Path) -> None:
    start_webui(model="")
    assert refused(tmp_path) == "No model is loaded. Load one in the Model tab, with the Transformers loader."


def test_in_multi_user_mode_whatever_is_loaded(start_webui: Callable[..., Any], tmp_path: Path) -> None:
    start_webui("--multi-user")
    assert refused(tmp_path) == (
        "The WebUI runs in multi-user mode (--multi-user), in which training is off. Restart it without that flag."
    )


@pytest.mark.parametrize(("chosen", "shown"), [("llama.cpp", "llama.cpp"), ("ExLlamav3", "ExLlamav3")])
def test_models_of_other_loaders(start_webui: Callable[..., Any], tmp_path: Path, chosen: str, shown: str) -> None:
    host = start_webui("--loader", chosen)
    host.shared.args.loader = "Transformers"  # chosen in the menu for the next load; what is loaded counts
    assert refused(tmp_path) == (
        f"The loaded model runs in {shown}, which cannot be trained. "
        f"Load a model in Hugging Face format (safetensors) with the Transformers loader."
    )


def test_the_loader_that_is_chosen_for_the_next_model_does_not_matter(host: Any, tmp_path: Path) -> None:
    host.shared.args.loader = "llama.cpp"
    assert webui.make_host().model_facts()["name"] == "tiny"


def test_an_object_that_is_no_model(host: Any, tmp_path: Path) -> None:
    host.shared.model = SimpleNamespace()
    assert refused(tmp_path) == (
        "The loaded model (SimpleNamespace) is no Hugging Face model. Load one with the Transformers loader."
    )


def test_a_lora_is_applied_and_taken_off(host: Any, tmp_path: Path) -> None:
    base = logits(host)
    save_adapter(host, "style")
    host.LoRA.add_lora_to_model(["style"])
    assert refused(tmp_path) == (
        "A LoRA is applied to the model (style). Take it off: Model tab, empty LoRA(s), press Apply LoRAs. Then start again."
    )
    host.LoRA.add_lora_to_model([])
    assert is_same(host, base)
    facts = webui.make_host().model_facts()
    assert (facts["name"], facts["dtype"], facts["device"]) == ("tiny", "float32", "cpu")


def test_an_adapter_that_the_menu_does_not_know(host: Any, tmp_path: Path) -> None:
    for name in ("one", "two"):
        save_adapter(host, name)
    with pytest.raises(ValueError, match="empty sequence"):  # the WebUI fails half way
        host.LoRA.add_lora_to_model(["one", "two"])
    assert host.shared.lora_names == []
    assert refused(tmp_path) == (
        "The model carries an adapter that is not in the LoRA menu, from another training or a failed Apply LoRAs. "
        "Load the model again in the Model tab (Unload, Load). Then start again."
    )


def save_adapter(host: Any, name: str) -> None:
    """An adapter that changes what the model says."""
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=2, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    get_peft_model(tiny.model(), config).save_pretrained(Path(host.shared.args.lora_dir) / name)


def test_wrong_settings_start_nothing(host: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Learning Rate"):
        webui.make_host().launch(form(tmp_path, training={"learning_rate": "fast"}))
    assert not registry.is_busy()
    assert reply(host) != webui.CHAT_NOTICE


# --- from settings to a LoRA in the menu ----------------------------------------------------------------------------------------


def test_runs_one_after_the_other_and_the_lora_in_the_menu(host: Any, tmp_path: Path) -> None:
    before, said = logits(host), reply(host)
    model, tokenizer, module = host.shared.model, host.shared.tokenizer, host.shared.model.model.layers[0].self_attn.q_proj
    launch = webui.make_host().launch
    for name in ("first", "second"):
        state = end(launch(form(tmp_path, name)))
        assert state.status == FINISHED
        assert len(state.steps) == state.plan["num_steps"] > 2
        assert (host.shared.model, host.shared.tokenizer) == (model, tokenizer)
        assert host.shared.model.model.layers[0].self_attn.q_proj is module
        assert not host.shared.model.training
        assert is_same(host, before)
        assert reply(host) == said
    assert host.utils.get_available_loras() == ["None", "first", "second"]
    host.LoRA.add_lora_to_model(["second"])
    assert not is_same(host, before)
    host.LoRA.add_lora_to_model([])
    assert is_same(host, before)
    assert end(launch(form(tmp_path, "third"))).status == FINISHED
    assert is_same(host, before)
    assert RunFolder(webui.adapters_dir() / "third").has_adapter


def test_an_interrupted_run_gives_the_model_back_and_can_be_resumed(host: Any, tmp_path: Path) -> None:
    before = logits(host)
    state = interrupt(start_long_run(tmp_path))
    assert state.status == INTERRUPTED
    assert is_same(host, before)
    assert "trial" in host.utils.get_available_loras()
    steps = len(state.steps)
    handle = webui.make_host().launch(form(tmp_path, training=LONG, adapter={"if_exists": "resume"}))
    wait(lambda: len(read_state(handle.folder).steps) > steps)
    assert interrupt(handle).status == INTERRUPTED
    assert is_same(host, before)


def test_a_run_leaves_no_seed_behind(host: Any, tmp_path: Path) -> None:
    import numpy as np
    import torch

    def draw() -> tuple[float, float, float]:
        return random.random(), float(np.random.rand()), float(torch.rand(()))

    for seed in (random.seed, np.random.seed, torch.manual_seed):
        seed(7)
    expected = [draw(), draw()]
    for seed in (random.seed, np.random.seed, torch.manual_seed):
        seed(7)
    drawn = [draw()]
    assert end(webui.make_host().launch(form(tmp_path))).status == FINISHED
    assert [*drawn, draw()] == expected


def test_a_failed_run_gives_everything_back(host: Any, tmp_path: Path) -> None:
    before = logits(host)
    state = end(webui.make_host().launch(form(tmp_path, adapter={"targets": ["no_such_module"]})))
    assert (state.status, "no_such_module" in state.end["message"]) == (FAILED, True)
    assert is_same(host, before)
    assert host.models.active_generation_count == 0
    assert reply(host) != webui.CHAT_NOTICE
    assert end(webui.make_host().launch(form(tmp_path))).status == FINISHED


def test_a_refused_name_touches_nothing(host: Any, tmp_path: Path) -> None:
    save_adapter(host, "mine")
    with pytest.raises(ValueError, match="there is an adapter or run called 'mine' already"):
        webui.make_host().launch(form(tmp_path, "mine"))
    assert (host.models.active_generation_count, registry.is_busy()) == (0, False)
    assert reply(host) != webui.CHAT_NOTICE


def test_two_runs_do_not_share_the_model(host: Any, tmp_path: Path) -> None:
    handle = start_long_run(tmp_path)
    tab = webui.make_host()
    assert tab.model_facts() == {"name": "tiny", "detail": "is being trained"}
    assert tab.check(form(tmp_path)).problems == ["A training is going on. Check when it has ended."]
    assert tab.preview(form(tmp_path), 0, 5)["problems"] == ["A training is going on. Look at the samples when it has ended."]
    with pytest.raises(RunBusyError, match="The run 'trial' is going on"):
        tab.launch(form(tmp_path, "other"))
    assert interrupt(handle).status == INTERRUPTED
    assert not (tab.adapters_dir() / "other").exists()


def test_check_says_what_a_run_would_do(host: Any, tmp_path: Path) -> None:
    result = webui.make_host().check(form(tmp_path))
    assert result.problems == []
    assert result.plan["num_steps"] == 13
    assert result.memory["total"] > 0


def test_preview_shows_what_a_run_would_train(host: Any, tmp_path: Path) -> None:
    template = host.shared.tokenizer.chat_template
    page = webui.make_host().preview(form(tmp_path), 1, 2)
    assert (page["problems"], page["first"]) == ([], 1)
    assert [sample["number"] for sample in page["samples"]] == [1, 2]
    assert all(any(piece["trained"] for piece in sample["pieces"]) for sample in page["samples"])
    assert host.shared.tokenizer.chat_template == template


def test_a_model_that_is_unloaded_in_the_middle_is_trained_to_the_end(host: Any, tmp_path: Path) -> None:
    handle = start_long_run(tmp_path)
    host.models.unload_model()
    steps = len(read_state(handle.folder).steps)
    wait(lambda: len(read_state(handle.folder).steps) > steps + 2)
    state = interrupt(handle)
    assert (state.status, handle.folder.has_adapter) == (INTERRUPTED, True)
    assert webui.make_host().model_facts()["problem"].startswith("No model is loaded.")


def test_a_model_that_is_unloaded_while_a_reply_ends_is_the_one_that_trains(host: Any, tmp_path: Path) -> None:
    with host.shared.generation_lock:  # somebody's reply
        handle = webui.make_host().launch(form(tmp_path))
        host.models.unload_model()
    assert end(handle).status == FINISHED


# --- chat, the LoRA menu, other trainings and idle unload meanwhile --------------------------------------------------------------


def test_chat_gets_a_notice_at_once_also_after_a_restart_of_the_page(host: Any, tmp_path: Path) -> None:
    said = reply(host)
    handle = start_long_run(tmp_path)
    assert reply(host) == webui.CHAT_NOTICE
    assert host.models.active_generation_count == 1
    script = host.load_extensions()["training_pro"]  # what the WebUI does at "Apply flags/extensions and restart"
    assert (hasattr(script, "custom_generate_reply"), hasattr(script, "chat_input_modifier")) == (True, False)
    assert reply(host) == webui.CHAT_NOTICE
    interrupt(handle)
    assert not hasattr(script, "custom_generate_reply")
    assert reply(host) == said
    assert host.models.active_generation_count == 0


def test_another_model_answers_while_the_first_one_trains(host: Any, tmp_path: Path) -> None:
    handle = start_long_run(tmp_path)
    host.models.unload_model()
    host.load_model("tiny")
    assert reply(host) != webui.CHAT_NOTICE
    save_adapter(host, "style")
    host.LoRA.add_lora_to_model(["style"])
    assert host.shared.lora_names == ["style"]
    assert interrupt(handle).status == INTERRUPTED


def test_nothing_changes_the_model_while_it_trains(host: Any, tmp_path: Path) -> None:
    gradio = pytest.importorskip("gradio")
    originals = host.LoRA.add_lora_transformers, host.training.clean_path
    save_adapter(host, "style")
    handle = start_long_run(tmp_path)
    with pytest.raises(gradio.Error, match="cannot be changed now"):
        host.LoRA.add_lora_to_model(["style"])
    with pytest.raises(gradio.Error, match="stop it in the Training PRO Hybrid tab"):
        host.training.clean_path(None, "another-training")
    steps = len(read_state(handle.folder).steps)
    wait(lambda: len(read_state(handle.folder).steps) > steps + 2)
    assert interrupt(handle).status == INTERRUPTED
    assert (host.LoRA.add_lora_transformers, host.training.clean_path) == originals
    host.LoRA.add_lora_to_model(["style"])
    assert host.shared.lora_names == ["style"]


def test_a_run_waits_for_a_reply_and_says_so(host: Any, tmp_path: Path) -> None:
    with host.shared.generation_lock:  # somebody's reply
        handle = webui.make_host().launch(form(tmp_path))
        wait(lambda: read_state(handle.folder).detail == "waiting for the reply that is being written")
        assert host.models.active_generation_count == 0
    assert end(handle).status == FINISHED


def test_a_run_that_waits_for_a_reply_can_be_interrupted(host: Any, tmp_path: Path) -> None:
    with host.shared.generation_lock:
        handle = webui.make_host().launch(form(tmp_path))
        wait(lambda: read_state(handle.folder).detail == "waiting for the reply that is being written")
        state = interrupt(handle)
    assert (state.status, state.steps) == (INTERRUPTED, [])
    assert host.models.active_generation_count == 0
    assert reply(host) != webui.CHAT_NOTICE


def test_the_model_is_free_again_after_any_error(host: Any) -> None:
    original = host.LoRA.add_lora_transformers
    host.models.last_generation_time = 0.0

    def use_it() -> None:
        with webui.ModelUse(host.shared.model, host.shared.tokenizer) as use:
            assert reply(host) != webui.CHAT_NOTICE
            assert use.take() == (host.shared.model, host.shared.tokenizer)
            assert reply(host) == webui.CHAT_NOTICE
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        use_it()
    assert reply(host) != webui.CHAT_NOTICE
    assert host.LoRA.add_lora_transformers is original
    assert host.models.active_generation_count == 0
    assert time.time() - host.models.last_generation_time < PATIENCE  # not idle: it was just in use


def test_a_webui_that_has_no_lock_yet(host: Any) -> None:
    host.shared.generation_lock = None
    with webui.ModelUse(host.shared.model, host.shared.tokenizer) as use:
        use.take()
        assert host.models.active_generation_count == 1


def test_a_model_put_away_as_idle_is_loaded_again(start_webui: Callable[..., Any], tmp_path: Path) -> None:
    host = start_webui("--idle-timeout", "5")
    host.models.unload_model(keep_model_name=True)
    tab = webui.make_host()
    assert tab.model_facts() == {"name": "tiny", "detail": "was unloaded as idle, is loaded again at Check or Start"}
    assert tab.check(form(tmp_path)).problems == []
    host.models.unload_model(keep_model_name=True)
    assert end(tab.launch(form(tmp_path))).status == FINISHED
    assert host.shared.model is not None
    host.models.unload_model()  # by the button
    assert tab.model_facts()["problem"].startswith("No model is loaded.")
