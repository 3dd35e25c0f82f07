"""Training speed and memory on conversations: this project's trainer beside TRL's SFTTrainer and a bare loop, in one run.

    python benchmarks/chat.py [--trl PYTHON] [--rounds 3] [--samples 80] [--vocab 8000] [--device cpu] [--sides "ours packed" "TRL bfd"]

All is made on the spot: a Llama of 6 layers x 256 with random weights, a tokenizer of ``--vocab`` whole words, and conversations of one
exchange with lognormal lengths up to 512 tokens, of which ``--trained`` are the reply's. One word is one token, so both sides read the
same file through their own preparation and must come to the same tokens, which is checked. The same on both sides: LoRA (rank 8, q and
v), AdamW, clipping, no gradient checkpointing, True Batch Size (samples, or packs of 512), float32 on a CPU (``--threads`` of them) and
bfloat16 on a GPU. ``--trl`` names a Python that has trl beside what this project needs; its other settings are TRL's defaults.

Each side runs in a process of its own; rounds go over all sides, every other round backwards, and medians count. Tokens per second from
the end of the first step to the end of the last; padding is not counted as tokens. Tokens per CPU second (of all threads) say more where
the machine is shared, best with ``--threads 1``: threads that wait for each other burn CPU time too. The learning rate is next to 0, so
the weights stay and the mean loss over the epoch must be the same on every side whatever its order: that too is checked, and shows
samples that see each other. ``bound`` is a bare loop over full rows of 512 tokens without masks; ``bound, trained`` computes the logits
at trained tokens only. Packs of shorter samples can be above both, since attention within a short sample costs less than along 512
tokens. ``MB`` is the highest memory during training above what stood before it (for this project the trial of its routes is within; on a
GPU of the allocator), ``peak MB`` that of the whole process. ``ours packed, full`` has the logits of all tokens, for the memory.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from watching import Peak

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "import_root"))

CUTOFF, SHORTEST, BATCH_SIZE, RANK, SEED = 512, 16, 4, 8, 7
RATE = 1e-12  # see above; AdamW moves a weight by at most this much in a step
LOSS_BOUND = {"cpu": 1e-5, "cuda": 1e-2}
TEMPLATE = (
    "{% for message in messages %}{% if message['role'] == 'assistant' %}<|assistant|> "
    "{% generation %}{{ message['content'] + ' <|end|>' }}{% endgeneration %}{{ ' ' }}"
    "{% else %}<|user|> {{ message['content'] + ' <|end|> ' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|> {% endif %}"
)
SPECIAL = ("<pad>", "<unk>", "<|end|>", "<|user|>", "<|assistant|>")
OURS = {
    "ours padded": {"route": "padded"},
    "ours flat": {},
    "ours packed": {"packing": "best_fit"},
    "ours packed, full": {"packing": "best_fit"},
}
TRL = {
    "TRL padded": {"max_length": CUTOFF},
    "TRL padding_free": {"padding_free": True, "max_length": None},
    "TRL bfd": {"packing": True, "packing_strategy": "bfd", "max_length": CUTOFF},
}
BOUNDS = ("bound", "bound, trained")
RATIOS = (
    ("ours packed", "TRL bfd"),
    ("ours flat", "TRL padding_free"),
    ("ours padded", "TRL padded"),
    ("ours packed", "bound"),
    ("ours packed", "bound, trained"),
)


# --- what is trained -----------------------------------------------------------------------------------------------------------


def make_rows(options: argparse.Namespace) -> list[tuple[int, int]]:
    """(tokens, trained tokens) of each conversation; two of the tokens before the reply open a turn and one ends it."""
    import numpy as np

    drawn = np.random.default_rng(SEED).lognormal(5.0, 0.8, options.samples)
    lengths = drawn.round().astype(int).clip(SHORTEST, CUTOFF).tolist()
    return [(length, max(2, min(length - 4, round(options.trained * length)))) for length in lengths]


def write_data(folder: Path, options: argparse.Namespace) -> None:
    """The conversations as a JSONL file."""
    import numpy as np

    words, lines = np.random.default_rng(SEED + 1), []

    def text(num: int) -> str:
        return " ".join(f"w{number}" for number in words.integers(0, options.vocab - len(SPECIAL), num))

    for length, trained in make_rows(options):
        question, reply = text(length - trained - 3), text(trained - 1)
        lines.append({"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": reply}]})
    (folder / "data.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")


def write_model(folder: Path, options: argparse.Namespace) -> None:
    """Model and tokenizer as a model folder."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from training_pro.train_utils import quiet_progress
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    names = [*SPECIAL, *(f"w{number}" for number in range(options.vocab - len(SPECIAL)))]
    words = Tokenizer(models.WordLevel({name: place for place, name in enumerate(names)}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", unk_token="<unk>", eos_token="<|end|>", extra_special_tokens=list(SPECIAL[3:])
    )
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    torch.manual_seed(SEED)
    sizes = {"hidden_size": 256, "intermediate_size": 688, "num_hidden_layers": 6, "num_attention_heads": 8}
    ends = {"pad_token_id": 0, "eos_token_id": 2, "bos_token_id": None}
    # with transformers' own 0.02 attention hardly matters, and a sample that sees its neighbour would not show in the loss
    config = LlamaConfig(vocab_size=options.vocab, max_position_embeddings=CUTOFF, initializer_range=0.1, **sizes, **ends)
    with quiet_progress():
        LlamaForCausalLM(config).to(torch.float32 if options.device == "cpu" else torch.bfloat16).save_pretrained(folder)


# --- measuring -----------------------------------------------------------------------------------------------------------------


class Meter:
    """Takes the steps of a run and tells tokens per second and memory."""

    def __init__(self, device: str) -> None:
        import torch

        self._cuda = torch.cuda if device == "cuda" else None
        self._steps: list[tuple[float, float, int, int, float]] = []
        self._peak: Peak | None = None
        self._allocated = 0

    def begin(self) -> None:
        """The model stands, the data are prepared: what is taken from now on is the training's."""
        self._peak = Peak().begin()
        if self._cuda:
            self._cuda.reset_peak_memory_stats()
            self._allocated = self._cuda.memory_allocated()

    def step(self, tokens: int, trained: int, loss: float) -> None:
        """An optimizer step has ended; its loss is the mean over its trained tokens."""
        if self._cuda:
            self._cuda.synchronize()
        self._steps.append((time.perf_counter(), time.process_time(), tokens, trained, loss))

    def result(self) -> dict[str, Any]:
        """All figures."""
        assert self._peak is not None
        self._peak.end()
        if len(self._steps) < 2:
            raise RuntimeError("the first step is left out, and there was no other: set --samples higher, 16 or more")
        times, cpu, tokens, trained, losses = zip(*self._steps, strict=True)
        seconds = times[-1] - times[0]
        above, peak = self._peak.highest - self._peak.before, self._peak.highest
        if self._cuda:
            peak = self._cuda.max_memory_allocated()
            above = peak - self._allocated
        return {
            "tokens_s": sum(tokens[1:]) / seconds,
            "trained_s": sum(trained[1:]) / seconds,
            "tokens_cpu_s": sum(tokens[1:]) / (cpu[-1] - cpu[0]),
            "steps": len(times),
            "tokens": sum(tokens),
            "trained": sum(trained),
            "loss": sum(loss * num for loss, num in zip(losses, trained, strict=True)) / sum(trained),
            "above_mb": above / 1e6,
            "peak_mb": peak / 1e6,
        }


# --- the sides -----------------------------------------------------------------------------------------------------------------


def ours(side: str, folder: Path, meter: Meter) -> str:
    """This project's trainer, as its commands run it."""
    from training_pro.config import RunConfig
    from training_pro.hosts.local import load_model
    from training_pro.training import routes
    from training_pro.training.job import run_job

    settings = {
        "model": {"path": str(folder)},
        "adapter": {"name": "chat", "if_exists": "replace", "rank": RANK, "alpha": 2 * RANK, "dropout": 0.0, "targets": ["q-v"]},
        "data": {"dataset": str(folder / "data.jsonl"), "cutoff": CUTOFF},
        "batching": {"true_batch_size": BATCH_SIZE, **OURS[side]},
        "training": {"epochs": 1, "schedule": "constant", "learning_rate": RATE},
        "checkpoints": {"save_every_epoch": False},
        "run": {"adapters_dir": str(folder / f"adapters-{os.getpid()}")},
    }
    if side.endswith("full"):  # no setting asks for it, since it is never better
        routes._choose_head = lambda trial: (routes.FULL, [])
    said: list[str] = []

    def listen(event: str, **fields: Any) -> None:
        if event == "stage" and fields.get("detail") == "setting up the adapter":
            meter.begin()
        elif event == "message" and fields["text"].startswith("Batches:"):
            said.append(fields["text"])
        elif event == "step":
            meter.step(fields["tokens"], fields["trained_tokens"], fields["loss"])

    config = RunConfig.from_dict(settings)
    outcome = run_job(config, lambda: load_model(config), listener=listen)
    if outcome.status != "finished":
        raise RuntimeError(outcome.message)
    return " ".join(said)


def trl(side: str, folder: Path, meter: Meter, device: str) -> str:
    """TRL's trainer with the same choices."""
    import torch
    import trl as package
    from datasets import load_dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback

    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    counted = [0, 0, 0.0]

    class Counting(package.SFTTrainer):  # type: ignore[misc]
        def training_step(self, model: Any, inputs: Any, *more: Any, **named: Any) -> Any:
            mask = inputs.get("attention_mask")
            counted[0] = int(inputs["input_ids"].numel() if mask is None else mask.sum())
            counted[1] = int((inputs["labels"] != -100).sum())
            loss = super().training_step(model, inputs, *more, **named)
            counted[2] = float(loss)
            return loss

    class Steps(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            meter.step(*counted)

    shared: dict[str, Any] = {"per_device_train_batch_size": BATCH_SIZE, "num_train_epochs": 1, "learning_rate": RATE}
    shared |= {"lr_scheduler_type": "constant", "optim": "adamw_torch", "weight_decay": 0.0, "max_grad_norm": 1.0}
    config = package.SFTConfig(
        output_dir=str(folder / f"trl-{os.getpid()}"),
        assistant_only_loss=True,
        gradient_checkpointing=False,
        bf16=device != "cpu",
        use_cpu=device == "cpu",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        **shared,
        **TRL[side],
    )
    trainer = Counting(
        model=AutoModelForCausalLM.from_pretrained(folder, dtype=dtype),
        args=config,
        train_dataset=load_dataset("json", data_files=str(folder / "data.jsonl"), split="train", cache_dir=str(folder / "hf")),
        processing_class=AutoTokenizer.from_pretrained(folder),
        peft_config=LoraConfig(r=RANK, lora_alpha=2 * RANK, lora_dropout=0.0, target_modules=["q_proj", "v_proj"]),
        callbacks=[Steps()],
    )
    meter.begin()
    trainer.train()
    return f"trl {package.__version__}"


def bound(side: str, folder: Path, meter: Meter, options: argparse.Namespace) -> str:
    """A bare loop over rows of equal length: no padding, no borders, no mask."""
    import torch
    from training_pro import train_utils
    from training_pro.train_utils import load_base_model

    base = load_base_model(folder)[0]
    model = train_utils.add_lora(base, rank=RANK, alpha=2 * RANK, dropout=0.0, targets=["q_proj", "v_proj"])
    model.train()
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=RATE, weight_decay=0.0)
    rows = make_rows(options)
    num_steps = max(2, math.ceil(sum(length for length, _ in rows) / CUTOFF / BATCH_SIZE))
    generator = torch.Generator().manual_seed(SEED)
    drawn = torch.randint(len(SPECIAL), options.vocab, (num_steps, BATCH_SIZE, CUTOFF), generator=generator)
    is_trained = torch.arange(1, CUTOFF) >= CUTOFF * (1 - options.trained)
    meter.begin()
    for ids in drawn.to(base.device):
        targets = ids[:, 1:][:, is_trained].flatten()
        with torch.autocast(base.device.type, torch.bfloat16, enabled=base.device.type != "cpu"):
            if side == "bound":
                logits = model(input_ids=ids, use_cache=False).logits.float().flatten(0, 1)
                everywhere = torch.full_like(ids, -100)  # the targets move, not the logits: these would be copied
                everywhere[:, :-1] = ids[:, 1:].masked_fill(~is_trained.to(ids.device), -100)
                loss = torch.nn.functional.cross_entropy(logits, everywhere.flatten())
            else:
                hidden = base.model(input_ids=ids, use_cache=False).last_hidden_state[:, :-1][:, is_trained]
                loss = torch.nn.functional.cross_entropy(base.lm_head(hidden.flatten(0, 1)).float(), targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        meter.step(ids.numel(), targets.numel(), float(loss.detach()))
    return "full rows"


def run_side(options: argparse.Namespace) -> None:
    """One side in this process; the result is its last line."""
    import torch

    torch.set_num_threads(options.threads)
    side, folder, meter = options.side, Path(options.folder), Meter(options.device)
    if side in OURS:
        note = ours(side, folder, meter)
    elif side in TRL:
        note = trl(side, folder, meter, options.device)
    else:
        note = bound(side, folder, meter, options)
    print(json.dumps({**meter.result(), "note": note}))


# --- the run -------------------------------------------------------------------------------------------------------------------


def measure(side: str, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """A side in a process of its own.

    Raises:
        RuntimeError: it failed; with its last line.
    """
    python = options.trl if side in TRL else sys.executable
    command = [python, __file__, "--side", side, "--folder", str(folder), "--samples", str(options.samples)]
    command += ["--vocab", str(options.vocab), "--trained", str(options.trained), "--device", options.device]
    threads = str(options.threads)
    quiet = {"HF_DATASETS_DISABLE_PROGRESS_BARS": "1", "TRANSFORMERS_VERBOSITY": "error", "HF_HUB_OFFLINE": "1"}
    places = {"TRAINING_PRO_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": threads}
    hidden = {"CUDA_VISIBLE_DEVICES": ""} if options.device == "cpu" else {}
    env = {**os.environ, **quiet, **places, **hidden}
    done = subprocess.run([*command, "--threads", threads], capture_output=True, text=True, env=env)
    if done.returncode:
        raise RuntimeError(f"{side}: {(done.stderr.strip().splitlines() or ['it gave no reason'])[-1][:300]}")
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def check(results: dict[str, list[dict[str, Any]]], options: argparse.Namespace) -> None:
    """All sides but the bounds have trained the same tokens, to the same mean loss.

    Raises:
        RuntimeError: they have not, so their speeds could not be compared.
    """
    rows = make_rows(options)
    wanted = sum(length for length, _ in rows), sum(trained for _, trained in rows)
    losses = []
    for side, rounds in results.items():
        for found in rounds if side not in BOUNDS else []:
            if (got := (found["tokens"], found["trained"])) != wanted:
                raise RuntimeError(f"{side} has trained {got[1]} of {got[0]} tokens, the data hold {wanted[1]} of {wanted[0]}")
            losses.append(found["loss"])
    if losses:
        difference = (max(losses) - min(losses)) / max(losses)
        print(
            f"\nEvery side: {wanted[0]:,} tokens, {wanted[1]:,} trained, mean loss {losses[0]:.5f}, differing by {difference:.1e}."
        )
        if difference > LOSS_BOUND[options.device]:
            print("THE LOSSES DIFFER TOO MUCH: the sides do not compute the same.")


def print_table(results: dict[str, list[dict[str, Any]]]) -> None:
    """Medians of all rounds, and the ratios round by round."""
    print(
        "\n| side | steps | tokens/s | trained tokens/s | lowest-highest tokens/s | tokens/CPU-s | MB | peak MB |\n|---|---|---|---|---|---|---|---|"
    )
    for side, rounds in results.items():
        middle = {name: statistics.median(found[name] for found in rounds) for name in rounds[0] if name != "note"}
        rates = [found["tokens_s"] for found in rounds]
        print(
            f"| {side} | {middle['steps']:.0f} | {middle['tokens_s']:.0f} | {middle['trained_s']:.0f} | "
            f"{min(rates):.0f}-{max(rates):.0f} | {middle['tokens_cpu_s']:.0f} | {middle['above_mb']:.0f} | {middle['peak_mb']:.0f} |"
        )
    print()
    for one, other in RATIOS:
        if one in results and other in results:
            pairs, said = list(zip(results[one], results[other], strict=True)), []
            for unit, words in (("tokens_s", "by the clock"), ("tokens_cpu_s", "by CPU seconds")):
                ratios = [a[unit] / b[unit] for a, b in pairs]
                each = ", ".join(f"{ratio:.2f}" for ratio in ratios)
                said.append(f"{statistics.median(ratios):.2f} {words} (rounds: {each})")
            print(f"{one} / {other}: {'; '.join(said)}")
    for side, rounds in results.items():
        print(f"{side}: {rounds[0]['note']}")


def read_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trl", default="", help="Python that has trl")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--samples", type=int, default=80)
    parser.add_argument("--vocab", type=int, default=8_000)
    parser.add_argument("--trained", type=float, default=0.4, help="share of a conversation that is trained")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--sides", nargs="+", default=[*BOUNDS, *OURS, *TRL], choices=(*BOUNDS, *OURS, *TRL))
    parser.add_argument("--side", default="", help=argparse.SUPPRESS)
    parser.add_argument("--folder", default="", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Run all sides in turn and print the figures."""
    options = read_options()
    if options.side:
        run_side(options)
        return
    sides = [side for side in options.sides if options.trl or side not in TRL]
    if len(sides) < len(options.sides):
        print("TRL is left out: no --trl.")
    rows = make_rows(options)
    print(
        f"{len(rows)} conversations, {sum(length for length, _ in rows):,} tokens, {options.vocab:,} words, on {options.device}"
    )
    results: dict[str, list[dict[str, Any]]] = {side: [] for side in sides}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_data(folder, options)
        write_model(folder, options)
        for number in range(options.rounds):
            for side in sides if number % 2 == 0 else sides[::-1]:
                found = measure(side, folder, options)
                results[side].append(found)
                print(f"round {number + 1}: {side}: {found['tokens_s']:.0f} tokens/s, {found['above_mb']:.0f} MB", flush=True)
    check(results, options)
    print_table(results)


if __name__ == "__main__":
    main()
