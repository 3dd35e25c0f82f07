"""What SIFT takes of memory: gradients, optimizer state and peak by rate, beside full fine-tuning and LoRA.

    python benchmarks/sift.py [--hidden 512] [--layers 8] [--tokens 64] [--dtype float32]

A Llama with random weights on the CPU, AdamW, few tokens so that weights and not activations decide. Each way runs in a process of its
own, since a process cannot forget its peak. Counted are the bytes of the tensors themselves after a step, and what the process had at
its most above the loaded model: while SIFT chooses, and over the steps.
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

from watching import MEGA, Peak

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "import_root"))
WAYS = ("full", "lora 16", "sift 0.2", "sift 0.1", "sift 0.05", "sift 0.01")


def make_model(options: argparse.Namespace) -> Any:
    """The base."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    sizes: dict[str, Any] = {"hidden_size": options.hidden, "intermediate_size": 4 * options.hidden, "vocab_size": 2000}
    sizes |= {"num_hidden_layers": options.layers, "num_attention_heads": 8, "max_position_embeddings": 4096}
    return LlamaForCausalLM(LlamaConfig(**sizes)).to(getattr(torch, options.dtype)).train()


def fit(way: str, model: Any, backward: Any) -> tuple[Any, list[Any]]:
    """Make a model trainable; it, and the tensors that the method keeps beside the trained ones."""
    from training_pro import train_utils
    from training_pro.adapting.sift import fit_sift
    from training_pro.adapting.targets import choose_targets
    from training_pro.adapting.wish import Wish

    method, _, number = way.partition(" ")
    if method == "full":
        return model, []
    targets = choose_targets(model, ["all-linear"])
    if method == "lora":
        return train_utils.fit(model, Wish("lora", targets, rank=int(number), alpha=2 * int(number))).model, []
    fitted = fit_sift(model, Wish("sift", targets, sift_rate=float(number)))
    assert fitted.choose is not None
    fitted.choose(backward, False)
    sparse: Any = fitted.undo.__self__  # type: ignore[attr-defined]
    return model, [tensor for weight in sparse.weights for tensor in (weight.indices, weight.originals)]


def num_bytes(tensors: Any) -> float:
    """MB of tensors."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors if tensor is not None) / MEGA


def measure(way: str, options: argparse.Namespace) -> dict[str, float]:
    """One way: MB by part and at most, seconds of a step (median of 3, after one)."""
    import peft  # noqa: F401  (its code is not LoRA's memory)
    import torch

    model = make_model(options)
    tokens = torch.randint(0, 2000, (1, options.tokens), generator=torch.Generator().manual_seed(1))

    def backward(scale: float) -> None:
        (model(input_ids=tokens, labels=tokens, use_cache=False).loss * scale).backward()

    with torch.no_grad():  # what the first forward pass loads is not the method's
        model(input_ids=tokens, labels=tokens, use_cache=False)
    peak = Peak().begin()
    trainable, beside = fit(way, model, backward)
    choosing = peak.above
    peak.restart()
    trained = [parameter for parameter in trainable.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=2e-4)
    seconds = []
    for _ in range(4):
        started = time.perf_counter()
        trainable(input_ids=tokens, labels=tokens, use_cache=False).loss.backward()
        optimizer.step()
        gradients = num_bytes(parameter.grad for parameter in trained)
        optimizer.zero_grad()
        seconds.append(time.perf_counter() - started)
    steps = peak.above
    peak.end()
    moments = [entry for state in optimizer.state.values() for entry in state.values() if torch.is_tensor(entry)]
    return {
        "trained": sum(parameter.numel() for parameter in trained) / MEGA,
        "gradients": gradients,
        "optimizer": num_bytes(moments),
        "beside": num_bytes(beside) + (0.0 if way == "full" else num_bytes(trained)),
        "choosing": choosing,
        "steps": steps,
        "seconds": statistics.median(seconds[1:]),
    }


def main() -> None:
    """Run all ways and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hidden", type=int, default=512)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--way", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way:
        print(json.dumps(measure(options.way, options)))
        return
    whole = sum(parameter.numel() for parameter in make_model(options).parameters())
    print(f"{whole / MEGA:.1f} million weights in {options.dtype}; MB but for trained (million) and seconds of a step")
    columns = ("trained", "gradients", "optimizer", "beside", "choosing", "steps", "seconds")
    print(f"{'':10}" + "".join(f"{name:>11}" for name in columns))
    for way in WAYS:
        command = [sys.executable, *sys.argv, "--way", way]
        done = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        figures = json.loads(done.stdout.splitlines()[-1])
        print(f"{way:10}" + "".join(f"{figures[name]:11.2f}" for name in columns), flush=True)


if __name__ == "__main__":
    main()
