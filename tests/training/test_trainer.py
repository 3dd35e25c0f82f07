"""What transformers' Trainer and accelerate must not do to a run, worker processes, and Check, which shows what a run does."""

import pickle
import random
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
import trials
from training_pro.training.arguments import training_arguments
from training_pro.training.check import check_run
from training_pro.training.setup import prepare_run


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
    assert batch.keys() == wanted.keys()
    assert all(torch.equal(torch.as_tensor(batch[name]), torch.as_tensor(wanted[name])) for name in wanted)
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
