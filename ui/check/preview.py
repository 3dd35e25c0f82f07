"""Samples as they will be trained, as HTML: trained tokens coloured, special tokens shown, borders of blocks and packs visible.

Pure functions of what the host's ``preview`` returned.
"""

from __future__ import annotations

from html import escape
from typing import Any

from .. import words

NO_PREVIEW = '<div id="tph-preview"></div>'
PAGE = 5  # samples, or packs, shown at once

_LEGEND = (
    '<p class="tph-legend-tokens"><mark class="tph-trained">trained</mark> <span class="tph-read">only read</span> '
    '<b class="tph-special">special token</b> <span class="tph-overlap-mark">overlap block</span></p>'
)


def preview_html(preview: dict[str, Any]) -> str:
    """The page of samples in ``#tph-preview``.

    Args:
        preview: what ``data.preview.Preview.to_dict`` gives.
    """
    if preview["problems"]:
        sentences = "".join(f'<li class="tph-level-error">{escape(problem)}</li>' for problem in preview["problems"])
        return (
            '<div id="tph-preview" class="tph-card tph-bad" data-status="problems"><p><b>Preview: nothing to show</b></p>'
            f'<ul class="tph-messages">{sentences}</ul></div>'
        )
    samples = preview["samples"]
    packed = bool(samples) and samples[0]["pack"] is not None
    what = "Packs" if packed else "Samples"
    last = min(preview["first"] + PAGE, preview["num_entries"])
    title = f"{what} {preview['first'] + 1:,} to {last:,} of {preview['num_entries']:,}, as they are trained"
    parts = [f"<p><b>{title}</b></p>", _fill(preview, packed), _LEGEND, _samples(samples)]
    head = f'<div id="tph-preview" class="tph-card" data-status="ok" data-first="{preview["first"]}" data-entries="{preview["num_entries"]}">'
    return f"{head}{''.join(parts)}</div>"


def _fill(preview: dict[str, Any], packed: bool) -> str:
    """How full the entries are: a small histogram, a bar for each tenth of the cutoff."""
    bins, most = preview["fill"], max(preview["fill"], default=0)
    if not most:
        return ""
    bars = "".join(
        f'<i style="height:{max(2, round(34 * number / most)) if number else 0}px" '
        f'title="{tenth * 10} to {tenth * 10 + 10} % of the cutoff: {number:,}"></i>'
        for tenth, number in enumerate(bins)
    )
    what = "packs" if packed else "samples"
    sentence = f"The {what} are {preview['mean_fill']:.0%} full on average (cutoff {preview['capacity']:,} tokens)."
    numbers = ", ".join(f"{number:,}" for number in bins)
    return (
        f'<div class="tph-fill" role="img" aria-label="{what} per tenth of the cutoff, shortest first: {numbers}">{bars}</div>'
        f'<p class="tph-muted">{sentence}</p>'
    )


def _samples(samples: list[dict[str, Any]]) -> str:
    return "".join(map(_sample, samples))


def _sample(sample: dict[str, Any]) -> str:
    facts = [f"{sample['number'] + 1:,}", words.plural(sample["num_tokens"], "token"), f"{sample['num_trained']:,} trained"]
    if sample["pack"] is not None:
        facts.insert(0, f"pack {sample['pack'] + 1:,}")
    if sample["overlap"]:
        facts.append("overlap")
    border = sample["border"]
    line = f'<p class="tph-border" data-border="{escape(border)}">{escape(border)}</p>' if border else ""
    kind = " tph-is-overlap" if sample["overlap"] else ""
    return (
        f'{line}<section class="tph-sample{kind}" data-number="{sample["number"]}">'
        f'<p class="tph-muted">{" · ".join(facts)}</p><pre class="tph-tokens">{tokens_html(sample["pieces"])}</pre></section>'
    )


def tokens_html(pieces: list[dict[str, Any]]) -> str:
    """The tokens of a sample: runs of trained ones marked, each token told from its neighbour by its shade."""
    parts: list[str] = []
    is_trained = False
    for number, piece in enumerate(pieces):
        if piece["trained"] != is_trained:
            parts.append('<mark class="tph-trained">' if piece["trained"] else "</mark>")
            is_trained = piece["trained"]
        parts.append(_token(piece, number))
    return "".join(parts) + ("</mark>" if is_trained else "")


def _token(piece: dict[str, Any], number: int) -> str:
    text = escape(piece["text"]).replace("\n", '<span class="tph-return">↵</span>\n')
    if piece["special"]:
        return f'<b class="tph-special">{text}</b>'
    return f"<i>{text}</i>" if number % 2 else text
