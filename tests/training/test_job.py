"""The main job: what a run leaves behind, what the user can ask of it on the way, and what it does with settings that do not fit."""

import json
import pickle
import random
import socket
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
import trials
from training_pro.evaluation.memory import adapter_parameters
from training_pro.runs.checkpoints import find_checkpoints
from training_pro.runs.control import change_control
from training_pro.runs.state import read_state
from training_pro.training import trainer as trainer_module
from training_pro.training.arguments import training_arguments
from training_pro.training.check import check_run
from training_pro.training.setup import prepare_run

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

    def save_adapter(model: Any, folder: Path) -> None:
        save(model, folder)
        if folder.name == "trial":
            trained.append(logits(model))

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
    assert [point["epoch"] for point in points if "eval_loss" in point] == [1.0, 2.0]
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
    assert [entry["step"] for entry in state.evaluations] == [4, 8, 10]
    assert [(entry["step"], entry["cause"]) for entry in state.checkpoints] == [(4, "epoch"), (8, "epoch"), (10, "epoch")]
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
    from training_pro.training import job

    answer = job.answer_prompts

    def answer_prompts(model: Any, *args: Any) -> Any:
        if hasattr(model, "peft_config"):
            raise RuntimeError("CUDA out of memory")
        return answer(model, *args)

    monkeypatch.setattr(job, "answer_prompts", answer_prompts)
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
    assert "keeps what it was made with: LoRA Rank 4, LoRA Alpha 16" in events.texts()
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
        *((3, "steps"), (6, "steps"), (9, "steps"), (12, "steps"), (13, "epoch")),
    ]
    assert [checkpoint.step for checkpoint in find_checkpoints(outcome.folder)] == [12, 13]


def test_save_now_stays_when_others_are_deleted(tmp_path: Path) -> None:
    events = trials.Events()
    events.on(2, lambda: change_control(tmp_path / "loras/trial/control.json", save_requests=1))
    outcome, _ = trials.run(trials.settings(tmp_path, checkpoints={"keep_last": 1}), events=events)
    assert events.all("checkpoint")[0] == {"step": 2, "epoch": 0.4, "folder": "checkpoint-2", "cause": "user"}
    assert [checkpoint.step for checkpoint in find_checkpoints(outcome.folder)] == [2, 13]
    assert {"name": "save_requests", "value": 1} in events.all("control")


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


# --- Trainer's and accelerate's ways -------------------------------------------------------------------------------------------


def test_the_number_format_of_one_run_is_not_the_next_ones(tmp_path: Path) -> None:
    alone, _ = trials.run(trials.settings(tmp_path, adapter={"name": "alone"}))
    trials.run(trials.settings(tmp_path, adapter={"name": "between"}, training={"precision": "bfloat16", "epochs": 1}))
    after, _ = trials.run(trials.settings(tmp_path, adapter={"name": "after"}))
    assert trials.same(trials.weights(alone.folder), trials.weights(after.folder))


def test_the_schedule_does_not_lag_behind_skipped_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under float16 the first steps may be skipped because a gradient overflows; the plan goes on."""
    from accelerate import Accelerator

    with trials.watched() as wanted:
        trials.run(trials.settings(tmp_path))
    skipped = iter([True, True, False, True])
    monkeypatch.setattr(Accelerator, "optimizer_step_was_skipped", property(lambda self: next(skipped, False)))
    with trials.watched() as seen:
        outcome, _ = trials.run(trials.settings(tmp_path, adapter={"name": "skipped"}))
    assert outcome.status == "finished"
    assert len(seen) == 13
    assert [step[3] for step in seen] == [step[3] for step in wanted]


def test_no_data_parallel_on_machines_with_several_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from training_pro.runs.store import RunFolder
    from training_pro.train_utils import borrowed
    from transformers import TrainingArguments

    setting_up = TrainingArguments.__post_init__

    def with_four_gpus(self: Any) -> None:
        setting_up(self)
        self._n_gpu = 4

    monkeypatch.setattr(TrainingArguments, "__post_init__", with_four_gpus)

    class Refused(torch.nn.DataParallel):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            raise AssertionError("the model was put into DataParallel")

    monkeypatch.setattr(torch.nn, "DataParallel", Refused)
    model, tokenizer = tiny.model(), tiny.fresh_tokenizer()
    config = trials.settings(tmp_path, training={"epochs": 1})
    with borrowed(model, tokenizer):
        args = training_arguments(config, prepare_run(config, model, tokenizer), RunFolder(tmp_path), model)
    assert args.n_gpu == 1
    assert args.train_batch_size == 2
    outcome, _ = trials.run(config, model, tokenizer)
    assert outcome.status == "finished", outcome.message


def test_the_global_random_state_has_no_say_in_the_order(tmp_path: Path) -> None:
    orders = []
    for number in range(2):
        random.seed(number), np.random.seed(number), torch.manual_seed(number)
        with trials.watched() as seen:
            trials.run(trials.settings(tmp_path, adapter={"if_exists": "new name"}))
        orders.append(seen)
    assert orders[0] == orders[1]
    with trials.watched() as other:
        trials.run(trials.settings(tmp_path, adapter={"if_exists": "new name"}, training={"seed": 1}))
    assert [step[1] for step in other] != [step[1] for step in orders[0]]


def test_what_worker_processes_get_can_be_sent_to_them(tmp_path: Path) -> None:
    """Windows and macOS start workers anew: data and collator travel by pickle."""
    from training_pro.data.collate import Collator, Samples
    from training_pro.train_utils import borrowed

    model, tokenizer = tiny.model(), tiny.fresh_tokenizer()
    with borrowed(model, tokenizer):
        setup = prepare_run(trials.settings(tmp_path, data={"eval_share": 0.2}), model, tokenizer)
    samples = Samples(setup.prepared.train)
    again, collator = pickle.loads(pickle.dumps((samples, Collator(2))))
    assert len(again) == len(samples) == 8
    batch = collator([again[0], again[-2]])
    wanted = Collator(2)([samples[0], samples[-2]])
    assert all(torch.equal(batch[name], wanted[name]) for name in wanted)
    assert (batch["labels"][1] == -100).all()  # -2 is the filler of sample 1
    assert pickle.loads(pickle.dumps(setup.sampler)).epoch_batches(0) == setup.sampler.epoch_batches(0)


def test_workers_that_are_started_anew(tmp_path: Path) -> None:
    """As on Windows and macOS."""
    from torch.utils.data import DataLoader
    from training_pro.data.collate import Collator, Samples
    from training_pro.train_utils import borrowed

    model, tokenizer = tiny.model(), tiny.fresh_tokenizer()
    with borrowed(model, tokenizer):
        setup = prepare_run(trials.settings(tmp_path, training={"epochs": 1}), model, tokenizer)
    samples, collator = Samples(setup.prepared.train), Collator(2)
    loader = DataLoader(
        samples,
        batch_sampler=setup.sampler,
        collate_fn=collator,
        num_workers=1,
        multiprocessing_context="spawn",  # type: ignore[arg-type]
    )
    batches = list(loader)
    assert len(batches) == 5
    for batch, indices in zip(batches, setup.sampler, strict=True):
        assert torch.equal(batch["input_ids"], collator([samples[index] for index in indices])["input_ids"])


def test_a_run_in_a_thread(tmp_path: Path) -> None:
    """The WebUI and the page train in one; signals and event loops are the main thread's."""
    outcomes: list[Any] = []
    thread = threading.Thread(target=lambda: outcomes.append(trials.run(trials.settings(tmp_path, training={"epochs": 1}))))
    thread.start()
    thread.join()
    assert outcomes[0][0].status == "finished"


# --- Check ---------------------------------------------------------------------------------------------------------------------


def test_check_shows_what_a_run_does(tmp_path: Path) -> None:
    config = trials.settings(tmp_path, data={"eval_share": 0.2}, batching={"gradient_accumulation": 9})
    model, tokenizer = tiny.model(), tiny.fresh_tokenizer()
    result = check_run(config, lambda: (model, tokenizer))
    assert result.problems == []
    assert not (tmp_path / "loras").exists()
    _, events = trials.run(config, model, tokenizer)
    plan = events.all("plan")[0]
    assert {**result.plan, "memory": 0} == {**plan, "memory": 0}
    assert {**result.report, "seconds": 0, "cached": 0} == {**events.all("prepared")[0]["report"], "seconds": 0, "cached": 0}
    assert [text for text in result.warnings if "lowered" in text] == [
        entry["text"] for entry in events.all("message") if "lowered" in entry["text"]
    ]


def test_check_gives_all_mistakes_as_problems(tmp_path: Path) -> None:
    config = trials.settings(tmp_path, adapter={"name": "a.b"}, data={"dataset": "nowhere.jsonl"})
    assert len(check_run(config, lambda: (None, None)).problems) == 2
    config = trials.settings(tmp_path, adapter={"targets": ["query"]})
    result = check_run(config, lambda: (tiny.model(), tiny.fresh_tokenizer()))
    assert "the model has no linear module called 'query'" in result.problems[0]


def test_check_without_memory_for_the_model(tmp_path: Path) -> None:
    def load() -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    result = check_run(trials.settings(tmp_path), load)
    assert "Out of memory while loading the model. Unload other models." in result.problems[0]


def test_the_estimated_adapter_is_the_real_one(tmp_path: Path) -> None:
    from training_pro import train_utils

    for targets in (["q_proj", "v_proj"], ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]):
        model = tiny.model(num_key_value_heads=2)
        estimate = adapter_parameters(model, targets, 4)
        peft_model = train_utils.add_lora(model, rank=4, alpha=8, dropout=0.0, targets=targets)
        assert estimate == train_utils.count_parameters(peft_model)[0]
