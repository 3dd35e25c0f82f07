"""The commands merge, gguf and card, as a user types them."""

from pathlib import Path

import export_cases
import pytest
from training_pro.cli import main


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    base = export_cases.tiny_base(tmp_path / "models" / "tiny")
    return export_cases.adapter(tmp_path / "loras" / "mine", base, export_cases.lora(["q_proj", "v_proj"]))


def test_merge(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["merge", str(folder)]) == 0
    said = capsys.readouterr().out
    target = tmp_path / "models" / "tiny-mine"
    assert (target / "model.safetensors").is_file()
    for words in (
        f"base:    {tmp_path / 'models' / 'tiny'}",
        f"merged:  {target} (float32)",
        "at most",
        "100% arrived",
        "same at 100%",
    ):
        assert words in said, words
    assert main(["merge", str(folder)]) == 2
    assert "exists, and nothing is overwritten" in capsys.readouterr().err
    assert main(["merge", str(folder), "--out", str(tmp_path / "other"), "--no-verify", "--dtype", "bfloat16"]) == 0
    assert "Not compared" in capsys.readouterr().out
    assert main(["merge", str(target)]) == 2
    assert "holds a whole model already" in capsys.readouterr().err


def test_gguf_of_an_adapter(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gguf", str(folder)]) == 0
    said = capsys.readouterr().out
    file = folder / "mine-lora-f32.gguf"
    assert file.is_file()
    assert f"{file}: 4 modules for llama.cpp's llama, alpha 8" in said
    assert f'llama-server -m BASE.gguf --lora "{file}"' in said
    assert f'extra-flags: --lora "{file}"' in said
    assert main(["gguf", str(folder), "--dtype", "q8_0", "--out", str(folder / "x.gguf")]) == 2
    assert "'q8_0' is not known for an adapter" in capsys.readouterr().err


def test_gguf_of_a_model_needs_a_pattern(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gguf", str(tmp_path / "models" / "tiny")]) == 2
    assert "--like BASE.gguf" in capsys.readouterr().err
    assert main(["gguf", str(folder), "--like", str(tmp_path / "base.gguf")]) == 2
    assert "is an adapter" in capsys.readouterr().err


def test_card(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["card", str(folder)]) == 0
    assert "# mine" in (folder / "README.md").read_text(encoding="utf-8")
    (folder / "README.md").write_text("Mine.", encoding="utf-8")
    assert main(["card", str(folder)]) == 2
    assert "was edited" in capsys.readouterr().out
