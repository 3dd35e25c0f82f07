"""Texts that come in pieces: the same blocks as the whole text, in the memory of a few windows."""

from __future__ import annotations

import io
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trained_tokenizers import CORPUS, GPT2, LONG_TEXT, TOKENIZERS, encode, generated, small_windows
from training_pro.chunking import CUTS, EOS_MODES, Slicer, iter_blocks, slice_text
from training_pro.slicing import stream
from training_pro.slicing.section import Section
from training_pro.slicing.stream import Source

OPTIONS = st.fixed_dictionaries(
    {
        "max_tokens": st.integers(12, 60),
        "overlap": st.sampled_from([0.0, 0.5, 0.9]),
        "cut_at": st.sampled_from(list(CUTS)),
        "hard_cut": st.sampled_from(["\n\n\n", "###", ""]),
        "min_chars": st.sampled_from([0, 3]),
        "min_tokens": st.sampled_from([0, 2]),
        "add_bos": st.booleans(),
        "add_eos": st.sampled_from(EOS_MODES),
        "stride": st.integers(1, 3),
        "sliding": st.booleans(),
    }
)


def in_pieces(text, sizes):
    at = 0
    while at < len(text):
        size = sizes[at % len(sizes)]
        yield text[at : at + size]
        at += size


@pytest.mark.parametrize("name", TOKENIZERS)
@generated
@given(text=LONG_TEXT, options=OPTIONS, sizes=st.lists(st.integers(1, 90), min_size=1, max_size=5), window=st.integers(60, 300))
def test_pieces_give_the_blocks_of_the_whole_text(name, text, options, sizes, window):
    with small_windows(window):
        slicer = Slicer(TOKENIZERS[name], **options)
        counts, counts_in_pieces = Counter(), Counter()
        whole = list(slicer.blocks(text, counts=counts))
        assert list(slicer.blocks(in_pieces(text, sizes), counts=counts_in_pieces)) == whole
        assert counts == counts_in_pieces
    for block in whole:
        assert block.text == text[block.start : block.end]
        bos = [TOKENIZERS[name].bos_token_id] if options["add_bos"] else []
        ids = bos + encode(TOKENIZERS[name], block.text)
        assert block.token_ids in (ids, [*ids, TOKENIZERS[name].eos_token_id])
        assert block.num_tokens <= options["max_tokens"]
    kept = [block for block in whole if not block.overlap]
    assert all(one.end <= other.start for one, other in zip(kept, kept[1:], strict=False))
    small = options["min_chars"] or options["min_tokens"]
    if not small and options["cut_at"] != "string" and not counts["dropped_duplicates"]:
        left = "".join(text[a:b] for a, b in zip([0, *(b.end for b in kept)], [*(b.start for b in kept), len(text)], strict=True))
        assert not left.replace("###", "").strip()


TEXT = "The lamp burns. " * 300 + "\n\n\n" + "Nobody came. " * 200


def test_files_and_pieces_are_one_text():
    whole = slice_text(TEXT, GPT2, max_tokens=64)
    assert len(whole) > 30
    assert slice_text(io.StringIO(TEXT), GPT2, max_tokens=64) == whole
    assert slice_text(TEXT.split("e"), GPT2, max_tokens=64) != whole
    assert list(iter_blocks(io.StringIO(TEXT), GPT2, max_tokens=64)) == whole
    assert list(iter_blocks([TEXT, io.StringIO(TEXT), iter(TEXT)], GPT2, max_tokens=64)) == whole * 3


def test_bytes_are_refused():
    with pytest.raises(TypeError, match="The pieces of a text must be str, but one is bytes: open the file in text mode"):
        list(iter_blocks([[b"One."]], GPT2, max_tokens=64))


def test_a_source_holds_what_is_asked_for(monkeypatch):
    monkeypatch.setattr(stream, "HELD_CHARS", 3)
    source = Source(iter(["abc", "", "defg", "hij"]))
    source.read_to(4)
    assert (source.text, source.end, source.ended) == ("abcdefg", 7, False)
    source.drop(2)
    assert source.offset == 0
    source.drop(5)
    source.read_to(99)
    assert (source.text, source.offset, source.end, source.ended) == ("fghij", 5, 10, True)
    assert source.slice(6, 8) == "gh"


def test_progress_tells_characters():
    told = []
    with small_windows(400):
        slice_text(iter([TEXT]), GPT2, max_tokens=64, on_chars=told.append)
    assert told == sorted(told)
    assert len(told) > 10
    assert told[-1] == len(TEXT)


@pytest.mark.parametrize("hard_cut", ["\n\n\n", "lighthouse", ""])
@pytest.mark.parametrize("unit", [" ".join(CORPUS) + " ", "no stop at all " * 20, "a" * 200])
def test_memory_does_not_grow_with_the_text(monkeypatch, hard_cut, unit):
    """What is held is a few windows, however long the text and its sections are."""
    held = Counter()
    read_to, grow = Source.read_to, Section.grow

    def watched_read(self, end):
        read_to(self, end)
        held["chars"] = max(held["chars"], len(self.text))

    def watched_grow(self):
        grown = grow(self)
        held["units"] = max(held["units"], len(self.starts))
        held["ids"] = max(held["ids"], len(self._ids))
        held["runs"] = max(held["runs"], len(self._runs))
        return grown

    monkeypatch.setattr(Source, "read_to", watched_read)
    monkeypatch.setattr(Section, "grow", watched_grow)
    monkeypatch.setattr(stream, "HELD_CHARS", 2000)
    most = []
    for length in (40_000, 200_000):
        held.clear()
        with small_windows(4000):
            pieces = (unit for _ in range(length // len(unit)))
            blocks = iter_blocks([pieces], GPT2, max_tokens=64, hard_cut=hard_cut, language="en")
            assert sum(1 for _ in blocks) > 100
        most.append(dict(held))
    assert most[1]["chars"] < 20_000
    assert all(most[1][key] <= 1.5 * most[0][key] + 5 for key in held)
