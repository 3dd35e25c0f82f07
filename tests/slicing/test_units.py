"""Sentences longer than the cutoff: cut at the best border, nothing lost, no character parted."""

from __future__ import annotations

from collections import Counter
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trained_tokenizers import GPT2, TOKENIZERS, encode, generated, num_tokens, small_windows
from training_pro.chunking import slice_text
from training_pro.slicing.borders import inner_borders, whole_characters

CHARACTERS = ["👨‍👩‍👧", "🇳🇴", "🇧🇷", "e\u0301", "a", "ᄀ\u1161\u11a8", "각", "क्षि", "กำ", "👍🏽", "灯", "o\u0302\u0323", "❤️"]
WORDS = st.lists(st.lists(st.sampled_from(CHARACTERS), min_size=1, max_size=12).map(tuple), min_size=4, max_size=30)


@pytest.mark.parametrize("name", TOKENIZERS)
@generated
@given(
    words=WORDS,
    clauses=st.integers(1, 6),
    limit=st.integers(45, 70),
    window=st.integers(120, 400),
    eos=st.sampled_from(["every_block", "none"]),
)
def test_nothing_is_lost_and_no_character_parted(name, words, clauses, limit, window, eos):
    """One sentence of many words, in windows that are shorter than it."""
    pieces = [part for number, word in enumerate(words) for part in (*word, *([","] if number % clauses == 0 else []), " ")]
    text = "".join(pieces).strip()
    counts = Counter()
    with small_windows(window):
        blocks = slice_text(text, TOKENIZERS[name], max_tokens=limit, counts=counts, add_eos=eos, hard_cut="")
    borders = set(accumulate(map(len, pieces)))
    assert all(block.start == 0 or block.start in borders for block in blocks)
    assert all(block.end in borders or block.end == len(text) for block in blocks)
    ends = [0, *(block.end for block in blocks)]
    starts = [*(block.start for block in blocks), len(text)]
    assert not "".join(text[a:b] for a, b in zip(ends, starts, strict=True)).strip()
    for block in blocks:
        ids = encode(TOKENIZERS[name], block.text)
        assert block.token_ids == ids + [TOKENIZERS[name].eos_token_id] * (eos == "every_block")
        assert block.num_tokens <= limit
    assert counts["cut_sentences"] <= len(blocks)
    assert len(blocks) == 1 or counts["cut_sentences"] >= 1


def test_clauses_before_words_before_tokens():
    limit = num_tokens("when the sea is calm,") + 1
    blocks = slice_text("when the sea is calm, when the lamp is lit", GPT2, max_tokens=limit)
    assert [block.text for block in blocks] == ["when the sea is calm,", "when the lamp is lit"]
    blocks = slice_text("the lamp the sea the wind", GPT2, max_tokens=num_tokens("the lamp the sea") + 1)
    assert [block.text for block in blocks][0] == "the lamp the sea"
    text = "lighthouse" * 9
    blocks = slice_text(text, GPT2, max_tokens=12)
    assert "".join(block.text for block in blocks) == text
    assert len(blocks) == len(encode(GPT2, text)) // 11 + (len(encode(GPT2, text)) % 11 > 0)


def test_a_sentence_that_fits_exactly_is_not_cut():
    counts = Counter()
    text = "The lamp burns, and the sea is calm."
    assert len(slice_text(text, GPT2, max_tokens=num_tokens(text) + 2, add_bos=True, counts=counts)) == 1
    assert not counts
    assert len(slice_text(text, GPT2, max_tokens=num_tokens(text) + 1, add_bos=True, counts=counts)) == 2
    assert counts == {"cut_sentences": 1}


def test_a_sentence_longer_than_many_windows_is_counted_once():
    counts = Counter()
    text = "the lamp the sea the wind " * 200
    with small_windows(300):
        blocks = slice_text(text, GPT2, max_tokens=30, counts=counts)
    assert " ".join(block.text for block in blocks) == text.strip()
    assert counts == {"cut_sentences": 1}


def test_a_character_of_a_hundred_accents_is_cut_rather_than_lost():
    text = "x" + "\u0301" * 100
    blocks = slice_text(text, GPT2, max_tokens=20)
    assert "".join(block.text for block in blocks) == text


def test_borders_in_a_window():
    text = "one, two three"
    assert list(inner_borders(text, [3, 4, 8, 14])) == [[], [4, 8], [3, 4, 8, 14]]
    assert next(inner_borders(text, [3, 4, 6])) == [4]
    assert whole_characters("e\u0301🇳🇴a", range(1, 6)) == [2, 4, 5]
