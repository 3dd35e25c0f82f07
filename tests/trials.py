"""Small real trainings for tests: settings, a listener that remembers, and a look at what the trainer really did."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import tiny


def chat_rows(folder: Path, num: int = 24) -> Path:
    """Conversations as JSON lines."""
    path = folder / f"chat-{num}.jsonl"
    if not path.exists():
        path.write_text("".join(json.dumps(row) + "\n" for row in tiny.conversations(num)), encoding="utf-8")
    return path


def settings(folder: Path, num_rows: int = 10, **changes: Any) -> Any:
    """A RunConfig for the tiny model: batch 2, rank 4, dropout on, adapters in ``folder/loras``.

    Args:
        folder: where data and adapters lie.
        num_rows: conversations.
        **changes: sections with what differs, for example ``training={"epochs": 2}``.
    """
    from training_pro.config import RunConfig

    sections: dict[str, dict[str, Any]] = {
        "adapter": {"name": "trial", "rank": 4, "alpha": 16, "dropout": 0.1},
        "data": {"dataset": str(chat_rows(folder, num_rows))},
        "batching": {"true_batch_size": 2},
        "training": {"epochs": 2.5, "learning_rate": 0.02, "schedule": "cosine", "warmup_steps": 2},
        "run": {"adapters_dir": str(folder / "loras")},
    }
    for section, values in changes.items():
        sections[section] = {**sections.get(section, {}), **values}
    return RunConfig.from_dict(sections)


def talks(num: int, exchanges: int = 4) -> list[dict[str, Any]]:
    """Conversations of one to ``exchanges`` exchanges, as rows."""
    words, rows = tiny.WORDS, []
    for number in range(num):
        messages = []
        for at in range(1 + (number + 1) % exchanges):
            messages.append({"role": "user", "content": f"{words[(number + at) % len(words)]} {at}"})
            messages.append(
                {"role": "assistant", "content": " ".join(words[(number * at + step) % len(words)] for step in range(3))}
            )
        rows.append({"messages": messages})
    return rows


def multi_turn(folder: Path, **changes: Any) -> Any:
    """Hybrid batching of 12 conversations of several exchanges; 7 others are held out."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {name: folder / f"talks-{name}.jsonl" for name in ("train", "held-out")}
    for name, rows in (("train", talks(12)), ("held-out", talks(20)[13:])):
        if not files[name].exists():
            files[name].write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    data = {"dataset": str(files["train"]), "eval_dataset": str(files["held-out"]), **changes.pop("data", {})}
    batching = {"true_batch_size": 2, "mode": "hybrid", **changes.pop("batching", {})}
    training = {"epochs": 2, "learning_rate": 0.01, "warmup_steps": 0, **changes.pop("training", {})}
    return settings(folder, data=data, batching=batching, training=training, **changes)


class Events(list[tuple[str, dict[str, Any]]]):
    """A listener that keeps every event; ``on`` adds something to do at a step."""

    def __init__(self) -> None:
        super().__init__()
        self._at_step: dict[int, Callable[[], Any]] = {}

    def __call__(self, event: str, **fields: Any) -> None:
        self.append((event, fields))
        if event == "step" and fields["step"] in self._at_step:
            self._at_step[fields["step"]]()

    def on(self, step: int, action: Callable[[], Any]) -> None:
        """Do something right after an optimizer step."""
        self._at_step[step] = action

    def all(self, kind: str) -> list[dict[str, Any]]:
        """Fields of the events of one kind."""
        return [fields for event, fields in self if event == kind]

    def texts(self) -> str:
        """All words to the user."""
        return "\n".join(fields["text"] for fields in self.all("message"))


def run(
    config: Any, model: Any = None, tokenizer: Any = None, *, stop_at: int = 0, events: Events | None = None
) -> tuple[Any, Events]:
    """Train; a stop is asked for right after step ``stop_at`` through the control file, as the page does."""
    from training_pro.runs.control import change_control
    from training_pro.training.job import run_job

    events = Events() if events is None else events
    folders: list[Any] = []
    if stop_at:
        events.on(stop_at, lambda: change_control(folders[0].control, stop=True))
    loaded = (model or tiny.model(), tokenizer or tiny.fresh_tokenizer())
    outcome = run_job(config, lambda: loaded, listener=events, on_folder=folders.append)
    return outcome, events


@contextmanager
def watched() -> Any:
    """What the trainer really does, step by step: the batches, the exact loss, the optimizer's rates, the gradient's length.

    Yields:
        A list of ``(step, batches, loss, rates, gradient norm)``, filled as runs go on.
    """
    from training_pro.training.callbacks import RunCallback
    from training_pro.training.trainer import PlannedTrainer

    seen: list[tuple[Any, ...]] = []
    batches: list[list[list[int]]] = []
    compute, end = PlannedTrainer.compute_loss, RunCallback.on_pre_optimizer_step

    def compute_loss(self: Any, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        batches.append(segments(inputs))
        return compute(self, model, inputs, *args, **kwargs)

    def on_pre_optimizer_step(self: Any, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        end(self, args, state, control, **kwargs)
        rates = [group["lr"] for group in self.trainer.optimizer.param_groups]
        seen.append((state.global_step + 1, list(batches), self._loss.mean, rates, self.trainer.last_grad_norm))
        batches.clear()

    PlannedTrainer.compute_loss, RunCallback.on_pre_optimizer_step = compute_loss, on_pre_optimizer_step  # type: ignore[method-assign]
    try:
        yield seen
    finally:
        PlannedTrainer.compute_loss, RunCallback.on_pre_optimizer_step = compute, end  # type: ignore[method-assign]


def segments(inputs: Any) -> list[list[int]]:
    """Tokens of every sample of a batch: the rows, or what stands in a flat row."""
    if "lengths" not in inputs:
        rows: list[list[int]] = inputs["input_ids"].tolist()
        return rows
    return [part.tolist() for part in inputs["input_ids"][0].split(inputs["lengths"])]


def weights(folder: Any) -> dict[str, Any]:
    """The adapter's tensors."""
    from safetensors.torch import load_file

    return load_file(Path(getattr(folder, "path", folder)) / "adapter_model.safetensors")


def same(first: dict[str, Any], second: dict[str, Any]) -> bool:
    """Whether two adapters are equal to the last bit."""
    import torch

    assert first
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def freeze_heap() -> None:
    """Keep the libraries' objects out of garbage collections, of which every run makes a few."""
    import gc

    import peft  # noqa: F401
    from transformers import LlamaForCausalLM, Trainer  # noqa: F401

    gc.collect()
    gc.freeze()


def no_picture(state: Any) -> Any:
    """In place of matplotgraph.draw_graph, where nobody looks at the picture."""

    class Nothing:
        def savefig(self, path: Any) -> None:
            """Draw nothing."""

    return Nothing()


def environment(**more: str) -> dict[str, str]:
    """For a subprocess that imports training_pro and the helpers of the tests, on one thread and without a GPU."""
    from training_pro import ROOT

    paths = [str(ROOT / "import_root"), str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    quiet = {"PYTHONPATH": os.pathsep.join(filter(None, paths)), "CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1"}
    return {**os.environ, **quiet, **more}
