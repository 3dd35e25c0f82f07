"""Numbers of a learning curve: how it moves, and how sure that is.

Guarantee: a trend comes with a standard error that allows for noise that lasts over several steps (means of blocks are compared, not
steps). Price: at least :data:`FEWEST_STEPS` steps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]
FEWEST_STEPS = 24
BLOCKS = 12


@dataclass(frozen=True)
class Curve:
    """The training loss of a part of a run.

    Attributes:
        step: optimizer steps done, shape (steps,); rising.
        epoch: epochs done, shape (steps,).
        loss: nats per trained token, shape (steps,); finite.
        weight: trained tokens, shape (steps,).
        rate: learning rate, shape (steps,).
    """

    step: Numbers
    epoch: Numbers
    loss: Numbers
    weight: Numbers
    rate: Numbers

    def __len__(self) -> int:
        return len(self.step)

    def part(self, chosen: Any) -> Curve:
        """Some of the steps: a slice or flags."""
        return Curve(self.step[chosen], self.epoch[chosen], self.loss[chosen], self.weight[chosen], self.rate[chosen])

    @property
    def mean(self) -> float:
        """Loss per trained token."""
        return float(np.average(self.loss, weights=self.weight))

    def block_means(self, num_blocks: int = BLOCKS) -> Numbers:
        """Loss of stretches of about as many steps each, shape (num_blocks,)."""
        parts = np.array_split(np.arange(len(self)), num_blocks)
        return np.asarray([self.part(part).mean for part in parts])


@dataclass(frozen=True)
class Trend:
    """How a loss changes.

    Attributes:
        change: from begin to end.
        error: its standard error.
    """

    change: float
    error: float

    def is_below(self, limit: float, sureness: float = 3.0) -> bool:
        """Whether the change is surely less than a limit."""
        return self.change + sureness * self.error < limit

    def is_above(self, limit: float, sureness: float = 3.0) -> bool:
        """Whether the change is surely more than a limit."""
        return self.change - sureness * self.error > limit


def read_curve(steps: Sequence[dict[str, Any]]) -> Curve:
    """The training loss from the diary's step events; steps without a finite loss are left out."""
    rows = [
        (
            float(event["step"]),
            float(event.get("epoch") or 0.0),
            float(event["loss"]),
            _weight(event),
            float(event.get("lr") or 0.0),
        )
        for event in steps
        if isinstance(event.get("loss"), (int, float)) and math.isfinite(event["loss"]) and isinstance(event.get("step"), int)
    ]
    columns = np.asarray(rows, dtype=np.float64).reshape(-1, 5).T
    return Curve(*columns)


def _weight(event: dict[str, Any]) -> float:
    return float(event.get("trained_tokens") or 1.0)


def trend(curve: Curve, num_blocks: int = BLOCKS) -> Trend:
    """How the loss moves from the first block of a part to the last, by a straight line through the means of blocks."""
    values = curve.block_means(num_blocks)
    place = np.linspace(-0.5, 0.5, num_blocks)
    slope = float(place @ values / (place @ place))
    left = values - values.mean() - slope * place
    variance = float(left @ left) / (num_blocks - 2)
    return Trend(slope, math.sqrt(variance / float(place @ place)))


def difference(before: Curve, after: Curve) -> Trend:
    """By how much the loss of one part differs from that of another."""
    if min(len(before), len(after)) < 2:
        return Trend(0.0, math.inf)
    error = math.sqrt(sum(float(part.loss.var(ddof=1)) / len(part) for part in (before, after)))
    return Trend(after.mean - before.mean, error)


def spikes(curve: Curve, window: int = 20) -> list[int]:
    """Steps at which the loss jumps far out of what the steps before it did: over 8 times their usual deviation and 0.5 nats."""
    found = []
    for place in range(window, len(curve)):
        before = curve.loss[place - window : place]
        middle = float(np.median(before))
        usual = float(np.median(np.abs(before - middle))) * 1.4826
        if curve.loss[place] - middle > max(8 * usual, 0.5):
            found.append(int(curve.step[place]))
    return found


def changes_at_epochs(curve: Curve) -> list[Trend]:
    """How the loss changes from the end of each epoch to the beginning of the next, beyond what it falls within them."""
    found = []
    for border in range(1, int(math.ceil(float(curve.epoch[-1]) - 1e-6)) if len(curve) else 0):
        before = curve.part((curve.epoch > border - 0.25) & (curve.epoch <= border))
        after = curve.part((curve.epoch > border) & (curve.epoch <= border + 0.25))
        if min(len(before), len(after)) >= 4:
            halves = [part.block_means(2) for part in (before, after)]
            within = sum(float(first - second) for first, second in halves) / 2
            change = difference(before, after)
            found.append(Trend(change.change + max(0.0, within), change.error))
    return found
