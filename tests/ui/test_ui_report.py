"""Report of Check, box of problems, line about the model: what they say, and that nothing unescaped gets through."""

import re
from html import unescape

import pytest
from fake_host import CHECK_RESULT
from training_pro.config import ConfigError, Problem
from training_pro.data.report import DataReport
from training_pro.runs.check_report import CheckReport
from training_pro.ui import words
from training_pro.ui.check.pictures import histogram_html, memory_html, phases_html, schedule_html
from training_pro.ui.check.report import data_facts, plan_facts, report_html
from training_pro.ui.facts import model_html
from training_pro.ui.form.problems import NO_PROBLEMS, error_problems, problems_html

EVIL = '</style><img src=x onerror="alert(1)">'


def test_the_report_shows_what_a_user_asks_for() -> None:
    html = report_html(CHECK_RESULT, save_every_steps=50)
    assert 'data-status="ok"' in html
    text = re.sub(r"<[^>]+>", " ", html)
    for words_of_it in (
        *("812 read, 2 broken", "810", "1,000, of which 500 trained (50%)", "90 tokens, the second longest 80"),
        *("203, 1 epoch of 203", "20 steps (10% of the run)", "every 50 steps, 4 in all", "about 2.0 GB"),
        *("/data/animals.jsonl:17", "and 1 more", "Warm-up is 0."),
    ):
        assert words_of_it in text


def test_the_mix_is_shown() -> None:
    entry = {"label": "Data set", "name": "<a>.jsonl", "samples": 30, "share": 1.0, "used": 30, "held_out": 0, "at_border": 0}
    entry |= {"left_out": 26, "entries": 4, "repeats": 1.0, "part": 0.25}
    html = report_html(CheckReport(report={"sources": [entry, {**entry, "name": "b.jsonl", "left_out": 0, "repeats": 7.5}]}))
    assert "Data set &lt;a&gt;.jsonl: 30 samples, 26 left out by the mix; 25.0% of the trained data&#x27;s tokens" in html
    assert "b.jsonl: 30 samples, each trained 7.5 times an epoch" in html


def test_problems_come_first_and_are_marked() -> None:
    html = report_html(CheckReport(problems=["The data set is empty."]))
    assert 'data-status="problems"' in html
    assert "The data set is empty." in html
    assert "<table" not in html


def test_the_report_is_escaped() -> None:
    rows = [{"file": EVIL, "line": EVIL, "reason": EVIL}]
    report = {"files": [{"file": EVIL, "format": EVIL, "encoding": EVIL}], "num_broken": 1, "broken": rows, "notes": [EVIL]}
    phase = {
        "phase": EVIL,
        "before": EVIL,
        "begin": 0,
        "end": 1,
        "num_steps": 1,
        "num_samples": 1,
        "joined_share": 0,
        "tokens": 1,
    }
    switch = {"phase": EVIL, "cause": EVIL, "steps": (1, 1), "epochs": (1, 1)}
    plan = {"num_steps": 1, "phases": [{**phase, "padding_share": 0}], "switches": [switch]}
    html = report_html(CheckReport([EVIL], [EVIL], {**report, "too_long": rows, "num_too_long": 1}, plan))
    assert "<img" not in html


def test_long_paths_are_shortened_at_the_front() -> None:
    facts = data_facts({"files": [{"file": "/home/me/sets/animals.jsonl", "format": "messages", "encoding": "utf-8"}]})
    assert facts[0] == ("File", "…/sets/animals.jsonl: messages, utf-8")


def test_an_empty_data_report_breaks_nothing() -> None:
    assert dict(data_facts(DataReport().to_dict()))["Rows"] == "0 read"
    assert data_facts({}) == plan_facts({}) == []
    assert histogram_html([], 64) == phases_html({}) == memory_html({}) == ""


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
    assert html in report_html(CheckReport(plan={**plan, "num_steps": 100}))


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
    html = problems_html([Problem("adapter.name", EVIL, EVIL, EVIL, EVIL), Problem(EVIL, EVIL, EVIL, EVIL, EVIL), EVIL])
    assert "<img" not in html
    assert html.count("</style>") == 1
    assert html.index("</style>") > html.index("<style>")


def test_the_first_marked_field_is_named_in_the_order_of_the_form() -> None:
    def problem(field: str, message: str = "No.") -> Problem:
        return Problem(field, field, "", message, "Mend it.")

    html = problems_html([problem("training.seed"), problem("training.epochs"), problem("data.cutoff"), problem("data.nothing")])
    assert 'data-first="tph-data-cutoff"' in html
    assert '<a href="#tph-training-seed">' in html
    assert "tph-data-nothing" not in html  # no field of the form
    assert "data-first" not in problems_html([problem("data.nothing"), "The disk is full."])
    both = problems_html([problem("data.cutoff", "Too low."), problem("data.cutoff", "Too odd.")])
    assert both.count("#tph-data-cutoff::after") == 1
    assert "Too\\20 low\\2e \\20 Too\\20 odd\\2e" in both


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


# --- pictures ------------------------------------------------------------------------------------------------------------------


def test_the_histogram_has_a_bar_for_each_length_and_the_cutoff() -> None:
    html = histogram_html([(50, 3), (100, 0), (150, 6)], 300)
    bars = [tuple(map(float, bar)) for bar in re.findall(r'x="([\d.]+)" width="([\d.]+)" y="([\d.]+)" height="([\d.]+)"', html)]
    assert [(round(x), round(width), round(height)) for x, width, _, height in bars] == [(1, 165, 50), (334, 165, 100)]
    assert 'd="M1000.0 0V100"' in html
    assert "cutoff 300" in html
    assert "<title>101 to 150 tokens: 6</title>" in html
    longer = histogram_html([(50, 3), (100, 1)], 50)
    assert 'd="M500.0 0V100"' in longer  # samples that were not cut may be longer
    assert "tph-cutoff" not in histogram_html([(50, 3)], 0)


def test_what_is_cut_or_dropped_has_its_share() -> None:
    facts = dict(data_facts({"num_samples": 90, "num_eval_samples": 5, "num_too_long": 5, "num_cut": 19, "num_cut_replies": 1}))
    assert facts["Dropped"] == "5 conversations over the cutoff (5.0%)"
    assert facts["Cut"] == "19 conversations shortened to the cutoff (20.0%), 1 reply of theirs dropped"
    assert not {"Dropped", "Cut", "Left out"} & dict(data_facts({"num_samples": 90})).keys()


def test_phases_are_a_table_with_their_switches_and_bands() -> None:
    row = {"before": "", "num_samples": 10, "joined_share": 0.25, "tokens": 1234, "padding_share": 0.01}
    first = {**row, "phase": "length", "begin": 0, "end": 1, "num_steps": 25}
    second = {**row, "phase": "sequential", "begin": 1, "end": 3, "num_steps": 75}
    switch = {"phase": "sequential", "steps": (25, 25), "epochs": (1.0, 1.0), "cause": "after 1 epoch"}
    plan = {"phases": [first, second], "switches": [switch]}
    html = phases_html(plan)
    assert re.findall(r"<td>(\w+)</td><td>(\d to \d)</td><td>(\d+)</td>", html) == [
        ("length", "0 to 1", "25"),
        ("sequential", "1 to 3", "75"),
    ]
    assert "switch to sequential: after step 25 (epoch 1); after 1 epoch" in html
    picture = schedule_html({**plan, "schedule": "linear", "learning_rates": [(0, 1e-4), (100, 0.0)]})
    assert "tph-band-0" in picture
    assert "tph-band-1" in picture
    one = schedule_html({"phases": [first], "schedule": "linear", "learning_rates": [(0, 1e-4), (25, 0.0)]})
    assert "tph-band-" not in one


def test_memory_by_part_against_what_there_is() -> None:
    gigabyte = 2**30
    memory = {"weights": gigabyte, "activations": 3 * gigabyte, "total": 4 * gigabyte, "limit": 8 * gigabyte, "largest_batch": 12}
    html = memory_html(memory)
    assert re.findall(r'class="tph-part-(\d)" style="width:([\d.]+)%"', html) == [("0", "12.50"), ("4", "37.50")]
    text = re.sub(r"<[^>]+>", "", html)
    assert "Memory about 4.0 GB of 8.0 GB that may be used" in text
    assert "weights 1.0 GB" in text
    assert "Largest True Batch Size that fits: 12" in text
    over = memory_html({**memory, "limit": 2 * gigabyte, "largest_batch": 0})
    assert "tph-over" in over
    assert "not even a True Batch Size of 1 fits" in over
