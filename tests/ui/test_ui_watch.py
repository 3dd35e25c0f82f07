"""Which run a page shows, and when it hears of changes."""

import asyncio
import copy
import os
from typing import Any

import pytest
from fake_host import FakeHost, save_adapter, start_diary, write_steps
from training_pro.runs import registry
from training_pro.runs.control import change_control
from training_pro.runs.store import RunFolder, back_up, read_json, write_json
from training_pro.ui.charts.axes import ChartChoice
from training_pro.ui.live import render, watch
from training_pro.ui.live.facts import LiveFacts
from training_pro.ui.live.render import AT_STEPS, CHART_SECONDS, SELDOM, PageRenderer
from training_pro.ui.live.watch import RunFollower, live_news
from training_pro.ui.page import build_page
from training_pro.ui.session import PageSession


def look(fake: FakeHost) -> Any:
    return RunFollower(fake.host).read()


def launch(fake: FakeHost, name: str) -> RunFolder:
    from training_pro.config import RunConfig

    data = {"adapter": {"name": name}, "data": {"dataset": str(fake.data)}, "run": {"adapters_dir": str(fake.adapters)}}
    folder = fake.host.launch(RunConfig.from_dict(data)).folder
    assert folder is not None
    return folder


def test_nothing_to_show(fake: FakeHost) -> None:
    assert look(fake) is None


def test_the_newest_run_of_the_folder_is_shown(fake: FakeHost) -> None:
    for number, name in enumerate(("old", "new", "middle")):
        folder = RunFolder(fake.adapters / name)
        emit = start_diary(folder)
        emit("run_ended", status="finished", adapter=str(folder.path))
        save_adapter(folder)
        os.utime(folder.events, (1000 + number % 2 * 100, 1000 + number % 2 * 100))
    view = look(fake)
    assert (view.state.name, view.state.status, view.has_adapter) == ("new", "finished", True)


def test_a_run_of_this_process_comes_before_newer_folders(fake: FakeHost) -> None:
    launch(fake, "mine")
    other = RunFolder(fake.adapters / "other")
    start_diary(other)
    os.utime(other.events, (4e9, 4e9))
    assert look(fake).state.name == "mine"
    assert look(fake).state.status == "running"


def test_a_run_of_another_process_that_is_gone_died(fake: FakeHost) -> None:
    emit = start_diary(RunFolder(fake.adapters / "gone"), pid=2**22 - 7, started=1.0)
    write_steps(emit, 5)
    view = look(fake)
    assert view.state.status == "died"
    assert view.state.last_step["step"] == 5


def test_a_job_that_vanished_from_this_process_died_with_its_error(fake: FakeHost) -> None:
    launch(fake, "broken")
    handle = registry.latest()
    assert handle is not None
    handle.error = "The worker fell over."
    registry.release()
    view = look(fake)
    assert view.state.status == "failed"
    assert view.state.end["message"] == "The worker fell over."


def test_a_refused_start_does_not_hide_the_last_run(fake: FakeHost) -> None:
    save_adapter(launch(fake, "good"))
    fake.end()
    with pytest.raises(ValueError, match="already"):
        launch(fake, "good")
    assert registry.latest().folder is None  # type: ignore[union-attr]
    assert look(fake).state.name == "good"


def test_a_job_before_its_diary_is_starting(fake: FakeHost) -> None:
    registry.claim("slow")
    view = look(fake)
    assert (view.state.name, view.state.stage) == ("slow", "starting")


def test_a_replaced_run_is_read_anew(fake: FakeHost) -> None:
    folder = RunFolder(fake.adapters / "again")
    write_steps(start_diary(folder), 30)
    follower = RunFollower(fake.host)
    first = follower.read()
    assert first is not None
    assert first.state.last_step["step"] == 30
    back_up(folder)
    write_steps(start_diary(folder), 3)
    second = follower.read()
    assert second is not None
    assert second.state.last_step["step"] == 3


def test_a_stop_that_was_asked_for_is_seen_only_while_it_runs(fake: FakeHost) -> None:
    folder = launch(fake, "stopping")
    change_control(folder.control, stop=True)
    assert look(fake).is_stopping
    fake.end("interrupted", adapter="")
    assert not look(fake).is_stopping


def test_an_end_without_an_adapter_is_no_result_even_if_an_old_one_lies_there(fake: FakeHost) -> None:
    folder = launch(fake, "empty")
    save_adapter(folder)
    fake.end("interrupted", adapter="")
    assert not look(fake).has_adapter


def test_a_page_is_told_of_changes_only_and_charts_wait_their_turn(fake: FakeHost) -> None:
    launch(fake, "live")
    write_steps(fake.emit, 5)
    follower, session = RunFollower(fake.host), PageSession()
    renderer = PageRenderer(session)
    first = renderer.render(follower.read(), 100.0)
    assert set(first) == {"status", "charts", "samples", "log", "checkpoints", "live"}
    assert "5 of 40" in first["status"]
    assert "<svg" in first["charts"]
    assert renderer.render(follower.read(), 100.5) == {}
    fake.emit("step", step=6, epoch=0.3, loss=2.0, smoothed_loss=2.0, lr=1e-4)
    second = renderer.render(follower.read(), 101.0)
    assert list(second) == ["status"]
    assert "6 of 40" in second["status"]
    session.choice = ChartChoice(axis="step")  # another axis does not wait
    assert "optimizer steps" in renderer.render(follower.read(), 101.1)["charts"]
    fake.emit("step", step=7, epoch=0.35, loss=1.0, smoothed_loss=2.0, lr=1e-4)
    assert "charts" not in renderer.render(follower.read(), 101.2)
    assert "charts" in renderer.render(follower.read(), 101.3 + 10 * CHART_SECONDS)
    fake.emit("step", step=8, epoch=0.4, loss=1.0, smoothed_loss=2.0, lr=1e-4)
    fake.end()
    last = renderer.render(follower.read(), 101.4 + 10 * CHART_SECONDS)
    assert 'data-status="finished"' in last["status"]
    assert "charts" in last
    assert not last["live"].is_live


def test_two_streams_of_a_page_have_all_parts_between_them(fake: FakeHost) -> None:
    launch(fake, "live")
    write_steps(fake.emit, 5)
    view = RunFollower(fake.host).read()
    steps, rest = PageRenderer(), PageRenderer()
    assert set(steps.render(view, 100.0, AT_STEPS)) == {"status", "charts"}
    assert set(rest.render(view, 100.0, SELDOM)) == {"samples", "log", "checkpoints", "live"}
    fake.emit("step", step=6, epoch=0.3, loss=2.0, smoothed_loss=2.0, lr=1e-4)
    later = RunFollower(fake.host).read()
    assert set(steps.render(later, 900.0, AT_STEPS)) == {"status", "charts"}
    assert rest.render(later, 900.0, SELDOM) == {}  # a step remakes few outputs: gradio makes all of an event's anew


def test_a_step_makes_few_components_anew_and_an_idle_page_rests(fake: FakeHost) -> None:
    pytest.importorskip("gradio")
    page = build_page(fake.host)
    streams = {fn.name: len(fn.outputs) for fn in page.fns.values() if fn.name in ("watch_steps", "watch_rest")}
    assert streams.pop("watch_steps") == 3
    assert list(streams) == ["watch_rest"]
    assert page._queue.sleep_when_free >= 0.05  # gradio 6: a thousandth of a second, which takes 7 % of a core from a run


def test_a_poll_without_news_makes_nothing(fake: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    launch(fake, "live")
    write_steps(fake.emit, 5)
    follower, renderer = RunFollower(fake.host), PageRenderer()
    renderer.render(follower.read(), 100.0)
    for name in ("run_charts", "samples_html", "log_html", "checkpoints_html"):
        monkeypatch.setattr(render, name, lambda *given: pytest.fail("made again"))
    assert renderer.render(follower.read(), 900.0) == {}


def test_pages_share_one_reading_of_a_diary(fake: FakeHost) -> None:
    launch(fake, "live")
    write_steps(fake.emit, 5)
    first, second = RunFollower(fake.host), RunFollower(fake.host)
    assert first.read().state is second.read().state  # type: ignore[union-attr]
    assert first.feed is second.feed


def test_what_the_controls_show_of_a_run(fake: FakeHost) -> None:
    folder = launch(fake, "live")
    assert look(fake).live == LiveFacts(is_live=True, values=("", "", "1"))
    write_steps(fake.emit, 5)
    assert look(fake).live == LiveFacts(is_live=True, is_planned=True, values=("", "", "1"))
    config = read_json(folder.parameters)
    config["checkpoints"] |= {"stop_at_loss": 1.5, "stop_at_epoch": 3.0}
    write_json(folder.parameters, config)
    fake.emit("prepared", report={"num_eval_samples": 4})
    fake.emit("plan", num_steps=40, num_epochs=2.0, batching="hybrid")
    assert look(fake).live == LiveFacts(True, True, "Pause", True, True, ("1.5", "3", "1"))
    change_control(folder.control, stop_at_loss=0.0, pause=True, lr_scale=0.5)
    assert look(fake).live == LiveFacts(True, True, "Resume", True, True, ("", "3", "0.5"))
    fake.end()
    assert look(fake).live == LiveFacts()


def test_the_stream_gives_a_sign_of_life_when_nothing_changes(fake: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(watch, "HEARTBEAT_SECONDS", 0.05)

    async def first(count: int) -> list[Any]:
        stream = live_news(fake.host, PageSession())
        return [await anext(stream) for _ in range(count)]

    changes = asyncio.run(first(3))
    assert "idle" in changes[0]["status"]
    assert changes[1:] == [{}] * 2


def test_the_stream_tells_its_page_which_run_it_shows(fake: FakeHost) -> None:
    folder = launch(fake, "live")
    session = PageSession()

    async def first() -> Any:
        return await anext(live_news(fake.host, session))

    asyncio.run(first())
    assert session.folder == folder.path
    assert session.started > 0
    assert copy.deepcopy(session).folder is None  # another page knows nothing yet
