"""Noise on the input embeddings while training (NEFTune, arXiv 2310.05914): less parroting of small sets of instructions.

What it does: every element of a token's embedding gets a number from [-1, 1] times alpha / sqrt(length x size), where length is that of
the token's own sample, also where several stand in a row (packages that take the row's length disturb packed samples less than the paper).

Guarantee: a function of seed, optimizer step, batch within it and process, so that a resumed run has the same noise; the same for the same
samples whatever the layout of the batch; nothing in evaluation, generation or trials, and no other random number changes. Padding gets
none. Price: one random number per element of the embeddings.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class BatchPlace:
    """Where a batch stands in a run.

    Attributes:
        step: optimizer steps done before it.
        number: batches of the same optimizer step before it, on this process.
        rank: this process.
    """

    step: int = 0
    number: int = 0
    rank: int = 0


class EmbeddingNoise:
    """Puts noise on what a model's input embeddings give.

    Args:
        model: the model, also one wrapped by peft.
        alpha: strength; 5 is the paper's usual value.
        seed: of the run.
    """

    def __init__(self, model: Any, alpha: float, seed: int) -> None:
        self.alpha = alpha
        self.seed = seed
        self._embeddings = model.get_input_embeddings()

    @contextmanager
    def on(self, segments: list[list[int]], place: BatchPlace) -> Iterator[None]:
        """For one forward pass.

        Args:
            segments: tokens of each segment of each row; what a row has beyond them is padding.
            place: of the batch.
        """

        def disturb(module: Any, args: Any, output: torch.Tensor) -> torch.Tensor:
            rows, seq, size = output.shape
            assert len(segments) == rows, f"embeddings of {rows} rows where the batch has {len(segments)}"
            noise = self.draw(segments, size, place, output.device).to(output.dtype)
            if len(noise) == rows * seq:
                return output + noise.view_as(output)
            starts = torch.arange(rows) * seq
            places = torch.cat([start + torch.arange(sum(row)) for start, row in zip(starts, segments, strict=True)])
            return output.flatten(0, 1).index_add(0, places.to(output.device), noise).view_as(output)

        handle = self._embeddings.register_forward_hook(disturb)
        try:
            yield
        finally:
            handle.remove()

    def draw(self, segments: list[list[int]], size: int, place: BatchPlace, device: torch.device) -> torch.Tensor:
        """(tokens, size) noise of a batch's tokens, row after row without padding."""
        import numpy as np

        words = np.random.SeedSequence([self.seed, place.step, place.number, place.rank]).generate_state(2)
        generator = torch.Generator(device).manual_seed(int(words[0]) << 31 | int(words[1]) >> 1)
        lengths = torch.tensor([length for row in segments for length in row])
        reach = (self.alpha / (lengths * size).sqrt()).repeat_interleave(lengths).to(device)
        return torch.rand(int(lengths.sum()), size, generator=generator, device=device).mul_(2).sub_(1).mul_(reach[:, None])
