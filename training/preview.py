"""Preview: the samples of a run as they would be trained. Prepares with the same code as Check and the run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .. import train_utils
from ..config import RunConfig
from ..data.preview import Preview, preview
from .setup import prepare_samples


def preview_run(
    config: RunConfig,
    load_model: Callable[[], tuple[Any, Any]],
    *,
    first: int = 0,
    num: int = 5,
    progress: Callable[[float, str], None] | None = None,
) -> Preview:
    """A page of samples; the user's mistakes are problems, never exceptions.

    Args:
        config: all settings.
        load_model: gives model and tokenizer.
        first: first sample (or pack) to show.
        num: samples (or packs) to show.
        progress: as for data.prepare.
    """
    problems = [str(problem) for problem in config.problems()]
    if problems:
        return Preview(problems=problems)
    try:
        model, tokenizer = load_model()
        with train_utils.borrowed(model, tokenizer):
            prepared, packs = prepare_samples(config, model, tokenizer, progress=progress)
            return preview(prepared, tokenizer, capacity=config.data.cutoff, first=first, num=num, packs=packs)
    except (ValueError, OSError) as error:
        return Preview(problems=[str(error)])
