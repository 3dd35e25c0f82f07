"""Which route a model's batches take: tried on the model itself, once, before the first step.

What it does: computes a few samples of the run by the model's plain, padded forward with all logits, and by each candidate; the first
candidate whose logits agree, and in which a changed sample leaves its neighbours alone, is taken.

Guarantee: a route that is not exact for this model is never taken; why not is said. Price: a handful of forward passes over a few
hundred tokens; over the sliding window's length, where samples are longer than that.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch

from ..data.chat import IGNORE
from ..data.collate import Collator, separate, trained_places
from .attention import NotExactError, attention_configs
from .chunks import UNCHANGED, Behind, whole_losses
from .errors import is_out_of_memory
from .head import CHUNKED, FULL, SELECTED, TrainedHead, can_chunk
from .segments import usable_kernels
from .step import FLAT, MASKED, PADDED, BatchLoss, Route, accepted, without_cache

logger = logging.getLogger(__name__)

ROUTES = ("auto", FLAT, MASKED, PADDED)

HEAD_TOKENS, LAYOUT_TOKENS, NEIGHBOUR_TOKENS, PLACES = 48, 256, 96, 24
SMOOTHING = 0.1  # label smoothing is tried with the losses
# number format of the computation -> most difference of logits (length of the difference by their own), and of a neighbour's logits
_BOUNDS = {
    torch.float64: (1e-10, 1e-12),
    torch.float32: (1e-5, 1e-6),
    torch.float16: (5e-3, 5e-4),
    torch.bfloat16: (3e-2, 2e-3),
}
_ATTENTION_LAYERS = ("attention", "full", "sliding", "chunked", "dense", "sparse", "moe", "mlp", "global", "local")


@dataclass(frozen=True)
class Trial:
    """What a route is chosen for.

    Attributes:
        model: on its device, with the adapter.
        pieces: a few samples of the run; the longest first.
        pad_id: token id to pad with.
        precision: number format of the computation: float32, bfloat16 or float16.
        has_packs: several samples stand in an entry and must not see each other.
    """

    model: Any
    pieces: Sequence[dict[str, Any]]
    pad_id: int
    precision: str
    has_packs: bool = False

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.model.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """Number format of the computation."""
        wanted: torch.dtype = getattr(torch, self.precision)
        kept = self.model.get_input_embeddings().weight.dtype
        return wanted if wanted != torch.float32 or not kept.is_floating_point else kept

    def batch(self, pieces: Sequence[dict[str, Any]], layout: str) -> dict[str, Any]:
        """Tensors on the model's device."""
        made = Collator(self.pad_id, layout)(pieces)
        return {name: value.to(self.device) if isinstance(value, torch.Tensor) else value for name, value in made.items()}

    @contextmanager
    def computing(self) -> Iterator[None]:
        """As training computes, but without dropout and gradients."""
        training, is_half = self.model.training, self.precision != "float32"
        # not entered at all for float32: some devices warn of a format that they do not know, though it is off
        mixed = torch.autocast(self.device.type, getattr(torch, self.precision)) if is_half else nullcontext()
        self.model.eval()
        try:
            with torch.no_grad(), mixed:
                yield
        finally:
            self.model.train(training)


def choose_route(trial: Trial, wanted: str = "auto") -> Route:
    """Find the fastest exact route.

    Args:
        trial: model and samples.
        wanted: name in :data:`ROUTES`.

    Raises:
        ValueError: the wanted route is not exact for this model, or the model cannot be trained by any.
    """
    with trial.computing():
        head, behind, reasons = _choose_head(trial)
        state = "" if wanted == PADDED else stateful_layers(trial.model)
        if state:
            reasons.append(f"Batches: rows that hold several samples are not exact for this model: {state}.")
        for layout, kernel in [] if state else _candidates(trial, wanted):
            route = Route(layout, kernel, head, behind=behind)
            reason = _attempt(lambda route=route: _disagreement(trial, route))  # type: ignore[misc]
            if not reason:
                return _refuse_flex(trial, Route(layout, kernel, head, tuple(reasons), behind))
            if kernel in ("", "segments"):
                reasons.append(f"Batches: {layout} rows are not exact for this model: {reason}.")
            logger.debug("route %s %s: %s", layout, kernel, reason)
    if wanted not in ("auto", PADDED):
        raise ValueError(f"Batch route: {reasons[-1].removeprefix('Batches: ')} Got: {wanted!r}. Choose auto or padded.")
    return _refuse_flex(trial, Route(PADDED, "", head, tuple(reasons), behind))


def _candidates(trial: Trial, wanted: str) -> list[tuple[str, str]]:
    flat = [(FLAT, kernel) for kernel in usable_kernels(trial.device, trial.dtype)]
    masked = [(MASKED, "")]
    return {"auto": flat + masked * trial.has_packs, FLAT: flat, MASKED: masked, PADDED: []}[wanted]


def _attempt(action: Callable[[], str]) -> str:
    """What speaks against something; an error is a reason too, but for memory."""
    try:
        return action()
    except NotExactError as error:
        return str(error)
    except Exception as error:
        if is_out_of_memory(error):
            raise
        logger.debug("a route failed", exc_info=True)
        lines = str(error).strip().splitlines()
        return f"{type(error).__name__}: {lines[0] if lines else ''}".rstrip(": .")


def _refuse_flex(trial: Trial, route: Route) -> Route:
    own = {config._attn_implementation for config in attention_configs(trial.model)}
    if route.layout != FLAT and "flex_attention" in own and trial.device.type == "cpu":
        why = " ".join(route.reasons)
        raise ValueError(
            f"Model: it was loaded with flex attention, which has no backward pass on a CPU. {why} "
            f"Load it with sdpa or eager attention, or set Batch route to flat.".replace("  ", " ")
        )
    return route


# --- the head ------------------------------------------------------------------------------------------------------------------


def _choose_head(trial: Trial) -> tuple[str, Behind, list[str]]:
    """The head's mode, what the model does behind it, and what speaks against a better one."""
    batch = trial.batch([_cut(piece, HEAD_TOKENS) for piece in trial.pieces[:3]], PADDED)
    inputs = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"], **without_cache(trial.model)}
    places, targets = batch["positions"], batch["targets"]
    full = TrainedHead(trial.model, FULL)
    logits = full.logits(trial.model, inputs, places)

    def selected() -> str:
        made = TrainedHead(trial.model, SELECTED).logits(trial.model, inputs, places)
        return _differs(made, logits, _BOUNDS[trial.dtype][0])

    found: list[Behind] = []

    def chunked() -> str:
        if not can_chunk(trial.model.get_output_embeddings()):
            return "the calls of the head are watched, or its weights are moved about"
        behind = TrainedHead(trial.model, CHUNKED).behind(trial.model, inputs, places)
        if behind is None:
            return "the model changes the logits behind its head in a way that is not known here"
        found.append(behind)
        exact, _ = whole_losses(logits, targets, SMOOTHING)
        head = TrainedHead(trial.model, CHUNKED, behind)
        made = head.losses(trial.model, inputs, places, targets, SMOOTHING)
        whole = torch.stack([exact / len(targets), *whole_losses(logits, targets, 0.0)[1]])
        return _differs(torch.stack([made.objective / len(targets), *made.each]), whole, _BOUNDS[trial.dtype][0])

    if reason := _attempt(selected):
        return FULL, UNCHANGED, [f"Batches: the loss needs the logits of all tokens: {reason}."]
    if reason := _attempt(chunked):
        logger.debug("no chunked head: %s", reason)
        return SELECTED, UNCHANGED, []
    return CHUNKED, found[0], []


# --- the layout ----------------------------------------------------------------------------------------------------------------


def stateful_layers(model: Any) -> str:
    """Why samples cannot stand in one row where a layer carries a state along it; "" if none does."""
    config = model.config.get_text_config() if hasattr(model.config, "get_text_config") else model.config
    kinds = {str(kind) for kind in getattr(config, "layer_types", None) or getattr(config, "layers_block_type", None) or []}
    strange = sorted(kind for kind in kinds if not any(word in kind for word in _ATTENTION_LAYERS) or "linear" in kind)
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    if strange or getattr(base, "_is_stateful", False):
        named = ", ".join(strange) or type(base).__name__
        return f"its layers carry a state along the row ({named}), which would run from one sample into the next"
    return ""


def _disagreement(trial: Trial, route: Route) -> str:
    """What differs from the padded forward; "" if nothing does."""
    if "position_ids" not in accepted(trial.model):
        return "it takes no positions"
    if route.layout == FLAT and not attention_configs(trial.model):
        return "it computes its attention by itself"
    pieces = trial_pieces(trial)
    own = BatchLoss(trial.model, Route(PADDED, "", route.head if route.head == FULL else SELECTED))
    wanted = own.logits(trial.model, trial.batch(pieces, PADDED))
    computer = BatchLoss(trial.model, Route(route.layout, route.kernel, own.route.head))
    others = (pieces[1]["input_ids"] + 1) % trial.model.get_input_embeddings().weight.shape[0]
    changed = [pieces[0], {**pieces[1], "input_ids": others}, pieces[2]]
    with computer.attached():
        got = computer.logits(trial.model, trial.batch(_as_entries(pieces, route), route.layout))
        again = computer.logits(trial.model, trial.batch(_as_entries(changed, route), route.layout))
    if route.layout == FLAT and not computer.num_attention_calls:
        return "it computes its attention by itself"
    bound, leak = _BOUNDS[trial.dtype]
    counts = [len(trained_places(torch.as_tensor(piece["labels"])[None])["targets"]) for piece in pieces]
    first, last = slice(0, counts[0]), slice(counts[0] + counts[1], None)
    after, before = (torch.cat([entry[first], entry[last]]) for entry in (again, got))
    reason = _differs(after, before, leak)
    if reason:
        return f"its samples see each other, {reason}"
    return _differs(got, wanted, bound)


def _as_entries(pieces: list[dict[str, Any]], route: Route) -> list[dict[str, Any]]:
    """Pieces as the entries of a batch: two in a pack and one alone, where a row is a pack."""
    if route.layout != MASKED:
        return pieces
    import numpy as np

    first, second, third = pieces
    joined = {name: np.concatenate([first[name], second[name]]) for name in ("input_ids", "labels")}
    return [{**joined, "lengths": [len(first["input_ids"]), len(second["input_ids"])]}, third]


def trial_pieces(trial: Trial) -> list[dict[str, Any]]:
    """Three samples, the long one in the middle, trained at a few places of each."""
    long = _cut(trial.pieces[0], max(LAYOUT_TOKENS, _window(trial.model, len(trial.pieces[0]["input_ids"]))))
    others = [_cut(piece, NEIGHBOUR_TOKENS) for piece in trial.pieces[1:3]]
    while len(others) < 2:
        others.append(_cut(long, NEIGHBOUR_TOKENS - 7 * len(others)))
    return [_train_some(piece) for piece in (others[0], long, others[1])]


def _window(model: Any, longest: int) -> int:
    """Tokens that a sample needs for the model's windows to show; 0 if no sample has as many."""
    config = model.config.get_text_config() if hasattr(model.config, "get_text_config") else model.config
    sizes = (getattr(config, name, None) for name in ("sliding_window", "attention_chunk_size", "window_size", "local_attention"))
    shorter = [size for size in sizes if isinstance(size, int) and 0 < size < longest]
    return max(shorter) + 128 if shorter else 0


def _cut(piece: dict[str, Any], length: int) -> dict[str, Any]:
    ids = piece["input_ids"][:length]
    return _train_some({"input_ids": ids, "labels": ids})


def _train_some(piece: dict[str, Any]) -> dict[str, Any]:
    """The piece with labels at :data:`PLACES` places, spread over it, the last one included."""
    import numpy as np

    ids = np.asarray(piece["input_ids"])
    labels = np.full(len(ids), IGNORE, dtype=np.int64)
    places = np.unique(np.linspace(1, len(ids) - 1, PLACES).astype(int))
    labels[places] = ids[places]
    return {"input_ids": ids, "labels": labels}


def _differs(got: torch.Tensor, wanted: torch.Tensor, bound: float) -> str:
    """By how much two tensors differ, where that is too much; "" if it is not."""
    if got.shape != wanted.shape:
        return f"its output has the shape {tuple(got.shape)} instead of {tuple(wanted.shape)}"
    got, wanted = (entry.cpu().double() for entry in (got, wanted))  # not every device knows float64
    error = float((got - wanted).norm() / wanted.norm().clamp_min(1e-30))
    return "" if error <= bound else f"the results differ by {error:.1e}"  # also where it is not a number


def run_pieces(samples: Any, lengths: Sequence[int]) -> list[dict[str, Any]]:
    """Samples of a run for a :class:`Trial`: the longest, and two that are spread over it.

    Args:
        samples: a data.collate.Samples whose entries are single samples or shared packs.
        lengths: tokens of each entry.
    """
    longest = max(range(len(lengths)), key=lengths.__getitem__)
    others = [index for index in dict.fromkeys((0, len(lengths) // 2, len(lengths) - 1)) if index != longest][:2]
    return [piece for piece in separate([samples[index] for index in (longest, *others)]) if len(piece["input_ids"]) > 1]
