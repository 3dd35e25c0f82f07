"""The numbers of a run's steps as columns, which charts are drawn from.

Guarantee: the columns are those of the state's steps, also after a resumed or a new start. Price: each step is walked through once,
however often the charts are drawn: a drawing of 100,000 steps takes some hundredths of a second.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]
# what a step event tells; what it does not tell is no number
NAMES = ("step", "epoch", "loss", "smoothed_loss", "lr", "grad_norm", "tokens_per_second", "memory")
_NO_NUMBER = float("nan")


class StepColumns:
    """Columns that grow with the diary."""

    def __init__(self) -> None:
        self._begin(None)

    def _begin(self, source: Sequence[dict[str, Any]] | None) -> None:
        self._source = source
        self._columns = {name: array("d") for name in NAMES}
        self._seconds = array("d")
        self._sum = 0.0

    def __len__(self) -> int:
        return len(self._seconds)

    def take(self, steps: Sequence[dict[str, Any]]) -> StepColumns:
        """Take in what is new.

        Args:
            steps: of the run's state; another list than the last time is another start of the run.
        """
        if steps is not self._source or len(steps) < len(self):
            self._begin(steps)
        appends = [(name, column.append) for name, column in self._columns.items()]
        for event in steps[len(self) :]:
            for name, append in appends:
                value = event.get(name)
                append(value if isinstance(value, (int, float)) else _NO_NUMBER)
            self._sum += event.get("seconds") or 0.0
            self._seconds.append(self._sum)
        return self

    def __getitem__(self, name: str) -> Numbers:
        """One column, shape (steps,); NaN where a step does not tell it."""
        return np.array(self._columns[name])

    @property
    def seconds(self) -> Numbers:
        """Seconds of training at the end of each step, shape (steps,): evaluations, saves and pauses do not count."""
        return np.array(self._seconds)
