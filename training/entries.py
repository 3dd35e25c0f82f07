"""What a run draws: single samples, or packs of them.

Guarantee: packs are made once per run, from lengths, seed and settings alone, so that a resumed run has the same; their order is the
sampler's. Price: see data.packing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..config import RunConfig
from ..data.collate import Samples
from ..data.packing import NEEDS_VECTORS, pack
from ..data.prepare import Prepared

SINGLE = "none"


@dataclass(frozen=True)
class Entries:
    """The entries of an epoch.

    Attributes:
        lengths: tokens of each entry.
        packs: samples of each entry; None = every sample is one.
        shared: the samples of a pack see those before them.
        identity: tells other packs apart; "" for single samples.
        facts: for the plan.
        lines: about the packs, for the user.
    """

    lengths: list[int]
    packs: list[list[int]] | None = None
    shared: bool = False
    identity: str = ""
    facts: dict[str, Any] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)

    @property
    def word(self) -> str:
        """What an entry is called."""
        return "samples" if self.packs is None else "packs"

    @property
    def has_borders(self) -> bool:
        """Whether an entry may hold samples that must not see each other."""
        return self.packs is not None and not self.shared

    def samples(self, dataset: Any) -> Samples:
        """The entries of a data set of samples."""
        return Samples(dataset, self.packs, shared=self.shared)

    def pieces(self, dataset: Any, lengths: list[int]) -> tuple[Samples, list[int]]:
        """What must not see each other, with its tokens: samples, or packs that are shared."""
        return (self.samples(dataset), self.lengths) if self.shared else (Samples(dataset), lengths)


def make_entries(config: RunConfig, prepared: Prepared, progress: Callable[[float, str], None] | None = None) -> Entries:
    """Pack the samples of a run as its settings say."""
    batching = config.batching
    if batching.packing == SINGLE:
        return Entries(prepared.lengths.tolist())
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
        shared=batching.pack_attention == "shared",
        identity=f"{batching.packing}, {batching.pack_attention}, {_digest(packing.packs)}",
        facts=facts,
        lines=packing.lines(),
    )


def _digest(packs: list[list[int]]) -> str:
    """Changes when a sample stands in another pack or place."""
    digest = hashlib.sha256(np.fromiter(map(len, packs), dtype=np.int64).tobytes())
    digest.update(np.fromiter((sample for samples in packs for sample in samples), dtype=np.int64).tobytes())
    return digest.hexdigest()[:16]
