"""Resumed by the user's word though the order changed: it goes on where it stood, says what is not exact, and is exact from there on."""

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import talks
import tiny
import trials

WORD = {"if_exists": "resume", "resume_changed": True}


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the run 'trial' was stopped at step 3 of 13; an epoch has 5 steps."""
    folder = tmp_path_factory.mktemp("stopped")
    outcome, _ = trials.run(trials.settings(folder), stop_at=3)
    assert outcome.status == "interrupted"
    return folder


def again(stopped: Path, place: Path, **changes: Any) -> Any:
    """Settings that resume a copy of the stopped run."""
    if not (place / "loras").exists():
        shutil.copytree(stopped / "loras", place / "loras")
    adapter = {**WORD, **changes.pop("adapter", {})}
    return trials.settings(stopped, **changes, adapter=adapter, run={"adapters_dir": str(place / "loras")})


def next_rate(stopped: Path) -> float:
    """The learning rate that the stopped run planned for its fourth step."""
    lines = [json.loads(line) for line in (stopped / "loras/trial/events.jsonl").read_text().splitlines()]
    (plan,) = [line for line in lines if line["event"] == "plan"]
    return float(dict(map(tuple, plan["learning_rates"]))[3])


@pytest.mark.parametrize(
    ("change", "num_steps", "words"),
    [
        (
            {"num_rows": 12},
            3 + 3 + 6 + 3,
            ["the data or how they are prepared changed", "the number of samples changed (then 10, now 12)"],
        ),
        ({"training": {"seed": 7}}, 3 + 2 + 5 + 3, ["Seed changed (then 42, now 7)"]),
        (
            {"batching": {"true_batch_size": 4}},
            3 + 1 + 3 + 2,
            ["a step has up to 4 samples (then 2)", "Learning Rate is not adapted"],
        ),
        ({"batching": {"gradient_accumulation": 5}}, 3 + 1 + 1 + 1, ["a step has up to 10 samples (then 2)"]),
        (
            {"batching": {"packing": "best_fit"}, "data": {"cutoff": 96}},
            None,
            ["Packing changed", "the data or how they are prepared"],
        ),
        ({"batching": {"mode": "length"}}, 3 + 2 + 5 + 3, ["Batching mode changed (then None, now 'length')"]),
    ],
)
def test_it_goes_on_where_it_stood(
    stopped: Path, tmp_path: Path, change: dict[str, Any], num_steps: int | None, words: list[str]
) -> None:
    outcome, events = trials.run(again(stopped, tmp_path, **change))
    assert outcome.status == "finished", outcome.message
    steps = events.all("step")
    assert (steps[0]["step"], steps[-1]["step"]) == (4, outcome.step)
    assert num_steps is None or outcome.step == num_steps
    assert steps[-1]["epoch"] == 2.5
    assert 0.6 < steps[0]["epoch"] <= 1.0  # 3 of 5 steps were done
    rates = [step["lr"] for step in steps]
    assert rates == sorted(rates, reverse=True)  # behind the warm-up, on the way down: the schedule did not begin anew
    assert rates[0] == pytest.approx(next_rate(stopped), rel=0.02)  # and goes on by progress, whatever a step is now
    told = events.texts()
    assert "Resume with changes: " in told
    assert "Weights, optimizer and learning rate go on." in told
    assert "Not exact: the samples come in a new order. The rest of this epoch (40%) is drawn from all samples" in told
    assert all(text in told for text in words), told
    levels = {fields["level"] for fields in events.all("message") if "Not exact" in fields["text"]}
    assert levels == {"warning"}
    plan = events.all("plan")[-1]
    assert plan["num_steps"] == outcome.step


def test_later_epochs_are_whole_and_it_resumes_exactly_from_there_on(stopped: Path, tmp_path: Path) -> None:
    change = {"training": {"seed": 7}, "batching": {"true_batch_size": 1}}
    with trials.watched() as whole:
        outcome, _ = trials.run(again(stopped, tmp_path / "whole", **change))
    texts = [str(sample) for step in whole for batch in step[1] for sample in batch]
    assert len(texts) == 4 + 10 + 5  # the rest of the epoch, a whole one, half of one
    assert set(Counter(texts[4:14]).values()) == {1}
    for stop in (4, 8):
        place = tmp_path / f"stop-{stop}"
        with trials.watched() as parts:
            first, _ = trials.run(again(stopped, place, **change), stop_at=stop)
            assert (first.status, first.step) == ("interrupted", stop)
            second, events = trials.run(again(stopped, place, **change, adapter={"resume_changed": False}))
        assert second.status == "finished", second.message
        assert "Not exact" not in events.texts()
        assert parts == whole
        assert trials.same(trials.weights(outcome.folder), trials.weights(second.folder))


def test_phases_go_on_where_they_were(tmp_path: Path) -> None:
    """Stopped in the paired phase, which had begun after 0.7 epochs; it still ends 0.8 epochs after that."""
    first, events = talks.run(talks.settings(tmp_path), stop_at=14)
    assert events.all("phase")[-1]["phase"] == "paired"
    config = talks.settings(tmp_path, training={"seed": 5}, adapter=WORD)
    with trials.watched() as steps:
        outcome, later = talks.run(config)
    assert outcome.status == "finished", outcome.message
    (sequential,) = later.all("phase")
    assert sequential["phase"] == "sequential"
    assert sequential["epoch"] == pytest.approx(1.5, abs=0.1)
    last = [number for step in steps[-5:] for batch in step[1] for sample in batch for number in talks.questions(sample)]
    assert last == sorted(last)
    assert first.step == 14


def test_another_number_of_processes(two_ranks: Any, tmp_path: Path) -> None:
    folder, _ = two_ranks
    shutil.copytree(folder / "resume-1-0-parts", tmp_path / "loras")
    config = trials.settings(folder, adapter=WORD, run={"adapters_dir": str(tmp_path / "loras")}, training={"epochs": 4})
    outcome, events = trials.run(config)
    assert outcome.status == "finished", outcome.message
    assert "the number of processes (GPUs) changed (then 2, now 1)" in events.texts()
    assert "dropout draws other random numbers" in events.texts()
    assert events.all("step")[-1]["epoch"] == 4


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"adapter": {"rank": 8}}, "the adapter's settings"),
        ({"training": {"optimizer": "sgd", "seed": 7}}, "Optimizer changed"),
    ],
)
def test_what_is_still_refused(stopped: Path, tmp_path: Path, change: dict[str, Any], words: str) -> None:
    outcome, _ = trials.run(again(stopped, tmp_path, **change))
    assert outcome.status == "failed"
    assert words in outcome.message
    assert "Put these settings back, or choose 'continue'" in outcome.message
    assert "switch on Resume with changes" not in outcome.message


def test_another_model_is_refused(stopped: Path, tmp_path: Path) -> None:
    outcome, _ = trials.run(again(stopped, tmp_path), tiny.model(num_hidden_layers=1))
    assert (outcome.status, "the base model changed" in outcome.message) == ("failed", True)


def test_without_the_word_it_is_said_that_there_is_one(stopped: Path, tmp_path: Path) -> None:
    outcome, _ = trials.run(again(stopped, tmp_path, training={"seed": 7}, adapter={"resume_changed": False}))
    assert outcome.status == "failed"
    assert "Put these settings back, switch on Resume with changes, or choose 'continue'" in outcome.message


def test_with_the_word_but_without_a_change_it_is_exact(stopped: Path, tmp_path: Path) -> None:
    with trials.watched() as whole:
        outcome, _ = trials.run(trials.settings(stopped, run={"adapters_dir": str(tmp_path / "whole")}))
    with trials.watched() as parts:
        second, events = trials.run(again(stopped, tmp_path))
    assert "Not exact" not in events.texts()
    assert parts == whole[3:]
    assert trials.same(trials.weights(outcome.folder), trials.weights(second.folder))
