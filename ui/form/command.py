"""The command line that does the same as the form, for the shells that people have. Pure functions of a configuration.

Guarantee: read back (the words of the shell, then ``training-pro train``) a line gives the same configuration; what a shell cannot be
told on one line is refused with a word, and the YAML takes its place. Price: paths are those of this machine.

How each shell is told a value: POSIX shells take everything between single quotes; PowerShell too, but version 5 passes no double quotes
on to programs; cmd knows double quotes only, and replaces ``%NAME%`` also between them.
"""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Callable

from ... import ROOT
from ...config import RunConfig
from ...config.loading import one_line_yaml

POSIX, POWERSHELL, CMD = "Linux, macOS", "PowerShell", "cmd"
_PLAIN = re.compile(r"[\w./:=+-]+", re.ASCII)  # signs that mean nothing to any of them
_CMD_LINE = 8000  # characters; cmd takes 8,191


class UnsayableError(ValueError):
    """What a shell cannot be told on one line."""


def own_shell() -> str:
    """The shell that is usual on this machine."""
    return POWERSHELL if sys.platform == "win32" else POSIX


def train_command(config: RunConfig, shell: str) -> str:
    """A line for a terminal that trains what the form shows; where there can be none, one that takes the YAML, and why.

    Args:
        config: all settings.
        shell: name in :data:`SHELLS`.
    """
    quote = SHELLS[shell]
    start = quote(str(ROOT / "start.py"))
    try:
        line = " ".join(["python", start, *(quote(word) for word in arguments(config))])
        if shell == CMD and len(line) > _CMD_LINE:
            raise UnsayableError(f"cmd takes at most {_CMD_LINE:,} characters")
    except UnsayableError as error:
        return f"# {error}. Save the YAML as run.yaml instead, then:\npython {start} train run.yaml"
    return line


def arguments(config: RunConfig) -> list[str]:
    """The words behind ``python start.py``, as a program gets them."""
    words = ["train"]
    for field, value in config.changes().items():
        words += ["--set", f"{field}={one_line_yaml(value)}"]
    return words


def posix_word(word: str) -> str:
    """A word for sh, bash, zsh and fish."""
    return word if _PLAIN.fullmatch(word) else shlex.quote(word)


def powershell_word(word: str) -> str:
    """A word for PowerShell, 5 and later.

    Raises:
        UnsayableError: it has signs that do not reach a program.
    """
    _refuse(word, '"', POWERSHELL)
    # PowerShell takes typographic quotes for quotes
    return word if _PLAIN.fullmatch(word) else "'" + re.sub("(['\u2018\u2019\u201a\u201b])", r"\1\1", word) + "'"


def cmd_word(word: str) -> str:
    """A word for cmd.exe.

    Raises:
        UnsayableError: it has signs that do not reach a program.
    """
    _refuse(word, '"%!', CMD)
    return word if _PLAIN.fullmatch(word) else f'"{word}"'


def _refuse(word: str, signs: str, shell: str) -> None:
    found = next((sign for sign in word if sign in signs or not sign.isprintable()), "")
    if found or word.endswith("\\"):
        shown = found if found.isprintable() else "a line break"
        flat = " ".join(word.split())
        place = flat if len(flat) <= 60 else f"{flat[:57]}..."
        raise UnsayableError(f"{shell} cannot be told {shown or 'a backslash at the end'} on one line, as in {place}")


SHELLS: dict[str, Callable[[str], str]] = {POSIX: posix_word, POWERSHELL: powershell_word, CMD: cmd_word}
