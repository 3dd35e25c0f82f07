"""The memory that a run takes, for its diary.

Guarantee: looked at once a second at most, however fast the steps are, so that it costs nothing. Price: what was taken and given back
between two looks is not seen, except on CUDA and ROCm, whose allocator keeps what it took.
"""

from __future__ import annotations

import time
from typing import Any

import torch

SECONDS = 1.0


class MemoryGauge:
    """Bytes that the run holds on its device.

    Args:
        device: where the model is; on the CPU it is the process's memory.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._next = 0.0
        self._process: Any = None

    def read(self) -> int | None:
        """Bytes now; None if less than a second has passed since the last look, or nobody can tell."""
        now = time.monotonic()
        if now < self._next:
            return None
        self._next = now + SECONDS
        return self._look()

    def _look(self) -> int | None:
        if self._device.type == "cuda":  # all devices that the model is spread over
            return sum(torch.cuda.memory_reserved(index) for index in range(torch.cuda.device_count()))
        if self._device.type == "mps":
            return int(torch.mps.driver_allocated_memory())
        import psutil

        try:
            self._process = self._process or psutil.Process()
            return int(self._process.memory_info().rss)
        except psutil.Error:
            return None
