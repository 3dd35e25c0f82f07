"""The card that makes merged models and GGUF of a result: its fields, its words, and its work on a real adapter."""

from pathlib import Path
from typing import Any

import export_cases
import pytest
from training_pro.export import commands
from training_pro.export.gguf_adapter import NUMBER_FORMATS as ADAPTER_FORMATS
from training_pro.export.gguf_model import NUMBER_FORMATS as MODEL_FORMATS
from training_pro.export.merge import DTYPES
from training_pro.hosts.exporting import export_result
from training_pro.runs import registry
from training_pro.ui.runs.export import FORMATS, GGUF_ADAPTER, GGUF_MODEL, KINDS, MERGE, in_form_words, read_wish, work


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    base = export_cases.tiny_base(tmp_path / "models" / "tiny")
    return export_cases.adapter(tmp_path / "loras" / "mine", base, export_cases.lora(["q_proj", "v_proj"]))


def test_kinds_and_formats_are_those_of_the_commands() -> None:
    assert set(KINDS.values()) == {commands.MERGE, commands.GGUF_ADAPTER, commands.GGUF_MODEL}
    assert set(FORMATS[MERGE]) == set(DTYPES)
    assert set(FORMATS[GGUF_ADAPTER]) == set(ADAPTER_FORMATS)
    assert set(FORMATS[GGUF_MODEL]) == set(MODEL_FORMATS)


@pytest.mark.parametrize(
    ("values", "paths", "words"),
    [
        ({"kind": MERGE}, [], "Choose one run first."),
        ({"kind": MERGE}, ["a", "b"], "Choose one run first."),
        ({"kind": GGUF_MODEL}, [], "Choose one run or name a folder under 'Model folder' first."),
        ({"kind": GGUF_ADAPTER}, ["/nowhere/at/all"], "There is no folder /nowhere/at/all."),
        ({"kind": GGUF_MODEL, "model": " /nowhere/at/all "}, [], "There is no folder /nowhere/at/all."),
    ],
)
def test_what_is_missing_is_said(values: dict[str, Any], paths: list[str], words: str) -> None:
    with pytest.raises(ValueError, match=words.replace("(", r"\(")):
        read_wish(values, paths)


def test_wishes(tmp_path: Path) -> None:
    own = [str(tmp_path)]
    merge = read_wish({"kind": MERGE, "dtype": "auto", "base": " /b ", "out": "", "like": "x", "verify": False}, own)
    assert merge == {"kind": MERGE, "source": own[0], "dtype": "auto", "out": "", "base": "/b", "verify": False}
    model = read_wish({"kind": GGUF_MODEL, "dtype": "f16", "like": "/l.gguf", "model": str(tmp_path), "verify": True}, [])
    assert model == {"kind": GGUF_MODEL, "source": own[0], "dtype": "f16", "out": "", "like": "/l.gguf"}


def test_messages_of_the_commands_name_the_fields() -> None:
    found = in_form_words("/a exists, and nothing is overwritten. Remove it, or name another place with --out.")
    assert found.endswith("name another place with 'Write to'.")
    assert (
        in_form_words("give any GGUF of the base with --like BASE.gguf.") == "give any GGUF of the base with 'GGUF of the base'."
    )


def test_work_tells_what_it_does_and_what_it_wrote(folder: Path, tmp_path: Path) -> None:
    wish = read_wish({"kind": MERGE, "dtype": "auto", "verify": True}, [str(folder)])
    pages = list(work(export_result, wish))
    target = tmp_path / "models" / "tiny-mine"
    assert 'data-status="working"' in pages[0]
    assert 'data-status="done"' in pages[-1]
    assert f"Written: {target}" in pages[-1]
    assert "same at 100%" in pages[-1]
    assert (target / "model.safetensors").is_file()
    again = list(work(export_result, wish))[-1]
    assert 'data-status="failed"' in again
    assert "&#x27;Write to&#x27;" in again


def test_nothing_is_written_beside_a_training(folder: Path) -> None:
    registry.claim("other")
    try:
        last = list(work(export_result, read_wish({"kind": GGUF_ADAPTER}, [str(folder)])))[-1]
    finally:
        registry.release()
    assert 'data-status="failed"' in last
    assert "A training is going on." in last
    assert not list(folder.glob("*.gguf"))
