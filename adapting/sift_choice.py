"""Which components of each weight are trained: those with the largest gradient in the first batches.

What it does: runs forward and backward over the first batches, adds up the gradients (over batches and ranks) and takes of each weight
the components of largest magnitude. A sum over batches needs a dense place for each weight, so the weights take turns: as many at once
as fit into a memory budget, one pass over the same batches for each group.

Guarantee: exactly the largest components of the summed gradient, the same on all ranks; dropout draws the same in every pass, and the
random state is afterwards what it was. Price: a few passes over the first batches (about eight at a rate of 5 % and below, fewer above),
and dense sums no larger than what gradients and optimizer state will take afterwards, or an eighth of the chosen weights in float32 if
that is more (a single weight may be larger: an embedding).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from .sift_weights import SparseModel, SparseWeight

logger = logging.getLogger(__name__)

Backward = Callable[[float], None]

# bytes that a component takes later, but not while it is chosen: gradient and two moments in float32
LATER_BYTES = 12
DENSE_BYTES = 4
MOST_GROUPS = 8
FLOAT16_SCALE = 2.0**16
_SCALE_STEP = 16.0
_DIGIT_BITS = 16
_PART = 2**22


@dataclass(frozen=True)
class Choice:
    """What was chosen.

    Attributes:
        num_weights: weights of which components were chosen.
        num_components: chosen components of all of them.
        num_passes: passes over the first batches.
        num_silent: chosen components whose gradient was 0.
        share: of the squared length of the gradient that the chosen components have, 0 to 1.
    """

    num_weights: int
    num_components: int
    num_passes: int
    num_silent: int
    share: float

    @property
    def words(self) -> list[str]:
        """For the user."""
        passes = "1 pass" if self.num_passes == 1 else f"{self.num_passes} passes"
        lines = [
            f"SIFT: chose {self.num_components:,} components of {self.num_weights} weights in {passes} over the first batches; "
            f"they have {self.share:.1%} of the gradient's squared length."
        ]
        if self.num_silent:
            lines.append(
                f"SIFT: {self.num_silent:,} chosen components had no gradient in the first batches, so that chance chose them. "
                f"A larger 'Steps to choose by' or a smaller SIFT Rate avoids this."
            )
        return lines


def largest(magnitudes: torch.Tensor, size: int) -> torch.Tensor:
    """Flat indices (size,) of the largest numbers, ascending; of equal ones the first.

    Found digit by digit, since numbers >= 0 have the order of their bits: torch.topk would take many times the tensor's own memory.

    Args:
        magnitudes: contiguous, none below 0, all finite.
        size: at least 1, at most all.
    """
    flat = magnitudes.view(-1)
    bits = flat.view(torch.int64 if flat.element_size() == 8 else torch.int32)
    threshold, missing = 0, size
    for shift in range(8 * flat.element_size() - _DIGIT_BITS, -1, -_DIGIT_BITS):
        counts = _digit_counts(bits, threshold, shift)
        from_top = counts.flip(0).cumsum(0)
        place = int((from_top < missing).sum())  # the digit, from the top, in which the last wanted number lies
        missing -= int(from_top[place - 1]) if place else 0
        threshold = threshold << _DIGIT_BITS | (len(counts) - 1 - place)
    chosen = bits > threshold
    chosen[(bits == threshold).nonzero()[:missing, 0]] = True
    return chosen.nonzero()[:, 0]


def _digit_counts(bits: torch.Tensor, prefix: int, shift: int) -> torch.Tensor:
    """How often each digit stands at ``shift`` in the numbers that begin with ``prefix``."""
    counts = torch.zeros(1 << _DIGIT_BITS, dtype=torch.int64, device=bits.device)
    for part in bits.split(_PART):
        high = part >> shift
        digits = high[high >> _DIGIT_BITS == prefix] & (1 << _DIGIT_BITS) - 1
        counts += torch.bincount(digits, minlength=len(counts))
    return counts


def choose_components(sparse: SparseModel, backward: Backward, *, half: bool = False, budget: int = 0) -> Choice:
    """Choose the components of all weights; must be called on all ranks, before the first step.

    Args:
        sparse: the model; its weights get their components.
        backward: runs forward and backward over this rank's first batches, with the loss times its argument, and calls the bare model
            (DDP would wait for gradients that do not come). It is called several times and must do the same each time.
        half: the computation is in float16, whose small gradients need a scale.
        budget: bytes for dense sums; 0 = as the module says.

    Raises:
        ValueError: a gradient is not finite.
    """
    sizes = [weight.weight.numel() for weight in sparse.weights]
    groups = list(_groups(sizes, budget or default_budget(sizes, [weight.num_components for weight in sparse.weights])))
    scale = FLOAT16_SCALE if half else 1.0
    num_silent, chosen_square, whole_square, passes = 0, 0.0, 0.0, 0
    for group in groups:
        sums, scale, tried = _finite_sums(sparse, group, backward, scale)
        passes += tried
        for number in group:
            weight, total = sparse.weights[number], sums.pop(number).abs_()
            indices = _of_first_rank(largest(total, weight.num_components))
            chosen = total.view(-1)[indices]
            num_silent += int((chosen == 0).sum())
            chosen_square += float(chosen.double().square().sum()) / scale**2
            whole_square += float(torch.linalg.vector_norm(total).double().square()) / scale**2
            weight.begin(indices)
            del total, chosen
    share = min(1.0, chosen_square / whole_square) if whole_square else 0.0
    return Choice(len(sizes), sum(weight.num_components for weight in sparse.weights), passes, num_silent, share)


def default_budget(sizes: list[int], components: list[int]) -> int:
    """Bytes for dense sums: what gradients and moments will take, or an eighth of all if that is more."""
    return max(LATER_BYTES * sum(components), DENSE_BYTES * -(-sum(sizes) // MOST_GROUPS))


def _groups(sizes: list[int], budget: int) -> Iterator[list[int]]:
    """Positions of weights whose dense sums exist at once; a weight that is larger than the budget is alone."""
    group: list[int] = []
    used = 0
    for number, size in enumerate(sizes):
        if group and used + DENSE_BYTES * size > budget:
            yield group
            group, used = [], 0
        group.append(number)
        used += DENSE_BYTES * size
    if group:
        yield group


def _finite_sums(
    sparse: SparseModel, group: list[int], backward: Backward, scale: float
) -> tuple[dict[int, torch.Tensor], float, int]:
    """Summed gradients of a group; the scale with which they are finite; passes that it took."""
    passes = 0
    while True:
        passes += 1
        sums = _sums(sparse, group, backward, scale)
        if all(bool(total.isfinite().all()) for total in sums.values()):
            return sums, scale, passes
        bad = [sparse.weights[number].name for number, total in sums.items() if not bool(total.isfinite().all())]
        sums.clear()
        if scale <= 1.0:
            raise ValueError(
                f"SIFT: the gradient of {bad[0]} is not finite in the first batches, so nothing can be chosen by it. "
                f"Set Precision to bfloat16 or float32, or check the model."
            )
        scale = max(1.0, scale / _SCALE_STEP)


def _sums(sparse: SparseModel, group: list[int], backward: Backward, scale: float) -> dict[int, torch.Tensor]:
    """Summed dense gradients over the first batches and all ranks, by position."""
    sums: dict[int, torch.Tensor] = {}

    def taker(number: int) -> Callable[[torch.Tensor], None]:
        def add(dense: torch.Tensor) -> None:
            if number in sums:
                sums[number].add_(dense)
            else:
                sums[number] = dense.to(torch.promote_types(dense.dtype, torch.float32), copy=True).contiguous()

        return add

    sparse.watch({number: taker(number) for number in group})
    try:
        with _same_randomness(sparse.weights):
            backward(scale)
    finally:
        sparse.watch({})
    for number in group:  # a weight that no batch of this rank has met
        weight = sparse.weights[number].weight
        if number not in sums:
            sums[number] = torch.zeros_like(weight, dtype=torch.promote_types(weight.dtype, torch.float32))
        _add_ranks(sums[number])
    return sums


@contextmanager
def _same_randomness(weights: list[SparseWeight]) -> Iterator[None]:
    """Whatever is drawn inside is drawn again the next time and afterwards."""
    devices = {weight.weight.device for weight in weights}
    kind = next((device.type for device in devices if device.type not in ("cpu", "mps")), "cuda")
    numbers = sorted(device.index or 0 for device in devices if device.type == kind)
    state = torch.mps.get_rng_state() if any(device.type == "mps" for device in devices) else None
    try:
        with torch.random.fork_rng(numbers, device_type=kind):
            yield
    finally:
        if state is not None:
            torch.mps.set_rng_state(state)


def _several_ranks() -> bool:
    distributed = torch.distributed
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1


def _add_ranks(total: torch.Tensor) -> None:
    if _several_ranks():
        torch.distributed.all_reduce(total)


def _of_first_rank(indices: torch.Tensor) -> torch.Tensor:
    """What rank 0 has chosen: equal magnitudes must not be ordered differently elsewhere."""
    if _several_ranks():
        torch.distributed.broadcast(indices, src=0)
    return indices
