"""A step that runs with a live line and a log."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from training_pro.hosts import setup_display


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("Collecting peft>=0.18 (from -r x)", "Collecting peft>=0.18"),
        ("  Downloading torch-2.13.0.whl (200 MB)", "Downloading torch-2.13.0.whl (200 MB)"),
        ("Progress 50000000 of 200000000", "50 of 200 MB (25 %)"),
        ("Progress 5 of 0", "0 of 0 MB (500 %)"),
        ("Installing collected packages: a, b, c", "Installing 3 packages"),
        ("Requirement already satisfied: numpy", ""),
        ("", ""),
    ],
)
def test_activity(line, shown):
    assert setup_display.activity(line) == shown


def test_run_logged_keeps_everything_and_tells_the_end(tmp_path, capsys):
    log = tmp_path / "install.log"
    code = "print('Collecting ä'); print('Progress 1 of 2'); print('last'); raise SystemExit(3)"
    status, lines = setup_display.run_logged((sys.executable, "-c", code), log, setup_display.Display("[1/1] Stage"))
    assert (status, lines) == (3, ["Collecting ä", "last"])
    assert log.read_text(encoding="utf-8").splitlines()[2:] == ["Collecting ä", "last"]
    assert capsys.readouterr().err == "[1/1] Stage ...\n"


def test_run_logged_takes_its_process_along(tmp_path, monkeypatch):
    started = []
    real = subprocess.Popen
    monkeypatch.setattr(setup_display.subprocess, "Popen", lambda *a, **k: started.append(real(*a, **k)) or started[0])

    class Interrupting(setup_display.Display):
        def refresh(self, line: str) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        setup_display.run_logged(
            (sys.executable, "-c", "print('x', flush=True); import time; time.sleep(60)"),
            tmp_path / "log",
            Interrupting("stage"),
        )
    assert started[0].poll() is not None


def test_terminal_gets_one_rewritten_line(monkeypatch, capsys):
    monkeypatch.setattr(setup_display.sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(setup_display.shutil, "get_terminal_size", lambda: os.terminal_size((40, 20)))
    display = setup_display.Display("[1/2] Stage")
    display.shown -= 1
    display.refresh("Collecting " + "x" * 80)
    display.end("done")
    live, last = capsys.readouterr().err.split("\r")[1:]
    assert live.startswith("[1/2] Stage ... 0:00  Collecting xxx")
    assert len(live) == 39
    assert last == "[1/2] Stage: done after 0:00".ljust(39) + "\n"


def test_elsewhere_a_line_now_and_then(capsys):
    display = setup_display.Display("[1/2] Stage")
    display.refresh("Collecting a")
    display.shown -= setup_display.HEARTBEAT_SECONDS
    display.refresh("")
    assert capsys.readouterr().err == "[1/2] Stage ...\n      0:00  Collecting a\n"
