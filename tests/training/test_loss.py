"""Loss and gradient of an optimizer step are the mean over all its trained tokens, however they are spread over batches and processes.

The oracle runs every sample alone, without padding, through a copy of the model in float64.
"""

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
import trials
from training_pro.training.callbacks import RunCallback, SmoothedLoss
from training_pro.training.loss import LossMeter, StepLoss
from training_pro.training.trainer import PlannedTrainer


class OneProcess:
    num_processes = 1


def test_the_meter_weighs_by_tokens() -> None:
    meter = LossMeter(OneProcess())
    meter.add(torch.tensor(6.0), 3, 4)
    meter.add(torch.tensor(4.0), 1, 2)
    step = meter.read()
    assert step == StepLoss(10.0, 4, 6)
    assert step.mean == 2.5  # the mean of the two batches' means would be 3
    assert math.isnan(meter.read().mean)


def test_the_smoothed_loss_weighs_by_tokens_and_forgets() -> None:
    smoothed = SmoothedLoss(num_steps=2)
    assert smoothed.add(StepLoss(9.0, 3, 3)) == 3.0
    assert not smoothed.is_full
    assert smoothed.add(StepLoss(1.0, 1, 1)) == 2.5
    assert smoothed.is_full
    again = SmoothedLoss(num_steps=2)
    again.load(smoothed.state())
    assert smoothed.add(StepLoss(2.0, 1, 1)) == again.add(StepLoss(2.0, 1, 1)) == 1.5


def samples_of(batch: dict[str, Any]) -> list[tuple[Any, Any]]:
    """Tokens and labels of every sample of a batch, whatever its layout."""
    rows = []
    for number, (ids, labels) in enumerate(zip(batch["input_ids"], batch["labels"], strict=True)):
        if "attention_mask" in batch:
            starts = [0]
            end = int(batch["attention_mask"][number].sum())
        else:
            starts, end = (batch["position_ids"][number] == 0).nonzero().flatten().tolist(), len(ids)
        rows += [(ids[start:stop], labels[start:stop]) for start, stop in zip(starts, [*starts[1:], end], strict=True)]
    return rows


class Oracle:
    """Gradient and loss of each optimizer step, beside those of the trainer."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.losses: list[tuple[float, float]] = []
        self.errors: list[float] = []
        self.num_trained: list[list[int]] = []
        self._batches: list[dict[str, Any]] = []
        compute, before = PlannedTrainer.compute_loss, RunCallback.on_pre_optimizer_step
        oracle = self

        def compute_loss(self: Any, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            oracle._batches.append(dict(inputs))
            return compute(self, model, inputs, *args, **kwargs)

        def on_pre_optimizer_step(self: Any, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            before(self, args, state, control, **kwargs)
            oracle.compare(self.trainer.model, self._loss)

        patch.setattr(PlannedTrainer, "compute_loss", compute_loss)
        patch.setattr(RunCallback, "on_pre_optimizer_step", on_pre_optimizer_step)

    def compare(self, model: Any, loss: StepLoss) -> None:
        """Compute one step anew."""
        exact = copy.deepcopy(model).double()
        exact.set_attn_implementation("sdpa")
        exact.zero_grad()
        losses, counts = [], []
        for batch in self._batches:
            counts.append(int((batch["labels"][:, 1:] != -100).sum()))
            for ids, labels in samples_of(batch):
                logits = exact(input_ids=ids[None]).logits[0, :-1]
                target = labels[1:]
                losses += [-logits[place].log_softmax(0)[token] for place, token in enumerate(target.tolist()) if token != -100]
        mean = torch.stack(losses).mean()
        mean.backward()
        self._batches.clear()
        self.num_trained.append(counts)
        self.losses.append((loss.mean, mean.item()))
        wanted = torch.cat([weight.grad.flatten() for weight in exact.parameters() if weight.requires_grad])
        got = torch.cat([weight.grad.flatten() for weight in model.parameters() if weight.requires_grad]).double()
        assert wanted.norm() > 0
        self.errors.append(((got - wanted).norm() / wanted.norm()).item())


@pytest.mark.parametrize(
    ("batch_size", "accumulation", "num_rows"),
    [(3, 1, 8), (2, 3, 11), (1, 4, 6)],  # ragged batches; ragged windows; two fillers in the last window
)
@pytest.mark.parametrize(("dtype", "limit"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_a_step_is_the_mean_over_its_trained_tokens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch_size: int, accumulation: int, num_rows: int, dtype: Any, limit: float
) -> None:
    oracle = Oracle(monkeypatch)
    config = trials.settings(
        tmp_path,
        num_rows,
        adapter={"dropout": 0.0},
        batching={"true_batch_size": batch_size, "gradient_accumulation": accumulation},
        training={"max_grad_norm": 0, "epochs": 2},
        data={"train_on": "everything" if accumulation == 3 else "replies"},
    )
    outcome, events = trials.run(config, tiny.model().to(dtype))
    assert outcome.status == "finished", outcome.message
    assert "one row without padding" in events.texts()
    assert len(oracle.errors) == outcome.step >= 4
    assert max(oracle.errors) < limit
    for (mean, wanted), step in zip(oracle.losses, events.all("step"), strict=True):
        assert mean == pytest.approx(wanted, rel=limit)
        assert step["loss"] == pytest.approx(wanted, abs=1e-5)  # what is logged
    assert any(len(set(counts)) > 1 or accumulation == 1 for counts in oracle.num_trained)  # a mean of means would be another
    if num_rows == 6:
        assert [counts.count(0) for counts in oracle.num_trained] == [0, 2, 0, 2]
    assert [step["trained_tokens"] for step in events.all("step")] == [sum(counts) for counts in oracle.num_trained]


@pytest.mark.parametrize(
    ("case", "batching"),
    [
        ("windows", {"true_batch_size": 1, "gradient_accumulation": 4}),
        ("plain", {"gradient_accumulation": 2}),
        ("checkpointing", {"gradient_accumulation": 2}),
        ("packed", {"gradient_accumulation": 2, "packing": "best_fit", "true_batch_size": 1}),
    ],
)
def test_two_processes_are_one_with_twice_the_accumulation(
    two_ranks: Any, tmp_path: Path, case: str, batching: dict[str, Any]
) -> None:
    """The same windows, so the same losses, gradients and weights; evaluation sees each held-out sample once."""
    folder, (main, other) = two_ranks
    data = {"dataset": str(trials.chat_rows(folder, 10)), **({} if case == "windows" else {"eval_share": 0.1})}
    data |= {"cutoff": 96} if case == "packed" else {}
    config = trials.settings(tmp_path, adapter={"name": case, "dropout": 0.0}, batching=batching, data=data)
    outcome, events = trials.run(config)
    assert outcome.step == main[case]["step"] == len(main[case]["seen"]) > 3
    for alone, first, second in zip(events.all("step"), main[case]["seen"], other[case]["seen"], strict=True):
        assert first[2] == second[2] == pytest.approx(alone["loss"], rel=1e-5)
        assert first[4] == second[4] == pytest.approx(alone["grad_norm"], rel=1e-4)
    alone_weights, together = trials.weights(outcome.folder), trials.weights(folder / "loras" / case)
    for name, weight in alone_weights.items():
        assert torch.allclose(weight, together[name], rtol=1e-3, atol=1e-4), name
    evaluations = events.all("evaluation")
    assert [entry["loss"] for entry in main[case]["evaluations"]] == pytest.approx(
        [entry["loss"] for entry in evaluations], rel=1e-4
    )
    assert [entry["trained_tokens"] for entry in main[case]["evaluations"]] == [entry["trained_tokens"] for entry in evaluations]
    assert bool(evaluations) == (case != "windows")
    if case == "windows":  # the last window of an epoch has 2 samples for 4 batches
        own = [
            len(set(map(str, first[1] + second[1])))
            for first, second in zip(main[case]["seen"], other[case]["seen"], strict=True)
        ]
        assert min(own[:3]) < 4
