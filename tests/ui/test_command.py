"""The command line that does the same as the form: read back as each shell and program would, it gives the same configuration."""

import re
import shlex
import subprocess

import pytest
from config_cases import configurations, tricky, words
from hypothesis import given
from hypothesis import strategies as st
from training_pro import ROOT
from training_pro.cli import build_parser
from training_pro.config import RunConfig
from training_pro.ui.form.command import CMD, POSIX, POWERSHELL, SHELLS, arguments, own_shell, train_command

QUOTES = "'\u2018\u2019\u201a\u201b"


def windows_argv(line: str) -> list[str]:
    """A command line as Windows programs read it: backslashes mean something before double quotes only (Microsoft's C runtime)."""
    found: list[str] = []
    word, quoted, inside, place = "", False, False, 0
    while place < len(line):
        sign = line[place]
        if sign == "\\":
            run = len(line[place:]) - len(line[place:].lstrip("\\"))
            place += run
            if place < len(line) and line[place] == '"':
                word += "\\" * (run // 2)
                if run % 2:
                    word, place = word + '"', place + 1
            else:
                word += "\\" * run
            inside = True
            continue
        if sign == '"':
            quoted, inside = not quoted, True
        elif sign == " " and not quoted:
            found, word, inside = [*found, *([word] if inside else [])], "", False
        else:
            word, inside = word + sign, True
        place += 1
    assert not quoted
    return [*found, *([word] if inside else [])]


def cmd_words(line: str) -> list[str]:
    """As cmd.exe passes a line on: what it would replace or split stands in quotes, or is not there."""
    assert not set(line) & set("%!\n\r")
    outside = re.sub(r'"[^"]*"', "", line)
    assert not set(outside) & set("&|<>^()")
    return windows_argv(line)


def powershell_words(line: str) -> list[str]:
    """As PowerShell 5 reads a line, and as the program then gets it: words with blanks in quotes, nothing escaped."""
    found: list[str] = []
    for match in re.finditer(rf"[{QUOTES}]((?:[^{QUOTES}]|([{QUOTES}])\2)*)[{QUOTES}]|([^\s{QUOTES}]+)", line):
        text, _, bare = match.groups()
        if bare is not None:
            assert not set(bare) & set('$`@#;&|<>(){},"')
        found.append(bare if text is None else re.sub(rf"([{QUOTES}])\1", r"\1", text))
    return windows_argv(" ".join(f'"{word}"' if " " in word else word for word in found))


READERS = {POSIX: shlex.split, POWERSHELL: powershell_words, CMD: cmd_words}


def read_back(line: str, shell: str) -> RunConfig:
    """The configuration that the line's program would train."""
    python, start, *argv = READERS[shell](line)
    assert (python, start) == ("python", str(ROOT / "start.py"))
    options = build_parser().parse_args(argv)
    assert not options.config
    return RunConfig.from_overrides(options.set)


@given(
    st.lists(words | tricky | st.text('ab \\"', max_size=8), max_size=4).map(
        lambda found: [one for one in found if "\n" not in one]
    )
)
def test_the_reader_of_windows_lines_is_right(found: list[str]) -> None:
    assert windows_argv(subprocess.list2cmdline(found)) == found


@pytest.mark.parametrize("shell", SHELLS)
@given(configurations())
def test_the_line_is_the_form(shell: str, config: RunConfig) -> None:
    line = train_command(config, shell)
    if line.startswith("#"):
        assert shell != POSIX
        assert re.search(
            r"^# (PowerShell|cmd) (cannot be told .+|takes at most .+)\. Save the YAML as run\.yaml instead, then:\n", line
        )
        return
    assert "\n" not in line or shell == POSIX
    assert read_back(line, shell).to_dict() == config.to_dict()


TYPICAL = RunConfig.from_dict(
    {
        "adapter": {"name": "bob's lora", "targets": ["q_proj", "v_proj"]},
        "data": {"dataset": "C:\\my data\\chat & more.jsonl", "hard_cut": "\\n\\n\\n\\", "text_file": "D:\\texts\\"},
        "training": {"learning_rate": 2e-4, "schedule": "cosine"},
        "samples": {"prompts": ["Who's there?", "A, B or C: which?", "Ünïcödé"]},
    }
)


@pytest.mark.parametrize("shell", SHELLS)
def test_usual_settings_can_be_told_to_every_shell(shell: str) -> None:
    line = train_command(TYPICAL, shell)
    assert not line.startswith("#")
    assert read_back(line, shell).to_dict() == TYPICAL.to_dict()


def test_a_real_shell_reads_the_same() -> None:
    config = RunConfig.from_dict({"samples": {"prompts": ["$HOME `date` \"x\" 'y' \\", "two\nlines"]}, "adapter": {"name": "a*"}})
    line = train_command(config, POSIX)
    printed = subprocess.run(["sh", "-c", f"printf '%s\\0' {line}"], capture_output=True, check=True).stdout.decode()
    assert printed.split("\0")[2:-1] == arguments(config)
    assert read_back(line, POSIX).to_dict() == config.to_dict()


@pytest.mark.parametrize(
    ("shell", "value", "reason"),
    [
        (POWERSHELL, 'say "hi"', 'PowerShell cannot be told " on one line'),
        (CMD, "100 %", "cmd cannot be told % on one line"),
        (CMD, "two\nlines", "cmd cannot be told"),
    ],
)
def test_what_a_shell_cannot_be_told_is_said(shell: str, value: str, reason: str) -> None:
    line = train_command(RunConfig.from_dict({"data": {"train_after": value}}), shell)
    assert line.startswith(f"# {reason}")
    assert line.endswith(f"{SHELLS[shell](str(ROOT / 'start.py'))} train run.yaml")


def test_a_line_that_is_too_long_for_cmd() -> None:
    config = RunConfig.from_dict({"samples": {"prompts": ["word " * 2000]}})
    assert train_command(config, CMD).startswith("# cmd takes at most 8,000 characters.")
    assert not train_command(config, POWERSHELL).startswith("#")


def test_the_defaults_need_no_words() -> None:
    assert arguments(RunConfig()) == ["train"]
    assert own_shell() in SHELLS
