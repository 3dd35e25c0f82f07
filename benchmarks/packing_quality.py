"""Does packing change what is learned? Loss on held-out conversations after the same number of trained tokens.

    python benchmarks/packing_quality.py --from-chitchat dataset.json --data chats.jsonl      (writes chats.jsonl and ends)
    python benchmarks/packing_quality.py --model FOLDER --data chats.jsonl --samples 800 --seeds 5

Arms: ``none`` (each sample alone), ``best_fit`` (packs, samples do not see each other), ``related`` (threshold-filtering packing, samples
see those before them in the pack); ``best_fit shared`` tells apart what the shared attention and what the relatedness do.

Each arm trains the same samples once (so as many trained tokens) in about as many steps of about as many tokens, with the same learning
rate. The conversations are cut into pieces of a few exchanges, as instruction data are;
whole conversations are held out, and measured one by one, whatever the arm. A seed decides the adapter's first weights, the order and
the packs; the differences to ``none`` are taken seed by seed. ``untrained`` is the model as it comes.
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

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "import_root"))

ARMS: dict[str, dict[str, str]] = {
    "none": {"packing": "none"},
    "best_fit": {"packing": "best_fit", "pack_attention": "isolated"},
    "related": {"packing": "related", "pack_attention": "shared"},
    "best_fit shared": {"packing": "best_fit", "pack_attention": "shared"},
}


# --- data ----------------------------------------------------------------------------------------------------------------------


def convert_chitchat(source: Path, target: Path) -> int:
    """Conversations of chitchat-dataset's dataset.json as rows of messages; who speaks first is the user. Returns how many."""
    rows = []
    for conversation in json.loads(source.read_text(encoding="utf-8")).values():
        messages = []
        for number, group in enumerate(conversation["messages"]):
            content = "\n".join(message["text"] for message in group).strip()
            messages.append({"role": ("user", "assistant")[number % 2], "content": content})
        del messages[len(messages) // 2 * 2 :]
        if messages and all(message["content"] for message in messages):
            rows.append(json.dumps({"messages": messages}, ensure_ascii=False))
    target.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return len(rows)


def pieces(conversation: list[dict[str, str]], num_exchanges: int) -> list[list[dict[str, str]]]:
    """Parts of a conversation of at most so many exchanges of user and assistant, each message in exactly one."""
    step = 2 * num_exchanges
    return [conversation[start : start + step] for start in range(0, len(conversation), step)]


def split(path: Path, folder: Path, options: argparse.Namespace) -> tuple[Path, Path]:
    """Files of training samples and of held-out conversations."""
    rows = [json.loads(line)["messages"] for line in path.read_text(encoding="utf-8").splitlines() if line]
    order = np.random.default_rng(0).permutation(len(rows)).tolist()
    held_out = [piece for place in order[: options.held_out] for piece in pieces(rows[place], options.exchanges)]
    samples = [piece for place in order[options.held_out :] for piece in pieces(rows[place], options.exchanges)]
    files = folder / "train.jsonl", folder / "held_out.jsonl"
    for file, kept in zip(files, (samples[: options.samples], held_out), strict=True):
        file.write_text("".join(json.dumps({"messages": messages}) + "\n" for messages in kept), encoding="utf-8")
    return files


# --- runs ----------------------------------------------------------------------------------------------------------------------


def entries_per_step(settings: dict[str, Any], model: Any, tokenizer: Any, num_steps: int) -> int:
    """How many samples or packs a step takes, so that all arms make about as many steps."""
    from training_pro.config import RunConfig
    from training_pro.training.setup import prepare_samples

    prepared, packs = prepare_samples(RunConfig.from_dict(settings), model, tokenizer)
    num_samples = len(prepared.lengths)
    num_entries = num_samples if packs is None else len(packs)
    print(f"  {num_samples} samples as {num_entries} entries of {prepared.lengths.sum() / num_entries:.0f} tokens on average")
    return -(-num_entries // num_steps)


def train(settings: dict[str, Any], model: Any, tokenizer: Any) -> dict[str, float]:
    """One run: held-out loss at its end, trained tokens, steps, seconds."""
    from training_pro.config import RunConfig
    from training_pro.training.job import run_job

    found: dict[str, float] = {"tokens": 0, "steps": 0, "loss": float("nan")}

    def listen(event: str, **fields: Any) -> None:
        if event == "step":
            found["tokens"] += fields["trained_tokens"]
            found["steps"] += 1
        elif event == "evaluation":
            found["loss"] = fields["loss"]

    begun = time.perf_counter()
    outcome = run_job(RunConfig.from_dict(settings), lambda: (model, tokenizer), listener=listen)
    assert outcome.status == "finished", outcome.message
    assert found["loss"] == found["loss"], "the run ended without an evaluation"
    return {**found, "seconds": time.perf_counter() - begun}


def run_arms(options: argparse.Namespace, folder: Path) -> dict[str, list[dict[str, float]]]:
    """Every arm with every seed, seeds outside, so that an interrupted table still compares."""
    from training_pro.config import RunConfig
    from training_pro.hosts.local import load_model

    train_file, held_out_file = split(options.data, folder, options)
    base: dict[str, Any] = {
        "model": {"path": options.model},
        "adapter": {"name": "quality", "if_exists": "replace", "rank": options.rank, "dropout": 0.0},
        "data": {"dataset": str(train_file), "eval_dataset": str(held_out_file), "cutoff": options.cutoff},
        "training": {
            "epochs": 1,
            "schedule": "linear",
            "warmup_share": 0.1,
            "learning_rate": options.learning_rate,
            "precision": options.precision,
        },
        "checkpoints": {"save_every_epoch": False},
        "run": {"adapters_dir": str(folder / "adapters")},
    }
    model, tokenizer = load_model(RunConfig.from_dict(base))
    still = {**base["training"], "learning_rate": 1e-30, "epochs": 1e-3, "warmup_share": 0.0}
    untrained = train({**base, "training": still}, model, tokenizer)["loss"]
    print(f"untrained: held-out loss {untrained:.4f}", flush=True)
    runs: dict[str, list[dict[str, float]]] = {arm: [] for arm in options.arms}
    for seed in range(options.seeds):
        for arm in options.arms:
            settings = {**base, "batching": dict(ARMS[arm]), "training": {**base["training"], "seed": seed}}
            settings["batching"]["true_batch_size"] = entries_per_step(settings, model, tokenizer, options.steps)
            found = train(settings, model, tokenizer)
            runs[arm].append(found)
            print(
                f"seed {seed}  {arm:16s} held-out loss {found['loss']:.4f}  {found['tokens']:.0f} trained tokens, "
                f"{found['steps']:.0f} steps, {found['seconds']:.0f} s",
                flush=True,
            )
    return runs


def summary(runs: dict[str, list[dict[str, float]]]) -> list[str]:
    """Mean and standard deviation over the seeds, and of the differences to the first arm."""
    (first, reference), lines = next(iter(runs.items())), []
    for arm, found in runs.items():
        losses = [run["loss"] for run in found]
        line = f"{arm:16s} held-out loss {statistics.mean(losses):.4f} (spread {_spread(losses):.4f})"
        if arm != first:
            differences = [run["loss"] - other["loss"] for run, other in zip(found, reference, strict=True)]
            error = _spread(differences) / len(differences) ** 0.5
            line += f", against {first} {statistics.mean(differences):+.4f} (standard error {error:.4f})"
        lines.append(line)
    return lines


def _spread(values: list[float]) -> float:
    return statistics.stdev(values) if len(values) > 1 else float("nan")


def main() -> None:
    """Convert, or run all arms and print the losses."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="JSONL with conversations: {'messages': [...]}")
    parser.add_argument("--from-chitchat", type=Path, help="dataset.json of chitchat-dataset, to be written to --data")
    parser.add_argument("--model", default="", help="folder; default: the embedded model")
    parser.add_argument("--arms", nargs="+", choices=tuple(ARMS), default=["none", "best_fit", "related"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--samples", type=int, default=800)
    parser.add_argument("--steps", type=int, default=40, help="of a run; about, because a step takes whole packs")
    parser.add_argument("--held-out", type=int, default=10, help="conversations")
    parser.add_argument("--exchanges", type=int, default=2, help="of a sample")
    parser.add_argument("--cutoff", type=int, default=512)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--precision", default="auto", help="bfloat16 is several times faster on processors with bfloat16 units")
    parser.add_argument("--learning-rate", type=float, default=3e-4)
    options = parser.parse_args()
    if options.from_chitchat:
        print(f"{convert_chitchat(options.from_chitchat, options.data)} conversations written to {options.data}")
        return
    with tempfile.TemporaryDirectory() as temporary:
        print("\n".join(summary(run_arms(options, Path(temporary)))))


if __name__ == "__main__":
    main()
