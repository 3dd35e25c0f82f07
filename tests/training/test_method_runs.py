"""Every training method through a whole run: three steps, saved, loaded back to equal logits, resumed bit by bit, the base given back."""

from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
import trials
from peft import PeftModel
from safetensors.torch import load_file
from training_pro.adapting.initial import INITIALISATIONS
from training_pro.adapting.methods import METHODS
from training_pro.adapting.sift_apply import apply_sift
from training_pro.training.check import check_run
from transformers import AutoModelForCausalLM

IDS = torch.tensor([[1, 40, 41, 42, 7, 3], [9, 8, 7, 6, 5, 4]])
TAKES_OUT = {"pissa", "pissa fast", "olora"}  # what they take out of a weight and give back is rounded once
RUNS: dict[str, dict[str, Any]] = {
    **{method: {"method": method} for method in METHODS},
    **{kind: {"initialisation": kind} for kind in INITIALISATIONS if kind not in ("default", "loftq")},
    "lora+": {"lora_plus": 16},
    "rslora": {"rslora": True, "rslora_alpha": 4},
    "dora with whole modules": {"method": "dora", "train_head": True},
    "some layers": {"first_layer": 2, "exclude": ["mlp.up_proj"]},
    "pissa with embeddings": {"initialisation": "pissa", "train_embeddings": True},
    "full from disk": {"method": "full", "full_copy": "disk"},
}


def logits(model: Any) -> torch.Tensor:
    model.eval()
    with torch.no_grad():
        return model(input_ids=IDS, use_cache=False).logits


def settings(folder: Path, case: str, name: str, **changes: Any) -> Any:
    """Three steps of two samples; what a method does not take is left at its default."""
    adapter = {"name": name, "rank": 4, "alpha": 16, "dropout": 0.1, "vera_rank": 16, "oft_block_size": 8, **RUNS[case]}
    return trials.settings(
        folder, 6, adapter={**adapter, **changes}, training={"epochs": 1, "learning_rate": 0.01, "warmup_steps": 0}
    )


def result_on(model: Any, folder: Path, method: str) -> Any:
    """A finished result, loaded as its user would."""
    if method == "full":
        return AutoModelForCausalLM.from_pretrained(str(folder), local_files_only=True)
    if method == "sift":
        apply_sift(model, folder)
        return model
    return PeftModel.from_pretrained(model, str(folder))


def result_tensors(folder: Path) -> dict[str, torch.Tensor]:
    (file,) = folder.glob("*.safetensors")
    return load_file(file)


@pytest.mark.parametrize("case", RUNS)
def test_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    from training_pro.training import job

    method = RUNS[case].get("method", "lora")
    model, tokenizer = tiny.model(), tiny.fresh_tokenizer()
    if case == "full from disk":
        model = AutoModelForCausalLM.from_pretrained(str(tiny.save_model(tmp_path / "model")), local_files_only=True)
    before, plain = {name: weight.detach().clone() for name, weight in model.named_parameters()}, logits(model)
    trained: list[torch.Tensor] = []
    counted: list[int] = []
    keep = job._Run._keep

    def keep_and_look(self: Any, trainer: Any) -> None:
        keep(self, trainer)
        trained.append(logits(trainer.fitted.model))
        counted.append(sum(weight.numel() for weight in trainer.fitted.model.parameters() if weight.requires_grad))

    monkeypatch.setattr(job._Run, "_keep", keep_and_look)
    outcome, events = trials.run(settings(tmp_path, case, "whole"), model, tokenizer)
    assert (outcome.status, outcome.step, outcome.adapter_saved) == ("finished", 3, True), outcome.message
    assert outcome.folder.has_adapter
    after = dict(model.named_parameters())
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) and after[name].requires_grad for name in before)
    assert torch.equal(logits(model), plain)
    (plan,) = events.all("plan")
    assert plan["method"] == method
    if method != "sift":  # its components are chosen while it runs
        assert plan["num_trained_parameters"] == counted[0]
        tensors = result_tensors(outcome.folder.path).values()
        assert sum(tensor.numel() * tensor.element_size() for tensor in tensors) == plan["result_bytes"]

    result = logits(result_on(tiny.model(), outcome.folder.path, method))
    assert (trained[0] - plain).abs().max() > 1e-3
    if RUNS[case].get("initialisation") in TAKES_OUT:
        assert (result - trained[0]).abs().max() < 1e-5
    else:
        assert torch.equal(result, trained[0])

    first, _ = trials.run(settings(tmp_path, case, "parts"), model, tokenizer, stop_at=2)
    assert (first.status, first.step) == ("interrupted", 2), first.message
    second, _ = trials.run(settings(tmp_path, case, "parts", if_exists="resume"), model, tokenizer)
    assert (second.status, second.step) == ("finished", 3), second.message
    assert trials.same(result_tensors(outcome.folder.path), result_tensors(second.folder.path))
    assert all(torch.equal(weight, before[name]) for name, weight in model.named_parameters())


def test_a_step_of_full_fine_tuning_is_that_of_the_whole_loss(tmp_path: Path) -> None:
    """One step of SGD against transformers' own loss and autograd; the head shares its weight with the embeddings."""
    from training_pro.data.collate import Collator
    from training_pro.training.setup import prepare_run

    config = settings(tmp_path, "full", "one")
    config.batching.true_batch_size, config.training.optimizer, config.training.schedule = 6, "sgd", "constant"
    config.training.max_grad_norm = 0.0
    expected, tokenizer = tiny.model(), tiny.fresh_tokenizer()
    train = prepare_run(config, expected, tokenizer).prepared.train
    rows = [{"input_ids": torch.tensor(row["input_ids"]).numpy(), "labels": torch.tensor(row["labels"]).numpy()} for row in train]
    batch = Collator(2)(rows)
    expected(**{name: batch[name] for name in ("input_ids", "attention_mask", "labels")}).loss.backward()
    outcome, _ = trials.run(config)
    assert (outcome.status, outcome.step) == ("finished", 1), outcome.message
    learned = dict(AutoModelForCausalLM.from_pretrained(str(outcome.folder.path), local_files_only=True).named_parameters())
    for name, weight in expected.named_parameters():
        assert weight.grad.abs().max() > 0
        change = (weight - learned[name]) / config.training.learning_rate
        assert (change - weight.grad).abs().max() < 1e-4 * max(1.0, float(weight.grad.abs().max())), name


@pytest.mark.parametrize("case", ["lora", "full", "pissa", "vera"])
def test_a_result_that_could_not_be_saved_is_made_from_the_last_checkpoint(tmp_path: Path, case: str) -> None:
    outcome, _ = trials.run(settings(tmp_path, case, "whole"))
    (file,) = outcome.folder.path.glob("*.safetensors")
    content = file.read_bytes()
    again, _ = trials.run(settings(tmp_path, case, "whole", if_exists="resume"))
    assert again.status == "failed"
    assert "this run is finished (3 of 3 steps), there is nothing to resume" in again.message
    for left in (b"", b"an older result"):
        file.unlink()
        file.write_bytes(left) if left else None
        again, _ = trials.run(settings(tmp_path, case, "whole", if_exists="resume"))
        assert (again.status, again.adapter_saved) == ("finished", True), again.message
        assert file.read_bytes() == content
    assert not (outcome.folder.path / ".finished").exists()


@pytest.mark.parametrize("case", ["pissa", "full", "dora", "ia3"])
def test_a_finished_result_is_continued(tmp_path: Path, case: str) -> None:
    """The first step begins where the result ends."""
    with trials.watched() as fresh:
        outcome, _ = trials.run(settings(tmp_path, case, "whole"))
    with trials.watched() as further:
        again, _ = trials.run(settings(tmp_path, case, "whole", if_exists="continue"))
    assert (again.status, again.step) == ("finished", 3), again.message
    assert further[0][2] < fresh[0][2] - 0.005  # the loss of the same batch, lower by what was learned
    assert not trials.same(result_tensors(outcome.folder.path), result_tensors(next(tmp_path.glob("loras/whole-backup-*"))))


def test_a_run_on_top_of_another(tmp_path: Path) -> None:
    """By its name; the identity of the run knows which it was."""
    trials.run(settings(tmp_path, "lora", "first"))
    model = tiny.model()
    before = logits(model)
    with trials.watched() as seen:
        outcome, events = trials.run(settings(tmp_path, "lora", "second", merge_first=["first"]), model)
    assert outcome.status == "finished", outcome.message
    assert "Merge first: first is part of the model in this run. Apply it before the new adapter." in events.texts()
    with trials.watched() as plain:
        trials.run(settings(tmp_path, "lora", "third"), model)
    assert seen[0][2] < plain[0][2] - 0.02
    assert torch.equal(logits(model), before)
    again, _ = trials.run(settings(tmp_path, "lora", "second", if_exists="resume"))
    assert "the adapter's settings" in again.message
    assert "on top of first" in again.message


def test_another_method_is_no_continuation(tmp_path: Path) -> None:
    trials.run(settings(tmp_path, "lora", "one"), stop_at=2)
    again, _ = trials.run(settings(tmp_path, "dora", "one", if_exists="resume"))
    assert "the adapter's settings" in again.message
    assert "dora, rank 4, alpha 16" in again.message
    again, _ = trials.run(settings(tmp_path, "vera", "one", if_exists="continue"))
    assert "Method: the adapter in" in again.message
    assert "was made by lora" in again.message


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rank": 65}, "LoRA Rank: q_proj has 64 x 64 weights, so a rank above 64 adds nothing. Got: 65."),
        ({"targets": ["query"]}, "Target modules: the model has no linear module called 'query'"),
        ({"first_layer": 3}, "Layers from: the model has 2 layers. Got: 3."),
        ({"exclude": ["nothing"]}, "Exclude modules: the model has nothing called 'nothing'"),
        ({"method": "oft", "oft_block_size": 48}, "OFT block size: q_proj has 64 inputs"),
        ({"initialisation": "loftq"}, "Initialisation loftq: it makes good what a 4-bit base has lost"),
    ],
)
def test_check_says_what_cannot_be(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    """And a run says the same, before anything is changed."""
    config = settings(tmp_path, "lora", "x", **changes)
    problems = check_run(config, lambda: (tiny.model(), tiny.fresh_tokenizer())).problems
    assert len(problems) == 1
    assert words in problems[0]
    if not config.problems():
        outcome, _ = trials.run(config)
        assert words in outcome.message
        assert outcome.step == 0


def test_check_shows_sizes(tmp_path: Path) -> None:
    found = check_run(settings(tmp_path, "dora with whole modules", "x"), lambda: (tiny.model(), tiny.fresh_tokenizer()))
    assert found.problems == []
    assert found.plan["result_bytes"] > 2 * 4 * 400 * 64
    assert any("Head and embeddings are one weight in this model" in words for words in found.warnings)
    found = check_run(settings(tmp_path, "full", "x"), lambda: (tiny.model(), tiny.fresh_tokenizer()))
    assert found.plan["num_trained_parameters"] == sum(weight.numel() for weight in tiny.model().parameters())
