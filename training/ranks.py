"""Processes that train together: who this one is, and how all of them stay of one mind.

Guarantee: what one process decides or suffers, all know before they go on, so none waits for another that has given up. Price: one
small message per decision. With a single process nothing is sent.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from .errors import InterruptedEarly, RunError

T = TypeVar("T")


@dataclass(frozen=True)
class Ranks:
    """This process among those that train together.

    Attributes:
        index: 0 for the main process.
        world_size: how many there are.
    """

    index: int = 0
    world_size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this process writes."""
        return self.index == 0

    def join(self) -> None:
        """Meet the other processes; must be called before anything is shared."""
        if self.world_size > 1:
            import torch
            from accelerate import PartialState

            # accelerate forms no group of CPU processes unless it is told that they are on CPUs
            PartialState(cpu=_wants_cpu() or not torch.cuda.is_available())

    def share(self, action: Callable[[], T]) -> T:
        """Do something on the main process only; all get what it gave, or fail with it.

        Args:
            action: its result must be picklable where there are several processes.

        Raises:
            Whatever ``action`` raises; on the other processes :class:`RunError` with its words, or :class:`InterruptedEarly`.
        """
        if self.world_size == 1:
            return action()
        if not self.is_main:
            return _unpack(self._broadcast(None))
        try:
            result = action()
        except BaseException as error:
            self._broadcast(("interrupt" if isinstance(error, KeyboardInterrupt | InterruptedEarly) else "error", str(error)))
            raise
        self._broadcast(("result", result))
        return result

    def first_failure(self, failure: str) -> str:
        """What went wrong on any process, told by each of them.

        Args:
            failure: what went wrong on this one; "" if nothing did.

        Returns:
            The failure of the lowest rank that has one; "" if all is well.
        """
        if self.world_size == 1:
            return failure
        from torch import distributed

        failures: list[Any] = [""] * self.world_size
        distributed.all_gather_object(failures, failure)
        return next((entry for entry in failures if entry), "")

    def _broadcast(self, content: Any) -> Any:
        from torch import distributed

        box = [content]
        distributed.broadcast_object_list(box, src=0)
        return box[0]


def _unpack(message: tuple[str, Any]) -> Any:
    kind, content = message
    if kind == "interrupt":
        raise InterruptedEarly
    if kind == "error":
        raise RunError(f"The main process stopped: {content}")
    return content


def _wants_cpu() -> bool:
    return os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes")


def current_ranks() -> Ranks:
    """From what `accelerate launch` (torchrun) put into the environment; a single process otherwise."""
    return Ranks(int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1)))


def leave() -> None:
    """Part from the other processes, after a run that all of them have ended."""
    from torch import distributed

    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()
