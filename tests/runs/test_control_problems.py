"""What is wrong with a wish, in the form's words; and wishes from a file that somebody edited."""

import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from training_pro.runs.control import LABELS, Control, ControlReader, control_problem, parse_control, read_control
from training_pro.runs.state import RunState

STATE = RunState(
    steps=[{"step": 5, "epoch": 1.25}],
    plan={"num_epochs": 3.0},
    report={"num_samples": 10, "num_eval_samples": 0},
)


def test_every_control_has_words() -> None:
    assert list(LABELS) == [field.name for field in fields(Control)]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("stop_at_loss", value) for value in (None, "", 0, 1.2, "1.2", "1,2", " 3 ")),
        *(("stop_at_epoch", value) for value in (None, "", 0, "0", 1.5, 3)),
        *(("lr_scale", value) for value in (0.01, 1, "0,5", 100)),
        *((name, value) for name in ("stop", "discard", "pause") for value in (True, False)),
        *(("save_requests", 0), ("phase_requests", 3)),
    ],
)
def test_what_a_run_takes(name: str, value: Any) -> None:
    assert control_problem(name, value, STATE) == control_problem(name, value) == ""


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("stop_at_loss", "low", "Stop at loss: this cannot be used. Got: 'low'. Write for example 1.2, or 0 for off."),
        ("stop_at_loss", -1, "Stop at loss: this cannot be used. Got: -1. Write for example 1.2, or 0 for off."),
        ("stop_at_loss", "nan", "Stop at loss: this cannot be used. Got: 'nan'. Write for example 1.2, or 0 for off."),
        ("stop_at_epoch", True, "Stop at epoch: this cannot be used. Got: True. Write for example 2.5, or 0 for off."),
        (
            "stop_at_epoch",
            1,
            "Stop at epoch: the run is at epoch 1.25 already. Got: 1. Write a later one, or press Stop and keep.",
        ),
        ("stop_at_epoch", 3.5, "Stop at epoch: the run ends at epoch 3. Got: 3.5. Write an earlier one, or 0 for off."),
        *(
            (
                "lr_scale",
                value,
                f"Learning rate scale: this cannot be used. Got: {value!r}. Write a number above 0 and up to 100: 0.5 halves the rate, "
                f"1 is the schedule's own.",
            )
            for value in (0, "", None, 101, -0.5, "fast")
        ),
        ("pause", "yes", "Pause: this is on or off. Got: 'yes'. Write true or false."),
        ("save_requests", 1.5, "Save checkpoint now: this counts how often it was pressed. Got: 1.5. Write 1 or more."),
        ("save_requests", -1, "Save checkpoint now: this counts how often it was pressed. Got: -1. Write 1 or more."),
        (
            "evaluate_requests",
            1,
            "Evaluate now: this run has no evaluation data. Give the next one an Evaluation data set or Evaluation share.",
        ),
        ("speed", 1, f"speed: a run has no such control. There are {', '.join(LABELS)}."),
    ],
)
def test_what_it_does_not(name: str, value: Any, words: str) -> None:
    assert control_problem(name, value, STATE) == words


def test_an_evaluation_where_there_are_data() -> None:
    state = RunState(report={"num_eval_samples": 4})
    assert control_problem("evaluate_requests", 1, state) == ""
    assert control_problem("evaluate_requests", 1, RunState()) == ""  # not read yet


# --- a file that somebody edited -----------------------------------------------------------------------------------------------

ANYTHING = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists, max_leaves=3)


@given(st.dictionaries(st.sampled_from(list(LABELS)) | st.text(), ANYTHING) | ANYTHING)
def test_whatever_stands_there_the_wishes_are_good(data: Any) -> None:
    control, problems = parse_control(data)
    for name, value in asdict(control).items():
        assert control_problem(name, value) == ""
    assert parse_control(asdict(control)) == (control, [])
    assert all(problem.endswith(("is passed over.", "until it does.")) for problem in problems)


def test_a_bad_value_leaves_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "control.json"
    reader = ControlReader(path)
    path.write_text(json.dumps({"lr_scale": 0.5, "pause": True}))
    assert reader.read() == Control(lr_scale=0.5, pause=True)
    path.write_text(json.dumps({"lr_scale": "x", "pause": True, "stop": 1}))
    assert reader.read() == Control(lr_scale=0.5, pause=True)
    path.write_text("{")  # half written
    assert reader.read() == Control(lr_scale=0.5, pause=True)
    assert len(reader.problems()) == 3
    assert reader.problems() == []
    path.write_text(json.dumps({"lr_scale": "x"}))
    assert reader.read() == Control(lr_scale=0.5)  # pause is no more asked for
    assert reader.problems() == []  # said once
    assert read_control(path) == Control()


def test_wants_end() -> None:
    assert [Control(**{name: True}).wants_end for name in ("stop", "discard", "pause")] == [True, True, False]
