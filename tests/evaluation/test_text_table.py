"""Aligned lines: names on the left, numbers on the right, no blanks at the ends."""

import pytest
from training_pro.evaluation.text_table import aligned


def test_columns_are_as_wide_as_their_longest_cell() -> None:
    lines = [["phase", "steps", "loss"], ["length", "1,100", "2.1"], ["sequential", "50", ""]]
    assert aligned(lines) == ["phase       steps  loss", "length      1,100   2.1", "sequential     50"]
    assert aligned([["a", "epochs", "n"], ["bb", "0 to 1", "10"]], num_names=2) == ["a   epochs   n", "bb  0 to 1  10"]


def test_lines_of_different_length_are_a_mistake() -> None:
    with pytest.raises(ValueError, match="zip"):
        aligned([["a", "b"], ["c"]])
