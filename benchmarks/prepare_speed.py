"""Preparation of many short conversations: rows a second and peak memory, beside TRL's SFTTrainer on the same rows.

    python benchmarks/prepare_speed.py [--num 50000] [--model FOLDER] [--trl PYTHON] [--rounds 1]

Each side runs in a process of its own, one after the other, and is timed from the file to the end of its preparation (reading, chat
template, tokenization, labels, writing), imports and the loading of the tokenizer left out. ``--trl`` names a Python that has trl beside
what this project needs. TRL runs with its default (no labels: every token is trained), and with labels of the replies only
(``assistant_only_loss``), which is what this project makes; for these it refuses templates without ``{% generation %}``, so it gets the
same template with that mark put in. CPU seconds are of all threads: they say more where the machine is shared.
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
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "import_root"))

CUTOFF = 1024
_OPENINGS = ("How do I", "Can you explain how to", "What is the best way to", "Why does it help to", "Please show me how to")
_DEEDS = (
    "mend a bicycle tyre",
    "bake rye bread",
    "read a tide table",
    "sort a list in Python",
    "prune an apple tree",
    "write a short letter",
)
_WORDS = (
    "first you take the old part off and look at it closely because small cracks are easy to miss then clean everything with warm water "
    "wait until it is dry and compare it with the new one if both are alike go on slowly and check each step twice otherwise ask somebody "
    "who has done it before since a wrong choice here costs more time than the whole work def value return 42 for example 3.5 or `x + 1`"
).split()


def make_rows(path: Path, num: int) -> None:
    """Conversations of 2 to 8 turns, replies of 10 to 120 words, a system turn in a third of them."""
    rng = random.Random(0)
    with path.open("w", encoding="utf-8") as file:
        for number in range(num):
            messages = [{"role": "system", "content": "You are a helpful craftsman."}] if number % 3 == 0 else []
            for _ in range(rng.randint(1, 4)):
                question = f"{rng.choice(_OPENINGS)} {rng.choice(_DEEDS)} in {rng.randint(2, 90)} minutes?"
                begin = rng.randrange(len(_WORDS))
                reply = " ".join(_WORDS[(begin + place) % len(_WORDS)] for place in range(rng.randint(10, 120)))
                messages += [{"role": "user", "content": question}, {"role": "assistant", "content": reply.capitalize() + "."}]
            file.write(json.dumps({"messages": messages}) + "\n")


def ours(data: Path, model: str, cache: Path) -> dict[str, Any]:
    """This project."""
    from training_pro.config import DataSettings
    from training_pro.data.prepare import prepare
    from training_pro.train_utils import load_tokenizer

    tokenizer = load_tokenizer(Path(model))
    prepare_imports()
    started, cpu = time.perf_counter(), time.process_time()
    prepared = prepare(DataSettings(dataset=str(data), cutoff=CUTOFF), tokenizer, cache_dir=cache)
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    report = prepared.report
    return {
        "seconds": seconds,
        "cpu": cpu,
        "samples": report.num_samples,
        "tokens": report.num_tokens,
        "trained": report.num_trained_tokens,
    }


def prepare_imports() -> None:
    """The libraries that preparation loads on first use."""
    import datasets  # noqa: F401
    import pyarrow.compute  # noqa: F401


def with_marks(template: str) -> str:
    """A ChatML template with the marks that TRL asks for around replies, which gives the same text.

    Raises:
        ValueError: another template.
    """
    turn = "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
    if turn not in template:
        raise ValueError("only a template of SmolLM2's form can be marked")
    reply = "{{'<|im_start|>assistant\n'}}{% generation %}{{message['content'] + '<|im_end|>'}}{% endgeneration %}{{'\n'}}"
    return template.replace(turn, "{% if message['role'] == 'assistant' %}" + reply + "{% else %}" + turn + "{% endif %}")


def trl(data: Path, model: str, cache: Path, replies_only: bool) -> dict[str, Any]:
    """SFTTrainer's own preparation, with the smallest model that it takes."""
    from datasets import load_dataset
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM
    from trl import SFTConfig, SFTTrainer

    tokenizer = AutoTokenizer.from_pretrained(model)
    if replies_only:
        tokenizer.chat_template = with_marks(tokenizer.chat_template)
    shape = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "num_key_value_heads": 1}
    tiny = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **shape))
    config = SFTConfig(
        output_dir=str(cache / "trl"), max_length=CUTOFF, report_to="none", use_cpu=True, assistant_only_loss=replies_only
    )
    started, cpu = time.perf_counter(), time.process_time()
    rows = load_dataset("json", data_files=str(data), split="train", cache_dir=str(cache / "hf"))
    trainer = SFTTrainer(model=tiny, args=config, train_dataset=rows, processing_class=tokenizer)
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    made = trainer.train_dataset.with_format("arrow")[:]
    import pyarrow.compute as pc

    tokens = pc.sum(pc.list_value_length(made["input_ids"])).as_py()
    labels = pc.list_flatten(made["labels"]) if "labels" in made.column_names else None
    trained = tokens if labels is None else pc.sum(pc.not_equal(labels, -100)).as_py()
    return {"seconds": seconds, "cpu": cpu, "samples": len(trainer.train_dataset), "tokens": tokens, "trained": trained}


def run_side(side: str, options: argparse.Namespace) -> None:
    """One side in this process; the result is its last line."""
    import resource

    data, cache = Path(options.data), Path(options.cache)
    if side == "ours":
        found = ours(data, options.model, cache)
    else:
        found = trl(data, options.model, cache, replies_only=side == "trl replies")
    unit = 2**20 if sys.platform == "darwin" else 2**10
    found["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
    print(json.dumps(found))


def main() -> None:
    """Run all sides in turn and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num", type=int, default=50_000)
    parser.add_argument("--model", default=str(ROOT / ".cache/models/SmolLM2-135M-Instruct"), help="folder with the tokenizer")
    parser.add_argument("--trl", default="", help="Python that has trl")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--side", default="", help=argparse.SUPPRESS)
    parser.add_argument("--data", default="", help=argparse.SUPPRESS)
    parser.add_argument("--cache", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        return run_side(options.side, options)
    sides = {"ours": sys.executable, **({"trl replies": options.trl, "trl default": options.trl} if options.trl else {})}
    print(
        f"{options.num:,} conversations, cutoff {CUTOFF}\n\n| side | s | rows/s | CPU s | tokens | trained | peak MB |\n|---|---|---|---|---|---|---|"
    )
    with tempfile.TemporaryDirectory() as temporary:
        data = Path(temporary, "rows.jsonl")
        make_rows(data, options.num)
        for number in range(options.rounds):
            for side, python in sides.items():
                cache = Path(temporary, f"{side}-{number}".replace(" ", "-"))
                command = [python, __file__, "--side", side, "--data", str(data), "--cache", str(cache), "--model", options.model]
                quiet = {**os.environ, "HF_DATASETS_DISABLE_PROGRESS_BARS": "1", "TRANSFORMERS_VERBOSITY": "error"}
                done = subprocess.run(command, capture_output=True, text=True, env=quiet)
                if done.returncode:
                    print(f"| {side} | failed: {done.stderr.strip().splitlines()[-1][:200]} |")
                    continue
                found = json.loads(done.stdout.strip().splitlines()[-1])
                seconds = found["seconds"]
                print(
                    f"| {side} | {seconds:.1f} | {options.num / seconds:,.0f} | {found['cpu']:.1f} | {found['tokens']:,} | {found['trained']:,} | "
                    f"{found['peak_mb']:.0f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
