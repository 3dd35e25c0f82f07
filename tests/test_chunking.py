"""The slicer: literal cuts, and its promises on generated text with every kind of tokenizer."""

import dataclasses
import re
from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from training_pro.chunking import EOS_MODES, Block, _composes, iter_blocks, slice_text, slide_text, unescape
from training_pro.sentences import split_sentences
from transformers import PreTrainedTokenizer, PreTrainedTokenizerFast

CORPUS = [
    "The harbour master walks to the lighthouse. He lights the lamp at dusk, and it burns until dawn!",
    'She said: "Is the ferry late?" Nobody knew.\nThe boats came home one after another.\n\nIt was 5 p.m.',
    "我们去海边。今天的天气很好！你喜欢灯塔吗？",
]
LLAMA_3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


class WordsAndLetters(PreTrainedTokenizer):
    """A slow tokenizer, without offsets: known words are one token, all others one for each character."""

    model_input_names = ["input_ids"]

    def __init__(self, **kwargs):
        self.words = {"<s>": 0, "</s>": 1, "<unk>": 2}
        for word in " ".join(CORPUS).split():
            self.words.setdefault(word, len(self.words))
        super().__init__(bos_token="<s>", eos_token="</s>", unk_token="<unk>", **kwargs)

    @property
    def vocab_size(self):
        return len(self.words)

    def get_vocab(self):
        return dict(self.words)

    def _tokenize(self, text):
        return [token for word in text.split() for token in ([word] if word in self.words else word)]

    def _convert_token_to_id(self, token):
        return self.words.get(token, 2)

    def _convert_id_to_token(self, index):
        return list(self.words)[index]


def trained(model, trainer_class, pre_tokenizer=None, normalizer=None, alphabet=()):
    tokenizer = Tokenizer(model)
    if pre_tokenizer is not None:
        tokenizer.pre_tokenizer = pre_tokenizer
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    special = ["<s>", "</s>", "<unk>", *(f"<0x{i:02X}>" for i in range(256) if getattr(model, "byte_fallback", False))]
    options = {"unk_token": "<unk>"} if trainer_class is trainers.UnigramTrainer else {"initial_alphabet": list(alphabet)}
    trainer = trainer_class(vocab_size=800, special_tokens=special, show_progress=False, **options)
    tokenizer.train_from_iterator(CORPUS * 3, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def byte_level(*steps, **options):
    last = pre_tokenizers.ByteLevel(**{"add_prefix_space": False, **options})
    return trained(
        models.BPE(),
        trainers.BpeTrainer,
        pre_tokenizers.Sequence([*steps, last]) if steps else last,
        alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )


def make_tokenizers():
    gpt2 = byte_level()
    gpt2.backend_tokenizer.decoder = decoders.ByteLevel()
    fallback = {"byte_fallback": True, "unk_token": "<unk>", "fuse_unk": True}
    return {
        "gpt2": gpt2,
        "smollm": byte_level(pre_tokenizers.Digits(individual_digits=True)),
        "prefix_space": byte_level(add_prefix_space=True),
        "llama3": byte_level(pre_tokenizers.Split(Regex(LLAMA_3), behavior="isolated"), use_regex=False),
        "metaspace": trained(models.BPE(**fallback), trainers.BpeTrainer, pre_tokenizers.Metaspace(prepend_scheme="always")),
        "llama2": trained(
            models.BPE(**fallback),
            trainers.BpeTrainer,
            normalizer=normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]),
        ),
        "unigram": trained(models.Unigram(), trainers.UnigramTrainer, pre_tokenizers.Metaspace()),
        "wordpiece": trained(
            models.WordPiece(unk_token="<unk>"),
            trainers.WordPieceTrainer,
            pre_tokenizers.BertPreTokenizer(),
            normalizers.BertNormalizer(),
        ),
        "slow": WordsAndLetters(),
    }


TOKENIZERS = make_tokenizers()
GPT2 = TOKENIZERS["gpt2"]
every_tokenizer = pytest.mark.parametrize("name", TOKENIZERS)


def encode(tokenizer, text):
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def num_tokens(text, tokenizer=GPT2):
    return len(encode(tokenizer, text))


def texts_of(blocks):
    return [block.text for block in blocks]


def sentences(text):
    return [text[start:end] for start, end in split_sentences(text)]


# --- sentences


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("One. Two! Three? Four", ["One.", "Two!", "Three?", "Four"]),
        ("Dr. Vane met Mrs. Oake.", ["Dr. Vane met Mrs. Oake."]),
        ("J. R. Hale and I. M. Poe came. They left.", ["J. R. Hale and I. M. Poe came.", "They left."]),
        ("We met at 5 p.m. on Monday. We met at 6 p.m. He left.", ["We met at 5 p.m. on Monday.", "We met at 6 p.m.", "He left."]),
        ("The U.S. Navy came to the U.S. It left.", ["The U.S. Navy came to the U.S.", "It left."]),
        ("It costs 3.50 now. See No. 7, e.g. Fig. 2.", ["It costs 3.50 now.", "See No. 7, e.g. Fig. 2."]),
        ("Did he say no. Yes.", ["Did he say no.", "Yes."]),
        ('"Stop!" he said. "Go." She went.', ['"Stop!" he said.', '"Go."', "She went."]),
        ("(He left.) Then it rained.", ["(He left.)", "Then it rained."]),
        ("Wait... what? Well... No.", ["Wait... what?", "Well...", "No."]),
        ("1. First point\n2. Second point", ["1. First point", "2. Second point"]),
        ("A title\n\nA text. More", ["A title", "A text.", "More"]),
        ("Roses are red\nViolets are blue", ["Roses are red", "Violets are blue"]),
        ("Ann: hi there\nBob: hello", ["Ann: hi there", "Bob: hello"]),
        ("一二三。四五！「六。」七", ["一二三。", "四五！", "「六。」", "七"]),
        ("「行こう。」と言った。次。", ["「行こう。」と言った。", "次。"]),
        ("یہ ہے۔ وہ ہے۔ क्या? हाँ।", ["یہ ہے۔", "وہ ہے۔", "क्या?", "हाँ।"]),
    ],
)  # fmt: skip
def test_sentences(text, expected):
    assert sentences(text) == expected


def test_sentences_of_wrapped_text_are_those_of_the_same_text_on_one_line():
    flowing = (
        "The keeper of Sorrel Point climbs the stairs each evening with a can of oil in his left hand. "
        "From the gallery he sees Mount Arden, the reef, and on clear days the coast of Brel. "
        "When Sergeant Holt visits, they drink tea and say nothing at all for an hour or two."
    )
    words, lines = flowing.split(), [""]
    for word in words:
        if len(lines[-1]) + len(word) + 1 > 60:
            lines.append(word)
        else:
            lines[-1] = f"{lines[-1]} {word}".strip()
    assert len(lines) > 3
    assert [" ".join(s.split()) for s in sentences("\n".join(lines))] == sentences(flowing)


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
        ({"add_eos": "sometimes"}, r"Add EOS token is 'sometimes'; choose one of every_block, section_end, none"),
    ],
)
@pytest.mark.parametrize("function", [slice_text, slide_text, iter_blocks])
def test_wrong_settings_are_named_with_the_remedy(function, wrong, message):
    with pytest.raises(ValueError, match=message):
        function("Some text.", GPT2, **{"max_tokens": 20, **wrong})


# --- promises, on generated text

PARTS = st.sampled_from(
    ["The lamp burns.", "Dr. No", "it is 3.50", '"Go!"', "(and so on)", "灯塔。", "海边", "وقت؟", "लहर।", "ก็ไม่รู้", "👨‍👩‍👧", "e\u0301", "🇳🇴"]
    + ["a" * 30, "word " * 12, "...", "#", "</s>", "\x1c", "x", ",", "; then", "— no"]
)  # fmt: skip
GAPS = st.sampled_from([" ", " ", " ", "", "  ", "\n", "\r\n", "\n\n", "\n\n\n", "\n\n\n\n", "\t", "\u3000", "###"])
TEXT = st.one_of(
    st.lists(st.tuples(PARTS, GAPS), max_size=25).map(lambda pairs: "".join(a + b for a, b in pairs)),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=120),
)
SETTINGS = st.fixed_dictionaries(
    {
        "max_tokens": st.integers(12, 60),
        "overlap": st.sampled_from([0.0, 0.3, 0.9]),
        "hard_cut": st.sampled_from(["\n\n\n", "###", ""]),
        "add_bos": st.booleans(),
        "add_eos": st.sampled_from(EOS_MODES),
    }
)
generated = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


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


@generated
@given(text=TEXT)
def test_sentences_hold_every_character(text):
    last = 0
    for start, end in split_sentences(text):
        assert last <= start < end
        assert not text[last:start].strip()
        last = end
    assert not text[last:].strip()


def test_tokens_are_joined_only_where_that_is_proved():
    fast = {name for name, tokenizer in TOKENIZERS.items() if tokenizer.is_fast and _composes(tokenizer)}
    assert fast == {"gpt2", "smollm"}


def test_joined_tokenizers_read_each_sentence_once():
    """Only the first words of blocks are tokenized a second time."""
    text = " ".join(CORPUS[:1] * 200)
    seen = Counter()

    class Counting:
        def __getattr__(self, name):
            return getattr(GPT2, name)

        def __call__(self, texts, **options):
            seen["chars"] += sum(map(len, texts))
            return GPT2(texts, **options)

    assert len(slice_text(text, Counting(), max_tokens=64)) > 50
    assert seen["chars"] < 1.01 * len(text)
