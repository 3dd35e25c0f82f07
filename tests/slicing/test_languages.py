"""The table of languages, and which one a text is in."""

from __future__ import annotations

import pytest
from training_pro.slicing.languages import AUTO, LANGUAGES, detect_language, language_of

SAMPLES = {
    "en": "The boat was in the harbour, and nobody knew that it was there.",
    "de": "Das Boot lag im Hafen, und niemand wusste, dass es da war.",
    "fr": "Le bateau était dans le port et personne ne le savait pas encore.",
    "es": "El barco estaba en el puerto y nadie sabía que era de la familia.",
    "it": "La barca era nel porto e nessuno sapeva che non è della famiglia.",
    "pt": "O barco estava no porto e ninguém sabia que não era da família.",
    "nl": "De boot lag in de haven en niemand wist dat hij daar was.",
    "pl": "Łódź była w porcie i nikt nie wiedział, że jest to ich łódka.",
    "cs": "Loď byla v přístavu a nikdo nevěděl, že je to jejich loď.",
    "sv": "Båten låg i hamnen och ingen visste att det var en båt.",
    "tr": "Tekne limandaydı ve kimse bunu bilmiyordu, çok güzel bir gündü.",
    "ru": "Лодка стояла в гавани, и никто этого не знал.",
    "uk": "Човен стояв у гавані, і ніхто цього не знав, бо її не було.",
    "el": "Το πλοίο ήταν στο λιμάνι και κανείς δεν το ήξερε.",
    "ar": "كان القارب في الميناء ولم يعرف أحد ذلك.",
    "fa": "قایق در بندر بود و هیچ کس نمی‌دانست چرا گم شده است.",
    "he": "הסירה הייתה בנמל ואיש לא ידע.",
    "hi": "नाव बंदरगाह में थी और किसी को पता नहीं था।",
    "ko": "배는 항구에 있었고 아무도 몰랐다.",
    "ja": "船は港にあった。誰も知らなかった。",
    "zh": "船在港口里。没有人知道。",
    "th": "เรืออยู่ในท่าเรือ ไม่มีใครรู้",
    "other": "Xyzzy plugh 12345 +++",
}


@pytest.mark.parametrize("code", LANGUAGES)
def test_each_language_is_detected(code: str) -> None:
    assert detect_language(SAMPLES[code]) == code
    assert language_of(AUTO, SAMPLES[code]) is LANGUAGES[code]


def test_what_stands_in_a_text_most_often_counts() -> None:
    assert detect_language(SAMPLES["ja"] * 5 + " Tokyo 2024 OK") == "ja"
    assert detect_language(SAMPLES["en"] * 5 + "（船）") == "en"
    assert detect_language("") == detect_language("12 34 -- !!") == "other"
    assert detect_language(SAMPLES["de"] + "x " * 30_000 + SAMPLES["en"] * 999) == "other"  # only the head is read


@pytest.mark.parametrize("code", LANGUAGES)
def test_words_stand_as_they_are_looked_up(code: str) -> None:
    language = LANGUAGES[code]
    assert language.name
    for word in language.titles | language.others | language.numbered | language.starters | language.common:
        assert word == word.lower()
        assert not word.endswith(".")
        assert len(word) <= 10, "longer ones are never looked up"
    for word in language.common | {word for word in language.starters if "'" not in word}:
        assert word.isalpha()


def test_names_are_different() -> None:
    assert len({language.name for language in LANGUAGES.values()}) == len(LANGUAGES) >= 20


def test_an_unknown_code_is_named() -> None:
    with pytest.raises(ValueError, match="Language is 'klingon'; choose auto or one of en, de"):
        language_of("klingon", "")
