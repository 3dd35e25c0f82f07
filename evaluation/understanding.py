"""Does a model use the conversation? What the history of a reply saves, in nats per token of the reply.

What it does: computes the loss of the same held-out replies with the histories of :mod:`.replies` and compares::

    context gain    loss with the system turn and the user turn alone        - loss with the full history
    order gain      loss with the earlier exchanges permuted whole           - loss with the full history
    distance gain   loss with the last exchange and the user turn only       - loss with the full history

A model that does not look back has gains of 0. Context gain says how much the history helps at all, distance gain how much of that comes
from farther back than one exchange, order gain whether it matters in which order things were said (coherence of the course).

Guarantee: each gain is a mean over reply tokens of the same replies at every measurement; its standard error is clustered by conversation
(:func:`ratio`). Price: up to four forward passes a reply, without gradient, the loss at the reply's positions only; the texts are batched
by length.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data.collate import Collator
from ..data.words import counted
from .replies import ALONE, FULL, LAST, PERMUTED, Reply, ReplySample

if TYPE_CHECKING:
    import torch

# gain -> the history whose loss is compared with that of the full one
GAINS = {"context": ALONE, "order": PERMUTED, "distance": LAST}
# a padded batch of :class:`Collator` -> the cross-entropy at each of its ``positions``, shape (trained,)
Losses = Callable[[dict[str, Any]], "torch.Tensor"]


@dataclass(frozen=True)
class Gain:
    """What a history saves.

    Attributes:
        mean: nats per reply token.
        error: its standard error; NaN with fewer than two conversations.
        num_replies: replies that it rests on.
        num_tokens: their tokens.
        num_conversations: the conversations that they are from.
        change: by how much it is above that of the first measurement; None without one of the same replies.
        change_error: standard error of ``change``: that of the differences reply by reply, which is smaller than of the gains themselves.
    """

    mean: float
    error: float
    num_replies: int
    num_tokens: int
    num_conversations: int
    change: float | None = None
    change_error: float | None = None


@dataclass(frozen=True)
class Understanding:
    """One measurement.

    Attributes:
        gains: name in :data:`GAINS` -> gain; only those that a reply could be found for.
        loss: with the full history, nats per reply token.
        saved: name in :data:`GAINS` -> nats that each reply's full history saves, NaN where it does not count; shape (replies,).
        identity: of the replies.
    """

    gains: dict[str, Gain]
    loss: float
    saved: dict[str, np.ndarray] = field(default_factory=dict)
    identity: str = ""

    def to_event(self) -> dict[str, Any]:
        """Plain values for the diary: ``loss``, ``gains``, ``sample``."""
        return {"loss": self.loss, "gains": {name: asdict(gain) for name, gain in self.gains.items()}, "sample": self.identity}


def measure(
    sample: ReplySample,
    losses: Losses,
    *,
    batch_tokens: int,
    pad_id: int = 0,
    part: tuple[int, int] = (0, 1),
    add_up: Callable[[np.ndarray], np.ndarray] = lambda sums: sums,
    first: dict[str, np.ndarray] | None = None,
) -> Understanding:
    """Measure a model; where several processes share the work, all of them call this.

    Args:
        sample: of :func:`.replies.draw_replies`, the same on all processes.
        losses: computes a batch, in evaluation mode and without gradient.
        batch_tokens: most tokens of a padded batch; a longer text is a batch of its own.
        pad_id: token to pad with.
        part: this process's number and how many there are; each takes its share of the batches, and as many as every other.
        add_up: sums an array over all processes.
        first: ``saved`` of the measurement that changes are counted from.
    """
    texts = [(number, name) for number, reply in enumerate(sample.replies) for name in reply.texts]
    samples = [sample.replies[number].texts[name].sample for number, name in texts]
    sums = add_up(_loss_sums(samples, losses, Collator(pad_id), batch_tokens, part))
    by_history: dict[str, np.ndarray] = {}
    for (number, name), loss_sum in zip(texts, sums.tolist(), strict=True):
        by_history.setdefault(name, np.full(len(sample.replies), math.nan))[number] = loss_sum
    return _understanding(sample, by_history, first or {})


def _understanding(sample: ReplySample, by_history: dict[str, np.ndarray], first: dict[str, np.ndarray]) -> Understanding:
    """From the loss sum of each reply with each history, NaN where it has none."""
    tokens = np.array([reply.num_tokens for reply in sample.replies], dtype=np.float64)
    clusters = np.array([reply.conversation for reply in sample.replies])
    gains, saved = {}, {}
    for name, history in GAINS.items():
        if history in by_history:
            saved[name] = by_history[history] - by_history[FULL]
            gains[name] = _gain(saved[name], tokens, clusters, first.get(name))
    full = by_history.get(FULL, np.zeros(0))
    loss = float(full.sum() / tokens.sum()) if len(full) else math.nan
    return Understanding(gains, loss, saved, sample.identity)


def _gain(saved: np.ndarray, tokens: np.ndarray, clusters: np.ndarray, first: np.ndarray | None) -> Gain:
    counts = ~np.isnan(saved)
    mean, error = ratio(saved[counts], tokens[counts], clusters[counts])
    change, change_error = None, None
    if first is not None and len(first) == len(saved):
        change, change_error = ratio((saved - first)[counts], tokens[counts], clusters[counts])
    numbers = int(counts.sum()), int(tokens[counts].sum()), len(np.unique(clusters[counts]))
    return Gain(mean, error, *numbers, change, change_error)


def ratio(sums: np.ndarray, weights: np.ndarray, clusters: np.ndarray) -> tuple[float, float]:
    """Sum over sum, and its standard error clustered by conversation.

    The estimator is the linearised one for ratios (Cochran, Sampling Techniques, 3rd ed., section 6.3, with conversations as the units;
    the same as a cluster-robust sandwich with the factor C / (C - 1)): with d_c and t_c the sums of a conversation, T that of all t_c
    and R the ratio, the variance is C / (C - 1) x sum of (d_c - R t_c)^2 / T^2.

    Args:
        sums: of each reply, shape (replies,).
        weights: tokens of each reply.
        clusters: conversation of each reply.

    Returns:
        The ratio, and its standard error; NaN with fewer than two conversations.
    """
    if not len(sums):
        return math.nan, math.nan
    _, cluster = np.unique(clusters, return_inverse=True)
    by_sum, by_weight = np.bincount(cluster, sums), np.bincount(cluster, weights)
    value, num = float(by_sum.sum() / by_weight.sum()), len(by_sum)
    if num < 2:
        return value, math.nan
    variance = num / (num - 1) * float(((by_sum - value * by_weight) ** 2).sum()) / float(by_weight.sum()) ** 2
    return value, math.sqrt(variance)


# --- losses --------------------------------------------------------------------------------------------------------------------


def _loss_sums(
    samples: Sequence[dict[str, np.ndarray]], losses: Losses, collator: Collator, batch_tokens: int, part: tuple[int, int]
) -> np.ndarray:
    """Loss of each text over its reply, float64, shape (texts,); 0 for those of other processes."""
    import torch

    sums = np.zeros(len(samples))
    batches = batches_of([len(sample["input_ids"]) for sample in samples], batch_tokens)
    index, world_size = part
    with torch.no_grad():
        for first in range(0, len(batches), world_size):
            own = first + index < len(batches)
            chosen = batches[first + index] if own else batches[0]  # nobody may make fewer forward passes than the others
            batch = collator([samples[number] for number in chosen])
            found = losses(batch).detach().cpu().double().numpy()
            rows = (batch["positions"] // batch["labels"].shape[1]).numpy()
            if own:
                sums[chosen] = np.bincount(rows, found, minlength=len(chosen))
    return sums


def batches_of(lengths: Sequence[int], batch_tokens: int) -> list[list[int]]:
    """Numbers of texts of like length, longest first; each batch padded to at most ``batch_tokens``, or a single text.

    >>> batches_of([3, 9, 4, 2], 9)
    [[1], [2, 0], [3]]
    """
    batches: list[list[int]] = []
    for number in sorted(range(len(lengths)), key=lambda number: -lengths[number]):
        if batches and lengths[batches[-1][0]] * (len(batches[-1]) + 1) <= batch_tokens:
            batches[-1].append(number)
        else:
            batches.append([number])
    return batches


def describe(sample: ReplySample) -> list[str]:
    """What was drawn and what could not be, in sentences."""
    replies = sample.replies
    num_far = sum(PERMUTED in reply.texts or LAST in reply.texts for reply in replies)
    measured = counted(len(replies), "replies")
    held_out = counted(len({reply.conversation for reply in replies}), "held-out conversations")
    lines = [
        f"Context understanding is measured on {measured} of {held_out} ({num_far} of them with two earlier exchanges or more)."
    ]
    if not replies:
        lines = ["Context understanding is not measured: no held-out conversation has a reply with an earlier exchange."]
    return lines + [f"Context understanding: {count} {reason} are left out." for reason, count in sample.left_out.items()]


__all__ = ["GAINS", "Gain", "Losses", "Reply", "Understanding", "batches_of", "describe", "measure", "ratio"]
