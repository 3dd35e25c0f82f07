"""The tokenizer, and the tokens of a window of text with the place where each ends.

Guarantee: what `Run` gives for a stretch between two offsets are the ids that the tokenizer makes of that stretch alone.
Price: each character is tokenized once; at most the first and the last word of a block a second time, and words are remembered.
Where a tokenizer's tokens may not be joined (see `grammar`), a Run only estimates how many there are.

Offsets of tokens are not asked for (that costs a quarter of the speed): a byte-level token is as long as its name has characters.
"""

from __future__ import annotations

import unicodedata
from bisect import bisect_right
from functools import lru_cache
from itertools import chain, islice, pairwise
from typing import Any, NamedTuple

import numpy as np

from .cuts import Span
from .grammar import Grammar, find_grammar, needs_normal_form
from .stream import Source

PIECE_CHARS = 4096  # tokenized at once: longer and shorter pieces are slower
_WORD_CHARS = 48
_FAR_CHARS = 4096  # a word that ends farther away is not looked for
_UNKNOWN = 1 << 40
_PROBE = "A lamp, 3 boats: they'll come\n\n  home.\tIt's late ... "


class Codec:
    """The tokenizer without special tokens of its own.

    Attributes:
        grammar: where its tokens may be joined; None for nowhere.
        lengths: bytes of each token, shape (vocabulary,), if there is a grammar.
    """

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.is_fast = bool(getattr(tokenizer, "is_fast", False))
        self.grammar: Grammar | None = None
        self._backend: Any = None
        if self.is_fast:
            self._backend = tokenizer.backend_tokenizer
            if self._encode_fast([_PROBE]) != self._encode_slow([_PROBE]):
                self._backend = None  # its Python class does something of its own
            else:
                self.grammar = find_grammar(tokenizer)
        self.needs_normal_form = bool(self.grammar) and needs_normal_form(tokenizer)
        self.lengths = _token_lengths(tokenizer) if self.grammar else np.zeros(0, dtype=np.int64)
        self._encode_short = lru_cache(maxsize=1 << 16)(self.encode)

    def encode_word(self, text: str) -> list[int]:
        """The ids of a text, remembered if it is short."""
        return self._encode_short(text) if len(text) <= _WORD_CHARS else self.encode(text)

    def encode(self, text: str) -> list[int]:
        """The ids of a text."""
        return self.encode_all([text])[0]

    def encode_all(self, texts: list[str]) -> list[list[int]]:
        """The ids of each text."""
        if not texts:
            return []
        return self._encode_slow(texts) if self._backend is None else self._encode_fast(texts)

    def count_all(self, texts: list[str]) -> list[int]:
        """The number of tokens of each text; quicker than their ids."""
        if self._backend is None:
            return [len(ids) for ids in self.encode_all(texts)]
        return [len(encoding) for encoding in self._encodings(texts)]

    def token_ends(self, text: str, num_tokens: int) -> list[int]:
        """Offsets at which the first tokens end; any character may end one if the tokenizer knows no offsets."""
        if not self.is_fast:
            fits = range(1, len(text) + 1)
            return list(fits[: bisect_right(fits, num_tokens, key=lambda end: len(self.encode(text[:end])))])
        encoded = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        return sorted({end for _, end in encoded["offset_mapping"][:num_tokens]} - {0})

    def _encode_slow(self, texts: list[str]) -> list[list[int]]:
        return self.tokenizer(texts, add_special_tokens=False, return_attention_mask=False, verbose=False)["input_ids"]

    def _encode_fast(self, texts: list[str]) -> list[list[int]]:
        return [encoding.ids for encoding in self._encodings(texts)]

    def _encodings(self, texts: list[str]) -> list[Any]:
        backend = self._backend
        if backend.truncation is not None:  # left by another caller
            backend.no_truncation()
        if backend.padding is not None:
            backend.no_padding()
        return backend.encode_batch_fast(texts, add_special_tokens=False)


def _token_lengths(tokenizer: Any) -> np.ndarray:
    """Bytes of each token of a byte-level tokenizer: its name has a character for each."""
    vocab = tokenizer.backend_tokenizer.get_vocab(with_added_tokens=True)
    lengths = np.zeros(max(vocab.values()) + 1, dtype=np.int64)
    for token, token_id in vocab.items():
        lengths[token_id] = len(token)
    for token_id, added in tokenizer.added_tokens_decoder.items():
        lengths[token_id] = len(added.content.encode("utf-8", "replace"))
    unknown = getattr(tokenizer.backend_tokenizer.model, "unk_token", None)
    if unknown in vocab:
        lengths[vocab[unknown]] = _UNKNOWN  # no length: whoever adds it up sees that it is wrong
    return lengths


class Edge(NamedTuple):
    """Tokens at a border of a stretch: the ids of its first or last word, and the number of the token in the Run where the others begin or end."""

    ids: list[int]
    token: int
    at: int  # offset of the border between the word and the others


class Run:
    """Tokens of one stretch of text, whose ends are ends of what was tokenized.

    Attributes:
        start: offset of the stretch; ``end`` that of its end.
        ids: of all its tokens; indices count from its first token.
    """

    def __init__(self, codec: Codec, source: Source, span: Span, ids: list[int], token_ends: np.ndarray) -> None:
        self.start, self.end = span
        self.ids = ids
        self._codec, self._source, self._token_ends = codec, source, token_ends  # offsets in the whole text, ascending

    def indices(self, offsets: np.ndarray) -> np.ndarray:
        """How many tokens end at or before each offset."""
        return np.searchsorted(self._token_ends, offsets, side="right")

    def index(self, offset: int) -> int:
        """How many tokens end at or before the offset."""
        return int(self._token_ends.searchsorted(offset, side="right"))

    def ends_of(self, first: int, last: int) -> list[int]:
        """Offsets at which the tokens ``first..last`` end."""
        return self._token_ends[first:last].tolist()

    def head(self, start: int) -> Edge | None:
        """Tokens with which a block begins that starts at ``start``; None if no end of its first word is known."""
        text, shift = self._source.text, self._source.offset
        grammar = self._codec.grammar
        assert grammar is not None, "tokens are joined by a grammar"
        if start == self.start or grammar.begins(text, start - shift):
            return Edge([], self.index(start), start)
        limit = min(start + _FAR_CHARS, self.end)
        match = grammar.anchor.search(text, start + 1 - shift, limit - shift)
        if match and match.start() + shift < limit:
            at = match.start() + shift
        elif limit == self.end:
            at = limit
        else:
            return None
        return Edge(self._codec.encode_word(text[start - shift : at - shift]), self.index(at), at)

    def tail(self, start: int, end: int) -> Edge | None:
        """Tokens with which a block ends that starts at or before ``start`` and ends at ``end``."""
        if self._ends(end):
            return Edge([], self.index(end), end)
        text, shift = self._source.text, self._source.offset
        grammar = self._codec.grammar
        assert grammar is not None, "tokens are joined by a grammar"
        first = max(start, self.start, end - _FAR_CHARS)
        for begin in (max(first, end - _WORD_CHARS), first):
            matches = [match.start() + shift for match in grammar.anchor.finditer(text, begin + 1 - shift, end - shift)]
            if matches and (at := matches[-1] if matches[-1] < end else matches[-2] if len(matches) > 1 else 0):
                return Edge(self._codec.encode_word(text[at - shift : end - shift]), self.index(at), at)
        return None

    def _ends(self, end: int) -> bool:
        grammar, source = self._codec.grammar, self._source
        assert grammar is not None, "tokens are joined by a grammar"
        return end == self.end or grammar.ends(source.text, end - source.offset)


def tokenize(codec: Codec, source: Source, stretches: list[list[int]]) -> list[Run | None]:
    """The tokens of stretches of text; None where they may not be joined.

    Args:
        codec: of a tokenizer that has a grammar.
        source: holds the text.
        stretches: for each its start, the offsets at which it is cut into pieces (ascending), and its end.
    """
    encoded = iter(codec.encode_all([source.slice(a, b) for offsets in stretches for a, b in pairwise(offsets)]))
    runs: list[Run | None] = []
    for offsets in stretches:
        ids = list(chain.from_iterable(islice(encoded, len(offsets) - 1)))
        ends = _ends_in_text(codec, source.slice(offsets[0], offsets[-1]), ids)
        runs.append(None if ends is None else Run(codec, source, (offsets[0], offsets[-1]), ids, ends + offsets[0]))
    return runs


def _ends_in_text(codec: Codec, text: str, ids: list[int]) -> np.ndarray | None:
    """The offset in the text at which each token ends; that of the character it ends in, if it ends inside one."""
    if codec.needs_normal_form and not text.isascii() and not unicodedata.is_normalized("NFC", text):
        return None
    ends = codec.lengths[np.array(ids, dtype=np.int64)].cumsum()
    if text.isascii():
        num_bytes, offsets = len(text), ends
    else:
        raw = np.frombuffer(text.encode("utf-8"), dtype=np.uint8)
        num_bytes = len(raw)
        offsets = np.cumsum((raw & 0xC0) != 0x80)[np.minimum(ends, num_bytes) - 1] if len(ids) else ends
    return offsets if len(ids) and ends[-1] == num_bytes else None
