"""What surrounds a run: its diary, its end in words, its summary and graph.

Guarantee: neither a full disk nor a failing listener stops a training that could go on, and every run that began says how it ended.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..evaluation.diagnosis import diagnose, to_plain
from ..evaluation.phase_table import phase_rows
from ..export.card import write_card
from ..matplotgraph import save_graph
from ..runs.checkpoints import find_checkpoints
from ..runs.events import EventWriter
from ..runs.state import FAILED, INTERRUPTED, RunReader
from ..runs.store import RunFolder, write_json
from .errors import InterruptedEarly, OutOfMemoryError, RunError, is_lost_process, is_out_of_memory

logger = logging.getLogger(__name__)

Listener = Callable[..., None]


@dataclass
class Outcome:
    """How a run ended.

    Attributes:
        status: finished, interrupted or failed.
        message: what happened, in words.
        remedy: what to do about it.
        folder: the run's folder.
        step: optimizer steps done.
        loss: smoothed training loss at the end.
        adapter_saved: whether the folder holds what was learned.
    """

    status: str
    message: str
    folder: RunFolder
    remedy: str = ""
    step: int = 0
    loss: float | None = None
    adapter_saved: bool = False

    def end(self, status: str, message: str, remedy: str = "") -> None:
        """Say how it ended."""
        self.status, self.message, self.remedy = status, message, remedy


class Diary:
    """Takes events: writes them for everybody who reads the run's folder, and tells its listeners.

    Args:
        folder: the run's folder; None on processes other than the main one, which then say nothing.
        listener: called as ``listener(event, **fields)``.
    """

    def __init__(self, folder: RunFolder | None, listener: Listener | None) -> None:
        self._writer = EventWriter(folder.events if folder else None)
        self._listeners = [listener] if folder and listener is not None else []
        self._is_broken = False
        self.stage = ""

    def __call__(self, event: str, **fields: Any) -> None:
        """One event."""
        if event == "stage":
            self.stage = fields["detail"] or fields["stage"]
        try:
            self._writer(event, **fields)
        except OSError as error:
            if not self._is_broken:
                logger.warning("The run's diary cannot be written: %s. The training goes on.", error)
            self._is_broken = True
        self._tell(event, fields)

    def listen(self, listener: Listener) -> None:
        """Tell one more listener from now on; nothing on processes other than the main one."""
        if self._writer.path is not None:
            self._listeners.append(listener)

    def _tell(self, event: str, fields: dict[str, Any]) -> None:
        for listener in list(self._listeners):
            try:
                listener(event, **fields)
            except Exception:
                logger.exception("What shows the run failed and is told nothing more; the training goes on")
                self._listeners.remove(listener)

    def close(self) -> None:
        """The run is over."""
        try:
            self._writer.close()
        except OSError as error:
            logger.warning("The run's diary cannot be written: %s.", error)


def end_by_error(outcome: Outcome, error: BaseException, stage: str) -> None:
    """Put an error into words for the user.

    Args:
        outcome: is ended.
        error: what stopped the run.
        stage: what the run was doing.
    """
    if isinstance(error, KeyboardInterrupt | InterruptedEarly):
        saved = " What was learned is saved." if outcome.adapter_saved else ""
        if find_checkpoints(outcome.folder):
            saved += " 'resume' goes on from the newest checkpoint."
        outcome.end(INTERRUPTED, f"Interrupted by the user.{saved}")
    elif isinstance(error, RunError):
        outcome.end(FAILED, str(error), error.remedy)
    elif is_out_of_memory(error):
        memory = OutOfMemoryError.outside_steps(stage)
        outcome.end(FAILED, str(memory), memory.remedy)
    elif is_lost_process(error):
        logger.debug("The run failed", exc_info=error)
        outcome.end(FAILED, "Another process of this run has ended.", "Look at what it said; then 'resume' goes on.")
    elif isinstance(error, ValueError | OSError):
        logger.debug("The run failed", exc_info=error)
        outcome.end(FAILED, str(error))
    else:
        logger.error("The run stopped on an unexpected error", exc_info=error)
        outcome.end(FAILED, f"Unexpected error: {type(error).__name__}: {error}", "Please report it with the log above.")


def save_summary(outcome: Outcome, emit: Callable[..., None]) -> str:
    """Write the graph, training_log.json with the table of the phases and what the curves show, and the model card, from the diary.

    Args:
        outcome: of the run.
        emit: takes events.

    Returns:
        What is missing, in a sentence; empty if all is there.
    """
    folder = outcome.folder
    state = RunReader(folder).read()
    rows, findings = phase_rows(state), to_plain(diagnose(state))
    emit("phase_table", rows=rows)
    emit("diagnosis", findings=findings)
    missing = save_graph(folder, state)
    last = state.last_step
    summary = {
        "status": outcome.status,
        "message": outcome.message,
        "loss": last.get("loss"),
        "smoothed_loss": last.get("smoothed_loss"),
        "learning_rate": last.get("lr"),
        "epoch": last.get("epoch"),
        "current_steps": last.get("step"),
        "plan": {key: value for key, value in state.plan.items() if key not in ("t", "event", "learning_rates")},
        "phases": rows,
        "diagnosis": findings,
        "data": state.report,
        "versions": library_versions(),
    }
    write_json(folder.log, summary)
    return " ".join(filter(None, (missing, write_card(folder, state) if outcome.adapter_saved else "")))


def library_versions() -> dict[str, str]:
    """Versions of what a run's result depends on."""
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for name in ("torch", "transformers", "peft", "accelerate", "bitsandbytes"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
