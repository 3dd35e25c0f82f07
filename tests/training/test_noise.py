"""Noise on the embeddings: the paper's reach for every sample, the same by every layout and after a resume, none but in training."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
import trials
from training_pro.data.collate import Collator
from training_pro.training.noise import BatchPlace, EmbeddingNoise
from training_pro.training.step import BatchLoss, Extras, Route

ALPHA, SIZE = 5.0, 64
LENGTHS = [[5, 40], [7], [100, 3]]  # packs


def entries(rows: list[list[int]] = LENGTHS) -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    made = []
    for lengths in rows:
        ids = rng.integers(3, 100, sum(lengths))
        made.append({"input_ids": ids, "labels": ids, "lengths": lengths})
    return made


def noise_of(layout: str, place: BatchPlace = BatchPlace(), seed: int = 0) -> torch.Tensor:  # noqa: B008
    """What is added to each element of the embeddings (rows, seq, size)."""
    model = tiny.model()
    batch = Collator(0, layout)(entries())
    noise = EmbeddingNoise(model, ALPHA, seed)
    embeddings = model.get_input_embeddings()
    with torch.no_grad():
        before = embeddings(batch["input_ids"])
        with noise.on(batch["segments"], place):
            difference = embeddings(batch["input_ids"]) - before
        assert torch.equal(embeddings(batch["input_ids"]), before)
    return difference


def by_sample(layout: str, **how: Any) -> list[torch.Tensor]:
    """Noise of each sample, and last that of the padding."""
    noise = noise_of(layout, **how)
    batch = Collator(0, layout)(entries())
    found, rest = [], []
    for row, lengths in zip(noise, batch["segments"], strict=True):
        found += list(row[: sum(lengths)].split(lengths))
        rest.append(row[sum(lengths) :])
    return [*found, torch.cat(rest)]


@pytest.mark.parametrize("layout", ["flat", "masked", "padded"])
def test_each_sample_has_the_papers_reach(layout: str) -> None:
    """Uniform in +- alpha / sqrt(length x size) of the sample itself: bounds, mean and variance."""
    *samples, padding = by_sample(layout)
    assert [len(sample) for sample in samples] == [length for row in LENGTHS for length in row]
    assert (len(padding) > 0) == (layout != "flat")
    assert not padding.any()
    for sample in samples:
        reach = ALPHA / (len(sample) * SIZE) ** 0.5
        scaled = sample.double().flatten() / reach
        num = len(scaled)
        assert 0.98 < scaled.abs().max() <= 1 + 1e-4
        assert abs(scaled.mean()) < 4 * (1 / 3 / num) ** 0.5  # four standard errors
        assert abs(scaled.square().mean() - 1 / 3) < 4 * (4 / 45 / num) ** 0.5
        quarter = (scaled < -0.5).double().mean()
        assert abs(quarter - 0.25) < 4 * (0.1875 / num) ** 0.5


def test_the_same_samples_get_the_same_noise_whatever_the_layout() -> None:
    flat, masked, padded = (by_sample(layout)[:-1] for layout in ("flat", "masked", "padded"))
    for first, *others in zip(flat, masked, padded, strict=True):
        for other in others:
            assert torch.allclose(first, other, atol=1e-7)
    assert not torch.equal(flat[0][0], flat[0][1])


def test_a_function_of_seed_step_batch_and_process() -> None:
    first = noise_of("flat", BatchPlace(3, 1, 0), seed=7)
    torch.manual_seed(12345)
    state = torch.get_rng_state()
    assert torch.equal(noise_of("flat", BatchPlace(3, 1, 0), seed=7), first)
    for place, seed in ((BatchPlace(4, 1, 0), 7), (BatchPlace(3, 2, 0), 7), (BatchPlace(3, 1, 1), 7), (BatchPlace(3, 1, 0), 8)):
        assert not torch.equal(noise_of("flat", place, seed=seed), first)
    torch.set_rng_state(state)
    noise = EmbeddingNoise(tiny.model(), ALPHA, 0)
    torch.set_rng_state(state)
    noise.draw([[4]], 8, BatchPlace(), torch.device("cpu"))
    assert torch.equal(torch.get_rng_state(), state)  # no other random number changes


def test_only_training_losses_have_it() -> None:
    model = tiny.model().double()
    batch = Collator(0, "flat")(entries())
    plain = BatchLoss(model, Route("flat", "segments", "chunked"))
    noisy = BatchLoss(model, Route("flat", "segments", "chunked"), Extras(neftune_alpha=ALPHA))
    with noisy.attached():
        with plain.attached():
            wanted = plain.loss_sum(model, batch).item()
        disturbed = [noisy.training_losses(model, batch, BatchPlace(step)).objective.item() for step in (0, 1, 0)]
        assert noisy.loss_sum(model, batch).item() == wanted
        assert noisy.losses(model, batch).objective.item() == wanted
    assert disturbed[0] == disturbed[2] != disturbed[1]
    assert all(abs(loss - wanted) > 1e-6 * wanted for loss in disturbed)
    assert not model.get_input_embeddings()._forward_hooks


def test_the_gradient_is_that_of_the_disturbed_embeddings() -> None:
    """Against a model that is given embeddings with the same noise, sample by sample."""
    model = tiny.model(tie_word_embeddings=False).double()
    batch = Collator(0, "flat")(entries())
    computer = BatchLoss(model, Route("flat", "segments", "chunked"), Extras(neftune_alpha=ALPHA, seed=3))
    with computer.attached():
        computer.training_losses(model, batch, BatchPlace(2)).objective.backward()
    got = {name: weight.grad.clone() for name, weight in model.named_parameters()}
    model.zero_grad()
    noise = EmbeddingNoise(model, ALPHA, 3).draw(batch["segments"], SIZE, BatchPlace(2), torch.device("cpu")).double()
    lengths = batch["lengths"]
    for ids, part in zip(batch["input_ids"][0].split(lengths), noise.split(lengths), strict=True):
        logits = model(inputs_embeds=(model.get_input_embeddings()(ids) + part)[None]).logits[0, :-1]
        torch.nn.functional.cross_entropy(logits, ids[1:], reduction="sum").backward()
    for name, weight in model.named_parameters():
        assert (got[name] - weight.grad).norm() <= 1e-9 * weight.grad.norm(), name


NOISY: dict[str, Any] = {"training": {"neftune_alpha": 5.0, "label_smoothing": 0.1}}


@pytest.mark.parametrize("accumulation", [1, 2])
def test_a_resumed_run_is_the_same_to_the_bit(tmp_path: Path, accumulation: int) -> None:
    """Though what came before differs: the held-out samples are evaluated more often."""
    changes = {**NOISY, "batching": {"gradient_accumulation": accumulation, "true_batch_size": 2}, "data": {"eval_share": 0.2}}
    with trials.watched() as whole:
        outcome, _ = trials.run(trials.settings(tmp_path, run={"adapters_dir": str(tmp_path / "whole")}, **changes))
    assert outcome.status == "finished", outcome.message
    changes["run"] = {"adapters_dir": str(tmp_path / "parts")}
    with trials.watched() as parts:
        trials.run(trials.settings(tmp_path, **changes), stop_at=2)
        second, _ = trials.run(trials.settings(tmp_path, adapter={"if_exists": "resume"}, **changes))
    assert second.status == "finished", second.message
    assert parts == whole
    assert trials.same(trials.weights(outcome.folder), trials.weights(second.folder))


def test_what_a_run_reports_is_the_plain_loss(tmp_path: Path) -> None:
    """The first step's, before anything was learned; a run without noise shows the same held-out loss before it learns."""
    first = {}
    for name, training in (("plain", {}), ("smooth", {"label_smoothing": 0.5}), ("noisy", {"neftune_alpha": 5.0})):
        config = trials.settings(
            tmp_path,
            adapter={"name": name, "dropout": 0.0},
            data={"eval_share": 0.2},
            training={**training, "learning_rate": 1e-9, "epochs": 1},
        )
        outcome, events = trials.run(config)
        assert outcome.status == "finished", outcome.message
        first[name] = (events.all("step")[0]["loss"], events.all("evaluation")[0]["loss"])
    assert first["smooth"] == pytest.approx(first["plain"], rel=1e-6)
    assert first["noisy"][1] == pytest.approx(first["plain"][1], rel=1e-6)
    assert abs(first["noisy"][0] - first["plain"][0]) > 1e-4


def test_every_batch_of_a_run_has_noise_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    places: list[BatchPlace] = []
    draw = EmbeddingNoise.draw

    def watched(self: Any, segments: Any, size: int, place: BatchPlace, device: Any) -> Any:
        places.append(place)
        return draw(self, segments, size, place, device)

    monkeypatch.setattr(EmbeddingNoise, "draw", watched)
    batching = {"gradient_accumulation": 2}
    outcome, _ = trials.run(trials.settings(tmp_path, batching=batching, training={"neftune_alpha": 5.0, "epochs": 2}))
    assert outcome.status == "finished", outcome.message
    assert places == [BatchPlace(step, number) for step in range(outcome.step) for number in range(2)]
