"""What the command line says of measurements, and the table of the phases at the end."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from training_pro.runs.store import RunFolder
from training_pro.terminal import TrainingDisplay, table_lines

ROW = {
    **{"phase": "length", "cause": "", "begin": 0.0, "end": 1.0, "num_steps": 3, "loss": 2.5, "eval_loss": 2.25, "eval_step": 3},
    **{"tokens": 100, "trained_tokens": 40, "seconds": 1.0, "tokens_per_second": 100.0, "trained_tokens_per_second": 40.0},
    **{"padding_share": 0.125, "gains": {}, "gains_step": None},
}
BEFORE = {
    **ROW,
    "phase": "before",
    "loss": None,
    "tokens_per_second": None,
    "trained_tokens_per_second": None,
    "padding_share": None,
}


def outcome(folder: Path) -> SimpleNamespace:
    return SimpleNamespace(status="finished", message="Done.", remedy="", adapter_saved=False, folder=RunFolder(folder))


def test_a_measurement_in_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    gains = {"context": {"mean": 0.25, "error": 0.031}, "order": {"mean": -0.01, "error": None}}
    TrainingDisplay()("understanding", epoch=1.5, gains=gains)
    assert capsys.readouterr().out == "epoch 1.50: context gain 0.250 ± 0.031, order gain -0.010\n"


def test_the_table_at_the_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    display = TrainingDisplay()
    display("phase_table", rows=[BEFORE, ROW])
    assert capsys.readouterr().out == ""  # not above a bar that still moves
    display.close(outcome(tmp_path))
    lines = capsys.readouterr().out.splitlines()
    assert lines[:4] == [
        "",
        "phase         epochs  steps    loss  evaluation loss  tokens/s  trained tokens/s  padding",
        "before                                        2.2500",
        "length  0.00 to 1.00      3  2.5000           2.2500       100                40    12.5%",
    ]
    assert lines[-1] == "finished: Done."


def test_one_row_says_no_more_than_the_bar_did(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert table_lines([ROW]) == table_lines([]) == []
    silent = TrainingDisplay(visible=False)
    silent("phase_table", rows=[BEFORE, ROW])
    silent.close(outcome(tmp_path))
    assert capsys.readouterr().out == ""
