"""The memory of a run: looked at once a second at most, and what it says."""

import psutil
import pytest
import torch
from training_pro.training import gauge as module
from training_pro.training.gauge import MemoryGauge


def test_on_the_cpu_it_is_the_processs_memory_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])
    gauge = MemoryGauge(torch.device("cpu"))
    first = gauge.read()
    assert first == pytest.approx(psutil.Process().memory_info().rss, rel=0.2)
    assert gauge.read() is None
    clock[0] += 0.99
    assert gauge.read() is None
    clock[0] += 0.02
    assert gauge.read() is not None


def test_on_cuda_it_is_what_its_allocator_holds_on_all_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda index: 10 + index)
    assert MemoryGauge(torch.device("cuda", 0)).read() == 21


def test_where_nobody_can_tell_there_is_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise psutil.AccessDenied

    monkeypatch.setattr(psutil, "Process", refuse)
    assert MemoryGauge(torch.device("cpu")).read() is None
