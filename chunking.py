"""Raw text -> blocks of whole sentences that fit into a number of tokens: the front door of `slicing`.

text -> sections (between hard cuts) -> sentences -> units (a sentence, or a part of one that is too long) -> blocks

Guarantee: joining ``text[block.start:block.end]`` of the blocks that are not overlaps gives the text back, but for
hard-cut strings, ignored small blocks and white space between blocks. ``block.token_ids`` are exactly what the tokenizer
makes of ``block.text``, with BOS and EOS around, and never more than ``max_tokens``. No block crosses a hard cut. A text
that comes in pieces gives the blocks of the same text whole.
Price: each character is tokenized once where tokens are proved to be joinable (byte-level tokenizers, see
`slicing.grammar`), and a second time (rarely a third) everywhere else. Memory for a few windows of text, not for the text.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Required, TypedDict, Unpack, cast

from .sentences import AUTO, LANGUAGES, detect_language, sentence_spans
from .slicing.cuts import CUTS, make_cuts, unescape
from .slicing.filling import Block, Filler, fill_sections
from .slicing.reader import Reader
from .slicing.section import Section
from .slicing.stream import Source, TextLike
from .slicing.tokens import Codec
from .slicing.units import Lump, Room, UnitMaker

__all__ = [
    "CUTS",
    "EOS_MODES",
    "LANGUAGES",
    "Block",
    "SliceSettings",
    "Slicer",
    "iter_blocks",
    "slice_text",
    "slide_text",
    "unescape",
]

EOS_MODES = ("every_block", "section_end", "none")
MAX_OVERLAP = 0.9

_WINDOW_CHARS = 1 << 17
_WINDOW_CHARS_PER_TOKEN = 32  # a sentence that is longer than a window does not fit into a block, but for freaks
_LANGUAGE_CHARS = 20_000


class SliceSettings(TypedDict, total=False):
    """The keyword arguments of :func:`slice_text`, which explains them."""

    max_tokens: Required[int]
    overlap: float
    hard_cut: str
    cut_at: str
    min_chars: int
    min_tokens: int
    add_bos: bool
    add_eos: str
    stride: int
    language: str
    counts: Counter[str] | None
    on_chars: Callable[[int], None] | None


def slice_text(text: TextLike, tokenizer: Any, **settings: Unpack[SliceSettings]) -> list[Block]:
    r"""Cut a text into blocks of as many whole sentences as fit.

    With four tokens a sentence, ``max_tokens=9`` (EOS included) and ``overlap=0.5``::

        One two three. Four five six. Seven eight nine. Ten eleven twelve.
        [---------- block ----------] [------------- block -------------]
                       [---------- overlap ----------]

    Args:
        text: the whole text, a file opened in text mode, or pieces of the text; offsets refer to the whole.
        tokenizer: a Hugging Face tokenizer, fast or slow.
        **settings: of which only ``max_tokens`` is needed:

            - max_tokens: most tokens of a block, BOS and EOS included.
            - overlap: share of a block (0 to 0.9) with which an extra block begins that goes on into its neighbour; 0 = off.
            - hard_cut: string between sections; the escapes \n \t \r \\ \xhh \uhhhh work; empty = one section. Default: three
              line breaks. With ``cut_at="regex"`` a regular expression, in which ^ and $ are the ends of lines.
            - cut_at: a name of ``CUTS``: string, regex, headings (of Markdown; they open the next section), blank lines.
            - min_chars, min_tokens: blocks of at most so many characters, or tokens without BOS and EOS, are left out.
            - add_bos: begin each block with BOS, if the tokenizer has one.
            - add_eos: one of ``EOS_MODES``: where blocks end with EOS, if the tokenizer has one.
            - stride: sentences from the start of a block to that of the next, for :func:`slide_text`.
            - language: a code of ``LANGUAGES``, or "auto": detected from the first 20,000 characters.
            - counts: if given, what happened is added: ``ignored_blocks``, ``ignored_chars`` (small blocks),
              ``ignored_overlaps`` (small ones that only repeat), ``cut_sentences`` (longer than the cutoff),
              ``dropped_duplicates`` (:func:`slide_text`).
            - on_chars: called now and then with the number of characters done.

    Returns:
        Blocks in the order of the text; an overlap block stands between the two that it bridges.

    Raises:
        ValueError: a setting that cannot work, in the words of the form.
    """
    return list(_slicer(tokenizer, settings).blocks(text, counts=settings.get("counts"), on_chars=settings.get("on_chars")))


def slide_text(text: TextLike, tokenizer: Any, **settings: Unpack[SliceSettings]) -> list[Block]:
    """DEMENTOR blocks: every sentence starts a block that runs as far as the cutoff allows inside its section.

    Deep Memorization Enforcement Through Overlapping and Repetition. A block with the same text as the one before it is
    dropped and counted. Blocks that begin behind all text seen so far have ``overlap=False``, the repetitions True.
    Arguments and errors are those of :func:`slice_text`; ``overlap`` has no effect, every block overlaps already. No ``stride`` skips
    text: a block also begins wherever the last one with ``overlap=False`` ends.
    """
    slicer = _slicer(tokenizer, settings, sliding=True)
    return list(slicer.blocks(text, counts=settings.get("counts"), on_chars=settings.get("on_chars")))


def iter_blocks(
    texts: TextLike | Iterable[TextLike], tokenizer: Any, *, sliding: bool = False, **settings: Unpack[SliceSettings]
) -> Iterator[Block]:
    """Yield the blocks of one or many texts, section by section; offsets and sections count within each text.

    A str and a file are one text. Anything else is many texts, each of them a str, a file, or pieces that are read as needed:
    a text of any length is cut in the memory of a few windows. No block crosses from one text into the next. Arguments and
    errors (of the settings: raised at once, not at the first block) are those of :func:`slice_text`; ``sliding=True`` gives the
    blocks of :func:`slide_text`.
    """
    slicer = _slicer(tokenizer, settings, sliding=sliding)
    many = cast(Iterable[TextLike], [texts] if isinstance(texts, str) or hasattr(texts, "read") else texts)
    counts, on_chars = settings.get("counts"), settings.get("on_chars")
    return (block for text in many for block in slicer.blocks(text, counts=counts, on_chars=on_chars))


@dataclass(frozen=True, slots=True)
class _Choices:
    """The settings of a Slicer, checked."""

    max_tokens: int
    overlap: float = 0.0
    hard_cut: str = "\n\n\n"
    cut_at: str = "string"
    min_chars: int = 0
    min_tokens: int = 0
    add_bos: bool = False
    add_eos: str = "every_block"
    stride: int = 1
    language: str = AUTO
    sliding: bool = False

    def __post_init__(self) -> None:
        if self.add_eos not in EOS_MODES:
            raise ValueError(f"Add EOS token is {self.add_eos!r}; choose one of {', '.join(EOS_MODES)}.")
        if not 0 <= self.overlap <= MAX_OVERLAP:
            what = f"Overlap is {self.overlap}, but it is a share of a block"
            raise ValueError(f"{what}: set it between 0 (off) and {MAX_OVERLAP}.")
        for number, unit in ((self.min_chars, "characters"), (self.min_tokens, "tokens")):
            if number < 0:
                raise ValueError(f"Ignore small blocks is {number} {unit}; set it to 0 (off) or more.")
        if self.stride < 1:
            raise ValueError(f"Stride is {self.stride} sentences; set it to 1 (every sentence) or more.")
        if self.language != AUTO and self.language not in LANGUAGES:
            raise ValueError(f"Language of the text is {self.language!r}; choose one of {', '.join((AUTO, *LANGUAGES))}.")


class Slicer:
    """Cuts any number of texts with the same tokenizer and settings; those are checked and looked into once.

    Args:
        tokenizer: a Hugging Face tokenizer, fast or slow.
        sliding: blocks of :func:`slide_text` instead of :func:`slice_text`.
        **settings: as for :func:`slice_text`, but for ``counts`` and ``on_chars``.

    Raises:
        ValueError: a setting that cannot work, in the words of the form.
    """

    def __init__(self, tokenizer: Any, **settings: Any) -> None:
        choices = self._choices = _Choices(**settings)
        bos = _special(tokenizer, "bos_token_id") if choices.add_bos else []
        eos = _special(tokenizer, "eos_token_id") if choices.add_eos != "none" else []
        smallest = len(bos) + len(eos) + 1
        if choices.max_tokens < smallest:
            what = f"Maximum context length (Cutoff) is {choices.max_tokens} tokens, which leaves no room for text"
            raise ValueError(f"{what}; set it to {smallest} or more.")
        everywhere = choices.add_eos == "every_block"
        self._room = Room(choices.max_tokens, bos, eos, everywhere, choices.min_chars, choices.min_tokens)
        self._new_finder = make_cuts(choices.cut_at, choices.hard_cut)
        self._codec = Codec(tokenizer)
        self._window = max(_WINDOW_CHARS, _WINDOW_CHARS_PER_TOKEN * choices.max_tokens)

    @property
    def joins_tokens(self) -> bool:
        """Whether blocks are made from the tokens of the text; otherwise their texts are tokenized again."""
        return self._codec.grammar is not None

    @property
    def num_bos(self) -> int:
        """Tokens of BOS at the beginning of each block."""
        return len(self._room.bos)

    def continued(self, before: Block, block: Block) -> tuple[list[int], bool] | None:
        """The tokens of a block and the white space before it, as they follow another block's in a longer sample.

        Without BOS and EOS. Behind the other's they spell the text from its beginning to this block's end: nothing is lost or doubled.

        Returns:
            The ids, and whether they are also what the tokenizer makes there of the text of both. It may merge a full stop with line
            breaks behind it: then both are written as they are alone. None if the block does not follow the other, or if a tokenizer whose
            tokens may not be joined writes the end of the other otherwise.
        """
        if block.lead is None or before.section != block.section or before.end + len(block.lead) != block.start:
            return None
        text, grammar = block.lead + block.text, self._codec.grammar
        whole = before.text + text
        if grammar is not None and grammar.ends(whole, len(before.text)):
            return self._codec.encode(text), True
        inner = before.token_ids[self.num_bos : len(before.token_ids) - before.num_eos]
        both = self._codec.encode(whole)
        if both[: len(inner)] == inner:
            return both[len(inner) :], True
        return None if grammar is None else (self._codec.encode(text), False)

    def blocks(
        self, text: TextLike, *, counts: Counter[str] | None = None, on_chars: Callable[[int], None] | None = None
    ) -> Iterator[Block]:
        """Yield the blocks of one text.

        Args:
            text: the text, a file opened in text mode, or pieces of the text.
            counts: as for :func:`slice_text`.
            on_chars: called after each window with the number of characters done.
        """
        counts = Counter[str]() if counts is None else counts
        source, choices = Source(text), self._choices
        lumps = self._lumps(source, counts, on_chars)

        def way(filler: Filler) -> Iterator[Block]:
            return filler.slides(choices.stride) if choices.sliding else filler.slices(choices.overlap)

        return fill_sections(self._sections(lumps, source), self._room, counts, way)

    def _sections(self, lumps: Iterator[Lump], source: Source) -> Iterator[Section]:
        section = Section(lumps, source, self._codec)
        while not section.exhausted:
            yield section
            while section.grow():
                pass
            if not section.exhausted:
                section = Section(lumps, source, self._codec)

    def _lumps(self, source: Source, counts: Counter[str], on_chars: Callable[[int], None] | None) -> Iterator[Lump]:
        language = self._choices.language
        if language == AUTO:
            source.read_to(_LANGUAGE_CHARS)
            language = detect_language(source.slice(0, _LANGUAGE_CHARS))
        reader = Reader(source, self._new_finder(), lambda part: sentence_spans(part, language=language), self._window)
        maker = UnitMaker(source, reader, self._codec, self._room, counts)
        for lump in maker.lumps():
            yield lump
            if on_chars is not None:
                on_chars(reader.position)


def _slicer(tokenizer: Any, settings: SliceSettings, sliding: bool = False) -> Slicer:
    own = {key: value for key, value in settings.items() if key not in ("counts", "on_chars")}
    return Slicer(tokenizer, sliding=sliding, **own)


def _special(tokenizer: Any, name: str) -> list[int]:
    token_id = getattr(tokenizer, name, None)
    return [] if token_id is None else [token_id]
