"""A model that is fitted for training: what is called, saved and undone, whatever method trains it.

Guarantee: the run and the trainer know only this; LoRA, full fine-tuning and sparse increments differ in how they make one.
Price: none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


def _nothing() -> None:
    return None


@dataclass
class Fitted:
    """A model with trainable parameters.

    Attributes:
        model: what Trainer calls; its parameters with ``requires_grad`` are trained.
        method: name in the table of methods.
        save: writes what was learned into an existing folder, so that ``refit`` of the same method takes it up bit-equal; files appear
            whole or not at all. Called on the main process, at checkpoints and at the end.
        undo: gives the base weights back where the method changed them (:func:`train_utils.borrowed` does the rest); called once, however
            the run ended, before the borrowed model goes back.
        notes: sentences for the user: what was adjusted, what it costs.
        choose: where a method looks at gradients before the first step of a new run: called once, on all ranks, when everything else is
            set up. Takes what runs forward and backward over this rank's first batches with the loss times its argument, and whether the
            computation is in float16; gives sentences for the user. None: there is nothing to choose.
        save_result: writes the result for its user, where that differs from what a checkpoint must hold; else ``save`` does.
    """

    model: Any
    method: str
    save: Callable[[Path], None]
    undo: Callable[[], None] = _nothing
    notes: list[str] = field(default_factory=list)
    save_result: Callable[[Path], None] | None = None
    choose: Callable[[Callable[[float], None], bool], list[str]] | None = None

    @property
    def result(self) -> Callable[[Path], None]:
        """What writes the result at the end of a run."""
        return self.save_result or self.save
