"""The extension inside the WebUI: where it looks for data and writes adapters, and the tab in the page."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from training_pro import ROOT
from training_pro.hosts import files, webui
from training_pro.runs.state import FINISHED
from training_pro.runs.store import RunFolder
from webui_case import (
    _light,
    end,
    form,
    host,
    model_dir,
    start_webui,
)

__all__ = ["_light", "host", "model_dir", "start_webui"]  # fixtures


# --- places ---------------------------------------------------------------------------------------------------------------------


def test_places_follow_the_flags(start_webui: Callable[..., Any], tmp_path: Path) -> None:
    mine, loras = tmp_path / "mine", tmp_path / "elsewhere/loras"
    data = mine / "training/datasets"
    (data / "books").mkdir(parents=True)
    (data / "books/one.txt").write_text("words")
    (data / "chat.jsonl").write_text(json.dumps({"text": "words"}))
    (data / "notes.txt").write_text("words")
    (data / "talks").mkdir()
    (data / "talks/one.json").write_text("[]")
    (data / "put-trainer-datasets-here.txt").touch()
    extension = mine / "extensions/training_pro"
    extension.parent.mkdir()
    extension.symlink_to(ROOT, target_is_directory=True)
    start_webui("--user-data-dir", str(mine), "--lora-dir", str(loras))
    tab = webui.make_host()
    assert tab.data_sets() == {"chat.jsonl": str(data / "chat.jsonl"), "talks/": str(data / "talks")}
    assert tab.text_files() == {"books/": str(data / "books"), "notes.txt": str(data / "notes.txt")}
    assert tab.adapters_dir() == loras
    handle = tab.launch(form(tmp_path))
    assert end(handle).status == FINISHED
    assert RunFolder(loras / "trial").has_adapter


def test_the_usual_places(host: Any) -> None:
    user_data = Path.cwd() / "user_data"
    assert webui.adapters_dir() == user_data / "loras"
    assert webui.data_dir() == user_data / "training/datasets"


def test_a_folder_that_is_not_there_offers_nothing(tmp_path: Path) -> None:
    assert files.data_sets(tmp_path / "absent") == files.text_files(tmp_path / "absent") == {}


# --- the tab --------------------------------------------------------------------------------------------------------------------


def test_the_tab_is_built_in_the_page(host: Any) -> None:
    gradio = pytest.importorskip("gradio")
    with gradio.Blocks() as page:
        host.extensions.create_extensions_tabs()
    ids = {getattr(block, "elem_id", None) for block in page.blocks.values()}
    assert {"tph-start-button", "tph-data-dataset", "tph-live"} <= ids
    assert "tph-model-path" not in ids  # the WebUI's model is the one


@pytest.mark.filterwarnings("ignore")
def test_a_missing_package_is_said_in_the_tab(host: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    gradio = pytest.importorskip("gradio")
    monkeypatch.setitem(sys.modules, "training_pro.ui.tab", None)
    with gradio.Blocks() as page:
        host.extensions.create_extensions_tabs()
    [text] = [block.value for block in page.blocks.values() if isinstance(block, gradio.Markdown)]
    assert "Training PRO Hybrid cannot start" in text
    assert f'pip install -r "{ROOT / "requirements.txt"}" --upgrade' in text


def test_css_and_js(host: Any) -> None:
    css = host.extensions.apply_extensions("css")
    assert ".tph-tab" in css
    assert ".header_bar button" in css
    assert host.extensions.apply_extensions("js") == ""


# --- what the tab may do, and who else may ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ((), ""),
        (("--listen",), "open to other machines (--listen) and asks for no login"),
        (("--listen", "--share"), "(--listen and --share)"),
        (("--listen", "--multi-user"), ""),  # there strangers can change nothing
    ],
)
def test_what_strangers_could_do(start_webui: Callable[..., Any], flags: tuple[str, ...], words: str) -> None:
    host = start_webui(*flags, model="")
    said = webui.make_host().exposure()
    assert words in said
    assert bool(said) is bool(words)
    for name in ("gradio_auth", "gradio_auth_path"):
        setattr(host.shared.args, name, "me:secret")
        assert webui.make_host().exposure() == ""
        delattr(host.shared.args, name)


def test_multi_user_mode_is_read_only(start_webui: Callable[..., Any]) -> None:
    start_webui("--multi-user", model="")
    assert "multi-user mode (--multi-user), in which training is off" in webui.make_host().read_only()


def test_the_loaded_model_has_a_name(start_webui: Callable[..., Any]) -> None:
    from training_pro.config import RunConfig

    host = start_webui()
    tab = webui.make_host()
    assert tab.read_only() == ""
    assert tab.model_name(RunConfig()) == "tiny"
    config = tab.complete(RunConfig.from_dict({"model": {"path": "/x"}, "adapter": {"rank": 0}}))
    assert config.run.adapters_dir == str(webui.adapters_dir())
    assert config.model.path == ""
    assert any(problem.field == "adapter.rank" for problem in config.problems())  # what the form said wrong is kept
    host.shared.model = None
    assert tab.model_name(RunConfig()) == ""
