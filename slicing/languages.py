"""What the rules for sentence borders know of each language, and which language a text is in.

Guarantee: pure tables and counts, no model; the same text gives the same language. A language that is not in the table is read by
the rules that need no words: stops, quotes, initials, line ends.
Price: only the words below are known. Detection reads the first 20,000 characters and takes one language for the whole text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import lru_cache


def words(text: str) -> frozenset[str]:
    return frozenset(text.split())


@dataclass(frozen=True, slots=True)
class Language:
    """Words by which stops are judged, in small letters and without their last full stop.

    Attributes:
        name: as the drop-down shows it.
        titles: abbreviations that never end a sentence before a capital (``Dr.``, ``Prof.``).
        others: abbreviations that end one only where ``starters`` go on (``Inc.``, ``Dec.``).
        numbered: abbreviations only before a number, a Roman numeral or a single capital (``No. 5``, ``Fig. 3``).
        starters: words that often begin a sentence.
        ordinals: a number with a full stop is an ordinal (``3. Oktober``).
        speech: pattern that follows a quotation whose sentence goes on (``"Why?" Bloom asked``); for scripts without capitals it
            decides behind every stop, otherwise behind question and exclamation marks.
        common: frequent words by which the language is detected, where the script does not tell.
    """

    name: str
    titles: frozenset[str] = frozenset()
    others: frozenset[str] = frozenset()
    numbered: frozenset[str] = frozenset()
    starters: frozenset[str] = frozenset()
    ordinals: bool = False
    speech: re.Pattern[str] | None = None
    common: frozenset[str] = frozenset()


_SAID = (
    "said|says|asked|asks|cried|called|replied|answered|whispered|shouted|murmured|muttered|exclaimed|repeated|added|thought|"
    "wondered|demanded|began|went on|returned|continued|yelled|sighed|laughed"
)
_MONTHS = "jan feb mar apr jun jul aug sep sept oct nov dec "

_TABLE: dict[str, Language] = {
    "en": Language(
        "English",
        words(
            "mr mrs ms mx dr prof sgt cpl pvt lt col gen capt cmdr adm maj rev hon gov sen rep pres supt fr mt ft messrs mme mlle "
            "p.s wm geo cf vs v viz e.g i.e ca approx eds ph.d hrh"
        ),
        words(
            "st al inc ltd co corp llc jr sr esq bros dept univ assn est ave blvd rd m.d b.a m.a temp max min ed a.d b.c "
            f"{_MONTHS} mon tue tues wed thu thur thurs fri sat sun"
        ),
        words("no nos fig figs vol vols p pp ch sec sect eq art app apt mk ex tab pt cl para bk"),
        words(
            "a an the he she it we you they i this that these those there here his her hers its our my your their but and so or if "
            "when while then as at in on for to from by with after before because since although though however what who whom why "
            "how where which not yes no now once nobody everybody everyone somebody someone all some many most one two few each "
            "both another other others it's he's she's they're we're i'm i've i'd i'll that's there's don't did does do is are was "
            "were will would can could should may might let later today yesterday tomorrow still yet even nothing something maybe "
            "perhaps only more such under over between during until"
        ),
        speech=re.compile(rf"(?:I|[A-Z][\w'’-]+(?: [A-Z][\w'’-]+)?|[Tt]he \w+|[Hh]e|[Ss]he|[Tt]hey|[Ww]e) (?:{_SAID})\b"),
        common=words("the and of to in is that it was for you he she with on this are not have they but"),
    ),
    "de": Language(
        "Deutsch",
        words(
            "dr prof hr fr frl dipl ing st z.b d.h u.a v.a i.d.r o.ä s.o s.u m.e z.t bzw ca vgl evtl ggf inkl exkl zzgl sog bspw geb "
            "gest hrsg mag rer nat phil med jur v z u d i s"
        ),
        words("usw etc mwst str jh mio mrd tel min max jan feb apr aug sept okt nov dez mo di mi do sa so"),
        words("nr nrn bd abb abs art kap s tab aufl"),
        words(
            "der die das ein eine er sie es wir ihr ich und aber oder doch denn dann da dort hier heute morgen gestern so wie was "
            "wer wo wann warum als wenn nach vor bei mit von zu im in am auf aus für niemand man alle viele manche andere dies diese "
            "dieser dieses nun noch auch nur nicht nein ja sein seine ihre mein meine unser"
        ),
        ordinals=True,
        common=words("der die das und ist nicht ein eine ich sie es mit auf den dem von zu sich war auch im"),
    ),
    "fr": Language(
        "Français",
        words("m mm mme mmes mlle mlles dr me mgr st ste cf p.ex env c.-à-d ex"),
        words("etc av bd tél janv févr avr juil sept oct nov déc jr max min"),
        words("no n° fig vol p pp chap art t éd"),
        words(
            "le la les un une des il elle ils elles on nous vous je tu ce cela cette ces mais et ou donc car puis alors pourtant où"
        ),
        common=words("le la les et des est une que qui dans il elle pas pour vous sur ne au avec ce"),
    ),
    "es": Language(
        "Español",
        words("sr sra srta sres dr dra d dña prof profa ud uds vd lic ing gral cnel sto sta p.ej av avda ee"),
        words("etc uu cía ltda s.a tel ene feb mar abr jun jul ago sept oct nov dic"),
        words("no núm n.º fig vol pág págs cap art"),
        words(
            "el la los las un una él ella ellos yo tú nosotros pero y o si cuando como donde que en con por para este esta no sí nadie"
        ),
        common=words("el la los las de que y en un una es por con para se no lo su como más"),
    ),
    "it": Language(
        "Italiano",
        words("sig sigg sig.ra sig.na dott dott.ssa prof prof.ssa ing avv on rag geom arch s p.es ca cfr"),
        words("ecc s.p.a s.r.l tel gen feb mar apr mag giu lug ago set ott nov dic"),
        words("n nr fig vol pag pagg p pp cap art"),
        words(
            "il lo la i gli le un una lui lei loro noi voi io ma e o se quando come dove che in con per questo questa non sì nessuno"
        ),
        common=words("il la che di e non un una per sono con del della le si è gli come anche ma"),
    ),
    "pt": Language(
        "Português",
        words("sr sra srta dr dra prof profa d eng exmo exma p.ex av"),
        words("etc ltda s.a tel jan fev mar abr mai jun jul ago set out nov dez"),
        words("n nº fig vol pág págs p pp cap art"),
        words(
            "o a os as um uma ele ela eles elas nós eu mas e ou se quando como onde que em com por para este esta não sim ninguém"
        ),
        common=words("o a os as de que e em um uma não com para se por mais do da no na"),
    ),
    "nl": Language(
        "Nederlands",
        words("dhr mevr mw dr drs prof ir ing mr st bijv bv d.w.z m.a.w o.a i.p.v t.a.v ca resp vgl"),
        words("enz etc jr sr jan feb mrt apr jun jul aug sept okt nov dec"),
        words("nr nrs fig blz p pag art hfst"),
        words(
            "de het een hij zij ze wij we jij je ik maar en of als toen wat wie waar hoe waarom in op met voor dit dat deze niet nee ja"
        ),
        common=words("de het een en van ik is dat die niet zijn op te met voor hij aan er maar om"),
    ),
    "pl": Language(
        "Polski",
        words("p dr prof mgr inż gen płk ks św np tzw tzn m.in ul al im por ok"),
        words("itd itp r w godz tys mln mld zł"),
        words("nr s str rys tab art ust t"),
        words("a ale i on ona ono oni my ja ty to ten ta te w na z po gdy kiedy jak co kto gdzie nie tak nikt"),
        common=words("w i na się nie że do to jest z a o jak ale po co tak za od był"),
    ),
    "cs": Language(
        "Čeština",
        words("p dr prof mgr ing judr mudr sv např tzv tj tzn ul nám cca"),
        words("atd apod r st tis mil kč"),
        words("č str s obr tab odst čl"),
        words("a ale i on ona ono oni my já ty to ten ta v na z po když jak co kdo kde ne ano nikdo"),
        ordinals=True,
        common=words("a se v na je že to s z do i o ale jako za by si jsem není byl"),
    ),
    "sv": Language(
        "Svenska",
        words("dr prof t.ex d.v.s bl.a m.a.o s.k ca jfr kl"),
        words("osv etc m.m m.fl jan feb apr aug sept okt nov dec"),
        words("nr fig s sid kap art"),
        words(
            "den det de en ett han hon vi jag du men och eller om när som vad vem var hur i på med för detta inte nej ja ingen"
        ),
        common=words("och att det i en som är på för jag av inte med den han var de till har ett"),
    ),
    "ru": Language(
        "Русский",
        words("г гг ул пер просп пл д кв корп стр проф акад доц им см ср т.е т.к т.н напр св гр н.э тов р обл"),
        words("тыс млн млрд руб коп др пр т.д т.п в вв"),
        words("№ рис табл стр с гл п пп ст ч т"),
        words(
            "он она оно они мы я ты вы это этот эта но и а или если когда как что кто где почему в на с по не нет да никто так там"
        ),
    ),
    "uk": Language(
        "Українська",
        words("р рр вул пров просп пл буд кв проф акад доц ім див пор т.зв напр св гр обл"),
        words("тис млн млрд грн коп ін т.д т.п ст"),
        words("№ рис табл стор с розд п пп ст ч т"),
        words(
            "він вона воно вони ми я ти ви це цей ця але і й а або якщо коли як що хто де чому у в на з по не ні так ніхто там"
        ),
    ),
    "el": Language("Ελληνικά", words("κ κα δρ καθ π.χ δηλ βλ σελ αγ"), words("κ.λπ κτλ κ.ά μ.χ π.χ"), words("αρ σελ εικ κεφ")),
    "tr": Language(
        "Türkçe",
        words("dr prof doç av sn hz örn bkz yrd"),
        words("vb vs a.ş ltd şti"),
        words("no s sf şek cilt"),
        common=words("ve bir bu da de için çok ile ne o ben var gibi daha mi değil ama kadar olarak sonra"),
        ordinals=True,
    ),
    "ar": Language("العربية", words("د أ م ص.ب"), speech=re.compile(r"(?:ف|و)?(?:سأل|قال|أجاب|صاح|صرخ|همس|ردّ?|هتف)")),
    "fa": Language("فارسی", words("د م ر.ک"), speech=re.compile(r"(?:\w+ ){0,3}(?:گفت|پرسید|جواب داد|فریاد زد)")),
    "he": Language("עברית", words("ד פרופ"), speech=re.compile(r"(?:אמר|שאל|ענ|צעק|לחש)")),
    "hi": Language(
        "हिन्दी",
        words("डॉ श्री श्रीमती प्रो पं कु सु मो"),
        words("ई.पू कि.मी रु"),
        words("सं पृ"),
        speech=re.compile(r"[^।.!?\"“”\n]{0,40}?(?:कहा|पूछा|बोल[ाीे]|चिल्लाय[ाीे]?|सोचा)(?!\w)"),
    ),
    "ko": Language(
        "한국어",
        speech=re.compile(r"(?:이?라고|하고|고) |[^.!?\"“”\n]{0,30}?(?:물었|물어|말했|말하|대답|외쳤|소리쳤|속삭였|중얼거)"),
    ),
    "ja": Language(
        "日本語",
        speech=re.compile(
            r"と(?!も|ん|て|ころ|き)|って|という"
            r"|(?!そう|こう)[^、。！？「」『』\n]{0,14}(?:言っ|言う|言い|いっ[たて]|さけ[んび]|叫|聞い|きい[たて]|答え(?!な)|こたえ(?!な)|たずね|尋ね|つぶや)"
        ),
    ),
    "zh": Language(
        "中文",
        speech=re.compile(
            r"(?!没有?人)[^，。！？：；“”「」『』\n]{0,14}?(?:说|說|问|問|道(?![路理具德])|喊|叫(?!做)|回?答|嚷|重[复複]|嘟囔)"
            r"[^，。！？：；“”「」『』\n]{0,6}(?=[，。！？：；\n]|……|\Z)"
        ),
    ),
    "th": Language("ไทย", words("ดร นพ พญ ผศ รศ ศ ถ ซ ต อ จ น"), words("พ.ศ ค.ศ กทม")),
    "other": Language("Other", words("dr prof mr mrs e.g i.e"), words("etc inc ltd co"), words("no nr fig vol p pp")),
}
AUTO = "auto"
# used in texts of all languages
_TITLES, _OTHERS, _NUMBERED = words("dr prof mr mrs ms vs e.g i.e"), words("inc ltd"), words("ver vol fig pp nr")
LANGUAGES: dict[str, Language] = {
    code: replace(it, titles=it.titles | _TITLES, others=it.others | _OTHERS, numbered=it.numbered | _NUMBERED)
    for code, it in _TABLE.items()
}

_SAMPLE_CHARS = 20_000
_SCRIPTS = {
    "kana": re.compile("[\u3041-\u30fa\u30fc\uff66-\uff9d]"),
    "han": re.compile("[\u3400-\u9fff\U00020000-\U0002ffff]"),
    "ko": re.compile("[\u1100-\u11ff\u3130-\u318f\uac00-\ud7a3]"),
    "ru": re.compile("[\u0400-\u052f]"),
    "el": re.compile("[\u0370-\u03ff]"),
    "ar": re.compile("[\u0620-\u064a\u0671-\u06d3]"),
    "he": re.compile("[\u05d0-\u05ea]"),
    "hi": re.compile("[\u0904-\u0963]"),
    "th": re.compile("[\u0e01-\u0e4e]"),
    "latin": re.compile("[a-zA-Z\u00c0-\u024f]"),
}
_WEIGHT = {"han": 2.5, "kana": 2.5, "ko": 2.5}  # a syllable or a word in one character
_WORD = re.compile(r"[^\W\d_]+")


def detect_language(text: str) -> str:
    """The code in ``LANGUAGES`` of the language that most of the text's first 20,000 characters are in; ``other`` if none shows.

    Scripts first; languages in Latin letters by their most frequent words.
    """
    return _detect(text[:_SAMPLE_CHARS])


@lru_cache(maxsize=16)
def _detect(sample: str) -> str:
    if sample.isascii():
        return _latin(sample)
    counts = {script: len(pattern.findall(sample)) * _WEIGHT.get(script, 1) for script, pattern in _SCRIPTS.items()}
    east_asian = counts["han"] + counts["kana"]
    script = max(counts, key=lambda name: east_asian if name == "han" else counts[name])
    if not counts[script] and not east_asian:
        return "other"
    if script in ("han", "kana"):
        return "ja" if counts["kana"] > 0.08 * east_asian else "zh"
    if script == "latin":
        return _latin(sample)
    if script == "ru" and re.search("[іїєґ]", sample) and len(re.findall("[іїєґ]", sample)) > len(re.findall("[ыэъё]", sample)):
        return "uk"
    if script == "ar" and len(re.findall("[پچژگ]", sample)) > 0.01 * counts["ar"]:
        return "fa"
    return script


def _latin(sample: str) -> str:
    found = _WORD.findall(sample.lower())
    hits = {code: sum(word in language.common for word in found) for code, language in LANGUAGES.items() if language.common}
    best = max(hits, key=lambda code: hits[code])
    return best if hits[best] and hits[best] >= 0.04 * len(found) else "other"


def language_of(code: str, text: str) -> Language:
    """The table entry for a code; ``auto`` detects it from ``text``.

    Raises:
        ValueError: there is no such code.
    """
    if code == AUTO:
        code = detect_language(text)
    if code not in LANGUAGES:
        raise ValueError(f"Language is {code!r}; choose auto or one of {', '.join(LANGUAGES)}.")
    return LANGUAGES[code]
