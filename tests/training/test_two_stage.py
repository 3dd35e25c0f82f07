"""Length, then paired, then sequential, on real conversations that are joined or context of each other, with packs and without."""

from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import talks
import tiny
import trials
from training_pro.batching.course import MODES
from training_pro.hybrid_batching import PHASES
from training_pro.runs.control import change_control
from training_pro.runs.store import RunFolder
from training_pro.training.setup import prepare_samples

PHASES_JOIN = {mode: any(PHASES[phase].joins for phase in phases) for mode, phases in MODES.items()}
NUM = sum(1 + talk * 3 % 5 for talk in range(10))  # exchanges of the ten conversations
KEPT = ("step", "epoch", "loss", "smoothed_loss", "lr", "grad_norm", "tokens", "trained_tokens")


def begins(events: Any) -> list[tuple[int, str]]:
    return [(entry["step"], entry["phase"]) for entry in events.all("phase")]


def samples_of(steps: list[Any]) -> list[list[int]]:
    """Questions of each sample, in the order of training."""
    return [talks.questions(sample) for step in steps for batch in step[1] for sample in batch]


def trained_questions(steps: list[Any], template: str) -> list[int]:
    """With context only the last question's reply is trained, joined all are."""
    return [number for found in samples_of(steps) if found for number in (found[-1:] if template == "context" else found)]


# --- what is trained -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("packing", ["none", "best_fit"])
@pytest.mark.parametrize("template", list(talks.TEMPLATES))
def test_every_reply_once_an_epoch_in_each_phase(tmp_path: Path, template: str, packing: str) -> None:
    with trials.watched() as steps:
        outcome, events = talks.run(talks.settings(tmp_path, batching={"packing": packing, "route": "flat"}), template)
    assert outcome.status == "finished", outcome.message
    assert [phase for _, phase in begins(events)] == ["length", "paired", "sequential"]
    plan = events.all("plan")[0]
    first, second = (step for step, _ in begins(events)[1:])
    ends = [0]
    for count in plan["steps_per_epoch"]:
        ends.append(ends[-1] + count)
    shown = events.all("step")
    per_epoch = [sum(step["trained_tokens"] for step in shown[start:end]) for start, end in pairwise(ends)]
    assert per_epoch[0] == per_epoch[1] == per_epoch[2] == events.all("prepared")[0]["report"]["num_trained_tokens"]
    for start, end in pairwise(ends):
        assert sorted(trained_questions(steps[start:end], template)) == list(range(NUM))
    assert {len(found) for found in samples_of(steps[:first])} == {1}
    assert {len(found) for found in samples_of(steps[first:second])} == {1, 2}
    assert max(len(found) for found in samples_of(steps[second:])) > 2
    last = trained_questions(steps[ends[2] :], template)
    assert last == sorted(last) == list(range(NUM))
    rows = plan["phases"]
    assert rows[-1]["num_entries"] == NUM
    assert 0 == rows[0]["joined_share"] < rows[-1]["joined_share"]
    assert (rows[-1]["num_samples"] == NUM) == (template == "context")
    assert all((row["fill"] is None) == (packing == "none") for row in rows)
    if packing == "best_fit":
        assert all(0.3 < row["fill"] <= 1 for row in rows)
        assert max(step["tokens"] for step in shown) > talks.CUTOFF
    assert sum(row["tokens"] for row in rows) == sum(step["tokens"] for step in shown)


def test_context_is_seen_but_not_trained(tmp_path: Path) -> None:
    with trials.watched() as steps:
        talks.run(talks.settings(tmp_path, batching={"mode": "sequential"}, training={"epochs": 1}), "context")
    found = samples_of(steps)
    assert [numbers[-1] for numbers in found] == list(range(NUM))
    assert [1, 2, 3] in found  # the second conversation has four exchanges
    assert [1, 2, 3, 4] in found
    assert all(numbers == list(range(numbers[0], numbers[-1] + 1)) for numbers in found)


def test_single_entries_in_order(tmp_path: Path) -> None:
    batching = {"mode": "sequential", "sequential_joins": False}
    with trials.watched() as steps:
        talks.run(talks.settings(tmp_path, batching=batching, training={"epochs": 1}))
    assert samples_of(steps) == [[number] for number in range(NUM)]


# --- switches ------------------------------------------------------------------------------------------------------------------


def test_next_phase_now_goes_through_both(tmp_path: Path) -> None:
    config = talks.settings(tmp_path, batching={"switch_epochs": 2.9, "second_epochs": 2.9})
    folder = RunFolder(tmp_path / "loras/trial")
    events = trials.Events()
    events.on(3, lambda: change_control(folder.control, phase_requests=1))
    events.on(8, lambda: change_control(folder.control, phase_requests=2))
    with trials.watched() as steps:
        outcome, _ = talks.run(config, events=events)
    assert outcome.status == "finished"
    assert begins(events) == [(0, "length"), (4, "paired"), (9, "sequential")]
    assert [entry["cause"] for entry in events.all("phase")[1:]] == ["asked for by the user"] * 2
    assert {len(found) for found in samples_of(steps[:4])} == {1}
    assert sorted(set(trained_questions(steps, "joined"))) == list(range(NUM))
    rates = [entry["lr"] for entry in events.all("step")]
    assert rates[-1] < 0.05 * max(rates)  # the schedule ends where it should, whatever the switches did to the number of steps
    assert events.all("step")[-1]["epoch"] == 3


def test_each_loss_has_its_own_range_and_smoothing(tmp_path: Path) -> None:
    """The second window is shorter: it decides after two steps of its phase, the first after four."""
    first = {"switch_by": "loss", "switch_loss_low": 0, "switch_loss_high": 99, "switch_smoothing": 4, "switch_minimum": 0.0}
    second = {"second_by": "loss", "second_loss_low": 0, "second_loss_high": 98, "second_smoothing": 2, "second_minimum": 0.0}
    outcome, events = talks.run(talks.settings(tmp_path, batching={**first, **second}, training={"epochs": 2}))
    assert outcome.status == "finished"
    paired, sequential = events.all("phase")[1:]
    assert (paired["decided_at"], paired["step"]) == (4, 5)
    assert (sequential["decided_at"], sequential["step"]) == (7, 8)
    assert "in the range 0 to 99" in paired["cause"]
    assert "in the range 0 to 98" in sequential["cause"]
    plans = events.all("plan")
    ranges = [switch["steps"] for switch in plans[0]["switches"]]
    assert ranges[0][0] <= 4  # as early as the losses may come, as late as was set: after two epochs the run is over
    assert ranges[0][1] is ranges[1][1] is None
    assert [switch["steps"] for switch in plans[-1]["switches"]] == [(5, 5), (8, 8)]


def test_both_switches_can_be_gradual(tmp_path: Path) -> None:
    batching = {"switch_gradual": 0.6, "second_gradual": 0.7}
    with trials.watched() as steps:
        outcome, events = talks.run(talks.settings(tmp_path, 20, batching=batching, training={"epochs": 4}))
    assert outcome.status == "finished"
    shares = [(row["before"], row["phase"], row["new_share"]) for row in events.all("plan")[0]["phases"]]
    mixed = [(before, phase) for before, phase, share in shares if before and 0 < share < 1]
    assert ("length", "paired") in mixed
    assert ("paired", "sequential") in mixed
    numbers = trained_questions(steps, "joined")
    assert all(numbers.count(number) == 4 for number in set(numbers))


# --- resumed -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("template", "packing", "accumulation", "workers"),
    [
        ("joined", "none", 1, 0),
        ("context", "best_fit", 1, 2),
        ("joined", "ordered", 4, 2),
        ("context", "none", 4, 0),
    ],
)
def test_resumed_before_at_and_after_both_switches(
    tmp_path: Path, template: str, packing: str, accumulation: int, workers: int
) -> None:
    batching = {"packing": packing, "gradient_accumulation": accumulation, "true_batch_size": 1 if accumulation > 1 else 2}
    changes: dict[str, Any] = {"batching": batching}

    def config(place: str, **more: Any) -> Any:
        run = {"workers": workers, "adapters_dir": str(tmp_path / place)}
        return talks.settings(tmp_path, **{**changes, **more}, run=run)

    with trials.watched() as whole:
        outcome, events = talks.run(config("whole"), template)
    assert outcome.status == "finished", outcome.message
    first, second = (step for step, _ in begins(events)[1:])
    assert 0 < first < second < outcome.step - 1
    assert len({step[2] for step in whole}) == outcome.step  # the losses differ, so equal ones mean something
    for stop in sorted({first - 1, first, first + 1, second, second + 1} - {0}):
        with trials.watched() as parts:
            one, _ = talks.run(config(f"stop-{stop}"), template, stop_at=stop)
            assert (one.status, one.step) == ("interrupted", stop)
            two, later = talks.run(config(f"stop-{stop}", adapter={"if_exists": "resume"}), template)
        assert (two.status, two.step) == ("finished", outcome.step)
        assert parts == whole
        assert [[entry[key] for key in KEPT] for entry in later.all("step")] == [
            [entry[key] for key in KEPT] for entry in events.all("step")[stop:]
        ]
        assert trials.same(trials.weights(outcome.folder), trials.weights(two.folder))


@pytest.mark.parametrize("rank", [0, 1])
def test_two_processes_go_through_both_switches(two_ranks: Any, rank: int) -> None:
    folder, seen = two_ranks
    whole, first, second = (seen[rank]["two-stage"][part] for part in ("whole", "first", "second"))
    assert [part["status"] for part in (whole, first, second)] == ["finished", "interrupted", "finished"]
    assert 0 < first["step"] < whole["step"]
    assert first["seen"] + second["seen"] == whole["seen"]
    assert trials.same(trials.weights(folder / "two-stage-whole/trial"), trials.weights(folder / "two-stage-parts/trial"))
    both = [seen[other]["two-stage"]["whole"]["seen"] for other in range(2)]
    counts = Counter(number for seen_by in both for number in trained_questions(seen_by, "joined"))
    assert len(counts) == NUM
    filler = max(counts, key=counts.__getitem__)  # its tokens complete windows, without a label
    assert all(counts[number] == 3 for number in counts if number != filler)
    tokens = sum(step["trained_tokens"] for step in whole["steps"])
    assert whole["steps"] == [] or tokens == 3 * whole["reports"][0]["num_trained_tokens"]
    assert max(len(found) for seen_by in both for found in samples_of(seen_by)) > 2


# --- text and conversations together -------------------------------------------------------------------------------------------


def mix(folder: Path, mode: str, **changes: Any) -> Any:
    """Conversations and a text, half of each."""
    text = folder / "text.txt"
    text.write_text(
        "\n\n".join(f"Sentence {number} of the harbour. The keeper paints." for number in range(60)), encoding="utf-8"
    )
    data = {"text_file": str(text), "dataset_share": 0.5, "text_share": 0.5, "block_tokens": 48, "cutoff": 300}
    batching = {"mode": mode, "switch_epochs": 0.4, "second_epochs": 0.6}
    return talks.settings(folder, 20, data=data, batching=batching, **changes)


@pytest.mark.parametrize("mode", list(MODES))
def test_shares_of_text_and_conversations_in_every_mode(tmp_path: Path, mode: str) -> None:
    """Half of the conversations, drawn over all of them; each mode trains the same of them once an epoch."""
    with trials.watched() as steps:
        outcome, events = talks.run(mix(tmp_path, mode, training={"epochs": 1}))
    assert outcome.status == "finished", outcome.message
    report = events.all("prepared")[0]["report"]
    more = sum(step["trained_tokens"] for step in events.all("step")) - report["num_trained_tokens"]
    # a block's first token is trained where it stands behind another
    assert (0 <= more < report["num_samples"]) if PHASES_JOIN[mode] else more == 0
    numbers = [number for found in samples_of(steps) for number in found]
    assert len(numbers) == len(set(numbers)) > 10
    all_numbers = sum(1 + talk * 3 % 5 for talk in range(20))
    assert len(numbers) < 0.75 * all_numbers
    assert min(numbers) < all_numbers / 3
    assert max(numbers) > 2 * all_numbers / 3  # not the head of the file
    assert any("Sentence" in _text(sample) for step in steps for batch in step[1] for sample in batch)


def _text(sample: list[int]) -> str:
    return str(tiny.tokenizer().decode(sample))


# --- before the run ------------------------------------------------------------------------------------------------------------


def checked(config: Any) -> Any:
    from training_pro.training.check import check_run

    return check_run(config, lambda: (tiny.model(), talks.tokenizer("joined")))


def test_check_warns_of_overlaps_that_keep_blocks_apart(tmp_path: Path) -> None:
    """With overlap blocks between them no two blocks are one sample; left out, they no longer separate."""
    text = tmp_path / "text.txt"
    text.write_text(" ".join(f"Sentence {number} of the harbour. The keeper paints." for number in range(60)), encoding="utf-8")
    data = {"dataset": "", "text_file": str(text), "block_tokens": 48, "cutoff": 200, "overlap": 0.4}
    apart = checked(talks.settings(tmp_path, data=data, batching={"mode": "sequential"}))
    assert apart.problems == []
    assert any("overlap blocks stand between others, which are not joined across them" in line for line in apart.warnings)
    assert apart.plan["phases"][0]["joined_share"] == 0
    together = checked(talks.settings(tmp_path, data=data, batching={"mode": "sequential", "sequential_overlaps": False}))
    assert not any("stand between others" in line for line in together.warnings)
    assert together.plan["phases"][0]["joined_share"] > 0.9


@pytest.mark.parametrize("mode", ["length", "paired", "sequential"])
def test_the_preview_shows_the_packs_of_the_first_phase(tmp_path: Path, mode: str) -> None:
    config = talks.settings(tmp_path, batching={"mode": mode, "packing": "best_fit"}, data={"entry": "exchange"})
    _, packs = prepare_samples(config, None, talks.tokenizer("joined"))
    assert packs is not None
    assert sorted(number for pack in packs for number in pack) == list(range(NUM))
    assert max(map(len, packs)) > 2
    assert packs != [[number] for number in range(NUM)]
