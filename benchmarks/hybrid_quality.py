"""What does hybrid batching do to held-out loss and to context understanding? Five arms on real conversations of several turns.

    python benchmarks/packing_quality.py --from-chitchat dataset.json --data chats.jsonl      (once: conversations as JSONL)
    python benchmarks/hybrid_quality.py --data chats.jsonl --seeds 3                          (runs, table, picture)
    python benchmarks/hybrid_quality.py --data chats.jsonl --seeds 3 --report                 (table and picture of what is there)

Arms: ``shuffled`` (whole conversations in random order: what trainers do), ``length`` (single exchanges of like length), ``sequential``
(exchanges joined to conversations, in the order of the data), ``hybrid`` (length, then sequential), ``two-stage`` (length, pairs, then
sequential).

Every arm trains the same replies of the same conversations equally often (so as many trained tokens), in about as many optimizer steps,
with the same learning rate; a step of a phase with short samples holds fewer tokens than one with joined samples. Only conversations are
taken that fit into the cutoff whole. A seed draws the conversations that are trained, the adapter's first weights and the order; what is
held out is the same for all. Measured after the run, on the held-out conversations: loss over all replies with their full history, and
context, order and distance gain of drawn replies (training_pro.evaluation.understanding). Differences to ``shuffled`` are taken seed by
seed.

Results are appended to ``--results`` run by run: a stopped benchmark goes on where it was. Runs of other settings in the same file are
left alone.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "import_root"))

BEFORE, REFERENCE = "before", "shuffled"
GAINS = ("context", "order", "distance")
MEASURES = {"loss": "held-out loss", **{name: f"{name} gain" for name in GAINS}}
# what decides a result, besides arm and seed
DECISIVE = (
    "epochs",
    "conversations",
    "held_out",
    "replies",
    "steps",
    "cutoff",
    "rank",
    "learning_rate",
    "precision",
    "min_exchanges",
)


def arms(epochs: float) -> dict[str, dict[str, dict[str, Any]]]:
    """Settings of each arm."""
    exchanges = {"entry": "exchange"}
    return {
        "shuffled": {"data": {"entry": "conversation"}, "batching": {"mode": "shuffled"}},
        "length": {"data": exchanges, "batching": {"mode": "length"}},
        "sequential": {"data": exchanges, "batching": {"mode": "sequential"}},
        "hybrid": {"data": exchanges, "batching": {"mode": "hybrid", "switch_by": "epochs", "switch_epochs": epochs / 2}},
        "two-stage": {
            "data": exchanges,
            "batching": {
                **{"mode": "hybrid two-stage", "switch_by": "epochs", "switch_epochs": epochs / 3},
                **{"second_by": "epochs", "second_epochs": epochs / 3},
            },
        },
    }


# --- data ----------------------------------------------------------------------------------------------------------------------


def fitting(path: Path, tokenizer: Any, options: argparse.Namespace) -> tuple[list[Any], Callable[[int], list[Any]]]:
    """Held-out conversations, and (seed) -> those that are trained; all fit into the cutoff whole and have several exchanges."""
    rows = [json.loads(line)["messages"] for line in path.read_text(encoding="utf-8").splitlines() if line]
    rows = [row for row in rows if sum(message["role"] == "user" for message in row) >= options.min_exchanges]
    order = np.random.default_rng(0).permutation(len(rows)).tolist()

    def fits(place: int) -> bool:
        return len(tokenizer.apply_chat_template(rows[place], tokenize=True, return_dict=False)) <= options.cutoff

    held_out: list[int] = []
    while order and len(held_out) < options.held_out:
        place = order.pop()
        held_out += [place] * fits(place)

    def trained(seed: int) -> list[Any]:
        chosen: list[int] = []
        for place in np.random.default_rng([1, seed]).permutation(order).tolist():
            chosen += [place] * fits(place)
            if len(chosen) == options.conversations:
                return [rows[place] for place in chosen]
        raise SystemExit(f"Only {len(chosen)} conversations fit into {options.cutoff} tokens; lower --conversations.")

    return [rows[place] for place in held_out], trained


def write_rows(path: Path, rows: list[Any]) -> Path:
    """Conversations as JSONL."""
    path.write_text("".join(json.dumps({"messages": row}) + "\n" for row in rows), encoding="utf-8")
    return path


# --- measuring -----------------------------------------------------------------------------------------------------------------


class HeldOut:
    """Measures a model on the held-out conversations."""

    def __init__(self, rows: list[Any], tokenizer: Any, options: argparse.Namespace) -> None:
        from training_pro.data.chat import conversation_samples
        from training_pro.evaluation.replies import draw_replies

        self.samples = [
            {"input_ids": np.array(sample.input_ids), "labels": np.array(sample.labels)}
            for row in rows
            for sample in conversation_samples(row, tokenizer)
        ]

        def read(number: int) -> dict[str, Any]:
            return {"messages": rows[number], "tools": None}

        self.replies = draw_replies(read, len(rows), tokenizer, most=options.replies, cutoff=options.cutoff, seed=0)
        self._batch_tokens = options.micro_tokens

    def measure(self, model: Any) -> dict[str, Any]:
        """Held-out loss, and each gain with its standard error."""
        import torch
        from training_pro.data.collate import Collator
        from training_pro.evaluation.understanding import measure
        from training_pro.training.head import TrainedHead

        begun, head, collator = time.perf_counter(), TrainedHead(model, "selected"), Collator(0)
        device = next(model.parameters()).device

        def losses(batch: dict[str, Any]) -> torch.Tensor:
            inputs = {name: batch[name].to(device) for name in ("input_ids", "attention_mask")}
            each: torch.Tensor = head.losses(model, inputs, batch["positions"].to(device), batch["targets"].to(device)).each
            return each

        model.eval()
        with torch.no_grad():
            found = [losses(collator([sample])).double().cpu() for sample in self.samples]
            understanding = measure(self.replies, losses, batch_tokens=self._batch_tokens)
        gains = {name: {"mean": gain.mean, "error": gain.error} for name, gain in understanding.gains.items()}
        loss = float(torch.cat(found).mean())
        return {"loss": loss, "gains": gains, "measuring_seconds": round(time.perf_counter() - begun, 1)}


def measure_adapter(held_out: HeldOut, model: Any, tokenizer: Any, folder: Path) -> dict[str, Any]:
    """The loaded model with an adapter on it for a while."""
    from peft import PeftModel
    from training_pro.train_utils import borrowed

    with borrowed(model, tokenizer):
        return held_out.measure(PeftModel.from_pretrained(model, str(folder)))


# --- runs ----------------------------------------------------------------------------------------------------------------------


def base_settings(options: argparse.Namespace, data: Path, folder: Path, seed: int) -> dict[str, dict[str, Any]]:
    """What all arms have in common."""
    return {
        "model": {"path": options.model},
        "adapter": {"name": "quality", "if_exists": "replace", "rank": options.rank, "dropout": 0.0},
        "data": {"dataset": str(data), "cutoff": options.cutoff},
        "training": {
            **{"epochs": options.epochs, "schedule": "linear", "warmup_share": 0.1, "learning_rate": options.learning_rate},
            **{"precision": options.precision, "seed": seed},
        },
        "checkpoints": {"save_every_epoch": False},
        "run": {"adapters_dir": str(folder / "adapters")},
    }


def with_steps(
    settings: dict[str, dict[str, Any]], loaded: tuple[Any, Any], options: argparse.Namespace
) -> dict[str, dict[str, Any]]:
    """The settings with the batch and accumulation that come nearest to the wanted number of optimizer steps."""
    from training_pro.config import RunConfig
    from training_pro.train_utils import borrowed
    from training_pro.training.setup import prepare_run

    most = max(1, options.micro_tokens // options.cutoff)
    sizes = [(-(-units // -(-units // most)), -(-units // most)) for units in range(1, 1025)]  # of so many units, in even batches
    counted: dict[int, int] = {}

    def sized(place: int) -> dict[str, dict[str, Any]]:
        size, windows = sizes[place]
        return {**settings, "batching": {**settings["batching"], "true_batch_size": size, "gradient_accumulation": windows}}

    def num_steps(place: int) -> int:
        if place not in counted:
            with borrowed(*loaded):
                counted[place] = prepare_run(RunConfig.from_dict(sized(place)), *loaded).sampler.plan.num_steps
        return counted[place]

    low, high = 0, len(sizes) - 1  # larger windows, fewer steps
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if num_steps(middle) <= options.steps else (middle + 1, high)
    near = [place for place in (low - 1, low) if place >= 0]
    return sized(min(near, key=lambda place: abs(num_steps(place) - options.steps)))


def train(settings: dict[str, dict[str, Any]], loaded: tuple[Any, Any]) -> tuple[dict[str, Any], Path]:
    """One run: what it trained and how long it took, and its folder."""
    from training_pro.config import RunConfig
    from training_pro.training.job import run_job

    found: dict[str, Any] = {"trained_tokens": 0, "tokens": 0, "steps": 0, "training_seconds": 0.0, "phases": []}

    def listen(event: str, **fields: Any) -> None:
        if event == "step":
            found["steps"] += 1
            found["tokens"] += fields["tokens"]
            found["trained_tokens"] += fields["trained_tokens"]
            found["training_seconds"] = round(found["training_seconds"] + fields["seconds"], 2)
        elif event == "phase":
            found["phases"].append([fields["phase"], fields["step"]])

    outcome = run_job(RunConfig.from_dict(settings), lambda: loaded, listener=listen)
    if outcome.status != "finished":
        raise SystemExit(f"{outcome.message} {outcome.remedy}")
    return found, outcome.folder.path


def merged(settings: dict[str, dict[str, Any]], more: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Settings with others on top, section by section."""
    return {section: {**settings.get(section, {}), **more.get(section, {})} for section in {**settings, **more}}


def run_all(options: argparse.Namespace, done: list[dict[str, Any]]) -> None:
    """All arms that are not there yet; seeds outside, so that an interrupted table still compares."""
    from training_pro.config import RunConfig
    from training_pro.hosts.local import load_model

    known = {(row["arm"], row["seed"]) for row in done}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        loaded = load_model(RunConfig.from_dict({"model": {"path": options.model}}))
        rows, trained = fitting(options.data, loaded[1], options)
        held_out = HeldOut(rows, loaded[1], options)
        if (BEFORE, 0) not in known:
            keep(options, done, BEFORE, 0, held_out.measure(loaded[0]))
        for seed in range(options.seeds):
            data = write_rows(folder / f"train-{seed}.jsonl", trained(seed))
            for arm in options.arms:
                if (arm, seed) in known:
                    continue
                settings = merged(base_settings(options, data, folder, seed), arms(options.epochs)[arm])
                settings = with_steps(settings, loaded, options)
                found, adapter = train(settings, loaded)
                size = {name: settings["batching"][name] for name in ("true_batch_size", "gradient_accumulation")}
                keep(options, done, arm, seed, {**found, **size, **measure_adapter(held_out, *loaded, adapter)})


def keep(options: argparse.Namespace, done: list[dict[str, Any]], arm: str, seed: int, found: dict[str, Any]) -> None:
    """Append a result to the file and say it."""
    row = {"settings": identity(options), "arm": arm, "seed": seed, **found}
    done.append(row)
    options.results.parent.mkdir(parents=True, exist_ok=True)
    is_cut_off = options.results.is_file() and not options.results.read_bytes().endswith(b"\n")
    with options.results.open("a", encoding="utf-8") as file:
        file.write("\n" * is_cut_off + json.dumps(row) + "\n")
    gains = ", ".join(f"{name} {gain['mean']:.4f} ± {gain['error']:.4f}" for name, gain in row["gains"].items())
    work = (
        f", {row['steps']} steps, {row['trained_tokens']} trained tokens, {row['training_seconds']:.0f} s"
        if "steps" in row
        else ""
    )
    print(
        f"seed {seed}  {arm:10s} held-out loss {row['loss']:.4f}, {gains}{work}, measured in {row['measuring_seconds']} s",
        flush=True,
    )


def identity(options: argparse.Namespace) -> str:
    """Settings that decide a result, the model and the data, in eight digits."""
    decisive = {name: getattr(options, name) for name in DECISIVE}
    content = hashlib.sha256(options.data.read_bytes()).hexdigest()
    return hashlib.sha256(json.dumps([decisive, Path(options.model).name, content], sort_keys=True).encode()).hexdigest()[:8]


def read_results(options: argparse.Namespace) -> list[dict[str, Any]]:
    """What is there of these settings; a line that a stop has cut off is left out."""
    rows = []
    if options.results.is_file():
        for line in options.results.read_text(encoding="utf-8").splitlines():
            try:
                rows.append(json.loads(line))
            except ValueError:
                print("A line of the results is damaged; that run is made again.", file=sys.stderr)
    return [row for row in rows if row["settings"] == identity(options)]


# --- table and picture ---------------------------------------------------------------------------------------------------------


def value_of(row: dict[str, Any], measure: str) -> float:
    """A measure of a result; NaN if it has none."""
    value: float = row["loss"] if measure == "loss" else row["gains"].get(measure, {}).get("mean", float("nan"))
    return value


def by_arm(done: list[dict[str, Any]], measure: str) -> dict[str, dict[int, float]]:
    """Arm -> seed -> value, arms in their order."""
    found: dict[str, dict[int, float]] = {arm: {} for arm in (BEFORE, *arms(1.0))}
    for row in done:
        found.setdefault(row["arm"], {})[row["seed"]] = value_of(row, measure)
    return {arm: values for arm, values in found.items() if values}


def cell(values: dict[int, float]) -> str:
    """Mean and spread (standard deviation) over the seeds."""
    mean = f"{statistics.mean(values.values()):.4f}"
    return f"{mean} ({statistics.stdev(values.values()):.4f})" if len(values) > 1 else mean


def difference(values: dict[int, float], reference: dict[int, float]) -> str:
    """Mean of the differences seed by seed, with its standard error."""
    found = [values[seed] - reference[seed] for seed in values if seed in reference]
    if not found:
        return ""
    error = f" ± {statistics.stdev(found) / len(found) ** 0.5:.4f}" if len(found) > 1 else ""
    return f"{statistics.mean(found):+.4f}{error}"


def table(done: list[dict[str, Any]]) -> list[str]:
    """Two Markdown tables: values with their spread, differences to the first arm with their standard error."""
    measured = {measure: by_arm(done, measure) for measure in MEASURES}
    head = ["arm", *MEASURES.values()]
    lines = ["| " + " | ".join([*head, "steps", "trained tokens", "seeds"]) + " |", "|---" * (len(head) + 3) + "|"]
    for arm, values in measured["loss"].items():
        runs = [row for row in done if row["arm"] == arm and "steps" in row]
        steps, tokens = (
            [str(round(statistics.mean(row[name] for row in runs)))] if runs else [""] for name in ("steps", "trained_tokens")
        )
        cells = [cell(measured[measure].get(arm, {})) for measure in MEASURES]
        lines.append("| " + " | ".join([arm, *cells, *steps, *tokens, str(len(values)) if runs else ""]) + " |")
    unequal = [seed for seed in sorted({row["seed"] for row in done}) if len(trained_by(done, seed)) > 1]
    equal = f"NOT equal for the seeds {unequal}" if unequal else "equal in all arms of a seed"
    errors = [(title, [row["gains"][name]["error"] for row in done if name in row["gains"]]) for name, title in MEASURES.items()]
    sampling = ", ".join(f"{title} {statistics.mean(found):.4f}" for title, found in errors if found)
    lines += [
        "",
        f"Trained tokens are {equal}. Standard error over the held-out conversations, which all arms share: {sampling}.",
    ]
    lines += ["", "| against " + REFERENCE + " | " + " | ".join(MEASURES.values()) + " |", "|---" * len(head) + "|"]
    for arm in measured["loss"]:
        if arm not in (BEFORE, REFERENCE):
            cells = [difference(found.get(arm, {}), found.get(REFERENCE, {})) for found in measured.values()]
            lines.append("| " + " | ".join([arm, *cells]) + " |")
    return lines


def trained_by(done: list[dict[str, Any]], seed: int) -> set[int]:
    """Numbers of trained tokens of the arms of a seed."""
    return {row["trained_tokens"] for row in done if row["seed"] == seed and "trained_tokens" in row}


def draw(done: list[dict[str, Any]], path: Path) -> None:
    """A panel for each measure: every seed a dot, the mean a bar; dashed: before the training."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 3.8), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    marks = "osD^vPX*<>"
    for axes, (measure, title) in zip(figure.subplots(1, len(MEASURES)), MEASURES.items(), strict=True):
        values = by_arm(done, measure)
        before = values.pop(BEFORE, {})
        for place, (_, found) in enumerate(values.items()):
            for seed, value in found.items():
                offset = 0.12 * (seed - (max(found) / 2))
                axes.plot(place + offset, value, marks[seed % len(marks)], color="#1f5fa8", markersize=5, markerfacecolor="none")
            mean = statistics.mean(found.values())
            axes.plot([place - 0.3, place + 0.3], [mean, mean], color="#c2410c", linewidth=2)
        for value in before.values():
            axes.axhline(value, color="#64748b", linestyle="--", linewidth=1)
        axes.set_title(title, fontsize=10)
        axes.set_xticks(range(len(values)), list(values), rotation=35, ha="right", fontsize=8)
        axes.set_ylabel("nats per reply token", fontsize=8)
        axes.tick_params(axis="y", labelsize=8)
        axes.margins(y=0.15)
        axes.grid(axis="y", alpha=0.25)
    figure.supxlabel("dots: seeds, bar: their mean, dashed: before the training", fontsize=8)
    figure.savefig(path)


def report(options: argparse.Namespace, done: list[dict[str, Any]]) -> None:
    """Print the table; write it and the picture to ``--out``."""
    lines = table(done)
    print("\n".join(["", *lines]))
    options.out.mkdir(parents=True, exist_ok=True)
    settings = ", ".join(f"{name.replace('_', ' ')} {getattr(options, name)}" for name in DECISIVE)
    words = [
        "# Hybrid batching: held-out loss and context understanding",
        "",
        f"`benchmarks/hybrid_quality.py`, {options.data.name}, {Path(options.model).name or 'the embedded model'}: {settings}.",
        "Values are means over the seeds (in brackets their standard deviation), in nats per reply token; differences are taken seed by "
        "seed (± standard error). Less loss is better; a larger gain means that the model makes more of the conversation.",
        "",
        *lines,
        "",
        "![Held-out loss and gains of each arm](hybrid_quality.png)",
    ]
    (options.out / "hybrid_quality.md").write_text("\n".join(words) + "\n", encoding="utf-8")
    draw(done, options.out / "hybrid_quality.png")
    print(f"\nwritten: {options.out / 'hybrid_quality.md'}, {options.out / 'hybrid_quality.png'}")


def main() -> None:
    """Run what is missing, then report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="JSONL with conversations: {'messages': [...]}")
    parser.add_argument("--model", default="", help="folder; default: the embedded model")
    parser.add_argument("--arms", nargs="+", choices=tuple(arms(1.0)), default=list(arms(1.0)))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=float, default=3.0)
    parser.add_argument("--conversations", type=int, default=20, help="that are trained")
    parser.add_argument("--min-exchanges", type=int, default=3, help="of a conversation that is taken")
    parser.add_argument("--held-out", type=int, default=16, help="conversations")
    parser.add_argument("--replies", type=int, default=32, help="of the held-out conversations, for the gains")
    parser.add_argument(
        "--steps", type=int, default=40, help="optimizer steps of a run; about, because a step takes whole samples"
    )
    parser.add_argument("--cutoff", type=int, default=768, help="longest conversation that is taken, in tokens")
    parser.add_argument("--micro-tokens", type=int, default=4096, help="most tokens of a batch; more are accumulated")
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--learning-rate", type=float, default=3e-4)
    parser.add_argument("--precision", default="auto", help="bfloat16 is several times faster on processors with bfloat16 units")
    parser.add_argument("--results", type=Path, default=ROOT / ".cache" / "hybrid_quality.jsonl", help="is appended to")
    parser.add_argument("--out", type=Path, default=ROOT / "docs", help="folder of table and picture")
    parser.add_argument("--report", action="store_true", help="only table and picture of what is there")
    options = parser.parse_args()
    done = read_results(options)
    if not options.report:
        run_all(options, done)
    if len({row["arm"] for row in done}) < 2:
        raise SystemExit("There is no result of these settings yet.")
    report(options, done)


if __name__ == "__main__":
    main()
