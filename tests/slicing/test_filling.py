"""Filling against oracles: the fewest blocks by dynamic programming, DEMENTOR by its definition, overlap blocks by theirs."""

from __future__ import annotations

from collections import Counter
from contextlib import nullcontext
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trained_tokenizers import CORPUS, GPT2, TEXT, TOKENIZERS, encode, generated, num_tokens, small_windows
from training_pro.chunking import slice_text, slide_text
from training_pro.sentences import split_sentences

every_tokenizer = pytest.mark.parametrize("name", TOKENIZERS)
WINDOWS = st.sampled_from([nullcontext, lambda: small_windows(150), lambda: small_windows(400)])


def counted(text, tokenizer):
    """Offsets of the sentences, and the tokens from one to another (both included), counted anew each time."""
    spans = list(split_sentences(text, language="en"))

    @cache
    def tokens(first, last):
        return len(encode(tokenizer, text[spans[first][0] : spans[last][1]]))

    return spans, tokens


def fewest_blocks(num_sentences, tokens, limit):
    fewest = [0] * (num_sentences + 1)
    for end in range(1, num_sentences + 1):
        fewest[end] = min(fewest[start] + 1 for start in range(end) if tokens(start, end - 1) <= limit)
    return fewest[-1]


@every_tokenizer
@generated
@given(text=TEXT, limit=st.integers(12, 60), window=WINDOWS)
def test_no_way_to_take_whole_sentences_gives_fewer_blocks(name, text, limit, window):
    spans, tokens = counted(text, TOKENIZERS[name])
    if any(tokens(number, number) > limit for number in range(len(spans))):
        return
    counts = Counter()
    with window():
        blocks = slice_text(text, TOKENIZERS[name], max_tokens=limit, add_eos="none", hard_cut="", language="en", counts=counts)
    assert not counts
    assert {block.start for block in blocks} <= {start for start, _ in spans}
    assert {block.end for block in blocks} <= {end for _, end in spans}
    assert len(blocks) == fewest_blocks(len(spans), tokens, limit)


@every_tokenizer
@generated
@given(text=TEXT, limit=st.integers(12, 60), window=WINDOWS)
def test_dementor_is_every_sentence_as_far_as_the_cutoff_allows(name, text, limit, window):
    spans, tokens = counted(text, TOKENIZERS[name])
    if any(tokens(number, number) > limit for number in range(len(spans))):
        return
    lasts = [max(last for last in range(first, len(spans)) if tokens(first, last) <= limit) for first in range(len(spans))]
    expected = [text[spans[first][0] : spans[last][1]] for first, last in enumerate(lasts)]
    counts = Counter()
    with window():
        blocks = slide_text(text, TOKENIZERS[name], max_tokens=limit, add_eos="none", hard_cut="", language="en", counts=counts)
    distinct = [one for one, before in zip(expected, [None, *expected], strict=False) if one != before]
    assert [block.text for block in blocks] == distinct
    assert counts == Counter({"dropped_duplicates": len(expected) - len(distinct)} if len(expected) > len(distinct) else {})


@generated
@given(text=TEXT, limit=st.integers(12, 60), stride=st.integers(1, 9))
def test_a_stride_takes_fewer_blocks_and_leaves_no_gap(text, limit, stride):
    every = slide_text(text, GPT2, max_tokens=limit)
    counts = Counter()
    blocks = slide_text(text, GPT2, max_tokens=limit, stride=stride, counts=counts)
    assert len(blocks) <= len(every)
    assert {(block.start, block.end) for block in blocks} <= {(block.start, block.end) for block in every} or counts
    kept = [block for block in blocks if not block.overlap]
    if not counts["dropped_duplicates"]:
        gaps = [text[a.end : b.start] for a, b in zip(kept, kept[1:], strict=False)]
        assert not "".join(gaps).strip()


def test_stride_counts_sentences():
    text = "One two. Three four. Five six. Seven eight. Nine ten. Eleven twelve."
    limit = num_tokens("Five six. Seven eight. Nine ten.") + 1
    starts = [
        [block.text.split()[0] for block in slide_text(text, GPT2, max_tokens=limit, stride=stride)] for stride in (1, 2, 9)
    ]
    assert starts[0] == ["One", "Three", "Five", "Seven", "Nine", "Eleven"]
    assert set(starts[1]) < set(starts[0])
    assert len(starts[2]) < len(starts[1])


@every_tokenizer
@generated
@given(text=TEXT, limit=st.integers(12, 60), overlap=st.sampled_from([0.1, 0.5, 0.9]), window=WINDOWS)
def test_overlap_blocks_bridge_neighbours_and_repeat_none(name, text, limit, overlap, window):
    with window():
        blocks = slice_text(text, TOKENIZERS[name], max_tokens=limit, overlap=overlap)
        plain = slice_text(text, TOKENIZERS[name], max_tokens=limit)
    assert [block for block in blocks if not block.overlap] == plain
    spans = [(block.start, block.end) for block in blocks]
    for number, block in enumerate(blocks):
        if block.overlap:
            before, behind = blocks[number - 1], blocks[number + 1]
            assert before.section == block.section == behind.section
            assert before.start < block.start < before.end
            assert behind.start < block.end <= behind.end
            assert spans.count((block.start, block.end)) == 1
            assert block.num_tokens <= limit


def test_the_share_says_where_an_overlap_block_begins():
    text = " ".join(f"Word {letter} here." for letter in "abcdefghijklmnop")
    limit = num_tokens("Word a here. Word b here. Word c here. Word d here. Word e here. Word f here.") + 1
    firsts = {}
    for share in (0.2, 0.5, 0.8):
        blocks = slice_text(text, GPT2, max_tokens=limit, overlap=share)
        firsts[share] = blocks[1].text.split()[1]
        assert blocks[1].overlap
    assert firsts[0.8] < firsts[0.5] < firsts[0.2]


def test_blocks_say_their_section():
    text = "One. Two.\n\n\n\n\n\nThree.\n\n\n \n\n\nFour. Five."
    blocks = slice_text(text, GPT2, max_tokens=num_tokens("Three.") + 1)
    assert [(block.text, block.section, block.closes_section) for block in blocks] == [
        ("One.", 0, False),
        ("Two.", 0, True),
        ("Three.", 1, True),
        ("Four.", 2, False),
        ("Five.", 2, True),
    ]


def test_small_blocks_by_tokens_are_counted():
    counts = Counter()
    text = "A long enough sentence here.\n\n\nNo.\n\n\nAnother long sentence here."
    blocks = slice_text(text, GPT2, max_tokens=60, min_tokens=num_tokens("No."), counts=counts, add_bos=True)
    assert [block.text for block in blocks] == ["A long enough sentence here.", "Another long sentence here."]
    assert counts == {"ignored_blocks": 1, "ignored_chars": 3}
    assert len(slice_text(text, GPT2, max_tokens=60, min_tokens=num_tokens("No.") - 1)) == 3


def test_small_dementor_blocks_only_repeat_and_are_counted_apart():
    counts = Counter()
    text = "A sentence that is long. Another one that is long. Oh. Ah."
    blocks = slide_text(text, GPT2, max_tokens=200, min_chars=8, counts=counts)
    assert [block.text for block in blocks] == [text, "Another one that is long. Oh. Ah."]
    assert counts == {"ignored_overlaps": 2}


@pytest.mark.parametrize("name", ["metaspace", "llama2", "unigram", "llama3", "gpt2", "slow"])
def test_sentences_that_are_shorter_together_than_alone(name):
    """SentencePiece-style tokenizers add a mark to each text: the sum over sentences is too high."""
    text = "灯塔。" * 80
    limit = 40
    spans, tokens = counted(text, TOKENIZERS[name])
    blocks = slice_text(text, TOKENIZERS[name], max_tokens=limit, add_eos="none", language="en")
    assert len(blocks) == fewest_blocks(len(spans), tokens, limit) > 1
    assert len(spans) == 80


@pytest.mark.parametrize("name", TOKENIZERS)
def test_windows_that_end_where_no_word_ends(name):
    """Nothing certain parts these sentences, so tokens on both sides of a window's end must not be joined."""
    text = CORPUS[2] * 30
    for window in range(60, 100, 3):
        with small_windows(window):
            blocks = slice_text(text, TOKENIZERS[name], max_tokens=50, add_eos="none", language="zh", overlap=0.5)
        assert len(blocks) > 3
        for block in blocks:
            assert block.token_ids == encode(TOKENIZERS[name], block.text)
