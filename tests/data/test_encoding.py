"""Bytes in, text out; a guess is always told, and what cannot be decoded names the byte, the line and the remedy."""

import sys
from pathlib import Path

import pytest
from training_pro.data.sources import encoding
from training_pro.data.sources.encoding import SIGNATURES, find_encoding, guess_code_page, open_text

FRENCH = "Il était une fois, à côté du château, une fée très âgée. « Ça suffit », dit-elle.\n"
GERMAN = "Grüße aus München: die Größe der Häuser überrascht mich.\n"
POLISH = "Zażółć gęślą jaźń. Cześć, jak się masz? Źdźbło trawy łąkowej.\n"
RUSSIAN = "Привет, как дела? Это простой русский текст для проверки.\n"
JAPANESE = "これはテストです。日本語の文章を読んでいます。\n"
CHINESE = "这是一个测试。我们正在阅读中文文本,看看能不能识别。\n"


def written(tmp_path: Path, data: bytes, name: str = "data.txt") -> Path:
    path = tmp_path / name
    path.write_bytes(data)
    return path


def text_of(path: Path, found: encoding.TextEncoding) -> str:
    with open_text(path, found) as stream:
        return stream.read()


@pytest.mark.parametrize(
    ("data", "text", "name", "note"),
    [
        (b"plain\r\nlines\rold", "plain\nlines\nold", "utf-8", ""),
        (FRENCH.encode(), FRENCH, "utf-8", ""),
        (FRENCH.encode("utf-8-sig"), FRENCH, "utf-8", "byte order mark removed"),
        (FRENCH.encode("utf-16"), FRENCH, "utf-16", "encoding utf-16"),
        (b"\xfe\xff" + FRENCH.encode("utf-16-be"), FRENCH, "utf-16", "encoding utf-16"),
        (FRENCH.encode("utf-32"), FRENCH, "utf-32", "encoding utf-32"),
        (b'{"text": "caf\xe9"}', '{"text": "café"}', "windows-1252", "encoding windows-1252 detected, not UTF-8"),
        (FRENCH.encode("cp1252"), FRENCH, "windows-1252", "encoding windows-1252 detected, not UTF-8"),
        (GERMAN.encode("cp1252"), GERMAN, "windows-1252", "encoding windows-1252 detected, not UTF-8"),
        ("“Hello,” she said — it’s late…".encode("cp1252"), "“Hello,” she said — it’s late…", "windows-1252", "detected"),
        (POLISH.encode("cp1250"), POLISH, "windows-1250", "encoding windows-1250 detected, not UTF-8"),
        (RUSSIAN.encode("cp1251"), RUSSIAN, "windows-1251", "encoding windows-1251 detected, not UTF-8"),
        (JAPANESE.encode("cp932"), JAPANESE, "cp932", "encoding cp932 detected, not UTF-8"),
        (CHINESE.encode("gbk"), CHINESE, "gb18030", "encoding gb18030 detected, not UTF-8"),
    ],
)
def test_bytes_are_decoded_and_guesses_are_told(tmp_path, data, text, name, note):
    path = written(tmp_path, data)
    found = find_encoding(path)
    assert (text_of(path, found), found.name) == (text, name)
    assert note in found.note
    assert bool(found.note) == bool(note)


@pytest.mark.parametrize(
    ("chosen", "data"),
    [
        ("utf-8", FRENCH.encode()),
        ("UTF8", FRENCH.encode("utf-8-sig")),
        ("cp1252", FRENCH.encode("cp1252")),
        ("latin-1", FRENCH.encode("latin-1")),
        ("utf-16", FRENCH.encode("utf-16")),
        ("utf-16-le", FRENCH.encode("utf-16-le")),
        ("utf-16-le", FRENCH.encode("utf-16")),
    ],
)
def test_the_users_choice_is_kept(tmp_path, chosen, data):
    path = written(tmp_path, data)
    assert text_of(path, find_encoding(path, chosen)) == FRENCH


@pytest.mark.parametrize("chosen", ["utf-99", "hex", "rot13"])
def test_an_unknown_encoding_is_refused(tmp_path, chosen):
    with pytest.raises(ValueError, match=f"Text encoding: '{chosen}' is unknown. Choose 'auto', or a name such as utf-8"):
        find_encoding(written(tmp_path, b"x"), chosen)


@pytest.mark.parametrize(
    ("chosen", "data", "message"),
    [
        (
            "utf-8",
            b"one\ntwo\nthr\xe9e",
            r"Text file: .*data.txt is not utf-8: byte 0xE9 at position 11 \(line 3\). Choose another",
        ),
        ("ascii", "é".encode(), r"is not ascii: byte 0xC3 at position 0 \(line 1\)"),
        ("cp1252", b"a\x81", r"is not windows-1252: byte 0x81 at position 1 \(line 1\)"),
        ("utf-16", b"a b c d ", r"is not utf-16: byte 0x61 at position 0 \(line 1\)"),
        ("utf-8", b"cut \xc3", r"is not utf-8: byte 0xC3 at position 4 \(line 1\)"),
    ],
)
def test_a_chosen_encoding_that_fails(tmp_path, chosen, data, message):
    with pytest.raises(ValueError, match=message):
        find_encoding(written(tmp_path, data), chosen, label="Text file")


def test_a_byte_order_mark_that_lies(tmp_path):
    with pytest.raises(ValueError, match=r"is not utf-8: byte 0xFF at position 4 \(line 1\)"):
        find_encoding(written(tmp_path, b"\xef\xbb\xbfa\xff"))


def test_positions_count_over_pieces_of_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(encoding, "CHUNK_BYTES", 5)
    path = written(tmp_path, "ééé\nééé\n".encode())
    assert text_of(path, find_encoding(path)) == "ééé\nééé\n"
    with pytest.raises(ValueError, match=r"byte 0xFF at position 14 \(line 3\)"):
        find_encoding(written(tmp_path, "ééé\nééé\n".encode() + b"\xffa"), "utf-8")


def test_utf8_with_a_damaged_byte_is_not_taken_for_another_encoding(tmp_path):
    path = written(tmp_path, (RUSSIAN * 3).encode() + b"caf\xe9\n")
    with pytest.raises(ValueError, match=r"is UTF-8 with damaged bytes, the first is byte 0xE9 at position .* \(line 4\). Mend"):
        find_encoding(path)
    found = find_encoding(path, allow_damage=True)
    assert found.note.startswith("UTF-8 with damaged bytes, the first is byte 0xE9")
    assert text_of(path, found) == RUSSIAN * 3 + "caf\udce9\n"


def test_nothing_fits(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "charset_normalizer", None)
    with pytest.raises(
        ValueError, match="the encoding of .*data.txt was not recognised: byte 0x81 at position 0 .*choose its Text"
    ):
        find_encoding(written(tmp_path, b"\x81\x8d\xff\xfe\x90 \xff\xff\x80"))


def test_a_late_byte_outside_the_guessed_code_page(tmp_path, monkeypatch):
    monkeypatch.setattr(encoding, "SAMPLE_BYTES", 10)
    with pytest.raises(ValueError, match="was not recognised: byte 0xE9 at position 3"):
        find_encoding(written(tmp_path, b"caf\xe9 chaud\n\x81\n"))


@pytest.mark.parametrize(("data", "codec"), [(FRENCH.encode("cp1252"), "cp1252"), (b"\xb3\xbf", "cp1252"), (b"\x81\x8d", None)])
def test_without_charset_normalizer_it_is_cp1252_or_nothing(monkeypatch, data, codec):
    monkeypatch.setitem(sys.modules, "charset_normalizer", None)
    assert guess_code_page(data) == codec


@pytest.mark.parametrize("signature", SIGNATURES)
def test_a_binary_file_is_named(tmp_path, signature):
    with pytest.raises(ValueError, match=f"Data set: .*data.txt is {SIGNATURES[signature][0]}, not text. "):
        find_encoding(written(tmp_path, signature + b"\x00\x01"))


def test_zero_bytes(tmp_path):
    with pytest.raises(ValueError, match="holds a zero byte at position 1, so it is not plain text.*utf-16-le"):
        find_encoding(written(tmp_path, "ab".encode("utf-16-le")))


def test_a_file_that_the_system_refuses(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    path = written(tmp_path, b"x")
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(ValueError, match=r"Data set: .*data.txt cannot be read \(Permission denied\). Check its permissions"):
        find_encoding(path)
