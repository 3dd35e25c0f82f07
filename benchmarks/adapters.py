"""Every method and every optimizer on a real small model, side by side: trained weights, memory, speed, held-out loss.

    python benchmarks/adapters.py --data chats.jsonl                       (chats.jsonl: see packing_quality.py)
    python benchmarks/adapters.py --data chats.jsonl --only methods        (or optimizers)
    python benchmarks/adapters.py --data chats.jsonl --sides "lora" "dora" "lion" --rounds 3
    python benchmarks/adapters.py --data chats.jsonl --trl PYTHON          (a Python that has trl beside what this project needs)

Every side trains the same samples once, in the same order and as many steps, so as many tokens; methods with AdamW, optimizers with LoRA.
Each has a learning rate that is usual for it (``RATES``), since one rate for all would compare nothing; none was tuned on these data, and
runs are short: read the losses as "learns" or "does not", not as a ranking. Each side is a process of its own; ``--rounds`` go over all
sides in turn and medians count. Tokens per second are from the end of the first step to the end of the last, evaluation left out;
``MB`` is the highest memory from the adapter's set-up to the last step above what the process had with the model loaded (on a GPU: of the
allocator, the model included). Held-out loss is per trained token, of whole conversations. ``TRL`` trains the same rows by its SFTTrainer
with the same LoRA, replies only (by marks put into the template, see prepare_speed.py), no packing, gradient checkpointing off; its adapter
is measured like ours.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from argparse import Namespace
from pathlib import Path
from typing import Any

from packing_quality import split
from prepare_speed import with_marks
from watching import MEGA, Peak

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "import_root"))

RANK, RATE = 16, 3e-4
# method or kind of LoRA -> settings
METHOD_SIDES: dict[str, dict[str, dict[str, Any]]] = {
    "lora": {},
    "lora q-v": {"adapter": {"targets": ["q-v"]}},
    "lora rank 128": {"adapter": {"rank": 128, "alpha": 256}},
    "lora rslora": {"adapter": {"rslora": True}},
    "lora+": {"adapter": {"lora_plus": 16}},
    "lora pissa": {"adapter": {"initialisation": "pissa"}},
    "lora olora": {"adapter": {"initialisation": "olora"}},
    "lora eva": {"adapter": {"initialisation": "eva"}},
    "lora checkpointing": {"training": {"gradient_checkpointing": True}},
    "lora on nf4": {"model": {"quantization": "nf4"}},
    "lora on int8": {"model": {"quantization": "int8"}},
    "dora": {"adapter": {"method": "dora"}},
    "vera": {"adapter": {"method": "vera"}, "training": {"learning_rate": 1e-2}},
    "oft": {"adapter": {"method": "oft"}},
    "ia3": {"adapter": {"method": "ia3"}, "training": {"learning_rate": 1e-2}},
    "full": {"adapter": {"method": "full"}, "training": {"learning_rate": 2e-5}},
    "sift": {"adapter": {"method": "sift"}, "training": {"learning_rate": 2e-4}},
}
# learning rates of optimizers that want another than AdamW's
RATES = {
    **dict.fromkeys(("lion", "lion_32bit", "lion_8bit", "paged_lion_32bit", "paged_lion_8bit"), 6e-5),
    **dict.fromkeys(("rmsprop", "rmsprop_bnb_8bit"), 1e-4),
    **{
        "prodigy": 1.0,
        "sgd": 0.1,
        "schedule_free_sgd": 0.1,
        "adagrad": 3e-3,
        "schedule_free_adamw": 1e-3,
        "schedule_free_radam": 1e-3,
    },
}
TRL_SIDE = "TRL lora"


def optimizer_sides() -> dict[str, dict[str, dict[str, Any]]]:
    """Optimizer -> settings."""
    from training_pro.adapting.optimizers import OPTIMIZERS

    def settings(name: str) -> dict[str, dict[str, Any]]:
        schedule = "constant" if OPTIMIZERS[name].averages else "linear"
        return {"training": {"optimizer": name, "learning_rate": RATES.get(name, RATE), "schedule": schedule}}

    return {name: settings(name) for name in OPTIMIZERS}


# --- one side, in a process of its own -----------------------------------------------------------------------------------------


class Steps:
    """Takes a run's events and tells speed, memory and losses."""

    def __init__(self, device: str) -> None:
        import torch

        self._cuda = torch.cuda if device == "cuda" else None
        self._peak = Peak()
        self._measured: list[tuple[float, int]] = []
        self._away = 0.0  # evaluation: not the training's time
        self.found: dict[str, Any] = {"tokens": 0, "trained": 0, "losses": [], "megabytes": 0.0}

    def begin(self) -> None:
        """The model stands; what is taken from now on is the training's."""
        self._peak.begin()
        if self._cuda:
            self._cuda.reset_peak_memory_stats()

    def __call__(self, event: str, **fields: Any) -> None:
        if event == "stage" and fields.get("detail") == "setting up the adapter":
            self.begin()
        elif event == "plan":
            self.found["parameters"] = fields["num_trained_parameters"]
        elif event == "evaluation":
            self.found["losses"].append(fields["loss"])
        elif event == "step":
            self.step(fields["tokens"], fields["trained_tokens"], fields["seconds"])

    def step(self, tokens: int, trained: int, seconds: float) -> None:
        """An optimizer step has ended."""
        self._measured.append((seconds, tokens))
        self.found["tokens"] += tokens
        self.found["trained"] += trained
        self.found["megabytes"] = self._cuda.max_memory_allocated() / MEGA if self._cuda else self._peak.above

    def result(self) -> dict[str, Any]:
        """All figures; speed without the first step, which warms up."""
        seconds, tokens = (sum(column) for column in zip(*self._measured[1:], strict=True))
        return {**self.found, "tokens_s": tokens / seconds, "steps": len(self._measured)}


def base_settings(options: Namespace, folder: Path) -> dict[str, dict[str, Any]]:
    """What all sides have in common."""
    return {
        "model": {"path": options.model},
        "adapter": {"name": "side", "rank": RANK, "alpha": 2 * RANK, "dropout": 0.0},
        "data": {
            "dataset": str(folder / "train.jsonl"),
            "eval_dataset": str(folder / "held_out.jsonl"),
            "cutoff": options.cutoff,
        },
        "batching": {"true_batch_size": options.batch},
        "training": {
            **{"epochs": 1, "schedule": "linear", "warmup_share": 0.1, "learning_rate": RATE},
            "precision": options.precision,
        },
        "checkpoints": {"save_every_epoch": False, "understanding_samples": 0},
        "run": {"adapters_dir": str(folder / f"adapters-{os.getpid()}")},
    }


def run(settings: dict[str, dict[str, Any]], steps: Steps) -> Path:
    """One run of this project; its folder."""
    from training_pro.config import RunConfig
    from training_pro.hosts.local import load_model
    from training_pro.training.job import run_job

    config = RunConfig.from_dict(settings)
    outcome = run_job(config, lambda: load_model(config), listener=steps)
    if outcome.status != "finished":
        raise RuntimeError(f"{outcome.message} {outcome.remedy}")
    return outcome.folder.path


def merged(settings: dict[str, dict[str, Any]], more: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Settings with others on top, section by section."""
    return {section: {**settings.get(section, {}), **more.get(section, {})} for section in {**settings, **more}}


def held_out_loss(options: Namespace, folder: Path, adapter: Path) -> float:
    """Of an adapter that somebody else has trained: merged for a run that moves nothing, and measured at its beginning."""
    still = {
        "training": {"learning_rate": 1e-30, "epochs": 1e-3, "warmup_share": 0.0},
        "adapter": {"merge_first": [str(adapter)]},
    }
    steps = Steps("cpu")
    run(merged(base_settings(options, folder), still), steps)
    return float(steps.found["losses"][0])


def run_trl(options: Namespace, folder: Path, target: Path) -> dict[str, Any]:
    """TRL's trainer on the same rows; its adapter is left in ``target``."""
    import torch
    import trl
    from datasets import load_dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback

    steps, counted, clock = Steps(options.device), [0, 0], [0.0]

    class Counting(trl.SFTTrainer):  # type: ignore[misc]
        def training_step(self, model: Any, inputs: Any, *more: Any, **named: Any) -> Any:
            counted[0] += int(inputs["attention_mask"].sum())
            counted[1] += int((inputs["labels"] != -100).sum())
            return super().training_step(model, inputs, *more, **named)

    class Count(TrainerCallback):
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            counted[:], clock[0] = [0, 0], time.perf_counter()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            if options.device == "cuda":
                torch.cuda.synchronize()
            steps.step(*counted, time.perf_counter() - clock[0])

    is_half = options.precision == "bfloat16"
    config = trl.SFTConfig(
        output_dir=str(folder / f"trl-{os.getpid()}"),
        **{
            "per_device_train_batch_size": options.batch,
            "num_train_epochs": 1,
            "learning_rate": RATE,
            "max_length": options.cutoff,
        },
        **{
            "lr_scheduler_type": "linear",
            "warmup_steps": round(0.1 * options.samples / options.batch),
            "optim": "adamw_torch",
            "weight_decay": 0.0,
            "max_grad_norm": 1.0,
        },
        **{"assistant_only_loss": True, "gradient_checkpointing": False, "bf16": is_half, "use_cpu": options.device == "cpu"},
        **{"save_strategy": "no", "report_to": "none", "disable_tqdm": True},
    )
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    tokenizer.chat_template = with_marks(tokenizer.chat_template)
    trainer = Counting(
        model=AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32 if options.device == "cpu" else "auto"),
        args=config,
        train_dataset=load_dataset("json", data_files=str(folder / "train.jsonl"), split="train", cache_dir=str(folder / "hf")),
        processing_class=tokenizer,
        peft_config=LoraConfig(r=RANK, lora_alpha=2 * RANK, lora_dropout=0.0, target_modules="all-linear"),
        callbacks=[Count()],
    )
    steps.begin()
    trainer.train()
    trainer.model.save_pretrained(target)
    steps.found["parameters"] = sum(weight.numel() for weight in trainer.model.parameters() if weight.requires_grad)
    return steps.result()


def run_side(options: Namespace) -> None:
    """One side in this process; the result is its last line."""
    folder = Path(options.folder)
    if options.side == TRL_SIDE:
        print(json.dumps(run_trl(options, folder, Path(options.target))))
        return
    if options.target:
        print(json.dumps(held_out_loss(options, folder, Path(options.target))))
        return
    steps = Steps(options.device)
    run(merged(base_settings(options, folder), {**METHOD_SIDES, **optimizer_sides()}[options.side]), steps)
    print(json.dumps(steps.result()))


# --- all of them ---------------------------------------------------------------------------------------------------------------


def in_process(options: Namespace, folder: Path, side: str, target: str = "") -> Any:
    """A side in a process of its own.

    Raises:
        RuntimeError: it failed; with its last line.
    """
    python = options.trl if side == TRL_SIDE else sys.executable
    command = [python, __file__, *sys.argv[1:], "--side", side, "--folder", str(folder), "--target", target]
    quiet = {"HF_DATASETS_DISABLE_PROGRESS_BARS": "1", "TRANSFORMERS_VERBOSITY": "error", "HF_HUB_OFFLINE": "1"}
    hidden = {"CUDA_VISIBLE_DEVICES": ""} if options.device == "cpu" else {}
    env = {**os.environ, **quiet, **hidden, "TRAINING_PRO_CACHE": str(folder / "cache")}
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or ["it gave no reason"])[-1][:300])
    return json.loads(done.stdout.strip().splitlines()[-1])


def one(options: Namespace, folder: Path, side: str, number: int) -> dict[str, Any]:
    """A side's figures; TRL's adapter is measured by us."""
    if side != TRL_SIDE:
        found: dict[str, Any] = in_process(options, folder, side)
        return found
    target = folder / f"trl-adapter-{number}"
    found = in_process(options, folder, side, str(target))
    return {**found, "losses": [in_process(options, folder, "lora", str(target))]}


def print_table(results: dict[str, list[dict[str, Any]]], failed: dict[str, str]) -> None:
    """Medians over the rounds."""
    print(
        "\n| side | trained weights | MB | tokens/s | held-out loss | steps | tokens | of which trained |\n|---|---|---|---|---|---|---|---|"
    )
    for side, rounds in results.items():
        middle = {name: statistics.median(found[name] for found in rounds) for name in ("megabytes", "tokens_s")}
        first, losses = rounds[0], [found["losses"][-1] for found in rounds]
        print(
            f"| {side} | {first['parameters']:,} | {middle['megabytes']:.0f} | {middle['tokens_s']:.0f} | {statistics.median(losses):.4f} | "
            f"{first['steps']} | {first['tokens']:,} | {first['trained']:,} |"
        )
    for side, reason in failed.items():
        print(f"{side}: not measured: {reason}")


def read_options() -> Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="JSONL with conversations: {'messages': [...]}")
    parser.add_argument("--model", default="", help="folder; default: the embedded model (TRL needs a folder)")
    parser.add_argument("--only", default="", choices=("", "methods", "optimizers"))
    parser.add_argument("--sides", nargs="+", default=[])
    parser.add_argument("--trl", default="", help="Python that has trl")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--held-out", type=int, default=4, help="conversations")
    parser.add_argument("--exchanges", type=int, default=2, help="of a sample")
    parser.add_argument("--cutoff", type=int, default=512)
    parser.add_argument("--precision", default="auto", help="bfloat16 is several times faster on processors with bfloat16 units")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    for name in ("--side", "--folder", "--target"):
        parser.add_argument(name, default="", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Run all sides in turn and print the figures."""
    options = read_options()
    if options.side:
        run_side(options)
        return
    known = {
        **(METHOD_SIDES if options.only != "optimizers" else {}),
        **(optimizer_sides() if options.only != "methods" else {}),
        **({TRL_SIDE: {}} if options.trl else {}),
    }
    sides = options.sides or list(known)
    if unknown := [side for side in sides if side not in known]:
        raise SystemExit(f"Unknown: {', '.join(unknown)}. There are {', '.join(known)}.")
    results: dict[str, list[dict[str, Any]]] = {}
    failed: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        split(options.data, folder, options)
        for number in range(options.rounds):
            for side in [side for side in sides if side not in failed]:
                try:
                    found = one(options, folder, side, number)
                except RuntimeError as error:
                    failed[side] = str(error)
                    print(f"{side}: {error}", flush=True)
                    continue
                results.setdefault(side, []).append(found)
                losses = " to ".join(f"{loss:.4f}" for loss in found["losses"])
                print(
                    f"{side}: {found['tokens_s']:.0f} tokens/s, {found['megabytes']:.0f} MB, held-out loss {losses}", flush=True
                )
    print_table(results, failed)


if __name__ == "__main__":
    main()
