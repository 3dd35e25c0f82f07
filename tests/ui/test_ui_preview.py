"""The page of samples: what is marked, what stands between samples, and that nothing unescaped gets through."""

import re
from html import unescape
from typing import Any

from fake_host import FakeHost
from training_pro.data.preview import Piece, Preview, PreviewSample, with_borders
from training_pro.ui.check.preview import preview_html, tokens_html


def page(*samples: PreviewSample, **changes: Any) -> str:
    return preview_html(Preview(with_borders(samples), 0, 7, 100, [0] * 9 + [7], 0.95, **changes).to_dict())


def text_of(html: str) -> str:
    return unescape(re.sub(r"<[^>]+>", "", html))


def test_trained_tokens_are_marked_and_the_text_is_whole() -> None:
    pieces = FakeHost.sample(0).pieces
    html = tokens_html([vars(piece) for piece in pieces])
    assert re.findall(r'<mark class="tph-trained">(.*?)</mark>', html, re.DOTALL) == [
        '<i>yes</i><span class="tph-return">↵</span>\n'
    ]
    assert '<b class="tph-special">&lt;|s|&gt;</b>' in html
    assert text_of(html) == "<|s|>ask 0 <b>yes↵\n"


def test_borders_between_samples_are_named() -> None:
    sample = FakeHost.sample
    assert re.findall(r'data-border="([^"]+)"', page(sample(0), sample(1), sample(2))) == ["hard cut"]
    other = PreviewSample(9, 5, 2, [], group=3)
    assert re.findall(r'data-border="([^"]+)"', page(sample(1), other)) == ["next conversation or text"]
    packed = [PreviewSample(number, 5, 2, [], group=number, pack=number // 2) for number in range(4)]
    assert re.findall(r'data-border="([^"]+)"', page(*packed)) == ["pack 2"]
    assert "Packs 1 to 5 of 7" in page(*packed)


def test_overlap_blocks_and_the_fill_are_shown() -> None:
    html = page(FakeHost.sample(2))
    assert "tph-is-overlap" in html
    assert "95% full on average (cutoff 100 tokens)" in text_of(html)
    assert 'aria-label="samples per tenth of the cutoff, shortest first: 0, 0, 0, 0, 0, 0, 0, 0, 0, 7"' in html


def test_nothing_gets_through_unescaped() -> None:
    evil = "</pre><img src=x onerror=alert(1)>"
    assert "<img" not in page(PreviewSample(0, 1, 1, [Piece(evil, True), Piece(evil, False, True)]))
    assert "<img" not in preview_html(Preview(problems=[evil]).to_dict())


def test_problems_are_shown_instead() -> None:
    html = preview_html(Preview(problems=["The data set is empty."]).to_dict())
    assert 'data-status="problems"' in html
    assert "The data set is empty." in html
