"""The phases in numbers under the graph, and the gains as a chart."""

from typing import Any

from training_pro.evaluation.phase_table import phase_rows
from training_pro.runs.state import RunState
from training_pro.ui.charts.run import run_charts
from training_pro.ui.live.phase_table import phase_table_html

EVIL = '<img src=x onerror="alert(1)">'


def run(**parts: Any) -> RunState:
    steps = [
        {
            "step": number,
            "epoch": number / 2,
            "loss": 3.0 - number,
            "trained_tokens": 10,
            "tokens": 20,
            "seconds": 0.5,
            "lr": 1e-4,
        }
        for number in (1, 2)
    ]
    phases = [
        {"step": 0, "epoch": 0.0, "phase": "length", "stage": 0, "cause": ""},
        {"step": 1, "epoch": 0.5, "phase": f"sequential {EVIL}", "stage": 1, "cause": f"loss {EVIL}"},
    ]
    return RunState(**{"name": "x", "steps": steps, "phases": phases, "plan": {"num_epochs": 1.0}, **parts})


def measured(step: int, mean: float, change: float | None = None) -> dict[str, Any]:
    counts = {"num_replies": 5, "num_tokens": 50, "num_conversations": 3}
    gain = {"mean": mean, "error": 0.02, "change": change, "change_error": None if change is None else 0.01, **counts}
    return {"step": step, "epoch": step / 2, "gains": {"context": gain}}


def test_the_table() -> None:
    html = phase_table_html(run(understanding=[measured(0, 0.1), measured(2, 0.25, 0.15)]))
    assert 'id="tph-phases"' in html
    assert [html.count(f'<th scope="row"{more}') for more in (">before<", ">length<", " title=")] == [1, 1, 1]
    assert "<td>0.250 ± 0.020</td>" in html
    assert "5 replies of 3 conversations, 50 tokens" in html
    assert "context +0.150 ± 0.010" in html
    assert "<img" not in html
    assert html.count("&lt;img") == 3  # the name, its cause, the change


def test_nothing_to_say_yet() -> None:
    one_phase = run().phases[:1]
    assert phase_table_html(run(phases=one_phase)) == ""
    assert phase_table_html(run(steps=[], evaluations=[{"step": 0, "epoch": 0.0, "loss": 2.0}])) == ""
    assert phase_table_html(RunState()) == ""


def test_a_run_of_one_phase_that_was_measured_before_it() -> None:
    html = phase_table_html(run(phases=run().phases[:1], evaluations=[{"step": 0, "epoch": 0.0, "loss": 2.0}]))
    assert "<td>2.0000</td>" in html


def test_the_gains_as_a_chart() -> None:
    html = run_charts(run(understanding=[measured(0, 0.1), measured(2, 0.25)]))
    assert "Context understanding (nats per reply token)" in html
    assert 'class="tph-line tph-gain-context"' in html
    assert "order gain" not in html  # nobody measured it
    assert html.index("Loss") < html.index("Context understanding") < html.index("Learning rate")
    assert "Context understanding" not in run_charts(run())


def test_the_rows_that_an_ended_run_wrote_are_not_made_again() -> None:
    written = phase_rows(run())
    written[0]["loss"] = 7.0
    assert "<td>7.0000</td>" in phase_table_html(run(phase_table=written))
    assert "<td>7.0000</td>" not in phase_table_html(run())
