"""Whole runs with SIFT: choice, checkpoints, resume, several processes, the base given back."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
import trials
from safetensors.torch import load_file
from sift_cases import same, weights_of
from training_pro.adapting.sift_apply import apply_sift
from training_pro.adapting.sift_files import read_sift

SHARED: dict[str, Any] = {"data": {"eval_share": 0.2}, "training": {"epochs": 1.5}}
FEW = {"rank": 16, "alpha": 32, "dropout": 0.05}  # trials' values would be told as without effect


@pytest.fixture(autouse=True)
def _no_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training_pro.matplotgraph.draw_graph", trials.no_picture)


def sift_settings(folder: Path, name: str, **changes: Any) -> Any:
    adapter = {**FEW, "method": "sift", "name": name, "sift_norms": True, **changes.pop("adapter", {})}
    training = {"learning_rate": 1e-3, **changes.pop("training", {})}
    return trials.settings(folder, adapter=adapter, training=training, **changes)


def result(folder: Any) -> dict[str, torch.Tensor]:
    return load_file(Path(getattr(folder, "path", folder)) / "sift.safetensors")


def test_a_run_leaves_its_result_and_gives_the_base_back(tmp_path: Path) -> None:
    model = tiny.model()
    before = weights_of(model)
    config = sift_settings(tmp_path, "run", data={"eval_share": 0.2}, samples={"prompts": ["question 1"], "max_new_tokens": 4})
    outcome, events = trials.run(config, model)
    assert outcome.status == "finished", outcome.message
    assert outcome.adapter_saved
    assert same(weights_of(model), before)
    assert model.state_dict().keys() == tiny.model().state_dict().keys()
    assert "SIFT: chose 4,115 components of 19 weights in" in events.texts()
    assert "Training 4,115 of" in events.texts()
    assert "LoRA" not in events.texts()
    plan = events.all("plan")[0]
    assert (plan["num_trained_parameters"], plan["result_bytes"]) == (4115, 8 * 4115)
    # what the run evaluated last is what the file makes of the base
    folder = outcome.folder.path
    assert (folder / "sift.safetensors").stat().st_size < plan["result_bytes"] + 6000
    losses = [entry["loss"] for entry in events.all("evaluation")]
    assert losses[-1] < losses[0]
    last = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))[-1]
    assert same(result(last), result(folder))
    apply_sift(model, folder)
    changed = {name for name, weight in weights_of(model).items() if not torch.equal(weight, before[name])}
    assert changed == set(read_sift(folder).names)


def test_the_choice_is_by_the_first_optimizer_step(tmp_path: Path) -> None:
    """Against the gradient of transformers' own loss, over the samples of the first window."""
    from training_pro.data.collate import Collator
    from training_pro.train_utils import borrowed
    from training_pro.training.setup import prepare_run

    batching = {"true_batch_size": 2, "gradient_accumulation": 2}
    for steps in (1, 2):
        config = sift_settings(tmp_path, f"choice-{steps}", batching=batching, adapter={"sift_steps": steps})
        outcome, _ = trials.run(config)
        model, tokenizer = tiny.model(), tiny.fresh_tokenizer()
        with borrowed(model, tokenizer):
            setup = prepare_run(config, model, tokenizer)
            samples = setup.entries.samples(setup.prepared.train)
            for _, indices in zip(range(2 * steps), setup.sampler, strict=False):
                made = Collator(2)([samples[index] for index in indices])
                logits = model(input_ids=made["input_ids"], attention_mask=made["attention_mask"]).logits[:, :-1]
                flat = logits.flatten(0, 1), made["labels"][:, 1:].flatten()
                torch.nn.functional.cross_entropy(*flat, reduction="sum").backward()
            gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
        stored = result(outcome.folder)
        names = read_sift(outcome.folder.path).names
        assert len(names) == 19
        for name in names:
            size = len(stored[f"{name}.indices"])
            best = set(gradients[name].abs().view(-1).topk(size).indices.tolist())
            assert len(best & set(stored[f"{name}.indices"].tolist())) >= size - 1, name  # sums in another order


@pytest.mark.parametrize("checkpointing", [False, True])
def test_resume_is_bit_equal(tmp_path: Path, checkpointing: bool) -> None:
    how: dict[str, Any] = {"batching": {"gradient_accumulation": 2}, "training": {"gradient_checkpointing": checkpointing}}
    whole, _ = trials.run(sift_settings(tmp_path, "whole", **how))
    first, _ = trials.run(sift_settings(tmp_path, "parts", **how), stop_at=2)
    assert (first.status, first.step) == ("interrupted", 2)
    half = result(first.folder)
    model = tiny.model()
    second, events = trials.run(sift_settings(tmp_path, "parts", **how, adapter={"if_exists": "resume"}), model)
    assert (second.status, second.step) == ("finished", whole.step)
    assert "SIFT: chose" not in events.texts()
    assert same(result(whole.folder), result(second.folder))
    assert not same(half, result(second.folder))
    assert same(weights_of(model), weights_of(tiny.model()))


def test_a_result_is_trained_further(tmp_path: Path) -> None:
    first, _ = trials.run(sift_settings(tmp_path, "more"))
    before = result(first.folder)
    second, events = trials.run(sift_settings(tmp_path, "more", adapter={"if_exists": "continue", "sift_rate": 0.2}))
    assert second.status == "finished", second.message
    after = result(second.folder)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) == name.endswith("indices") for name in before)
    assert "SIFT Rate and Target modules have no effect on it" in events.texts()


def test_batches_that_are_accumulated_are_one(tmp_path: Path) -> None:
    results = []
    for size, accumulation in ((2, 1), (1, 2)):
        batching = {"true_batch_size": size, "gradient_accumulation": accumulation}
        outcome, _ = trials.run(sift_settings(tmp_path, f"bs-{size}", num_rows=8, batching=batching, training={"epochs": 1}))
        results.append((outcome.step, result(outcome.folder)))
    (steps, whole), (_, parts) = results
    assert steps == 4
    close_to(whole, parts)


def close_to(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    """Equal but for the order in which numbers were added; a component at the edge of the choice may be another."""
    assert first.keys() == second.keys()
    for name in (name.removesuffix(".indices") for name in first if name.endswith(".indices")):
        one, two = (dict(zip(each[f"{name}.indices"].tolist(), each[f"{name}.values"], strict=True)) for each in (first, second))
        common = one.keys() & two.keys()
        assert len(common) >= len(one) - 1
        for index in common:
            torch.testing.assert_close(one[index], two[index], rtol=0, atol=2e-5)


def test_two_processes_are_one(tmp_path: Path) -> None:
    script = Path(__file__).with_name("sift_two_ranks.py")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", str(script), str(tmp_path)]
    done = subprocess.run(command, env=trials.environment(), capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-8000:]
    seen = [json.loads((tmp_path / f"seen-{rank}.json").read_text()) for rank in range(2)]
    assert [(entry["status"], entry["is_back"]) for entry in seen] == [("finished", True)] * 2, seen
    alone, _ = trials.run(sift_settings(tmp_path, "one", batching={"true_batch_size": 1, "gradient_accumulation": 4}, **SHARED))
    assert alone.step == seen[0]["step"] > 1
    close_to(result(alone.folder), result(tmp_path / "loras" / "two"))


def test_check_says_what_a_run_will_do(tmp_path: Path) -> None:
    from training_pro.training.check import check_run

    config = sift_settings(tmp_path, "check", training={"learning_rate": 0.02})
    checked = check_run(config, lambda: (tiny.model(), tiny.fresh_tokenizer()))
    assert any("SIFT changes the model's own weights" in text for text in checked.warnings)
    assert checked.plan["num_trained_parameters"] == 4115
    quantized = tiny.model()
    quantized.config.quantization_config = {"quant_method": "bitsandbytes"}
    checked = check_run(config, lambda: (quantized, tiny.fresh_tokenizer()))
    assert "Load the model without quantization" in checked.problems[0]


def test_under_bfloat16(tmp_path: Path) -> None:
    outcome, events = trials.run(sift_settings(tmp_path, "bf16", training={"precision": "bfloat16"}), tiny.model().bfloat16())
    assert outcome.status == "finished", outcome.message
    values = result(outcome.folder)
    assert {value.dtype for name, value in values.items() if name.endswith("values")} == {torch.float32}
    assert any(not torch.equal(value, value.bfloat16().float()) for name, value in values.items() if name.endswith("values"))
    assert events.all("step")[-1]["loss"] < 7
