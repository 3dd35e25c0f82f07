"""Report of Check, box of problems, line about the model: what they say, and that nothing unescaped gets through."""

import re
from html import unescape

import pytest
from fake_host import CHECK_RESULT
from training_pro.config import ConfigError, Problem
from training_pro.data.report import DataReport
from training_pro.ui import words
from training_pro.ui.facts import model_html
from training_pro.ui.host import CheckResult
from training_pro.ui.problems import NO_PROBLEMS, error_problems, problems_html
from training_pro.ui.report import data_facts, memory_facts, plan_facts, report_html, schedule_html

EVIL = '</style><img src=x onerror="alert(1)">'


def test_the_report_shows_what_a_user_asks_for() -> None:
    html = report_html(CHECK_RESULT, save_every_steps=50)
    assert 'data-status="ok"' in html
    text = re.sub(r"<[^>]+>", " ", html)
    for words_of_it in (
        *("812 read, 2 broken", "810", "1,000, of which 500 trained (50%)", "90, 80 tokens"),
        *("203, 1 epoch of 203", "20 steps (10% of the run)", "every 50 steps, 4 in all", "about 2.0 GB"),
        *("/data/animals.jsonl:17", "and 1 more", "Warm-up is 0."),
    ):
        assert words_of_it in text


def test_the_mix_is_shown() -> None:
    entry = {"label": "Data set", "name": "<a>.jsonl", "samples": 30, "share": 1.0, "used": 30, "held_out": 0, "at_border": 0}
    entry |= {"left_out": 26, "entries": 4, "repeats": 1.0, "part": 0.25}
    html = report_html(CheckResult(report={"sources": [entry, {**entry, "name": "b.jsonl", "left_out": 0, "repeats": 7.5}]}))
    assert "Data set &lt;a&gt;.jsonl: 30 samples, 26 left out by the mix; 25.0% of the trained data&#x27;s tokens" in html
    assert "b.jsonl: 30 samples, each trained 7.5 times an epoch" in html


def test_problems_come_first_and_are_marked() -> None:
    html = report_html(CheckResult(problems=["The data set is empty."]))
    assert 'data-status="problems"' in html
    assert "The data set is empty." in html
    assert "<table" not in html


def test_the_report_is_escaped() -> None:
    rows = [{"file": EVIL, "line": EVIL, "reason": EVIL}]
    report = {"files": [{"file": EVIL, "format": EVIL, "encoding": EVIL}], "num_broken": 1, "broken": rows, "notes": [EVIL]}
    suggestions = {EVIL: (EVIL, EVIL)}
    html = report_html(
        CheckResult([EVIL], [EVIL], {**report, "too_long": rows, "num_too_long": 1}, {"num_steps": 1}, {}, suggestions)
    )
    assert "<img" not in html


def test_long_paths_are_shortened_at_the_front() -> None:
    facts = data_facts({"files": [{"file": "/home/me/sets/animals.jsonl", "format": "messages", "encoding": "utf-8"}]})
    assert facts[0] == ("File", "…/sets/animals.jsonl: messages, utf-8")


def test_an_empty_data_report_breaks_nothing() -> None:
    assert dict(data_facts(DataReport().to_dict()))["Rows"] == "0 read"
    assert data_facts({}) == plan_facts({}) == memory_facts({}) == []


def test_epochs_of_different_length_are_listed() -> None:
    plan = {"num_steps": 25, "num_epochs": 2.5, "steps_per_epoch": [10, 10, 5]}
    assert ("Steps", "25, 2.5 epochs of 10, 10, 5") in plan_facts(plan)
    assert plan_facts({"num_steps": 90, "num_epochs": 9.0, "steps_per_epoch": list(range(9))})[0][1].endswith("4, 5, …")


def test_the_schedule_is_drawn_before_one_trains() -> None:
    plan = {"schedule": "linear", "schedule_words": f"Down. {EVIL}", "learning_rates": [(0, 2e-4), (50, 1e-4), (100, 0.0)]}
    html = schedule_html(plan)
    (line,) = re.findall(r'<path class="tph-line tph-rate" d="M([^"]+)"', html)
    places = [tuple(map(float, point.split())) for point in line.split("L")]
    assert [x for x, _ in places] == [0, 500, 1000]
    heights = [y for _, y in places]
    assert heights[2] == 300  # a rate of 0 is at the bottom
    assert heights[1] - heights[0] == pytest.approx(heights[2] - heights[1], abs=0.11)
    assert "Learning rate: linear" in html
    assert "optimizer steps" in html
    assert "<img" not in html
    assert html in report_html(CheckResult(plan={**plan, "num_steps": 100}))


def test_a_plan_without_rates_has_no_picture() -> None:
    assert schedule_html({}) == schedule_html({"learning_rates": []}) == ""


def test_problems_list_label_message_value_and_remedy() -> None:
    problems = [
        Problem("training.learning_rate", "Learning Rate", "fast", "That is no number.", "Write digits."),
        Problem("adapter.rank", "LoRA Rank", "", "It must be a whole number.", "Write for example 16."),
    ]
    html = problems_html(problems)
    text = unescape(re.sub(r"<style>.*</style>|<[^>]+>", "", html))
    assert "Learning Rate: That is no number. Got: 'fast'. Write digits." in text
    assert "LoRA Rank: It must be a whole number. Got: nothing." in text
    assert "2 things must be mended first" in text
    assert "#tph-training-learning_rate::after" in html
    assert "#tph-adapter-rank input" in html


def test_problems_are_escaped_for_html_and_for_css() -> None:
    html = problems_html([Problem(EVIL, EVIL, EVIL, EVIL, EVIL), EVIL])
    assert "<img" not in html
    assert html.count("</style>") == 1
    assert html.index("</style>") > html.index("<style>")


def test_no_problem_leaves_an_empty_box() -> None:
    assert problems_html([]) == NO_PROBLEMS


def test_problems_of_exceptions() -> None:
    problem = Problem("adapter.name", "Name", "a.b", "No dots.", "Write a-b.")
    assert error_problems(ConfigError([problem])) == [problem]
    assert error_problems(ValueError("The disk is full.")) == ["The disk is full."]
    assert error_problems(OSError()) == ["OSError"]


def test_the_model_line() -> None:
    facts = {"name": "<tiny>", "dtype": "bfloat16", "device": "cuda:0", "num_parameters": 134_515_008, "context": 8192}
    html = model_html(facts)
    assert "&lt;tiny&gt;" in html
    assert "134.5M parameters · bfloat16 · cuda:0 · context 8,192 tokens" in html
    problem = model_html({"problem": "No model is loaded <here>."})
    assert 'data-status="problem"' in problem
    assert "No model is loaded &lt;here&gt;." in problem


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59.6, "1 min 0 s"), (3700, "1 h 1 min"), (200_000, "2 days 7 h"), (None, ""), (-1, "")]
)
def test_durations(seconds: float | None, text: str) -> None:
    assert words.duration(seconds) == text


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 bytes"), (1536, "1.5 kB"), (2**30, "1.0 GB"), (500 * 2**20, "500 MB"), (2**42, "4.0 TB")]
)
def test_sizes(number: int, text: str) -> None:
    assert words.size(number) == text
