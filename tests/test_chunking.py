"""The slicer: literal cuts, and its promises on generated text with every kind of tokenizer."""

import dataclasses
import re
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trained_tokenizers import CORPUS, GPT2, JOINED, TEXT, TOKENIZERS, encode, generated, num_tokens
from training_pro.chunking import EOS_MODES, Block, Slicer, iter_blocks, slice_text, slide_text, unescape
from training_pro.sentences import split_sentences
from transformers import PreTrainedTokenizerFast

every_tokenizer = pytest.mark.parametrize("name", TOKENIZERS)


def texts_of(blocks):
    return [block.text for block in blocks]


# --- literal blocks

FOUR = "One two three. Four five six. Seven eight nine. Ten eleven twelve."


def test_blocks_hold_as_many_whole_sentences_as_fit():
    two = num_tokens("One two three. Four five six.")
    rest = num_tokens("Seven eight nine. Ten eleven twelve.")
    blocks = slice_text(FOUR, GPT2, max_tokens=max(two, rest) + 1)
    assert texts_of(blocks) == ["One two three. Four five six.", "Seven eight nine. Ten eleven twelve."]
    assert [block.token_ids[-1] for block in blocks] == [GPT2.eos_token_id] * 2
    assert [(block.start, block.end) for block in blocks] == [(0, 29), (30, 66)]
    assert [block.closes_section for block in blocks] == [False, True]
    assert blocks[0].num_tokens == two + 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        blocks[0].text = ""


def test_bos_and_eos_count_once_per_block():
    exact = num_tokens(FOUR) + 2
    (block,) = slice_text(FOUR, GPT2, max_tokens=exact, add_bos=True)
    assert block.token_ids == [GPT2.bos_token_id, *encode(GPT2, FOUR), GPT2.eos_token_id]
    assert len(slice_text(FOUR, GPT2, max_tokens=exact - 1, add_bos=True)) == 2


@pytest.mark.parametrize(("mode", "expected"), [("every_block", [1, 1, 1]), ("section_end", [0, 1, 1]), ("none", [0, 0, 0])])
def test_eos_places(mode, expected):
    blocks = slice_text(FOUR + "\n\n\nEnd.", GPT2, max_tokens=num_tokens(FOUR) - 2, add_eos=mode)
    assert [block.token_ids.count(GPT2.eos_token_id) for block in blocks] == expected
    assert [block.closes_section for block in blocks] == [False, True, True]


def test_a_tokenizer_without_bos_and_eos_gets_none():
    plain = PreTrainedTokenizerFast(tokenizer_object=GPT2.backend_tokenizer)
    (block,) = slice_text("One two.", plain, max_tokens=50, add_bos=True)
    assert block.token_ids == encode(plain, "One two.")


def test_overlap_block_begins_in_the_middle_and_ends_in_the_next():
    limit = num_tokens("Seven eight nine. Ten eleven twelve.") + 1
    first, overlap, second = slice_text(FOUR, GPT2, max_tokens=limit, overlap=0.5)
    assert (first.overlap, overlap.overlap, second.overlap) == (False, True, False)
    assert overlap.text == "Four five six. Seven eight nine."


def test_no_overlap_across_a_hard_cut_nor_from_a_single_sentence():
    assert texts_of(slice_text("A b. C d.\n\n\nE f. G h.", GPT2, max_tokens=40, overlap=0.5)) == ["A b. C d.", "E f. G h."]
    limit = num_tokens("Seven eight nine.") + 1
    assert not any(block.overlap for block in slice_text(FOUR, GPT2, max_tokens=limit, overlap=0.9))


@pytest.mark.parametrize("hard_cut", ["\n\n\n", "\\n\\n\\n", "\\x0a\\u000a\\n"])
def test_hard_cut_and_its_escapes(hard_cut):
    text = "One. Two.\n\n\nThree.\r\n\r\n\r\nFour."
    assert texts_of(slice_text(text, GPT2, max_tokens=100, hard_cut=hard_cut)) == ["One. Two.", "Three.", "Four."]


def test_other_hard_cuts():
    assert texts_of(slice_text("One. ### Two.###Three", GPT2, max_tokens=100, hard_cut="###")) == ["One.", "Two.", "Three"]
    assert texts_of(slice_text("One.\n\n\nTwo.", GPT2, max_tokens=100, hard_cut="")) == ["One.\n\n\nTwo."]
    assert unescape(r"a\\n\t") == "a\\n\t"


def test_small_blocks_are_ignored_and_counted():
    counts = Counter()
    text = "A long enough sentence.\n\n\nShort.\n\n\nAnother long sentence."
    blocks = slice_text(text, GPT2, max_tokens=100, min_chars=6, counts=counts)
    assert texts_of(blocks) == ["A long enough sentence.", "Another long sentence."]
    assert counts == {"ignored_blocks": 1, "ignored_chars": 6}


def test_a_section_is_closed_by_the_last_block_that_is_kept():
    limit = num_tokens("One two three four five six seven.") + 1
    for mode in EOS_MODES:
        text = "One two three four five six seven. Ha."
        (block,) = slice_text(text, GPT2, max_tokens=limit, min_chars=5, add_eos=mode)
        assert block.closes_section
        assert block.token_ids.count(GPT2.eos_token_id) == (mode != "none")


def test_a_long_sentence_is_cut_at_clauses_then_words():
    counts = Counter()
    clauses = "when the wind is low, when the sea is calm, when the lamp is lit, when the boats are home"
    blocks = slice_text(clauses, GPT2, max_tokens=num_tokens("when the sea is calm,") + 1, counts=counts)
    assert texts_of(blocks) == [part.strip() for part in re.findall("[^,]+,?", clauses)]
    assert counts == {"cut_sentences": 1}
    words = "the lamp the sea the wind the lamp the sea the wind"
    blocks = slice_text(words, GPT2, max_tokens=num_tokens("the lamp the sea the") + 1)
    assert len(blocks) > 1
    assert " ".join(texts_of(blocks)) == words


def test_no_character_is_parted():
    family, flag, accent = "👨‍👩‍👧", "🇳🇴", "e\u0301"
    text = (family + flag + accent) * 6
    blocks = slice_text(text, GPT2, max_tokens=num_tokens(family) + 3)
    assert "".join(texts_of(blocks)) == text
    assert len(blocks) > 4
    assert {part for block in blocks for part in re.split(f"({family}|{flag}|{accent})", block.text)} == {
        "",
        family,
        flag,
        accent,
    }


def test_a_character_longer_than_the_cutoff_is_an_error():
    with pytest.raises(ValueError, match=r"Maximum context length \(Cutoff\) is 3 tokens.*'👨' needs 5.*set it to 5 or more"):
        slice_text("👨", GPT2, max_tokens=3)
    assert len(slice_text("👨", GPT2, max_tokens=5)) == 1


def test_dementor_starts_a_block_at_every_sentence():
    limit = num_tokens("Seven eight nine. Ten eleven twelve.") + 1
    blocks = slide_text(FOUR, GPT2, max_tokens=limit)
    assert texts_of(blocks) == [
        "One two three. Four five six.",
        "Four five six. Seven eight nine.",
        "Seven eight nine. Ten eleven twelve.",
        "Ten eleven twelve.",
    ]
    assert [block.overlap for block in blocks] == [False, True, False, True]
    assert blocks == list(iter_blocks(FOUR, GPT2, max_tokens=limit, sliding=True))


def test_dementor_drops_consecutive_duplicates_only():
    counts = Counter()
    blocks = slide_text("Ha. Ha. Ha. Ho. Ha.", GPT2, max_tokens=num_tokens("Ha.") + 1, counts=counts)
    assert texts_of(blocks) == ["Ha.", "Ho.", "Ha."]
    assert counts == {"dropped_duplicates": 2}


def test_many_texts_stream_and_never_share_a_block():
    def texts():
        yield "One. Two."
        yield "  Three."
        raise AssertionError("read ahead")

    stream = iter_blocks(texts(), GPT2, max_tokens=100)
    assert [(block.text, block.start) for block in (next(stream), next(stream))] == [("One. Two.", 0), ("Three.", 2)]


def test_text_without_words_gives_no_block():
    assert slice_text(" \n\n \n\n\n\t", GPT2, max_tokens=10) == []


# --- wrong settings


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"max_tokens": 2, "add_bos": True}, r"Maximum context length \(Cutoff\) is 2 .* set it to 3 or more"),
        ({"overlap": 0.95}, r"Overlap is 0.95.* between 0 \(off\) and 0.9"),
        ({"overlap": -0.1}, r"Overlap is -0.1"),
        ({"overlap": float("nan")}, r"Overlap is nan"),
        ({"hard_cut": r"\q"}, r"Hard Cut String '\\\\q' holds the unknown escape '\\q'; known are"),
        ({"hard_cut": "\\"}, r"Hard Cut String .* for one backslash"),
        ({"min_chars": -1}, r"Ignore small blocks is -1 characters; set it to 0"),
        ({"min_tokens": -2}, r"Ignore small blocks is -2 tokens; set it to 0"),
        ({"stride": 0}, r"Stride is 0 sentences; set it to 1"),
        ({"language": "xx"}, r"Language of the text is 'xx'; choose one of auto, en"),
        ({"cut_at": "pages"}, r"Hard Cut at is 'pages'; choose one of string, regex, headings, blank lines"),
        ({"cut_at": "regex", "hard_cut": "("}, r"Hard Cut String '\(' is no regular expression"),
        ({"add_eos": "sometimes"}, r"Add EOS token is 'sometimes'; choose one of every_block, section_end, none"),
    ],
)
@pytest.mark.parametrize("function", [slice_text, slide_text, iter_blocks])
def test_wrong_settings_are_named_with_the_remedy(function, wrong, message):
    with pytest.raises(ValueError, match=message):
        function("Some text.", GPT2, **{"max_tokens": 20, **wrong})


# --- promises, on generated text

SETTINGS = st.fixed_dictionaries(
    {
        "max_tokens": st.integers(12, 60),
        "overlap": st.sampled_from([0.0, 0.3, 0.9]),
        "hard_cut": st.sampled_from(["\n\n\n", "###", ""]),
        "add_bos": st.booleans(),
        "add_eos": st.sampled_from(EOS_MODES),
    }
)


def check_ids(blocks: list[Block], text, tokenizer, options):
    bos = [tokenizer.bos_token_id] if options["add_bos"] else []
    for block in blocks:
        has_eos = options["add_eos"] == "every_block" or (options["add_eos"] == "section_end" and block.closes_section)
        assert block.text == text[block.start : block.end]
        assert block.token_ids == bos + encode(tokenizer, block.text) + [tokenizer.eos_token_id] * has_eos
        assert block.num_tokens <= options["max_tokens"]


def check_lossless(blocks, text, hard_cut):
    last = 0
    gaps = []
    for block in [*(block for block in blocks if not block.overlap), Block("", len(text), len(text), [])]:
        assert block.start >= last
        gaps.append(text[last : block.start])
        last = block.end
    left = "".join(gaps)
    assert not (left.replace(hard_cut, "") if hard_cut else left).strip()


@every_tokenizer
@generated
@given(text=TEXT, options=SETTINGS)
def test_slices_lose_nothing_and_never_exceed_the_cutoff(name, text, options):
    tokenizer = TOKENIZERS[name]
    blocks = slice_text(text, tokenizer, **options)
    check_ids(blocks, text, tokenizer, options)
    check_lossless(blocks, text, options["hard_cut"])
    assert not options["hard_cut"] or not any(options["hard_cut"] in block.text for block in blocks)
    parts = text.split(options["hard_cut"]) if options["hard_cut"] else [text]
    num_sections = sum(bool(re.search(r"[\S\x1c-\x1f]", part)) for part in parts)
    assert sum(block.closes_section and not block.overlap for block in blocks) == num_sections


@every_tokenizer
@generated
@given(text=TEXT, options=SETTINGS)
def test_slides_lose_nothing_and_never_exceed_the_cutoff(name, text, options):
    tokenizer = TOKENIZERS[name]
    counts = Counter()
    blocks = slide_text(text, tokenizer, counts=counts, **options)
    if options["add_eos"] != "section_end":
        check_ids(blocks, text, tokenizer, options)
    if not counts["dropped_duplicates"]:
        check_lossless(blocks, text, options["hard_cut"])
    assert all(one.text != other.text for one, other in zip(blocks, blocks[1:], strict=False) if other.overlap)


@every_tokenizer
@generated
@given(text=TEXT, max_tokens=st.integers(16, 60))
def test_blocks_are_filled_with_whole_sentences(name, text, max_tokens):
    """Blocks begin and end at sentence borders, and the next sentence would not have fitted."""
    tokenizer = TOKENIZERS[name]
    counts = Counter()
    blocks = slice_text(text, tokenizer, max_tokens=max_tokens, hard_cut="", add_eos="none", counts=counts)
    if counts["cut_sentences"]:
        return
    spans = list(split_sentences(text))
    ends = dict(spans)
    for block, following in zip(blocks, blocks[1:], strict=False):
        assert block.start in ends
        assert block.end in ends.values()
        assert num_tokens(text[block.start : ends[following.start]], tokenizer) > max_tokens


@generated
@given(text=TEXT, options=SETTINGS, min_chars=st.integers(1, 40))
def test_ignored_blocks_are_counted_and_the_others_stay(text, options, min_chars):
    options = {**options, "add_eos": "every_block"}
    counts = Counter()
    every = [block for block in slice_text(text, GPT2, **options) if not block.overlap]
    blocks = slice_text(text, GPT2, min_chars=min_chars, counts=counts, **options)
    kept = [block for block in blocks if not block.overlap]
    small = [block for block in every if len(block.text) <= min_chars]
    assert texts_of(kept) == [block.text for block in every if len(block.text) > min_chars]
    assert (counts["ignored_blocks"], counts["ignored_chars"]) == (len(small), sum(len(block.text) for block in small))
    section_ends = [block.end for block in every if block.closes_section]
    in_section = [next(end for end in section_ends if end >= block.end) for block in kept]
    assert sum(block.closes_section for block in kept) == len(set(in_section))


def test_tokens_are_joined_only_where_that_is_proved():
    assert {name for name, tokenizer in TOKENIZERS.items() if Slicer(tokenizer, max_tokens=9).joins_tokens} == JOINED


@pytest.mark.parametrize("name", sorted(JOINED))
def test_joined_tokenizers_read_each_sentence_once(name):
    """Only the first words of blocks are tokenized a second time."""
    tokenizer = TOKENIZERS[name]
    text = " ".join(CORPUS[:1] * 200)
    seen = Counter()

    class Backend:
        def __getattr__(self, name):
            return getattr(tokenizer.backend_tokenizer, name)

        def encode_batch_fast(self, texts, **options):
            seen["chars"] += sum(map(len, texts))
            return tokenizer.backend_tokenizer.encode_batch_fast(texts, **options)

    class Counting:
        backend_tokenizer = Backend()

        def __getattr__(self, name):
            return getattr(tokenizer, name)

        def __call__(self, texts, **options):
            return tokenizer(texts, **options)

    slicer = Slicer(Counting(), max_tokens=64)
    seen.clear()
    assert len(list(slicer.blocks(text))) > 50
    assert len(text) <= seen["chars"] < 1.01 * len(text)
