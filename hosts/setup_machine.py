"""Setting up, part 1: what this machine is, and which PyTorch build fits it. Standard library only.

The decisions are pure functions of ``Facts``; ``gather_facts`` reads them off the machine. Guarantee: what speaks against an
installation on this machine (driver, disk, an incomplete Python) is said before anything is downloaded.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

TORCH = "2.13.0"
TORCH_INDEX = "https://download.pytorch.org/whl/"


class StartError(Exception):
    """Something the user must mend; the message says what and how."""


@dataclass(frozen=True)
class Facts:
    """What the choice of the PyTorch build depends on."""

    system: str  # as platform.system()
    machine: str  # as platform.machine(), in lower case
    nvidia: bool = False
    cuda: tuple[int, int] | None = None  # newest CUDA that the NVIDIA driver supports
    capabilities: tuple[float, ...] = ()  # compute capability of each NVIDIA GPU
    rocm: bool = False


@dataclass(frozen=True)
class Build:
    """A PyTorch build: its name for people and what it weighs."""

    label: str
    download_mb: int
    disk_gb: int

    @property
    def size(self) -> str:
        return f"{self.download_mb} MB" if self.download_mb < 1000 else f"{self.download_mb / 1000:g} GB"


BUILDS = {
    "cpu": Build("CPU build", 200, 3),
    "cu126": Build("CUDA 12.6 build", 3000, 10),
    "cu130": Build("CUDA 13.0 build", 2500, 10),
    "rocm7.2": Build("ROCm 7.2 build", 5000, 25),
    "xpu": Build("Intel XPU build", 2000, 10),
    "apple": Build("Apple build", 100, 3),
    "keep": Build("as installed", 0, 2),
}
OTHER_BUILDS = {"cu": Build("CUDA build", 3000, 10), "rocm": Build("ROCm build", 5000, 25)}
UPDATE_DISK_GB = 1


def build_named(name: str) -> Build:
    """Look up a build; names that are not in the table are judged by how they begin.

    Raises:
        StartError: No such kind of build.
    """
    if name in BUILDS:
        return BUILDS[name]
    for prefix, build in OTHER_BUILDS.items():
        if re.fullmatch(rf"{prefix}[\d.]+", name):
            return build
    raise StartError(
        f"Unknown PyTorch build '{name}' (--torch or TRAINING_PRO_TORCH). Use one of {', '.join(BUILDS)}, "
        f"or another one that {TORCH_INDEX} has, such as cu132."
    )


def driver_cuda(smi_output: str) -> tuple[int, int] | None:
    """Read the newest supported CUDA off nvidia-smi ('CUDA Version: 12.8', newer drivers 'CUDA UMD Version: 13.3')."""
    found = re.search(r"CUDA (?:UMD )?Version:\s*(\d+)\.(\d+)", smi_output)
    return (int(found[1]), int(found[2])) if found else None


def gpu_capabilities(query_output: str) -> tuple[float, ...]:
    return tuple(float(line) for line in query_output.split() if re.fullmatch(r"\d+\.\d+", line))


def choose_torch_build(facts: Facts) -> str:
    """Name the PyTorch build for this machine.

    PyTorch's RELEASE.md states for 2.13: CUDA 12.6 runs on Maxwell (5.0) to Hopper (9.0), CUDA 13.0 on Turing (7.5) to
    Blackwell (12.0); there is no CUDA 12.8 build any more.

    Raises:
        StartError: No build runs on this machine as it is.
    """
    if facts.system == "Darwin":
        if facts.machine == "arm64":
            return "apple"
        raise StartError(
            f"PyTorch {TORCH} has no build for Intel Macs, and this Python is made for them ({facts.machine}). "
            f"On a Mac with an Apple chip, install the arm64 Python from python.org and start again."
        )
    if facts.nvidia:
        return _nvidia_build(facts)
    return "rocm7.2" if facts.rocm and facts.system == "Linux" else "cpu"


def _nvidia_build(facts: Facts) -> str:
    if unused_gpu(facts):
        return "cpu"
    newest, oldest = max(facts.capabilities, default=9), min(facts.capabilities, default=9)
    if newest >= 10 and facts.cuda and facts.cuda < (13, 0):
        raise StartError(
            f"The NVIDIA driver is too old for this GPU (compute capability {newest}): it supports CUDA "
            f"{dotted(facts.cuda)}, and PyTorch {TORCH} needs 13.0 for it. Install driver 580 or newer and start again, "
            f"or train without the GPU: --torch cpu"
        )
    if newest >= 10:
        return "cu130"
    return "cu130" if facts.cuda and facts.cuda >= (13, 0) and oldest >= 7.5 else "cu126"


def unused_gpu(facts: Facts) -> str:
    """Say why an NVIDIA GPU stays unused; empty where it is used or there is none."""
    if facts.cuda and facts.cuda < (12, 0):
        return (
            f"The NVIDIA driver supports CUDA {dotted(facts.cuda)} at most and PyTorch {TORCH} needs 12.0: taking the "
            f"CPU build. To use the GPU, update the driver and start with --torch cu126."
        )
    newest = max(facts.capabilities, default=9)
    if newest < 5:
        return f"PyTorch {TORCH} needs a GPU of compute capability 5.0, this one has {newest}: taking the CPU build."
    return ""


def dotted(version: Iterable[int]) -> str:
    return ".".join(str(part) for part in version)


def needed_disk_gb(build: str, fresh: bool) -> int:
    return build_named(build).disk_gb if fresh else UPDATE_DISK_GB


def gather_facts() -> Facts:
    smi = _nvidia_smi()
    summary = output_of([smi]) if smi else ""
    capabilities = output_of([smi, "--query-gpu=compute_cap", "--format=csv,noheader"]) if summary else ""
    return Facts(
        system=platform.system(),
        machine=platform.machine().lower(),
        nvidia=bool(summary) or _has_nvidia_driver(),
        cuda=driver_cuda(summary),
        capabilities=gpu_capabilities(capabilities),
        rocm=bool(shutil.which("rocminfo")) or Path("/opt/rocm").exists() or Path("/dev/kfd").exists(),
    )


def _nvidia_smi() -> str:
    places = (_windows_folder() / "nvidia-smi.exe", Path("/usr/lib/wsl/lib/nvidia-smi"))
    return shutil.which("nvidia-smi") or next((str(place) for place in places if place.is_file()), "")


def _has_nvidia_driver() -> bool:
    return (_windows_folder() / "nvcuda.dll").is_file() or Path("/proc/driver/nvidia/version").is_file()


def _windows_folder() -> Path:
    return Path(os.environ.get("SYSTEMROOT", "C:/Windows"), "System32")


def output_of(command: Sequence[str], timeout: float = 30) -> str:
    """What a command prints, or nothing if it cannot be run or fails."""
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode(errors="replace") if done.returncode == 0 else ""


def check_disk(folder: Path, build: str, fresh: bool) -> None:
    """Raises StartError if the disk of ``folder`` is too full for the installation."""
    free_gb, needed_gb = shutil.disk_usage(folder).free / 1e9, needed_disk_gb(build, fresh)
    if free_gb < needed_gb:
        raise StartError(
            f"Too little disk space in {folder}: PyTorch ({build_named(build).label}) and the libraries need {needed_gb} GB, "
            f"{free_gb:.1f} GB are free. Free some, or move the folder to a larger disk."
        )


def check_ensurepip() -> None:
    """Raises StartError if this Python cannot make virtual environments."""
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError:
        raise StartError(
            f"This Python ({sys.executable}) cannot make virtual environments: it lacks the module ensurepip. On Debian and "
            f"Ubuntu: sudo apt install python{dotted(sys.version_info[:2])}-venv. Elsewhere install a complete Python, for "
            f"instance from python.org."
        ) from None
