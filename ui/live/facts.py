"""What of a live run its controls show: which of them apply, and the values in force. Pure functions of the state and the wishes.

Guarantee: a value in force is the user's latest word, else the configuration's; a page opened later shows the same. Price: none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ...runs.control import Control
from ...runs.state import RunState
from ..fields import write_number
from .phases import next_phase

PAUSE, RESUME = "Pause", "Resume"
# the fields a user may type into, in the order in which they stand
VALUES = ("stop_at_loss", "stop_at_epoch", "lr_scale")


@dataclass(frozen=True)
class LiveFacts:
    """What the controls of a run show.

    Attributes:
        is_live: it is going on.
        is_planned: its steps are known: it can be paused, saved and given other values.
        pause_label: what the one button for both does now.
        can_evaluate: there are held-out samples.
        can_switch: there is a further phase.
        values: what is in force, as one would type it; "" = off.
    """

    is_live: bool = False
    is_planned: bool = False
    pause_label: str = PAUSE
    can_evaluate: bool = False
    can_switch: bool = False
    values: tuple[str, ...] = ("",) * len(VALUES)


def live_facts(state: RunState, control: Control, parameters: Any) -> LiveFacts:
    """What a run's controls show.

    Args:
        state: the run.
        control: what its user asks for.
        parameters: the run's configuration, as its file has it.
    """
    if not state.is_live:
        return LiveFacts()
    return LiveFacts(
        is_live=True,
        is_planned=bool(state.plan),
        pause_label=RESUME if control.pause else PAUSE,
        can_evaluate=bool(state.plan and (state.evaluations or state.report.get("num_eval_samples"))),
        can_switch=bool(state.plan and next_phase(state)),
        values=tuple(_in_force(name, control, parameters) for name in VALUES),
    )


def _in_force(name: str, control: Control, parameters: Any) -> str:
    value = getattr(control, name)
    if value is None:
        section = parameters.get("checkpoints") if isinstance(parameters, dict) else None
        value = section.get(name) if isinstance(section, dict) else None
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return ""
    return write_number(float(value)) if value or name == "lr_scale" else ""
