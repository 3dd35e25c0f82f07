"""What the trainer costs: the same batches through it and through a bare PyTorch loop, side by side.

    python benchmarks/overhead.py --model FOLDER            (default: the embedded model)
    python benchmarks/overhead.py --route padded            (flat, masked: how both compute their batches; default: as a run chooses)

Both use the same model, adapter, collation, route, loss, AdamW and clipping; the bare loop has no events, controls, schedule or plan. Trained
tokens per second from the end of the first step to the end of the last; runs alternate, the median ratio counts.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "import_root"))


def make_data(folder: Path, num: int) -> Path:
    """Conversations of mixed length."""
    words = "the old harbour keeps its lanterns lit until the last boat is home and the bell has rung seven times".split()
    rows = []
    for number in range(num):
        reply = " ".join(words[(number + place) % len(words)] for place in range(20 + (number * 37) % 90))
        messages = [{"role": "user", "content": f"Tell me story number {number}."}, {"role": "assistant", "content": reply}]
        rows.append({"messages": messages})
    path = folder / "data.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return path


def ours(config: Any, model: Any, tokenizer: Any) -> tuple[float, list[float]]:
    """Trained tokens per second of the trainer, and its losses."""
    from training_pro.training.job import run_job

    steps: list[tuple[float, dict[str, Any]]] = []

    def listen(event: str, **fields: Any) -> None:
        if event == "step":
            steps.append((time.perf_counter(), fields))

    outcome = run_job(config, lambda: (model, tokenizer), listener=listen)
    assert outcome.status == "finished", outcome.message
    tokens = sum(fields["trained_tokens"] for _, fields in steps[1:])
    return tokens / (steps[-1][0] - steps[0][0]), [fields["loss"] for _, fields in steps]


def bare(config: Any, model: Any, tokenizer: Any) -> tuple[float, list[float]]:
    """The same in a plain loop."""
    import torch
    from training_pro import train_utils
    from training_pro.data.collate import padding_id
    from training_pro.training.routes import Trial, choose_route, run_pieces
    from training_pro.training.setup import prepare_run
    from training_pro.training.step import BatchLoss

    with train_utils.borrowed(model, tokenizer):
        setup = prepare_run(config, model, tokenizer)
        torch.manual_seed(config.training.seed)
        adapter = config.adapter
        peft_model = train_utils.add_lora(
            model, rank=adapter.rank, alpha=adapter.alpha, dropout=adapter.dropout, targets=setup.targets
        )
        peft_model.config.use_cache = False
        peft_model.train()
        weights = [parameter for parameter in peft_model.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(weights, lr=config.training.learning_rate, weight_decay=0.0)
        samples, pad = setup.entries.samples(setup.prepared.train), padding_id(tokenizer)
        pieces = run_pieces(samples, setup.entries.lengths)
        computer = BatchLoss(peft_model, choose_route(Trial(peft_model, pieces, pad, setup.precision), config.batching.route))
        collator = computer.collator(pad)
        tokens, losses, begun = 0, [], 0.0
        for number, indices in enumerate(setup.sampler):
            batch = collator([samples[index] for index in indices])
            num_trained = len(batch["targets"])
            with computer.attached():
                loss = computer.loss_sum(peft_model, batch) / num_trained
                loss.backward()
            torch.nn.utils.clip_grad_norm_(weights, config.training.max_grad_norm)
            optimizer.step()
            optimizer.zero_grad()
            losses.append(float(loss))
            if number == 0:
                begun = time.perf_counter()
            else:
                tokens += num_trained
        return tokens / (time.perf_counter() - begun), losses


def main() -> None:
    """Run both in turn and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--route", default="auto", choices=("auto", "flat", "masked", "padded"))
    options = parser.parse_args()

    from training_pro.config import RunConfig
    from training_pro.hosts.local import load_model

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        settings = {
            "model": {"path": options.model},
            "adapter": {"name": "overhead", "if_exists": "replace", "rank": 8, "dropout": 0.0, "targets": ["q-v"]},
            "data": {"dataset": str(make_data(folder, options.steps * 4))},
            "batching": {"route": options.route},
            "training": {"epochs": 1, "schedule": "constant"},
            "checkpoints": {"save_every_epoch": False},
            "run": {"adapters_dir": str(folder / "adapters")},
        }
        config = RunConfig.from_dict(settings)
        model, tokenizer = load_model(config)
        ratios, rates = [], []
        for number in range(options.rounds):
            trainer_rate, trainer_losses = ours(config, model, tokenizer)
            bare_rate, bare_losses = bare(config, model, tokenizer)
            difference = max(abs(a - b) for a, b in zip(trainer_losses, bare_losses, strict=True))
            ratios.append(trainer_rate / bare_rate)
            rates.append((trainer_rate, bare_rate))
            print(
                f"round {number + 1}: trainer {trainer_rate:.1f}, bare loop {bare_rate:.1f} trained tokens/s, "
                f"ratio {ratios[-1]:.3f}, losses differ by at most {difference:.1e}",
                flush=True,
            )
    trainer_median, bare_median = (statistics.median(column) for column in zip(*rates, strict=True))
    print(f"median: trainer {trainer_median:.1f}, bare loop {bare_median:.1f}, ratio {statistics.median(ratios):.3f}")


if __name__ == "__main__":
    main()
