"""The command line: its commands, its exit codes, Ctrl-C, and several processes."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import tiny
import trials
import yaml
from training_pro import cli
from training_pro.data.preview import Piece, Preview, PreviewSample, with_borders
from training_pro.runs.checkpoints import find_checkpoints
from training_pro.runs.control import read_control
from training_pro.runs.state import read_state
from training_pro.runs.store import RunFolder
from training_pro.terminal import TrainingDisplay, duration, preview_lines, size


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder and data."""
    folder = tmp_path_factory.mktemp("cli")
    tiny.save_model(folder / "model")
    trials.chat_rows(folder, 10)
    return folder


@pytest.fixture
def run_file(place: Path, tmp_path: Path) -> Path:
    """Settings of a run of 10 steps."""
    settings = {
        "model": {"path": str(place / "model")},
        "adapter": {"name": "trial", "rank": 4},
        "data": {"dataset": str(place / "chat-10.jsonl")},
        "batching": {"true_batch_size": 2},
        "training": {"epochs": 2, "learning_rate": 0.01},
        "run": {"adapters_dir": str(tmp_path / "loras")},
    }
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")
    return path


def start(*arguments: Any, launcher: tuple[str, ...] = (), **more: str) -> subprocess.Popen[str]:
    """The command line in a process of its own."""
    command = [sys.executable, *launcher, "-m", "training_pro.cli", *map(str, arguments)]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, env=trials.environment(**more), **pipes)


# --- train ---------------------------------------------------------------------------------------------------------------------


def test_train(run_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    overrides = [
        "--set",
        "data.eval_share=0.2",
        "--set",
        'samples.prompts=["where is the lighthouse"]',
        "--set",
        "max_new_tokens=3",
    ]
    assert cli.main(["train", str(run_file), "--set", "epochs=1", *overrides]) == 0
    shown = capsys.readouterr().out
    folder = tmp_path / "loras/trial"
    for words in (
        f"Run folder: {folder}",
        "10 rows, messages, utf-8",
        "plan: 4 steps in 1 epochs",
        "evaluation loss",
        "saved checkpoint-4",
        "prompt: where is the lighthouse",
        "finished: The training is finished.",
        f"adapter: {folder}",
        f"graph:   {folder / 'training_graph.png'}",
    ):
        assert words in shown
    assert "100%" in shown
    assert RunFolder(folder).has_adapter

    assert cli.main(["runs", "--adapters-dir", str(tmp_path / "loras")]) == 0
    listed = capsys.readouterr().out
    assert "trial" in listed
    assert "finished" in listed
    assert "step 4 of 4" in listed

    assert cli.main(["train", str(run_file)]) == 2  # the name exists
    assert "there is an adapter or run called 'trial' already" in capsys.readouterr().err


def test_dry_run_trains_nothing(run_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["train", str(run_file), "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert "plan: 10 steps in 2 epochs" in shown
    assert not (tmp_path / "loras").exists()


def test_a_run_that_fails(run_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["train", str(run_file), "--set", "targets=[nothing]"]) == 1
    shown = capsys.readouterr().out
    assert "failed: Target modules: the model has no linear module called 'nothing'" in shown


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--set", "epochs"], "has no '='"),
        (["--set", "epoch=2"], "Did you mean 'training.epochs'"),
        (["--set", "learning_rate=fast"], "That is no number"),
        (["--set", "name=a/b"], "A name must not contain parts of a path"),
        (["--model", "nowhere"], "There is no model in that folder"),
    ],
)
def test_mistakes(run_file: Path, tmp_path: Path, arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    for command in (["train"], ["check"], ["plan"], ["preview"]):
        assert cli.main([*command, str(run_file), *arguments]) == 2
        assert words in capsys.readouterr().err
    assert not (tmp_path / "loras").exists()


def test_no_such_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["train", str(tmp_path / "nothing.yaml")]) == 2
    assert "There is no configuration file" in capsys.readouterr().err


def test_no_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 2
    assert "train" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="2"):
        cli.main(["fly"])


# --- check, preview, config, runs ----------------------------------------------------------------------------------------------


def test_check(run_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check", str(run_file), "--set", "gradient_accumulation=9"]) == 0
    shown = capsys.readouterr().out
    assert "10 rows, messages, utf-8" in shown
    assert "warning: Gradient Accumulation Steps lowered from 9 to 5" in shown
    assert "suggestion: --set data.cutoff=" in shown
    assert "memory, estimated" in shown
    assert cli.main(["check", str(run_file), "--set", "cutoff=4096"]) == 2
    assert "This cannot start:\n  Maximum context length (Cutoff)" in capsys.readouterr().out
    assert not (tmp_path / "loras").exists()


def test_a_suggestion_can_be_pasted(run_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["check", str(run_file)])
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("suggestion: --set ")]
    assert lines
    pasted = [part for line in lines for part in ("--set", line.split()[2])]
    assert cli.main(["check", str(run_file), *pasted]) == 0
    assert "suggestion" not in capsys.readouterr().out


def test_plan(run_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = tmp_path / "rates.png"
    settings = ["--set", "epochs=3", "--set", "schedule=FP_raise_fall_creative", "--set", "warmup_steps=2"]
    assert cli.main(["plan", str(run_file), *settings, "--picture", str(picture)]) == 0
    shown = capsys.readouterr().out
    facts = dict(re.split(r"  +", line, maxsplit=1) for line in shown.splitlines()[:10])
    assert (facts["steps"], facts["epochs"], facts["steps per epoch"]) == ("15", "3", "5")
    assert facts["schedule"].startswith("FP_raise_fall_creative: Up along a cosine")
    assert "warning: Warmup Steps: a warm-up has no effect with FP_raise_fall_creative" in shown
    assert "█" in shown
    assert f"picture: {picture}" in shown
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert not (tmp_path / "loras").exists()


def test_plan_of_what_cannot_start(run_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = tmp_path / "rates.png"
    assert cli.main(["plan", str(run_file), "--set", "cutoff=4096", "--picture", str(picture)]) == 2
    assert "This cannot start:\n  Maximum context length (Cutoff)" in capsys.readouterr().out
    assert not picture.exists()


def test_a_picture_of_an_unknown_format(run_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["plan", str(run_file), "--picture", str(tmp_path / "rates.doc")]) == 2
    assert "'doc' is not supported" in capsys.readouterr().err


def test_preview(run_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["preview", str(run_file), "--num", "2"]) == 0
    shown = capsys.readouterr().out
    assert shown.count("--- sample") == 2
    answer = tiny.conversations(1)[0]["messages"][1]["content"]
    assert f"[{answer}" in shown  # the reply is trained
    assert "<|im_start|>user\nquestion 0" in shown


def test_preview_in_colour_marks_cuts_and_overlaps() -> None:
    pieces = [Piece("ask", False), Piece("<s>", False, True), Piece("yes", True), Piece("!", True)]
    samples = with_borders([PreviewSample(number, 4, 2, pieces, overlap=number == 1, section=number // 2) for number in range(3)])
    page = Preview(samples, 0, 3, 8, [0] * 9 + [3], 0.5)
    shown = preview_lines(page, colour=True)
    assert shown[1].endswith(" 0 3")
    assert "ask\033[34m<s>\033[0m\033[32myes!\033[0m" in shown
    assert "--- sample 2, 4 tokens, 2 trained, \033[33moverlap\033[0m" in shown
    assert shown.count("\033[31m===== hard cut =====\033[0m") == 1
    plain = preview_lines(page, colour=False)
    assert "\033" not in "".join(plain)
    assert "ask<s>[yes!]" in plain
    assert plain.index("===== hard cut =====") == plain.index("--- sample 3, 4 tokens, 2 trained") - 1


def test_config(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["config", "--schema"]) == 0
    assert "training" in json.loads(capsys.readouterr().out)["properties"]
    assert cli.main(["config", "--example"]) == 0
    example = capsys.readouterr().out
    assert yaml.safe_load(example)["training"]["epochs"] == 3.0


def test_runs_of_an_empty_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["runs", "--adapters-dir", str(tmp_path)]) == 0
    assert "No runs in" in capsys.readouterr().out


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0:00"), (42, "0:42"), (725, "12:05"), (3723, "1:02:03")])
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(("num_bytes", "text"), [(5e6, "5 MB"), (1.26e9, "1.3 GB")])
def test_size(num_bytes: float, text: str) -> None:
    assert size(num_bytes) == text


# --- Ctrl-C --------------------------------------------------------------------------------------------------------------------


def display_in(folder: Path, **state: bool) -> TrainingDisplay:
    display = TrainingDisplay()
    display.folder = RunFolder(folder)
    for name, value in state.items():
        setattr(display, name, value)
    return display


def test_the_first_ctrl_c_asks_and_the_second_one_stops(tmp_path: Path) -> None:
    display = display_in(tmp_path, is_training=True)
    before = signal.getsignal(signal.SIGINT)
    with cli.graceful_interrupt(display):
        signal.raise_signal(signal.SIGINT)
        assert read_control(display.folder.control).stop  # type: ignore[union-attr]
        signal.raise_signal(signal.SIGTERM)  # a launcher that passes it on
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_before_the_first_step_it_stops_at_once(tmp_path: Path, number: int) -> None:
    with cli.graceful_interrupt(display_in(tmp_path)), pytest.raises(KeyboardInterrupt):
        signal.raise_signal(number)
    with cli.graceful_interrupt(TrainingDisplay()), pytest.raises(KeyboardInterrupt):
        signal.raise_signal(number)


def test_a_save_is_not_broken_off(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with cli.graceful_interrupt(display_in(tmp_path, is_saving=True)):
        signal.raise_signal(signal.SIGINT)
        assert "being saved" in capsys.readouterr().out
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_other_processes_leave_it_to_the_main_one(tmp_path: Path) -> None:
    display = display_in(tmp_path, visible=False)
    with cli.graceful_interrupt(display):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert not (tmp_path / "control.json").exists()


def test_when_the_wish_cannot_be_written_it_stops_at_once(tmp_path: Path) -> None:
    display = display_in(tmp_path / "no folder", is_training=True)
    with cli.graceful_interrupt(display), pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_in_a_thread_there_are_no_signals(tmp_path: Path) -> None:
    entered: list[bool] = []

    def work() -> None:
        with cli.graceful_interrupt(display_in(tmp_path)):
            entered.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert entered == [True]


def test_the_display_knows_what_the_run_does() -> None:
    display = TrainingDisplay()
    step = {"step": 1, "epoch": 0.1, "smoothed_loss": 1.0, "lr": 1e-4, "tokens_per_second": None, "time_left": 3.0}
    seen = []
    for event, fields in (
        ("stage", {"stage": "training", "detail": ""}),
        ("step", step),
        ("stage", {"stage": "saving", "detail": "writing the adapter"}),
        ("stage", {"stage": "sampling", "detail": "answering"}),
    ):
        display(event, **fields)
        seen.append((display.is_training, display.is_saving))
    assert seen == [(False, False), (True, False), (False, True), (False, False)]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for one process")
def test_ctrl_c_saves_and_the_run_can_be_resumed(run_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = RunFolder(tmp_path / "loras/trial")
    process = start("train", run_file, "--set", "epochs=4000")
    deadline = time.monotonic() + 120
    while not read_state(folder).steps and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    shown, errors = process.communicate(timeout=60)
    assert process.returncode == 130, shown + errors
    assert "Saving and stopping after this step" in shown
    assert "interrupted: Interrupted by the user. What was learned is saved" in shown
    assert "Traceback" not in errors
    state = read_state(folder)
    assert state.status == "interrupted"
    assert folder.has_adapter
    step = find_checkpoints(folder)[-1].step
    assert step == state.steps[-1]["step"] >= 1

    epochs = step // 5 + 2
    assert cli.main(["train", str(run_file), "--set", "if_exists=resume", "--set", f"epochs={epochs}"]) == 0
    assert f"Resuming at step {step} from checkpoint-{step}." in capsys.readouterr().out
    assert read_state(folder).steps[-1]["step"] == 5 * epochs


# --- several processes ---------------------------------------------------------------------------------------------------------


def test_accelerate_launch(run_file: Path, tmp_path: Path) -> None:
    """Two processes on CPUs, over gloo; one talks."""
    launcher = ("-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--main_process_port", "0")
    process = start("train", run_file, launcher=launcher)
    shown, errors = process.communicate(timeout=120)
    assert process.returncode == 0, shown + errors
    assert shown.count("plan: 6 steps in 2 epochs (3 per epoch), batch 2 x accumulation 1 x 2 processes") == 1
    assert shown.count("finished: The training is finished.") == 1
    folder = RunFolder(tmp_path / "loras/trial")
    assert folder.has_adapter
    assert [entry["step"] for entry in read_state(folder).steps] == [1, 2, 3, 4, 5, 6]
    assert sorted(path.name for path in (folder.path / "checkpoint-6").glob("rng_state*")) == [
        "rng_state_0.pth",
        "rng_state_1.pth",
    ]


def test_a_launcher_that_starts_one_process_only_is_told(
    run_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`accelerate launch --cpu --num_processes 2` needs mpirun; without it there is one process and no word."""
    monkeypatch.setenv("ACCELERATE_USE_CPU", "True")
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert cli.main(["train", str(run_file), "--set", "epochs=0.2"]) == 0
    assert "starts one process only" in capsys.readouterr().out
    assert os.environ.get("RANK") is None
