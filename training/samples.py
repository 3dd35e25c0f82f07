"""Answers of a model to a user's prompts: before, on the way and after a training, made the same way each time (greedy, no randomness).

Guarantee: on the way they touch neither weights nor random numbers, and they take at most :data:`MAX_SECONDS` each time; what could not be
answered in that time is said. Price: the training waits for them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ..config import RunConfig
from ..data.collate import padding_id
from .pausing import answering

MAX_SECONDS = 60.0  # for all prompts together, each time on the way; before and after there is no limit

Emit = Callable[..., None]


@contextmanager
def _evaluating(model: Any) -> Iterator[None]:
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


def answer_prompts(
    model: Any, tokenizer: Any, prompts: list[str], max_new_tokens: int, *, seconds: float | None = None
) -> Iterator[tuple[str, str]]:
    """Pairs of prompt and answer.

    With a chat template the prompt is a user's turn; without one the model continues the text.

    Args:
        model: what answers.
        tokenizer: its own.
        prompts: of the user.
        max_new_tokens: longest answer.
        seconds: when that time is over, the answer that is being written ends and no other begins; None = no limit.
    """
    end = None if seconds is None else time.monotonic() + seconds
    with _evaluating(model):
        for prompt in prompts:
            left = None if end is None else end - time.monotonic()
            if left is not None and left <= 0:
                return
            yield prompt, _answer(model, tokenizer, prompt, max_new_tokens, left)


def _answer(model: Any, tokenizer: Any, prompt: str, max_new_tokens: int, seconds: float | None) -> str:
    import torch

    text, special = prompt, True
    if getattr(tokenizer, "chat_template", None):
        messages = [{"role": "user", "content": prompt}]
        text, special = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True), False
    inputs = tokenizer(text, return_tensors="pt", add_special_tokens=special)
    ids = inputs["input_ids"].to(next(model.parameters()).device)
    with torch.no_grad():
        output = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=max_new_tokens,
            do_sample=False,
            use_cache=True,
            pad_token_id=padding_id(tokenizer),
            **({} if seconds is None else {"max_time": seconds}),
        )
    return str(tokenizer.decode(output[0, ids.shape[1] :], skip_special_tokens=True)).strip()


@dataclass(frozen=True)
class Sampler:
    """Answers the prompts of a run.

    Attributes:
        config: all settings.
        tokenizer: of the run.
        emit: takes events.
    """

    config: RunConfig
    tokenizer: Any
    emit: Emit

    def answer(self, model: Any, when: str, step: int, *, stop: Callable[[], None] | None = None) -> None:
        """Before or after the training.

        Args:
            model: what answers.
            when: before or after.
            step: optimizer steps done.
            stop: called after each answer; raises where the user wants no more.
        """
        settings = self.config.samples
        if settings.prompts:
            self.emit("stage", stage="sampling", detail=f"answering the prompts {when} the training")
        for prompt, answer in answer_prompts(model, self.tokenizer, settings.prompts, settings.max_new_tokens):
            self.emit("sample", when=when, step=step, prompt=prompt, answer=answer)
            if stop:
                stop()

    def is_due(self, step: int) -> bool:
        """Whether the prompts are answered after a step."""
        settings = self.config.samples
        return bool(settings.prompts) and settings.every_steps > 0 and step % settings.every_steps == 0

    def answer_on_the_way(self, trainer: Any, step: int, wants_end: Callable[[], bool]) -> None:
        """Between two steps of a run, on the main process; the others meet it at the next step.

        Args:
            trainer: of the run.
            step: optimizer steps done.
            wants_end: whether the user stops the run meanwhile.
        """
        settings = self.config.samples
        answered = 0
        with answering(trainer):
            answers = answer_prompts(
                trainer.model, self.tokenizer, settings.prompts, settings.max_new_tokens, seconds=MAX_SECONDS
            )
            for prompt, answer in answers:
                self.emit("sample", when="step", step=step, prompt=prompt, answer=answer)
                answered += 1
                if wants_end():
                    return
        if answered < len(settings.prompts):
            text = f"Step {step}: {answered} of {len(settings.prompts)} Sample prompts were answered in {MAX_SECONDS:g} seconds."
            self.emit("message", level="warning", text=f"{text} Shorten Longest answer, or raise Answer every n steps.")
