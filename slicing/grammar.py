r"""Where a byte-level tokenizer certainly begins a new word, whatever stands around: there its tokens may be cut and joined.

Such a tokenizer first parts the text into words by a regular expression that is applied from left to right, then makes tokens of each
word alone. So at an offset where one word ends and the next begins, in the whole text as well as in a block that is cut there, the
tokens before and behind are the same in both. Two families are known, by what their expressions cannot match:

- GPT-2's own (SmolLM2, GPT-2): no word holds white space behind its first character, and white space before a word belongs to it only
  as one space.
- Lists of alternatives (Llama 3, Qwen, GPT-4, Mistral's newer ones), each of them in `_ALTERNATIVES`: none of them holds a space
  behind its first character, but a full stop may take line breaks with it, and a letter the character before it.

Guarantee: an expression or a step that is not known gives None, and the tokenizer's tokens are then never joined.
"""

from __future__ import annotations

import json
import re
import unicodedata
from typing import Any

from .borders import SPACE, SPACES

_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_ALTERNATIVES = frozenset(
    [_CONTRACTIONS, "'(?i:[sdmt]|ll|ve|re)", "'s", "'t", "'re", "'ve", "'m", "'ll", "'d"]
    + [r"[^\r\n\p{L}\p{N}]?\p{L}+", r"[^\r\n\p{L}\p{N}]?+\p{L}+", r" ?\p{L}+", r"[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+"]
    + [rf"[^\r\n\p{{L}}\p{{N}}]?{a}*{b}+{c}" for a, b in [(_UPPER, _LOWER)] for c in ("", _CONTRACTIONS + "?")]
    + [rf"[^\r\n\p{{L}}\p{{N}}]?{a}+{b}*{c}" for a, b in [(_UPPER, _LOWER)] for c in ("", _CONTRACTIONS + "?")]
    + [r"\p{N}", r"\p{N}+", r" ?\p{N}+", r"\p{N}{1,3}", r"\p{N}{1,2}"]
    + [rf" ?[^\s{marks}\p{{N}}]+{tail}" for marks in (r"\p{L}", r"\p{L}\p{M}") for tail in ("", r"[\r\n]*", r"[\r\n/]*")]
    + [r"\s*[\r\n]+", r"\s*[\r\n]", r"\s+(?!\S)", r"\s+", r"\s"]
)


class Grammar:
    """GPT-2's words: see the module; offsets are those of ``text``.

    Args:
        pairs: neighbouring characters inside the tokenizer's added tokens, between which nothing is certain.
    """

    anchor = re.compile(rf"(?<!{SPACE})(?={SPACE})")  # a border between words, wherever it stands

    def __init__(self, pairs: frozenset[tuple[str, str]]) -> None:
        self._pairs = pairs

    def begins(self, text: str, at: int) -> bool:
        """Whether a word certainly begins at ``at``, where no white space is."""
        before = text[at - 1]
        return before != " " and (SPACES.match(before) is not None or self._differ(before, text[at]))

    def ends(self, text: str, at: int) -> bool:
        """Whether a word certainly ends at ``at``, behind a character that is not white space."""
        return SPACES.match(text, at) is not None or self._differ(text[at - 1], text[at])

    def junction(self, text: str, end: int, start: int) -> int | None:
        """A certain border in the white space (maybe none) between a sentence's end and the next one's start."""
        return end if self.ends(text, end) else None

    def _differ(self, before: str, behind: str) -> bool:
        kinds = _kind(before), _kind(behind)
        certain = kinds[0] != kinds[1] and "" not in kinds and before != "'"
        return certain and (before, behind) not in self._pairs


class SpacedGrammar(Grammar):
    """The words of lists of alternatives: see the module."""

    anchor = re.compile(rf"(?<!{SPACE})(?= )|(?<=\n)(?!{SPACE}|/)")

    def begins(self, text: str, at: int) -> bool:
        """Whether a word certainly begins at ``at``, where no white space is."""
        return text[at - 1] in "\r\n" and text[at] != "/"

    def ends(self, text: str, at: int) -> bool:
        """Whether a word certainly ends at ``at``, behind a character that is not white space."""
        return text[at] == " " or (text[at] in "\r\n" and _kind(text[at - 1]) in ("L", "N"))

    def junction(self, text: str, end: int, start: int) -> int | None:
        """A certain border in the white space (maybe none) between a sentence's end and the next one's start."""
        if self.ends(text, end):
            return end
        return start if end < start < len(text) and self.begins(text, start) else None


def _kind(character: str) -> str:
    """Letter, number, other, or '' where tokenizers may not agree: white space, and what Unicode 3.2 did not know so."""
    kind = unicodedata.category(character)[0]
    if kind != unicodedata.ucd_3_2_0.category(character)[0] or kind == "Z" or SPACES.match(character):
        return ""
    return kind if kind in "LN" else "O"


def find_grammar(tokenizer: Any) -> Grammar | None:
    """The grammar of a fast tokenizer; None if its tokens may not be joined anywhere."""
    backend = tokenizer.backend_tokenizer
    if type(backend.model).__name__ != "BPE" or not backend.pre_tokenizer:
        return None
    model = backend.model
    if model.dropout or model.continuing_subword_prefix or model.end_of_word_suffix:
        return None
    if not _normal_form_only(backend):
        return None
    added = list(tokenizer.added_tokens_decoder.values())
    if any(t.lstrip or t.rstrip or t.single_word or not t.content or SPACES.search(t.content) for t in added):
        return None
    pairs = frozenset(pair for token in added for pair in zip(token.content, token.content[1:], strict=False))
    return _family(json.loads(backend.pre_tokenizer.__getstate__()), pairs)


def needs_normal_form(tokenizer: Any) -> bool:
    """Whether the tokenizer brings text into the normal form NFC first, so that only text in that form keeps its offsets."""
    return tokenizer.backend_tokenizer.normalizer is not None


def _normal_form_only(backend: Any) -> bool:
    return backend.normalizer is None or json.loads(backend.normalizer.__getstate__()) == {"type": "NFC"}


def _family(steps: dict[str, Any], pairs: frozenset[tuple[str, str]]) -> Grammar | None:
    *first, last = steps.get("pretokenizers", [steps])
    if last["type"] != "ByteLevel" or last["add_prefix_space"]:
        return None
    if last.get("use_regex", True):
        return Grammar(pairs) if all(step["type"] == "Digits" for step in first) else None
    if len(first) == 1 and first[0]["type"] == "Split" and _isolates(first[0]):
        alternatives = _alternatives(first[0]["pattern"].get("Regex", ""))
        return SpacedGrammar(pairs) if set(alternatives) <= _ALTERNATIVES and r"\s+" in alternatives else None
    return None


def _isolates(step: dict[str, Any]) -> bool:
    return (step["behavior"], step["invert"]) in (("Isolated", False), ("Removed", True))


def _alternatives(expression: str) -> list[str]:
    """The parts of an expression between the bars that stand in no bracket."""
    parts, depth = [""], 0
    for token in re.findall(r"\\.|.", expression, re.DOTALL):
        depth += {"(": 1, "[": 1, ")": -1, "]": -1}.get(token, 0)
        if token == "|" and depth == 0:
            parts.append("")
        else:
            parts[-1] += token
    return parts
