"""A host that needs no model: what the page asks of it is remembered, and a test writes the diary of its run."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from began import begin_run
from training_pro.config import RunConfig
from training_pro.data.preview import Piece, Preview, PreviewSample, with_borders
from training_pro.runs import registry
from training_pro.runs.check_report import CheckReport
from training_pro.runs.events import EventWriter
from training_pro.runs.state import process_start_time
from training_pro.runs.store import RunFolder, write_json
from training_pro.ui.host import Host

CHECK_RESULT = CheckReport(
    warnings=["Warm-up is 0."],
    report={
        "files": [{"file": "/data/animals.jsonl", "rows": 812, "format": "messages", "encoding": "utf-8"}],
        "num_rows": 812,
        "num_broken": 2,
        "broken": [{"file": "/data/animals.jsonl", "line": 17, "reason": "no JSON <here>"}],
        "num_samples": 810,
        "num_tokens": 1000,
        "num_trained_tokens": 500,
        "longest": [90, 80],
    },
    plan={"num_steps": 203, "num_epochs": 1.0, "steps_per_epoch": [203], "batch_size": 4, "accumulation": 1, "warmup_steps": 20},
    memory={"weights": 2**30, "total": 2**31, "available": 2**33},
)


class FakeHost:
    """Records configurations; ``finish`` is not called by itself: a launched run goes on until the test ends it."""

    def __init__(self, folder: Path, *, in_webui: bool = False) -> None:
        self.adapters = folder / "loras"
        self.adapters.mkdir(parents=True)
        self.data = folder / "data"
        self.data.mkdir()
        (self.data / "animals.jsonl").write_text('{"messages": []}\n', encoding="utf-8")
        (self.data / "story.txt").write_text("Once.", encoding="utf-8")
        self.facts: dict[str, Any] = {"name": "tiny", "device": "cpu", "dtype": "float32", "modules": {"q_proj": 2, "v_proj": 2}}
        self.read_only = ""
        self.exposure = ""
        self.launched: list[RunConfig] = []
        self.checked: list[RunConfig] = []
        self.previewed: list[tuple[int, int]] = []
        self.writers: list[EventWriter] = []
        self.check_result: CheckReport | Exception = CHECK_RESULT
        self.host = Host(
            launch=self._launch,
            check=self._check,
            preview=self._preview,
            model_facts=lambda: self.facts,
            adapters_dir=lambda: self.adapters,
            data_sets=lambda: {path.name: str(path) for path in sorted(self.data.glob("*.json*"))},
            text_files=lambda: {path.name: str(path) for path in sorted(self.data.glob("*.txt"))},
            in_webui=in_webui,
            read_only=lambda: self.read_only,
            exposure=lambda: self.exposure,
            complete=self._complete,
            model_name=lambda config: self.facts.get("name", ""),
        )

    def _complete(self, config: RunConfig) -> RunConfig:
        completed = config.model_copy(update={"run": config.run.model_copy(update={"adapters_dir": str(self.adapters)})})
        completed._load_problems = config._load_problems
        return completed

    def _check(self, config: RunConfig) -> CheckReport:
        self.checked.append(config)
        if isinstance(self.check_result, Exception):
            raise self.check_result
        return self.check_result

    def _preview(self, config: RunConfig, first: int, num: int) -> dict[str, Any]:
        """A page of seven samples; the second begins a section, the third only overlaps."""
        self.previewed.append((first, num))
        if isinstance(self.check_result, Exception):
            raise self.check_result
        first = max(0, min(first, 7 - num))
        samples = with_borders([self.sample(number) for number in range(first, first + num)])
        return Preview(samples, first, 7, 100, [0] * 9 + [7], 0.95).to_dict()

    @staticmethod
    def sample(number: int) -> PreviewSample:
        """A sample of five tokens, two of them trained."""
        pieces = [
            Piece("<|s|>", False, True),
            Piece(f"ask {number}", False),
            Piece(" <b>", False),
            Piece("yes", True),
            Piece("\n", True),
        ]
        return PreviewSample(number, 5, 2, pieces, overlap=number == 2, group=0, section=int(number > 0))

    def _launch(self, config: RunConfig) -> registry.RunHandle:
        config.require_valid()
        handle, folder = begin_run(self.adapters, config)
        self.launched.append(config)
        self.writers.append(start_diary(folder))
        return handle

    @property
    def emit(self) -> Callable[..., None]:
        """Writes an event of the newest run."""
        return self.writers[-1]

    def end(self, status: str = "finished", **fields: Any) -> None:
        """The newest run ends."""
        self.emit("run_ended", status=status, **fields)
        registry.release()


def start_diary(folder: RunFolder, pid: int | None = None, started: float | None = None) -> EventWriter:
    """Begin a run's diary, as a job of this process (or of another one) would."""
    folder.path.mkdir(parents=True, exist_ok=True)
    if not folder.parameters.exists():
        write_json(folder.parameters, RunConfig().to_dict())
    emit = EventWriter(folder.events)
    started = process_start_time() if started is None else started
    emit(
        "run_started", name=folder.name, pid=os.getpid() if pid is None else pid, process_started=started, resumed_from_step=None
    )
    return emit


def write_steps(emit: Callable[..., None], count: int, num_steps: int = 40) -> None:
    """A plan of 2 epochs and its first steps."""
    emit("plan", num_steps=num_steps, num_epochs=2.0, steps_per_epoch=[num_steps // 2] * 2, batch_size=4, accumulation=1)
    emit("stage", stage="training", detail="")
    for step in range(1, count + 1):
        loss = 3.0 - step / num_steps
        emit(
            "step",
            step=step,
            epoch=2 * step / num_steps,
            loss=loss,
            smoothed_loss=loss + 0.1,
            lr=3e-4,
            tokens_per_second=1234.5,
            time_left=75.0,
        )


def save_adapter(folder: RunFolder) -> None:
    """The files that make a folder an adapter."""
    (folder.path / "adapter_model.safetensors").write_bytes(b"")
    (folder.path / "adapter_config.json").write_text("{}", encoding="utf-8")
