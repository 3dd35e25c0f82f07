"""Conversations of several exchanges for runs that join them, with two templates: one whose renderings train all replies, and one that
drops earlier thoughts, so that entries become context of each other. Questions carry numbers, so that samples can be told apart."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import tiny
import trials

CUTOFF = 160
THINKING = tiny.CHATML.replace(
    "message['content'] +",
    "(message['content'] if loop.last else message['content'].split('</think>')[-1]) +",
)
TEMPLATES = {"joined": tiny.CHATML, "context": THINKING}


def rows(num: int = 10) -> list[dict[str, Any]]:
    """Conversations of 1 to 5 exchanges; each question has a number of its own."""
    made, number = [], 0
    for talk in range(num):
        messages = []
        for turn in range(1 + talk * 3 % 5):
            words = [tiny.WORDS[(talk * 7 + turn * 3 + place) % len(tiny.WORDS)] for place in range(3 + (talk + turn) % 6)]
            messages.append({"role": "user", "content": f"question {number}: {words[0]}"})
            messages.append({"role": "assistant", "content": f"{words[1]}</think>{' '.join(reversed(words))}"})
            number += 1
        made.append({"messages": messages})
    return made


def settings(folder: Path, num: int = 10, **changes: Any) -> Any:
    """Two-stage hybrid batching of talks: paired after 0.7 epochs, sequential 0.8 epochs later; 3 epochs."""
    path = folder / f"talks-{num}.jsonl"
    if not path.exists():
        path.write_text("".join(json.dumps(row) + "\n" for row in rows(num)), encoding="utf-8")
    batching = {"true_batch_size": 2, "mode": "hybrid two-stage", "switch_epochs": 0.7, "second_epochs": 0.8}
    batching |= changes.pop("batching", {})
    training = {"epochs": 3, "learning_rate": 0.01, "schedule": "cosine", "warmup_steps": 3, **changes.pop("training", {})}
    data = {"dataset": str(path), "cutoff": CUTOFF, **changes.pop("data", {})}
    checkpoints = {"save_every_epoch": False, "understanding_samples": 0, **changes.pop("checkpoints", {})}
    return trials.settings(folder, batching=batching, training=training, data=data, checkpoints=checkpoints, **changes)


def tokenizer(template: str) -> Any:
    """The tiny tokenizer with one of :data:`TEMPLATES`."""
    made = tiny.fresh_tokenizer()
    made.chat_template = TEMPLATES[template]
    return made


def run(config: Any, template: str = "joined", **how: Any) -> tuple[Any, Any]:
    """Train with one of the templates."""
    return trials.run(config, tiny.model(), tokenizer(template), **how)


def questions(sample: list[int]) -> list[int]:
    """Numbers of the questions that a sample holds, in order."""
    return [int(number) for number in re.findall(r"question (\d+):", tiny.tokenizer().decode(sample))]
