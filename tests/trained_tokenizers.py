"""Tokenizers of every kind, trained on the spot, and generated text of many scripts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from unittest.mock import patch

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from training_pro import chunking
from training_pro.slicing import reader, section, stream, tokens
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


def byte_level(*steps, normalizer=None, **options):
    last = pre_tokenizers.ByteLevel(**{"add_prefix_space": False, **options})
    steps = pre_tokenizers.Sequence([*steps, last]) if steps else last
    return trained(models.BPE(), trainers.BpeTrainer, steps, normalizer, alphabet=pre_tokenizers.ByteLevel.alphabet())


def split(expression, behavior="isolated", invert=False):
    return pre_tokenizers.Split(Regex(expression), behavior=behavior, invert=invert)


def make_tokenizers():
    gpt2 = byte_level()
    gpt2.backend_tokenizer.decoder = decoders.ByteLevel()
    fallback = {"byte_fallback": True, "unk_token": "<unk>", "fuse_unk": True}
    return {
        "gpt2": gpt2,
        "smollm": byte_level(pre_tokenizers.Digits(individual_digits=True)),
        "prefix_space": byte_level(add_prefix_space=True),
        "llama3": byte_level(split(LLAMA_3), use_regex=False),
        "qwen": byte_level(split(LLAMA_3.replace("{1,3}", "")), use_regex=False, normalizer=normalizers.NFC()),
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
JOINED = {"gpt2", "smollm", "llama3", "qwen"}


def encode(tokenizer, text):
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def num_tokens(text, tokenizer=GPT2):
    return len(encode(tokenizer, text))


PARTS = st.sampled_from(
    ["The lamp burns.", "Dr. No", "it is 3.50", '"Go!"', "(and so on)", "灯塔。", "海边", "「好。」", "وقت؟", "लहर।", "ก็ไม่รู้", "👨‍👩‍👧", "e\u0301"]
    + ["a" * 30, "word " * 12, "...", "#", "</s>", "\x1c", "x", ",", "; then", "— no", "🇳🇴", "It's", "path/", "각", "ᄀ", "ᅡ", "1234", "'"]
)  # fmt: skip
GAPS = st.sampled_from(
    [" ", " ", " ", "", "  ", "\n", "\r\n", "\n\n", "\n\n\n", "\n\n\n\n", "\t", "\u3000", "###", "\n/", "\n# ", "\n---\n"]
)
TEXT = st.one_of(
    st.lists(st.tuples(PARTS, GAPS), max_size=25).map(lambda pairs: "".join(a + b for a, b in pairs)),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=120),
)
LONG_TEXT = st.lists(st.tuples(PARTS, GAPS), max_size=90).map(lambda pairs: "".join(a + b for a, b in pairs))
generated = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))


@contextmanager
def small_windows(size: int) -> Iterator[None]:
    """Let a few hundred characters go through as many windows as megabytes do."""
    patches = [
        (chunking, "_WINDOW_CHARS", size),
        (chunking, "_WINDOW_CHARS_PER_TOKEN", 0),
        (reader, "CONTEXT_CHARS", 20),
        (reader, "LOOKAHEAD", 16),
        (tokens, "PIECE_CHARS", 24),
        (section, "_HELD_UNITS", 2),
        (section, "_LOOK_BACK", 600),
        (stream, "HELD_CHARS", 40),
    ]
    with ExitStack() as stack:
        for module, name, value in patches:
            assert hasattr(module, name)
            stack.enter_context(patch.object(module, name, value))
        yield
