"""The memory estimate against what torch really allocates in a step, on the CPU.

    python benchmarks/memory.py [--model FOLDER] [--layers 4] [--cases REGEX]

A Llama of SmolLM2-135M's shape (or the model in FOLDER, cut to so many layers; 0 = all) trains two steps with AdamW; torch's profiler
counts every allocation of the second. Compared is what comes on top of the weights and the optimizer's states, at its highest: gradients
and activations. Prints one line a case, and as the last line the worst error.
"""

from __future__ import annotations

import argparse
import re
import sys
import warnings
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "import_root"))

# method, dropout, layout, head, own attention, checkpointing, precision, batch, length, trained share
CASES: list[tuple[Any, ...]] = [
    ("lora", 0.0, "flat", "chunked", "sdpa", False, "float32", 1, 128, 1.0),
    ("lora", 0.0, "flat", "chunked", "sdpa", False, "float32", 8, 256, 0.25),
    ("lora", 0.05, "flat", "chunked", "sdpa", False, "float32", 4, 256, 0.25),
    ("lora q-v", 0.05, "flat", "chunked", "sdpa", False, "float32", 4, 256, 0.25),
    ("lora", 0.05, "flat", "chunked", "sdpa", True, "float32", 4, 1024, 0.1),
    ("lora", 0.0, "flat", "chunked", "eager", False, "float32", 2, 1024, 0.1),
    ("lora", 0.0, "padded", "chunked", "sdpa", False, "float32", 4, 512, 0.1),
    ("lora", 0.0, "padded", "chunked", "eager", False, "float32", 4, 512, 0.1),
    ("lora", 0.0, "padded", "chunked", "eager", True, "float32", 2, 1024, 0.1),
    ("lora", 0.0, "flat", "selected", "sdpa", False, "float32", 4, 256, 0.4),
    ("lora", 0.0, "padded", "full", "sdpa", False, "float32", 4, 128, 0.4),
    ("lora", 0.0, "flat", "chunked", "sdpa", False, "bfloat16", 2, 512, 0.1),
    ("lora", 0.05, "flat", "chunked", "sdpa", True, "bfloat16", 2, 512, 0.1),
    ("full", 0.0, "flat", "chunked", "sdpa", False, "float32", 1, 128, 1.0),
    ("full", 0.0, "flat", "chunked", "sdpa", False, "float32", 8, 512, 0.1),
    ("full", 0.0, "flat", "chunked", "sdpa", True, "float32", 4, 1024, 0.1),
    ("full", 0.0, "flat", "chunked", "sdpa", False, "bfloat16", 2, 512, 0.1),
]
RANK = 8


def make_model(folder: str, layers: int, attention: str, dtype: str) -> Any:
    """The model, cut to so many layers."""
    import torch
    from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

    how: dict[str, Any] = {"attn_implementation": attention}
    if folder:
        model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype), local_files_only=True, **how)
        if layers:
            model.model.layers = model.model.layers[:layers]
            model.config.num_hidden_layers = layers
    else:
        sizes: dict[str, Any] = {
            "hidden_size": 576,
            "intermediate_size": 1536,
            "num_attention_heads": 9,
            "num_key_value_heads": 3,
        }
        sizes |= {"num_hidden_layers": layers or 30, "vocab_size": 49_152, "max_position_embeddings": 8192}
        config = LlamaConfig(**sizes, tie_word_embeddings=True)
        model = AutoModelForCausalLM.from_config(config, **how).to(getattr(torch, dtype))
        assert isinstance(model, LlamaForCausalLM)
    model.config.use_cache = False
    return model


def highest(action: Any) -> int:
    """Bytes above those before it at the highest point of an action."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        action()
    live = peak = 0
    for event in profiler.profiler.kineto_results.events():  # type: ignore[union-attr]
        if event.name() == "[memory]":
            live += event.nbytes()
            peak = max(peak, live)
    return peak


def run_case(case: tuple[Any, ...], options: argparse.Namespace) -> tuple[int, int]:
    """Bytes that were measured and estimated."""
    import numpy as np
    import torch
    from training_pro import train_utils
    from training_pro.evaluation.memory import Learning, Work, estimate_memory
    from training_pro.training.step import BatchLoss, Route

    method, dropout, layout, head, attention, checkpointing, precision, batch, length, share = case
    is_full, torch_seed = method == "full", 0
    torch.manual_seed(torch_seed)
    model = make_model(options.model, options.layers, attention, "float32" if is_full else precision)
    names = tuple(path for path, module in model.named_modules() if isinstance(module, torch.nn.Linear) and "layers" in path)
    names = tuple(name for name in names if "q-v" not in method or name.endswith(("q_proj", "v_proj")))
    work = Work((length,) * batch, share, layout, head, checkpointing, precision)
    fitted = model if is_full else train_utils.add_lora(model, rank=RANK, alpha=16, dropout=dropout, targets=list(names))
    trained = [weight for weight in fitted.parameters() if weight.requires_grad]
    learning = Learning(
        sum(weight.numel() for weight in trained),
        () if is_full else names,
        everything=is_full,
        dropout=dropout,
        head=is_full,
        embeddings=is_full,
        weight_bytes=0,
    )
    parts = estimate_memory(model, learning, work)
    fitted.train()
    if checkpointing:
        fitted.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    computer = BatchLoss(fitted, Route(layout, "segments" if layout == "flat" else "", head))
    ids = np.random.default_rng(0).integers(3, 49_000, (batch, length))
    labels = np.where(np.arange(length) < share * length, ids, -100)
    entries = [{"input_ids": ids[row], "labels": labels[row], "lengths": [length]} for row in range(batch)]
    made, optimizer = computer.collator(0)(entries), torch.optim.AdamW(trained, lr=1e-5)

    def step() -> None:
        with computer.attached():
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
                loss = computer.loss_sum(fitted, made)
            loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    step()
    return highest(step), parts["gradients"] + parts["activations"]


def main() -> None:
    """All cases."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="")
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--cases", default="")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    errors = []
    for case in CASES:
        words = " ".join(map(str, case))
        if re.search(options.cases, words):
            measured, estimated = run_case(case, options)
            errors.append(abs(estimated / measured - 1))
            print(
                f"{words:70}{measured / 1e6:9.1f} MB{estimated / 1e6:9.1f} MB estimated {estimated / measured - 1:+7.1%}",
                flush=True,
            )
    print(f"worst error {max(errors):.1%} of {len(errors)} cases")


if __name__ == "__main__":
    main()
