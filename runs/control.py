"""What the user asks of a running training, through a small file in the run's folder.

The same file works for the tab, the standalone page, the command line and under accelerate: rank 0 reads it at every step and
tells the other ranks.

Guarantee: whatever stands in the file, a run goes on: a value that cannot be used is passed over, and said once. Price: one look at the
file's date per step.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from .state import RunState
from .store import read_json, write_json

MAX_LR_SCALE = 100.0


@dataclass(frozen=True)
class Control:
    """Wishes of the user.

    Attributes:
        stop: end the run now, save and keep what was learned.
        save_requests: how often "save now" was pressed; a save happens when the number has grown.
        stop_at_loss: stop at or under this smoothed loss; None leaves the configuration's value, 0 = off.
        phase_requests: how often "next phase now" was pressed; the next phase begins when the number has grown.
        discard: end the run now and remove what it made: the folder becomes what it was before the start.
        stop_at_epoch: stop when so many epochs are done; None leaves the configuration's value, 0 = off.
        evaluate_requests: how often "evaluate now" was pressed; an evaluation happens when the number has grown.
        pause: wait before the next optimizer step until this is False again.
        lr_scale: what the schedule's learning rate is multiplied by.
    """

    stop: bool = False
    save_requests: int = 0
    stop_at_loss: float | None = None
    phase_requests: int = 0
    discard: bool = False
    stop_at_epoch: float | None = None
    evaluate_requests: int = 0
    pause: bool = False
    lr_scale: float = 1.0

    @property
    def wants_end(self) -> bool:
        """Whether the run is to end now."""
        return self.stop or self.discard


# words of the form for what a user may type or press
LABELS = {
    "stop": "Stop and keep",
    "save_requests": "Save checkpoint now",
    "stop_at_loss": "Stop at loss",
    "phase_requests": "Next phase now",
    "discard": "Stop and discard",
    "stop_at_epoch": "Stop at epoch",
    "evaluate_requests": "Evaluate now",
    "pause": "Pause",
    "lr_scale": "Learning rate scale",
}
_EXAMPLES = {
    "stop_at_loss": "Write for example 1.2, or 0 for off.",
    "stop_at_epoch": "Write for example 2.5, or 0 for off.",
    "lr_scale": f"Write a number above 0 and up to {MAX_LR_SCALE:g}: 0.5 halves the rate, 1 is the schedule's own.",
}
_NUMBERS = tuple(_EXAMPLES)
_COUNTS = ("save_requests", "phase_requests", "evaluate_requests")


def control_problem(name: str, value: Any, state: RunState | None = None) -> str:
    """What is wrong with a wish, with the remedy, in the form's words.

    Args:
        name: a field of :class:`Control`.
        value: what the user typed (a text or a number; None or "" = the configuration's own) or pressed.
        state: of the run; without it only the value itself is looked at.

    Returns:
        "" if the run would take it.
    """
    label = LABELS.get(name)
    if label is None:
        return f"{name}: a run has no such control. There are {', '.join(LABELS)}."
    if name not in _NUMBERS:
        return _flag_problem(name, value) or _useless(name, state)
    if name != "lr_scale" and (value is None or value == ""):
        return ""
    number = as_number(value)
    if number is None or number < 0 or (name == "lr_scale" and not 0 < number <= MAX_LR_SCALE):
        return f"{label}: this cannot be used. Got: {value!r}. {_EXAMPLES[name]}"
    if name == "stop_at_epoch" and state is not None and number:
        return _epoch_problem(number, state)
    return ""


def as_number(value: Any) -> float | None:
    """A number that was typed (1,5 is 1.5); None if it is none."""
    if isinstance(value, bool):
        return None
    try:
        number = float(value.strip().replace(",", ".") if isinstance(value, str) else value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _flag_problem(name: str, value: Any) -> str:
    if name in _COUNTS:
        is_right = isinstance(value, int) and not isinstance(value, bool) and value >= 0
        return "" if is_right else f"{LABELS[name]}: this counts how often it was pressed. Got: {value!r}. Write 1 or more."
    return "" if isinstance(value, bool) else f"{LABELS[name]}: this is on or off. Got: {value!r}. Write true or false."


def _useless(name: str, state: RunState | None) -> str:
    """Why a button would do nothing in this run."""
    if name == "evaluate_requests" and state is not None and state.report and not state.report.get("num_eval_samples"):
        return f"{LABELS[name]}: this run has no evaluation data. Give the next one an Evaluation data set or Evaluation share."
    return ""


def _epoch_problem(epoch: float, state: RunState) -> str:
    done, planned = float(state.last_step.get("epoch") or 0.0), state.plan.get("num_epochs")
    label = LABELS["stop_at_epoch"]
    if epoch <= done:
        return f"{label}: the run is at epoch {done:.2f} already. Got: {epoch:g}. Write a later one, or press {LABELS['stop']}."
    if planned and epoch > planned:
        return f"{label}: the run ends at epoch {planned:g}. Got: {epoch:g}. Write an earlier one, or 0 for off."
    return ""


def parse_control(data: Any, before: Control | None = None) -> tuple[Control, list[str]]:
    """Wishes from a file's content, which a user may have edited.

    Args:
        data: parsed JSON; anything.
        before: the wishes so far; a value that cannot be used leaves the one from here.

    Returns:
        The wishes, and sentences on what cannot be used.
    """
    before = before or Control()
    if not isinstance(data, dict):
        return before, ["control.json holds no JSON object. It is passed over until it does."]
    values, problems = {}, []
    for field in fields(Control):
        if field.name not in data:
            continue
        value = data[field.name]
        problem = control_problem(field.name, value)
        if problem:
            problems.append(f"{problem} The value in control.json is passed over.")
            value = getattr(before, field.name)
        elif field.name in _NUMBERS:
            value = as_number(value)
        values[field.name] = value
    return Control(**values), problems


def read_control(path: Path) -> Control:
    """The present wishes; none if there is no file."""
    return parse_control(read_json(path))[0]


def change_control(path: Path, **changes: object) -> Control:
    """Change some wishes and write them all; returns what is now asked for."""
    control = Control(**{**asdict(read_control(path)), **changes})
    write_json(path, asdict(control))
    return control


class ControlReader:
    """Reads the file only when it has changed: cheap enough for every step."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp: tuple[int, int, int] | None = None
        self._control = Control()
        self._said: set[str] = set()
        self._problems: list[str] = []

    def read(self) -> Control:
        """The present wishes."""
        try:
            stat = self._path.stat()
        except OSError:
            return Control()
        stamp = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
        if stamp != self._stamp:
            self._stamp = stamp
            self._control, problems = parse_control(read_json(self._path), self._control)
            self._problems += [problem for problem in problems if problem not in self._said]
            self._said.update(problems)
        return self._control

    def problems(self) -> list[str]:
        """Sentences on values that cannot be used; each is given once in a run."""
        problems, self._problems = self._problems, []
        return problems
