"""Windows of sentences: the same sentences as in one look at the whole text, each once."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trained_tokenizers import GPT2, generated, small_windows
from training_pro.chunking import slice_text
from training_pro.slicing.cuts import make_cuts
from training_pro.slicing.reader import Reader
from training_pro.slicing.stream import Source


def split(text: str) -> list[tuple[int, int]]:
    """A stop ends a sentence unless a '!' is near behind it or a '?' before it: what a window does not show matters."""
    stops = [
        at + 1
        for at in range(len(text))
        if text[at] == "." and "!" not in text[at : at + 15] and "?" not in text[max(0, at - 12) : at]
    ]
    borders = [0, *stops, len(text)]
    spans = [(a + len(text[a:b]) - len(text[a:b].lstrip()), b) for a, b in zip(borders, borders[1:], strict=False)]
    return [(a, a + len(text[a:b].rstrip())) for a, b in spans if text[a:b].strip()]


PARTS = ["a.", "bb cc. ", "c.d.e. ", "f?", "g.h. ", "dd!", " ", "i. j.", "k.", "###"]


@generated
@given(parts=st.lists(st.sampled_from(PARTS), min_size=50, max_size=150), window=st.integers(90, 140))
def test_windows_have_the_sentences_of_the_whole(parts: list[str], window: int) -> None:
    text = "".join(parts)
    bounds = [0, *(at for match in re.finditer("###", text) for at in match.span()), len(text)]
    expected = [(a + at, b + at) for at, end in zip(bounds[::2], bounds[1::2], strict=True) for a, b in split(text[at:end])]
    if any(b - a > window - 40 for a, b in expected):
        return
    with small_windows(window):
        reader = Reader(Source(iter(text)), make_cuts("string", "###")(), split, window)
        found = [tuple(span) for stretches in reader.windows() for stretch in stretches for span in stretch.sentences.tolist()]
    assert found == expected


@pytest.mark.parametrize("num", range(20, 120, 7))
def test_a_separator_may_be_longer_than_what_is_looked_ahead(num: int) -> None:
    text = "One two three. " + "-" * num + " Four."
    for before in range(40, 60):
        with small_windows(70):
            blocks = slice_text("x" * before + text, GPT2, max_tokens=200, cut_at="regex", hard_cut="-{3,}")
        assert [block.text.lstrip("x") for block in blocks] == ["One two three.", "Four."]
