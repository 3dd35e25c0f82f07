"""Time and peak memory of `training-pro check` on many conversations, first and second time (the second finds them prepared).

python benchmarks/check_time.py --num 10000 --model FOLDER
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def write_conversations(path: Path, num: int) -> None:
    """Conversations of one to four exchanges, replies of 5 to 120 words."""
    rng = random.Random(7)
    words = "the old harbour keeps its lanterns lit until last boat is home and bell has rung seven times while".split()
    with path.open("w", encoding="utf-8") as file:
        for _ in range(num):
            messages = []
            for _ in range(rng.randint(1, 4)):
                messages.append({"role": "user", "content": " ".join(rng.choices(words, k=rng.randint(3, 30)))})
                messages.append({"role": "assistant", "content": " ".join(rng.choices(words, k=rng.randint(5, 120)))})
            file.write(json.dumps({"messages": messages}) + "\n")


def measure(command: list[str], environment: dict[str, str]) -> tuple[float, float]:
    """Seconds and peak resident memory (MB) of a command."""
    import psutil

    begun, peak = time.perf_counter(), 0
    process = psutil.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    while process.poll() is None:
        try:
            peak = max(peak, process.memory_info().rss)
        except psutil.Error:
            break
        time.sleep(0.05)
    assert process.wait() == 0, f"{command} failed"
    return time.perf_counter() - begun, peak / 1e6


def main() -> None:
    """Measure twice and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--num", type=int, default=10_000)
    parser.add_argument("--model", default="")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_conversations(folder / "chats.jsonl", options.num)
        settings = {
            "data": {"dataset": str(folder / "chats.jsonl"), "cutoff": 2048},
            "run": {"adapters_dir": str(folder / "loras")},
        }
        (folder / "check.yaml").write_text(json.dumps(settings), encoding="utf-8")
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "import_root"), "TRAINING_PRO_CACHE": str(folder / "cache")}
        if not options.model:
            from training_pro.hosts.embedded_model import embedded_model_folder

            options.model = str(embedded_model_folder())
        command = [sys.executable, "-m", "training_pro.cli", "check", str(folder / "check.yaml"), "--model", options.model]
        for name in ("first", "second (found prepared)"):
            seconds, peak = measure(command, environment)
            print(f"check on {options.num} conversations, {name}: {seconds:.1f} s, peak {peak:.0f} MB", flush=True)


if __name__ == "__main__":
    sys.path.append(str(ROOT / "import_root"))
    main()
