"""Sentence borders: ours and the libraries' against the hand-split texts in benchmarks/gold, and megabytes a second.

python benchmarks/sentence_borders.py                     F1 of every column and every library that is installed
python benchmarks/sentence_borders.py --part dev --errors ours:en_prose     what ours gets wrong there

A border is the number of characters before it that are not white space, so that libraries that change or drop white space are
compared fairly; the end of a document does not count. Speed is process time over about 1 MB, the best of five.
pip install sentencex icu4py simplemma pysbd syntok nltk blingfire     what can be compared; none of them is needed
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
GOLD = Path(__file__).resolve().parent / "gold"
GLUES = {"space": " ", "none": "", "newline": "\n"}
MARKS = {"␣": " ", "⏎": "\n", "⁀": ""}
# column -> file, wrapped or not; the first five are the ones that a change is judged by
COLUMNS = {
    "prose": ("en_prose", False), "wrapped": ("en_prose", True), "chat": ("en_chat", False), "zh": ("zh", False),
    "ja": ("ja", False), "de": ("de", False), "fr": ("fr", False), "es": ("es", False), "ru": ("ru", False), "ko": ("ko", False),
    "ar": ("ar", False), "hi": ("hi", False), "th": ("th", False), "markdown": ("markdown", False), "no stops": ("no_stops", False),
}  # fmt: skip
QUOTES = "\"'”’»“」』"
SPEED_COLUMNS = ("prose", "wrapped", "chat", "zh")
Splitter = Callable[[str, str], list[str]]  # text, language -> pieces whose join holds every character but white space


class Document(NamedTuple):
    """A hand-split text.

    Attributes:
        part: ``dev`` or ``test``.
        language: code, as in the file's head.
        text: the source text.
        sentences: its sentences, without the white space between them.
    """

    part: str
    language: str
    text: str
    sentences: list[str]


def read_gold(name: str) -> list[Document]:
    """The documents of ``benchmarks/gold/NAME.txt``; README.md there describes the format."""
    lines = (GOLD / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    head = dict(line[2:].strip().split(": ") for line in lines if line.startswith(("%% language", "%% glue")))
    documents: list[Document] = []
    begins = [number for number, line in enumerate(lines) if line.startswith(("%% dev: ", "%% test: "))]
    for begin, end in zip(begins, [*begins[1:], len(lines)], strict=True):
        text, sentences = _join(lines[begin + 1 : end], GLUES[head["glue"]])
        documents.append(Document(lines[begin].split()[1].strip(":"), head["language"], text, sentences))
    return documents


def _join(lines: list[str], glue: str) -> tuple[str, list[str]]:
    text, sentences, between = "", [], ""
    for line in lines:
        if not line:
            between = "\n\n" if text else ""
            continue
        mark, body = (MARKS[line[0]], line[1:]) if line[0] in MARKS else (glue, line)
        body = body.replace("⏎", "\n")
        text += (between or (mark if text else "")) + body
        sentences.append(body)
        between = ""
    return text, sentences


def wrap(text: str, width: int = 72) -> str:
    """The text with lines longer than ``width`` broken at spaces: every character keeps its place."""
    wrapped = []
    for line in text.split("\n"):
        while len(line) > width and (cut := line.rfind(" ", 0, width + 1)) > 0:
            wrapped.append(line[:cut])
            line = line[cut + 1 :]
        wrapped.append(line)
    return "\n".join(wrapped)


def borders(pieces: list[str]) -> set[int]:
    """Where pieces end, in characters that are not white space; not where the last one does."""
    found, num = set(), 0
    for piece in pieces:
        num += sum(map(len, piece.split()))
        found.add(num)
    return found - {num, 0}


# --- who is compared -----------------------------------------------------------------------------------------------------------


def ours(text: str, language: str) -> list[str]:
    from training_pro.sentences import sentence_spans

    return [text[first:last] for first, last in sentence_spans(text, language=language)]


def ours_detecting(text: str, language: str) -> list[str]:
    return ours(text, "auto")


def sentencex(text: str, language: str) -> list[str]:
    import sentencex as library

    return list(library.segment(language, text))


def icu4py(text: str, language: str) -> list[str]:
    from icu4py.breakers import SentenceBreaker

    return [str(piece) for piece in SentenceBreaker(text, language)]


def icu4py_mended(text: str, language: str) -> list[str]:
    """ICU over paragraphs without line breaks, borders behind our abbreviations taken back, our rules for line ends."""
    from icu4py.breakers import SentenceBreaker
    from training_pro.sentences import language_of
    from training_pro.slicing.sentence_lines import hard_line_ends, paragraphs
    from training_pro.slicing.sentence_rules import _is_inside, over_space

    def is_abbreviation(behind: int) -> bool:
        following = over_space(text, behind, len(text))
        return text[behind - 1 : behind] == "." and following < len(text) and _is_inside(text, behind - 1, following, known)

    known = language_of(language, text)
    hard = set()
    for first, last, _ in paragraphs(text):
        hard |= {place + 1 for place in (hard_line_ends(text, first, last) if "\n" in text[first:last] else [])} | {last + 1}
    hard.discard(len(text) + 1)
    mended = list(re.sub(r"\n", " ", text))
    for border in hard:
        mended[border - 1] = "\n"  # ICU ends a sentence there
    found, start = [], 0
    for _, end in SentenceBreaker("".join(mended), language).segments():
        stripped = text[start:end].rstrip()
        if end in hard or end == len(text) or not is_abbreviation(start + len(stripped)):
            found.append(text[start:end])
            start = end
    return [*found, text[start:]]


def simplemma(text: str, language: str) -> list[str]:
    from simplemma import split_sentences

    return list(split_sentences(text, lang=language))


@cache
def _pysbd(language: str) -> Any:
    import pysbd

    known = language in {"en", "hi", "mr", "zh", "es", "am", "ar", "hy", "bg", "ur", "ru", "pl", "fa", "nl", "da", "fr", "my"}
    return pysbd.Segmenter(language=language if known or language in {"el", "it", "ja", "de", "kk", "sk"} else "en", clean=False)


def pysbd(text: str, language: str) -> list[str]:
    return list(_pysbd(language).segment(text))


def syntok(text: str, language: str) -> list[str]:
    from syntok import segmenter

    return ["".join(token.spacing + token.value for token in s) for p in segmenter.process(text) for s in p]


@cache
def _punkt() -> Any:
    from nltk.tokenize.punkt import PunktSentenceTokenizer

    return PunktSentenceTokenizer()


def nltk_untrained(text: str, language: str) -> list[str]:
    """Without its models, which would have to be downloaded: the algorithm as it is without them."""
    return list(_punkt().tokenize(text))


def blingfire(text: str, language: str) -> list[str]:
    from blingfire import text_to_sentences

    return str(text_to_sentences(text)).split("\n")


SPLITTERS: dict[str, Splitter] = {
    "ours": ours, "ours (auto)": ours_detecting, "icu4py": icu4py, "icu4py + our rules": icu4py_mended,
    "sentencex": sentencex, "simplemma": simplemma, "pysbd": pysbd, "syntok": syntok, "nltk punkt untrained": nltk_untrained,
    "blingfire": blingfire,
}  # fmt: skip
SLOW = {"pysbd": 20_000, "syntok": 100_000, "nltk punkt untrained": 300_000}  # characters to time them with

# --- measuring -----------------------------------------------------------------------------------------------------------------


def documents_of(column: str, part: str) -> list[Document]:
    name, wrapped = COLUMNS[column]
    found = [document for document in read_gold(name) if part in ("both", document.part)]
    return [document._replace(text=wrap(document.text)) for document in found] if wrapped else found


def scores(splitter: Splitter, documents: list[Document], quotes: bool = True) -> dict[str, float]:
    """Precision, recall and F1 (per cent) over documents, and whether the pieces gave the text back.

    Without ``quotes``, borders behind quotation marks do not count on either side: people split there in different ways.
    """
    hit = found = wanted = kept = 0
    for document in documents:
        pieces = splitter(document.text, document.language)
        gold, got = borders(document.sentences), borders(pieces)
        if not quotes:
            chars = [char for char in document.text if not char.isspace()]
            gold, got = ({place for place in places if chars[place - 1] not in QUOTES} for places in (gold, got))
        hit, found, wanted = hit + len(gold & got), found + len(got), wanted + len(gold)
        kept += "".join("".join(pieces).split()) == "".join(document.text.split())
    precision, recall = 100 * hit / max(found, 1), 100 * hit / max(wanted, 1)
    f1 = 200 * hit / max(found + wanted, 1)
    return {"precision": precision, "recall": recall, "f1": f1, "lossless": kept == len(documents)}


def timing_text(column: str, num_chars: int) -> str:
    """The column's documents again and again."""
    whole = "\n\n".join(document.text for document in documents_of(column, "both"))
    return ("\n\n".join([whole] * (num_chars // len(whole) + 1)))[:num_chars]


def speed(splitter: Splitter, text: str, language: str) -> float:
    """Megabytes of UTF-8 a second of process time, the best of five."""
    best = float("inf")
    for _ in range(5):
        begun = time.process_time()
        splitter(text, language)
        best = min(best, time.process_time() - begun)
    return len(text.encode()) / 1e6 / max(best, 1e-9)


def errors(splitter: Splitter, documents: list[Document]) -> Iterator[str]:
    """Every wrong or missed border with what stands around it."""
    for document in documents:
        gold, got = borders(document.sentences), borders(splitter(document.text, document.language))
        places = [place for place, char in enumerate(document.text) if not char.isspace()]
        for border in sorted(gold ^ got):
            place = places[border - 1] + 1
            around = f"{document.text[max(0, place - 50) : place]}║{document.text[place : place + 40]}"
            yield f"{'missed' if border in gold else 'wrong '} {around!r}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=["dev", "test", "both"], default="both")
    parser.add_argument("--errors", default="", help="SPLITTER:COLUMN")
    parser.add_argument("--no-quotes", action="store_true", help="leave borders behind quotation marks out of the score")
    parser.add_argument("--only", default="", help="names of splitters, with commas")
    parser.add_argument("--chars", type=int, default=1_000_000, help="to time with; 0 = no timing")
    parser.add_argument("--text", default="", help="an English text file to time them with, too")
    parser.add_argument("--json", default="", help="a file for all figures")
    options = parser.parse_args()
    if options.errors:
        name, _, column = options.errors.partition(":")
        print(*errors(SPLITTERS[name], documents_of(column, options.part)), sep="\n")
        return
    figures: dict[str, Any] = {}
    print(
        f"F1 on {options.part}; * = did not give the text back somewhere\n{'':24}" + "".join(f"{c:>9}" for c in COLUMNS),
        flush=True,
    )
    for name in options.only.split(",") if options.only else SPLITTERS:
        try:
            SPLITTERS[name]("One. Two.", "en")
        except ImportError as problem:
            print(f"{name:24} left out: {problem}", flush=True)
            continue
        row = figures[name] = {
            column: scores(SPLITTERS[name], documents_of(column, options.part), not options.no_quotes) for column in COLUMNS
        }
        line = "".join(f"{row[column]['f1']:>8.1f}{' ' if row[column]['lossless'] else '*'}" for column in COLUMNS)
        num_chars = min(options.chars, SLOW.get(name, options.chars))
        if num_chars:
            texts = {
                column: (timing_text(column, num_chars), read_gold(COLUMNS[column][0])[0].language) for column in SPEED_COLUMNS
            }
            if options.text:
                texts["text"] = (Path(options.text).read_text(encoding="utf-8", errors="replace")[:num_chars], "en")
            row["MB/s"] = {column: speed(SPLITTERS[name], *given) for column, given in texts.items()}
            line += "  MB/s " + " ".join(f"{column} {value:.3g}" for column, value in row["MB/s"].items())
        print(f"{name:24}{line}", flush=True)
    if options.json:
        Path(options.json).write_text(json.dumps(figures, indent=1), encoding="utf-8")


if __name__ == "__main__":
    sys.path.append(str(ROOT / "import_root"))
    main()
