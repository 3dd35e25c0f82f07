"""The mends for PyPI's gradio 4.37.2: needed, enough to serve a page, and nothing else."""

import importlib.metadata
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import gradio_shim
import pytest
from gradio_shim import gradio_mends

PAGE = """
    import socket, urllib.request
    import gradio as gr

    def steps(file, count):
        for step in range(int(count)):
            yield f"step {step}", None

    with gr.Blocks() as page:
        file, count, text, plot = gr.File(), gr.Slider(1, 3, value=2, step=1), gr.Textbox(), gr.Plot()
        gr.Button("Go").click(steps, [file, count], [text, plot], api_name="go")
        page.load(lambda: "watching", None, text)

    page.queue()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    page.launch(server_name="127.0.0.1", server_port=port, prevent_thread_lock=True, quiet=True)
    for path in ("/", "/config", "/info"):
        print(urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30).status)
    page.close(verbose=False)
"""


def in_a_process(code: str, *, with_shim: bool) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh Python, with or without the shim's folder on PYTHONPATH."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    environment["GRADIO_ANALYTICS_ENABLED"] = "False"
    if with_shim:
        environment["PYTHONPATH"] = str(gradio_shim.FOLDER)
    command = [sys.executable, "-c", textwrap.dedent(code)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=False)


@pytest.fixture
def old_gradio() -> None:
    """Only where the gradio is one that the shim is for."""
    if not gradio_mends.needed():
        pytest.skip("the installed gradio is not 4.x")


def test_installing_imports_nothing_heavy() -> None:
    code = """
        import sys
        mended = {name.split(".")[0] for name in sys.modules} & {"torch", "gradio", "gradio_client", "huggingface_hub", "pandas"}
        print(sorted(mended), "gradio_mends" in sys.modules)
    """
    assert in_a_process(code, with_shim=True).stdout == "[] True\n"


def test_nothing_is_done_for_another_gradio(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "6.31.0")
    before = list(sys.meta_path)
    assert gradio_shim.install() is False
    assert sys.meta_path == before


def test_nothing_is_done_without_gradio(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", absent)
    assert gradio_shim.install() is False


def test_a_hidden_sitecustomize_still_runs(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.other_ran = True")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(gradio_shim.FOLDER), str(tmp_path)])}
    command = [sys.executable, "-c", "import sys; print(sys.other_ran, 'gradio_mends' in sys.modules)"]
    assert subprocess.run(command, capture_output=True, text=True, env=environment, check=True).stdout == "True True\n"


def test_it_is_installed_once(old_gradio: None) -> None:
    assert gradio_shim.install() is True
    assert gradio_shim.install() is True
    assert sum(type(finder).__name__ == "MendingFinder" for finder in sys.meta_path) == 1


def test_without_the_mends_gradio_does_not_import(old_gradio: None) -> None:
    pytest.importorskip("huggingface_hub", minversion="1.0")
    assert "cannot import name 'HfFolder'" in in_a_process("import gradio", with_shim=False).stderr


def test_with_the_mends_a_page_is_served(old_gradio: None) -> None:
    result = in_a_process(PAGE, with_shim=True)
    assert result.stdout.split() == ["200", "200", "200"], result.stderr


def test_without_the_schema_mend_it_is_not(old_gradio: None) -> None:
    result = in_a_process(
        "import gradio_mends; del gradio_mends.MENDS['gradio_client.utils']\n" + textwrap.dedent(PAGE), with_shim=True
    )
    assert "argument of type 'bool' is not iterable" in result.stderr


def test_values_outside_the_choices_become_none(old_gradio: None) -> None:
    gradio_shim.install()
    import gradio as gr

    assert gr.Dropdown(["a", "b"]).preprocess("b") == "b"
    assert gr.Dropdown(["a", "b"]).preprocess("z") is None
    assert gr.Dropdown([]).preprocess("z") is None
    assert gr.Dropdown(["a", "b"], allow_custom_value=True).preprocess("z") == "z"
    assert gr.Dropdown(["a", "b"], multiselect=True).preprocess(["a", "z"]) == ["a"]
    assert gr.Radio(["a", "b"]).preprocess("a") == "a"
    assert gr.Radio(["a", "b"]).preprocess("z") is None
