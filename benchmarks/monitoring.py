"""What does monitoring cost in an epoch? Seconds of optimizer steps, of evaluation, of context understanding, and of tables and graph.

    python benchmarks/monitoring.py --data chats.jsonl --model FOLDER --rows 200 --held-out 20 --samples 64

One run of one epoch on conversations, measured before the first step and at its end (an epoch's worth is one measurement; both are
shown). Seconds of the two kinds of measurement are taken around the calls, those of the steps are the diary's own.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "import_root"))


def timed(module: Any, name: str, into: list[float]) -> None:
    """Let a function of a module note its seconds."""
    function = getattr(module, name)

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        begun = time.perf_counter()
        result = function(*args, **kwargs)
        into.append(time.perf_counter() - begun)
        return result

    setattr(module, name, wrapped)


def one_epoch(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """A run of one epoch; seconds by kind."""
    from training_pro.config import RunConfig
    from training_pro.hosts.local import load_model
    from training_pro.training import monitoring, trainer
    from training_pro.training.job import run_job

    lines = options.data.read_text(encoding="utf-8").splitlines()[: options.rows + options.held_out]
    files = [folder / name for name in ("train.jsonl", "held_out.jsonl")]
    for file, part in zip(files, (lines[options.held_out :], lines[: options.held_out]), strict=True):
        file.write_text("\n".join(part) + "\n", encoding="utf-8")
    found: dict[str, Any] = {"evaluation": [], "drawing": [], "understanding": [], "steps": [], "tokens": 0, "gains": {}}
    timed(trainer, "evaluate_loss", found["evaluation"])
    timed(monitoring, "draw_sample", found["drawing"])
    from training_pro.training import job

    job.draw_sample = monitoring.draw_sample  # type: ignore[attr-defined]

    def listen(event: str, **fields: Any) -> None:
        if event == "step":
            found["steps"].append(fields["seconds"])
            found["tokens"] += fields["tokens"]
        elif event == "understanding":
            found["understanding"].append(fields["seconds"])
            found["gains"] = fields["gains"]

    config = RunConfig.from_dict(
        {
            "model": {"path": options.model},
            "adapter": {"name": "monitored", "if_exists": "replace"},
            "data": {"dataset": str(files[0]), "eval_dataset": str(files[1]), "cutoff": options.cutoff, "too_long": "windows"},
            "training": {"epochs": 1},
            "batching": {"true_batch_size": options.batch_size},
            "checkpoints": {"save_every_epoch": False, "understanding_samples": options.samples},
            "run": {"adapters_dir": str(folder / "adapters")},
        }
    )
    outcome = run_job(config, lambda: load_model(config), listener=listen)
    if outcome.status != "finished":
        raise SystemExit(f"{outcome.message} {outcome.remedy}")
    return found


def tables(num_steps: int) -> dict[str, float]:
    """Seconds of the table of phases and of the graph, for a diary of so many steps."""
    from training_pro.evaluation.phase_table import phase_rows
    from training_pro.matplotgraph import draw_graph
    from training_pro.runs.state import RunState

    step = {"loss": 2.0, "smoothed_loss": 2.0, "lr": 1e-4, "tokens": 100, "trained_tokens": 40, "seconds": 0.1, "padding": 0}
    steps = [{**step, "step": number, "epoch": 3 * number / num_steps} for number in range(1, num_steps + 1)]
    phases = [
        {"step": stage * num_steps // 3, "epoch": float(stage), "phase": name, "stage": stage, "cause": "after 1 epochs"}
        for stage, name in enumerate(("length", "paired", "sequential"))
    ]
    state = RunState(name="x", steps=steps, phases=phases)
    return {"table of phases": seconds_of(lambda: phase_rows(state)), "graph": seconds_of(lambda: draw_graph(state))}


def seconds_of(action: Callable[[], Any]) -> float:
    """Median of three."""
    found = []
    for _ in range(3):
        begun = time.perf_counter()
        action()
        found.append(time.perf_counter() - begun)
    return statistics.median(found)


def main() -> None:
    """One run, and the tables of a long one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="JSONL with conversations: {'messages': [...]}")
    parser.add_argument("--model", default="", help="folder; default: the embedded model")
    parser.add_argument("--rows", type=int, default=200, help="conversations that are trained")
    parser.add_argument("--held-out", type=int, default=20, help="conversations")
    parser.add_argument("--samples", type=int, default=64, help="Context understanding samples")
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--cutoff", type=int, default=512)
    parser.add_argument("--num-steps", type=int, default=10_000, help="of the diary for table and graph")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        found = one_epoch(options, Path(temporary))
    training = sum(found["steps"])
    print(f"one epoch: {len(found['steps'])} steps, {found['tokens']} tokens, {training:.1f} s\n")
    print("| | seconds each | times | of the epoch, once |\n|---|---|---|---|")
    for name in ("evaluation", "understanding", "drawing"):
        values = found[name]
        each = statistics.mean(values) if values else 0.0
        print(f"| {name} | {each:.2f} | {len(values)} | {each / training:.1%} |")
    for name, seconds in tables(options.num_steps).items():
        print(f"| {name}, {options.num_steps} steps | {seconds:.3f} | 1 | {seconds / training:.1%} |")
    counts = {name: (gain["num_replies"], gain["num_tokens"]) for name, gain in found["gains"].items()}
    print(f"\nreplies and tokens of the gains: {json.dumps(counts)}")


if __name__ == "__main__":
    main()
