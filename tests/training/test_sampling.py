"""Answers on the way: what the half-trained model says, in bounded time, and a run that trains the same with and without them."""

from pathlib import Path
from typing import Any

import pytest
import tiny
import trials
from training_pro.runs.control import change_control
from training_pro.runs.state import read_state
from training_pro.training import samples as samples_module
from training_pro.training.samples import answer_prompts

PROMPTS = ["question 3: what", "where is the lighthouse"]
SAMPLES: dict[str, Any] = {"prompts": PROMPTS, "max_new_tokens": 6, "every_steps": 4}


@pytest.mark.parametrize("optimizer", ["adamw_torch", "schedule_free_adamw"])
def test_a_run_with_samples_trains_what_one_without_does(tmp_path: Path, optimizer: str) -> None:
    if optimizer != "adamw_torch":
        pytest.importorskip("schedulefree")
    training = {"optimizer": optimizer, "schedule": "constant_with_warmup", "gradient_checkpointing": True}
    seen = {}
    for name, samples in (("plain", {}), ("asked", SAMPLES)):
        with trials.watched() as steps:
            outcome, events = trials.run(trials.settings(tmp_path, adapter={"name": name}, training=training, samples=samples))
        seen[name] = steps, trials.weights(outcome.folder)
    assert seen["plain"][0] == seen["asked"][0]
    assert trials.same(seen["plain"][1], seen["asked"][1])
    assert [(entry["when"], entry["step"], entry["prompt"]) for entry in events.all("sample")] == [
        (when, step, prompt)
        for when, step in (("before", 0), ("step", 4), ("step", 8), ("step", 12), ("after", 13))
        for prompt in PROMPTS
    ]


def test_they_are_the_half_trained_models(tmp_path: Path) -> None:
    """Of the checkpoint of that step, loaded by peft."""
    from peft import PeftModel

    checkpoints = {"save_every_steps": 4, "keep_last": 0}
    config = trials.settings(tmp_path, samples=SAMPLES, checkpoints=checkpoints, training={"learning_rate": 0.2})
    outcome, events = trials.run(config)
    for step in (4, 12):
        loaded = PeftModel.from_pretrained(tiny.model(), str(outcome.folder.path / f"checkpoint-{step}")).eval()
        wanted = [answer for _, answer in answer_prompts(loaded, tiny.fresh_tokenizer(), PROMPTS, 6)]
        assert [entry["answer"] for entry in events.all("sample") if entry["step"] == step] == wanted
    answers = {entry["answer"] for entry in events.all("sample") if entry["prompt"] == PROMPTS[0]}
    assert len(answers) > 1


def test_a_resumed_run_keeps_the_answers_of_the_base_model(tmp_path: Path) -> None:
    trials.run(trials.settings(tmp_path, samples=SAMPLES), stop_at=6)
    outcome, events = trials.run(trials.settings(tmp_path, samples=SAMPLES, adapter={"if_exists": "resume"}))
    assert [entry["step"] for entry in events.all("sample")] == [8, 8, 12, 12, 13, 13]
    assert [(entry["when"], entry["step"]) for entry in read_state(outcome.folder).samples[::2]] == [
        *(("before", 0), ("step", 4), ("step", 6), ("step", 8), ("step", 12), ("after", 13)),
    ]
    more = {**SAMPLES, "prompts": [*PROMPTS, "who"]}
    _, events = trials.run(
        trials.settings(tmp_path, samples=more, adapter={"if_exists": "resume"}, training={"epochs": 3}),
    )
    assert [entry["when"] for entry in events.all("sample")][:3] == ["before"] * 3  # a new prompt: all of them are asked again


def test_they_take_bounded_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer that is being written ends, no other begins, and it is said."""
    monkeypatch.setattr(samples_module, "MAX_SECONDS", 0.3)
    samples = {"prompts": PROMPTS * 2, "max_new_tokens": 100, "every_steps": 8}
    model = tiny.model()
    generate, limits = type(model).generate, []

    def slow(self: Any, **settings: Any) -> Any:
        if "max_time" in settings:
            limits.append(settings["max_time"])
            import time

            time.sleep(0.2)
        return generate(self, **{**settings, "max_new_tokens": 2})

    monkeypatch.setattr(type(model), "generate", slow)
    outcome, events = trials.run(trials.settings(tmp_path, samples=samples, training={"epochs": 2}), model)
    assert outcome.status == "finished", outcome.message
    assert len([entry for entry in events.all("sample") if entry["when"] == "step"]) == len(limits) == 2
    assert 0.3 >= limits[0] > limits[1] > 0
    assert "Step 8: 2 of 4 Sample prompts were answered in 0.3 seconds. Shorten Longest answer" in events.texts()


def test_a_stop_does_not_wait_for_all_answers(tmp_path: Path) -> None:
    events = trials.Events()
    control = tmp_path / "loras/trial/control.json"

    class Listener:
        def __call__(self, event: str, **fields: Any) -> None:
            events(event, **fields)
            if event == "sample" and fields["when"] == "step":
                change_control(control, stop=True)

    from training_pro.training.job import run_job

    loaded = (tiny.model(), tiny.fresh_tokenizer())
    outcome = run_job(trials.settings(tmp_path, samples=SAMPLES), lambda: loaded, listener=Listener())
    assert (outcome.status, outcome.step) == ("interrupted", 5)
    assert len([entry for entry in events.all("sample") if entry["when"] == "step"]) == 1
