"""The status of a run as HTML, for each state a run can be in; nothing from outside reaches the page unescaped."""

from pathlib import Path

import pytest
from training_pro.runs.state import RunState, apply_event
from training_pro.ui.live.samples import NEWEST_SHOWN, samples_html
from training_pro.ui.live.status import RunView, progress_share, status_facts, status_html

EVIL = '<img src=x onerror="alert(1)">'


def run_state(status: str = "running", **end: object) -> RunState:
    state = RunState()
    events: list[dict[str, object]] = [
        {"event": "run_started", "name": "my-lora", "t": 100.0, "pid": 1, "process_started": 0.0},
        {"event": "plan", "num_steps": 40, "num_epochs": 2.0},
        {"event": "stage", "stage": "training", "detail": ""},
        {
            **{"event": "step", "t": 160.0, "step": 10, "epoch": 0.5, "loss": 2.5, "smoothed_loss": 2.25, "lr": 0.000262},
            **{"tokens_per_second": 1234.5, "time_left": 75.0},
        },
    ]
    if status != "running":
        events.append({"event": "run_ended", "t": 163.0, "status": status, **end})
    for event in events:
        apply_event(state, event)
    return state


def test_no_run() -> None:
    html = status_html(None)
    assert 'id="tph-status"' in html
    assert 'data-status="idle"' in html


def test_a_running_run_shows_all_its_numbers() -> None:
    html = status_html(RunView(run_state(), Path("/loras/my-lora")))
    assert 'data-status="running"' in html
    assert "tph-result" not in html
    assert 'aria-valuenow="25"' in html
    assert dict(status_facts(run_state(), "running")) == {
        "Step": "10 of 40",
        "Epoch": "0.50 of 2",
        "Loss": "2.250",
        "Learning rate": "2.62e-4",
        "Tokens/s": "1,234",
        "Time left": "1 min 15 s",
    }


LENGTH = {"event": "phase", "step": 0, "epoch": 0.0, "phase": "length", "stage": 0, "cause": ""}
SEQUENTIAL = {"event": "phase", "step": 1005, "epoch": 0.25, "phase": "sequential", "stage": 1, "cause": "after 1 epoch"}


@pytest.mark.parametrize(
    ("mode", "phases", "words"),
    [
        ("hybrid", [], None),
        ("hybrid", [LENGTH], "length since the beginning"),
        ("hybrid", [LENGTH, SEQUENTIAL], "sequential since step 1,005 (after 1 epoch)"),
        ("length", [LENGTH], None),
        (None, [LENGTH], None),
    ],
)
def test_the_phase_of_a_run_with_several(mode: str | None, phases: list[dict], words: str | None) -> None:
    state = run_state()
    state.plan["batching"] = mode
    for event in phases:
        apply_event(state, event)
    assert dict(status_facts(state, "running")).get("Phase") == words
    html = status_html(RunView(state, Path("/x")))
    assert ("<dt>Phase</dt>" in html) is (words is not None)


def test_a_stop_that_was_asked_for_is_said() -> None:
    assert "stopping after this step, saving" in status_html(RunView(run_state(), Path("/x"), is_stopping=True))
    html = status_html(RunView(run_state(), Path("/x"), is_stopping=True, is_discarding=True))
    assert "stopping after this step, discarding" in html
    assert "pausing after this step" in status_html(RunView(run_state(), Path("/x"), is_pausing=True))


@pytest.mark.parametrize("in_webui", [True, False])
def test_a_paused_run_says_so_and_who_answers(in_webui: bool) -> None:
    state = run_state()
    apply_event(state, {"event": "paused", "step": 10})
    html = status_html(RunView(state, Path("/x"), in_webui=in_webui, is_pausing=True))
    assert 'data-status="running" data-paused="true"' in html
    assert "Paused at step 10" in html
    assert ("The chat answers with the half-trained model" in html) is in_webui
    apply_event(state, {"event": "unpaused", "step": 10, "seconds": 3.0})
    assert "Paused" not in status_html(RunView(state, Path("/x")))


def test_a_discarded_run_names_no_result() -> None:
    view = RunView(run_state("discarded", message="Nothing is left of it."), Path("/loras/my-lora"), has_adapter=True)
    html = status_html(view)
    assert 'data-status="discarded"' in html
    assert "Nothing is left of it." in html
    assert "tph-result" not in html


def test_the_memory_that_was_told_last() -> None:
    state = run_state()
    state.steps.insert(0, {**state.steps[0], "memory": 3 * 2**30})
    assert ("Memory", "3.0 GB") in status_facts(state, "running")


@pytest.mark.parametrize("in_webui", [True, False])
@pytest.mark.parametrize("status", ["finished", "interrupted"])
def test_a_good_end_names_the_result(status: str, in_webui: bool) -> None:
    view = RunView(run_state(status), Path("/loras/my-lora"), has_adapter=True, in_webui=in_webui)
    html = status_html(view)
    assert f'data-status="{status}"' in html
    assert 'id="tph-result"' in html
    assert "<b>my-lora</b> is saved" in html
    assert ("Apply LoRAs" in html) is in_webui
    assert ('aria-valuenow="100"' in html) is (status == "finished")
    assert ("Took", "1 min 3 s") in status_facts(view.state, status)


def test_an_end_without_adapter_says_so() -> None:
    html = status_html(RunView(run_state("interrupted"), Path("/loras/my-lora")))
    assert "No adapter was saved" in html


def test_a_failure_shows_message_and_remedy() -> None:
    view = RunView(run_state("failed", message="Out of memory.", remedy="Lower True Batch Size."), Path("/loras/my-lora"))
    html = status_html(view)
    assert 'data-status="failed"' in html
    assert "Out of memory." in html
    assert "Lower True Batch Size." in html
    assert "tph-result" not in html


def test_a_failure_that_kept_what_was_learned_names_the_result() -> None:
    html = status_html(RunView(run_state("failed", message="Disk full."), Path("/loras/my-lora"), has_adapter=True))
    assert "Disk full." in html
    assert "<b>my-lora</b> is saved" in html


def test_a_dead_run_says_how_to_go_on() -> None:
    state = run_state()
    state.status = "died"
    assert "begin anew" in status_html(RunView(state, Path("/loras/my-lora")))
    state.checkpoints = [{"step": 8}]
    html = status_html(RunView(state, Path("/loras/my-lora")))
    assert 'data-status="died"' in html
    assert "checkpoint of step 8" in html
    assert "resume" in html


@pytest.mark.parametrize("status", ["running", "finished", "failed", "interrupted"])
def test_everything_from_outside_is_escaped(status: str) -> None:
    state = run_state(status, message=EVIL, remedy=EVIL)
    state.name, state.stage, state.detail = EVIL, EVIL, EVIL
    state.messages = [{"level": EVIL, "text": EVIL}]
    state.plan["batching"] = "hybrid"
    state.phases = [{"step": 5, "phase": EVIL, "stage": 1, "cause": EVIL}]
    state.samples = [{"when": when, "prompt": EVIL, "answer": EVIL} for when in ("before", "after")]
    html = status_html(RunView(state, Path(f"/loras/{EVIL}"), has_adapter=True, in_webui=True)) + samples_html(state.samples)
    assert "<img" not in html
    assert "&lt;img" in html


def test_only_the_last_messages_are_shown() -> None:
    state = run_state()
    state.messages = [{"level": "warning", "text": f"message {number}"} for number in range(20)]
    html = status_html(RunView(state, Path("/x")))
    assert "12 earlier messages" in html
    assert "message 19" in html
    assert "message 3<" not in html


def test_samples_stand_in_the_order_of_time_the_base_models_first() -> None:
    before = {"when": "before", "prompt": "Who?", "answer": "no idea"}
    assert samples_html([]) == ""
    steps = [{"when": "step", "step": step, "prompt": "Who?", "answer": f"at {step}"} for step in (50, 1000)]
    html = samples_html([*steps, {"when": "after", "prompt": "Who?", "answer": "Orla"}, before, {**before, "prompt": "Where?"}])
    words = ("Who?", "Before, base model", "no idea", "Step 50", "at 50", "Step 1,000", "at 1000", "After", "Orla", "Where?")
    places = [html.index(word) for word in words]
    assert places == sorted(places)


def test_the_last_answer_of_a_time_counts_and_an_empty_one_says_so() -> None:
    html = samples_html([{"when": "step", "step": 5, "prompt": "Who?", "answer": answer} for answer in ("old", " ")])
    assert "old" not in html
    assert "(nothing)" in html


def test_of_many_answers_the_base_models_and_the_newest_are_shown() -> None:
    samples = [{"when": "before", "prompt": "Who?", "answer": "base"}]
    samples += [{"when": "step", "step": step, "prompt": "Who?", "answer": f"a{step}."} for step in range(1, 31)]
    html = samples_html(samples)
    assert html.count('class="tph-answer"') == NEWEST_SHOWN + 1
    assert f"{30 - NEWEST_SHOWN} earlier answers are in events.jsonl." in html
    assert "base" in html
    assert "a30." in html
    assert "a18." not in html


@pytest.mark.parametrize(
    ("plan", "step", "share"), [({}, {}, 0), ({"num_steps": 0}, {"step": 1}, 0), ({"num_steps": 4}, {"step": 5}, 1)]
)
def test_progress_is_a_share_whatever_is_known(plan: dict, step: dict, share: float) -> None:
    assert progress_share(RunState(plan=plan, steps=[step] if step else [])) == share


def test_before_the_training_progress_is_the_reading_of_the_data() -> None:
    assert progress_share(RunState(share=0.25)) == 0.25
    assert progress_share(RunState(share=0.25, plan={"num_steps": 4}, steps=[{"step": 2}])) == 0.25
    assert progress_share(RunState(plan={"num_steps": 4}, steps=[{"step": 2}])) == 0.5


def test_a_loss_of_nan_is_a_dash() -> None:
    state = run_state()
    state.steps[-1].update(loss=None, smoothed_loss=None)
    assert ("Loss", "–") in status_facts(state, "running")


def test_what_the_curves_showed_is_said_at_the_end() -> None:
    finding = {"kind": "over-fitting", "words": "The <evaluation> loss has risen.", "advice": "Fewer epochs."}
    state = RunState(name="a", status="finished", diagnosis=[finding])
    html = status_html(RunView(state, Path("/x/a")))
    assert "over-fitting" in html
    assert "The &lt;evaluation&gt; loss has risen. Fewer epochs." in html
    assert "diagnosis" not in status_html(RunView(RunState(name="a", status="finished"), Path("/x/a")))
