"""What the user asks for, agreed upon by all processes: rank 0 reads it, all take it up after the same step.

Guarantee: every rank gets the same wishes, each change is an event in the diary with the step after which it holds, and each press of a
button counts once. Price: a look at a file's date per step; with several ranks one small broadcast.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, fields, replace
from typing import Any

from ..runs.control import Control, ControlReader

_FIELDS = fields(Control)


def to_numbers(control: Control) -> list[float]:
    """All wishes as numbers, in the order of the fields; None is NaN."""
    return [math.nan if value is None else float(value) for value in asdict(control).values()]


def from_numbers(numbers: list[float]) -> Control:
    """The inverse of :func:`to_numbers`."""
    values: dict[str, Any] = {}
    for field, number in zip(_FIELDS, numbers, strict=True):
        default: Any = field.default
        values[field.name] = (None if math.isnan(number) else number) if default is None else type(default)(number)
    return Control(**values)


def agree(accelerator: Any, control: Control, *flags: bool) -> tuple[Control, tuple[bool, ...]]:
    """What rank 0 has, on all ranks; must be called on all of them.

    Args:
        accelerator: of the run.
        control: the wishes; those of rank 0 count.
        *flags: what else only rank 0 can decide, such as whether time is up.
    """
    if accelerator.num_processes == 1:
        return control, flags
    import torch

    told = [*to_numbers(control), *map(float, flags)]
    dtype = torch.float32 if accelerator.device.type == "mps" else torch.float64
    numbers = torch.tensor(told, dtype=dtype, device=accelerator.device)
    torch.distributed.broadcast(numbers, src=0)
    heard = numbers.tolist()
    return from_numbers(heard[: len(_FIELDS)]), tuple(bool(number) for number in heard[len(_FIELDS) :])


class Controls:
    """The wishes of a run that goes on.

    Args:
        reader: of the run's control file; asked on rank 0 only.
        emit: takes events.
        lr_scale: what holds from the start, when a run is resumed.
    """

    def __init__(self, reader: ControlReader, emit: Callable[..., None], lr_scale: float = 1.0) -> None:
        self._reader = reader
        self._emit = emit
        self.wishes = replace(Control(), lr_scale=lr_scale)
        self._served = dict.fromkeys(("save_requests", "evaluate_requests"), 0)

    def take(self, accelerator: Any, step: int, *flags: bool) -> tuple[Control, tuple[bool, ...]]:
        """The wishes after a step, the same on all ranks; what changed is in the diary. Must be called on all of them.

        Args:
            accelerator: of the run.
            step: optimizer steps done.
            *flags: see :func:`agree`.
        """
        mine = self._reader.read() if accelerator.is_main_process else Control()
        for problem in self._reader.problems():
            self._emit("message", level="warning", text=problem)
        wishes, agreed = agree(accelerator, mine, *flags)
        for name, value in asdict(wishes).items():
            if value != getattr(self.wishes, name):
                self._emit("control", name=name, value=value, step=step)
        self.wishes = wishes
        return wishes, agreed

    def is_asked(self, name: str) -> bool:
        """Whether a button was pressed since this was asked last; ``name`` counts its presses."""
        pressed = int(getattr(self.wishes, name))
        is_new = pressed > self._served[name]
        self._served[name] = max(pressed, self._served[name])
        return is_new
