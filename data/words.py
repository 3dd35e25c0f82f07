"""Numbers of things in words."""

from __future__ import annotations


def counted(number: int, words: str, layout: str = "") -> str:
    """1 broken row, 2 broken rows.

    Args:
        number: how many there are.
        words: what they are called when there are several; they end in s.
        layout: of the number, as for :func:`format`.
    """
    if number == 1:
        words = f"{words[:-3]}y" if words.endswith("ies") else words.removesuffix("s")
    return f"{number:{layout}} {words}"
