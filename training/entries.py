"""What a run draws: single samples, or packs of them.

What it does: shuffled batches draw packs that are made here, once per run; the other modes pack in the sampler, phase by phase, and get
the packers from here. Guarantee: packs are made from lengths, seed and settings alone, so that a resumed run has the same; their order is
the sampler's. Price: see data.packing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..batching.course import MODES
from ..batching.phases import PHASES
from ..config import RunConfig
from ..config.settings_data import DataSettings
from ..data.collate import Samples
from ..data.exchanges import AUTO, CONVERSATION, EXCHANGE
from ..data.packing import NEEDS_VECTORS, PACKERS, pack
from ..data.prepare import Prepared
from ..hybrid_batching import Packing

SINGLE, ORDERED, SHUFFLED = "none", "ordered", "shuffled"


@dataclass(frozen=True)
class Entries:
    """The entries of an epoch.

    Attributes:
        lengths: tokens of each entry.
        packs: samples of each entry; None = every sample is one.
        packing: how the sampler packs samples, phase by phase; None = it does not.
        shared: the samples of a pack see those before them.
        identity: tells other packs apart; "" for single samples.
        facts: for the plan.
        lines: about the packs, for the user.
    """

    lengths: list[int]
    packs: list[list[int]] | None = None
    packing: Packing | None = None
    shared: bool = False
    identity: str = ""
    facts: dict[str, Any] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)

    @property
    def word(self) -> str:
        """What a batch is made of."""
        return "samples" if self.packs is None and self.packing is None else "packs"

    @property
    def has_borders(self) -> bool:
        """Whether an entry may hold samples that must not see each other."""
        return self.word == "packs" and not self.shared

    def samples(self, dataset: Any) -> Samples:
        """The entries of a data set of samples."""
        return Samples(dataset, self.packs, shared=self.shared)

    def pieces(self, dataset: Any, lengths: list[int], longest: list[tuple[int, Any]]) -> tuple[Any, list[int]]:
        """What must not see each other, with its tokens: samples, or packs that are shared.

        Args:
            dataset: samples.
            lengths: tokens of each.
            longest: tokens and item of the longest row of each phase; joined ones are pieces too.
        """
        if not any(isinstance(item, tuple) for _, item in longest):
            return (self.samples(dataset), self.lengths) if self.shared else (Samples(dataset), lengths)
        places = dict.fromkeys((0, len(lengths) // 2, len(lengths) - 1))
        picked = [*longest[:1], *((lengths[place], place) for place in places)]
        return _Picked(self.samples(dataset), [item for _, item in picked]), [tokens for tokens, _ in picked]


@dataclass(frozen=True)
class _Picked:
    """Some items of a data set."""

    samples: Samples
    items: list[Any]

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.samples[self.items[index]]


def data_settings(config: RunConfig) -> DataSettings:
    """The settings of the data, with the sample of a conversation chosen where that is left to the batching mode."""
    if config.data.entry != AUTO:
        return config.data
    joins = any(PHASES[name].joins for name in MODES[config.batching.mode])
    return config.data.model_copy(update={"entry": EXCHANGE if joins else CONVERSATION})


def make_entries(config: RunConfig, prepared: Prepared, progress: Callable[[float, str], None] | None = None) -> Entries:
    """Pack the samples of a run as its settings say."""
    batching = config.batching
    shared = batching.pack_attention == "shared"
    if batching.packing == SINGLE:
        return Entries(prepared.lengths.tolist())
    if batching.mode != SHUFFLED:
        return Entries(
            prepared.lengths.tolist(),
            packing=Packing(config.data.cutoff, PACKERS[batching.packing], PACKERS[ORDERED]),
            shared=shared,
            identity=f"{batching.packing}, {batching.pack_attention}, {config.data.cutoff} tokens, by phase",
            facts={"packing": batching.packing, "pack_attention": batching.pack_attention},
        )
    options: dict[str, Any] = {}
    if batching.packing in NEEDS_VECTORS:
        vectors: Any = prepared.vectors
        options = {"threshold": batching.pack_threshold, "window": batching.pack_window, "vectors": vectors[prepared.entries]}
    packing = pack(
        batching.packing, prepared.lengths, config.data.cutoff, seed=config.training.seed, progress=progress, **options
    )
    facts = {"packing": batching.packing, "pack_attention": batching.pack_attention, "num_packs": len(packing.packs)}
    facts |= {"num_packed_samples": packing.num_samples, "pack_fill": round(packing.fill, 5)}
    return Entries(
        packing.lengths,
        packing.packs,
        shared=shared,
        identity=f"{batching.packing}, {batching.pack_attention}, {_digest(packing.packs)}",
        facts=facts,
        lines=packing.lines(),
    )


def _digest(packs: list[list[int]]) -> str:
    """Changes when a sample stands in another pack or place."""
    digest = hashlib.sha256(np.fromiter(map(len, packs), dtype=np.int64).tobytes())
    digest.update(np.fromiter((sample for samples in packs for sample in samples), dtype=np.int64).tobytes())
    return digest.hexdigest()[:16]
