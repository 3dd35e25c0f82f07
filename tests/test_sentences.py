"""Sentences: every character in exactly one, the same from pieces as from the whole, borders as a reader sees them."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from training_pro import sentences
from training_pro.sentences import CONTEXT_CHARS, LANGUAGES, detect_language, sentence_spans, split_sentences
from training_pro.slicing.sentence_lines import LINES_BEFORE, LONG_LINE, WHITE
from training_pro.slicing.sentence_rules import gaps_of

ROOT = Path(__file__).resolve().parents[1]

# A border stands where ║ does; the text is what remains without it.
TABLE = {
    "en": [
        "Dr. Bell met Mrs. Ito at 4 p.m. in St. Ives. ║They talked.",
        "J. R. R. Tolkien and H. G. Wells. ║Both wrote.",
        "It cost 3.50 dollars, i.e. 4.2 percent more than on Jan. 3 in the U.S. Senate. ║Why?",
        "See No. 5 and Fig. 3 (cf. Sec. 2.1). ║No. ║Not that.",
        "We have Python 3.11.2 and https://example.org/a.b?c=d. ║Both work.",
        "The U.S. is large. ║He lives in the U.S. ║She does not.",
        "Apples, pears, etc. ║Then it rained. ║Acme Inc. of Ohio paid.",
        '"Where?" he asked. ║"Here!" ║"No. ║Over there," she said. ║(It was dark.) ║He went.',
        '"Why?" Bloom asked. ║"Who knows?" ║The bell rang.',
        "He waited... and waited. ║Then... ║Nothing. ║I... I don't know. ║Well... I do.",
        "What?! ║Really?? ║Yes!",
        "It works.[3] ║So they say. ║**Bold.** ║_Slanted._ ║Plain.",
        "1. First things first. ║\n2. Then the rest.",
        "Intro:\n║- one thing\n║- another thing",
        "# A heading without a stop\n║And text below it.",
        "## A heading that is longer than forty columns\n║And text below it that is about as long.",
        "A heading\n\n║Some text. ║More text",
        "The nets are dry\n║The boats are in\n║And nobody has come",
        "We counted seven, then we slept,\nand when we woke the sea was there.",
        "| a | b |\n║| --- | --- |\n║| Say more. | x |",
        "```python\n║import os\n║x = os.sep\n║print(x)\n║```",
        "That's great! 😂 ║When did you make it? :) ║Today.",
        "anna: hey\n║tom: yeah i know. ║it's late\n║anna: ok",
        "[18:02] <tux> any ideas?\n║[18:03] <bo> none. ║sorry",
        "hi\n║you there?\n║yeah what's up",
        "Smith v. Jones was quoted, vs. the old rule. ║It won.",
        "“Curly quotes.” ║‘So they are,’ he said. ║Fine…",
        "no stops at all here",
    ],
    "de": [
        "Am 3. Oktober kam Dr. Weber, z. B. mit 20 kg Gepäck. ║Er blieb.",
        "„Wo?“, fragte er. ║„Hier.“ ║Im 19. Jahrhundert, bzw. danach, d. h. spät. ║Friedrich II. Hohenstaufen kam.",
        "Nr. 14 kostet 1.204,50 Euro inkl. MwSt. und mehr. ║Ja!",
    ],
    "fr": ["« Combien ? » demanda-t-il. ║M. Dubois paya, p. ex. en 1954. ║C'est bon !\n║— Vous trouvez ?"],
    "es": ["El Sr. Gómez abrió. ║¿Dónde estaban? ║¡Era lunes! ║EE. UU. es grande."],
    "it": ["Il sig. Rossi, cfr. pag. 4, arrivò. ║Era tardi."],
    "pt": ["O Sr. Silva chegou às 9.30. ║Não havia ninguém."],
    "nl": ["Dhr. Jansen kwam om ca. 9.30. ║Hij bleef."],
    "pl": ["Prof. Nowak, tzn. mój sąsiad, przyszedł. ║Było późno."],
    "cs": ["Dr. Novák přišel 3. května. ║Pršelo."],
    "sv": ["Dr. Berg kom, t.ex. i dag. ║Det regnade."],
    "ru": ["В 1978 г. отец купил дом, т. е. почти даром. ║А. С. Петров пришёл.", "— Почему? — спросила мать. ║Ул. Садовая. ║Да."],
    "uk": ["У 1978 р. батько купив дім. ║О. С. Петренко прийшов."],
    "tr": ["Dr. Kaya geldi. ║Hava güzeldi!"],
    "el": ["Ο κ. Παππάς ήρθε. ║Έβρεχε."],
    "ko": ['"어디 가세요?" 내가 물었다. ║버스는 7시 30분에 떠난다. ║1.5천 원이다.'],
    "ar": ["ذهب أحمد إلى السوق. ║هل هذا كثير؟ ║«كم ثمن هذا؟» سأل البائع. ║قرأها د. سامي مرتين."],
    "fa": ["او آمد. ║آیا دیر است؟ ║بله."],
    "he": ["הוא בא. ║מתי? ║אתמול."],
    "hi": ["डॉ. शर्मा आए। ║क्या यह सच था? ║हाँ॥ ║बस।"],
    "th": ["เช้าวันนี้ฝนตกหนักมาก\n║แม่ไปตลาด ซื้อปลา ผัก และผลไม้"],
    "zh": [
        "天还没亮。║“谁？”小李问。║“没有……”他说，“那怎么办？”║风很大！║（真的。）║版本是3.11。",
        "什么是故乡?║有人说是一碗面.║我……我不知道。║他走了很远……║天黑了。",
        "“你来吗？║我等你。”║“好。”",
        "小明：在吗？\n║阿花：在\n║小明：八点见",
    ],
    "ja": [
        "「静かですね」と言った。║「はい。」║「何ですか？」と聞いた。║「起きろ！！」兄はさけんだ。║風が冷たい。",
        "最新版（Ver. 1.5）です。║『何も知らない。』║そう思った。║なるほど……。║はい｡║次。",
    ],
}


@pytest.mark.parametrize(("language", "marked"), [(code, marked) for code, table in TABLE.items() for marked in table])
def test_borders(language: str, marked: str) -> None:
    text = marked.replace("║", "")
    assert [text[first:last] for first, last in sentence_spans(text, language=language)] == [
        part.strip() for part in marked.split("║")
    ]


WRAPPED = """Dr. Ellen Marsh had kept the harbour office for eleven years, and in
all that time nobody had asked her for a map. So when the stranger came
in on Jan. 14, shook the rain from his coat and said that he needed one
- the one from before the dredging - she did not answer at once. He was
tall, and his coat had been made for
somebody else."""


def test_a_wrapped_paragraph_has_the_borders_of_the_same_on_one_line() -> None:
    spans = sentence_spans(WRAPPED, language="en")
    assert spans == sentence_spans(WRAPPED.replace("\n", " "), language="en")
    assert len(spans) == 3


def test_carriage_returns_change_nothing() -> None:
    for text in (WRAPPED, *(marked.replace("║", "") for marked in TABLE["en"])):
        lines = text.replace("\n", "\r\n")
        found = [lines[first:last].replace("\r", "") for first, last in sentence_spans(lines, language="en")]
        assert found == [text[first:last] for first, last in sentence_spans(text, language="en")]


def test_only_the_stretch_is_looked_at() -> None:
    text = "Mr. Fox ran. He won. The end. x"
    assert [text[a:b] for a, b in sentence_spans(text, 4, 19, language="en")] == ["Fox ran.", "He won"]
    assert list(split_sentences(text, 4, 4)) == []
    assert list(split_sentences(" \n ")) == []


def test_an_unknown_language_is_named() -> None:
    with pytest.raises(ValueError, match="Language is 'xx'; choose auto or one of en, de"):
        split_sentences("One.", language="xx")


# --- properties ----------------------------------------------------------------------------------------------------------------

_PARTS = [
    *(marked.replace("║", "") for table in TABLE.values() for marked in table),
    *(
        WRAPPED,
        "\n",
        "\n\n",
        " ",
        ". ",
        "... ",
        '."',
        "? ",
        "。",
        "」",
        "…",
        "\r\n",
        "\t",
        "- ",
        "a",
        "Dr. ",
        "😂 ",
        "\x1c",
        "\u00a0",
        "\u3000",
    ),
    *(
        "x" * LONG_LINE,
        " " * (LONG_LINE + 1),
        ". " * 40,
        "\n" * 300,
        " \n" * 200,
        "." * 70,
        '"' * 9,
        "。」" * 50,
        "。" * 200,
        "ก" * 200,
    ),
]
texts = st.lists(st.one_of(st.sampled_from(_PARTS), st.text(max_size=12)), max_size=30).map("".join)
codes = st.sampled_from(["auto", *LANGUAGES])


@settings(max_examples=200, deadline=None)
@given(texts, codes)
def test_every_character_lies_in_exactly_one_sentence(text: str, language: str) -> None:
    spans = sentence_spans(text, language=language)
    place = 0
    for first, last in spans:
        assert place <= first < last
        assert text[place:first].strip(WHITE) == ""
        assert text[first] not in WHITE
        assert text[last - 1] not in WHITE
        place = last
    assert text[place:].strip(WHITE) == ""
    assert spans == list(split_sentences(text, language=language))


@settings(max_examples=60, deadline=None)
@given(st.lists(texts, min_size=1, max_size=12), codes.filter(lambda code: code != "auto"), st.integers(150, 700))
def test_pieces_have_the_borders_of_the_whole(parts: list[str], language: str, piece: int) -> None:
    text = "".join(parts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sentences, "_PIECE_CHARS", piece)
        in_pieces = sentence_spans(text, language=language)
    assert in_pieces == sentence_spans(text, language=language)


@settings(max_examples=60, deadline=None)
@given(st.lists(texts, min_size=4, max_size=20), codes.filter(lambda code: code != "auto"), st.data())
def test_a_border_depends_on_its_context_only(parts: list[str], language: str, data: st.DataObject) -> None:
    text = "".join(parts) + WRAPPED * 5
    known = LANGUAGES[language]
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, len(text)))
    low, high = (start + CONTEXT_CHARS if start else 0), (end - CONTEXT_CHARS if end < len(text) else end)
    whole = {last for last in gaps_of(text, known) if low < last < high}
    assert {start + last for last in gaps_of(text[start:end], known) if low < start + last < high} == whole


def test_the_context_holds_the_lines_that_are_looked_at() -> None:
    assert CONTEXT_CHARS >= (LINES_BEFORE + 2) * (LONG_LINE + 1) + 2 * LONG_LINE  # a line's begin may be looked at from its end


ENDLESS = [
    "word ",
    ". ",
    ".",
    '"',
    '."',
    "A. ",
    "Dr. ",
    "a\n",
    "a: b\n",
    "- a\n",
    "\n",
    " ",
    "字",
    "。",
    "。」",
    "字…",
    "😂",
    ". 😂 ",
    '?" Bloom ',
    "ก ",
]


def _calls(text: str) -> int:
    """How many functions are called, those written in C included."""
    num = 0

    def count(frame: object, event: str, argument: object) -> None:
        nonlocal num
        num += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        sentence_spans(text, language="en")
    finally:
        sys.setprofile(before)
    return num


@pytest.mark.parametrize("unit", ENDLESS)
def test_work_grows_with_the_text(unit: str) -> None:
    short, long = (_calls((unit * 40_000)[:length]) for length in (10_000, 40_000))
    assert long <= 4.5 * short + 500


@pytest.mark.timeout(60)
@pytest.mark.parametrize("unit", ENDLESS)
def test_endless_repetition_is_done_in_time(unit: str) -> None:
    """Steps inside regular expressions are not counted above; one that goes back over the text would take many minutes here."""
    text = (unit * 300_000)[:300_000]
    spans = sentence_spans(text, language="en")
    assert sum(last - first for first, last in spans) >= sum(map(len, text.split()))


# --- the hand-split texts -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def gold() -> ModuleType:
    spec = importlib.util.spec_from_file_location("sentence_borders", ROOT / "benchmarks" / "sentence_borders.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


FLOORS = {"prose": 98, "wrapped": 98, "chat": 98, "zh": 97, "ja": 97, "markdown": 95, "no stops": 100} | dict.fromkeys(
    ["de", "fr", "es", "ru", "ko", "ar", "hi", "th"], 95
)
ENOUGH = {"prose": 300, "wrapped": 300, "chat": 300, "zh": 100, "ja": 100}


def test_every_column_has_its_floor(gold: ModuleType) -> None:
    assert set(gold.COLUMNS) == set(FLOORS)


@pytest.mark.parametrize("column", FLOORS)
@pytest.mark.parametrize("splitter", ["ours", "ours (auto)"])
def test_hand_split_texts(gold: ModuleType, column: str, splitter: str) -> None:
    documents = gold.documents_of(column, "both")
    assert sum(len(document.sentences) for document in documents) >= ENOUGH.get(column, 9)
    found = gold.scores(gold.SPLITTERS[splitter], documents)
    assert found["lossless"]
    assert found["f1"] >= FLOORS[column]


def test_the_measure_sees_wrong_borders(gold: ModuleType) -> None:
    documents = gold.documents_of("prose", "dev")
    perfect: Callable[[str, str], list[str]] = lambda text, language: next(d.sentences for d in documents if d.text == text)  # noqa: E731
    assert gold.scores(perfect, documents)["f1"] == 100
    assert gold.scores(lambda text, language: [text], documents)["f1"] == 0
    assert 0 < gold.scores(lambda text, language: text.split("."), documents)["f1"] < 90
    assert not gold.scores(lambda text, language: ["x"], documents)["lossless"]


def test_wrapping_moves_no_character(gold: ModuleType) -> None:
    for plain, wrapped in zip(gold.documents_of("prose", "both"), gold.documents_of("wrapped", "both"), strict=True):
        assert wrapped.text.replace("\n", " ") == plain.text.replace("\n", " ")
        assert max(map(len, wrapped.text.split("\n"))) <= 72
    assert sum(document.text.count("\n") for document in gold.documents_of("wrapped", "both")) > 250


@pytest.mark.parametrize("column", ["prose", "chat", "zh", "ja", "de", "fr", "es", "ru", "ko", "ar", "hi", "th"])
def test_the_language_is_detected(gold: ModuleType, column: str) -> None:
    for document in gold.documents_of(column, "both"):
        assert detect_language(document.text) == document.language or column == "chat"
