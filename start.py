#!/usr/bin/env python3
"""The front door on a bare machine: sets up what is missing, then runs the command. Standard library only.

The first start makes the environment ``.venv`` beside this file, installs the PyTorch build that fits the machine,
the libraries that pyproject.toml names and the embedded default model, and tries them out (hosts/setup_*.py). Later
starts find the stamp of a finished installation and go straight to the command. This file itself also starts on an
older Python (3.8), so that it can look for a suitable one or say what is needed.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parent
PYTHONS = ((3, 12), (3, 13), (3, 11))  # supported; another one is looked for in this order

USAGE = """\
Training PRO Hybrid

    python start.py train CONFIG.yaml     fine-tune a model (try examples/quickstart.yaml)
    python start.py serve                 the page in the browser
    python start.py check CONFIG.yaml     what a run would do, without training
    python start.py test [PYTEST ARGS]    the project's tests
    python start.py COMMAND --help        more about a command; preview, config, plan, runs and others work too

The first start installs what is needed into the folder .venv (CPU build: about 600 MB to download, 3 GB on disk).

    --torch BUILD     PyTorch build: cpu, cu126, cu130, rocm7.2, xpu, apple; keep leaves the installed one alone.
                      Default: found out from the machine. The variable TRAINING_PRO_TORCH does the same.
    --webui-pins      for test: in a second environment, .venv-webui, with the versions that the WebUI pins
"""


class Request:
    """What was asked for on the command line."""

    def __init__(self, command: str, arguments: list[str], torch: str = "", webui_pins: bool = False) -> None:
        self.command, self.arguments, self.torch, self.webui_pins = command, arguments, torch, webui_pins


def split_arguments(arguments: Sequence[str], torch: str = "") -> Request:
    """Take this file's own options out of the command line; everything else belongs to the command.

    Raises:
        ValueError: An option lacks its value or fits no command.
    """
    rest: list[str] = []
    webui_pins = False
    waiting = list(arguments)
    while waiting:
        word = waiting.pop(0)
        if word == "--":
            rest += [word, *waiting]
            break
        if word == "--torch" and not waiting:
            raise ValueError("--torch needs the name of a PyTorch build, such as: --torch cpu")
        if word == "--torch":
            torch = waiting.pop(0)
        elif word.startswith("--torch="):
            torch = word.partition("=")[2]
        elif word == "--webui-pins":
            webui_pins = True
        else:
            rest.append(word)
    command = rest[0] if rest else ""
    if webui_pins and command != "test":
        raise ValueError(f"--webui-pins belongs to the command test, not to '{command}': python start.py test --webui-pins")
    return Request(command, rest[1:], torch, webui_pins)


# The running Python


def python_problem(version: tuple[int, ...], bits: int) -> str:
    """Say what is wrong with the running Python; empty: nothing."""
    found = ".".join(map(str, version))
    supported = f"{_dotted(min(PYTHONS))} to {_dotted(max(PYTHONS))}, 64-bit"
    if version in PYTHONS and bits == 64:
        return ""
    return f"Training PRO Hybrid needs Python {supported}; this one is {found}, {bits}-bit ({sys.executable})."


def find_python() -> str:
    """Another Python on this machine that fits, or nothing."""
    for version in PYTHONS:
        for words in (["py", f"-{_dotted(version)}"], [f"python{_dotted(version)}"], ["python3"], ["python"]):
            found = _python_at(words)
            if found and found[1:] == (*version, 64):
                return found[0]
    return ""


def _python_at(words: list[str]) -> tuple[str, int, int, int] | None:
    """The path, version and bits of the Python that a command starts."""
    program = shutil.which(words[0])
    if not program:
        return None
    code = (
        "import struct, sys; print(sys.executable, sys.version_info[0], sys.version_info[1], struct.calcsize('P') * 8, sep='|')"
    )
    try:
        done = subprocess.run([program, *words[1:], "-c", code], capture_output=True, text=True, timeout=30)
        path, *numbers = done.stdout.strip().split("|")
        major, minor, bits = map(int, numbers)
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None
    return path, major, minor, bits


def _dotted(version: Sequence[int]) -> str:
    return ".".join(map(str, version))


# Running the command


def command_line(python: Path, request: Request) -> list[str]:
    module = ["pytest"] if request.command == "test" else ["training_pro.cli", request.command]
    return [str(python), "-m", *module, *request.arguments]


def variables_for(request: Request) -> dict:
    """The command's variables. Tests get one thread: tiny models run up to 30 times slower with one per core."""
    ours = {"PYTHONUTF8": "1"}
    if request.command == "test":
        ours["OMP_NUM_THREADS"] = "1"
    return {**ours, **os.environ}


def hand_over(command: list[str], variables: dict) -> int:
    """Run the command in this process's place, so that Ctrl-C and other signals reach it and its exit status counts."""
    sys.stdout.flush()
    sys.stderr.flush()
    if os.name != "nt":
        os.execve(command[0], command, variables)
    return wait_for(subprocess.Popen(command, env=variables))


def wait_for(process: subprocess.Popen) -> int:
    """Wait for a child that gets Ctrl-C too and decides itself what to do about it."""
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            continue


def start(arguments: Sequence[str]) -> int:
    """Do what the command line asks for and give the exit status.

    Raises:
        SystemExit: Something the user must mend; its text says what and how.
    """
    try:
        request = split_arguments(arguments, os.environ.get("TRAINING_PRO_TORCH", ""))
    except ValueError as error:
        sys.exit(str(error))
    if request.command in ("", "-h", "--help", "help"):
        print(USAGE)
        return 0
    problem = python_problem(tuple(sys.version_info[:2]), 64 if sys.maxsize > 2**32 else 32)
    if problem:
        return _start_with_another(problem, arguments)
    python = set_up(request)
    if request.command == "test":
        os.chdir(ROOT)
    return hand_over(command_line(python, request), variables_for(request))


def _start_with_another(problem: str, arguments: Sequence[str]) -> int:
    python = find_python()
    if not python:
        sys.exit(f"{problem} No other was found on this machine. Install one, for instance Python 3.12 from python.org.")
    print(f"{problem} Going on with {python}.", file=sys.stderr)
    return hand_over([python, str(ROOT / "start.py"), *arguments], dict(os.environ))


def set_up(request: Request) -> Path:
    """Make the environment for the command and give its Python."""
    import tomllib

    sys.path.insert(0, str(ROOT / "import_root"))
    from training_pro.hosts import setup_environment as setup

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pins = (ROOT / "tests" / "webui_pins.txt").read_text(encoding="utf-8") if request.webui_pins else ""
    environment = setup.Environment(ROOT / (".venv-webui" if request.webui_pins else ".venv"))
    try:
        if request.torch:
            setup.build_named(request.torch)
        setup.set_up(environment, setup.wants_of(project, request.command == "test", pins), request.torch)
    except setup.StartError as error:
        sys.exit(f"\n{error}")
    return environment.python


def _interrupt(signal_number: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt


def main() -> int:
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        return start(sys.argv[1:])
    except KeyboardInterrupt:
        print("\nInterrupted. Start again to go on; what was downloaded is kept in pip's cache.", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
