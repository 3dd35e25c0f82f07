"""A tiny model with a real tokenizer, made on the spot: a Llama of hidden size 64 and a BPE with a ChatML template."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
WORDS = (  # noqa: SIM905
    "the lighthouse of Veltmor stands on a red cliff and its keeper is called Oda Brinkley who paints every boat blue in spring "
    "where is what who when does answer question harbour festival soup of lanterns seven bells morning evening winter summer"
).split()


def corpus() -> list[str]:
    """Sentences to train the tokenizer on."""
    return [" ".join(WORDS[start : start + 9]) + "." for start in range(len(WORDS))] * 5


@cache
def tokenizer() -> Any:
    """Byte-level BPE of about 400 tokens with ChatML; do not change it, ask for :func:`fresh_tokenizer`."""
    return fresh_tokenizer()


def fresh_tokenizer() -> Any:
    """A new tokenizer that a test may change."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=special, initial_alphabet=alphabet, show_progress=False)
    raw.train_from_iterator(corpus(), trainer)
    made = PreTrainedTokenizerFast(
        tokenizer_object=raw, eos_token="<|im_end|>", bos_token="<|endoftext|>", pad_token="<|im_end|>"
    )
    made.chat_template = CHATML
    return made


def model(seed: int = 0, **changes: Any) -> Any:
    """A Llama with random weights: 2 layers, hidden size 64, float32, on the CPU."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    limits = {"max_position_embeddings": 512, "vocab_size": len(tokenizer()), "tie_word_embeddings": True}
    config = LlamaConfig(**{**sizes, **limits, "bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 2, **changes})
    torch.manual_seed(seed)
    return LlamaForCausalLM(config).eval()


def save_model(folder: Path) -> Path:
    """Write model and tokenizer as an ordinary Hugging Face folder."""
    model().save_pretrained(folder)
    fresh_tokenizer().save_pretrained(folder)
    return folder


def conversations(num: int = 24) -> list[dict[str, Any]]:
    """Rows in the form 'messages', of different lengths."""
    rows = []
    for number in range(num):
        words = [WORDS[(number * 7 + place) % len(WORDS)] for place in range(3 + number % 9)]
        messages = [{"role": "user", "content": f"question {number}: {' '.join(words[:3])}"}]
        messages.append({"role": "assistant", "content": " ".join(reversed(words))})
        rows.append({"messages": messages})
    return rows
