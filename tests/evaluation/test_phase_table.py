"""The phases of a run in numbers, from its diary; as a table of words."""

from typing import Any

import pytest
from training_pro.evaluation.phase_table import BEFORE, basis, changes, gain_words, phase_rows, table_cells, text_table
from training_pro.runs.state import RunState, apply_event


def step(number: int, epoch: float, loss: float | None, trained: int, **more: Any) -> dict[str, Any]:
    fixed = {"tokens": 2 * trained, "seconds": 0.5, "padding": 5}
    return {"event": "step", "step": number, "epoch": epoch, "loss": loss, "trained_tokens": trained, **fixed, **more}


def gain(mean: float, **more: Any) -> dict[str, Any]:
    return {"mean": mean, "error": 0.05, "num_replies": 9, "num_tokens": 90, "num_conversations": 4, **more}


EVENTS = [
    {"event": "run_started", "name": "veltmor"},
    {"event": "phase", "step": 0, "epoch": 0.0, "phase": "length", "stage": 0, "cause": ""},
    {"event": "evaluation", "step": 0, "epoch": 0.0, "loss": 4.0},
    {"event": "understanding", "step": 0, "epoch": 0.0, "loss": 3.75, "gains": {"context": gain(0.1), "order": gain(0.0)}},
    step(1, 0.5, 3.0, 10),
    step(2, 1.0, 1.0, 30, padding=15),
    {"event": "evaluation", "step": 1, "epoch": 0.5, "loss": 3.5},
    {"event": "evaluation", "step": 2, "epoch": 1.0, "loss": 2.0},
    {"event": "understanding", "step": 2, "epoch": 1.0, "gains": {"context": gain(0.2, change=0.1, change_error=0.01)}},
    {"event": "phase", "step": 2, "epoch": 1.0, "phase": "sequential", "stage": 1, "cause": "after 1 epoch"},
    step(3, 2.0, None, 40, seconds=0.25),
]


def state_of(events: list[dict[str, Any]]) -> RunState:
    state = RunState()
    for event in events:
        apply_event(state, event)
    return state


def test_the_rows_literally() -> None:
    before, length, sequential = phase_rows(state_of(EVENTS))
    nothing = {"loss": None, "tokens_per_second": None, "trained_tokens_per_second": None, "padding_share": None, "seconds": 0}
    assert before == {
        **{"phase": BEFORE, "cause": "", "begin": 0.0, "end": 0.0, "num_steps": 0, "tokens": 0, "trained_tokens": 0, **nothing},
        **{"eval_loss": 4.0, "eval_step": 0, "gains": {"context": gain(0.1), "order": gain(0.0)}, "gains_step": 0},
        "history_loss": 3.75,
    }
    assert length == {
        **{"phase": "length", "cause": "", "begin": 0.0, "end": 1.0, "num_steps": 2, "seconds": 1.0, "padding_share": 0.2},
        **{"loss": 1.5, "tokens": 80, "trained_tokens": 40, "tokens_per_second": 80.0, "trained_tokens_per_second": 40.0},
        **{"eval_loss": 2.0, "eval_step": 2, "gains_step": 2},
        "gains": {"context": gain(0.2, change=0.1, change_error=0.01)},
        "history_loss": None,
    }
    assert (sequential["phase"], sequential["cause"], sequential["begin"], sequential["end"]) == (
        "sequential",
        "after 1 epoch",
        1.0,
        2.0,
    )
    assert (sequential["loss"], sequential["eval_loss"], sequential["gains"], sequential["num_steps"]) == (None, None, {}, 1)
    assert sequential["tokens_per_second"] == 320.0


def test_a_run_that_was_resumed_has_the_rows_of_the_whole() -> None:
    again = [{"event": "run_started", "name": "veltmor", "resumed_from_step": 2}, step(3, 2.0, 0.5, 10), step(4, 3.0, 0.3, 10)]
    rows = phase_rows(state_of([*EVENTS, *again]))
    assert [(row["phase"], row["num_steps"], row["loss"]) for row in rows] == [
        ("before", 0, None),
        ("length", 2, 1.5),
        ("sequential", 2, 0.4),
    ]


def test_a_diary_without_phases_evaluations_or_padding() -> None:
    old = {name: value for name, value in step(1, 1.0, 2.0, 10).items() if name != "padding"}
    (row,) = phase_rows(state_of([{"event": "plan", "batching": "length"}, old]))
    assert (row["phase"], row["loss"], row["padding_share"], row["eval_loss"]) == ("length", 2.0, None, None)
    assert phase_rows(state_of([old]))[0]["phase"] == "training"
    assert phase_rows(RunState()) == []


def test_the_table_in_words() -> None:
    titles, cells = table_cells(phase_rows(state_of(EVENTS)))
    assert titles == [
        *(
            "phase",
            "epochs",
            "steps",
            "loss",
            "evaluation loss",
            "tokens/s",
            "trained tokens/s",
            "padding",
            "loss with history",
            "context gain",
            "order gain",
        )
    ]
    assert cells == [
        ["before", "", "", "", "4.0000", "", "", "", "3.7500", "0.100 ± 0.050", "0.000 ± 0.050"],
        ["length", "0.00 to 1.00", "2", "1.5000", "2.0000", "80", "40", "20.0%", "", "0.200 ± 0.050", ""],
        ["sequential", "1.00 to 2.00", "1", "", "", "320", "160", "5.9%", "", "", ""],
    ]
    lines = text_table(phase_rows(state_of(EVENTS)))
    assert lines[1].split() == ["before", "4.0000", "3.7500", "0.100", "±", "0.050", "0.000", "±", "0.050"]
    assert lines[0].index("loss") + len("loss") == lines[2].index("1.5000") + len("1.5000")
    assert lines[-2] == (
        "Gains are nats per reply token that the full history saves, ± standard error. "
        "context gain: 9 replies of 4 conversations, 90 tokens."
    )
    assert lines[-1] == "Gains since the first measurement: length: context +0.100 ± 0.010."


def test_without_gains_there_are_no_such_columns() -> None:
    rows = phase_rows(state_of([event for event in EVENTS if event["event"] != "understanding"]))
    assert "context gain" not in table_cells(rows)[0]
    assert (basis(rows), changes(rows)) == ("", [])
    assert len(text_table(rows)) == 4


@pytest.mark.parametrize(
    ("entry", "words"),
    [(None, ""), ({"mean": None}, ""), ({"mean": 0.25, "error": None}, "0.250"), (gain(-0.25), "-0.250 ± 0.050")],
)
def test_a_gain_in_words(entry: Any, words: str) -> None:
    assert gain_words(entry) == words


def test_a_change_without_an_error() -> None:
    rows = [{"phase": "length", "gains": {"context": gain(0.2, change=-0.1, change_error=None)}}]
    assert changes(rows) == ["length: context -0.100"]
