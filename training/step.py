"""The loss of one batch, by the route that was chosen for the model: layout, attention, head.

Guarantee: whatever the route, the loss and its gradient are those of the samples alone. Price: see the modules of the parts.
"""

from __future__ import annotations

import inspect
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..data.collate import Collator
from .attention import SegmentAttention
from .chunks import UNCHANGED, Behind
from .head import Losses, TrainedHead
from .noise import BatchPlace, EmbeddingNoise

if TYPE_CHECKING:
    import torch

FLAT, MASKED, PADDED = "flat", "masked", "padded"

_WORDS = {
    FLAT: "each batch is one row without padding",
    MASKED: "each pack is a row whose samples are kept apart by a mask",
    PADDED: "each sample is a row, padded to the longest of its batch",
    "varlen": "torch's variable-length attention",
    "flash": "flash-attn",
    "segments": "attention sample by sample",
    "chunked": "the loss is computed at trained tokens only, in chunks",
    "selected": "the loss is computed at trained tokens only",
    "full": "the loss is computed from the logits of all tokens",
}


@dataclass(frozen=True)
class Route:
    """How the batches of a run are computed.

    Attributes:
        layout: flat, masked or padded.
        kernel: name in segments.KERNELS; "" = the model's own attention.
        head: chunked, selected or full.
        reasons: sentences on what could not be had.
        behind: what the model does behind its head.
    """

    layout: str
    kernel: str
    head: str
    reasons: tuple[str, ...] = ()
    behind: Behind = UNCHANGED

    @property
    def words(self) -> str:
        """For the user."""
        parts = [_WORDS[self.layout], *([_WORDS[self.kernel]] if self.kernel else []), _WORDS[self.head]]
        return f"Batches: {', '.join(parts)}."


@dataclass(frozen=True)
class Extras:
    """What is done to batches that train, and to no other.

    Attributes:
        neftune_alpha: strength of the noise on the embeddings; 0 = none.
        label_smoothing: share of the target that all words have in equal parts; 0 = none.
        seed: of the run.
    """

    neftune_alpha: float = 0.0
    label_smoothing: float = 0.0
    seed: int = 0


class BatchLoss:
    """Computes batches of a :class:`~..data.collate.Collator` by a route.

    Args:
        model: the model without DDP around it; also one wrapped by peft.
        route: what was chosen for it.
        extras: for :meth:`training_losses` only.
    """

    def __init__(self, model: Any, route: Route, extras: Extras | None = None) -> None:
        self.route = route
        self.extras = extras or Extras()
        alpha, seed = self.extras.neftune_alpha, self.extras.seed
        self._noise = EmbeddingNoise(model, alpha, seed) if alpha else None
        self._head = TrainedHead(model, route.head, route.behind)
        self._attention = SegmentAttention(model, route.kernel) if route.layout == FLAT else None
        self._extras = without_cache(model)

    def collator(self, pad_id: int) -> Collator:
        """Makes the batches that :meth:`loss_sum` takes."""
        return Collator(pad_id, self.route.layout)

    def attached(self) -> AbstractContextManager[None]:
        """What a flat row needs is in the model: around the forward and the backward pass of a batch."""
        return self._attention.on() if self._attention else nullcontext()

    def loss_sum(self, model: Any, batch: dict[str, Any]) -> torch.Tensor:
        """Sum of the cross-entropies of a batch.

        Args:
            model: what to call; may be wrapped.
            batch: of this route's collator inside :meth:`attached`, or padded outside of it.

        Returns:
            A scalar with gradient, in float32 at least.
        """
        return self._head.loss_sum(model, *self._call(batch))

    def losses(self, model: Any, batch: dict[str, Any]) -> Losses:
        """As :meth:`loss_sum`, and the loss of each trained token, in the order of ``batch["targets"]``."""
        return self._head.losses(model, *self._call(batch))

    def training_losses(self, model: Any, batch: dict[str, Any], place: BatchPlace) -> Losses:
        """As :meth:`losses`, with the :class:`Extras`: the objective is smoothed, the loss of each token is not.

        Args:
            place: decides the noise.
        """
        noise = self._noise.on(batch["segments"], place) if self._noise else nullcontext()
        with noise:
            return self._head.losses(model, *self._call(batch), smoothing=self.extras.label_smoothing)

    def logits(self, model: Any, batch: dict[str, Any]) -> torch.Tensor:
        """(trained, vocabulary) of a batch; for comparisons."""
        inputs, positions, _ = self._call(batch)
        return self._head.logits(model, inputs, positions)

    @property
    def num_attention_calls(self) -> int:
        """How often attention per segment was asked for."""
        return self._attention.num_calls if self._attention else 0

    def _call(self, batch: dict[str, Any]) -> tuple[dict[str, Any], torch.Tensor, torch.Tensor]:
        names = ("input_ids", "attention_mask", "position_ids")
        inputs = {name: batch[name] for name in names if name in batch}
        if self._attention and "lengths" in batch:
            self._attention.begin(batch["lengths"])
        # a cache, or a mask where positions keep samples apart, makes transformers forget the borders
        return {**inputs, **self._extras}, batch["positions"], batch["targets"]


def without_cache(model: Any) -> dict[str, Any]:
    """What to say to a model so that it keeps nothing of a batch."""
    return {"use_cache": False} if "use_cache" in accepted(model) else {}


def accepted(model: Any) -> frozenset[str]:
    """Names of what the base model's forward takes."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    return frozenset(inspect.signature(type(base).forward).parameters)
