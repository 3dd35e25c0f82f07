"""Packing: seconds, fill and memory of our packers and of TRL's, side by side in one run.

    python benchmarks/packing.py                              (ours; and TRL's if it is installed)
    python benchmarks/packing.py --num 100000 1000000 --shipped-at-most 100000

Lengths are lognormal(6, 1) clipped to [8, 4096], the capacity is 4096. Each measurement is a process of its own, the methods take turns,
the median counts. ``TRL whole`` is TRL's bfd over the whole table; ``TRL shipped`` is its pack_dataset, which packs 1000 rows at a time.
TRL writes the packed tokens too; they are one byte each here, so that this costs as little as possible. Ours gives numbers of samples
and the batch is put together when it is needed. Memory is the peak above what the process had with lengths and tokens in it.

``--related`` times the walk of related packing instead: vectors of 384 numbers around random centres.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from watching import Peak

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "import_root"))

CAPACITY = 4096
OURS = ("none", "ordered", "best_fit")
THEIRS = ("TRL whole", "TRL shipped")


def make_lengths(num: int) -> np.ndarray:
    """Tokens of each sample."""
    return np.clip(np.random.default_rng(0).lognormal(6, 1, num), 8, CAPACITY).astype(np.int64)


def make_table(lengths: np.ndarray) -> Any:
    """A table with one column of token lists, as TRL wants it."""
    import pyarrow as pa

    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32))
    return pa.table({"input_ids": pa.ListArray.from_arrays(offsets, pa.array(np.zeros(int(lengths.sum()), dtype=np.int8)))})


class Timed(Peak):
    """Seconds of what runs inside, and the most memory that it needed above what was there before."""

    def __enter__(self) -> Timed:
        super().__enter__()
        self._begun = time.perf_counter()
        return self

    def __exit__(self, *error: object) -> None:
        self.seconds = time.perf_counter() - self._begun
        super().__exit__(*error)


def measure(method: str, num: int) -> dict[str, float]:
    """One measurement in this process."""
    lengths = make_lengths(num)
    if method in OURS:
        from training_pro.data.packing import PACKERS

        packer, work = PACKERS[method], lengths
    elif method == "TRL whole":
        from trl.data_utils import _pack_bfd

        packer, work = _pack_bfd, make_table(lengths)
    else:
        from datasets import Dataset, disable_progress_bars
        from trl import pack_dataset

        disable_progress_bars()
        packer, work = pack_dataset, Dataset(make_table(lengths))
    with Timed() as timed:
        packs = packer(work, CAPACITY)
    fill = lengths.sum() / CAPACITY / len(packs)
    return {"seconds": timed.seconds, "packs": len(packs), "fill": float(fill), "memory": timed.above}


def measure_related(num: int) -> dict[str, float]:
    """The walk over vectors around num / 50 centres."""
    from training_pro.data.packing import pack

    rng = np.random.default_rng(0)
    centres = rng.standard_normal((max(1, num // 50), 384), dtype=np.float32)
    vectors = centres[rng.integers(len(centres), size=num)] + 0.9 * rng.standard_normal((num, 384), dtype=np.float32)
    lengths = make_lengths(num)
    with Timed() as timed:
        packing = pack("related", lengths.tolist(), CAPACITY, vectors=vectors)
    return {"seconds": timed.seconds, "packs": len(packing.packs), "fill": packing.fill, "memory": timed.above}


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num", type=int, nargs="+", default=[100_000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--shipped-at-most", type=int, default=100_000, help="more samples than this only by TRL whole")
    parser.add_argument("--related", action="store_true")
    parser.add_argument("--one", default="", help="for the processes of the measurements")
    options = parser.parse_args()
    if options.one:
        found = measure_related(options.num[0]) if options.one == "related" else measure(options.one, options.num[0])
        print(json.dumps(found))
        return
    methods = ("related",) if options.related else OURS + (THEIRS if find_spec("trl") else ())
    if not options.related and not find_spec("trl"):
        print("TRL is not installed: ours only")
    print(f"{'':12s} {'samples':>9s} {'median s':>9s} {'all':>24s} {'packs':>9s} {'fill':>8s} {'MB':>7s}")
    for num in options.num:
        runs: dict[str, list[dict[str, float]]] = {}
        for _ in range(options.rounds):
            for method in methods:
                if method == "TRL shipped" and num > options.shipped_at_most:
                    continue
                command = [sys.executable, __file__, "--one", method, "--num", str(num)]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                runs.setdefault(method, []).append(json.loads(done.stdout.splitlines()[-1]))
        for method, found in runs.items():
            seconds = [run["seconds"] for run in found]
            each = " ".join(f"{value:.2f}" for value in seconds)
            memory = statistics.median(run["memory"] for run in found)
            packs, fill = int(found[0]["packs"]), found[0]["fill"]
            print(
                f"{method:12s} {num:9d} {statistics.median(seconds):9.2f} {each:>24s} {packs:9d} {fill:8.5f} {memory:7.0f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
