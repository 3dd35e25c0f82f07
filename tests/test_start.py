"""start.py: the running Python, the command line, and handing over to the command."""

from __future__ import annotations

import ast
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest
from training_pro.hosts import setup_environment
from training_pro.hosts.setup_environment import Environment

ROOT = Path(__file__).resolve().parents[1]
posix = pytest.mark.skipif(os.name == "nt", reason="shell scripts and POSIX signals")


@pytest.fixture(scope="module")
def start():
    spec = importlib.util.spec_from_file_location("start_by_path", ROOT / "start.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# The running Python


def test_start_py_is_readable_for_python_3_8():
    ast.parse((ROOT / "start.py").read_text(encoding="utf-8"), feature_version=(3, 8))


@pytest.mark.parametrize(("version", "bits"), [((3, 11), 64), ((3, 13), 64)])
def test_python_problem_accepts(start, version, bits):
    assert start.python_problem(version, bits) == ""


@pytest.mark.parametrize(("version", "bits", "found"), [((3, 10), 64, "3.10"), ((3, 14), 64, "3.14"), ((3, 12), 32, "32-bit")])
def test_python_problem_names_what_is_needed_and_found(start, version, bits, found):
    problem = start.python_problem(version, bits)
    assert "needs Python 3.11 to 3.13, 64-bit" in problem
    assert found in problem


def test_supported_pythons_agree_with_pyproject(start):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (_, low), (_, high) = min(start.PYTHONS), max(start.PYTHONS)
    assert project["requires-python"] == f">=3.{low},<3.{high + 1}"


def fake_program(folder: Path, name: str, script: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


@posix
def test_find_python_skips_what_does_not_run_or_fit(start, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert start.find_python() == ""
    fake_program(tmp_path, "python3.12", "echo 'pyenv: command not found' >&2; exit 127")
    fake_program(tmp_path, "python3", "echo '/usr/bin/python3|3|9|64'")
    fake_program(tmp_path, "python3.13", "echo '/opt/py 32/python3.13|3|13|32'")
    assert start.find_python() == ""
    fake_program(tmp_path, "python3.11", "echo '/opt/my python/python3.11|3|11|64'")
    assert start.find_python() == "/opt/my python/python3.11"


def test_unsuitable_python_starts_another(start, monkeypatch, capsys):
    handed = []
    monkeypatch.setattr(start, "python_problem", lambda version, bits: "Too old.")
    monkeypatch.setattr(start, "find_python", lambda: "/opt/python3.12")
    monkeypatch.setattr(start, "hand_over", lambda command, variables: handed.append(command) or 5)
    assert start.start(["train", "my run.yaml"]) == 5
    assert handed == [["/opt/python3.12", str(ROOT / "start.py"), "train", "my run.yaml"]]
    assert "Too old. Going on with /opt/python3.12." in capsys.readouterr().err


def test_unsuitable_python_alone_is_an_error(start, monkeypatch):
    monkeypatch.setattr(start, "python_problem", lambda version, bits: "Too old.")
    monkeypatch.setattr(start, "find_python", lambda: "")
    with pytest.raises(SystemExit, match=r"Too old\. No other was found.*Install one"):
        start.start(["train"])


# The command line


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], ("", [], "", False)),
        (["train", "a.yaml"], ("train", ["a.yaml"], "", False)),
        (["--torch", "cpu", "train", "a.yaml"], ("train", ["a.yaml"], "cpu", False)),
        (["train", "a.yaml", "--torch=cu126", "--set", "x=1"], ("train", ["a.yaml", "--set", "x=1"], "cu126", False)),
        (["test", "--webui-pins", "-q"], ("test", ["-q"], "", True)),
        (["test", "--", "--torch", "cpu"], ("test", ["--", "--torch", "cpu"], "", False)),
    ],
)
def test_split_arguments(start, arguments, expected):
    request = start.split_arguments(arguments)
    assert (request.command, request.arguments, request.torch, request.webui_pins) == expected


def test_split_arguments_prefers_the_option_to_the_variable(start):
    assert start.split_arguments(["train"], "cpu").torch == "cpu"
    assert start.split_arguments(["train", "--torch", "keep"], "cpu").torch == "keep"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--torch"], "--torch needs the name of a PyTorch build"),
        (["train", "--webui-pins"], "--webui-pins belongs to the command test, not to 'train'"),
    ],
)
def test_bad_options_end_the_start(start, arguments, message):
    with pytest.raises(SystemExit, match=message):
        start.start(arguments)


def test_unknown_build_ends_the_start(start):
    with pytest.raises(SystemExit, match="Unknown PyTorch build 'gpu'"):
        start.start(["train", "--torch", "gpu"])


@pytest.mark.parametrize("arguments", [[], ["--help"]])
def test_usage_installs_nothing(start, monkeypatch, capsys, arguments):
    monkeypatch.setattr(start, "set_up", lambda request: pytest.fail("installs"))
    assert start.start(arguments) == 0
    assert "python start.py train CONFIG.yaml" in capsys.readouterr().out


def test_command_line(start):
    python = Path("v", "python")
    train, test = start.Request("train", ["a b.yaml"]), start.Request("test", ["-q"])
    assert start.command_line(python, train) == [str(python), "-m", "training_pro.cli", "train", "a b.yaml"]
    assert start.command_line(python, test) == [str(python), "-m", "pytest", "-q"]


def test_tests_run_with_one_thread_unless_told_otherwise(start, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert start.variables_for(start.Request("test", []))["OMP_NUM_THREADS"] == "1"
    assert "OMP_NUM_THREADS" not in start.variables_for(start.Request("train", []))
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    assert start.variables_for(start.Request("test", []))["OMP_NUM_THREADS"] == "4"


def run_hand_over(child: str) -> subprocess.Popen:
    """A process that hands over to a child, as start.py does."""
    code = (
        f"import importlib.util as u, os, signal, sys\n"
        f"signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a shell's background jobs ignore it
        f"spec = u.spec_from_file_location('start', {str(ROOT / 'start.py')!r})\n"
        f"start = u.module_from_spec(spec); spec.loader.exec_module(start)\n"
        f"sys.exit(start.hand_over([sys.executable, '-c', {child!r}], dict(os.environ)))"
    )
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)


def test_exit_status_is_the_childs():
    assert run_hand_over("raise SystemExit(42)").wait(timeout=60) == 42


@posix
def test_ctrl_c_reaches_the_child_which_decides():
    child = (
        "import time\n"
        "try:\n    print('ready', flush=True); time.sleep(60)\n"
        "except KeyboardInterrupt:\n    print('saved', flush=True); raise SystemExit(7)"
    )
    process = run_hand_over(child)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == "saved\n"
    assert process.wait(timeout=60) == 7


def test_waiting_outlives_ctrl_c(start):
    class Child:
        answers = [KeyboardInterrupt(), KeyboardInterrupt(), 7]

        def wait(self):
            answer = self.answers.pop(0)
            if isinstance(answer, KeyboardInterrupt):
                raise answer
            return answer

    assert start.wait_for(Child()) == 7


# The whole way, from the outside


@posix
def test_a_finished_environment_runs_the_command_without_pip(tmp_path):
    """start.py as a process in a copy of the checkout whose environment is stamped: status, arguments and folder arrive."""
    root = tmp_path / "my checkout"
    for name in ("start.py", "pyproject.toml"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, root / name)
    shutil.copytree(ROOT / "import_root", root / "import_root")
    shutil.copytree(ROOT / "hosts", root / "hosts", ignore=shutil.ignore_patterns("__pycache__"))
    (root / "script.py").touch()
    (root / "cli.py").write_text("import os, sys\nprint(sys.argv[1:], os.getcwd())\nsys.exit(9)\n")
    environment = Environment(root / ".venv")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment.folder], check=True)
    setup_environment.make_importable(environment)
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    setup_environment.write_stamp(environment, "cpu", setup_environment.wants_of(project, tests=False))
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, root / "start.py", "check", "my run.yaml"], cwd=tmp_path, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (9, f"['check', 'my run.yaml'] {tmp_path}\n"), done.stderr
    assert time.monotonic() - began < 20  # measured 0.5 s; pip alone would take longer on a loaded machine
