"""The graph of a run: its points as data, its curves as a picture."""

import math
import sys
from pathlib import Path

import pytest
from training_pro.matplotgraph import draw_graph, draw_schedule, graph_points, save_graph, save_schedule
from training_pro.runs.state import RunState
from training_pro.runs.store import RunFolder, read_json

STEPS = [
    {"event": "step", "step": 1, "epoch": 0.5, "loss": 3.0, "smoothed_loss": 3.0, "lr": 1e-4, "tokens": 7},
    {"event": "step", "step": 2, "epoch": 1.0, "loss": None, "lr": 5e-5},
]
EVALUATIONS = [{"event": "evaluation", "step": 2, "epoch": 1.0, "loss": 2.5, "tokens": 9}]


def run(**parts: list) -> RunState:
    return RunState(name="veltmor", **{"steps": STEPS, "evaluations": EVALUATIONS, **parts})


def test_points_literally() -> None:
    assert graph_points(run()) == [
        {"epoch": 0.5, "step": 1, "loss": 3.0, "smoothed_loss": 3.0, "learning_rate": 1e-4},
        {"epoch": 1.0, "step": 2, "loss": None, "smoothed_loss": None, "learning_rate": 5e-5},
        {"epoch": 1.0, "step": 2, "eval_loss": 2.5},
    ]
    assert graph_points(RunState()) == []


def test_the_curves_of_the_picture() -> None:
    figure = draw_graph(run())
    left, right = figure.axes
    curves = {line.get_label(): line.get_xydata().tolist() for line in [*left.lines, *right.lines]}
    assert curves["learning rate"] == [[0.5, 1e-4], [1.0, 5e-5]]
    assert curves["evaluation loss"] == [[1.0, 2.5]]
    assert curves["loss"][0] == [0.5, 3.0]
    assert math.isnan(curves["loss"][1][1])  # a gap, not a point at 0
    assert list(curves) == ["loss", "loss, smoothed", "evaluation loss", "learning rate"]
    assert (left.get_xlabel(), left.get_title()) == ("epochs", "veltmor: 2 steps")
    assert left.get_ylim()[0] == right.get_ylim()[0] == 0
    assert [text.get_text() for text in left.get_legend().get_texts()] == list(curves)


def phase(step: int, epoch: float, name: str, stage: int, **more: object) -> dict:
    return {"event": "phase", "step": step, "epoch": epoch, "phase": name, "stage": stage, **more}


LENGTH = phase(0, 0.0, "length", 0, cause="", gradual=0.0)
SEQUENTIAL = phase(1, 0.5, "sequential", 1, cause="smoothed loss 2.2 is in the range 2 to 2.5", gradual=0.25)


def test_phases_are_shaded_and_switches_say_why() -> None:
    left = draw_graph(run(phases=[LENGTH, SEQUENTIAL])).axes[0]
    spans = {span.get_label(): (span.get_extents().transformed(left.transData.inverted())) for span in left.patches}
    assert {name: (round(box.x0, 6), round(box.x1, 6)) for name, box in spans.items()} == {
        "phase: length": (0.0, 0.5),
        "phase: sequential": (0.5, 1.0),
    }
    assert len({span.get_facecolor() for span in left.patches}) == 2
    (mark,) = left.texts
    words = "sequential from here: smoothed loss 2.2 is in the range 2 to 2.5, gradually over 0.25 epochs"
    assert (mark.get_text().replace("\n", " "), mark.xy[0]) == (words, 0.5)
    left.figure.canvas.draw()
    area, box = left.get_window_extent(), mark.get_window_extent()
    assert area.y0 <= box.y0 < box.y1 <= area.y1
    assert area.x0 <= box.x0 < box.x1 <= area.x1
    assert [list(line.get_xdata()) for line in left.lines if line.get_label().startswith("_")] == [[0.5, 0.5]]
    assert {"phase: length", "phase: sequential"} <= {text.get_text() for text in left.get_legend().get_texts()}
    assert left.get_ylim()[0] == 0


@pytest.mark.parametrize(
    "phases",
    [
        [],
        [LENGTH],
        [LENGTH, {**LENGTH, "step": 1, "epoch": 0.5}],  # said twice
        [LENGTH, {**SEQUENTIAL, "step": 2, "epoch": 1.0}],  # it would have begun where the run ended
    ],
)
def test_one_phase_is_not_shaded(phases: list[dict]) -> None:
    left = draw_graph(run(phases=phases)).axes[0]
    assert not [*left.patches, *left.texts]
    assert len(left.lines) == 3


def measured(step: int, epoch: float, **means: float) -> dict:
    return {"step": step, "epoch": epoch, "gains": {name: {"mean": mean, "error": 0.1} for name, mean in means.items()}}


GAINS = [measured(0, 0.0, context=0.5), measured(2, 1.0, context=0.7, order=-0.1)]


def test_gains_have_a_panel_of_their_own() -> None:
    figure = draw_graph(run(phases=[LENGTH, SEQUENTIAL], understanding=GAINS))
    left, below, right = figure.axes
    assert (left.get_ylabel()[:4], right.get_ylabel(), below.get_xlabel()) == ("loss", "learning rate", "epochs")
    curves = {line.get_label(): line for line in below.containers}
    assert list(curves) == ["context gain", "order gain"]
    line, _, (bars,) = curves["context gain"].lines
    assert line.get_xydata().tolist() == [[0.0, 0.5], [1.0, 0.7]]
    assert [part[:, 1].round(6).tolist() for part in bars.get_segments()] == [[0.4, 0.6], [0.6, 0.8]]
    assert line.get_marker() != curves["order gain"].lines[0].get_marker()  # to be told apart in print
    assert len(below.patches) == len(left.patches) == 2  # the phases are shaded in both
    assert (len(left.texts), len(below.texts)) == (1, 0)
    assert [text.get_text() for text in below.get_legend().get_texts()] == list(curves)
    assert graph_points(run(understanding=GAINS))[-1] == {
        **{"epoch": 1.0, "step": 2},
        "gains": {"context": {"mean": 0.7, "error": 0.1}, "order": {"mean": -0.1, "error": 0.1}},
    }


def test_checkpoints_are_marked_at_the_foot() -> None:
    saved = [{"step": 1, "epoch": 0.5, "cause": "steps"}, {"step": 2, "epoch": 1.0, "cause": "user"}, {"step": 2, "epoch": None}]
    left = draw_graph(run(checkpoints=saved)).axes[0]
    marks = {line.get_label(): line for line in left.lines if str(line.get_label()).startswith("checkpoint")}
    assert {label: list(line.get_xdata()) for label, line in marks.items()} == {"checkpoint": [0.5], "checkpoint, yours": [1.0]}
    assert all(list(line.get_ydata()) == [0.0] for line in marks.values())
    assert (
        marks["checkpoint"].get_markerfacecolor() != marks["checkpoint, yours"].get_markerfacecolor()
    )  # to be told apart in print
    assert set(marks) <= {text.get_text() for text in left.get_legend().get_texts()}
    assert left.get_ylim()[0] == 0
    assert not [line for line in draw_graph(run()).axes[0].lines if "checkpoint" in str(line.get_label())]


def test_a_gain_without_an_error_is_drawn_all_the_same(tmp_path: Path) -> None:
    unsure = {"step": 0, "epoch": 0.0, "gains": {"context": {"mean": 0.5, "error": None}, "order": {"mean": None, "error": None}}}
    save_graph(RunFolder(tmp_path), run(understanding=[unsure]))
    assert RunFolder(tmp_path).graph.is_file()


def test_without_evaluation_there_is_no_such_curve() -> None:
    labels = [line.get_label() for line in draw_graph(run(evaluations=[])).axes[0].lines]
    assert labels == ["loss", "loss, smoothed"]


def test_the_graph_is_saved(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    assert save_graph(folder, run()) == ""
    assert read_json(folder.graph_data) == graph_points(run())
    assert folder.graph.read_bytes().startswith(b"\x89PNG")
    assert folder.graph.stat().st_size > 5000


def test_a_loss_that_is_never_a_number_can_be_drawn(tmp_path: Path) -> None:
    save_graph(RunFolder(tmp_path), run(steps=[{"step": 1, "epoch": 1.0, "loss": None, "lr": None}], evaluations=[]))
    assert RunFolder(tmp_path).graph.is_file()


def test_a_run_without_steps_has_no_picture(tmp_path: Path) -> None:
    save_graph(RunFolder(tmp_path), RunState())
    assert [path.name for path in tmp_path.iterdir()] == ["training_graph.json"]


def test_without_matplotlib_the_data_are_saved_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_agg", None)
    assert "pip install matplotlib" in save_graph(RunFolder(tmp_path), run())
    assert [path.name for path in tmp_path.iterdir()] == ["training_graph.json"]


def test_no_screen_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    draw_graph(run())
    assert "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()


PLAN = {"schedule": "linear", "steps_per_epoch": [2, 2, 1], "learning_rates": [(0, 1e-3), (2, 6e-4), (5, 0.0)]}


def test_the_picture_of_a_schedule() -> None:
    (axes,) = draw_schedule(PLAN).axes
    curve, *borders = axes.lines
    assert curve.get_xydata().tolist() == [[0, 1e-3], [2, 6e-4], [5, 0]]
    assert [border.get_xdata()[0] for border in borders] == [2, 4]  # ends of epochs
    assert (axes.get_title(), axes.get_xlim(), axes.get_ylim()[0]) == ("linear", (0, 5), 0)
    assert len(draw_schedule({**PLAN, "steps_per_epoch": [1] * 31}).axes[0].lines) == 1


def test_the_picture_of_a_schedule_is_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert save_schedule(tmp_path / "rates.png", PLAN) == ""
    assert (tmp_path / "rates.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ValueError, match="'doc' is not supported"):
        save_schedule(tmp_path / "rates.doc", PLAN)
    monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_agg", None)
    assert "pip install matplotlib" in save_schedule(tmp_path / "second.png", PLAN)
    assert not (tmp_path / "second.png").exists()
