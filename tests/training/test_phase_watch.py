"""What watches the phases: losses of a phase count for it alone; and phases that leave something out, so that the plan shrinks."""

from pathlib import Path
from typing import Any

import pytest
import tiny
import trials
from training_pro.hybrid_batching import Course, HybridBatchSampler, Transition
from training_pro.runs.control import change_control
from training_pro.runs.store import RunFolder
from training_pro.training.loss import StepLoss
from training_pro.training.phases import PhaseWatch


def watch(num_epochs: float = 4) -> tuple[PhaseWatch, HybridBatchSampler, trials.Events]:
    """Three phases, two transitions by loss; 10 steps an epoch."""
    transitions = (
        Transition("loss", minimum=0.2, smoothing=2),
        Transition("loss", loss_range=(1.5, 2.0), minimum=0.0, smoothing=2),
    )
    course = Course(("length", "shuffled", "sequential"), transitions)
    sampler = HybridBatchSampler([1] * 20, batch_size=2, num_epochs=num_epochs, phase=course)
    events = trials.Events()
    return PhaseWatch(sampler, events), sampler, events


def train(made: PhaseWatch, sampler: HybridBatchSampler, losses: list[float], ahead: int = 1) -> None:
    """A step for each loss, with a batch drawn ahead."""
    for step, loss in enumerate(losses, start=1):
        sampler.num_drawn = step + ahead
        made.switch(step, made.add(step, StepLoss(loss * 10, 10, 10)), 0)


def test_losses_of_a_phase_count_for_it_alone() -> None:
    made, sampler, events = watch()
    made.begin()
    # decided after step 2, effective after step 3; the losses of steps 1 to 3 are low enough for the second transition too
    train(made, sampler, [1.8, 1.8, 1.8, 1.9, 1.9])
    assert [(entry["step"], entry["phase"], entry["decided_at"]) for entry in events.all("phase")] == [
        (0, "length", None),
        (3, "shuffled", 2),
    ]
    assert [switch.cause for switch in sampler.journal] == [
        "smoothed loss 1.800 is below the range 2 to 2.5",
        "smoothed loss 1.900 is in the range 1.5 to 2",
    ]
    assert [sampler.plan.step_of(switch) for switch in sampler.plan.switches] == [3, 6]


def test_a_decided_switch_is_not_decided_again() -> None:
    made, sampler, events = watch()
    train(made, sampler, [2.2, 2.2, 2.2, 2.2], ahead=6)
    assert len(sampler.journal) == 1
    assert events.texts().count("The phase 'shuffled' begins after step 8") == 1


def test_a_loss_that_is_below_the_range_from_the_beginning() -> None:
    made, sampler, events = watch()
    sampler.course.transitions[0].__dict__["minimum"] = 0.5
    train(made, sampler, [1.0, 1.0, 1.0])
    assert "is below 2 already, so that the phase 'length' ends after its shortest length of 0.5 epochs" in events.texts()
    assert events.texts().count("already") == 1
    assert sampler.journal == ()


def test_next_phase_asked_for_where_it_is_decided() -> None:
    made, sampler, events = watch()
    sampler.num_drawn = 6
    assert made.switch(1, "", 1)
    assert not made.switch(2, "", 1)  # the same request
    assert not made.switch(3, "", 2)
    assert "Next phase now: 'shuffled' begins after step 6 already." in events.texts()
    sampler.num_drawn = 40
    assert not made.switch(39, "", 3)
    assert "Next phase now: the run ends with the batches that are already drawn." in events.texts()


# --- texts whose overlap blocks the second phase leaves out --------------------------------------------------------------------


def text_run(folder: Path, **changes: Any) -> Any:
    """Blocks of a text of 60 sentences with overlap blocks between them; hybrid, without these in the second phase."""
    path = folder / "text.txt"
    words = tiny.WORDS
    path.write_text(" ".join(f"Sentence {n} tells of {words[n % len(words)]}." for n in range(60)), encoding="utf-8")
    batching = {"true_batch_size": 1, "mode": "hybrid", "switch_epochs": 9, "sequential_overlaps": False}
    data = {"dataset": "", "text_file": str(path), "cutoff": 64, "overlap": 0.5}
    training = {"epochs": 2, "schedule": "linear", "warmup_steps": 0, "learning_rate": 0.01}
    return trials.settings(folder, batching=batching, data=data, training=training, **changes)


def sentences(step: Any) -> tuple[int, int]:
    """The first and the last whole sentence of the block that a step trained."""
    import re

    ((block,),) = step[1]
    found = [int(number) for number in re.findall(r"Sentence (\d+) tells", tiny.tokenizer().decode(block))]
    return found[0], found[-1]


@pytest.mark.parametrize("when", [3, 0])
def test_a_plan_that_shrinks_still_ends_where_it_should(tmp_path: Path, when: int) -> None:
    """``when`` = 0: in the first epoch nothing is asked for; the second begins by plan."""
    config = text_run(tmp_path)
    if not when:
        config.batching.switch_epochs = 1.0
    folder, events = RunFolder(tmp_path / "loras/trial"), trials.Events()
    if when:
        events.on(when, lambda: change_control(folder.control, phase_requests=1))
    with trials.watched() as steps:
        outcome, _ = trials.run(config, events=events)
    assert (outcome.status, outcome.step) == ("finished", len(steps))
    plan = events.all("plan")[-1]
    per_epoch = plan["steps_per_epoch"]
    assert sum(per_epoch) == len(steps) == plan["num_steps"]
    begins = events.all("phase")[1]["step"]
    assert begins == (when + 1 if when else per_epoch[0])
    first = events.all("plan")[0]["steps_per_epoch"][0]  # all blocks, overlaps too
    assert per_epoch[1] < first
    # in order, block after block, no sentence twice in the second epoch
    blocks = [sentences(step) for step in steps[per_epoch[0] :]]
    assert blocks == sorted(blocks)
    assert all(after[0] == before[1] + 1 for before, after in zip(blocks, blocks[1:], strict=False))
    assert (blocks[0][0], blocks[-1][1]) == (0, 59)
    # progress and the rate end where they belong, epochs are saved at their ends
    progress = [entry["epoch"] for entry in events.all("step")]
    assert progress == sorted(progress)
    assert (progress[per_epoch[0] - 1], progress[-1]) == (1.0, 2.0)
    rates = [entry["lr"] for entry in events.all("step")]
    assert rates == sorted(rates, reverse=True)
    assert rates[per_epoch[0]] == pytest.approx(0.005)
    assert [entry["step"] for entry in events.all("checkpoint")] == [per_epoch[0], sum(per_epoch)]
    assert "blocks are left out in that phase" in events.texts()
