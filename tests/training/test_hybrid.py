"""Phases in real runs: a switch by epochs, steps, loss and at the user's word; resumed before, at and after it, to the bit."""

import json
from pathlib import Path
from typing import Any

import pytest
import trials
from training_pro.runs.control import change_control
from training_pro.runs.state import read_state
from training_pro.runs.store import RunFolder
from training_pro.training.check import check_run

NUM = 24


def hybrid(folder: Path, **changes: Any) -> Any:
    """24 samples in batches of 2, two epochs: by length, then sequential after one epoch."""
    batching = {"true_batch_size": 2, "mode": "hybrid", **changes.pop("batching", {})}
    training = {"epochs": 2, "learning_rate": 0.01, "schedule": "cosine", "warmup_steps": 3, **changes.pop("training", {})}
    checkpoints = {"save_every_epoch": False, **changes.pop("checkpoints", {})}
    return trials.settings(folder, NUM, batching=batching, training=training, checkpoints=checkpoints, **changes)


def samples_of(steps: list[Any]) -> list[int]:
    """Numbers of the samples (their place in the file) in the order in which they were trained."""
    import re

    import tiny

    texts = [tiny.tokenizer().decode(sample) for step in steps for batch in step[1] for sample in batch]
    return [int(re.search(r"question (\d+):", text).group(1)) for text in texts]  # type: ignore[union-attr]


def phases(events: trials.Events) -> list[tuple[int, str]]:
    return [(entry["step"], entry["phase"]) for entry in events.all("phase")]


def check_order(steps: list[Any], begins: int, num_steps: int = 24, per_step: int = 2) -> None:
    """Every epoch has every sample once; from the switch on what is left of an epoch comes in the order of the file."""
    order = samples_of(steps)
    assert len(steps) == num_steps
    assert sorted(order[:NUM]) == sorted(order[NUM:]) == list(range(NUM))
    switched = per_step * begins
    for part in (order[switched:NUM], order[max(switched, NUM) :]):
        assert part == sorted(part)
    by_length = order[:switched]
    assert by_length != sorted(by_length)


# --- what lets the next phase begin --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("batching", "begins", "cause"),
    [
        ({"switch_epochs": 1.0}, 12, "after 1 epoch"),
        ({"switch_epochs": 0.5}, 6, "after 0.5 epochs"),
        ({"switch_by": "steps", "switch_steps": 7}, 7, "after 7 steps"),
        (
            {"switch_by": "loss", "switch_loss_low": 0, "switch_loss_high": 0.001, "switch_latest": 1.25},
            15,
            "at the latest after 1.25 epochs",
        ),
    ],
)
def test_a_switch_by_plan(tmp_path: Path, batching: dict[str, Any], begins: int, cause: str) -> None:
    with trials.watched() as steps:
        outcome, events = trials.run(hybrid(tmp_path, batching=batching))
    assert outcome.status == "finished"
    check_order(steps, begins)
    assert phases(events) == [(0, "length"), (begins, "sequential")]
    first, second = events.all("phase")
    assert (first["cause"], second["cause"], second["decided_at"]) == ("", cause, None)
    assert second["epoch"] == pytest.approx(begins / 12, abs=1e-4)
    (plan,) = events.all("plan")
    assert [row["phase"] for row in plan["phases"]][0] == "length"
    assert plan["batching"] == "hybrid"
    if "switch_loss_high" not in batching:
        assert plan["switches"][0]["steps"] == (begins, begins)
    assert read_state(outcome.folder).phases[1]["phase"] == "sequential"


def highest_of_three(steps: list[dict[str, Any]], step: int) -> float:
    """Loss per token of the last three steps, without the one that lowers it most."""
    last = steps[step - 3 : step]
    pairs = [(last[a], last[b]) for a, b in ((0, 1), (0, 2), (1, 2))]
    tokens = [(one["trained_tokens"], other["trained_tokens"]) for one, other in pairs]
    return max((a["loss"] * m + b["loss"] * n) / (m + n) for (a, b), (m, n) in zip(pairs, tokens, strict=True))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_switch_by_loss(tmp_path: Path, workers: int) -> None:
    """The range ends where the losses of a run without a switch come by in the first epoch."""
    settings: dict[str, Any] = {"switch_by": "loss", "switch_smoothing": 3, "switch_minimum": 0.25, "switch_latest": 0}
    never = {**settings, "switch_loss_low": 0, "switch_loss_high": 0.1}
    _, reference = trials.run(hybrid(tmp_path, batching=never, run={"adapters_dir": str(tmp_path / "reference")}))
    assert phases(reference) == [(0, "length")]
    steps_before = reference.all("step")
    lowest = min(highest_of_three(steps_before, step) for step in range(4, 8)) + 1e-4
    decided = next(step for step in range(3, 8) if highest_of_three(steps_before, step) <= lowest)

    config = hybrid(
        tmp_path,
        batching={**settings, "switch_loss_low": 1, "switch_loss_high": lowest},
        run={"workers": workers, "adapters_dir": str(tmp_path / "loras")},
    )
    with trials.watched() as steps:
        _, events = trials.run(config)
    second = events.all("phase")[1]
    assert second["decided_at"] == decided
    begins = decided + 1 + (4 if workers else 0)  # behind what the loader held: 1, and 2 workers with 2 batches each
    assert phases(events)[1:] == [(begins, "sequential")]
    check_order(steps, begins)
    assert second["cause"].startswith("smoothed loss")
    assert f"is in the range 1 to {lowest:g}" in second["cause"]
    assert f"The phase 'sequential' begins after step {begins} (epoch {begins / 12:.2f}): smoothed loss" in events.texts()
    first, again = events.all("plan")
    assert first["switches"][0]["steps"] == (3, None)
    assert again["switches"][0]["steps"] == (begins, begins)
    # rates follow progress, which this switch does not move
    assert [entry["lr"] for entry in events.all("step")] == pytest.approx([entry["lr"] for entry in steps_before])


@pytest.mark.parametrize("accumulation", [1, 4])
def test_next_phase_now(tmp_path: Path, accumulation: int) -> None:
    config = hybrid(tmp_path, batching={"gradient_accumulation": accumulation, "switch_epochs": 1.9})
    folder = RunFolder(tmp_path / "loras/trial")
    events = trials.Events()
    at = 5 if accumulation == 1 else 1
    events.on(at, lambda: change_control(folder.control, phase_requests=1))
    with trials.watched() as steps:
        outcome, _ = trials.run(config, events=events)
    assert outcome.status == "finished"
    begins = phases(events)[1][0]
    assert begins == at + 1  # behind the batch that was drawn ahead, at a whole window
    check_order(steps, begins, 24 // accumulation, 2 * accumulation)
    second = events.all("phase")[1]
    assert (second["cause"], second["decided_at"]) == ("asked for by the user", at)
    assert {"name": "phase_requests", "value": 1, "step": at} in events.all("control")


def test_next_phase_where_there_is_none(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "loras/trial")
    events = trials.Events()
    events.on(3, lambda: change_control(folder.control, phase_requests=1))
    outcome, _ = trials.run(hybrid(tmp_path, batching={"mode": "length"}, training={"epochs": 0.5}), events=events)
    assert outcome.status == "finished"
    assert phases(events) == [(0, "length")]
    assert "Next phase now: 'length' is the last phase of this run." in events.texts()


def test_a_gradual_switch(tmp_path: Path) -> None:
    config = hybrid(tmp_path, batching={"switch_epochs": 0.5, "switch_gradual": 1.0})
    with trials.watched() as steps:
        _, events = trials.run(config)
    order = samples_of(steps)
    assert sorted(order[:NUM]) == sorted(order[NUM:]) == list(range(NUM))
    assert phases(events) == [(0, "length"), (6, "sequential")]
    assert (events.all("phase")[1]["before"], events.all("phase")[1]["gradual"]) == ("length", 1.0)
    shares = [row["new_share"] for row in events.all("plan")[0]["phases"]]
    assert shares[0] == 1.0
    assert 0 < shares[1] < shares[2] < 1


# --- resumed -------------------------------------------------------------------------------------------------------------------

KEPT = ("step", "epoch", "loss", "smoothed_loss", "lr", "grad_norm", "tokens", "trained_tokens")


def run_in_parts(folder: Path, stop: int, **changes: Any) -> tuple[list[Any], Any, Any]:
    """Stopped after a step and resumed: the steps of both parts, the end and the events of the second."""
    changes["run"] = {**changes.get("run", {}), "adapters_dir": str(folder / f"stop-{stop}")}
    with trials.watched() as parts:
        first, _ = trials.run(hybrid(folder, **changes), stop_at=stop)
        assert (first.status, first.step) == ("interrupted", stop)
        second, events = trials.run(hybrid(folder, **changes, adapter={"if_exists": "resume"}))
    return parts, second, events


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("accumulation", [1, 4])
@pytest.mark.parametrize("by", ["epochs", "loss"])
def test_resumed_before_at_and_after_a_switch(tmp_path: Path, by: str, accumulation: int, workers: int) -> None:
    """By loss the decision comes some batches before the switch: between the two it is the journal that knows."""
    batch_size, num_steps = (2, 24) if accumulation == 1 else (1, 12)
    batching: dict[str, Any] = {"gradient_accumulation": accumulation, "switch_by": by, "switch_epochs": 0.6}
    batching["true_batch_size"] = batch_size
    if by == "loss":
        batching |= {"switch_loss_low": 0, "switch_loss_high": 99, "switch_smoothing": 2, "switch_minimum": 0.3}
    changes: dict[str, Any] = {"batching": batching, "run": {"workers": workers}}
    with trials.watched() as whole:
        config = hybrid(tmp_path, **{**changes, "run": {"workers": workers, "adapters_dir": str(tmp_path / "whole")}})
        outcome, events = trials.run(config)
    assert (outcome.status, outcome.step) == ("finished", num_steps)
    begins, decided = phases(events)[1][0], events.all("phase")[1]["decided_at"]
    assert 0 < begins < num_steps / 2
    check_order(whole, begins, num_steps, batch_size * accumulation)
    stops = {begins - 1, begins, begins + 1, *([decided, decided - 1] if decided else [])} - {0}
    for stop in sorted(stops):
        parts, second, later = run_in_parts(tmp_path, stop, **changes)
        assert (second.status, second.step) == ("finished", num_steps)
        assert parts == whole
        assert [[entry[key] for key in KEPT] for entry in later.all("step")] == [
            [entry[key] for key in KEPT] for entry in events.all("step")[stop:]
        ]
        assert trials.same(trials.weights(outcome.folder), trials.weights(second.folder))
        shown = read_state(second.folder)
        assert [(entry["step"], entry["cause"]) for entry in shown.phases] == [
            (entry["step"], entry["cause"]) for entry in events.all("phase")
        ]


@pytest.mark.parametrize("case", ["hybrid"])
@pytest.mark.parametrize("rank", [0, 1])
def test_two_processes_switch_at_the_same_batch(two_ranks: Any, case: str, rank: int) -> None:
    folder, seen = two_ranks
    whole, first, second = (seen[rank][case][part] for part in ("whole", "first", "second"))
    assert [part["status"] for part in (whole, first, second)] == ["finished", "interrupted", "finished"]
    assert first["seen"] + second["seen"] == whole["seen"]
    assert trials.same(trials.weights(folder / "hybrid-whole/trial"), trials.weights(folder / "hybrid-parts/trial"))
    # both ranks together: each sample once an epoch, and in order from the switch on
    both = [seen[other][case]["whole"]["seen"] for other in range(2)]
    marker = json.loads((folder / "hybrid-whole/trial" / whole["checkpoints"][-1] / "training_pro.json").read_text())
    (switch,) = marker["sampler"]["journal"]
    assert switch["cause"].startswith("smoothed loss")
    assert (switch["epoch"], switch["position"] % 2) == (0, 0)
    steps = [
        [step, [batch for pair in zip(a[1], b[1], strict=True) for batch in pair]]
        for step, (a, b) in enumerate(zip(*both, strict=True))
    ]
    order = samples_of(steps)
    assert sorted(order[:10]) == sorted(order[10:20]) == list(range(10))
    rest = order[2 * switch["position"] : 10]
    assert rest == sorted(rest)
    assert order[10:20] == list(range(10))


def test_another_mode_does_not_resume(tmp_path: Path) -> None:
    trials.run(hybrid(tmp_path), stop_at=3)
    outcome, _ = trials.run(hybrid(tmp_path, batching={"mode": "length"}, adapter={"if_exists": "resume"}))
    assert outcome.status == "failed"
    assert "Batching mode changed (then 'hybrid', now 'length')" in outcome.message


def test_another_transition_takes_effect_from_the_checkpoint_on(tmp_path: Path) -> None:
    with trials.watched() as steps:
        trials.run(hybrid(tmp_path, batching={"switch_epochs": 0.5}), stop_at=3)
        outcome, events = trials.run(hybrid(tmp_path, batching={"switch_epochs": 1.5}, adapter={"if_exists": "resume"}))
    assert outcome.status == "finished"
    assert phases(events) == [(18, "sequential")]
    check_order(steps, 18)


# --- before the run ------------------------------------------------------------------------------------------------------------


def checked(config: Any) -> Any:
    import tiny

    return check_run(config, lambda: (tiny.model(), tiny.fresh_tokenizer()))


def test_check_shows_the_phases(tmp_path: Path) -> None:
    report = checked(hybrid(tmp_path, batching={"switch_epochs": 0.5}, training={"epochs": 3}))
    assert report.problems == []
    rows = [(row["phase"], row["begin"], row["end"], row["num_steps"], row["num_samples"]) for row in report.plan["phases"]]
    assert rows == [("length", 0, 0.5, 6, 12), ("sequential", 0.5, 1, 6, 12), ("sequential", 1, 3, 24, 48)]
    length, rest, _ = report.plan["phases"]
    assert length["padding_share"] < rest["padding_share"]
    assert not any("Batching mode" in warning for warning in report.warnings)


@pytest.mark.parametrize(
    ("batching", "words"),
    [
        ({"switch_epochs": 5}, r"the run ends before its phase 'sequential' begins. Raise Epochs \(2\)"),
        ({"switch_by": "loss", "switch_latest": 0}, "begins only if the loss comes down; the run may end before"),
        ({"mode": "paired"}, "in the phase 'paired' no two neighbours can be one sample. For conversations set Sample of a"),
    ],
)
def test_check_warns(tmp_path: Path, batching: dict[str, Any], words: str) -> None:
    import re

    report = checked(hybrid(tmp_path, batching=batching, data={"cutoff": 96}))
    assert report.problems == []
    assert any(re.search(words, warning) for warning in report.warnings), report.warnings


def test_check_warns_of_a_loss_that_is_low_already(tmp_path: Path) -> None:
    """The tiny model's loss is about 6."""

    def warned(low: float, high: float) -> list[str]:
        report = checked(hybrid(tmp_path, batching={"switch_by": "loss", "switch_loss_low": low, "switch_loss_high": high}))
        return [warning for warning in report.warnings if "before the training" in warning]

    (below,) = warned(50, 60)
    assert (
        "below 50 already. The phase 'length' would end after its shortest length of 0.5 epochs and 'sequential' begin" in below
    )
    two = {"mode": "hybrid two-stage", "switch_loss_low": 1, "switch_loss_high": 2, "second_loss_low": 50, "second_loss_high": 60}
    report = checked(hybrid(tmp_path, batching={**two, "switch_by": "loss", "second_by": "loss"}))
    (second,) = [warning for warning in report.warnings if "before the training" in warning]
    assert second.startswith("Second switch at loss: ")
    assert "The phase 'paired' would end" in second
    (within,) = warned(3, 60)
    assert "in the range 3 to 60 already" in within
    assert warned(1, 2) == []


@pytest.mark.parametrize(
    ("batching", "words"),
    [
        ({"packing": "related"}, "It packs by content, Batching mode 'hybrid' by length or order"),
        ({"switch_by": "loss", "switch_loss_low": 3, "switch_loss_high": 2}, "The range ends below its begin"),
        ({"switch_by": "loss", "switch_minimum": 3, "switch_latest": 1}, "The latest switch is before the earliest"),
        (
            {"mode": "hybrid two-stage", "second_by": "loss", "second_loss_low": 3, "second_loss_high": 2},
            "Set it to 2 (Second switch at loss, to) or less",
        ),
        (
            {"mode": "hybrid two-stage", "second_by": "loss", "second_minimum": 3, "second_latest": 1},
            "Set it to 3 (Second switch at the earliest) or more",
        ),
    ],
)
def test_settings_that_exclude_each_other(tmp_path: Path, batching: dict[str, Any], words: str) -> None:
    (problem,) = hybrid(tmp_path, batching=batching).problems()
    assert words in str(problem)
