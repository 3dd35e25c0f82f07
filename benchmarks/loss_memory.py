"""What the loss costs: peak memory and seconds of a step, from all logits, at trained tokens, and there in chunks.

    python benchmarks/loss_memory.py [--tokens 2048] [--vocabulary 49152] [--trained 0.4] [--head-trained] [--smoothing 0]

A Llama of 4 layers with random weights and a LoRA, one flat row, float32 on the CPU. With --head-trained the head is trained too, by
itself (not tied to the embeddings). Each way runs in a process of its own, since a process cannot forget its peak; what the model itself
takes is subtracted. Seconds are of the process's own CPU time too, which other work on the machine disturbs less.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from watching import Peak

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "import_root"))
HEADS = ("full", "selected", "chunked")


def measure(head: str, options: argparse.Namespace) -> dict[str, float]:
    """One way: MB above the model, and seconds of a step (median of 3, after one)."""
    import numpy as np
    import torch
    from training_pro import train_utils
    from training_pro.training.noise import BatchPlace
    from training_pro.training.step import BatchLoss, Extras, Route
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    sizes: dict[str, Any] = {"hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 4, "num_attention_heads": 9}
    sizes |= {"num_key_value_heads": 3, "vocab_size": options.vocabulary, "max_position_embeddings": options.tokens}
    base = LlamaForCausalLM(LlamaConfig(**sizes, tie_word_embeddings=not options.head_trained))
    model = train_utils.add_lora(base, rank=8, alpha=16, dropout=0.0, targets=["q_proj", "v_proj"])
    base.lm_head.requires_grad_(options.head_trained)
    computer = BatchLoss(model, Route("flat", "segments", head), Extras(label_smoothing=options.smoothing))
    ids = np.random.default_rng(0).integers(0, options.vocabulary, options.tokens)
    lengths = [options.tokens // 4] * 4
    labels = np.where(np.arange(options.tokens) % 100 < 100 * options.trained, ids, -100)
    batch = computer.collator(0)([{"input_ids": ids[: sum(lengths)], "labels": labels[: sum(lengths)], "lengths": lengths}])
    peak, seconds, cpu_seconds = Peak().begin(), [], []
    for _ in range(4):
        begun, cpu_begun = time.perf_counter(), time.process_time()
        with computer.attached():
            loss = computer.training_losses(model, batch, BatchPlace()).objective
            loss.backward()
        seconds.append(time.perf_counter() - begun)
        cpu_seconds.append(time.process_time() - cpu_begun)
        model.zero_grad()
    peak.end()
    found = {"mb": peak.above, "loss": float(loss.detach())}
    return {**found, "seconds": statistics.median(seconds[1:]), "cpu_seconds": statistics.median(cpu_seconds[1:])}


def main() -> None:
    """All ways, each in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=2048)
    parser.add_argument("--vocabulary", type=int, default=49_152)
    parser.add_argument("--trained", type=float, default=0.4)
    parser.add_argument("--head-trained", action="store_true")
    parser.add_argument("--smoothing", type=float, default=0.0)
    parser.add_argument("--head", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.head:
        print(json.dumps(measure(options.head, options)))
        return
    print(f"{options.vocabulary:,} words, one row of {options.tokens:,} tokens, {options.trained:.0%} trained")
    for head in HEADS:
        command = [sys.executable, __file__, *sys.argv[1:], "--head", head]
        done = subprocess.run(command, env=os.environ, capture_output=True, text=True, check=True)
        found = json.loads(done.stdout.splitlines()[-1])
        print(
            f"{head:10}{found['mb']:8.0f} MB above the model {found['seconds']:7.2f} s a step ({found['cpu_seconds']:.2f} s CPU)   "
            f"loss {found['loss']:.4f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
