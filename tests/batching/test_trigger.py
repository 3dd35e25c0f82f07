"""The loss that ends a phase: weighted, smoothed, deaf to one noisy step."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from training_pro.batching.course import LOSS_RANGES, MINIMUM_EPOCHS, MODES, SMOOTHING_STEPS
from training_pro.batching.trigger import LossWindow, loss_cause
from training_pro.hybrid_batching import PHASES, Course, Transition

COURSE = Course(("length", "sequential"), (Transition("loss"),))


def window(losses: list[float], trained: int = 10, size: int = SMOOTHING_STEPS) -> LossWindow:
    made = LossWindow(size)
    for loss in losses:
        made.add(loss * trained, trained)
    return made


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        ([2.4] * 10, "smoothed loss 2.400 is in the range 2 to 2.5"),
        ([2.5] * 10, "smoothed loss 2.500 is in the range 2 to 2.5"),
        ([1.2] * 10, "smoothed loss 1.200 is below the range 2 to 2.5"),
        ([2.51] * 10, ""),
        ([2.4] * 9, ""),  # not full yet
        ([2.6] * 9 + [0.1], ""),  # the mean is 2.35, but one step alone made it so
        ([0.1] + [2.6] * 9, ""),
        ([2.6] * 8 + [1.0] * 2, "smoothed loss 2.280 is in the range 2 to 2.5"),  # two low steps are not one
        ([2.4] * 9 + [9.0], ""),  # a spike holds it back while it is in the window
        ([9.0] + [2.4] * 10, "smoothed loss 2.400 is in the range 2 to 2.5"),
    ],
)
def test_when_the_loss_ends_a_phase(losses: list[float], expected: str) -> None:
    assert loss_cause(COURSE, 0, 1.0, window(losses)) == expected


def test_a_phase_lasts_its_minimum() -> None:
    course = Course(("length", "sequential"), (Transition("loss", minimum=0.75),))
    low = window([2.2] * 10)
    assert loss_cause(course, 0, 0.74, low) == ""
    assert loss_cause(course, 0, 0.75, low) != ""
    # a phase that grows in gradually counts from where it has all batches
    course = Course(("length", "paired", "sequential"), (Transition(gradual=0.5), Transition("loss", loss_range=LOSS_RANGES[1])))
    low = window([1.7] * 10)
    assert loss_cause(course, 1, 0.99, low) == ""
    assert loss_cause(course, 1, 1.0, low) == "smoothed loss 1.700 is in the range 1.5 to 2"


def test_only_where_a_loss_is_waited_for() -> None:
    low = window([0.5] * 10)
    assert loss_cause(Course(("length", "sequential"), (Transition("epochs"),)), 0, 9, low) == ""
    assert loss_cause(COURSE, 1, 9, low) == ""  # the last phase


def test_steps_weigh_as_many_tokens_as_they_train() -> None:
    made = LossWindow(3)
    assert math.isnan(made.mean)
    for loss, trained in ((4.0, 10), (1.0, 30), (2.0, 60), (3.0, 0)):
        made.add(loss * trained, trained)
    assert made.is_full  # the step without a trained token is none
    assert made.mean == pytest.approx((40 + 30 + 120) / 100)
    assert made.highest_without_one == pytest.approx((40 + 120) / 70)
    made.clear()
    assert not made.is_full


@given(st.lists(st.floats(2.51, 9), min_size=9, max_size=9), st.integers(0, 9), st.integers(1, 10_000), st.floats(0, 2))
def test_one_noisy_step_triggers_nothing(losses: list[float], place: int, trained: int, noise: float) -> None:
    """However low it is and however many tokens it has."""
    made = LossWindow()
    for number, loss in enumerate([*losses[:place], noise, *losses[place:]]):
        weight = trained if number == place else 10
        made.add(loss * weight, weight)
    assert made.is_full
    assert loss_cause(COURSE, 0, 5.0, made) == ""


def test_a_window_is_kept_in_a_checkpoint() -> None:
    made = window([1.0, 2.0, 3.0], size=3)
    loaded = LossWindow(3)
    loaded.load(made.state())
    assert (loaded.mean, loaded.is_full) == (made.mean, True)
    shorter = LossWindow(2)
    shorter.load(made.state())
    assert shorter.mean == 2.5


def test_a_window_of_one_step() -> None:
    with pytest.raises(ValueError, match="one step alone must not trigger a switch. Got: 1. Take at least 2 steps"):
        LossWindow(1)


# --- the course ----------------------------------------------------------------------------------------------------------------


def test_modes_are_made_of_phases() -> None:
    assert {phase for phases in MODES.values() for phase in phases} <= set(PHASES)
    assert (MINIMUM_EPOCHS, LOSS_RANGES) == (0.5, ((2.0, 2.5), (1.5, 2.0)))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"by": "mood"}, "Transition: 'mood' is unknown. Choose from epochs, steps, loss"),
        ({"epochs": 0.0}, "a phase lasts longer than 0 epochs. Got: 0.0"),
        ({"by": "steps", "steps": 0}, "a phase has at least 1 step. Got: 0"),
        ({"by": "loss", "loss_range": (3.0, 2.0)}, "from the lower to the higher loss. Got: 3.0 to 2.0"),
        ({"by": "loss", "minimum": 1.0, "latest": 0.5}, "at the latest after 0.5 epochs, but lasts at least 1.0"),
        ({"gradual": -1.0}, "lengths cannot be negative"),
    ],
)
def test_impossible_transitions(options: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Transition(**options)


def test_what_is_not_used_may_be_anything() -> None:
    assert Transition("epochs", steps=0, loss_range=(3.0, 2.0), minimum=2.0, latest=1.0).epochs == 1.0
    assert Transition("steps", epochs=0.0).steps == 1


def test_as_many_transitions_as_there_are_borders() -> None:
    with pytest.raises(ValueError, match="between 2 phases there are 1 transitions. Got: 0"):
        Course(("length", "sequential"))
