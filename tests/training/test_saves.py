"""When a run saves by itself: the decisions as pure logic, then in runs of the tiny model, also killed ones."""

from pathlib import Path
from typing import Any

import pytest
import trials
from hypothesis import given
from hypothesis import strategies as st
from training_pro.runs.checkpoints import find_checkpoints
from training_pro.runs.control import change_control
from training_pro.training.saves import SaveRules, SaveWatch, StepFacts, checkpoint_name


def facts(step: int, loss: float = 2.0, **more: Any) -> StepFacts:
    return StepFacts(step, smoothed_loss=loss, **{"is_stable": True, **more})


def causes(watch: SaveWatch, losses: list[float], first: int = 1) -> list[str]:
    return [watch.cause(facts(first + number, loss)) for number, loss in enumerate(losses)]


# --- pure logic ----------------------------------------------------------------------------------------------------------------


def test_nothing_is_wanted() -> None:
    watch = SaveWatch(SaveRules())
    watch.add_time(1e9)
    assert not watch.time_is_up
    assert causes(watch, [3.0, 2.0, 0.1]) == ["", "", ""]
    assert not watch.evaluated(1.0)


def test_a_loss_that_falls_from_a_start_value() -> None:
    """Training PRO's mode: at or under the start value, then each time it is a tenth lower than at the last save."""
    watch = SaveWatch(SaveRules(fall=0.1, fall_start=1.8))
    assert causes(watch, [2.5, 1.9, 1.8, 1.7, 1.63, 1.62, 1.5, 1.4, 1.45]) == ["", "", "fall", "", "", "fall", "", "fall", ""]


def test_without_a_start_value_it_counts_from_the_first_stable_loss() -> None:
    watch = SaveWatch(SaveRules(fall=0.1))
    assert watch.cause(facts(1, 3.0, is_stable=False)) == ""
    assert causes(watch, [2.0, 1.81, 1.8, 1.7, 1.62], first=2) == ["", "", "fall", "", "fall"]


def test_a_loss_that_is_not_stable_saves_nothing() -> None:
    """One noisy step at the begin is no fall."""
    watch = SaveWatch(SaveRules(fall=0.1, fall_start=1.8))
    assert [watch.cause(facts(step, 0.1, is_stable=False)) for step in (1, 2)] == ["", ""]
    assert watch.cause(facts(3, 1.7)) == "fall"


def test_time_counts_from_the_last_checkpoint() -> None:
    watch = SaveWatch(SaveRules(every_minutes=2))
    watch.add_time(119)
    assert not watch.time_is_up
    watch.add_time(1)
    assert watch.time_is_up
    assert watch.cause(facts(1, time_is_up=watch.time_is_up)) == "minutes"
    watch.saved()
    assert not watch.time_is_up


def test_the_user_comes_first_and_a_fall_is_not_forgotten() -> None:
    """Several causes at a step make one checkpoint; each of them has had its turn."""
    watch = SaveWatch(SaveRules(every_steps=1, every_epoch=True, fall=0.1, fall_start=1.8))
    everything = {"is_last": True, "at_epoch_end": True, "time_is_up": True}
    assert watch.cause(facts(1, 1.8, **everything), asked=True, stops=True) == "user"
    assert watch.cause(facts(2, 1.8, **everything), stops=True) == "stop"
    assert watch.cause(facts(3, 1.8, **everything)) == "end"
    assert watch.cause(facts(4, 1.8, at_epoch_end=True)) == "epoch"
    assert watch.cause(facts(5, 1.8)) == "steps"  # the fall to 1.8 was in step 1
    assert watch.cause(facts(6, 1.6)) == "fall"


def test_only_a_better_evaluation_is_saved() -> None:
    watch = SaveWatch(SaveRules(best_eval=True))
    assert [watch.evaluated(loss) for loss in (2.0, 2.1, float("nan"), 2.0, 1.9)] == [True, False, False, False, True]
    off = SaveWatch(SaveRules())
    assert not off.evaluated(2.0)
    on = SaveWatch(SaveRules(best_eval=True))
    on.load(off.state())
    assert not on.evaluated(2.5)  # the best of the run so far is known


LOSSES = st.lists(st.floats(0.01, 5), min_size=1, max_size=60)


@given(LOSSES, st.integers(0, 60), st.sampled_from([0.0, 1.8]), st.floats(0.01, 0.9))
def test_a_resumed_run_decides_as_one_that_was_not_killed(losses: list[float], cut: int, start: float, fall: float) -> None:
    rules = SaveRules(fall=fall, fall_start=start, best_eval=True)
    whole = SaveWatch(rules)
    wanted = [(cause, whole.evaluated(loss)) for cause, loss in zip(causes(whole, losses), losses, strict=True)]
    first = SaveWatch(rules)
    seen = [(first.cause(facts(1, loss)), first.evaluated(loss)) for loss in losses[:cut]]
    second = SaveWatch(rules)
    second.load(first.state())
    seen += [(second.cause(facts(1, loss)), second.evaluated(loss)) for loss in losses[cut:]]
    # the evaluations of `whole` come after all its steps; the two do not touch each other
    assert [cause for cause, _ in seen] == [cause for cause, _ in wanted]
    assert [best for _, best in seen] == [best for _, best in wanted]


@given(LOSSES, st.floats(0.01, 0.9))
def test_each_save_is_lower_than_the_last_by_that_share(losses: list[float], fall: float) -> None:
    watch = SaveWatch(SaveRules(fall=fall))
    saved = [loss for loss, cause in zip(losses, causes(watch, losses), strict=True) if cause]
    for earlier, later in zip([losses[0], *saved], saved, strict=False):
        assert later <= earlier * (1 - fall)


def test_another_fall_begins_anew_after_a_resume() -> None:
    first = SaveWatch(SaveRules(fall=0.1, fall_start=1.8))
    causes(first, [1.8])
    second = SaveWatch(SaveRules(fall=0.5, fall_start=1.0))
    second.load(first.state())
    assert causes(second, [1.7, 1.0, 0.5]) == ["", "fall", "fall"]


def test_names() -> None:
    assert [checkpoint_name(12, cause) for cause in ("user", "stop", "fall", "")] == [
        *("checkpoint-12-user", "checkpoint-12", "checkpoint-12", "checkpoint-12"),
    ]


# --- in runs -------------------------------------------------------------------------------------------------------------------

QUIET = {"save_every_epoch": False, "keep_last": 0}


def learning(tmp_path: Path, name: str = "trial", **changes: Any) -> Any:
    """A run of 30 steps that learns its four samples by heart."""
    training = {"epochs": 15.0, "learning_rate": 0.005, "schedule": "constant"}
    adapter = {"name": name, "method": "full", **changes.pop("adapter", {})}
    return trials.settings(tmp_path, 4, adapter=adapter, training=training, **changes)


def saved(events: trials.Events) -> list[tuple[int, str]]:
    return [(entry["step"], entry["cause"]) for entry in events.all("checkpoint")]


def test_a_run_saves_each_time_its_loss_falls(tmp_path: Path) -> None:
    _, events = trials.run(learning(tmp_path, checkpoints={**QUIET, "save_on_loss_fall": 10}))
    smoothed = {entry["step"]: entry["smoothed_loss"] for entry in events.all("step")}
    wanted, target = [], smoothed[10] * 0.9  # ten steps are averaged
    for step in range(11, 30):
        if smoothed[step] <= target:
            wanted.append((step, "fall"))
            target = smoothed[step] * 0.9
    assert len(wanted) > 3
    assert saved(events) == [*wanted, (30, "end")]
    for entry in events.all("checkpoint"):
        assert entry["loss"] == pytest.approx(smoothed[entry["step"]], abs=1e-5)


def test_a_killed_run_saves_where_an_unbroken_one_does(tmp_path: Path) -> None:
    checkpoints = {
        "save_every_epoch": False,
        "keep_last": 0,
        "save_on_loss_fall": 5,
        "save_loss_start": 4.0,
        "save_best_eval": True,
    }
    data = {"eval_dataset": str(trials.chat_rows(tmp_path, 4))}
    more: dict[str, Any] = {"checkpoints": {**checkpoints, "eval_every_steps": 3}, "data": data}
    _, events = trials.run(learning(tmp_path, "whole", **more))
    whole = saved(events)
    assert {cause for _, cause in whole} == {"fall", "best", "end"}
    _, first = trials.run(learning(tmp_path, **more), stop_at=16)
    _, second = trials.run(learning(tmp_path, adapter={"if_exists": "resume"}, **more))
    parts = [entry for entry in saved(first) if entry[1] != "stop"] + saved(second)
    assert [entry for entry in parts if entry[0] != 16] == [entry for entry in whole if entry[0] != 16]


def test_the_best_evaluation_is_saved_and_kept(tmp_path: Path) -> None:
    """The learning rate becomes far too high in the middle: the best evaluation is not the last."""
    checkpoints = {
        "save_every_epoch": False,
        "save_every_steps": 6,
        "keep_last": 1,
        "save_best_eval": True,
        "eval_every_steps": 2,
    }
    more: dict[str, Any] = {"data": {"eval_dataset": str(trials.chat_rows(tmp_path, 4))}}

    def train(name: str, **change: Any) -> Any:
        events = trials.Events()
        events.on(9, lambda: change_control(tmp_path / f"loras/{name}/control.json", lr_scale=40.0))
        events.on(18, lambda: change_control(tmp_path / f"loras/{name}/control.json", stop=True))
        return trials.run(learning(tmp_path, name, checkpoints={**checkpoints, **change}, **more), events=events)

    outcome, events = train("trial")
    losses = {entry["step"]: entry["loss"] for entry in events.all("evaluation") if entry["step"]}
    best = min(losses, key=lambda step: losses[step])
    assert 0 < best < max(losses)
    running, wanted = float("inf"), []
    for step, loss in losses.items():
        if loss < running:
            running = loss
            wanted.append(step)
    assert [step for step, cause in saved(events) if cause == "best"] == [step for step in wanted if step % 6]
    kept = {checkpoint.step: checkpoint for checkpoint in find_checkpoints(outcome.folder)}
    assert set(kept) == {best, 18}
    assert kept[best].eval_loss == losses[best]
    without, _ = train("without", keep_best=False)
    assert [checkpoint.step for checkpoint in find_checkpoints(without.folder)] == [18]


def test_saves_by_time(tmp_path: Path) -> None:
    _, events = trials.run(trials.settings(tmp_path, checkpoints={**QUIET, "save_every_minutes": 1e-6}))
    assert saved(events) == [*((step, "minutes") for step in range(1, 13)), (13, "end")]
    _, events = trials.run(trials.settings(tmp_path, adapter={"name": "slow"}, checkpoints={**QUIET, "save_every_minutes": 60}))
    assert saved(events) == [(13, "end")]


def test_what_was_resumed_stays_until_the_run_is_over(tmp_path: Path) -> None:
    """Until then the user may discard what came after it."""
    checkpoints = {"save_every_steps": 2, "save_every_epoch": False, "keep_last": 1}
    trials.run(trials.settings(tmp_path, checkpoints=checkpoints), stop_at=3)
    names: list[list[int]] = []
    folder = find_checkpoints
    events = trials.Events()

    def look() -> None:
        from training_pro.runs.store import RunFolder

        names.append([checkpoint.step for checkpoint in folder(RunFolder(tmp_path / "loras/trial"))])

    events.on(9, look)
    outcome, _ = trials.run(trials.settings(tmp_path, adapter={"if_exists": "resume"}, checkpoints=checkpoints), events=events)
    assert names == [[3, 8]]
    assert [checkpoint.step for checkpoint in find_checkpoints(outcome.folder)] == [13]
