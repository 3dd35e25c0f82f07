"""Characters to tokens: which tokens of a rendered text are trained.

Guarantee: a token is trained if it begins inside a span and ends inside it; a token that also holds characters of the prompt is not.
White space that an end token swallows (Phi-3's do) does not count as outside. No token is compared by its id.
Price: one tokenization per text, all texts in one call; a handful of look-ups per reply.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .planning import Rendered

IGNORE = -100


@dataclass(frozen=True)
class Tokens:
    """A tokenized text.

    Attributes:
        ids: token ids.
        spans: the trained tokens, (start, end), one for each span of the text.
        places: the first tokens at or behind the characters that were asked for.
    """

    ids: list[int]
    spans: list[tuple[int, int]]
    places: list[int]

    def fill(self, labels: Any, after: int = 0) -> Any:
        """Write the trained tokens from ``after`` on into labels that are -100 everywhere (a list or an array, (tokens,))."""
        for start, end in self.spans:
            start = max(start, after, 1)  # nothing predicts the first token
            if end > start:
                labels[start:end] = self.ids[start:end]
        return labels


def encode(text: str, tokenizer: Any) -> tuple[list[int], list[tuple[int, int]] | None]:
    """Token ids of a rendered text and, if the tokenizer gives them, each token's characters."""
    if not getattr(tokenizer, "is_fast", False):
        return list(tokenizer(text, add_special_tokens=False)["input_ids"]), None
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    return list(encoded["input_ids"]), [(int(start), int(end)) for start, end in encoded["offset_mapping"]]


def tokenize(texts: Sequence[Rendered], tokenizer: Any, places: Sequence[Sequence[int]] = ()) -> list[Tokens]:
    """Tokenize many texts at once.

    Args:
        places: for each text the characters whose tokens are wanted besides; empty: none.
    """
    asked = places or [()] * len(texts)
    if not texts:
        return []
    if not getattr(tokenizer, "is_fast", False):
        return [_slow(rendered, some, tokenizer) for rendered, some in zip(texts, asked, strict=True)]
    batch = tokenizer(
        [rendered.text for rendered in texts],
        add_special_tokens=False,
        return_attention_mask=False,
        return_token_type_ids=False,
    )
    ids, encodings = batch["input_ids"], batch.encodings
    return [_located(rendered, asked[number], ids[number], encodings[number]) for number, rendered in enumerate(texts)]


def _located(rendered: Rendered, places: Sequence[int], ids: list[int], encoding: Any) -> Tokens:
    text, count = rendered.text, len(ids)
    spans = [(token_from(encoding, start, count), token_until(encoding, end, count, text)) for _, start, end in rendered.spans]
    return Tokens(ids, spans, [token_from(encoding, place, count) for place in places])


def token_from(encoding: Any, place: int, count: int) -> int:
    """The first token that begins at a character or behind it.

    Args:
        encoding: of the tokenizers library.
        place: the character.
        count: number of tokens.
    """
    token = encoding.char_to_token(place)
    if token is None:  # white space that belongs to no token, or the end
        token = _next_token(encoding, place, count)
    while token > 0 and encoding.token_to_chars(token - 1)[0] >= place:
        token -= 1
    while token < count and encoding.token_to_chars(token)[0] < place:
        token += 1
    return int(token)


def _next_token(encoding: Any, place: int, count: int) -> int:
    """The same by bisection over the tokens' first characters."""
    low, high = 0, count
    while low < high:
        middle = (low + high) // 2
        if encoding.token_to_chars(middle)[0] < place:
            low = middle + 1
        else:
            high = middle
    return low


def token_until(encoding: Any, place: int, count: int, text: str) -> int:
    """Behind the last token that ends at a character or before it; white space behind it may belong to that token."""
    last = token_from(encoding, place, count)
    while last > 0:
        end = encoding.token_to_chars(last - 1)[1]
        if end <= place or not text[place:end].strip():
            break
        last -= 1
    return last


def _slow(rendered: Rendered, places: Sequence[int], tokenizer: Any) -> Tokens:
    """Without offsets: tokens that the text before a place has in common with the whole."""
    ids, _ = encode(rendered.text, tokenizer)

    def common(cut: int) -> int:
        return len(os.path.commonprefix([ids, encode(rendered.text[:cut], tokenizer)[0]]))

    spans = [(common(start), common(end)) for _, start, end in rendered.spans]
    return Tokens(ids, spans, [common(place) for place in places])
