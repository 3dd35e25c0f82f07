"""Hybrid batching: seconds and memory of planning, how much each phase pads and fills, and how fast each trains.

    python benchmarks/batching.py                     (a million entries)
    python benchmarks/batching.py --num 100000 --rounds 5
    python benchmarks/batching.py --speed             (trained tokens/s of each phase, with a small model)

Entries are conversations of 1 to 5 exchanges whose lengths are lognormal(6, 1) clipped to [8, 4096]; neighbours can be joined up to 4096
tokens ("joined"), or are context of each other ("context"); "packed" puts samples into rows of 4096 by best fit. Three epochs in batches
of 8, accumulation 4. Each measurement is a process of its own, the median counts.

``plan`` is all that a run decides before it starts (epochs, phases, steps), the original order of the entries included; ``epoch`` is the
order of its first epoch; ``numbers`` the tokens and padding of every phase, as Check shows them; ``batches`` taking all batches of the
run. Memory is the peak above what the process had with the lengths in it. CPU seconds are those of the process, which other work on the
machine does not change much; seconds are by the clock. ``calls`` is how often an entry's joined length was asked for while planning.

``--speed`` trains a Llama of 4 layers x 256 on conversations of several exchanges of mixed length (lognormal), batches of 8, by each phase,
as flat rows and as padded rows: trained tokens per second from the end of the second step on, rounds in turn, the median counts.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from watching import Peak

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "import_root"))

LONGEST, BATCH_SIZE, ACCUMULATION, EPOCHS = 4096, 8, 4, 3
CASES = (
    *("shuffled", "length", "sequential", "one switch", "two switches", "gradual", "joined: paired", "joined: sequential"),
    *("joined: two switches", "context: two switches", "packed: length", "packed, joined: two switches"),
)


def make_lengths(num: int) -> tuple[np.ndarray, np.ndarray]:
    """Tokens and conversation of each entry."""
    rng = np.random.default_rng(0)
    lengths = np.clip(rng.lognormal(6, 1, num), 8, LONGEST).astype(np.int64)
    return lengths, np.repeat(np.arange(num), rng.integers(1, 6, num))[:num]


def joining(entries: Any) -> Callable[[int, int], int | None]:
    """Tokens of neighbours as one sample, from sums."""
    sums = np.concatenate(([0], np.cumsum(entries.lengths[entries.original]))).tolist()
    rank = entries.rank.tolist()

    def join_length(first: int, count: int) -> int | None:
        total = int(sums[rank[first] + count] - sums[rank[first]])
        return total if total <= LONGEST else None

    return join_length


def in_context(entries: Any) -> Callable[[int, int], int | None]:
    """Tokens of an entry with those before it, from the same sums."""
    join_length = joining(entries)
    original, rank = entries.original.tolist(), entries.rank.tolist()
    return lambda entry, count: join_length(original[rank[entry] - count], count + 1)


def packing_of(case: str) -> Any:
    """Rows of the longest length, or none."""
    from training_pro.data.packing import PACKERS
    from training_pro.hybrid_batching import Packing

    return Packing(LONGEST, PACKERS["best_fit"], PACKERS["ordered"]) if case.startswith("packed") else None


def course_of(case: str) -> Any:
    """The phases of a case; switches within epochs, where they cost most."""
    from training_pro.hybrid_batching import Course, Transition

    after = Transition(epochs=0.7)
    return {
        "one switch": Course(("length", "sequential"), (Transition(epochs=1.3),)),
        "two switches": Course(("length", "shuffled", "sequential"), (after, after)),
        "gradual": Course(("length", "sequential"), (Transition(epochs=0.5, gradual=1.0),)),
    }.get(case) or (
        Course(("length", "paired", "sequential"), (after, after)) if "two switches" in case else case.split(": ")[-1]
    )


def measure(case: str, num: int) -> dict[str, Any]:
    """One case in this process."""
    from training_pro.hybrid_batching import Entries, HybridBatchSampler

    lengths, group = make_lengths(num)
    found: dict[str, Any] = {}

    def timed(name: str, action: Callable[[], Any]) -> Any:
        clock, cpu = time.perf_counter(), time.process_time()
        result = action()
        found[name] = [time.perf_counter() - clock, time.process_time() - cpu]
        return result

    def plan() -> Any:
        entries = Entries(lengths, group=group)
        if "joined" in case:
            entries.join_length = counted(joining(entries))
        if "context" in case:
            entries.context_length = counted(in_context(entries))
        options: dict[str, Any] = {"batch_size": BATCH_SIZE, "num_epochs": EPOCHS, "accumulation": ACCUMULATION}
        return HybridBatchSampler(entries, phase=course_of(case), packing=packing_of(case), **options)

    calls = 0

    def counted(hook: Callable[[int, int], int | None]) -> Callable[[int, int], int | None]:
        def call(first: int, count: int) -> int | None:
            nonlocal calls
            calls += 1
            return hook(first, count)

        return call

    with Peak() as peak:
        sampler = timed("plan", plan)
        found["calls"] = calls / num
        timed("epoch", lambda: sampler.parts(0))
        rows = timed("numbers", sampler.plan_rows)
        timed("batches", lambda: sum(1 for _ in sampler))
    found["MB"] = peak.above
    found["rows"] = [(row.epoch, row.before, row.phase, row.num_steps, row.padding_share, row.fill) for row in rows]
    return found


# --- speed ---------------------------------------------------------------------------------------------------------------------

SPEED_PHASES, SPEED_ROUTES = ("shuffled", "length", "paired", "sequential"), ("flat", "padded")


def small_model() -> tuple[Any, Any]:
    """A Llama of 4 layers x 256 with random weights, and a tokenizer of one token a word with a ChatML template."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    special = ["<|end|>", "<|user|>", "<|assistant|>", "<unk>"]
    vocabulary = {word: number for number, word in enumerate([*special, *(f"w{number}" for number in range(8000))])}
    raw = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="<|end|>", additional_special_tokens=special[1:3])
    tokenizer.chat_template = (
        "{% for message in messages %}{{ '<|' + message['role'] + '|> ' + message['content'] + ' <|end|> ' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant|> ' }}{% endif %}"
    )
    sizes = {"hidden_size": 256, "intermediate_size": 688, "num_hidden_layers": 4, "num_attention_heads": 4}
    torch.manual_seed(0)
    config = LlamaConfig(**sizes, vocab_size=len(vocabulary), max_position_embeddings=2048, eos_token_id=0, pad_token_id=0)
    return LlamaForCausalLM(config).eval(), tokenizer


def write_talks(path: Path, num: int) -> None:
    """Conversations of 1 to 6 exchanges; replies of lognormal(4, 1) words, at most 400."""
    rng = np.random.default_rng(0)
    rows = []
    for _ in range(num):
        messages = []
        for _ in range(int(rng.integers(1, 7))):
            for role, most in (("user", 20), ("assistant", int(np.clip(rng.lognormal(4, 1), 3, 400)))):
                messages.append({"role": role, "content": " ".join(f"w{word}" for word in rng.integers(0, 8000, most))})
        rows.append(json.dumps({"messages": messages}))
    path.write_text("\n".join(rows), encoding="utf-8")


def speed(folder: Path, phase: str, route: str, num_steps: int) -> tuple[float, float]:
    """Trained tokens per second of a phase, and trained over all tokens."""
    from training_pro.config import RunConfig
    from training_pro.runs.control import change_control
    from training_pro.training.job import run_job

    steps: list[tuple[float, dict[str, Any]]] = []
    opened: list[Any] = []
    config = RunConfig.from_dict(
        {
            "adapter": {"name": f"{phase}-{route}", "if_exists": "replace", "rank": 8},
            "data": {"dataset": str(folder / "talks.jsonl"), "cutoff": 1024, "entry": "exchange"},
            "batching": {"true_batch_size": 8, "mode": phase, "route": route},
            "training": {"epochs": 1, "learning_rate": 1e-3, "schedule": "constant"},
            "checkpoints": {"save_every_epoch": False, "understanding_samples": 0},
            "run": {"adapters_dir": str(folder / "loras")},
        }
    )

    def listen(event: str, **fields: Any) -> None:
        if event == "step":
            steps.append((time.perf_counter(), fields))
            if len(steps) == num_steps:
                change_control(opened[0].control, stop=True)

    outcome = run_job(config, small_model, listener=listen, on_folder=opened.append)
    assert len(steps) == num_steps, outcome.message
    measured = [fields for _, fields in steps[2:]]
    trained = sum(fields["trained_tokens"] for fields in measured)
    return trained / (steps[-1][0] - steps[1][0]), trained / sum(fields["tokens"] for fields in measured)


def measure_speed(rounds: int, num_steps: int) -> None:
    """All phases and routes, in turn."""
    seen: dict[tuple[str, str], list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_talks(folder / "talks.jsonl", 60 * num_steps)
        for _ in range(rounds):
            for route in SPEED_ROUTES:
                for phase in SPEED_PHASES:
                    seen.setdefault((route, phase), []).append(speed(folder, phase, route, num_steps))
    print("| route | phase | trained tokens/s | against shuffled | trained share |\n|---|---|---|---|---|")
    for (route, phase), found in seen.items():
        rate, share = (statistics.median(one[place] for one in found) for place in range(2))
        base = statistics.median(one[0] for one in seen[route, "shuffled"])
        print(f"| {route} | {phase} | {rate:.0f} | {rate / base:.2f} | {share:.2f} |")


def best_padding(num: int) -> float:
    """Padding of everything sorted."""
    from training_pro.batching.cutting import cut_sizes
    from training_pro.batching.padding import padding_share

    return padding_share(np.sort(make_lengths(num)[0])[::-1], cut_sizes(num, BATCH_SIZE, ACCUMULATION))


def in_process(case: str, num: int) -> dict[str, Any]:
    """The same in a process of its own."""
    command = [sys.executable, __file__, "--num", str(num), "--case", case]
    found: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return found


def main() -> None:
    """Measure all cases, or one (in a process of its own)."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--case")
    parser.add_argument("--speed", action="store_true")
    parser.add_argument("--steps", type=int, default=20, help="with --speed: optimizer steps of each run")
    options = parser.parse_args()
    if options.speed:
        measure_speed(options.rounds, options.steps)
        return
    if options.case:
        print(json.dumps(measure(options.case, options.num)))
        return
    names = ("plan", "epoch", "numbers", "batches")
    print(f"{options.num} entries; seconds (CPU seconds)\n\n| case | {' | '.join(names)} | calls | MB |\n|---|{'---|' * 6}")
    rounds: dict[str, list[dict[str, Any]]] = {case: [] for case in CASES}
    for _ in range(options.rounds):
        for case in CASES:
            rounds[case].append(in_process(case, options.num))
    for case, seen in rounds.items():
        cells = [
            f"{statistics.median(one[name][0] for one in seen):.2f} ({statistics.median(one[name][1] for one in seen):.2f})"
            for name in names
        ]
        print(f"| {case} | {' | '.join(cells)} | {seen[0]['calls']:.2f} | {statistics.median(one['MB'] for one in seen):.0f} |")
    print(f"\nPadding share (everything sorted: {best_padding(options.num):.4f})\n")
    for case, seen in rounds.items():
        parts = [
            f"epoch {epoch + 1} {before + '>' if before else ''}{phase}: {share:.4f}" + (f" (full {fill:.4f})" if fill else "")
            for epoch, before, phase, _, share, fill in seen[0]["rows"]
        ]
        print(f"- {case}: {'; '.join(parts)}")


if __name__ == "__main__":
    main()
