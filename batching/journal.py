"""The journal: the switches that a run decided on its way, and those it has passed.

Guarantee: with it, the order of every batch up to where the run stands is what it was, whatever transitions are set for the rest. Price:
one small entry a switch, in every checkpoint.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Switch:
    """From here on, another phase; or another size of the epoch.

    Attributes:
        epoch: counted from 0.
        position: batches of the epoch that are drawn before it, over all ranks; whole windows.
        stage: number of the phase that begins.
        phase: its name.
        cause: in words.
        gradual: epochs over which the phase grows in; 0 = at once.
        epoch_size: size that the epoch had until here, where the number of epochs was changed; None = it stays.
        is_planned: it came from the settings, not from a loss or the user.
    """

    epoch: int
    position: int
    stage: int
    phase: str
    cause: str
    gradual: float = 0.0
    epoch_size: float | None = None
    is_planned: bool = False

    @property
    def place(self) -> tuple[int, int]:
        """For sorting: epoch and position."""
        return self.epoch, self.position


def to_plain(switches: list[Switch]) -> list[dict[str, Any]]:
    """For JSON."""
    return [asdict(switch) for switch in switches]


def from_plain(entries: list[dict[str, Any]]) -> list[Switch]:
    """From JSON."""
    return [Switch(**entry) for entry in entries]
