"""The live controls without a browser: what they write into the run's folder, what they answer, and when they refuse."""

import dataclasses
import html
import os
from functools import partial
from typing import Any

import pytest
from fake_host import FakeHost, write_steps

if not os.environ.get("CI"):  # there a missing gradio is an error
    pytest.importorskip("gradio")

from training_pro.config import RunConfig
from training_pro.runs import registry
from training_pro.runs.control import LABELS, Control, read_control
from training_pro.runs.store import RunFolder
from training_pro.ui.live import controls as module
from training_pro.ui.live.controls import LiveControls, field_id
from training_pro.ui.live.facts import PAUSE, RESUME, VALUES, LiveFacts
from training_pro.ui.session import PageSession


class Page:
    """Controls of a page that shows the run that goes on; its components are words."""

    def __init__(self, fake: FakeHost, **host: Any) -> None:
        parts = {name: name for name in ("pause", "save", "evaluate", "phase", *VALUES)}
        self.controls = LiveControls(dataclasses.replace(fake.host, **host), "card", "planned", parts, [], "note")
        self.session = PageSession()

    def press(self, name: str) -> str:
        return self.controls.press(getattr(module, f"{name}_wish"), self.session)

    def set(self, name: str, text: str | None) -> str:
        return self.controls.set_value(name, self.session, text)


def launch(fake: FakeHost, name: str = "live") -> RunFolder:
    data = {"adapter": {"name": name}, "data": {"dataset": str(fake.data)}, "run": {"adapters_dir": str(fake.adapters)}}
    folder = fake.host.launch(RunConfig.from_dict(data)).folder
    assert folder is not None
    return folder


def is_problem(note: str) -> bool:
    return 'role="alert"' in note


ALL_PRESSES = [
    *(partial(Page.press, name=name) for name in ("save", "evaluate", "phase", "stop")),
    lambda page: page.controls.pause(page.session, PAUSE),
    lambda page: page.controls.ask_discard(page.session)[0],
    lambda page: page.controls.discard(page.session)[0],
    *(partial(Page.set, name=name, text="1") for name in VALUES),
]


@pytest.mark.parametrize("press", ALL_PRESSES)
def test_nothing_is_asked_of_a_run_that_is_not_there_or_has_ended(fake: FakeHost, press: Any) -> None:
    assert "Nothing is running." in press(Page(fake))
    folder = launch(fake)
    fake.end()
    assert "Nothing is running." in press(Page(fake))
    assert not folder.control.exists()


@pytest.mark.parametrize("press", ALL_PRESSES)
def test_where_nothing_may_be_changed_nothing_is(fake: FakeHost, press: Any) -> None:
    folder = launch(fake)
    write_steps(fake.emit, 3)
    assert "Several users share it." in press(Page(fake, read_only=lambda: "Several users share it."))
    assert not folder.control.exists()


@pytest.mark.parametrize("press", ALL_PRESSES)
def test_a_page_that_shows_another_run_does_nothing(fake: FakeHost, press: Any) -> None:
    page = Page(fake)
    launch(fake, "first")
    page.session.folder, page.session.started = page.session.run(fake.host)[0].path, page.session.run(fake.host)[1].started
    fake.end()
    second = launch(fake, "second")
    write_steps(fake.emit, 3)
    answer = press(page)
    assert "this page still showed first, but second runs now" in answer
    assert is_problem(answer)
    assert not second.control.exists()


def test_a_run_that_is_not_there_yet_cannot_be_stopped(fake: FakeHost) -> None:
    registry.claim("slow")
    assert "still starting" in Page(fake).press("stop")


def test_presses_are_written_into_the_runs_folder(fake: FakeHost) -> None:
    page, folder = Page(fake), launch(fake)
    write_steps(fake.emit, 3)
    fake.emit("prepared", report={"num_eval_samples": 4})
    for presses in (1, 2):
        assert "A checkpoint is saved after this step" in page.press("save")
        assert "evaluated after this step" in page.press("evaluate")
        wishes = read_control(folder.control)
        assert (wishes.save_requests, wishes.evaluate_requests) == (presses, presses)
    assert "ends after this step and keeps what was learned" in page.press("stop")
    assert read_control(folder.control) == Control(stop=True, save_requests=2, evaluate_requests=2)


@pytest.mark.parametrize("in_webui", [True, False])
def test_pause_does_what_the_button_said(fake: FakeHost, in_webui: bool) -> None:
    page, folder = Page(fake, in_webui=in_webui), launch(fake)
    write_steps(fake.emit, 3)
    for _ in range(2):  # of two pages, the second has not heard yet
        answer = page.controls.pause(page.session, PAUSE)
        assert "stands still after this step" in answer
        assert ("the chat answers" in answer) is in_webui
        assert read_control(folder.control).pause
    fake.emit("paused", step=3)
    assert "saved now" in page.press("save")
    assert "goes on" in page.controls.pause(page.session, RESUME)
    assert not read_control(folder.control).pause


def test_without_held_out_samples_there_is_nothing_to_evaluate(fake: FakeHost) -> None:
    page, folder = Page(fake), launch(fake)
    fake.emit("prepared", report={"num_eval_samples": 0, "num_samples": 4})
    answer = page.press("evaluate")
    assert "Evaluate now: this run has no evaluation data." in answer
    assert is_problem(answer)
    assert not folder.control.exists()


def test_next_phase_is_asked_for_only_where_there_is_one(fake: FakeHost) -> None:
    page, folder = Page(fake), launch(fake)
    assert "not planned its phases yet" in page.press("phase")
    fake.emit("plan", num_steps=40, num_epochs=2.0, batching="hybrid", switches=[])  # asked for though the plan does not reach it
    fake.emit("phase", step=0, epoch=0.0, phase="length", stage=0, cause="")
    page.press("save")
    for presses in (1, 2):
        assert "The phase &#x27;sequential&#x27; begins" in page.press("phase")
        assert read_control(folder.control) == Control(save_requests=1, phase_requests=presses)
    fake.emit("phase", step=5, epoch=1.0, phase="sequential", stage=1, cause="after 1 epoch")
    assert "This run has no further phase." in page.press("phase")


@pytest.mark.parametrize("plan", [{"batching": "shuffled"}, {"batching": "length"}, {}])  # the last: of a former version
def test_a_run_with_one_phase_has_no_further_one(fake: FakeHost, plan: dict[str, str]) -> None:
    page, folder = Page(fake), launch(fake)
    fake.emit("plan", num_steps=40, **plan)
    assert "This run has no further phase." in page.press("phase")
    assert not folder.control.exists()


@pytest.mark.parametrize(
    ("name", "text", "value", "words"),
    [
        ("stop_at_loss", "1,8", 1.8, "at or under 1.8; it is 3.025 now"),
        ("stop_at_loss", "", 0.0, "Stop at loss is off now."),
        ("stop_at_loss", None, 0.0, "Stop at loss is off now."),
        ("stop_at_epoch", " 1.5 ", 1.5, "The run ends at epoch 1.5"),
        ("stop_at_epoch", "", 0.0, "Stop at epoch is off now."),
        ("lr_scale", "0.5", 0.5, "multiplied by 0.5 from the next step on"),
        ("lr_scale", "", 1.0, "the schedule&#x27;s own"),
    ],
)
def test_values_that_are_set_and_cleared(fake: FakeHost, name: str, text: str | None, value: float, words: str) -> None:
    page, folder = Page(fake), launch(fake)
    write_steps(fake.emit, 3)
    answer = page.set(name, text)
    assert words in answer
    assert not is_problem(answer)
    assert read_control(folder.control) == dataclasses.replace(Control(), **{name: value})


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("stop_at_loss", "low", "this cannot be used. Got: 'low'"),
        ("stop_at_loss", "-1", "this cannot be used. Got: -1"),
        ("stop_at_epoch", "0.1", "the run is at epoch 0.15 already"),
        ("stop_at_epoch", "7", "the run ends at epoch 2"),
        ("lr_scale", "0", "this cannot be used. Got: 0"),
        ("lr_scale", "inf", "this cannot be used. Got: 'inf'"),
    ],
)
def test_a_wrong_value_is_said_at_its_field(fake: FakeHost, name: str, text: str, words: str) -> None:
    page, folder = Page(fake), launch(fake)
    write_steps(fake.emit, 3)
    answer = page.set(name, text)
    assert f'data-problem="{name}"' in answer
    assert f"<style>#{field_id(name)} " in answer  # a red frame around it
    assert f"{LABELS[name]}: {words}" in html.unescape(answer)
    assert not folder.control.exists()


def test_discarding_asks_once_more(fake: FakeHost) -> None:
    page, folder = Page(fake), launch(fake)
    write_steps(fake.emit, 3)
    _, question, asked = page.controls.ask_discard(page.session)
    assert question["visible"] is True
    assert "Throw away what live has learned in 3 steps" in asked
    assert not folder.control.exists()
    assert page.controls.go_on()[1]["visible"] is False
    assert not folder.control.exists()
    answer, question = page.controls.discard(page.session)
    assert "thrown away" in answer
    assert question["visible"] is False
    assert read_control(folder.control) == Control(discard=True)


def test_a_disk_that_fails_is_said(fake: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    page = Page(fake)
    launch(fake)

    def fail(*given: Any, **changes: Any) -> None:
        raise OSError("No space left")

    monkeypatch.setattr(module, "change_control", fail)
    answer = page.press("stop")
    assert "No space left. Is the disk full?" in answer
    assert is_problem(answer)


def test_the_page_changes_only_what_has_changed(fake: FakeHost) -> None:
    controls = Page(fake).controls
    first = LiveFacts(True, True, PAUSE, True, False, ("", "2", "1"))
    updates = controls.updates(first, None)
    assert {name: update["visible"] for name, update in updates.items() if "visible" in update} == {
        **{"card": True, "planned": True, "save": True, "evaluate": True, "phase": False, "pause": True}
    }
    assert [updates[name]["value"] for name in VALUES] == ["", "2", "1"]
    assert controls.updates(first, first) == {}
    paused = dataclasses.replace(first, pause_label=RESUME, values=("1.5", "2", "1"))
    updates = controls.updates(paused, first)
    assert set(updates) == {"pause", "stop_at_loss"}  # nobody's typing elsewhere is lost
    assert updates["pause"]["value"] == RESUME
    assert controls.updates(LiveFacts(), paused)["card"]["visible"] is False
