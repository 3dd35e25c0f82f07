"""Setting up, part 2: running a step with a live line while its whole output goes to a log. Standard library only.

Guarantee: the log has every line; a step that is interrupted takes its process along. Price: a thread per step.
"""

from __future__ import annotations

import os
import queue
import re
import shutil
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

HEARTBEAT_SECONDS = 30  # between lines where the output is no terminal
LAST_LINES = 30


def say(text: str) -> None:
    """Speak to the user; stdout belongs to the command that comes after."""
    print(text, file=sys.stderr, flush=True)


def activity(line: str) -> str:
    """Shorten a line of pip's to what it is doing; empty where it says nothing new."""
    line = line.strip()
    progress = re.fullmatch(r"Progress (\d+) of (\d+)", line)
    if progress:
        done, total = int(progress[1]), max(int(progress[2]), 1)
        return f"{done / 1e6:.0f} of {total / 1e6:.0f} MB ({100 * done // total} %)"
    if line.startswith("Installing collected packages:"):
        return f"Installing {line.count(',') + 1} packages"
    if re.match(r"(Collecting|Downloading|Using cached|Building|Installing|Obtaining|Processing)", line):
        return line.split(" (from ")[0]
    return ""


def elapsed_text(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


@dataclass
class Display:
    """A step's line: rewritten in place on a terminal, a line now and then elsewhere."""

    heading: str
    began: float = field(default_factory=time.monotonic)
    shown: float = field(default_factory=time.monotonic)
    doing: str = ""

    def __post_init__(self) -> None:
        self.terminal = sys.stderr.isatty()
        if not self.terminal:
            say(f"{self.heading} ...")

    def refresh(self, line: str) -> None:
        self.doing = activity(line) or self.doing
        now = time.monotonic()
        if now - self.shown < (0.1 if self.terminal else HEARTBEAT_SECONDS):
            return
        self.shown = now
        elapsed = elapsed_text(now - self.began)
        if self.terminal:
            self._rewrite(f"{self.heading} ... {elapsed}  {self.doing}")
        else:
            say(f"      {elapsed}  {self.doing}")

    def end(self, word: str) -> None:
        text = f"{self.heading}: {word} after {elapsed_text(time.monotonic() - self.began)}"
        if self.terminal:
            self._rewrite(text)
            say("")
        else:
            say(text)

    def _rewrite(self, text: str) -> None:
        width = shutil.get_terminal_size().columns - 1
        sys.stderr.write("\r" + text[:width].ljust(width))
        sys.stderr.flush()


def run_logged(command: Sequence[str], log: Path, display: Display) -> tuple[int, list[str]]:
    """Run a command with its output in the log.

    Returns:
        Its exit status and its last lines.
    """
    with open(log, "a", encoding="utf-8") as sink:
        sink.write(f"\n$ {' '.join(command)}\n")
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=pip_environment(),
        )
        try:
            last_lines = deque(_follow(process, sink.write, display), maxlen=LAST_LINES)
        except BaseException:
            process.terminate()
            process.wait()
            raise
    return process.wait(), list(last_lines)


def _follow(process: subprocess.Popen[bytes], write: Callable[[str], object], display: Display) -> Iterator[str]:
    """Yield a process's lines; the clock goes on while it is silent."""
    arrived: queue.Queue[str | None] = queue.Queue()
    threading.Thread(target=_read, args=(process, arrived), daemon=True).start()
    while True:
        try:
            line = arrived.get(timeout=0.5)
        except queue.Empty:
            display.refresh("")
            continue
        if line is None:
            return
        display.refresh(line)
        if line and not line.startswith("Progress "):
            write(line + "\n")
            yield line


def _read(process: subprocess.Popen[bytes], arrived: queue.Queue[str | None]) -> None:
    for line in process.stdout or ():
        arrived.put(line.decode(errors="replace").rstrip())
    arrived.put(None)


def pip_environment() -> dict[str, str]:
    """The variables for pip: no questions, nothing into the user's own folder, readable output."""
    ours = {
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_NO_INPUT": "1",
        "PIP_USER": "0",
        "PYTHONUTF8": "1",
        "PYTHONUNBUFFERED": "1",
    }
    return {**os.environ, **ours}
