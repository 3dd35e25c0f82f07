"""The plan on a terminal: the table, the picture of characters, and terminals that have no blocks."""

from typing import Any

import pytest
from training_pro.runs.check_report import CheckReport
from training_pro.terminal_plan import BLOCKS, PLAIN, phase_strip, phase_table, plan_page, plan_table, schedule_picture

PLAN: dict[str, Any] = {
    **{"num_steps": 1500, "num_epochs": 2.5, "steps_per_epoch": [600, 600, 300], "num_batches": 3000, "batch_size": 4},
    **{"accumulation": 2, "world_size": 1, "num_samples": 4800, "warmup_steps": 150, "learning_rate": 3e-4},
    **{"schedule": "linear", "schedule_words": "Down.", "learning_rates": [(0, 0.0), (750, 3e-4), (1500, 0.0)]},
}
REPORT = {"num_tokens": 1_234_567, "num_trained_tokens": 2000}


def table(**changes: Any) -> dict[str, str]:
    lines = plan_table({**PLAN, **changes}, REPORT)
    width = len("samples per step")
    return {line[:width].strip(): line[width + 2 :] for line in lines}


def test_the_table_literally() -> None:
    assert table() == {
        "steps": "1,500",
        "epochs": "2.5",
        "steps per epoch": "600, 600, 300",
        "warm-up": "150 steps (10% of the run)",
        "batches": "3,000",
        "samples per step": "4 × 2 = 8",
        "samples": "4,800",
        "tokens": "1,234,567, of which 2,000 are trained, each epoch",
        "learning rate": "0.0003",
        "schedule": "linear: Down.",
    }


def test_other_plans() -> None:
    assert table(warmup_steps=0)["warm-up"] == "none"
    assert table(accumulation=1)["samples per step"] == "4"
    assert table(world_size=3)["samples per step"] == "4 × 2 × 3 = 24"
    assert table(steps_per_epoch=[7] * 20)["steps per epoch"] == "7"
    assert table(steps_per_epoch=list(range(1, 21)))["steps per epoch"] == "1, 2, 3, 4, 5, 6, 7, 8, ..."
    packed = plan_table({**PLAN, "packing": "best_fit", "num_packs": 400}, REPORT)
    assert "packs per step   4 × 2 = 8" in packed
    assert "samples          4,800 in 400 packs" in packed


def test_the_picture_literally() -> None:
    points = [(0, 0.0), (1, 0.25), (2, 0.5), (3, 0.75), (4, 1.0)]
    assert schedule_picture(points, width=5, height=2) == [
        "1 |   ▄█",
        "0 | ▄███",
        "   ste" + "p 0" + "4",
    ]
    assert schedule_picture(points, width=9, height=2, levels=PLAIN) == [
        "1 |      ::#",
        "0 |  ::#####",
        "   step 0  4",
    ]


def test_a_column_shows_the_step_that_it_begins_with() -> None:
    """A jump stays a jump; nothing is drawn between two steps that is in neither."""
    first, last, _ = schedule_picture([(0, 1.0), (2, 0.5), (4, 0.5)], width=9, height=2)
    assert first == "1 |████"
    assert last == "0 |█████████"


@pytest.mark.parametrize("rate", [0.0, 1e-5])
def test_a_rate_that_does_not_move(rate: float) -> None:
    lines = schedule_picture([(0, rate), (9, rate)], width=10, height=3)
    assert len(lines) == 4
    assert [line.count("█") for line in lines] == ([0, 0, 0, 0] if rate == 0 else [10, 10, 10, 0])


ROW = {
    **{"phase": "length", "before": "", "begin": 0.0, "end": 1.0, "num_steps": 600, "num_samples": 2400, "joined_share": 0.0},
    **{"tokens": 61_728, "padding_share": 0.0123, "num_packs": None, "fill": None},
}
GROWING = {**ROW, "phase": "paired", "before": "length", "begin": 1.0, "end": 1.5, "num_steps": 600, "joined_share": 0.256}
LAST = {**ROW, "phase": "paired", "begin": 1.5, "end": 2.5, "num_steps": 300, "num_samples": 1300, "joined_share": 0.91}
SWITCH = {"phase": "paired", "cause": "after 1 epoch", "steps": (600, 600), "epochs": (1.0, 1.0)}


def test_the_phases_literally() -> None:
    ranges = [
        SWITCH,
        {**SWITCH, "steps": (300, 1000), "epochs": (0.5, 1.66667), "cause": "at the latest after 2 epochs"},
        {**SWITCH, "steps": (300, None), "epochs": (0.5, None), "cause": "when the loss allows it"},
    ]
    assert phase_table({**PLAN, "phases": [ROW, GROWING, LAST], "switches": ranges}) == [
        "phase            epochs      steps  samples  joined  tokens  padding",
        "length           0 to 1        600    2,400      0%  61,728     1.2%",
        "length > paired  1 to 1.5      600    2,400     26%  61,728     1.2%",
        "paired           1.5 to 2.5    300    1,300     91%  61,728     1.2%",
        "switch to paired: after step 600 (epoch 1); after 1 epoch",
        "switch to paired: between step 300 and 1,000 (epoch 0.5 to 1.667); at the latest after 2 epochs",
        "switch to paired: after step 300 (epoch 0.5) at the earliest, perhaps not within this run; when the loss allows it",
    ]
    packed = phase_table({**PLAN, "phases": [{**ROW, "num_packs": 1500, "fill": 0.9876}]})
    assert packed == [
        "phase   epochs  steps  samples  joined  tokens  padding  packs   full",
        "length  0 to 1    600    2,400      0%  61,728     1.2%  1,500  98.8%",
    ]
    assert phase_table(PLAN) == []


def test_the_strip_of_phases() -> None:
    assert phase_strip({"phases": [ROW, GROWING, LAST]}, width=11) == "llllplplppp"
    plan = {**PLAN, "phases": [ROW, GROWING, LAST], "switches": [SWITCH]}
    page = plan_page(CheckReport(plan=plan, report=REPORT), "utf-8")
    assert "switch to paired: after step 600 (epoch 1); after 1 epoch" in page
    assert page[-1].strip() == "l length, p paired"
    assert page[-2].strip() == phase_strip(plan)
    assert page[-2].index("l") == page[-3].index("step 0")
    assert plan_page(CheckReport(plan={**PLAN, "phases": [ROW]}, report=REPORT), "utf-8")[-1].endswith(
        "1,500"
    )  # one phase: no strip


def test_the_page() -> None:
    result = CheckReport(plan=PLAN, report=REPORT, warnings=["Look out."])
    page = "\n".join(plan_page(result, "utf-8"))
    assert "4 × 2 = 8" in page
    assert BLOCKS[-1] in page
    assert page.endswith("warning: Look out.")


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", None, "no such encoding"])
def test_a_terminal_without_blocks(encoding: str | None) -> None:
    page = "\n".join(plan_page(CheckReport(plan=PLAN, report=REPORT), encoding))
    assert "#####" in page
    assert page.encode(encoding if encoding in ("ascii", "cp1252") else "ascii")


def test_problems_instead_of_a_plan() -> None:
    assert plan_page(CheckReport(problems=["No data."]), "utf-8") == ["This cannot start:", "  No data."]
