"""How a text file is encoded: UTF-8 or UTF-16/32 by proof, anything else by a stated guess.

Guarantee: a file that is opened through `find_encoding` decodes to its last byte, or raises before the first row is
used; a guess always carries a note for the report. Binary files are named for what they are.
Price: one extra pass over the file (bytes are decoded and thrown away, 1 MB at a time). A guess between two single-byte
code pages can be wrong; the user's own choice ("Text encoding") always wins.
"""

import codecs
import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TextIO

AUTO = "auto"
CHUNK_BYTES = 1 << 20
SAMPLE_BYTES = 1 << 18  # non-ASCII lines looked at for a guess

# mark at the head of the file -> Python codec that reads it and drops the mark (longer marks first)
BYTE_ORDER_MARKS: dict[bytes, str] = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}

_AS_TEXT = "Save its text as .txt"
_UNPACK = "Unpack it first"
# first bytes -> what it is, what to do
SIGNATURES: dict[bytes, tuple[str, str]] = {
    b"PK\x03\x04": (
        "a zip archive or an office document",
        "Unpack the archive, or save the document's text as .txt",
    ),
    b"%PDF": ("a PDF document", _AS_TEXT),
    b"{\\rtf": ("a rich text document", _AS_TEXT),
    b"\xd0\xcf\x11\xe0": ("an old office document", _AS_TEXT),
    b"PAR1": (
        "a Parquet table",
        "Save it as JSON lines, e.g. with pandas: read_parquet(...).to_json(..., orient='records', lines=True)",
    ),
    b"ARROW1": (
        "an Arrow table",
        "Save it as JSON lines, e.g. with datasets: Dataset.from_file(...).to_json(...)",
    ),
    b"SQLite format 3\x00": ("a SQLite database", "Export the table as JSON lines"),
    b"\x1f\x8b": ("a gzip archive", _UNPACK),
    b"BZh": ("a bzip2 archive", _UNPACK),
    b"\xfd7zXZ": ("an xz archive", _UNPACK),
    b"7z\xbc\xaf": ("a 7z archive", _UNPACK),
    b"Rar!": ("a rar archive", _UNPACK),
    b"\x28\xb5\x2f\xfd": ("a zstd archive", _UNPACK),
    b"GGUF": ("a GGUF model", "Choose the texts to train on, not a model"),
    b"\x89PNG": ("a picture", "Choose a file with text"),
    b"\xff\xd8\xff": ("a picture", "Choose a file with text"),
}

# letters and signs that Western European text writes outside ASCII (a few rare ones, which other code pages use, left out)
_WESTERN = frozenset("àâäáãåæçéèêëíîïñóôöøœùüúßÀÂÄÁÅÆÇÉÈÊËÍÎÑÓÔÖØÙÜÚ«»“”‘’„‹›—–…•°€£©®™§·¿¡ºª\u00a0")
_CODE_PAGES = (
    *("cp1252", "cp1250", "cp1251", "cp1253", "cp1254", "cp1255", "cp1256", "koi8_r"),
    *("cp932", "euc_jp", "gb18030", "big5", "cp949"),
)


@dataclass(frozen=True)
class TextEncoding:
    """How to open one file.

    Attributes:
        codec: name for `open(encoding=...)`; drops a byte order mark.
        errors: 'strict', or 'surrogateescape' where single damaged rows may be left to the reader of rows.
        note: what the report should say; empty for plain UTF-8.
    """

    codec: str
    errors: str = "strict"
    note: str = ""

    @property
    def name(self) -> str:
        """The name that users know: 'utf-8', 'windows-1252', ..."""
        name = self.codec.removesuffix("-sig").replace("_", "-")
        return f"windows-{name[2:]}" if name.startswith("cp125") else name


def find_encoding(path: Path, encoding: str = AUTO, *, label: str = "Data set", allow_damage: bool = False) -> TextEncoding:
    """Proves how `path` is encoded.

    Args:
        path: the file; not empty.
        encoding: 'auto', or the user's choice, which is proved and never replaced.
        label: the form's label for error messages.
        allow_damage: let a UTF-8 file with a few wrong bytes pass; its wrong bytes arrive as surrogates
            (PEP 383), so that a reader of rows can report the rows that hold them.

    Raises:
        ValueError: the file is binary, cannot be read or does not decode, or the encoding is unknown.
    """
    head = _read_head(path, label)
    marked = next((codec for mark, codec in BYTE_ORDER_MARKS.items() if head.startswith(mark)), None)
    if encoding != AUTO:
        return _chosen(path, encoding, marked, label)
    if marked:
        _prove(path, marked, label)
        return TextEncoding(marked, note="byte order mark removed" if marked == "utf-8-sig" else f"encoding {marked}")
    refuse_binary(path, label)
    flaw = _first_flaw(path, "utf-8", label)
    return TextEncoding("utf-8") if flaw is None else _guess(path, flaw, label, allow_damage)


def open_text(path: Path, found: TextEncoding) -> TextIO:
    """Opens the file as text; every line ending becomes a newline."""
    return path.open(encoding=found.codec, errors=found.errors, newline=None)


def _read_chunks(path: Path, label: str) -> Iterator[bytes]:
    """Yields the file's bytes, 1 MB at a time.

    Raises:
        ValueError: the system refuses to read the file.
    """
    try:
        with path.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                yield chunk
    except OSError as error:
        raise ValueError(
            f"{label}: {path} cannot be read ({error.strerror or error}). Check its permissions, or choose another file."
        ) from error


def refuse_binary(path: Path, label: str) -> None:
    """Names a file that is no text for what it is.

    Raises:
        ValueError: the file has a known signature or a zero byte near its beginning, or cannot be read.
    """
    head = _read_head(path, label)
    for signature, (kind, remedy) in SIGNATURES.items():
        if head.startswith(signature):
            raise ValueError(f"{label}: {path} is {kind}, not text. {remedy}.")
    position = head.find(b"\x00")
    if position >= 0:
        raise ValueError(
            f"{label}: {path} holds a zero byte at position {position:,}, so it is not plain text. "
            "Choose a text file; if it is UTF-16 without a byte order mark, choose the Text encoding utf-16-le."
        )


def _read_head(path: Path, label: str) -> bytes:
    return next(_read_chunks(path, label), b"")


def _chosen(path: Path, encoding: str, marked: str | None, label: str) -> TextEncoding:
    try:
        b"a".decode(encoding, "ignore")
    except (LookupError, UnicodeError):
        raise ValueError(
            f"Text encoding: {encoding!r} is unknown. Choose 'auto', or a name such as utf-8, cp1252, utf-16, shift_jis."
        ) from None
    name = codecs.lookup(encoding).name
    codec = marked if marked and name[:6] == marked[:6] else "utf-8-sig" if name == "utf-8" else name
    _prove(path, codec, label)
    return TextEncoding(codec, note="" if name == "utf-8" else f"encoding {name}, as chosen")


def _prove(path: Path, codec: str, label: str) -> None:
    flaw = _first_flaw(path, codec, label)
    if flaw is not None:
        raise ValueError(
            f"{label}: {path} is not {TextEncoding(codec).name}: {flaw}. Choose another Text encoding, or save the file as UTF-8."
        )


@dataclass(frozen=True)
class _Flaw:
    """The first byte that does not decode."""

    byte: bytes
    position: int  # bytes before it
    line: int

    def __str__(self) -> str:
        return f"byte 0x{self.byte.hex().upper()} at position {self.position:,} (line {self.line:,})"


def _first_flaw(path: Path, codec: str, label: str) -> _Flaw | None:
    """Decodes the whole file and forgets the text; None if every byte decodes."""
    decoder = codecs.getincrementaldecoder(codec)("strict")
    position, line = 0, 1
    for chunk in chain(_read_chunks(path, label), (b"",)):
        try:
            decoder.decode(chunk, final=not chunk)
        except UnicodeDecodeError as error:
            data, start = error.object, error.start  # the data begin with what was left of the chunk before
            line += data.count(b"\n", 0, start)
            return _Flaw(data[start : start + 1], position + len(chunk) - len(data) + start, line)
        except UnicodeError:  # UTF-16 or UTF-32 was chosen, and its byte order mark is missing
            return _Flaw(chunk[:1], position, line)
        position += len(chunk)
        line += chunk.count(b"\n")
    return None


def _guess(path: Path, flaw: _Flaw, label: str, allow_damage: bool) -> TextEncoding:
    sample = _non_ascii_lines(path)
    if _is_damaged_utf8(sample):
        if allow_damage:
            return TextEncoding("utf-8", "surrogateescape", f"UTF-8 with damaged bytes, the first is {flaw}")
        raise ValueError(
            f"{label}: {path} is UTF-8 with damaged bytes, the first is {flaw}. Mend that line, or choose another Text encoding."
        )
    codec = guess_code_page(sample)
    if codec is None or _first_flaw(path, codec, label) is not None:
        raise ValueError(
            f"{label}: the encoding of {path} was not recognised: {flaw} is not UTF-8. "
            "Save the file as UTF-8, or choose its Text encoding (e.g. cp1252, shift_jis, gb18030)."
        )
    return TextEncoding(codec, note=f"encoding {TextEncoding(codec).name} detected, not UTF-8")


def _non_ascii_lines(path: Path) -> bytes:
    """The lines that tell encodings apart, about SAMPLE_BYTES of them."""
    sample = bytearray()
    with path.open("rb") as file:
        while len(sample) < SAMPLE_BYTES and (line := file.readline(CHUNK_BYTES)):
            if not line.isascii():
                sample += line
    return bytes(sample)


def _is_damaged_utf8(sample: bytes) -> bool:
    """Far more proper UTF-8 sequences than wrong bytes: another encoding does not look like that by chance."""
    num_wrong = sum("\udc80" <= char <= "\udcff" for char in sample.decode("utf-8", "surrogateescape"))
    num_right = sum(not char.isascii() for char in sample.decode("utf-8", "ignore"))
    return num_right >= 3 * num_wrong


def guess_code_page(sample: bytes) -> str | None:
    """The likeliest codec of bytes that are not UTF-8.

    Western European text is recognised here, because detectors take French for Central European; the rest is left to
    charset_normalizer if it is installed, else cp1252 if the bytes allow it.

    Args:
        sample: lines that hold bytes above 127.

    Returns:
        A Python codec name, or None if nothing decodes.
    """
    western = _decode(sample, "cp1252")
    if western is not None and _looks_western(western):
        return "cp1252"
    try:
        detector = importlib.import_module("charset_normalizer")
    except ModuleNotFoundError:
        return "cp1252" if western is not None else None
    best = detector.from_bytes(sample, cp_isolation=list(_CODE_PAGES)).best()
    return None if best is None else str(best.encoding)


def _decode(data: bytes, codec: str) -> str | None:
    try:
        return data.decode(codec)
    except UnicodeDecodeError:
        return None


def _looks_western(text: str) -> bool:
    special = [char for char in text if not char.isascii()]
    num_letters = sum(char.isalpha() for char in text)
    num_western = sum(char in _WESTERN for char in special)
    return num_western >= 0.92 * len(special) and len(special) <= 0.3 * max(num_letters, 1) + 3
