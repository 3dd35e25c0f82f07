"""Answers of a model to a user's prompts, before and after a training, made the same way both times (greedy, no randomness)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..data.collate import padding_id


def answer_prompts(model: Any, tokenizer: Any, prompts: list[str], max_new_tokens: int) -> Iterator[tuple[str, str]]:
    """Pairs of prompt and answer.

    With a chat template the prompt is a user's turn; without one the model continues the text.
    """
    import torch

    was_training = model.training
    model.eval()
    try:
        for prompt in prompts:
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
                )
            yield prompt, tokenizer.decode(output[0, ids.shape[1] :], skip_special_tokens=True).strip()
    finally:
        model.train(was_training)
