"""The main job: what a run leaves behind, what the user can ask of it on the way, and what it does with settings that do not fit."""

import json
import socket
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
import trials
from training_pro.runs.checkpoints import find_checkpoints
from training_pro.runs.control import change_control
from training_pro.runs.state import read_state
from training_pro.training import trainer as trainer_module

IDS = torch.tensor([[1, 40, 41, 42, 7, 3, 60, 61]])


def logits(model: Any) -> torch.Tensor:
    model.eval()
    with torch.no_grad():
        found: torch.Tensor = model(input_ids=IDS).logits
    return found


# --- the result ----------------------------------------------------------------------------------------------------------------


def test_the_adapter_is_what_was_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """peft loads the folder; base and adapter together give the trained model's logits."""
    from peft import PeftModel

    trained: list[torch.Tensor] = []
    save = trainer_module.save_adapter

    def save_adapter(fitted: Any, folder: Path, **kind: Any) -> None:
        save(fitted, folder, **kind)
        if folder.name == "trial":
            trained.append(logits(fitted.model))

    monkeypatch.setattr(trainer_module, "save_adapter", save_adapter)
    base = tiny.model()
    before = logits(base)
    outcome, _ = trials.run(trials.settings(tmp_path), base)
    assert (outcome.status, len(trained)) == ("finished", 1)
    loaded = PeftModel.from_pretrained(base, str(outcome.folder.path))
    assert (logits(loaded) - before).abs().max() > 0.05
    assert torch.equal(logits(loaded), trained[0])


def test_what_lies_in_the_folder(tmp_path: Path, with_picture: None) -> None:
    outcome, events = trials.run(trials.settings(tmp_path, data={"eval_share": 0.2}, training={"epochs": 2}))
    folder = outcome.folder
    assert outcome.status == "finished"
    assert {path.name for path in folder.path.iterdir()} >= {
        *("adapter_model.safetensors", "adapter_config.json", "training_parameters.json", "training_log.json"),
        *("training_graph.json", "training_graph.png", "events.jsonl", "checkpoint-4", "checkpoint-8"),
    }
    assert folder.graph.read_bytes().startswith(b"\x89PNG")
    points = json.loads(folder.graph_data.read_text())
    assert [point["step"] for point in points if "loss" in point] == list(range(1, 9))
    assert [point["epoch"] for point in points if "eval_loss" in point] == [0.0, 1.0, 2.0]
    log = json.loads(folder.log.read_text())
    assert (log["status"], log["current_steps"], log["epoch"]) == ("finished", 8, 2.0)
    assert log["versions"]["torch"] == torch.__version__
    assert json.loads(folder.parameters.read_text())["adapter"]["rank"] == 4
    for checkpoint in find_checkpoints(folder):
        names = {path.name for path in checkpoint.path.iterdir()}
        assert names >= {"adapter_model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json"}
        assert checkpoint.marker["epoch"] == checkpoint.step / 4
    assert [event for event, _ in events][:2] == ["run_started", "stage"]


def test_the_diary_is_complete(tmp_path: Path) -> None:
    samples = {"prompts": ["where is the lighthouse", "who paints"], "max_new_tokens": 4}
    outcome, events = trials.run(trials.settings(tmp_path, samples=samples, data={"eval_share": 0.2}))
    state = read_state(outcome.folder)
    assert state.status == "finished"
    assert [entry["step"] for entry in state.steps] == list(range(1, 11))
    assert [entry["epoch"] for entry in state.steps] == [0.25, 0.5, 0.75, 1, 1.25, 1.5, 1.75, 2, 2.25, 2.5]
    assert [entry["step"] for entry in state.evaluations] == [0, 4, 8, 10]
    assert [(entry["step"], entry["cause"]) for entry in state.checkpoints] == [(4, "epoch"), (8, "epoch"), (10, "end")]
    assert [(entry["when"], entry["prompt"]) for entry in state.samples] == [
        (when, prompt) for when in ("before", "after") for prompt in samples["prompts"]
    ]
    assert state.plan["num_steps"] == 10
    assert state.plan["learning_rates"][0] == [0, 0.0]
    assert state.report["num_samples"] == 8
    for entry in state.steps:
        assert entry["tokens"] > entry["trained_tokens"] > 0
        assert entry["seconds"] > 0
        assert entry["time_left"] >= 0
        assert entry["grad_norm"] > 0
    assert state.end["step"] == 10
    assert state.end["adapter"] == str(outcome.folder.path)
    assert [event for event, _ in events].count("run_ended") == 1
    factors = dict(state.plan["learning_rates"])
    assert all(entry["lr"] == pytest.approx(factors[entry["step"] - 1]) for entry in state.steps)


def test_the_answers_before_and_after_are_the_models(tmp_path: Path) -> None:
    prompts = ["question 3: what", "where is the lighthouse"]
    model, tokenizer = tiny.model(), tiny.fresh_tokenizer()
    samples = {"prompts": prompts, "max_new_tokens": 8}
    outcome, events = trials.run(trials.settings(tmp_path, samples=samples, training={"epochs": 8}), model, tokenizer)
    from peft import PeftModel
    from training_pro.training.samples import answer_prompts

    answers = [(entry["when"], entry["answer"]) for entry in events.all("sample")]
    assert answers[:2] == [("before", answer) for _, answer in answer_prompts(model, tokenizer, prompts, 8)]
    loaded = PeftModel.from_pretrained(model, str(outcome.folder.path)).eval()
    assert answers[2:] == [("after", answer) for _, answer in answer_prompts(loaded, tokenizer, prompts, 8)]
    assert answers[0][1] != answers[2][1]


def test_failing_answers_afterwards_do_not_spoil_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from training_pro.training import samples

    answer = samples.answer_prompts

    def answer_prompts(model: Any, *args: Any) -> Any:
        if hasattr(model, "peft_config"):
            raise RuntimeError("CUDA out of memory")
        return answer(model, *args)

    monkeypatch.setattr(samples, "answer_prompts", answer_prompts)
    outcome, events = trials.run(
        trials.settings(tmp_path, samples={"prompts": ["where"], "max_new_tokens": 2}, training={"epochs": 1})
    )
    assert (outcome.status, outcome.adapter_saved) == ("finished", True)
    assert "could not be answered after the training: CUDA out of memory" in events.texts()


def test_nothing_asks_the_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[Any] = []

    def refuse(*args: Any, **kwargs: Any) -> None:
        tried.append(args)
        raise OSError("no network")  # libraries may swallow it

    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    model = tiny.model()
    model.config._name_or_path = model.name_or_path = "somebody/some-model"  # peft would look such a name up
    outcome, _ = trials.run(trials.settings(tmp_path, training={"epochs": 1}), model)
    assert outcome.status == "finished", outcome.message
    assert tried == []
    config = json.loads((outcome.folder.path / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "somebody/some-model"


# --- existing names ------------------------------------------------------------------------------------------------------------


def test_what_exists_is_only_touched_by_the_users_word(tmp_path: Path) -> None:
    one_epoch = {"training": {"epochs": 1}}
    first, _ = trials.run(trials.settings(tmp_path, **one_epoch))
    weights = trials.weights(first.folder)

    with pytest.raises(ValueError, match="there is an adapter or run called 'trial' already"):
        trials.run(trials.settings(tmp_path, **one_epoch))

    new, _ = trials.run(trials.settings(tmp_path, adapter={"if_exists": "new name"}, **one_epoch))
    assert new.folder.name == "trial-2"
    assert trials.same(trials.weights(first.folder), weights)

    replaced, _ = trials.run(trials.settings(tmp_path, adapter={"if_exists": "replace"}, training={"epochs": 1, "seed": 1}))
    assert replaced.folder.path == first.folder.path
    backups = list((tmp_path / "loras").glob("trial-backup-*-np"))
    assert len(backups) == 1
    assert trials.same(trials.weights(backups[0]), weights)
    assert not trials.same(trials.weights(replaced.folder), weights)


def test_continue_begins_with_the_adapter_that_is_there(tmp_path: Path) -> None:
    with trials.watched() as fresh:
        trials.run(trials.settings(tmp_path, adapter={"dropout": 0.0}))
    with trials.watched() as seen:
        again, events = trials.run(trials.settings(tmp_path, adapter={"if_exists": "continue", "rank": 8, "dropout": 0.0}))
    assert (again.status, again.step) == ("finished", 13)
    assert "keeps what it was made with: LoRA Rank 4." in events.texts()
    assert {tuple(weight.shape)[0] for name, weight in trials.weights(again.folder).items() if "lora_A" in name} == {4}
    assert seen[0][1] == fresh[0][1]
    assert abs(seen[0][2] - fresh[0][2]) > 1e-3  # the same first batch, another adapter
    assert len(list((tmp_path / "loras").glob("trial-backup-*-np"))) == 1
    whole = [entry["loss"] for entry in read_state(again.folder).steps]
    assert len(whole) == len(seen) == 13  # its diary begins anew

    with trials.watched() as parts:  # a continued run can be stopped and resumed as well
        place = {"adapters_dir": str(tmp_path / "loras")}
        trials.run(trials.settings(tmp_path, adapter={"if_exists": "continue", "rank": 8}, run=place), stop_at=4)
        last, _ = trials.run(trials.settings(tmp_path, adapter={"if_exists": "resume", "rank": 8}, run=place))
    assert (last.status, len(parts)) == ("finished", 13), last.message


# --- what the user asks on the way ---------------------------------------------------------------------------------------------


def test_saves_by_steps_and_keeps_the_last(tmp_path: Path) -> None:
    checkpoints = {"save_every_steps": 3, "save_every_epoch": False, "keep_last": 2}
    outcome, events = trials.run(trials.settings(tmp_path, checkpoints=checkpoints))
    assert [(entry["step"], entry["cause"]) for entry in events.all("checkpoint")] == [
        *((3, "steps"), (6, "steps"), (9, "steps"), (12, "steps"), (13, "end")),
    ]
    assert [checkpoint.step for checkpoint in find_checkpoints(outcome.folder)] == [12, 13]


def test_save_now_stays_when_others_are_deleted(tmp_path: Path) -> None:
    events = trials.Events()
    events.on(2, lambda: change_control(tmp_path / "loras/trial/control.json", save_requests=1))
    outcome, _ = trials.run(trials.settings(tmp_path, checkpoints={"keep_last": 1}), events=events)
    saved = events.all("checkpoint")[0]
    assert (saved["step"], saved["epoch"], saved["folder"], saved["cause"]) == (2, 0.4, "checkpoint-2-user", "user")
    assert [checkpoint.step for checkpoint in find_checkpoints(outcome.folder)] == [2, 13]
    assert {"name": "save_requests", "value": 1, "step": 2} in events.all("control")


def test_stop_at_loss(tmp_path: Path) -> None:
    """Only when the smoothed loss has its ten steps."""
    outcome, events = trials.run(trials.settings(tmp_path, checkpoints={"stop_at_loss": 50.0}))
    assert (outcome.status, outcome.step) == ("finished", 10)
    assert "reached Stop at loss 50" in outcome.message
    assert outcome.adapter_saved
    assert events.all("checkpoint")[-1]["step"] == 10
    again, _ = trials.run(trials.settings(tmp_path, adapter={"if_exists": "resume"}))  # without it the run goes on
    assert (again.status, again.step) == ("finished", 13)


def test_stop_at_loss_can_be_set_on_the_way(tmp_path: Path) -> None:
    events = trials.Events()
    events.on(11, lambda: change_control(tmp_path / "loras/trial/control.json", stop_at_loss=50.0))
    outcome, _ = trials.run(trials.settings(tmp_path), events=events)
    assert (outcome.step, outcome.status) == (11, "finished")


def test_a_stop_at_the_last_step_is_a_finished_run(tmp_path: Path) -> None:
    outcome, _ = trials.run(trials.settings(tmp_path), stop_at=13)
    assert (outcome.status, outcome.message) == ("finished", "The training is finished.")


def test_a_stop_before_the_first_step(tmp_path: Path) -> None:
    """Asked while the model loads, and while the data are read; nothing is learned, the name stays free."""
    from training_pro.training.job import run_job

    control = tmp_path / "loras/trial/control.json"

    def load() -> Any:
        change_control(control, stop=True)
        return tiny.model(), tiny.fresh_tokenizer()

    outcome = run_job(trials.settings(tmp_path), load)
    assert (outcome.status, outcome.step, outcome.adapter_saved) == ("interrupted", 0, False)

    events = trials.Events()
    stages: list[str] = []

    def listen(event: str, **fields: Any) -> None:
        events(event, **fields)
        stages.extend([fields["stage"]] if event == "stage" else [])
        if event == "sample":
            change_control(control, stop=True)

    prompts = {"prompts": ["where", "who", "what"], "max_new_tokens": 2}
    loaded = (tiny.model(), tiny.fresh_tokenizer())
    outcome = run_job(trials.settings(tmp_path, samples=prompts), lambda: loaded, listener=listen)
    assert (outcome.status, len(events.all("sample")), stages[-1]) == ("interrupted", 1, "sampling")

    outcome, _ = trials.run(trials.settings(tmp_path, training={"epochs": 1}))  # what was asked of a former run is forgotten
    assert outcome.status == "finished"


def test_a_stop_that_comes_as_soon_as_the_folder_is_open_is_not_lost(tmp_path: Path) -> None:
    from training_pro.training.job import run_job

    loaded = (tiny.model(), tiny.fresh_tokenizer())
    outcome = run_job(
        trials.settings(tmp_path), lambda: loaded, on_folder=lambda folder: change_control(folder.control, stop=True) and None
    )
    assert (outcome.status, outcome.step) == ("interrupted", 0)


# --- settings that do not fit --------------------------------------------------------------------------------------------------


def test_accumulation_is_lowered_with_a_word(tmp_path: Path) -> None:
    outcome, events = trials.run(trials.settings(tmp_path, batching={"gradient_accumulation": 50}))
    assert outcome.status == "finished"
    assert "Gradient Accumulation Steps lowered from 50 to 5: one step would need 100 samples, there are 10." in events.texts()
    assert events.all("plan")[0]["accumulation"] == 5


def test_a_batch_larger_than_the_data_is_lowered_with_a_word(tmp_path: Path) -> None:
    outcome, events = trials.run(trials.settings(tmp_path, batching={"true_batch_size": 64}))
    assert (outcome.status, outcome.step) == ("finished", 3)
    assert "True Batch Size lowered from 64 to 10: there are only 10 samples." in events.texts()


def test_a_warm_up_longer_than_the_run_is_lowered_with_a_word(tmp_path: Path) -> None:
    outcome, events = trials.run(trials.settings(tmp_path, training={"warmup_steps": 100}))
    assert outcome.status == "finished"
    assert "Warmup Steps lowered from 100 to 1: the whole run has only 13 steps." in events.texts()


@pytest.mark.parametrize(
    ("model_dtype", "wanted", "expected"),
    [
        (torch.float32, "auto", "float32"),
        (torch.bfloat16, "auto", "float32"),
        (torch.float32, "bfloat16", "bfloat16"),
        (torch.bfloat16, "bfloat16", "bfloat16"),
    ],
)
def test_the_number_format(tmp_path: Path, model_dtype: Any, wanted: str, expected: str) -> None:
    model = tiny.model().to(model_dtype)
    outcome, events = trials.run(trials.settings(tmp_path, training={"precision": wanted, "epochs": 1}), model)
    assert outcome.status == "finished", outcome.message
    assert events.all("plan")[0]["precision"] == expected
    assert {weight.dtype for weight in trials.weights(outcome.folder).values()} == {torch.float32}
    assert {parameter.dtype for parameter in model.parameters()} == {model_dtype}


@pytest.mark.parametrize(("dtype", "words"), [(torch.bfloat16, "overflows under float16"), (torch.float32, "not train on a CPU")])
def test_float16_is_refused_where_it_fails(tmp_path: Path, dtype: Any, words: str) -> None:
    outcome, _ = trials.run(trials.settings(tmp_path, training={"precision": "float16"}), tiny.model().to(dtype))
    assert outcome.status == "failed"
    assert words in outcome.message


def test_gradient_checkpointing_gives_the_same_result(tmp_path: Path) -> None:
    results = []
    for name, on in (("without", False), ("with", True)):
        settings = {"adapter": {"name": name, "dropout": 0.0}, "training": {"gradient_checkpointing": on}}
        outcome, _ = trials.run(trials.settings(tmp_path, **settings))
        assert outcome.status == "finished", outcome.message
        results.append(trials.weights(outcome.folder))
    for name, weight in results[0].items():
        assert torch.allclose(weight, results[1][name], atol=1e-5), name
