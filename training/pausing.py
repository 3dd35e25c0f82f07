"""The model of a run that stands still between two steps: lent to others, and afterwards as if nothing had been.

What it does: while it is lent, the model is in evaluation mode, keeps a cache while it generates, and has the averaged weights where the
optimizer keeps any; the adapter is on it. A host may let others use it meanwhile (the WebUI its chat).

Guarantee: random numbers, modes, weights and settings are afterwards bit for bit what they were, whatever was done with the model, so that a
run trains the same with pauses and without. Price: with averaging optimizers the trained weights are there twice meanwhile.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np
import torch

from .optimizers import averaged_weights

POLL_SECONDS = 0.2  # how often a run that waits looks at what the user asks for

Say = Callable[[str], None]
# what a host does while a run waits; it is handed what writes a word about the run, and may wait on leaving (for a reply that is being written)
Lend = Callable[[Say], AbstractContextManager[None]]


def lend_to_nobody(say: Say) -> AbstractContextManager[None]:
    """For hosts that have nothing to do with a model in training."""
    return nullcontext()


@contextmanager
def random_kept(fresh: bool = False) -> Iterator[None]:
    """Afterwards all random numbers go on as if none had been drawn.

    Args:
        fresh: meanwhile Python's are unpredictable, so that what is drawn in two pauses differs.
    """
    python, numpy = random.getstate(), np.random.get_state()
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_available() and torch.cuda.is_initialized() else []
    metal = torch.mps.get_rng_state() if torch.backends.mps.is_available() else None
    with torch.random.fork_rng(devices):
        try:
            if fresh:
                random.seed()
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)
            if metal is not None:
                torch.mps.set_rng_state(metal)


@contextmanager
def _mode_of_answers(model: Any) -> Iterator[None]:
    """Evaluation mode, with a cache while it generates; every module gets its own mode back."""
    modes = [(module, module.training) for module in model.modules()]
    configs = [model.config] if hasattr(model.config, "use_cache") else []
    before = [config.use_cache for config in configs]
    for config in configs:
        config.use_cache = True
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
        for config, use_cache in zip(configs, before, strict=True):
            config.use_cache = use_cache


@contextmanager
def answering(trainer: Any, *, fresh: bool = False) -> Iterator[None]:
    """Meanwhile the model of a run answers as what it has learned so far; see the module's guarantee.

    Args:
        trainer: of the run, between two steps.
        fresh: see :func:`random_kept`.
    """
    with random_kept(fresh), averaged_weights(trainer.optimizer), _mode_of_answers(trainer.model):
        yield


def wait_for_change(take: Callable[[], Any], before: Any) -> Any:
    """Look again and again, without using the processor, until the wishes are others; must be called on all ranks.

    Args:
        take: gives the wishes, the same on all ranks.
        before: the wishes so far.
    """
    while True:
        time.sleep(POLL_SECONDS)
        wishes = take()
        if wishes != before:
            return wishes
