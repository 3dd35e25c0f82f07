"""What check_gpu.py measures; every function works on any device that torch has, so that it can be tried without a GPU."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from training_pro.data.packing import pack
from training_pro.training.routes import Trial, choose_route
from training_pro.training.segments import Rules, Segments, attend, usable_kernels
from training_pro.training.step import BatchLoss, Route

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
IGNORE = -100
TIMINGS = ("padded", "flat", "flat, segments", "packed", "packed, masked", "packed, full logits")


def facts() -> dict[str, Any]:
    """Versions and device."""
    import transformers

    name = torch.cuda.get_device_name() if DEVICE.type == "cuda" else "cpu"
    return {"torch": torch.__version__, "transformers": transformers.__version__, "device": name}


def kernels_for(dtype: str) -> list[str]:
    """Kernels that may be used here."""
    return usable_kernels(DEVICE, getattr(torch, dtype))


def error(got: torch.Tensor, wanted: torch.Tensor) -> float:
    """Length of the difference by that of what is wanted."""
    return float((got.double() - wanted.double()).norm() / wanted.double().norm().clamp_min(1e-30))


def kernel_errors(kernel: str, dtype: str, window: int | None, scale: float | None) -> list[float]:
    """Of output and gradients, against one segment after the other in float64; grouped heads."""
    generator = torch.Generator().manual_seed(0)
    segments = Segments((5, 130, 1, 64, 37, 300))
    made = [torch.randn(segments.total, heads, 64, generator=generator) for heads in (6, 2, 2, 6)]
    rounded = [entry.to(getattr(torch, dtype)) for entry in made]

    def run(name: str, tensors: list[torch.Tensor]) -> list[torch.Tensor]:
        q, k, v, above = (entry.to(DEVICE).detach().requires_grad_() for entry in tensors)
        out = attend(name, q, k, v, segments, Rules(scale=scale, window=window))
        out.backward(above)
        assert q.grad is not None
        assert k.grad is not None
        assert v.grad is not None
        return [out.detach(), q.grad, k.grad, v.grad]

    wanted = run("segments", [entry.double() for entry in rounded])
    return [error(got, want) for got, want in zip(run(kernel, rounded), wanted, strict=True)]


# --- models --------------------------------------------------------------------------------------------------------------------

_SIZES = {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 3, "num_attention_heads": 4, "vocab_size": 1000}
_MORE = {"num_key_value_heads": 2, "max_position_embeddings": 1024, "pad_token_id": 0, "head_dim": 32}
# name -> class, changes of the config, attention that it is loaded with
MODELS: dict[str, tuple[str, dict[str, Any], str]] = {
    "llama": ("Llama", {}, "sdpa"),
    "llama eager": ("Llama", {}, "eager"),
    "mistral, window 48": ("Mistral", {"sliding_window": 48}, "sdpa"),
    "qwen2": ("Qwen2", {}, "sdpa"),
    "qwen3": ("Qwen3", {}, "sdpa"),
    "gemma2, soft-capping": ("Gemma2", {"sliding_window": 48, "query_pre_attn_scalar": 32}, "eager"),
    "gemma3, window 48": ("Gemma3", {"sliding_window": 48, "query_pre_attn_scalar": 32}, "sdpa"),
    "gpt2": ("GPT2", {}, "sdpa"),
}


def make_model(kind: str, changes: dict[str, Any], own: str, dtype: str) -> Any:
    """A small model with random weights, on the device."""
    import transformers

    sizes = {**_SIZES, **_MORE, **changes}
    if kind == "GPT2":
        sizes = {"n_embd": 128, "n_layer": 3, "n_head": 4, "vocab_size": 1000, "n_positions": 1024}
        sizes |= {"attn_pdrop": 0.0, "embd_pdrop": 0.0, "resid_pdrop": 0.0}
    name = f"{kind}Text" if kind == "Gemma3" else kind
    config = getattr(transformers, f"{name}Config")(**sizes)
    config._attn_implementation = own
    torch.manual_seed(0)
    made = getattr(transformers, "GPT2LMHeadModel" if kind == "GPT2" else f"{kind}ForCausalLM")._from_config(config)
    return made.to(DEVICE, getattr(torch, dtype)).eval()


def samples(lengths: list[int], vocabulary: int = 1000, share: float = 0.4) -> list[dict[str, Any]]:
    """Random samples whose end is trained."""
    rng = np.random.default_rng(0)
    found = []
    for length in lengths:
        ids = rng.integers(1, vocabulary, length)
        labels = np.where(np.arange(length) >= length * (1 - share), ids, IGNORE)
        labels[0] = IGNORE
        found.append({"input_ids": ids, "labels": labels, "lengths": [length]})
    return found


def to_device(batch: dict[str, Any]) -> dict[str, Any]:
    """A collator's batch on the device."""
    return {name: value.to(DEVICE) if isinstance(value, torch.Tensor) else value for name, value in batch.items()}


def gradient(model: Any) -> torch.Tensor:
    """All gradients in one row, which are then forgotten."""
    found = torch.cat([weight.grad.double().flatten() for weight in model.parameters() if weight.grad is not None])
    model.zero_grad()
    return found


def alone(model: Any, rows: list[dict[str, Any]]) -> tuple[float, torch.Tensor]:
    """Loss and gradient of every sample by itself, in float32, with the model's own attention and all logits."""
    total = 0.0
    for row in rows:
        ids, labels = (torch.as_tensor(row[name])[None].to(DEVICE) for name in ("input_ids", "labels"))
        logits = model(input_ids=ids).logits.float()
        loss = torch.nn.functional.cross_entropy(logits[0, :-1], labels[0, 1:], ignore_index=IGNORE, reduction="sum")
        loss.backward()
        total += float(loss.detach())
    return total, gradient(model)


def model_errors(name: str, dtype: str, own: str = "", layout: str = "auto") -> dict[str, Any]:
    """Route, and errors of loss and gradient of a batch against every sample alone in float32."""
    kind, changes, loaded = MODELS[name]
    rows = samples([17, 130, 64, 5, 90])
    loss, wanted = alone(make_model(kind, changes, "eager" if own else loaded, "float32"), rows)
    model = make_model(kind, changes, own or loaded, dtype)
    pieces = [{"input_ids": row["input_ids"], "labels": row["labels"]} for row in (rows[1], rows[0], rows[2])]
    route = choose_route(Trial(model, pieces, 0, dtype if dtype != "float32" else "float32"), layout)
    found: dict[str, Any] = {"route": f"{route.layout} {route.kernel} {route.head} {' '.join(route.reasons)}".strip()}
    for words, chosen in (("", route), ("padded_", Route("padded", "", route.head))):
        computer = BatchLoss(model, chosen)
        if own and words:
            found["padded_gradient"] = 0.0
            continue
        with computer.attached():
            got = computer.loss_sum(model, to_device(computer.collator(0)(rows)))
            got.backward()
        found[f"{words}gradient"] = error(gradient(model), wanted)
        found[f"{words}loss"] = abs(float(got.detach()) - loss) / loss
    found["neighbours"] = 0.0 if own else _neighbours(model, route, rows)
    return found


def _neighbours(model: Any, route: Route, rows: list[dict[str, Any]]) -> float:
    """How far a changed sample changes the logits of those after it."""
    computer = BatchLoss(model, route)
    changed = [*rows[:1], {**rows[1], "input_ids": rows[1]["input_ids"][::-1].copy()}, *rows[2:]]
    begin = sum(int((row["labels"][1:] != IGNORE).sum()) for row in rows[:2])
    with torch.no_grad(), computer.attached():
        first, second = (computer.logits(model, to_device(computer.collator(0)(entry)))[begin:] for entry in (rows, changed))
    assert len(first)
    return float((first - second).abs().max())


# --- figures -------------------------------------------------------------------------------------------------------------------


def smol(trained: bool = True) -> Any:
    """SmolLM2-135M's shape with random bfloat16 weights and a LoRA on all linear layers."""
    from training_pro import train_utils
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9}
    more = {"num_key_value_heads": 3, "vocab_size": 49_152, "max_position_embeddings": 8192, "tie_word_embeddings": True}
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**sizes, **more)).to(DEVICE, torch.bfloat16)
    model.config.use_cache = False
    targets = list(train_utils.choose_targets(model, ["all-linear"]).modules)
    return train_utils.add_lora(model, rank=16, alpha=32, dropout=0.0, targets=targets).train()


def _autocast() -> Any:
    return torch.autocast("cuda", torch.bfloat16) if DEVICE.type == "cuda" else nullcontext()


def head_memory(head: str, tokens: int) -> float:
    """Peak of one forward and backward pass, in MB above the model."""
    model = smol()
    computer = BatchLoss(model, Route("flat", kernels_for("bfloat16")[0], head))
    batch = to_device(computer.collator(0)(samples([tokens // 4] * 4, 49_152)))
    peak = 0.0
    with computer.attached():
        for _ in range(2):
            if DEVICE.type == "cuda":
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated() if DEVICE.type == "cuda" else 0
            with _autocast():
                loss = computer.loss_sum(model, batch)
            loss.backward()
            peak = (torch.cuda.max_memory_allocated() - before) / 1e6 if DEVICE.type == "cuda" else 0.0
            del loss
            model.zero_grad()
    return peak


def timing_batches(name: str, num: int, capacity: int = 2048, batch_size: int = 8) -> Iterator[list[dict[str, Any]]]:
    """Batches of the same lognormal samples: 8 samples, or 8 packs."""
    rng = np.random.default_rng(0)
    lengths = np.clip(rng.lognormal(5.6, 0.8, 40 * num * batch_size), 16, capacity).astype(int).tolist()
    groups = (
        pack("best_fit", lengths, capacity).packs if name.startswith("packed") else [[index] for index in range(len(lengths))]
    )
    order = rng.permutation(len(groups))
    for start in range(0, num * batch_size, batch_size):
        rows = []
        for entry in order[start : start + batch_size]:
            parts = samples([lengths[index] for index in groups[entry]], 49_152)
            joined = {key: np.concatenate([part[key] for part in parts]) for key in ("input_ids", "labels")}
            rows.append({**joined, "lengths": [len(part["input_ids"]) for part in parts]})
        yield rows


def tokens_per_second(name: str, steps: int) -> tuple[float, float, float]:
    """Trained tokens per second (median step), share of computed tokens that are no padding, peak memory in MB."""
    model = smol()
    kernel = "segments" if "segments" in name else kernels_for("bfloat16")[0]
    head = "full" if "full" in name else "chunked"
    layout = "padded" if name == "padded" else "masked" if "masked" in name else "flat"
    computer = BatchLoss(model, Route(layout, kernel if layout == "flat" else "", head))
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=1e-4)
    collator = computer.collator(0)
    batches = [collator(rows) for rows in timing_batches(name, steps + 3)]
    fill = sum(batch["num_tokens"] for batch in batches) / sum(batch["input_ids"].numel() for batch in batches)
    rates = []
    if DEVICE.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    with computer.attached():
        for number, batch in enumerate(batches):
            _wait()
            begun = time.perf_counter()
            with _autocast():
                loss = computer.loss_sum(model, to_device(batch)) / len(batch["targets"])
            loss.backward()
            torch.nn.utils.clip_grad_norm_(weights, 1.0)
            optimizer.step()
            optimizer.zero_grad()
            _wait()
            if number >= 3:
                rates.append(len(batch["targets"]) / (time.perf_counter() - begun))
    peak = torch.cuda.max_memory_allocated() / 1e6 if DEVICE.type == "cuda" else 0.0
    return statistics.median(rates), fill, peak


def _wait() -> None:
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


# --- whole runs ----------------------------------------------------------------------------------------------------------------


def whole_runs(folder: Path) -> Iterator[tuple[str, Any, bool]]:
    """Runs of the extension on this device, float32 without dropout: every route's losses, and what the model gives afterwards."""
    import tiny
    import trials

    model = tiny.model().to(DEVICE)
    ids = torch.arange(3, 43, device=DEVICE)[None]
    with torch.no_grad():
        before = model(input_ids=ids).logits.clone()
    losses: dict[str, list[float]] = {}
    routes = {"float32": ("padded", "flat", "masked"), "bfloat16": ("padded", "auto")}
    for precision, names in routes.items():
        for route in names:
            batching = {"true_batch_size": 2, "packing": "best_fit", "route": route}
            config = trials.settings(
                folder,
                adapter={"name": f"{route}-{precision}", "dropout": 0.0},
                batching=batching,
                data={"cutoff": 96, "eval_share": 0.1},
                training={"precision": precision, "max_grad_norm": 0},
            )
            outcome, events = trials.run(config, model)
            words = next((text for text in events.texts().splitlines() if text.startswith("Batches")), "")
            yield f"run {route} {precision}: {words[:90]}", outcome.message[:60], outcome.status == "finished"
            losses[f"{route} {precision}"] = [step["loss"] for step in events.all("step")]
    for route in ("flat", "masked"):
        worst = max(abs(a - b) for a, b in zip(losses[f"{route} float32"], losses["padded float32"], strict=True))
        yield f"run {route} float32 against padded: losses", worst, worst < 2e-4
    worst = max(abs(a - b) for a, b in zip(losses["auto bfloat16"], losses["padded bfloat16"], strict=True))
    yield "run auto bfloat16 against padded: losses", worst, worst < 5e-2
    with torch.no_grad():
        after = model(input_ids=ids).logits
    yield "the model comes back, to the last bit", float((after - before).abs().max()), bool(torch.equal(after, before))
