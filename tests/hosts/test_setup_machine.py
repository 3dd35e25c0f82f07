"""Which PyTorch build fits which machine, and what is said where none does."""

from __future__ import annotations

import sys
from collections import namedtuple

import pytest
from training_pro.hosts import setup_machine
from training_pro.hosts.setup_machine import Facts, StartError


@pytest.mark.parametrize(
    ("smi_output", "cuda"),
    [
        ("| NVIDIA-SMI 570.86.15   Driver Version: 570.86.15   CUDA Version: 12.8     |", (12, 8)),
        ("| NVIDIA-SMI 610.57.04   KMD Version: 610.57.04     CUDA UMD Version: 13.3     |", (13, 3)),
        ("| NVIDIA-SMI 470.10      Driver Version: 470.10      CUDA Version: 11.4     |", (11, 4)),
        ("| NVIDIA-SMI 535.1       Driver Version: 535.1       CUDA Version: N/A      |", None),
        ("NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.", None),
        ("", None),
    ],
)
def test_driver_cuda(smi_output, cuda):
    assert setup_machine.driver_cuda(smi_output) == cuda


def test_gpu_capabilities_of_several_gpus():
    assert setup_machine.gpu_capabilities("8.9\n12.0\n[N/A]\n") == (8.9, 12.0)


def nvidia(cuda, *capabilities, system="Linux"):
    return Facts(system, "x86_64", nvidia=True, cuda=cuda, capabilities=capabilities)


@pytest.mark.parametrize(
    ("facts", "build"),
    [
        (Facts("Linux", "x86_64"), "cpu"),
        (Facts("Windows", "amd64"), "cpu"),
        (Facts("Linux", "aarch64"), "cpu"),
        (Facts("Darwin", "arm64"), "apple"),
        (Facts("Linux", "x86_64", rocm=True), "rocm7.2"),
        (Facts("Windows", "amd64", rocm=True), "cpu"),
        (nvidia((12, 4), 8.6), "cu126"),
        (nvidia((12, 8), 9.0), "cu126"),
        (nvidia((13, 0), 8.9), "cu130"),
        (nvidia((13, 3), 12.0), "cu130"),
        (nvidia((13, 0), 6.1), "cu126"),  # Pascal: only the CUDA 12.6 build has its kernels
        (nvidia((13, 0), 7.0, 8.6), "cu126"),
        (nvidia((11, 4), 8.6), "cpu"),
        (nvidia((12, 4), 3.7), "cpu"),
        (nvidia(None), "cu126"),
        (nvidia(None, system="Windows"), "cu126"),
        (Facts("Linux", "x86_64", nvidia=True, cuda=(13, 0), rocm=True), "cu130"),
    ],
)
def test_choose_torch_build(facts, build):
    assert setup_machine.choose_torch_build(facts) == build
    assert build in setup_machine.BUILDS


def test_choose_torch_build_refuses_an_intel_mac():
    with pytest.raises(StartError, match=r"no build for Intel Macs.*x86_64.*install the arm64 Python"):
        setup_machine.choose_torch_build(Facts("Darwin", "x86_64"))


def test_choose_torch_build_refuses_a_driver_older_than_the_gpu():
    with pytest.raises(StartError, match=r"too old.*12\.0.*CUDA 12\.8.*13\.0.*driver 580.*--torch cpu"):
        setup_machine.choose_torch_build(nvidia((12, 8), 12.0))


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        (nvidia((11, 4), 8.6), "supports CUDA 11.4 at most"),
        (nvidia((12, 4), 3.7), "this one has 3.7"),
        (nvidia((12, 4), 8.6), ""),
        (Facts("Linux", "x86_64"), ""),
    ],
)
def test_unused_gpu_is_told(facts, words):
    told = setup_machine.unused_gpu(facts)
    assert words in told
    assert bool(told) == bool(words)


@pytest.mark.parametrize("name", ["cpu", "cu126", "cu132", "rocm6.4", "keep"])
def test_build_named_knows_the_table_and_its_relatives(name):
    assert setup_machine.build_named(name).disk_gb >= 2


@pytest.mark.parametrize("name", ["gpu", "cuda", "cu", "12.6"])
def test_build_named_refuses(name):
    with pytest.raises(StartError, match=f"Unknown PyTorch build '{name}'.*cpu, cu126"):
        setup_machine.build_named(name)


def test_needed_disk():
    fresh = {name: setup_machine.needed_disk_gb(name, fresh=True) for name in ("cpu", "cu130", "rocm7.2")}
    assert fresh == {"cpu": 3, "cu130": 10, "rocm7.2": 25}
    assert setup_machine.needed_disk_gb("cu130", fresh=False) == 1


def test_check_disk(monkeypatch, tmp_path):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(setup_machine.shutil, "disk_usage", lambda folder: usage(0, 0, 4_500_000_000))
    setup_machine.check_disk(tmp_path, "cpu", fresh=True)
    with pytest.raises(StartError, match=r"Too little disk.*CUDA 13.0 build.*need 10 GB.*4\.5 GB are free"):
        setup_machine.check_disk(tmp_path, "cu130", fresh=True)


def test_check_ensurepip(monkeypatch):
    setup_machine.check_ensurepip()
    monkeypatch.setitem(sys.modules, "ensurepip", None)
    with pytest.raises(StartError, match=rf"lacks the module ensurepip.*python3\.{sys.version_info[1]}-venv"):
        setup_machine.check_ensurepip()


def test_gather_facts_reads_nvidia_smi(monkeypatch):
    answers = {1: "CUDA Version: 12.8", 3: "8.6\n"}
    monkeypatch.setattr(setup_machine, "_nvidia_smi", lambda: "nvidia-smi")
    monkeypatch.setattr(setup_machine, "output_of", lambda command: answers[len(command)])
    facts = setup_machine.gather_facts()
    assert (facts.nvidia, facts.cuda, facts.capabilities) == (True, (12, 8), (8.6,))
