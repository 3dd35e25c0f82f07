"""Detailed logs: what they get, that nothing they do ends a run, and the real packages where they are installed."""

import importlib.util
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import trials
from training_pro.config import RunConfig
from training_pro.config.log_packages import LOG_PACKAGES, missing_package
from training_pro.runs.state import read_state
from training_pro.runs.store import RunFolder
from training_pro.training import logs
from training_pro.training.frame import Diary
from training_pro.training.logs import RunLog, attach_log, make_log

STEP = {"step": 3, "epoch": 0.5, "loss": 2.0, "smoothed_loss": 2.5, "lr": 1e-4, "grad_norm": None, "tokens_per_second": 10.0}


class Notes:
    """A sink that remembers."""

    def __init__(self) -> None:
        self.found: list[Any] = []
        self.fails = False

    def numbers(self, values: Mapping[str, float], step: int) -> None:
        if self.fails:
            raise OSError(28, "No space left on device")
        self.found.append((step, dict(values)))

    def words(self, name: str, text: str, step: int) -> None:
        self.found.append((step, name, text))

    def close(self) -> None:
        self.found.append("closed")


def config_with(choice: str) -> RunConfig:
    return RunConfig.from_dict({"run": {"log_to": choice}})


def test_what_it_gets() -> None:
    notes, said = Notes(), []
    log = RunLog(notes, said.append)
    log("phase", step=0, phase="length", cause="planned")
    log("step", **STEP)
    log("evaluation", step=3, loss=1.5)
    log("evaluation", step=3, loss=None)
    log("understanding", step=3, gains={"context": {"mean": 0.25}, "order": {"mean": None}})
    log("message", level="info", text="x")
    log("run_ended", status="finished", message="Done.")
    log("step", **STEP)
    assert notes.found == [
        (0, "phase", "length (planned)"),
        (
            3,
            {
                "train/loss": 2.0,
                "train/smoothed_loss": 2.5,
                "train/learning_rate": 1e-4,
                "train/tokens_per_second": 10.0,
                "train/epoch": 0.5,
            },
        ),
        (3, {"evaluation/loss": 1.5}),
        (3, {}),
        (3, {"gains/context": 0.25}),
        (3, "end", "finished: Done."),
        "closed",
    ]
    assert said == []


def test_a_log_that_fails_says_so_once_and_is_told_nothing_more(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    emit, notes = Diary(folder, None), Notes()
    notes.fails = True
    emit.listen(RunLog(notes, lambda text: emit("message", level="warning", text=text)))
    emit("run_started", name="a")
    emit("step", **STEP)
    emit("step", **STEP)
    emit.close()
    state = read_state(folder)
    assert len(state.steps) == 2
    words = "Detailed logs: writing failed ([Errno 28] No space left on device). The training goes on without them."
    assert [message["text"] for message in state.messages] == [words]


def test_no_log_is_the_rule(tmp_path: Path) -> None:
    emit = Diary(RunFolder(tmp_path), None)
    attach_log(emit, RunConfig(), RunFolder(tmp_path), None)
    assert emit._listeners == []
    emit.close()


@pytest.mark.parametrize("choice", ["tensorboard", "wandb"])
def test_a_missing_package_is_said_before_and_while_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, choice: str) -> None:
    monkeypatch.setattr("training_pro.config.log_packages.find_spec", lambda name: None)
    problems = [problem for problem in config_with(choice).problems() if problem.field == "run.log_to"]
    assert [(problem.message, problem.remedy) for problem in problems] == [
        (f"The package {choice} is not installed.", f"Run: pip install {choice}. Or choose none.")
    ]
    monkeypatch.setattr(logs, "TensorBoardSink" if choice == "tensorboard" else "WandbSink", lambda *args: 1 / 0)
    said: list[str] = []
    assert make_log(config_with(choice), RunFolder(tmp_path), said.append) is None
    assert f"{choice} cannot be used (division by zero). Install it with: pip install {choice}. The training goes on" in said[0]


def test_a_folder_of_that_name_is_no_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if importlib.util.find_spec("wandb") is not None:
        pytest.skip("the package itself is installed")
    (tmp_path / "wandb").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    assert importlib.util.find_spec("wandb") is not None
    assert missing_package("wandb") == "wandb"
    assert missing_package("none") == ""
    sys.path_importer_cache.pop(str(tmp_path), None)


def test_the_form_offers_what_the_table_has() -> None:
    info = next(info for info in RunConfig.settings() if info.field == "run.log_to")
    assert tuple(info.choices) == tuple(LOG_PACKAGES)


def trained(tmp_path: Path, choice: str) -> RunFolder:
    """A short real run with a log."""
    outcome, _ = trials.run(trials.settings(tmp_path, run={"log_to": choice}))
    assert outcome.status == "finished"
    return outcome.folder


def test_tensorboard_for_real(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = trained(tmp_path, "tensorboard")
    steps = read_state(folder).steps
    found = EventAccumulator(str(folder.logs / "tensorboard")).Reload()
    shown = [(event.step, pytest.approx(event.value, rel=1e-6)) for event in found.Scalars("train/loss")]
    assert [(step["step"], step["loss"]) for step in steps] == shown
    rates = [event.value for event in found.Scalars("train/learning_rate")]
    assert rates == pytest.approx([step["lr"] for step in steps], rel=1e-6)
    assert "gradient" in " ".join(found.Tags()["scalars"])


def test_wandb_for_real_and_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    for name in ("WANDB_MODE", "WANDB_ERROR_REPORTING", "WANDB_SILENT"):
        monkeypatch.setenv(name, os.environ.get(name, ""))
    folder = trained(tmp_path, "wandb")
    runs = list((folder.logs / "wandb").glob("offline-run-*"))
    assert len(runs) == 1
    assert list(runs[0].glob("*.wandb"))
    assert os.environ["WANDB_MODE"] == "offline"
    assert not list(tmp_path.rglob(".netrc"))
    assert json.dumps([message["text"] for message in read_state(folder).messages]).count("Detailed logs") == 0
