"""A table as aligned lines of text, as the command line shows it.

Guarantee: every column is as wide as its longest cell; no line ends in blanks. Price: none.

Example::

    phase       steps   loss
    length        100  2.104
    sequential     50  1.951
"""

from __future__ import annotations

from collections.abc import Sequence


def aligned(lines: Sequence[Sequence[str]], *, num_names: int = 1) -> list[str]:
    """The lines with their cells below each other.

    Args:
        lines: the cells of each line, the titles first; as many in each.
        num_names: so many columns from the left hold names, which stand on the left; the others hold numbers, on the right.
    """
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]

    def placed(line: Sequence[str]) -> str:
        cells = (
            cell.ljust(width) if place < num_names else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        return "  ".join(cells).rstrip()

    return [placed(line) for line in lines]
