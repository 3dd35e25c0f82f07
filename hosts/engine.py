"""The heavy half, shared by the threads of a page: imported once, and the model used by one at a time.

Guarantee: two threads never import the engine at once (transformers' lazy modules fail under that), and Check never looks at a model
that a run has borrowed: it waits, or the run waits for it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..config import RunConfig
    from ..data.preview import Preview
    from ..runs.check_report import CheckReport

_import_lock = threading.Lock()
model_lock = threading.Lock()


def import_engine() -> Any:
    """The module ``training.job`` with everything under it."""
    with _import_lock:
        from ..training import check, job, preview

        assert check is not None
        assert preview is not None
        return job


def check(config: RunConfig, load_model: Callable[[], tuple[Any, Any]]) -> CheckReport:
    """Check in a page's thread, when no run has the model."""
    import_engine()
    from ..runs import registry
    from ..runs.check_report import CheckReport
    from ..training.check import check_run

    if registry.is_busy():
        return CheckReport(problems=["A training is going on. Check when it has ended."])
    with model_lock:
        return check_run(config, load_model)


def preview(config: RunConfig, load_model: Callable[[], tuple[Any, Any]], first: int, num: int) -> Preview:
    """A page of samples, in a page's thread, when no run has the model."""
    import_engine()
    from ..data.preview import Preview
    from ..runs import registry
    from ..training.preview import preview_run

    if registry.is_busy():
        return Preview(problems=["A training is going on. Look at the samples when it has ended."])
    with model_lock:
        return preview_run(config, load_model, first=first, num=num)
