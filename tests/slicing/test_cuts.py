"""Hard cuts: every kind, literally; wrong ones in the form's words; the same separators in windows as in the whole text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trained_tokenizers import GPT2, generated, small_windows
from training_pro.chunking import CUTS, iter_blocks, slice_text, slide_text
from training_pro.slicing import cuts
from training_pro.slicing.cuts import CutError, make_cuts, unescape


def parts(text, cut_at, hard_cut="", **options):
    return [block.text for block in slice_text(text, GPT2, max_tokens=300, cut_at=cut_at, hard_cut=hard_cut, **options)]


def spans(text, cut_at, hard_cut=""):
    return make_cuts(cut_at, hard_cut)().find(text, 0, len(text), len(text))


def test_string_cuts_know_escapes_and_line_ends():
    assert unescape(r"a\\n\t\x41\u00e9\r") == "a\\n\tAé\r"
    assert parts("One.<br>Two.\r\n\r\nThree.", "string", r"\n\n") == ["One.<br>Two.", "Three."]
    assert parts("One.<br>Two.", "string", "<br>") == ["One.", "Two."]
    assert parts("One.\n\n\nTwo.", "string", "") == ["One.\n\n\nTwo."]


def test_regular_expressions_see_lines():
    text = "Intro.\nChapter 1\nIt began.\n* * *\nIt went on. In Chapter 2 nothing.\nChapter 12\nThe end."
    assert parts(text, "regex", r"^(?:Chapter \d+|\* \* \*)$") == [
        "Intro.",
        "It began.",
        "It went on. In Chapter 2 nothing.",
        "The end.",
    ]
    assert parts(text, "regex", "") == [text]


def test_an_empty_match_cuts_and_takes_nothing_away():
    text = "Intro.\nChapter 1\nIt began.\nChapter 2\nIt ended."
    assert parts(text, "regex", "^(?=Chapter)") == ["Intro.", "Chapter 1\nIt began.", "Chapter 2\nIt ended."]


@pytest.mark.parametrize("expression", ["x*", "a?", "", "(?:)|b"])
def test_an_expression_that_matches_everywhere_is_refused(expression):
    if not expression:
        assert spans("ab", "regex", expression) == []
        return
    with pytest.raises(
        CutError, match=r"also matches nothing at all, and would cut everywhere; let it match at least one character"
    ):
        make_cuts("regex", expression)


@pytest.mark.parametrize("expression", ["(", "[a", "a{2", "*", r"\p{Nonsense}", "(?<=a+)b(?P<x"])
def test_a_broken_expression_is_named(expression):
    if expression == "a{2":  # no repeat, so an ordinary text
        assert spans("xa{2x", "regex", expression) == [(1, 4)]
        return
    with pytest.raises(CutError, match=r"Hard Cut String '.*' is no regular expression: .*; mend it, or cut at a string"):
        make_cuts("regex", expression)


def test_an_expression_that_never_ends_is_stopped(monkeypatch):
    monkeypatch.setattr(cuts, "_SECONDS", 0.2)
    with pytest.raises(CutError, match=r"\(a\|aa\)\+\$' takes over 0.2 seconds for \d+ characters; write it so that"):
        slice_text("a" * 5000 + "!", GPT2, max_tokens=50, cut_at="regex", hard_cut="(a|aa)+$")


def test_unknown_kinds_are_refused():
    with pytest.raises(CutError, match="Hard Cut at is 'pages'; choose one of string, regex, headings, blank lines"):
        make_cuts("pages", "")
    assert set(CUTS) == {"string", "regex", "headings", "blank lines"}


def test_blank_lines():
    assert parts("One.\nTwo.\n\nThree.\n \t\n\nFour.\r\n\r\nFive.", "blank lines") == ["One.\nTwo.", "Three.", "Four.", "Five."]


HEADINGS = """\
Before.

# One
Text one.
## Two ##
Text two.
#no heading

Title
=====
Text three.

```python
# a comment
Not a title
-----------
```

   ### Three
Text four.

A paragraph
of two lines
---
- item
---

Last
----
####### seven are too many
#
~~~
# inside
```
# still inside
~~~
# Outside
End."""


def test_headings_open_the_next_section():
    starts = [text.split("\n")[0] for text in parts(HEADINGS, "headings")]
    assert starts == ["Before.", "# One", "## Two ##", "Title", "### Three", "Last", "#", "# Outside"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("# A", [0]),
        ("A\n===", [0]),
        ("x\n\n    # code", []),
        ("---\ntitle: x\n# note\n---\n# A", [24]),
        ("a | b\n--- | ---\n", []),
        ("> quoted\n---", []),
        ("```\n# a\n", []),
        ("``` a`b\n# a", [8]),
        ("~~~~\n~~~\n# a\n~~~~\n# b", [18]),
        ("# A\r\nText\r\n\r\nB\r\n---\r\n", [0, 13]),
    ],
)
def test_headings_in_detail(text, expected):
    found = spans(text, "headings")
    assert [start for start, _ in found] == expected
    assert all(start == end for start, end in found)


LINES = [
    "# A",
    "Text. More.",
    "",
    "",
    "Title",
    "===",
    "---",
    "```",
    "~~~",
    "- item",
    "   ## B",
    "word " * 30,
    "    code",
    "* * *",
    "...",
]
DOCUMENT = st.lists(st.sampled_from(LINES), max_size=40).map("\n".join)
KINDS = st.sampled_from(
    [
        ("headings", ""),
        ("blank lines", ""),
        ("string", r"\n\n"),
        ("string", "* * *"),
        ("regex", r"^(?=Title)"),
        ("regex", r"\n\s*\n+"),
    ]
)


@generated
@given(text=DOCUMENT, kind=KINDS, sizes=st.lists(st.integers(1, 50), min_size=1, max_size=4), window=st.integers(700, 900))
def test_windows_find_the_separators_of_the_whole_text(text, kind, sizes, window):
    """The oracle is one look at the whole text."""
    text = text + "\n" + text
    bounds = [0, *(at for span in spans(text, *kind) for at in span), len(text)]
    expected = [text[a:b].strip() for a, b in zip(bounds[::2], bounds[1::2], strict=True)]
    with small_windows(window):
        blocks = list(iter_blocks([iter(text)], GPT2, max_tokens=5000, cut_at=kind[0], hard_cut=kind[1], add_eos="none"))
    assert [block.text for block in blocks] == [part for part in expected if part]
    assert [block.section for block in blocks] == list(range(len(blocks)))
    assert all(block.closes_section for block in blocks)


@generated
@given(text=DOCUMENT, kind=KINDS, overlap=st.sampled_from([0.0, 0.5]))
def test_no_block_crosses_a_cut(text, kind, overlap):
    options = {"max_tokens": 30, "cut_at": kind[0], "hard_cut": kind[1]}
    blocks = slice_text(text, GPT2, overlap=overlap, **options) + slide_text(text, GPT2, **options)
    for start, end in spans(text, *kind):
        for block in blocks:
            inside = block.start < start < block.end or block.start < end < block.end
            assert not inside
            assert end == start or block.end <= start or block.start >= end
