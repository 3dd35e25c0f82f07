"""Raw text -> blocks of whole sentences that fit into a number of tokens.

text -> sections (between hard cuts) -> sentences -> units (a sentence, or a part of one that is too long) -> blocks

Guarantee: joining ``text[block.start:block.end]`` of the blocks that are not overlaps gives the text back, but for
hard-cut strings, ignored small blocks and white space between blocks. ``block.token_ids`` are exactly what the tokenizer
makes of ``block.text``, with BOS and EOS around, and never more than ``max_tokens``. No block crosses a hard cut.
Price: every sentence is tokenized once. Blocks are joined from these tokens where that is proved to be exact
(:func:`_composes`), and tokenized a second time (rarely a third) everywhere else.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import accumulate, chain, islice
from typing import Any, NamedTuple, Required, TypedDict, Unpack

from .sentences import (
    SPACES,
    between,
    inner_borders,
    skip_space,
    split_sentences,
    strip_space,
    whole_characters,
)

EOS_MODES = ("every_block", "section_end", "none")

_SENTENCES_AT_ONCE = 512  # handed to the tokenizer together
_SLACK_TOKENS = 8  # how far the tokens of single sentences may add up beside the tokens of the block


@dataclass(frozen=True, slots=True)
class Block:
    """One training sample of raw text.

    Attributes:
        text: equal to ``source[start:end]``.
        start: offset of the first character in the source text.
        end: offset behind the last character.
        token_ids: tokens, with BOS and EOS if set.
        closes_section: the block ends where its section ends.
        overlap: the block only repeats text that other blocks hold too.
    """

    text: str
    start: int
    end: int
    token_ids: list[int]
    closes_section: bool = False
    overlap: bool = False

    @property
    def num_tokens(self) -> int:
        """Length in tokens, with BOS and EOS."""
        return len(self.token_ids)


class SliceSettings(TypedDict, total=False):
    """The keyword arguments of :func:`slice_text`, which explains them."""

    max_tokens: Required[int]
    overlap: float
    hard_cut: str
    min_chars: int
    add_bos: bool
    add_eos: str
    counts: Counter[str] | None


def slice_text(
    text: str,
    tokenizer: Any,
    *,
    max_tokens: int,
    overlap: float = 0.0,
    hard_cut: str = "\n\n\n",
    min_chars: int = 0,
    add_bos: bool = False,
    add_eos: str = "every_block",
    counts: Counter[str] | None = None,
) -> list[Block]:
    r"""Cut a text into blocks of as many whole sentences as fit.

    With four tokens a sentence, ``max_tokens=9`` (EOS included) and ``overlap=0.5``::

        One two three. Four five six. Seven eight nine. Ten eleven twelve.
        [---------- block ----------] [------------- block -------------]
                       [---------- overlap ----------]

    Args:
        text: the whole text; offsets refer to it.
        tokenizer: a Hugging Face tokenizer, fast or slow.
        max_tokens: most tokens of a block, BOS and EOS included.
        overlap: share of a block (0 to 0.9) with which an extra block begins that goes on into its neighbour; 0 = off.
        hard_cut: string between sections; the escapes \n \t \r \\ \xhh \uhhhh work; empty = one section.
        min_chars: blocks of at most this many characters are left out.
        add_bos: begin each block with BOS, if the tokenizer has one.
        add_eos: one of ``EOS_MODES``: where blocks end with EOS, if the tokenizer has one.
        counts: if given, what happened is added: ``ignored_blocks``, ``ignored_chars`` (small blocks),
            ``cut_sentences`` (longer than the cutoff), ``dropped_duplicates`` (:func:`slide_text`).

    Returns:
        Blocks in the order of the text; an overlap block stands between the two that it bridges.

    Raises:
        ValueError: a setting that cannot work, in the words of the form.
    """
    settings = _Settings(tokenizer, max_tokens, overlap, hard_cut, min_chars, add_bos, add_eos, counts)
    return list(_blocks_of_text(text, settings))


def slide_text(text: str, tokenizer: Any, **settings: Unpack[SliceSettings]) -> list[Block]:
    """DEMENTOR blocks: every sentence starts a block that runs as far as the cutoff allows inside its section.

    Deep Memorization Enforcement Through Overlapping and Repetition. A block with the same text as the one before it is
    dropped and counted. Blocks that begin behind all text seen so far have ``overlap=False``, the repetitions True.
    Arguments and errors are those of :func:`slice_text`; ``overlap`` has no effect, every block overlaps already.
    """
    return list(_blocks_of_text(text, _Settings(tokenizer, sliding=True, **settings)))


def iter_blocks(
    texts: str | Iterable[str], tokenizer: Any, *, sliding: bool = False, **settings: Unpack[SliceSettings]
) -> Iterator[Block]:
    """Yield the blocks of one or many texts, section by section; offsets count within each text.

    No block crosses from one text into the next. Arguments and errors (raised at once, not at the first block) are those
    of :func:`slice_text`; ``sliding=True`` gives the blocks of :func:`slide_text`.
    """
    checked = _Settings(tokenizer, sliding=sliding, **settings)
    return (block for text in ([texts] if isinstance(texts, str) else texts) for block in _blocks_of_text(text, checked))


class _Settings:
    """Checked settings, and the tokenizer with what is known of it."""

    def __init__(
        self, tokenizer: Any, max_tokens: int, overlap: float = 0.0, hard_cut: str = "\n\n\n", min_chars: int = 0,
        add_bos: bool = False, add_eos: str = "every_block", counts: Counter[str] | None = None, sliding: bool = False
    ) -> None:  # fmt: skip
        if add_eos not in EOS_MODES:
            raise ValueError(f"Add EOS token is {add_eos!r}; choose one of {', '.join(EOS_MODES)}.")
        if not 0 <= overlap <= 0.9:
            raise ValueError(f"Overlap is {overlap}, but it is a share of a block: set it between 0 (off) and 0.9.")
        if min_chars < 0:
            raise ValueError(f"Ignore small blocks is {min_chars} characters; set it to 0 (off) or more.")
        self.bos = _special(tokenizer, "bos_token_id") if add_bos else []
        self.eos = _special(tokenizer, "eos_token_id") if add_eos != "none" else []
        smallest = len(self.bos) + len(self.eos) + 1
        if max_tokens < smallest:
            what = f"Maximum context length (Cutoff) is {max_tokens} tokens, which leaves no room for text"
            raise ValueError(f"{what}; set it to {smallest} or more.")
        separator = re.escape(unescape(hard_cut)).replace("\\\n", "\r?\n")
        self.separator = re.compile(separator or r"(?!)")
        self.max_tokens, self.overlap, self.min_chars, self.sliding = max_tokens, overlap, min_chars, sliding
        self.eos_everywhere = add_eos == "every_block"
        self.counts: Counter[str] = Counter() if counts is None else counts
        self.codec = _Codec(tokenizer)


def _special(tokenizer: Any, name: str) -> list[int]:
    token_id = getattr(tokenizer, name, None)
    return [] if token_id is None else [token_id]


def unescape(hard_cut: str) -> str:
    r"""Turn typed escapes into what they mean: ``\n``, typed as two characters, becomes a line break.

    Raises:
        ValueError: an escape that does not exist.
    """
    plain = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\"}

    def character(match: re.Match[str]) -> str:
        if match[1]:
            return chr(int(match[1][1:], 16))
        if match[2] not in plain:
            what = f"Hard Cut String {hard_cut!r} holds the unknown escape '\\{match[2]}'"
            raise ValueError(rf"{what}; known are \n \t \r \xhh \uhhhh, and \\ for one backslash.")
        return plain[match[2]]

    return re.sub(r"\\(?:(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4})|(.?))", character, hard_cut, flags=re.DOTALL)


# --- tokens


class _Codec:
    """The tokenizer, without special tokens, and whether the tokens of pieces may be joined."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.is_fast = bool(getattr(tokenizer, "is_fast", False))
        self.composes = self.is_fast and _composes(tokenizer)
        self.encode_word = lru_cache(maxsize=1 << 16)(self.encode)

    def encode(self, text: str) -> list[int]:
        return self.encode_all([text])[0]

    def encode_all(self, texts: list[str]) -> list[list[int]]:
        if not texts:
            return []
        return self.tokenizer(texts, add_special_tokens=False, return_attention_mask=False, verbose=False)["input_ids"]

    def token_ends(self, text: str, num_tokens: int) -> list[int]:
        """Offsets at which the first tokens end; any character may end one if the tokenizer knows no offsets."""
        if not self.is_fast:
            fits = range(1, len(text) + 1)
            return list(fits[: bisect_right(fits, num_tokens, key=lambda end: len(self.encode(text[:end])))])
        encoded = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        return sorted({end for _, end in encoded["offset_mapping"][:num_tokens]} - {0})


def _composes(tokenizer: Any) -> bool:
    """Whether a text's tokens are those of its pieces, if every cut lies before a run of white space.

    True for byte-level BPE with GPT-2's pattern (SmolLM2, GPT-2, ...), which never joins white space to the word before
    it. False for patterns that let a full stop swallow line breaks (Llama 3, Qwen) and for SentencePiece's metaspace.
    """
    backend = tokenizer.backend_tokenizer
    if type(backend.model).__name__ != "BPE" or backend.model.dropout or backend.normalizer or not backend.pre_tokenizer:
        return False
    steps = json.loads(backend.pre_tokenizer.__getstate__())
    *digits, byte_level = steps.get("pretokenizers", [steps])
    if byte_level["type"] != "ByteLevel" or byte_level["add_prefix_space"] or not byte_level.get("use_regex", True):
        return False
    added = tokenizer.added_tokens_decoder.values()
    greedy = any(t.lstrip or t.rstrip or t.single_word or SPACES.search(t.content) for t in added)
    return not greedy and all(step["type"] == "Digits" for step in digits)


# --- units and blocks


class _Unit(NamedTuple):
    """A sentence, or a part of one that is longer than the cutoff: ``text[start:end]``.

    ``piece`` holds the tokens of ``text[space:end]``. If ``space < start``, it starts with white space and pieces join.
    """

    space: int
    start: int
    end: int
    piece: list[int]


def _blocks_of_text(text: str, settings: _Settings) -> Iterator[Block]:
    for start, end in between(settings.separator, text, 0, len(text)):
        section = _Section(text, start, end, settings)
        yield from section.mark_close(section.slide() if settings.sliding else section.slice())


class _Section:
    """The text between two hard cuts, as units that are filled into blocks."""

    def __init__(self, text: str, start: int, end: int, settings: _Settings) -> None:
        self.text, self.start, self.end, self.settings = text, start, end, settings
        self.codec, self.counts = settings.codec, settings.counts
        self.longest = 64 * settings.max_tokens  # characters; a longer sentence is never tokenized as a whole
        self.units = list(self._all_units())
        self.totals = [0, *accumulate(len(unit.piece) for unit in self.units)]

    def slice(self) -> Iterator[Block]:
        """Yield blocks of as many units as fit, and overlap blocks between neighbours."""
        first, previous = 0, None
        while first < len(self.units):
            last, ids = self._fill(first, len(self.units))
            block = self._block(first, last, ids)
            if block and previous is not None and self.settings.overlap:
                yield from self._bridge(previous, first, last)
            if block:
                yield block
            first, previous = last, first if block else None

    def slide(self) -> Iterator[Block]:
        """Yield a block from every unit on, without consecutive repetitions."""
        covered, before = 0, ""
        for first in range(len(self.units)):
            last, ids = self._fill(first, len(self.units))
            block = self._block(first, last, ids, overlap=first < covered)
            if block and block.text == before:
                self.counts["dropped_duplicates"] += 1
            elif block:
                covered = covered if block.overlap else last
                before = block.text
                yield block

    def mark_close(self, blocks: Iterator[Block]) -> Iterator[Block]:
        """Let the last block close the section also where those behind it were left out."""
        held: list[Block] = []
        for block in blocks:
            if not block.overlap:
                yield from held
                held = []
            held.append(block)
        if held and not held[0].closes_section:
            ids, eos = held[0].token_ids, [] if self.settings.eos_everywhere else self.settings.eos
            ids = ids + eos if len(ids) + len(eos) <= self.settings.max_tokens else ids
            held[0] = replace(held[0], closes_section=True, token_ids=ids)
        yield from held

    def _bridge(self, first: int, middle: int, end: int) -> Iterator[Block]:
        """Yield the overlap block of units ``first..middle`` and ``middle..end``, if one holds something of both."""
        totals = self.totals
        target = totals[middle] - self.settings.overlap * (totals[middle] - totals[first])
        begin = min(range(first + 1, middle), key=lambda i: abs(totals[i] - target), default=None)
        if begin is not None:
            last, ids = self._fill(begin, end)
            block = self._block(begin, last, ids, overlap=True) if last > middle else None
            if block:
                yield block

    def _block(self, first: int, last: int, ids: list[int], *, overlap: bool = False) -> Block | None:
        start, end = self.units[first].start, self.units[last - 1].end
        if end - start > self.settings.min_chars:
            return Block(self.text[start:end], start, end, ids, self._closes(end), overlap)
        if not overlap:
            self.counts["ignored_blocks"] += 1
            self.counts["ignored_chars"] += end - start
        return None

    def _fill(self, first: int, end: int) -> tuple[int, list[int]]:
        """Where the most units from ``first`` on (before ``end``) that fit end, and their tokens."""
        totals, room = self.totals, self.settings.max_tokens
        last = min(max(bisect_right(totals, totals[first] + room) - 1, first + 1), end)
        ids = self._ids(first, last)
        while len(ids) > room:
            assert last > first + 1, "units are cut so that each fits alone"
            target = totals[last] - (len(ids) - room)
            last = max(first + 1, bisect_right(totals, target, first, last) - 1)
            ids = self._ids(first, last)
        while last < end and len(ids) + len(self.units[last].piece) <= room + _SLACK_TOKENS:
            longer = self._ids(first, last + 1)
            if len(longer) > room:
                break
            last, ids = last + 1, longer
        return last, ids

    def _ids(self, first: int, last: int) -> list[int]:
        """Tokens of units ``first..last``, with BOS and EOS."""
        head, *rest = self.units[first:last]
        end = rest[-1].end if rest else head.end
        if all(unit.space < unit.start for unit in rest):
            body = [*self._alone(head), *chain.from_iterable(unit.piece for unit in rest)]
        else:
            body = self.codec.encode(self.text[head.start : end])
        return self.settings.bos + body + self._eos(end)

    def _alone(self, unit: _Unit) -> list[int]:
        """Tokens of the unit as the start of a block: those of its first word change without the white space."""
        if unit.space == unit.start:
            return unit.piece
        space = SPACES.search(self.text, unit.start, unit.end)
        word_end = space.start() if space else unit.end
        num_changed = len(self.codec.encode_word(self.text[unit.space : word_end]))
        return self.codec.encode_word(self.text[unit.start : word_end]) + unit.piece[num_changed:]

    def _closes(self, end: int) -> bool:
        """Whether a block that ends at this offset is the section's last: what is too small for a block does not count."""
        return self.end - skip_space(self.text, end, self.end) <= self.settings.min_chars

    def _eos(self, end: int) -> list[int]:
        return self.settings.eos if self.settings.eos_everywhere or self._closes(end) else []

    def _room(self, end: int) -> int:
        """Tokens of text that fit into a block that ends at this offset."""
        return self.settings.max_tokens - len(self.settings.bos) - len(self._eos(end))

    def _fits(self, start: int, end: int) -> bool:
        span = strip_space(self.text, start, end)  # a part is used without the white space behind it
        return span is None or len(self.codec.encode(self.text[span[0] : span[1]])) <= self._room(end)

    def _all_units(self) -> Iterator[_Unit]:
        """Yield the sentences as units, and those that do not fit into a block of their own in parts."""
        sentences = split_sentences(self.text, self.start, self.end)
        while batch := list(islice(sentences, _SENTENCES_AT_ONCE)):
            for unit in self._encode(batch):
                whole = unit.end - unit.start <= self.longest and len(self._alone(unit)) <= self._room(unit.end)
                parts = [] if whole else list(self._cut(unit.start, unit.end))
                if len(parts) > 1:
                    self.counts["cut_sentences"] += 1
                yield from [unit] if whole else self._encode(parts)

    def _encode(self, spans: list[tuple[int, int]]) -> list[_Unit]:
        before = [strip_space(self.text, self.start, start) if self.codec.composes else None for start, _ in spans]
        spaces = [words[1] if words else start for words, (start, _) in zip(before, spans, strict=True)]
        ends = [min(end, start + self.longest) for start, end in spans]
        pieces = self.codec.encode_all([self.text[space:end] for space, end in zip(spaces, ends, strict=True)])
        return [_Unit(space, *span, piece) for space, span, piece in zip(spaces, spans, pieces, strict=True)]

    def _cut(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        while span := strip_space(self.text, start, end):
            cut = self._best_cut(*span)
            stripped = strip_space(self.text, span[0], cut)
            assert stripped is not None, "a cut lies behind a character"
            yield stripped
            start = cut

    def _best_cut(self, start: int, end: int) -> int:
        """The last border up to which the text from ``start`` fits: of a clause, else a word, a token, a character."""
        width = 2 * self.settings.max_tokens
        while start + width < end and self._fits(start, start + width):
            width *= 2
        if start + width >= end and self._fits(start, end):
            return end
        window = self.text[start : min(start + width, end)]
        tokens = self.codec.token_ends(window, self.settings.max_tokens)
        characters = range(1, min(len(window), 64) + 1)  # if even the first token border is too far
        for borders in (*inner_borders(window, tokens), whole_characters(window, characters), characters):
            for border in reversed(borders):
                if self._fits(start, start + border):
                    return start + border
        settings, num_tokens = self.settings, len(self.codec.encode(window[0]))
        needed = num_tokens + settings.max_tokens - self._room(start + 1)
        what = f"Maximum context length (Cutoff) is {settings.max_tokens} tokens, but the character {window[0]!r} needs {needed}"
        raise ValueError(f"{what} with BOS and EOS; set it to {needed} or more.")
