"""What a run measures beside its loss: before the first step, at each evaluation, at each switch and at the end; also when resumed."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
import trials
from training_pro.evaluation.replies import draw_replies
from training_pro.evaluation.understanding import measure
from training_pro.runs.state import read_state
from training_pro.runs.store import RunFolder
from training_pro.training.monitoring import Monitor


def loss_and_gains(model: Any, rows: list[dict[str, Any]], most: int, seed: int) -> Any:
    """The same by hand, with plain logits."""

    def losses(batch: dict[str, Any]) -> torch.Tensor:
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits.flatten(0, 1)
        return torch.nn.functional.cross_entropy(logits[batch["positions"]], batch["targets"], reduction="none")

    sample = draw_replies(lambda number: rows[number], len(rows), tiny.tokenizer(), most=most, cutoff=256, seed=seed)
    return measure(sample, losses, batch_tokens=100)


def test_a_run_is_measured_before_at_switches_and_at_its_end(tmp_path: Path) -> None:
    outcome, events = trials.run(trials.multi_turn(tmp_path, batching={"switch_epochs": 0.5}))
    assert outcome.status == "finished", outcome.message
    state = read_state(outcome.folder)
    ends = state.plan["steps_per_epoch"]
    switch = state.phases[1]["step"]
    assert 0 < switch < ends[0]
    places = [0, switch, ends[0], sum(ends)]
    assert [entry["step"] for entry in state.evaluations] == places
    assert [entry["step"] for entry in state.understanding] == places
    before = loss_and_gains(tiny.model(), trials.talks(20)[13:], 64, 42)
    for name, gain in state.understanding[0]["gains"].items():
        assert gain["mean"] == pytest.approx(before.gains[name].mean, abs=1e-5)
        assert gain["error"] == pytest.approx(before.gains[name].error, abs=1e-5)
        assert gain["num_replies"] == before.gains[name].num_replies > 2
        assert gain["change"] is None
    assert state.understanding[0]["loss"] == pytest.approx(before.loss, abs=1e-5)
    for entry in state.understanding[1:]:
        assert entry["sample"] == state.understanding[0]["sample"]
        assert entry["loss"] != state.understanding[0]["loss"]
        assert "saved" not in entry
        for name, gain in entry["gains"].items():
            assert gain["change"] == pytest.approx(gain["mean"] - state.understanding[0]["gains"][name]["mean"], abs=1e-6)
    assert "Context understanding is measured on" in events.texts()


def test_the_table_at_the_end(tmp_path: Path) -> None:
    outcome, events = trials.run(trials.multi_turn(tmp_path))
    state = read_state(outcome.folder)
    (table,) = events.all("phase_table")
    assert [row["phase"] for row in table["rows"]] == ["before", "length", "sequential"]
    assert state.phase_table == table["rows"] == json.loads(outcome.folder.log.read_text())["phases"]
    for row, (first, last) in zip(
        table["rows"][1:], ((0, state.phases[1]["step"]), (state.phases[1]["step"], len(state.steps))), strict=True
    ):
        steps = state.steps[first:last]
        assert row["num_steps"] == len(steps)
        assert row["trained_tokens"] == sum(step["trained_tokens"] for step in steps)
        assert row["loss"] == pytest.approx(
            np.average([step["loss"] for step in steps], weights=[step["trained_tokens"] for step in steps])
        )
        assert row["eval_step"] == row["gains_step"] == last
        assert row["tokens_per_second"] == pytest.approx(row["tokens"] / sum(step["seconds"] for step in steps), rel=1e-3)
        assert set(row["gains"]) == {"context", "order", "distance"}


def test_padding_is_what_was_computed(tmp_path: Path) -> None:
    _, flat = trials.run(trials.multi_turn(tmp_path / "flat"))
    assert [row["padding_share"] for row in flat.all("phase_table")[0]["rows"][1:]] == [0.0, 0.0]
    _, padded = trials.run(
        trials.multi_turn(tmp_path / "padded", batching={"route": "padded", "true_batch_size": 3, "mode": "shuffled"})
    )
    steps = padded.all("step")
    assert any(step["padding"] for step in steps)
    share = sum(step["padding"] for step in steps) / sum(step["padding"] + step["tokens"] for step in steps)
    assert padded.all("phase_table")[0]["rows"][1]["padding_share"] == pytest.approx(share, abs=1e-5)


def test_measuring_changes_nothing_of_the_training(tmp_path: Path) -> None:
    """Also with dropout on, which draws from the global random state."""
    adapters = []
    for name, samples in (("with", 64), ("without", 0)):
        outcome, events = trials.run(trials.multi_turn(tmp_path / name, checkpoints={"understanding_samples": samples}))
        assert bool(events.all("understanding")) is bool(samples)
        assert "Context understanding" in events.texts() or not samples
        adapters.append(trials.weights(outcome.folder))
    assert trials.same(*adapters)


def test_the_number_of_replies_is_the_users(tmp_path: Path) -> None:
    _, events = trials.run(
        trials.multi_turn(tmp_path, checkpoints={"understanding_samples": 3}, training={"epochs": 1}, batching={"mode": "length"})
    )
    for entry in events.all("understanding"):
        assert entry["gains"]["context"]["num_replies"] == 3


def test_a_resumed_run_keeps_what_was_measured_and_compares_with_its_beginning(tmp_path: Path) -> None:
    whole, _ = trials.run(trials.multi_turn(tmp_path / "whole"))
    stop = read_state(whole.folder).phases[1]["step"] + 1
    parts = trials.multi_turn(tmp_path / "parts")
    trials.run(parts, stop_at=stop)
    parts.adapter.if_exists = "resume"
    outcome, events = trials.run(parts)
    assert events.all("understanding")[0]["step"] > stop  # not measured again before its first step
    expected, found = read_state(whole.folder), read_state(outcome.folder)
    assert [entry["step"] for entry in found.understanding] == [entry["step"] for entry in expected.understanding]
    for mine, theirs in zip(found.understanding, expected.understanding, strict=True):
        for name, gain in mine["gains"].items():
            assert gain["mean"] == theirs["gains"][name]["mean"]  # to the bit
            assert gain["change"] == (None if theirs["step"] == 0 else pytest.approx(theirs["gains"][name]["change"], abs=1e-6))
    names = ("phase", "num_steps", "loss", "eval_loss", "trained_tokens")
    assert [[row[name] for name in names] for row in found.phase_table] == [
        [row[name] for name in names] for row in expected.phase_table
    ]


def test_who_interrupts_does_not_wait_for_a_measurement(tmp_path: Path) -> None:
    outcome, events = trials.run(trials.multi_turn(tmp_path), stop_at=1)
    assert outcome.status == "interrupted"
    assert [entry["step"] for entry in events.all("understanding")] == [0]
    assert [row["phase"] for row in events.all("phase_table")[0]["rows"]] == ["before", "length"]


def test_a_stop_by_loss_is_measured(tmp_path: Path) -> None:
    outcome, events = trials.run(
        trials.multi_turn(tmp_path, checkpoints={"stop_at_loss": 99}, batching={"true_batch_size": 1}, training={"epochs": 6})
    )
    assert "Stop at loss" in outcome.message
    assert [entry["step"] for entry in events.all("understanding")][-1] == outcome.step


def test_held_out_conversations_without_an_earlier_exchange(tmp_path: Path) -> None:
    data = {"data": {"eval_share": 0.2}}  # of conversations of one exchange each
    outcome, events = trials.run(trials.settings(tmp_path, training={"epochs": 1}, **data))
    assert "Context understanding is not measured: no held-out conversation" in events.texts()
    assert events.all("understanding") == []
    assert [row["phase"] for row in events.all("phase_table")[0]["rows"]] == ["before", "shuffled"]
    assert outcome.status == "finished"


def test_held_out_by_share(tmp_path: Path) -> None:
    """What is held out of the data set itself is what is measured: no conversation that is trained."""
    config = trials.multi_turn(
        tmp_path, data={"eval_dataset": "", "eval_share": 0.5}, batching={"mode": "shuffled"}, training={"epochs": 1}
    )
    from training_pro.training import monitoring

    seen: list[Any] = []
    draw = monitoring.draw_replies

    def watched(read: Any, num: int, *args: Any, **kwargs: Any) -> Any:
        seen.extend(json.dumps(read(number)["messages"]) for number in range(num))
        return draw(read, num, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(monitoring, "draw_replies", watched)
        _, events = trials.run(config)
    rows = {json.dumps(row["messages"]) for row in trials.talks(12)}
    assert len(seen) == len(set(seen)) == 6
    assert set(seen) < rows
    held_out = {text for text in seen}
    with trials.watched() as steps:
        trials.run(
            trials.multi_turn(
                tmp_path / "again",
                data={"eval_dataset": "", "eval_share": 0.5},
                batching={"mode": "shuffled"},
                training={"epochs": 1},
            )
        )
    trained = {tiny.tokenizer().decode(sample) for step in steps for batch in step[1] for sample in batch}
    for row in trials.talks(12):
        text = tiny.tokenizer().apply_chat_template(row["messages"], tokenize=False)
        assert (text in trained) is (json.dumps(row["messages"]) not in held_out)
    assert events.all("understanding")


def test_text_that_is_held_out_is_not_measured(tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text(" ".join(f"Sentence {number} tells of {tiny.WORDS[number % 9]}." for number in range(80)), encoding="utf-8")
    config = trials.settings(
        tmp_path, data={"dataset": "", "text_file": str(text), "cutoff": 64, "eval_share": 0.2}, training={"epochs": 1}
    )
    outcome, events = trials.run(config)
    assert outcome.status == "finished", outcome.message
    assert events.all("understanding") == []
    assert "Context understanding is not measured" in events.texts()


def test_the_monitor_without_replies_says_why_and_measures_nothing() -> None:
    events = trials.Events()
    assert Monitor(None, 0, events).measure(None) is None
    assert events == []


def test_a_first_measurement_of_other_replies_is_not_compared_with(tmp_path: Path) -> None:
    config = trials.multi_turn(tmp_path)
    outcome, _ = trials.run(config, stop_at=2)
    folder = RunFolder(outcome.folder.path)
    text = folder.events.read_text().replace('"sample": "', '"sample": "other')
    folder.events.write_text(text)
    config.adapter.if_exists = "resume"
    _, events = trials.run(config)
    measured = events.all("understanding")
    assert [gain["change"] for gain in measured[0]["gains"].values()] == [None] * 3
    assert "saved" in measured[0]
    assert all(gain["change"] is not None for gain in measured[-1]["gains"].values())


def test_two_processes_measure_what_one_does(two_ranks: Any, tmp_path: Path) -> None:
    """They share the texts; the batches of the training differ, so what is compared is the model before the first step."""
    _, (main, other) = two_ranks
    outcome, events = trials.run(trials.multi_turn(tmp_path, adapter={"dropout": 0.0}, batching={"true_batch_size": 1}))
    assert outcome.status == main["monitored"]["status"] == other["monitored"]["status"] == "finished"
    expected, found = events.all("understanding"), main["monitored"]["understanding"]
    assert [entry["step"] for entry in found] == [entry["step"] for entry in main["monitored"]["evaluations"]]
    assert len(found) == 3
    assert found[0]["sample"] == expected[0]["sample"]
    for name, gain in found[0]["gains"].items():
        assert gain == pytest.approx(expected[0]["gains"][name], abs=1e-5, nan_ok=True)
    assert found[0]["loss"] == pytest.approx(expected[0]["loss"], abs=1e-5)
