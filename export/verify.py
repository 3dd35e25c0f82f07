"""Whether a merged folder answers as base and adapter did.

What it does: loads the base, puts the adapter on it unmerged, and keeps the logits for a few short texts; then loads the merged
folder and compares. Both compute in float32 where the memory allows, so that what differs is the rounding of the merged
weights.

Guarantee: the two sides share no code of the merge: the adapter is applied by its own layers, the folder is read by
transformers. The bound is on ``|merged - adapted| / |adapted|`` over all logits of the texts, after taking off each position's
mean (which no answer depends on). Price: the model in memory twice, one after the other, and a few seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..runs.store import read_json
from ..train_utils import free_memory, load_tokenizer
from .adapter import Adapter

if TYPE_CHECKING:
    import torch

    from .merge import MergeWish

# number format of the merged weights -> how much the logits may differ
BOUNDS = {"float32": 1e-4, "float16": 0.01, "bfloat16": 0.05}
# number format -> adapters whose effect is larger are held to their share, too
ROUNDING = {"float32": 5e-5, "float16": 0.004, "bfloat16": 0.015}
SHARE_TOLERANCE = 0.2
HIDDEN_BY_ROUNDING = 0.25  # a difference of this part of the adapter's own effect is worth a word
MEMORY_SHARE = 0.7
MAX_TOKENS = 128

TEXTS = (
    "The harbour lies quiet in the morning; only the keeper of the lighthouse is awake.",
    "def add(a, b):\n    return a + b\n\nprint(add(19, 23))",
    "Frage: Wie heißt die Hauptstadt von Frankreich? Antwort: Paris. 2024-05-17, 3.1415, 你好。",
)


@dataclass(frozen=True)
class Verification:
    """How close merged weights are to base and adapter.

    Attributes:
        difference: of the logits, relative.
        bound: that it was held against.
        effect: of the adapter itself, base against base and adapter, measured the same way.
        share: of the adapter's change that the merged weights make: 1 is right, 0 nothing, 2 twice as much.
        has_share: whether rounding is small enough against the effect for ``share`` to say something.
        same_choice: share of positions with the same most likely token.
        positions: tokens that were compared.
        computed_in: number format of the computation.
    """

    difference: float
    bound: float
    effect: float
    share: float
    has_share: bool
    same_choice: float
    positions: int
    computed_in: str

    @property
    def is_right(self) -> bool:
        """Whether the merged weights answer as base and adapter do; not a number is wrong, too."""
        return self.difference <= self.bound and (not self.has_share or abs(self.share - 1) <= SHARE_TOLERANCE)

    @property
    def words(self) -> str:
        """The result in a sentence."""
        return (
            f"Compared at {self.positions} tokens: the logits differ by {self.difference:.2g} of their size (at most {self.bound:g} is "
            f"allowed; the adapter itself changes them by {self.effect:.2g}, of which {self.share:.0%} arrived), the most likely token "
            f"is the same at {self.same_choice:.0%}."
        )

    @property
    def warning(self) -> str:
        """What is worth knowing; empty if nothing is."""
        if self.effect == 0:
            return "The adapter changes nothing: base with and without it answer the same."
        if self.difference > HIDDEN_BY_ROUNDING * self.effect:
            return (
                f"Rounding hides part of what was learned: it changes the logits by {self.difference:.2g}, the adapter by {self.effect:.2g}. "
                f"Merge with --dtype float32, or use the adapter unmerged."
            )
        return ""


def verify_merge(wish: MergeWish, folder: Path, dtype: str) -> Verification:
    """Compare a merged folder with base and adapter.

    Args:
        wish: what was merged into what.
        folder: the result.
        dtype: number format of its weights.

    Raises:
        ValueError: it answers differently, or cannot be loaded.
    """
    compute = _compute_dtype(folder)
    batches = _batches(folder)
    base, adapted = _expected(wish, batches, compute)
    merged = _merged_logits(folder, batches, compute)
    found = compare(base, adapted, merged, dtype, str(compute).removeprefix("torch."))
    if not found.is_right:
        raise ValueError(
            f"The merged model answers differently from base and adapter, so it was not kept. {found.words} "
            f"Merge with --dtype float32; if that fails too, please report it with the adapter's adapter_config.json."
        )
    return found


def compare(base: torch.Tensor, adapted: torch.Tensor, merged: torch.Tensor, dtype: str, computed_in: str) -> Verification:
    """Distances between logits (tokens, vocabulary) of the base, of base and adapter, and of the merged model in a number format."""
    size = _centred(adapted).norm()
    change, arrived = _centred(adapted - base), _centred(merged - base)
    effect = float(change.norm() / size)
    return Verification(
        difference=float(_centred(merged - adapted).norm() / size),
        bound=BOUNDS[dtype],
        effect=effect,
        share=float((change * arrived).sum() / change.square().sum()) if effect else 0.0,
        has_share=effect > ROUNDING[dtype],
        same_choice=float((merged.argmax(-1) == adapted.argmax(-1)).float().mean()),
        positions=len(adapted),
        computed_in=computed_in,
    )


def _centred(logits: torch.Tensor) -> torch.Tensor:
    return logits - logits.mean(-1, keepdim=True)


def _compute_dtype(folder: Path) -> Any:
    """float32 if the merged weights fit into free memory so, else the format they are stored in."""
    import psutil
    import torch

    stored = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    fits = (
        2 * stored < MEMORY_SHARE * psutil.virtual_memory().available
    )  # 16-bit weights double; float32 ones are counted with room
    return torch.float32 if fits else torch.bfloat16


def _batches(folder: Path) -> list[torch.Tensor]:
    """Token ids (1, tokens) of each text; every 7th id where the folder has no tokenizer that fits the model."""
    import torch

    config = read_json(folder / "config.json") or {}
    num_tokens = int({**config, **(config.get("text_config") or {})}.get("vocab_size", 100))
    try:
        tokenizer = load_tokenizer(folder)
        texts = [tokenizer(text)["input_ids"][:MAX_TOKENS] for text in TEXTS]
    except (ValueError, RuntimeError):
        texts = []
    fitting = [ids for ids in texts if len(ids) > 1 and max(ids) < num_tokens]
    return [torch.tensor([ids]) for ids in fitting or [list(range(1, min(num_tokens, 7 * MAX_TOKENS), 7))]]


def _logits(model: Any, batches: list[torch.Tensor]) -> torch.Tensor:
    import torch

    with torch.inference_mode():
        return torch.cat([model(input_ids=ids.to(model.device), use_cache=False).logits[0].float().cpu() for ids in batches])


def _expected(wish: MergeWish, batches: list[torch.Tensor], compute: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of the base (with what was merged first), and with the adapter on it."""
    from .merge_model import load_dense, merge_into

    model = load_dense(wish.base, wish.loading, compute).to(compute)
    for adapter in wish.adapters[:-1]:
        model = merge_into(model, adapter)
    base = _logits(model, batches)
    adapted = _logits(_with_adapter(model, wish.adapter), batches)
    del model
    free_memory()
    return base, adapted


def _with_adapter(model: Any, adapter: Adapter) -> Any:
    from ..adapting.sift_apply import apply_sift
    from .merge_model import put_on

    if adapter.method == "sift":
        return apply_sift(model, adapter.folder).model
    return put_on(model, adapter)


def _merged_logits(folder: Path, batches: list[torch.Tensor], compute: Any) -> torch.Tensor:
    from .merge_model import load_dense

    model = load_dense(folder, None, compute)
    logits = _logits(model, batches)
    del model
    free_memory()
    return logits
