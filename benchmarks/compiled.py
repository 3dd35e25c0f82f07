"""Whether torch.compile pays for the layers of a model: seconds of a step with and without, first step, number of graphs.

    python benchmarks/compiled.py [--layers 4] [--steps 6] [--whole]

A Llama of SmolLM2-135M's shape with a LoRA; flat rows of four samples whose lengths differ from batch to batch. Each decoder layer's forward
is compiled for sizes that change, attention left out of the graph (its cuts differ with every batch); --whole leaves it in. Plain and
compiled take turns in one process, on the same batches.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "import_root"))


def make_model(layers: int, device: str) -> Any:
    """A model with an adapter, in training mode."""
    import torch
    from training_pro import train_utils
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    sizes: dict[str, Any] = {"hidden_size": 576, "intermediate_size": 1536, "num_attention_heads": 9, "num_key_value_heads": 3}
    sizes |= {"num_hidden_layers": layers, "vocab_size": 8192, "max_position_embeddings": 2048, "tie_word_embeddings": True}
    base = LlamaForCausalLM(LlamaConfig(**sizes)).to(device)  # type: ignore[arg-type]
    return train_utils.add_lora(base, rank=8, alpha=16, dropout=0.0, targets=["q_proj", "v_proj"]).train()


def main() -> None:
    """Steps in turns."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--whole", action="store_true")
    options = parser.parse_args()
    import numpy as np
    import torch
    from torch._dynamo.utils import counters
    from training_pro.train_utils import best_device
    from training_pro.training.attention import SegmentAttention
    from training_pro.training.segments import usable_kernels
    from training_pro.training.step import BatchLoss, Route

    device = best_device()
    if not options.whole:
        SegmentAttention._attend = torch.compiler.disable(SegmentAttention._attend)  # type: ignore[method-assign]
    kernel = usable_kernels(torch.device(device), torch.bfloat16 if device == "cuda" else torch.float32)[0]
    models = {"plain": make_model(options.layers, device), "compiled": make_model(options.layers, device)}
    for layer in models["compiled"].get_base_model().model.layers:
        layer.forward = torch.compile(layer.forward, dynamic=True)
    computers = {name: BatchLoss(model, Route("flat", kernel, "chunked")) for name, model in models.items()}
    rng = np.random.default_rng(0)
    seconds: dict[str, list[float]] = {name: [] for name in models}
    worst = 0.0
    for _ in range(options.steps + 2):
        ids = [rng.integers(3, 8000, int(np.clip(rng.lognormal(4.5, 0.7), 16, 512))) for _ in range(4)]
        rows = [{"input_ids": part, "labels": part, "lengths": [len(part)]} for part in ids]
        losses = []
        for name, model in models.items():
            batch = {
                key: value.to(device) if hasattr(value, "to") else value
                for key, value in computers[name].collator(0)(rows).items()
            }
            begun = time.process_time() if device == "cpu" else time.perf_counter()
            with computers[name].attached():
                with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
                    loss = computers[name].loss_sum(model, batch)
                loss.backward()
            losses.append(float(loss.detach()))
            seconds[name].append((time.process_time() if device == "cpu" else time.perf_counter()) - begun)
        worst = max(worst, abs(losses[1] / losses[0] - 1))
    for name, found in seconds.items():
        print(
            f"{name:10} first step {found[0]:7.2f} s, then {statistics.median(found[2:]):.3f} s a step (median, CPU time on a CPU)"
        )
    ratio = statistics.median(a / b for a, b in zip(seconds["plain"][2:], seconds["compiled"][2:], strict=True))
    print(f"compiled is {ratio:.2f} times as fast; {counters['stats']['unique_graphs']} graphs; losses differ by {worst:.1e}")


if __name__ == "__main__":
    main()
