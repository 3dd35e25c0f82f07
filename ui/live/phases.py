"""Phases of a run in words: which one trains, since when and why, and which one follows. Pure functions of the run's state.

Guarantee: a run with one phase, and one of a time before there were phases, has nothing to say here. Price: none.
"""

from __future__ import annotations

from ...config.settings_training import MODES
from ...runs.state import RunState


def phase_names(state: RunState) -> tuple[str, ...]:
    """Phases of the run's batching mode, in order; none before the run is planned, or if its diary knows no phases."""
    mode = str(state.plan.get("batching") or "")
    return MODES.get(mode, (mode,) if mode else ())


def next_phase(state: RunState) -> str:
    """The phase that follows the one that trains; empty if there is none. Also one that the plan does not reach by itself."""
    stage = state.phases[-1].get("stage", 0) if state.phases else 0
    return next(iter(phase_names(state)[stage + 1 :]), "")


def phase_words(state: RunState) -> str:
    """The phase that trains, since which finished step and why; empty if the run has one phase only, or has not begun."""
    if len(phase_names(state)) < 2 or not state.phases:
        return ""
    event = state.phases[-1]
    name, step, cause = event.get("phase", "?"), event.get("step"), event.get("cause")
    since = f"since step {step:,}" if step else "since the beginning"
    return f"{name} {since}" + (f" ({cause})" if cause else "")
