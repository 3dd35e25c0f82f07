"""The log of a run in words, newest first."""

from typing import Any

import pytest
from training_pro.runs.control import Control
from training_pro.runs.events import EventWriter
from training_pro.runs.state import LOGGED, RunState, apply_event, read_state
from training_pro.runs.store import RunFolder
from training_pro.ui.log_lines import NEWEST_SHOWN, control_words, line_of, log_html

EVIL = '<img src=x onerror="alert(1)">'


@pytest.mark.parametrize(
    ("event", "words"),
    [
        ({"event": "run_started", "resumed_from_step": None}, "The run begins."),
        ({"event": "run_started", "resumed_from_step": 1200}, "The run goes on from the checkpoint of step 1,200."),
        ({"event": "stage", "stage": "training", "detail": "setting up the adapter"}, "setting up the adapter"),
        ({"event": "stage", "stage": "training", "detail": ""}, "training"),
        ({"event": "message", "text": "Mind the gap."}, "Mind the gap."),
        (
            {"event": "phase", "phase": "sequential", "step": 7, "cause": "after 1 epoch"},
            "Phase sequential begins after step 7 (after 1 epoch).",
        ),
        ({"event": "evaluation", "step": 7, "loss": 1.25}, "Evaluation at step 7: loss 1.250."),
        (
            {"event": "checkpoint", "step": 7, "folder": "checkpoint-7-user", "cause": "user"},
            "Checkpoint of step 7 saved: checkpoint-7-user (you asked for it).",
        ),
        ({"event": "control", "name": "stop_at_loss", "value": 1.5, "step": 7}, "Stop at loss: 1.5 at step 7."),
        ({"event": "control", "name": "stop_at_loss", "value": 0.0}, "Stop at loss: off."),
        ({"event": "control", "name": "lr_scale", "value": 0.5, "step": 7}, "Learning rate scale: 0.5 at step 7."),
        ({"event": "control", "name": "pause", "value": False, "step": 7}, "Resume at step 7."),
        ({"event": "control", "name": "save_requests", "value": 2, "step": 7}, "Save checkpoint now at step 7."),
        ({"event": "paused", "step": 7}, "Paused at step 7."),
        ({"event": "unpaused", "step": 7, "seconds": 63.0}, "Goes on at step 7, after 1 min 3 s."),
        ({"event": "run_ended", "status": "finished", "message": "Done."}, "The run ended, finished: Done."),
        ({"event": "step", "step": 7}, ""),
    ],
)
def test_an_event_in_words(event: dict[str, Any], words: str) -> None:
    assert line_of(event) == words


def test_every_event_of_the_log_and_every_control_has_words() -> None:
    assert all(line_of({"event": kind, "text": "x", "stage": "x"}) for kind in LOGGED)
    assert all(control_words(name, 1) != name for name in vars(Control()))


def test_newest_first_and_the_others_counted() -> None:
    events = [{"event": "message", "t": float(number), "text": f"line {number}."} for number in range(NEWEST_SHOWN + 30)]
    html = log_html([*events, {"event": "message", "t": 9.0, "text": EVIL, "level": EVIL}])
    assert html.count("<time") == NEWEST_SHOWN
    assert html.index(f"line {NEWEST_SHOWN + 29}.") < html.index(f"line {NEWEST_SHOWN + 28}.")
    assert "31 earlier lines are in events.jsonl." in html
    assert "line 30." not in html
    assert "<img" not in html
    assert "Nothing yet" in log_html([])


def test_the_log_goes_on_over_a_resumed_start_and_begins_anew_with_another(tmp_path: Any) -> None:
    emit = EventWriter(tmp_path / "events.jsonl")
    emit("run_started", name="x", pid=1, process_started=0.0)
    emit("stage", stage="preparing", detail="reading", share=0.5)
    emit("message", level="info", text="first")
    emit("run_started", name="x", pid=1, process_started=0.0, resumed_from_step=0)
    emit("message", level="info", text="second")
    emit.close()
    lines = [line_of(event) for event in read_state(RunFolder(tmp_path)).log]
    assert lines == ["The run begins.", "first", "The run goes on from the checkpoint of step 0.", "second"]
    state = read_state(RunFolder(tmp_path))
    apply_event(state, {"event": "run_started", "t": 1.0})
    assert len(state.log) == 1
    assert RunState().log == []
