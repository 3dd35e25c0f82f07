"""Peak memory of preparation at several sizes of the data: it must not grow with them.

    python benchmarks/prepare_memory.py [--sizes 30 300] [--kinds jsonl json text] [--model FOLDER] [--cutoff 512]

For each size (in MB) and kind a file is written, then prepared in a process of its own. The table shows the peak of that process (resident
memory, looked at 50 times a second) above what it used when its libraries and the tokenizer were loaded, and the time. ``json`` is one array, ``text`` one plain text file. The
prepared data need about twice the size on disk, in the temporary folder (TMPDIR).
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "import_root"))

MB = 1_000_000
_WORDS = (
    "the keeper lit the lamp when the first ships came in and told nobody what he had seen that night because the harbour was quiet again "
    "some said it was Dr. Hall others that the bell had rung 7.5 times before anybody woke and went down to the water with a light"
).split()
ENDINGS = {"jsonl": "jsonl", "json": "json", "text": "txt"}


def sentence(rng: random.Random) -> str:
    """A sentence of 5 to 25 words."""
    begin = rng.randrange(len(_WORDS))
    return " ".join(_WORDS[(begin + place) % len(_WORDS)] for place in range(rng.randint(5, 25))).capitalize() + "."


def write_data(path: Path, kind: str, num_bytes: int) -> None:
    """Conversations, or prose with a chapter every thousand sentences."""
    rng = random.Random(0)
    with path.open("w", encoding="utf-8") as file:
        file.write("[\n" if kind == "json" else "")
        number = 0
        while file.tell() < num_bytes:
            if kind == "text":
                file.write(sentence(rng) + ("\n\n\n" if number % 1000 == 999 else " "))
            else:
                turns = [("user", sentence(rng)), ("assistant", " ".join(sentence(rng) for _ in range(4)))]
                row = json.dumps({"messages": [{"role": role, "content": content} for role, content in turns]})
                file.write((",\n" if kind == "json" and number else "") + row + ("" if kind == "json" else "\n"))
            number += 1
        file.write("\n]" if kind == "json" else "")


def resident_mb() -> float:
    """Memory of this process, in MB."""
    import psutil

    return float(psutil.Process().memory_info().rss / MB)


def measure(options: argparse.Namespace) -> None:
    """One preparation in this process; the result is its last line."""
    import datasets  # noqa: F401
    import pyarrow.compute  # noqa: F401
    from training_pro.config import DataSettings
    from training_pro.data.prepare import prepare
    from training_pro.train_utils import load_tokenizer

    tokenizer = load_tokenizer(Path(options.model))
    tokenizer(["a word"] * 64)
    key = "text_file" if options.data.endswith(".txt") else "dataset"
    settings = DataSettings(**{key: options.data, "cutoff": options.cutoff})
    before, started, highest = resident_mb(), time.perf_counter(), [0.0]
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(0.02):
            highest[0] = max(highest[0], resident_mb())

    # not the peak that the system keeps: it counts the loading of the libraries, too
    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    prepared = prepare(settings, tokenizer, cache_dir=Path(options.cache))
    seconds = time.perf_counter() - started
    stop.set()
    watcher.join()
    peak = max(highest[0], resident_mb())
    print(json.dumps({"above": peak - before, "peak": peak, "seconds": seconds, "tokens": prepared.report.num_tokens}))


def main() -> None:
    """Write, prepare and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[30, 300], help="MB")
    parser.add_argument("--kinds", nargs="+", choices=tuple(ENDINGS), default=list(ENDINGS))
    parser.add_argument("--model", default=str(ROOT / ".cache/models/SmolLM2-135M-Instruct"), help="folder with the tokenizer")
    parser.add_argument("--cutoff", type=int, default=512)
    parser.add_argument("--data", default="", help=argparse.SUPPRESS)
    parser.add_argument("--cache", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.data:
        return measure(options)
    print("| kind | MB | peak above start, MB | peak, MB | s | MB/s | tokens |\n|---|---|---|---|---|---|---|")
    for kind in options.kinds:
        for size in options.sizes:
            with tempfile.TemporaryDirectory() as folder:
                data = Path(folder, f"data.{ENDINGS[kind]}")
                write_data(data, kind, size * MB)
                command = [sys.executable, __file__, "--data", str(data), "--cache", str(Path(folder, "cache"))]
                command += ["--model", options.model, "--cutoff", str(options.cutoff)]
                environment = {**os.environ, "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}
                done = subprocess.run(command, capture_output=True, text=True, env=environment)
                if done.returncode:
                    print(f"| {kind} | {size} | failed: {done.stderr.strip().splitlines()[-1][:200]} |")
                    continue
                found = json.loads(done.stdout.strip().splitlines()[-1])
                numbers = f"{found['above']:.0f} | {found['peak']:.0f} | {found['seconds']:.0f} | {size / found['seconds']:.2f}"
                print(f"| {kind} | {size} | {numbers} | {found['tokens']:,} |", flush=True)


if __name__ == "__main__":
    main()
