"""What goes wrong is said in words, what was learned is kept, the run can go on, and the diary always has its end."""

import errno
import gc
import json
import math
import weakref
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
import trials
from training_pro import train_utils
from training_pro.config.problems import ConfigError
from training_pro.runs.checkpoints import find_checkpoints
from training_pro.runs.events import EventWriter
from training_pro.runs.state import read_state
from training_pro.training import trainer as trainer_module
from training_pro.training.errors import forget_frames, is_out_of_memory
from training_pro.training.trainer import PlannedTrainer

FULL = OSError(errno.ENOSPC, "No space left on device")
EVERY_TWO = {"checkpoints": {"save_every_steps": 2, "save_every_epoch": False}}


def learned_until(tmp_path: Path, step: int) -> dict[str, Any]:
    """The adapter of a run that stopped after some step."""
    place = {"adapters_dir": str(tmp_path / f"until-{step}")}
    outcome, _ = trials.run(trials.settings(tmp_path, run=place), stop_at=step)
    assert outcome.step == step
    return trials.weights(outcome.folder)


def break_loss(monkeypatch: pytest.MonkeyPatch, step: int, change: Any) -> None:
    """Let ``change(trainer, loss)`` have the loss of one step."""
    compute = PlannedTrainer.compute_loss

    def compute_loss(self: Any, *args: Any, **kwargs: Any) -> Any:
        loss = compute(self, *args, **kwargs)
        return change(self, loss) if self.state.global_step + 1 == step else loss

    monkeypatch.setattr(PlannedTrainer, "compute_loss", compute_loss)


def ended(outcome: Any) -> dict[str, Any]:
    """The diary's last event, which must be the end."""
    last: dict[str, Any] = json.loads(outcome.folder.events.read_text().splitlines()[-1])
    assert last["event"] == "run_ended"
    assert last["status"] == outcome.status
    assert last["message"] == outcome.message
    return last


# --- numbers -------------------------------------------------------------------------------------------------------------------


def nan_loss(trainer: Any, loss: Any) -> Any:
    trainer.meter._sums[0] = float("nan")
    return loss * float("nan")


def nan_gradient(trainer: Any, loss: Any) -> Any:
    return loss * float("inf")  # the meter has seen the finite one


@pytest.mark.parametrize(("change", "words"), [(nan_loss, "The loss became nan"), (nan_gradient, "The gradient became")])
def test_a_nan_never_reaches_the_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Any, words: str) -> None:
    wanted = learned_until(tmp_path, 3)
    with monkeypatch.context() as patch:
        break_loss(patch, 4, change)
        outcome, _ = trials.run(trials.settings(tmp_path, **EVERY_TWO))
    assert (outcome.status, outcome.step, outcome.adapter_saved) == ("failed", 3, True)
    assert words in outcome.message
    assert "in step 4" in outcome.message
    assert "Lower the Learning Rate" in outcome.remedy
    assert ended(outcome)["remedy"] == outcome.remedy
    assert trials.same(trials.weights(outcome.folder), wanted)
    again, _ = trials.run(trials.settings(tmp_path, adapter={"if_exists": "resume"}, **EVERY_TWO))
    assert (again.status, again.step) == ("finished", 13)
    assert all(math.isfinite(weight.abs().sum()) for weight in trials.weights(again.folder).values())


def test_nan_in_the_first_step_saves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    break_loss(monkeypatch, 1, nan_loss)
    outcome, _ = trials.run(trials.settings(tmp_path))
    assert (outcome.status, outcome.step, outcome.adapter_saved) == ("failed", 0, False)
    assert not outcome.folder.has_adapter
    ended(outcome)
    monkeypatch.undo()
    again, _ = trials.run(trials.settings(tmp_path, training={"epochs": 1}))  # the name is free: nothing was learned
    assert again.status == "finished"


# --- memory --------------------------------------------------------------------------------------------------------------------


def test_out_of_memory_keeps_what_was_learned_and_frees_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = learned_until(tmp_path, 2)
    failed: list[weakref.ref[Any]] = []
    alive_while_saving: list[Any] = []

    def no_room(trainer: Any, loss: Any) -> Any:
        activations = loss.expand(1000).clone()
        activations.sum().backward()  # gradients of the failed step
        failed.extend([weakref.ref(loss), weakref.ref(activations)])
        failed.extend(weakref.ref(weight.grad) for weight in trainer.model.parameters() if weight.grad is not None)
        try:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")
        except RuntimeError as error:
            raise RuntimeError("while computing: CUDA out of memory") from error

    save = trainer_module.save_adapter

    def save_adapter(*args: Any, **kind: Any) -> None:
        gc.collect()
        alive_while_saving.append([entry() for entry in failed if entry() is not None])
        save(*args, **kind)

    monkeypatch.setattr(trainer_module, "save_adapter", save_adapter)
    break_loss(monkeypatch, 3, no_room)
    model = tiny.model()
    outcome, _ = trials.run(trials.settings(tmp_path), model)
    assert (outcome.status, outcome.step, outcome.adapter_saved) == ("failed", 2, True)
    assert outcome.message == "Out of memory in step 3 with True Batch Size 2 and Cutoff 512 tokens."
    assert "Lower True Batch Size" in outcome.remedy
    assert trials.same(trials.weights(outcome.folder), wanted)
    ended(outcome)
    assert len(failed) > 10
    assert alive_while_saving[-1] == []
    assert [entry() for entry in failed if entry() is not None] == []
    monkeypatch.undo()
    again, _ = trials.run(trials.settings(tmp_path, adapter={"if_exists": "replace"}, training={"epochs": 1}), model)
    assert again.status == "finished"


def test_out_of_memory_while_loading(tmp_path: Path) -> None:
    def load() -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    from training_pro.training.job import run_job

    outcome = run_job(trials.settings(tmp_path), load)
    assert (outcome.status, outcome.message) == ("failed", "Out of memory while loading the model.")
    assert "Lower True Batch Size" in outcome.remedy
    ended(outcome)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory."), True),
        (RuntimeError("MPS backend out of memory"), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes."), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), True),
        (RuntimeError("shapes cannot be multiplied"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_what_counts_as_out_of_memory(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) == expected


def test_frames_are_forgotten_down_the_chain() -> None:
    def first() -> None:
        raise KeyError("first")

    def second() -> None:
        try:
            first()
        except KeyError as error:
            raise RuntimeError("second") from error

    with pytest.raises(RuntimeError, match="second") as caught:
        second()
    error = caught.value
    assert error.__traceback__ is not None
    assert error.__cause__ is not None
    assert error.__cause__.__traceback__ is not None
    forget_frames(error)
    assert error.__traceback__ is None
    assert error.__cause__.__traceback__ is None


# --- the disk ------------------------------------------------------------------------------------------------------------------


def test_a_full_disk_at_a_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save = torch.save

    def no_room(content: Any, path: Any, *args: Any, **kwargs: Any) -> None:
        if "checkpoint-4" in str(path) and str(path).endswith("scheduler.pt"):
            raise FULL
        save(content, path, *args, **kwargs)

    monkeypatch.setattr(torch, "save", no_room)
    outcome, _ = trials.run(trials.settings(tmp_path, **EVERY_TWO))
    assert (outcome.status, outcome.step, outcome.adapter_saved) == ("failed", 4, True)
    assert "checkpoint-4 failed: [Errno 28] No space left on device" in outcome.message
    assert "GB are free there" in outcome.message
    assert "Make room" in outcome.remedy
    assert "can be resumed" in outcome.remedy
    assert [checkpoint.step for checkpoint in find_checkpoints(outcome.folder)] == [2]
    assert not (outcome.folder.path / "checkpoint-4").exists()  # its part gives its room back
    ended(outcome)
    monkeypatch.undo()
    with trials.watched() as seen:
        again, _ = trials.run(trials.settings(tmp_path, adapter={"if_exists": "resume"}, **EVERY_TWO))
    assert (again.status, again.step, seen[0][0]) == ("finished", 13, 3)


def test_a_full_disk_at_a_checkpoint_and_for_the_adapter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from peft import PeftModel

    save = PeftModel.save_pretrained
    calls: list[str] = []

    def no_room(self: Any, folder: str, **kwargs: Any) -> None:
        calls.append(folder)
        if len(calls) > 1:
            raise FULL
        save(self, folder, **kwargs)

    monkeypatch.setattr(PeftModel, "save_pretrained", no_room)
    outcome, events = trials.run(trials.settings(tmp_path, **EVERY_TWO))
    assert (outcome.status, outcome.adapter_saved, len(calls)) == ("failed", False, 3)
    assert "checkpoint-4 failed" in outcome.message  # the first error
    assert "loras/trial failed" in events.texts()  # and the second
    assert [checkpoint.step for checkpoint in find_checkpoints(outcome.folder)] == [2]
    assert [path.name for path in outcome.folder.path.iterdir() if path.name.startswith(".")] == []
    ended(outcome)


def test_a_full_disk_for_the_last_adapter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last checkpoint is whole, so resuming makes it the adapter."""
    with monkeypatch.context() as patch:
        save = trainer_module.save_adapter

        def no_room(fitted: Any, folder: Path, **kind: Any) -> None:
            if folder.name == "trial":
                raise FULL
            save(fitted, folder, **kind)

        patch.setattr(trainer_module, "save_adapter", no_room)
        outcome, _ = trials.run(trials.settings(tmp_path, training={"epochs": 1}))
    assert (outcome.status, outcome.adapter_saved) == ("failed", False)
    assert "No space left" in outcome.message
    assert not outcome.folder.has_adapter
    assert ended(outcome)["adapter"] == ""
    again, _ = trials.run(trials.settings(tmp_path, adapter={"if_exists": "resume"}, training={"epochs": 1}))
    assert again.status == "finished"
    assert trials.same(trials.weights(again.folder), trials.weights(again.folder.path / "checkpoint-5"))


def test_an_adapter_that_was_there_stays_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, _ = trials.run(trials.settings(tmp_path, training={"epochs": 1}))
    before = trials.weights(first.folder)

    def half(model: Any, folder: str, **kwargs: Any) -> None:
        Path(folder, "adapter_model.safetensors").write_bytes(b"half")
        raise FULL

    from peft import PeftModel

    monkeypatch.setattr(PeftModel, "save_pretrained", half)
    outcome, _ = trials.run(trials.settings(tmp_path, adapter={"if_exists": "continue"}, training={"epochs": 1}))
    assert outcome.status == "failed"
    assert trials.same(trials.weights(outcome.folder), before)


def test_a_diary_that_cannot_be_written_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    write = EventWriter.__call__

    def full(self: Any, event: str, **fields: Any) -> None:
        if event == "step":
            raise FULL
        write(self, event, **fields)

    monkeypatch.setattr(EventWriter, "__call__", full)
    outcome, events = trials.run(trials.settings(tmp_path, training={"epochs": 1}))
    assert (outcome.status, outcome.step) == ("finished", 5)
    assert len(events.all("step")) == 5
    assert caplog.text.count("diary cannot be written") == 1
    ended(outcome)


def test_a_listener_that_fails_stops_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    events = trials.Events()

    def fail() -> None:
        raise BrokenPipeError("the terminal is gone")

    events.on(2, fail)
    outcome, _ = trials.run(trials.settings(tmp_path, training={"epochs": 1}), events=events)
    assert outcome.status == "finished"
    assert events[-1][1]["step"] == 2  # it was told nothing more
    assert "the terminal is gone" in caplog.text
    assert len(read_state(outcome.folder).steps) == 5


def test_a_summary_that_cannot_be_made_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(state: Any) -> Any:
        raise RuntimeError("no fonts")

    monkeypatch.setattr("training_pro.matplotgraph.draw_graph", broken)
    outcome, events = trials.run(trials.settings(tmp_path, training={"epochs": 1}))
    assert outcome.status == "finished"
    assert "could not be saved: no fonts" in events.texts()
    ended(outcome)


def test_a_folder_that_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "loras").mkdir()
    (tmp_path / "loras/trial").write_text("a file")
    with pytest.raises(ValueError, match="trial is a file"):
        trials.run(trials.settings(tmp_path))
    with pytest.raises(ConfigError, match="Adapter folder .*is a file"):
        trials.run(trials.settings(tmp_path, run={"adapters_dir": str(tmp_path / "loras/trial/deeper")}))
    monkeypatch.setattr("os.access", lambda *args: False)
    with pytest.raises(ConfigError, match="is not writable"):
        trials.run(trials.settings(tmp_path))


def test_a_folder_in_which_nothing_can_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, *args: Any, **kwargs: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(self))

    config = trials.settings(tmp_path)
    monkeypatch.setattr(Path, "touch", refuse)
    with pytest.raises(PermissionError, match=r"events\.jsonl"):
        trials.run(config)


@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_that_cannot_save_stops_all(two_ranks: Any, rank: int) -> None:
    """Neither waits for the other, the older checkpoint stays, and what was learned is saved."""
    folder, seen = two_ranks
    for part in seen:
        result = part[f"full {rank}"]
        assert (result["status"], result["step"]) == ("failed", 4)
        assert "checkpoint-4 failed: [Errno 28] No space left" in result["message"]
        assert result["checkpoints"] == ["checkpoint-2"]
    assert trials.weights(folder / "loras" / f"full-{rank}")
    assert seen[0][f"full {rank}"]["adapter_saved"]


def test_errors_of_one_process_are_everybodys(two_ranks: Any) -> None:
    _, (main, other) = two_ranks
    for part in (main, other):
        assert part["nan"]["status"] == "failed"
        assert "The loss became nan in step 3" in part["nan"]["message"]
        assert part["broken data"]["status"] == "failed"
        assert "longer than the cutoff" in part["broken data"]["message"]
        assert "there is an adapter or run called 'plain' already" in part["exists"]["message"]
        assert part["again"]["status"] == "finished"  # and the processes are still together
    assert (main["exists"]["raised"], other["exists"]["raised"]) == ("ValueError", "RunError")


# --- settings, models and data that do not fit ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["../up", "a/b", "a\\b", "/root", "v1.0", "", " x", "con"])
def test_names_that_are_no_names(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="Name"):
        trials.run(trials.settings(tmp_path, adapter={"name": name}))
    assert not (tmp_path / "loras").exists()


def test_unknown_modules(tmp_path: Path) -> None:
    outcome, _ = trials.run(trials.settings(tmp_path, adapter={"targets": ["q_proj", "query"]}))
    assert outcome.status == "failed"
    assert "the model has no linear module called 'query'. It has: q_proj, k_proj" in outcome.message
    ended(outcome)


def test_a_cutoff_beyond_the_context(tmp_path: Path) -> None:
    outcome, _ = trials.run(trials.settings(tmp_path, data={"cutoff": 1024}))
    assert "the model takes at most 512 tokens. Got: 1024. Set it to 512 or less" in outcome.message
    ended(outcome)


def test_no_trainable_token(tmp_path: Path) -> None:
    rows = [{"messages": [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "hi"}]}] * 3
    (tmp_path / "empty.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    template = tmp_path / "silent.jinja"
    template.write_text(
        "{% for message in messages %}{% if message['role'] == 'user' %}{{ message['content'] }}{% endif %}{% endfor %}"
    )
    settings = {"data": {"dataset": str(tmp_path / "empty.jsonl")}, "model": {"chat_template": str(template)}}
    outcome, _ = trials.run(trials.settings(tmp_path, **settings))
    assert outcome.status == "failed"
    assert "3 samples without a token to train on" in outcome.message
    ended(outcome)


def test_a_tokenizer_of_another_model(tmp_path: Path) -> None:
    outcome, _ = trials.run(trials.settings(tmp_path), tiny.model(vocab_size=100))
    assert outcome.status == "failed"
    assert "the tokenizer does not fit the model" in outcome.message
    assert "the model knows 100 tokens" in outcome.message
    ended(outcome)


def test_a_tokenizer_without_a_template(tmp_path: Path) -> None:
    tokenizer = tiny.fresh_tokenizer()
    tokenizer.chat_template = None
    outcome, _ = trials.run(trials.settings(tmp_path), tokenizer=tokenizer)
    assert outcome.status == "failed"
    assert "chat template" in outcome.message.lower()
    ended(outcome)


def test_a_tokenizer_without_pad_and_end(tmp_path: Path) -> None:
    """Nothing is needed of either, and nothing is put on the tokenizer."""
    tokenizer = tiny.fresh_tokenizer()
    tokenizer.pad_token = tokenizer.eos_token = None
    text = tmp_path / "story.txt"
    text.write_text("\n".join(tiny.corpus()), encoding="utf-8")
    settings = {"data": {"text_file": str(text), "cutoff": 64}, "samples": {"prompts": ["where"], "max_new_tokens": 2}}
    outcome, events = trials.run(trials.settings(tmp_path, training={"epochs": 0.3}, **settings), tokenizer=tokenizer)
    assert outcome.status == "finished", outcome.message
    assert "the tokenizer has no EOS token" in events.texts()
    assert (tokenizer.pad_token, tokenizer.eos_token) == (None, None)


def test_a_base_with_an_adapter_on_it(tmp_path: Path) -> None:
    model = tiny.model()
    peft_model = train_utils.add_lora(model, rank=2, alpha=4, dropout=0.0, targets=["q_proj"])
    for loaded in (model, peft_model):
        outcome, _ = trials.run(trials.settings(tmp_path), loaded)
        assert outcome.status == "failed"
        assert "is applied to the loaded model. Remove it" in outcome.message
        ended(outcome)


def test_an_unexpected_error_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def strange(trainer: Any, loss: Any) -> Any:
        raise ZeroDivisionError("strange")

    break_loss(monkeypatch, 3, strange)
    outcome, _ = trials.run(trials.settings(tmp_path))
    assert outcome.message == "Unexpected error: ZeroDivisionError: strange"
    assert outcome.adapter_saved  # two steps were good
    assert "Traceback" in caplog.text
    ended(outcome)


def test_a_process_that_is_gone_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def lose(trainer: Any, loss: Any) -> Any:
        raise RuntimeError("[gloo/transport/tcp/pair.cc:538] Read error [127.0.0.1]:21316: Connection reset by peer")

    break_loss(monkeypatch, 3, lose)
    outcome, _ = trials.run(trials.settings(tmp_path))
    assert (outcome.status, outcome.message) == ("failed", "Another process of this run has ended.")
    assert outcome.adapter_saved
    ended(outcome)


def test_ctrl_c_while_loading(tmp_path: Path) -> None:
    from training_pro.training.job import run_job

    def load() -> Any:
        raise KeyboardInterrupt

    outcome = run_job(trials.settings(tmp_path), load)
    assert (outcome.status, outcome.message) == ("interrupted", "Interrupted by the user.")
    ended(outcome)
