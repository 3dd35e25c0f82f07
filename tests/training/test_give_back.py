"""The model and the tokenizer that a run borrowed are what they were, however the run ended."""

import copy
import gc
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
import trials
from training_pro.training.callbacks import RunCallback
from training_pro.training.trainer import PlannedTrainer

IDS = torch.tensor([[1, 40, 41, 42, 7, 3], [9, 8, 7, 6, 5, 4]])


def photograph(model: Any, tokenizer: Any) -> dict[str, Any]:
    """Everything of a loaded model that a run could leave changed."""
    training = [module.training for module in model.modules()]
    hooks = {
        (path, name): len(getattr(module, name))
        for path, module in model.named_modules()
        for name in ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    }
    model.eval()
    with torch.no_grad():
        logits = model(input_ids=IDS).logits
    for module, was_training in zip(model.modules(), training, strict=True):
        module.training = was_training
    return {
        "type": type(model),
        "modules": [(path, type(module)) for path, module in model.named_modules()],
        "attributes": {path: sorted(module.__dict__) for path, module in model.named_modules()},
        "parameters": [
            (name, parameter.dtype, parameter.requires_grad, parameter.device, parameter.data_ptr(), parameter.grad is None)
            for name, parameter in model.named_parameters()
        ],
        "buffers": [(name, buffer.dtype, buffer.clone().tolist()) for name, buffer in model.named_buffers()],
        "values": {name: parameter.detach().clone().double().sum().item() for name, parameter in model.named_parameters()},
        "training": training,
        "hooks": hooks,
        "forward": {path: module.__dict__.get("forward") for path, module in model.named_modules()},
        "config": copy.deepcopy(model.config.to_dict()),
        "generation_config": copy.deepcopy(model.generation_config.to_dict()),
        "use_cache": model.config.use_cache,
        "logits": logits.tolist(),
        "tokenizer": (tokenizer.chat_template, tokenizer.padding_side, tokenizer.truncation_side, tokenizer.model_max_length),
        "tokens": (tokenizer.pad_token, tokenizer.eos_token, len(tokenizer), tokenizer("where is the lighthouse").input_ids),
    }


def stop_by_control(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    return {"stop_at": 2}


def finish(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    return {}


def in_step(step: int, what: Callable[[Any], Any]) -> Callable[[pytest.MonkeyPatch], dict[str, Any]]:
    """Something that happens to the loss of one step."""

    def arrange(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
        compute = PlannedTrainer.compute_loss

        def compute_loss(self: Any, *args: Any, **kwargs: Any) -> Any:
            loss = compute(self, *args, **kwargs)
            return what(loss) if self.state.global_step + 1 == step else loss

        monkeypatch.setattr(PlannedTrainer, "compute_loss", compute_loss)
        return {}

    return arrange


def throw(error: BaseException) -> Callable[[Any], Any]:
    def thrown(loss: Any) -> Any:
        raise error

    return thrown


def broken_callback(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    def on_step_end(self: Any, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        raise KeyError("a mistake in a callback")

    monkeypatch.setattr(RunCallback, "on_step_end", on_step_end)
    return {}


def nan_gradient(loss: Any) -> Any:
    return loss * float("nan")


ENDS: dict[str, tuple[Callable[[pytest.MonkeyPatch], dict[str, Any]], str]] = {
    "finished": (finish, "finished"),
    "stopped": (stop_by_control, "interrupted"),
    "ctrl-c": (in_step(3, throw(KeyboardInterrupt())), "interrupted"),
    "nan": (in_step(3, nan_gradient), "failed"),
    "callback": (broken_callback, "failed"),
    "memory": (in_step(2, throw(RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"))), "failed"),
}


@pytest.mark.parametrize("end", ENDS)
def test_it_comes_back_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str) -> None:
    arrange, status = ENDS[end]
    model, tokenizer = tiny.model(), tiny.fresh_tokenizer()
    before = photograph(model, tokenizer)
    config = trials.settings(
        tmp_path, samples={"prompts": ["where is the lighthouse"], "max_new_tokens": 3}, data={"eval_share": 0.2}
    )
    with monkeypatch.context() as patch:
        outcome, _ = trials.run(config, model, tokenizer, **arrange(patch))
    assert outcome.status == status, outcome.message
    assert outcome.step >= 1  # it did train
    assert photograph(model, tokenizer) == before


@pytest.mark.parametrize("end", ["finished", "stopped", "ctrl-c", "nan", "memory"])
@pytest.mark.parametrize(
    ("adapter", "make"),
    [
        ({"method": "full"}, tiny.model),
        ({"method": "full"}, lambda: tiny.model().to(torch.bfloat16)),
        ({"method": "full", "full_weights": "as the model"}, lambda: tiny.model(tie_word_embeddings=False).to(torch.bfloat16)),
        ({"initialisation": "pissa", "train_head": True}, lambda: tiny.model().to(torch.bfloat16)),
        ({"initialisation": "olora", "bias": "all"}, lambda: tiny.model(attention_bias=True)),
        ({"method": "dora"}, tiny.model),
    ],
    ids=["full", "full 16-bit", "full in place", "pissa", "olora", "dora"],
)
def test_methods_that_change_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, adapter: dict[str, Any], make: Callable[[], Any], end: str
) -> None:
    arrange, status = ENDS[end]
    model, tokenizer = make(), tiny.fresh_tokenizer()
    before, bits = photograph(model, tokenizer), {name: weight.detach().clone() for name, weight in model.named_parameters()}
    with monkeypatch.context() as patch:
        outcome, _ = trials.run(
            trials.settings(tmp_path, 6, adapter=adapter, training={"epochs": 1}), model, tokenizer, **arrange(patch)
        )
    assert outcome.status == status, outcome.message
    assert outcome.step >= 1
    assert photograph(model, tokenizer) == before
    assert all(torch.equal(weight, bits[name]) for name, weight in model.named_parameters())


@pytest.mark.parametrize(
    ("make", "training"),
    [
        (lambda: tiny.model().to(torch.bfloat16), {}),
        (tiny.model, {"gradient_checkpointing": True}),
        (tiny.model, {"precision": "bfloat16"}),
        (lambda: tiny.model().train(), {}),
        (lambda: tiny.model().requires_grad_(False), {}),
    ],
    ids=["bf16 model", "gradient checkpointing", "bf16 computation", "in training mode", "frozen"],
)
@pytest.mark.parametrize("failing", [False, True], ids=["finished", "failed"])
def test_other_models_and_ways(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[], Any], training: dict[str, Any], failing: bool
) -> None:
    model, tokenizer = make(), tiny.fresh_tokenizer()
    before = photograph(model, tokenizer)
    config = trials.settings(tmp_path, training={**training, "epochs": 1})
    with monkeypatch.context() as patch:
        if failing:
            in_step(2, nan_gradient)(patch)
        outcome, _ = trials.run(config, model, tokenizer)
    assert (outcome.status, outcome.step) == (("failed", 1) if failing else ("finished", 5)), outcome.message
    assert photograph(model, tokenizer) == before


def test_two_runs_after_each_other(tmp_path: Path) -> None:
    model, tokenizer = tiny.model(), tiny.fresh_tokenizer()
    before = photograph(model, tokenizer)
    first, _ = trials.run(trials.settings(tmp_path, adapter={"name": "one"}), model, tokenizer)
    second, _ = trials.run(trials.settings(tmp_path, adapter={"name": "two"}), model, tokenizer)
    assert (first.status, second.status) == ("finished", "finished")
    assert photograph(model, tokenizer) == before
    assert trials.same(trials.weights(first.folder), trials.weights(second.folder))  # the second did not start from the first


def test_another_template_is_taken_back(tmp_path: Path) -> None:
    template = tmp_path / "other.jinja"
    template.write_text("{% for message in messages %}{{ message['role'] + ': ' + message['content'] + '\n' }}{% endfor %}")
    model, tokenizer = tiny.model(), tiny.fresh_tokenizer()
    outcome, _ = trials.run(
        trials.settings(tmp_path, model={"chat_template": str(template)}, training={"epochs": 1}), model, tokenizer
    )
    assert outcome.status == "finished"
    assert tokenizer.chat_template == tiny.CHATML


def test_nothing_holds_the_adapter_afterwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The optimizer's state and the adapter go with the run; they may be larger than what is free."""
    alive: list[weakref.ref[Any]] = []
    begin = RunCallback.on_step_begin

    def on_step_begin(self: Any, *args: Any, **kwargs: Any) -> None:
        trainer = self.trainer
        alive[:] = [weakref.ref(trainer), weakref.ref(trainer.optimizer), weakref.ref(trainer.model)]
        alive.extend(weakref.ref(weight) for weight in trainer.model.parameters() if weight.requires_grad)
        begin(self, *args, **kwargs)

    monkeypatch.setattr(RunCallback, "on_step_begin", on_step_begin)
    model = tiny.model()
    for end in ({}, {"stop_at": 2}):
        trials.run(trials.settings(tmp_path, adapter={"if_exists": "new name"}), model, **end)
        gc.collect()
        assert len(alive) > 10
        assert [entry() for entry in alive if entry() is not None] == []
