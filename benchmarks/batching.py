"""Hybrid batching: seconds and memory of planning, and how much each phase pads.

    python benchmarks/batching.py                     (a million entries)
    python benchmarks/batching.py --num 100000 --rounds 5

Entries are conversations of 1 to 5 exchanges whose lengths are lognormal(6, 1) clipped to [8, 4096]; neighbours can be joined up to 4096
tokens. Three epochs in batches of 8, accumulation 4. Each measurement is a process of its own, the median counts.

``plan`` is all that a run decides before it starts (epochs, phases, steps), the original order of the entries included; ``epoch`` is the
order of its first epoch; ``numbers`` the tokens and padding of every phase, as Check shows them; ``batches`` taking all batches of the
run. Memory is the peak above what the process had with the lengths in it. CPU seconds are those of the process, which other work on the
machine does not change much; seconds are by the clock.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "import_root"))

LONGEST, BATCH_SIZE, ACCUMULATION, EPOCHS = 4096, 8, 4, 3
CASES = ("shuffled", "length", "sequential", "paired", "one switch", "two switches", "gradual", "joined: two switches")


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


def course_of(case: str) -> Any:
    """The phases of a case; switches within epochs, where they cost most."""
    from training_pro.hybrid_batching import Course, Transition

    after = Transition(epochs=0.7)
    return {
        "one switch": Course(("length", "sequential"), (Transition(epochs=1.3),)),
        "two switches": Course(("length", "shuffled", "sequential"), (after, after)),
        "gradual": Course(("length", "sequential"), (Transition(epochs=0.5, gradual=1.0),)),
        "joined: two switches": Course(("length", "paired", "sequential"), (after, after)),
    }.get(case, case)


class Peak:
    """The most memory of this process while it is open, above what it had before, in MB (looked at every 2 ms)."""

    def __enter__(self) -> Peak:
        self._process, self._over = psutil.Process(), threading.Event()
        self._before = self.highest = self._process.memory_info().rss
        self._watcher = threading.Thread(target=self._watch)
        self._watcher.start()
        return self

    def _watch(self) -> None:
        while not self._over.wait(0.002):
            self.highest = max(self.highest, self._process.memory_info().rss)

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._watcher.join()
        self.megabytes = (self.highest - self._before) / 2**20


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
        if case == "paired" or case.startswith("joined"):
            entries.join_length = joining(entries)
        options: dict[str, Any] = {"batch_size": BATCH_SIZE, "num_epochs": EPOCHS, "accumulation": ACCUMULATION}
        return HybridBatchSampler(entries, phase=course_of(case), **options)

    with Peak() as peak:
        sampler = timed("plan", plan)
        timed("epoch", lambda: sampler.parts(0))
        rows = timed("numbers", sampler.plan_rows)
        timed("batches", lambda: sum(1 for _ in sampler))
    found["MB"] = peak.megabytes
    found["rows"] = [(row.epoch, row.before, row.phase, row.num_steps, row.padding_share) for row in rows]
    return found


def best_padding(num: int) -> float:
    """Padding of everything sorted."""
    from training_pro.batching.cutting import cut_sizes
    from training_pro.batching.phases import padding_share

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
    options = parser.parse_args()
    if options.case:
        print(json.dumps(measure(options.case, options.num)))
        return
    names = ("plan", "epoch", "numbers", "batches")
    print(f"{options.num} entries; seconds (CPU seconds)\n\n| case | {' | '.join(names)} | MB |\n|---|{'---|' * 5}")
    rounds: dict[str, list[dict[str, Any]]] = {case: [] for case in CASES}
    for _ in range(options.rounds):
        for case in CASES:
            rounds[case].append(in_process(case, options.num))
    for case, seen in rounds.items():
        cells = [
            f"{statistics.median(one[name][0] for one in seen):.2f} ({statistics.median(one[name][1] for one in seen):.2f})"
            for name in names
        ]
        print(f"| {case} | {' | '.join(cells)} | {statistics.median(one['MB'] for one in seen):.0f} |")
    print(f"\nPadding share (everything sorted: {best_padding(options.num):.4f})\n")
    for case, seen in rounds.items():
        parts = [
            f"epoch {epoch + 1} {before + '>' if before else ''}{phase}: {share:.4f}"
            for epoch, before, phase, _, share in seen[0]["rows"]
        ]
        print(f"- {case}: {'; '.join(parts)}")


if __name__ == "__main__":
    main()
