"""Runs with packing: the loss and gradient of every step are those of its samples alone, a resumed run is the same to the bit."""

from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
import trials
from test_loss import Oracle
from training_pro.training import entries as entries_module
from training_pro.training.check import check_run
from training_pro.training.entries import make_entries
from training_pro.training.setup import prepare_run, prepare_samples
from training_pro.training.step import Route

CUTOFF = {"cutoff": 96}
LOGITS = torch.arange(3, 40)[None]


def packed(folder: Path, packing: str = "best_fit", num_rows: int = 16, **changes: Any) -> Any:
    """Settings of a run with packs of at most 96 tokens, two at once."""
    batching = {"true_batch_size": 2, "packing": packing, **changes.pop("batching", {})}
    data = {**CUTOFF, **changes.pop("data", {})}
    return trials.settings(folder, num_rows, batching=batching, data=data, **changes)


def samples_of(seen: list[tuple[Any, ...]], steps: slice) -> list[str]:
    return sorted(str(ids) for step in seen[steps] for batch in step[1] for ids in batch)


@pytest.mark.parametrize("packing", ["ordered", "best_fit"])
@pytest.mark.parametrize("route", ["flat", "masked", "padded"])
@pytest.mark.parametrize("accumulation", [1, 2])
def test_a_step_is_the_mean_over_the_trained_tokens_of_its_packs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, packing: str, route: str, accumulation: int
) -> None:
    oracle = Oracle(monkeypatch)
    config = packed(
        tmp_path,
        packing,
        batching={"route": route, "gradient_accumulation": accumulation},
        adapter={"dropout": 0.0},
        training={"max_grad_norm": 0, "epochs": 2},
    )
    outcome, events = trials.run(config)
    assert outcome.status == "finished", outcome.message
    assert len(oracle.errors) == outcome.step >= 4
    assert max(oracle.errors) < 1e-5
    for (mean, wanted), step in zip(oracle.losses, events.all("step"), strict=True):
        assert mean == pytest.approx(wanted, rel=1e-5)
        assert step["loss"] == pytest.approx(wanted, abs=1e-5)
    plan, report = events.all("plan")[0], events.all("prepared")[0]["report"]
    assert (plan["packing"], plan["num_packed_samples"], plan["num_samples"]) == (packing, 16, 16)
    assert 0 < plan["num_packs"] < 16
    assert plan["pack_fill"] == pytest.approx(report["num_tokens"] / (plan["num_packs"] * 96), abs=1e-5)
    assert sum(step["tokens"] for step in events.all("step")) == 2 * report["num_tokens"]
    assert sum(step["trained_tokens"] for step in events.all("step")) == 2 * report["num_trained_tokens"]
    assert "Packing: 16 samples in" in events.texts()


def test_every_sample_once_an_epoch_in_another_order_each(tmp_path: Path) -> None:
    with trials.watched() as seen:
        outcome, events = trials.run(packed(tmp_path, training={"epochs": 2}))
    per_epoch = events.all("plan")[0]["steps_per_epoch"][0]
    assert outcome.step == 2 * per_epoch
    first, second = (samples_of(seen, part) for part in (slice(per_epoch), slice(per_epoch, None)))
    assert len(set(first)) == 16
    assert first == second
    assert [step[1] for step in seen[:per_epoch]] != [step[1] for step in seen[per_epoch:]]


@pytest.mark.parametrize(("packing", "accumulation", "stops"), [("best_fit", 1, [1, 4]), ("ordered", 2, [3])])
def test_a_resumed_run_is_the_same_to_the_bit(tmp_path: Path, packing: str, accumulation: int, stops: list[int]) -> None:
    changes: dict[str, Any] = {
        "batching": {"gradient_accumulation": accumulation},
        "run": {"adapters_dir": str(tmp_path / "whole")},
    }
    with trials.watched() as whole:
        outcome, _ = trials.run(packed(tmp_path, packing, **changes))
    assert len({step[2] for step in whole}) == outcome.step > max(stops)
    for stop in stops:
        changes["run"] = {"adapters_dir": str(tmp_path / f"stop-{stop}")}
        with trials.watched() as parts:
            trials.run(packed(tmp_path, packing, **changes), stop_at=stop)
            second, _ = trials.run(packed(tmp_path, packing, adapter={"if_exists": "resume"}, **changes))
        assert second.status == "finished"
        assert parts == whole
        assert trials.same(trials.weights(outcome.folder), trials.weights(second.folder))


@pytest.mark.parametrize(
    "change",
    [
        {"packing": "ordered"},
        {"packing": "none"},
        {"batching": {"pack_attention": "shared"}},
    ],
)
def test_other_packs_cannot_be_resumed(tmp_path: Path, change: dict[str, Any]) -> None:
    trials.run(packed(tmp_path, data={"train_on": "everything"}), stop_at=2)
    outcome, _ = trials.run(packed(tmp_path, data={"train_on": "everything"}, adapter={"if_exists": "resume"}, **change))
    assert outcome.status == "failed"
    assert "Packing changed" in outcome.message


@pytest.mark.parametrize("route", ["auto", "padded"])
def test_two_runs_after_each_other_and_the_model_comes_back(tmp_path: Path, route: str) -> None:
    model, tokenizer = tiny.model(), tiny.fresh_tokenizer()
    model.set_attn_implementation("eager")
    before, config = model(input_ids=LOGITS).logits, dict(model.config.__dict__)
    adapters = []
    for name in ("first", "second"):
        config_of_run = packed(
            tmp_path,
            adapter={"name": name},
            batching={"route": route},
            training={"gradient_checkpointing": True},
            data={"eval_share": 0.2},
        )
        outcome, events = trials.run(config_of_run, model, tokenizer)
        assert outcome.status == "finished", outcome.message
        assert events.all("evaluation")
        adapters.append(trials.weights(outcome.folder))
    assert trials.same(*adapters)
    assert torch.equal(model(input_ids=LOGITS).logits, before)
    assert (model.config._attn_implementation, dict(model.config.__dict__)) == ("eager", config)


def test_evaluation_and_answers_use_the_models_own_attention(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers.models.llama.modeling_llama import LlamaAttention

    seen: dict[bool, set[str]] = {True: set(), False: set()}
    forward = LlamaAttention.forward

    def watched(self: Any, *args: Any, **kwargs: Any) -> Any:
        seen[self.training].add(self.config._attn_implementation[: len("training_pro_segments")])
        return forward(self, *args, **kwargs)

    config = packed(tmp_path, data={"eval_share": 0.2}, samples={"prompts": ["where"], "max_new_tokens": 3})
    monkeypatch.setattr("training_pro.training.job.choose_route", lambda trial, wanted: Route("flat", "segments", "chunked"))
    monkeypatch.setattr(LlamaAttention, "forward", watched)
    outcome, events = trials.run(config)
    assert outcome.status == "finished", outcome.message
    assert len(events.all("sample")) == 2
    assert seen == {True: {"training_pro_segments"}, False: {"sdpa"}}


def test_shared_packs_see_each_other(tmp_path: Path) -> None:
    losses = {}
    for attention in ("isolated", "shared"):
        config = packed(tmp_path, "ordered", adapter={"name": attention, "dropout": 0.0}, batching={"pack_attention": attention})
        outcome, events = trials.run(config)
        assert outcome.status == "finished", outcome.message
        losses[attention] = [step["loss"] for step in events.all("step")]
        assert events.all("plan")[0]["pack_attention"] == attention
    assert losses["isolated"][0] != losses["shared"][0]


def test_a_model_that_cannot_have_several_samples_in_a_row(tmp_path: Path) -> None:
    """It trains all the same, a sample a row; the reason is said, and the loss is that of the samples alone."""
    import architectures

    model = architectures.make("lfm2", vocab_size=len(tiny.tokenizer()))
    config = packed(tmp_path, adapter={"dropout": 0.0, "targets": ["q_proj", "v_proj"]}, training={"epochs": 1})
    outcome, events = trials.run(config, model)
    assert outcome.status == "finished", outcome.message
    warnings = [entry["text"] for entry in events.all("message") if entry["level"] == "warning"]
    assert any("carry a state along the row (conv)" in text for text in warnings)
    wanted = {"name": "plain", "dropout": 0.0, "targets": ["q_proj", "v_proj"]}
    refused, _ = trials.run(packed(tmp_path, adapter=wanted, batching={"route": "flat"}), model)
    assert refused.status == "failed"
    assert "Batch route: " in refused.message


def test_related_packs_ask_for_shared_attention(tmp_path: Path) -> None:
    model, tokenizer = tiny.model(), tiny.fresh_tokenizer()
    for attention, asked in (("isolated", 1), ("shared", 0)):
        result = check_run(packed(tmp_path, "related", batching={"pack_attention": attention}), lambda: (model, tokenizer))
        assert result.problems == []
        assert sum("asks for Attention in packs: shared" in text for text in result.warnings) == asked


def test_true_batch_size_counts_packs(tmp_path: Path) -> None:
    result = check_run(packed(tmp_path, batching={"true_batch_size": 64}), lambda: (tiny.model(), tiny.fresh_tokenizer()))
    num = result.plan["num_packs"]
    assert f"True Batch Size lowered from 64 to {num}: there are only {num} packs." in result.warnings


def test_the_preview_gets_the_packs_of_the_run(tmp_path: Path) -> None:
    model, tokenizer = tiny.model(), tiny.fresh_tokenizer()
    config = packed(tmp_path)
    _, packs = prepare_samples(config, model, tokenizer)
    assert packs == prepare_run(config, model, tokenizer).entries.packs
    assert packs
    assert sorted(sample for pack in packs for sample in pack) == list(range(16))
    assert prepare_samples(trials.settings(tmp_path), model, tokenizer)[1] is None


def test_packs_are_told_apart_by_what_stands_where(tmp_path: Path) -> None:
    config = packed(tmp_path)
    prepared, _ = prepare_samples(config, tiny.model(), tiny.fresh_tokenizer())
    first, again = make_entries(config, prepared), make_entries(config, prepared)
    assert first.identity == again.identity != make_entries(packed(tmp_path, "ordered"), prepared).identity
    assert max(first.lengths) <= 96
    other = [list(reversed(first.packs or [[]])), [[*pack[1:], pack[0]] for pack in first.packs or []]]
    assert len({entries_module._digest(packs) for packs in (first.packs or [], *other)}) == 3
    assert first.identity == f"best_fit, isolated, {entries_module._digest(first.packs or [])}"


def test_nothing_to_train_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from training_pro.training import setup

    prepare = setup.prepare

    def untrained(*args: Any, **kwargs: Any) -> Any:
        prepared = prepare(*args, **kwargs)
        prepared.report.num_trained_tokens = 0
        return prepared

    monkeypatch.setattr(setup, "prepare", untrained)
    result = check_run(trials.settings(tmp_path), lambda: (tiny.model(), tiny.fresh_tokenizer()))
    assert result.problems
    assert result.problems[0].startswith("Train on: none of the ")
