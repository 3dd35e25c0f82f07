"""What is installed into whose environment: requirements.txt for the WebUI's, pyproject.toml for our own."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from training_pro.hosts.setup_environment import requirement_lines

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))

# Also in the WebUI's environment, installed by its own requirements or by what they need
ALSO_IN_WEBUI = {
    *("torch", "bitsandbytes", "tokenizers", "pydantic-core", "psutil", "scipy", "einops", "wandb", "tensorboard"),
    *("charset-normalizer", "regex", "packaging", "filelock", "typing-extensions", "xformers", "triton", "torchao", "diffusers"),
}


def requirements(name: str) -> list[Requirement]:
    return [Requirement(line) for line in requirement_lines((ROOT / name).read_text(encoding="utf-8"))]


def names(listed: list[Requirement]) -> set[str]:
    return {canonicalize_name(requirement.name) for requirement in listed}


PINS = requirements("tests/webui_pins.txt")
OURS = requirements("requirements.txt")
PROTECTED = names(PINS) | ALSO_IN_WEBUI


def test_the_lists_are_not_empty():
    assert names(OURS) == {"matplotlib"}
    assert {"transformers", "peft", "accelerate", "gradio", "numpy", "pydantic", "pandas", "safetensors"} <= names(PINS)


def test_requirements_name_nothing_that_the_webui_has():
    """The WebUI installs the file with --upgrade: a package named there is moved to its newest version."""
    assert names(OURS) & PROTECTED == set()


def test_requirements_name_no_other_place_or_file():
    assert all(requirement.url is None for requirement in OURS)


def pinned_version(requirement: Requirement) -> str:
    """A version that the pin allows: '2.2.*' -> '2.2.0'."""
    exact = [specifier.version for specifier in requirement.specifier if specifier.operator == "=="]
    return exact[0].replace("*", "0") if exact else ""


@pytest.mark.parametrize("requirement", PINS, ids=str)
def test_ranges_of_the_project_admit_the_webuis_pins(requirement):
    """What the project asks for is already satisfied inside the WebUI."""
    version = pinned_version(requirement)
    asked = [Requirement(line) for line in PROJECT["dependencies"] + PROJECT["optional-dependencies"]["ui"]]
    for ours in asked:
        if canonicalize_name(ours.name) == canonicalize_name(requirement.name) and version:
            assert ours.specifier.contains(version), f"{ours} excludes the WebUI's {requirement}"


def test_some_ranges_were_compared_with_pins():
    compared = names(PINS) & names([Requirement(line) for line in PROJECT["dependencies"]])
    assert {"transformers", "peft", "accelerate", "pydantic", "numpy"} <= compared


@pytest.mark.parametrize("line", PROJECT["dependencies"] + PROJECT["optional-dependencies"]["test"])
def test_ranges_of_the_project_admit_what_the_tests_run_with(line):
    requirement = Requirement(line)
    try:
        version = importlib.metadata.version(requirement.name)
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f"{requirement.name} is not installed here")
    assert requirement.specifier.contains(version, prereleases=True)


def test_every_package_of_the_checkout_is_in_the_wheel():
    included = PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["include"]
    rooms = {f"/{path.parent.name}" for path in ROOT.glob("*/__init__.py")} - {"/tests", "/benchmarks"}
    assert {"/config", "/data", "/hosts"} <= rooms
    assert rooms | {"/*.py"} <= set(included)


def test_version_is_said_once():
    import training_pro

    assert PROJECT["version"] == training_pro.__version__


# With the real pip


def imitate_webui(folder: Path) -> Path:
    """An environment in which pip sees the WebUI's pins as installed, and nothing else; gives its Python."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    site_packages = Path(sysconfig.get_path("purelib", "venv", vars={"base": str(folder), "platbase": str(folder)}))
    installed = {canonicalize_name(pin.name): pinned_version(pin) or "999" for pin in PINS}
    for name, version in installed.items():
        place = site_packages / f"{name.replace('-', '_')}-{version}.dist-info"
        place.mkdir()
        (place / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def would_install(python: Path, *arguments: str) -> set[str]:
    """The packages that ``pip install --upgrade`` would install or move; skips where pip has no index."""
    command = [sys.executable, "-m", "pip", "--python", str(python), "install", "--dry-run", "--quiet", "--upgrade"]
    done = subprocess.run([*command, "--report", "-", *arguments], capture_output=True, text=True, timeout=280)
    if re.search(r"from versions: none|No matching distribution", done.stderr):
        pytest.skip(f"pip has no package index here: {done.stderr.strip().splitlines()[-1]}")
    assert done.returncode == 0, done.stderr
    # a pip that runs for another Python says so before the report
    report = json.loads(done.stdout[done.stdout.index("{") :])
    return {canonicalize_name(entry["metadata"]["name"]) for entry in report["install"]}


@pytest.mark.install
def test_upgrade_moves_nothing_of_the_webui(tmp_path):
    """matplotlib asks for numpy and pillow; pip's default leaves what satisfies it alone, also under --upgrade."""
    python = imitate_webui(tmp_path / "webui")
    moved = would_install(python, "-r", str(ROOT / "requirements.txt"))
    assert "matplotlib" in moved
    assert moved & names(PINS) == set()


@pytest.mark.install
def test_upgrade_of_a_named_package_would_be_seen(tmp_path):
    python = imitate_webui(tmp_path / "webui")
    assert {"numpy", "matplotlib"} <= would_install(python, "numpy", "matplotlib")
