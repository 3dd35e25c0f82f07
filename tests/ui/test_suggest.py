"""Suggestions of Check on the page: what a line says is what its button writes."""

import os

import pytest

if not os.environ.get("CI"):  # there a missing gradio is an error
    pytest.importorskip("gradio")

from training_pro.ui.form.suggest import MOST, applied, line_html, show, unchanged

FOUND = {
    "data.cutoff": (96, "the longest sample has 90 tokens"),
    "training.learning_rate": (2e-5, "0.0003 is far too high for full"),
    "training.gradient_checkpointing": (True, "not even one <sample> fits"),
}
STATE = {name: list(pair) for name, pair in FOUND.items()}


def test_a_line_says_what_why_and_nothing_unescaped() -> None:
    lines = [line_html(name, *pair) for name, pair in FOUND.items()]
    assert lines[0] == "<b>Maximum context length (Cutoff): 96.</b> The longest sample has 90 tokens."
    assert "Learning Rate: 2e-5." in lines[1]
    assert "Use Gradient Checkpoint: on." in lines[2]
    assert "&lt;sample&gt;" in lines[2]


def test_lines_are_shown_and_hidden() -> None:
    whole, state, all_button, *rows = show(FOUND)
    assert whole["visible"] is True
    assert state == STATE
    assert all_button["visible"] is True
    shown = [update["visible"] for update in rows[0::3]]
    assert shown == [True] * 3 + [False] * (MOST - 3)
    assert len(show({})) == len(show(FOUND)) == len(unchanged())
    assert show({})[0]["visible"] is False
    assert show(dict(list(FOUND.items())[:1]))[2]["visible"] is False  # one line needs no button for all


def test_one_is_applied() -> None:
    values, buttons, note = applied(STATE, 1)
    assert values == {"training.learning_rate": "2e-5"}
    assert [number for number, button in enumerate(buttons) if button.get("value") == "Applied"] == [1]
    assert note == "Learning Rate is 2e-5 now. Check again to see what that changes."


def test_all_are_applied() -> None:
    values, buttons, note = applied(STATE, None)
    assert values == {"data.cutoff": 96, "training.learning_rate": "2e-5", "training.gradient_checkpointing": True}
    assert [button.get("interactive") for button in buttons] == [False] * 3 + [None] * (MOST - 3) + [False]
    assert "(Cutoff) is 96 now, Learning Rate is 2e-5 now, Use Gradient Checkpoint is on now." in note


def test_a_button_without_a_line_changes_nothing() -> None:
    assert applied(STATE, 7)[0] == applied({}, None)[0] == {}
    assert "Press Check" in applied({}, 0)[2]
