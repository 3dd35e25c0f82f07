"""A run that waits between two steps: afterwards it trains to the bit what one without pauses trains, whatever was done with its model."""

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
import trials
from training_pro.runs.control import change_control
from training_pro.runs.state import RunReader, read_state
from training_pro.runs.store import RunFolder
from training_pro.training import pausing
from training_pro.training.job import run_job

IDS = torch.tensor([[1, 40, 41, 42, 7, 3, 60, 61]])


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pausing, "POLL_SECONDS", 0.01)


class Chat:
    """A host whose user talks to the model while a run waits.

    Args:
        model: the base object that the host holds.
        then: called with the number of the pause, at each; changes what is asked for.
    """

    def __init__(self, model: Any, then: Callable[[int], Any]) -> None:
        self.model = model
        self.then = then
        self.logits: list[Any] = []
        self.drawn: list[float] = []
        self.facts: list[tuple[bool, Any]] = []

    @contextmanager
    def lend(self, say: Callable[[str], None]) -> Iterator[None]:
        self.facts.append((any(module.training for module in self.model.modules()), self.model.config.use_cache))
        with torch.no_grad():
            self.logits.append(self.model(input_ids=IDS).logits)
            self.model.generate(input_ids=IDS, attention_mask=torch.ones_like(IDS), max_new_tokens=4, do_sample=True)
        self.drawn.append(random.random())
        np.random.rand(3), torch.rand(3)
        self.then(len(self.logits))
        yield


def train(config: Any, pauses: dict[int, dict[str, Any]] | None = None, **then: Any) -> tuple[Any, trials.Events, Chat]:
    """Run with changes of the controls after steps; while it waits the chat is used and ``then`` is asked for."""
    model, events = tiny.model(), trials.Events()
    control = Path(config.run.adapters_dir) / "trial/control.json"
    for step, change in (pauses or {}).items():
        events.on(step, lambda change=change: change_control(control, **change))  # type: ignore[misc]
    chat = Chat(model, lambda number: change_control(control, **(then or {"pause": False})))
    outcome = run_job(config, lambda: (model, tiny.fresh_tokenizer()), listener=events, lend=chat.lend)
    return outcome, events, chat


CASES: dict[str, dict[str, Any]] = {
    "lora": {},
    "workers": {"run": {"workers": 2}},
    "checkpointing": {"training": {"gradient_checkpointing": True}},
    "accumulation": {"batching": {"true_batch_size": 1, "gradient_accumulation": 2}},
    "noise in bfloat16": {"training": {"neftune_alpha": 5.0, "precision": "bfloat16"}},
    "averages": {"training": {"optimizer": "schedule_free_adamw", "schedule": "constant_with_warmup"}},
    "full": {"adapter": {"method": "full"}, "training": {"learning_rate": 1e-3}},
}


@pytest.mark.parametrize("case", CASES)
def test_a_paused_run_trains_what_an_unpaused_one_does(tmp_path: Path, case: str) -> None:
    changes = CASES[case]
    if case == "averages":
        pytest.importorskip("schedulefree")
    result = "model.safetensors" if case == "full" else "adapter_model.safetensors"
    results = []
    for place, pauses in (("plain", {}), ("paused", {3: {"pause": True}, 6: {"pause": True}})):
        run = {**changes.get("run", {}), "adapters_dir": str(tmp_path / place)}
        with trials.watched() as seen:
            outcome, events, chat = train(trials.settings(tmp_path, **{**changes, "run": run}), pauses)
        assert outcome.status == "finished", outcome.message
        results.append((seen, (outcome.folder.path / result).read_bytes()))
    assert len(results[0][0]) > 6
    assert results[0][0] == results[1][0]
    assert results[0][1] == results[1][1]
    assert [entry["step"] for entry in events.all("paused")] == [3, 6]
    assert [entry["step"] for entry in events.all("unpaused")] == [3, 6]
    assert chat.facts == [(False, True)] * 2
    assert len(set(chat.drawn)) == 2  # what the chat draws is not the same in every pause
    assert not torch.equal(chat.logits[0], chat.logits[1])


def test_all_random_numbers_go_on_as_if_none_had_been_drawn() -> None:
    def draw() -> list[float]:
        return [random.random(), float(np.random.rand()), float(torch.rand(()))]

    with pausing.random_kept():
        random.seed(1), np.random.seed(1), torch.manual_seed(1)
        first = draw()
        with pausing.random_kept(fresh=True):
            unknown = draw()
        second = draw()
        random.seed(1), np.random.seed(1), torch.manual_seed(1)
        assert [draw(), draw()] == [first, second]
    assert unknown[0] != second[0]


def test_the_chat_has_the_half_trained_model(tmp_path: Path) -> None:
    """Its logits are those of the checkpoint of that step, loaded by peft; with averaging optimizers the averaged weights."""
    from peft import PeftModel

    for optimizer in ("adamw_torch", "schedule_free_adamw"):
        if optimizer != "adamw_torch":
            pytest.importorskip("schedulefree")
        training = {"optimizer": optimizer, "schedule": "constant_with_warmup"}
        config = trials.settings(tmp_path, training=training, run={"adapters_dir": str(tmp_path / optimizer)})
        outcome, _, chat = train(config, {4: {"pause": True, "save_requests": 1}})
        loaded = PeftModel.from_pretrained(tiny.model(), str(outcome.folder.path / "checkpoint-4-user")).eval()
        with torch.no_grad():
            wanted, base = loaded(input_ids=IDS).logits, tiny.model().eval()(input_ids=IDS).logits
        assert torch.equal(chat.logits[0], wanted)
        assert not torch.equal(wanted, base)


def test_the_model_is_given_back_after_a_stop_in_a_pause(tmp_path: Path) -> None:
    base = tiny.model().eval()(input_ids=IDS).logits
    outcome, events, chat = train(trials.settings(tmp_path), {4: {"pause": True}}, stop=True)
    assert (outcome.status, outcome.step, outcome.adapter_saved) == ("interrupted", 4, True)
    assert [(entry["step"], entry["cause"]) for entry in events.all("checkpoint")] == [(4, "stop")]
    assert torch.equal(chat.model(input_ids=IDS).logits, base)
    assert not read_state(outcome.folder).is_paused
    with trials.watched() as rest:
        outcome, _ = trials.run(trials.settings(tmp_path, adapter={"if_exists": "resume"}))
    with trials.watched() as whole:
        trials.run(trials.settings(tmp_path, adapter={"name": "whole"}))
    assert rest == whole[4:]


def test_what_is_asked_for_in_a_pause_is_done_at_once(tmp_path: Path) -> None:
    """Save, evaluate and the learning rate; the run still trains what one without the pause does."""
    config = trials.settings(tmp_path, data={"eval_share": 0.2})
    control = tmp_path / "loras/trial/control.json"
    wishes = iter([{"save_requests": 1}, {"evaluate_requests": 1}, {"lr_scale": 0.5}, {"pause": False}])
    events = trials.Events()
    events.on(2, lambda: change_control(control, pause=True))
    chat = Chat(tiny.model(), lambda number: change_control(control, **next(wishes)))
    with trials.watched() as seen:
        outcome = run_job(config, lambda: (chat.model, tiny.fresh_tokenizer()), listener=events, lend=chat.lend)
    assert (outcome.status, len(chat.logits)) == ("finished", 4)
    order = [(name, fields.get("step")) for name, fields in events if name not in ("message", "stage", "understanding")]
    at = order.index(("paused", 2))
    assert order[at : order.index(("unpaused", 2)) + 1] == [
        *(("paused", 2), ("control", 2), ("checkpoint", 2), ("control", 2), ("evaluation", 2), ("control", 2), ("control", 2)),
        ("unpaused", 2),
    ]
    assert (outcome.folder.path / "checkpoint-2-user/training_pro.json").is_file()
    with trials.watched() as plain:
        other = trials.Events()
        other.on(2, lambda: change_control(tmp_path / "loras/other/control.json", lr_scale=0.5))
        trials.run(trials.settings(tmp_path, adapter={"name": "other"}, data={"eval_share": 0.2}), events=other)
    assert seen == plain


def test_time_in_a_pause_does_not_count(tmp_path: Path) -> None:
    control = tmp_path / "loras/trial/control.json"
    events = trials.Events()
    events.on(2, lambda: change_control(control, pause=True))
    later: list[threading.Timer] = []

    @contextmanager
    def lend(say: Callable[[str], None]) -> Iterator[None]:
        later.append(threading.Timer(1.5, lambda: change_control(control, pause=False)))
        later[0].start()
        yield

    used = []

    class Watch:
        def __call__(self, event: str, **fields: Any) -> None:
            events(event, **fields)
            if event in ("paused", "unpaused"):
                used.append((time.process_time(), RunReader(RunFolder(tmp_path / "loras/trial")).read().is_paused))

    config = trials.settings(tmp_path, checkpoints={"save_every_minutes": 1 / 60, "save_every_epoch": False})
    outcome = run_job(config, lambda: (tiny.model(), tiny.fresh_tokenizer()), listener=Watch(), lend=lend)
    assert outcome.status == "finished"
    assert [paused for _, paused in used] == [True, False]
    assert used[1][0] - used[0][0] < 0.75  # seconds of the processor in 1.5 seconds
    pause = events.all("unpaused")[0]["seconds"]
    assert pause >= 1.5
    assert read_state(outcome.folder).paused_seconds == pause
    third = events.all("step")[2]
    assert third["seconds"] < 1.4
    assert third["time_left"] < 1.4 * 10
    trained = sum(entry["seconds"] for entry in events.all("step"))
    assert len([entry for entry in events.all("checkpoint") if entry["cause"] == "minutes"]) <= trained


def test_a_pause_wished_for_at_the_last_step_does_not_hold_the_end(tmp_path: Path) -> None:
    outcome, events, _ = train(trials.settings(tmp_path), {13: {"pause": True}})
    assert (outcome.status, events.all("paused")) == ("finished", [])


def test_two_processes_wait_together_and_do_what_is_asked(two_ranks: Any) -> None:
    """Pause, save, learning rate, evaluation and samples; both train what they would without pause and samples."""
    folder, seen = two_ranks
    main = seen[0]["steered"]
    for rank in range(2):
        steered, scaled = seen[rank]["steered"], seen[rank]["scaled"]
        assert steered["status"] == "finished", steered["message"]
        assert steered["seen"] == scaled["seen"]
        assert len(steered["seen"]) > 4
    assert [entry["step"] for entry in main["paused"]] == [2]
    assert main["unpaused"][0]["seconds"] >= 1
    assert (main["checkpoint"][0]["step"], main["checkpoint"][0]["folder"]) == (2, "checkpoint-2-user")
    assert 4 in [entry["step"] for entry in main["evaluations"]]
    assert [entry["step"] for entry in main["sample"]][:3] == [0, 2, 4]
    assert [entry["lr_scale"] for entry in main["steps"]][:5] == [1, 1, 1, 0.5, 0.5]
    assert trials.same(trials.weights(folder / "loras/steered"), trials.weights(folder / "loras/scaled"))


def test_two_processes_discard_a_run(two_ranks: Any) -> None:
    folder, seen = two_ranks
    assert [entry["discarded"]["status"] for entry in seen] == ["discarded"] * 2
    assert seen[0]["discarded"]["checkpoints"] == []
    assert not list((folder / "loras/discarded").glob("*.safetensors"))
