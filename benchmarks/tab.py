"""What the tab costs a run, how soon a control acts, how soon a long run is open, and what the page's data take in memory.

    python benchmarks/tab.py                          (the embedded model, a few minutes)
    python benchmarks/tab.py --model FOLDER --rounds 5 --steps 60
    python benchmarks/tab.py --only open memory       (parts: cost, control, open, memory)

A real headless browser shows the page; it needs playwright and a Chromium (see tests/browser.py). The trainer and its page share a process of
their own, as in the WebUI, and the browser has another. Cost: the same run by turns without any page and with an open one, trained tokens
of all steps but the first over the time between the ends of the first and the last; medians. The same per second of the trainer's processor
time, which other programs of a busy machine disturb less (the whole run counts there, not the browser). Control: the event's time minus the moment
before the click. Open: a diary of 100,000 steps, written before. Memory: resident memory that the page's data take, and the bytes it sends.
On few cores the browser itself takes time from the trainer: the number of cores is printed.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "import_root")]
os.environ.setdefault("OMP_NUM_THREADS", "1")

PARTS = ("cost", "control", "open", "memory")
PATIENCE = 600  # seconds


# --- the process that trains ---------------------------------------------------------------------------------------------------------


def work(model: str, folder: Path) -> None:
    """Take commands from the standard input, one JSON object a line, and answer each with one."""
    import gradio_shim

    gradio_shim.install()
    from training_pro.config import RunConfig
    from training_pro.hosts import local
    from training_pro.hosts.standalone import make_host
    from training_pro.runs.queue_runner import stop_runner
    from training_pro.ui.page import build_page, launch_options

    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print is no answer
    host = make_host(model, folder, folder / "adapters")
    page = None
    for line in sys.stdin:
        asked = json.loads(line)
        answer: dict[str, Any] = {}
        if asked["do"] == "serve":
            page = build_page(host)
            page.launch(server_name="127.0.0.1", server_port=asked["port"], prevent_thread_lock=True, **launch_options())
        elif asked["do"] == "close" and page is not None:
            page.close()
            stop_runner()
        elif asked["do"] == "run":
            handle = host.launch(RunConfig.from_dict(asked["config"]))
            if asked["wait"]:
                assert handle.thread
                handle.thread.join()
        elif asked["do"] == "load":
            local.load_model(RunConfig.from_dict({"model": {"path": model}}))
        elif asked["do"] == "memory":
            answer = memory_of(folder / "adapters" / asked["name"])
        answers.write(json.dumps(answer) + "\n")


def memory_of(path: Path) -> dict[str, float]:
    """Bytes that the data of one shown run take, and the size of what the page is sent of it."""
    import gc

    import psutil
    from training_pro.runs.store import RunFolder
    from training_pro.ui.charts.run import run_charts
    from training_pro.ui.feed import feed_of

    process = psutil.Process()
    gc.collect()
    before = process.memory_info().rss
    feed = feed_of(RunFolder(path))
    state = feed.read()
    charts = run_charts(state, feed.columns)
    gc.collect()
    return {"bytes": process.memory_info().rss - before, "steps": len(state.steps), "html": len(charts.encode())}


class Trainer:
    """The process that trains, seen from the benchmark."""

    def __init__(self, model: str, folder: Path) -> None:
        command = [sys.executable, __file__, "--work", str(folder), "--model", model]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.adapters = folder / "adapters"

    def ask(self, do: str, **more: Any) -> dict[str, Any]:
        """Let it do something and wait for it."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps({"do": do, **more}) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, "the process that trains has ended; its words are above"
        return dict(json.loads(answer))

    def worked(self) -> float:
        """Seconds of processor time that it has taken."""
        import psutil

        times = psutil.Process(self._process.pid).cpu_times()
        return float(times.user + times.system)

    def close(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait(30)

    def events(self, name: str) -> list[dict[str, Any]]:
        """The diary of a run so far."""
        from training_pro.runs.events import read_events

        return read_events(self.adapters / name / "events.jsonl")[0]


# --- parts -----------------------------------------------------------------------------------------------------------------------------


@contextmanager
def open_page(browser: Any, trainer: Trainer) -> Iterator[Any]:
    """The page, served and shown."""
    from browser import Tab, free_port

    port = free_port()
    trainer.ask("serve", port=port)
    tab = Tab(browser)
    tab.page.set_default_timeout(PATIENCE * 1000)
    try:
        yield tab.open(f"http://127.0.0.1:{port}/").page
    finally:
        tab.page.close()
        trainer.ask("close")


def settings(options: argparse.Namespace, folder: Path, name: str, num_steps: int) -> dict[str, Any]:
    """A run of so many steps of two short conversations."""
    words = "the old harbour keeps its lanterns lit until the last boat is home and the bell has rung seven times".split()
    rows = []
    for number in range(num_steps * 2):
        reply = " ".join(words[(number + place) % len(words)] for place in range(options.words))
        rows.append({"messages": [{"role": "user", "content": f"Story {number}?"}, {"role": "assistant", "content": reply}]})
    path = folder / f"{num_steps}.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return {
        "adapter": {"name": name, "if_exists": "replace", "rank": 8, "targets": ["q-v"]},
        "data": {"dataset": str(path)},
        "batching": {"true_batch_size": 2},
        "training": {"epochs": 1, "schedule": "constant"},
        "checkpoints": {"save_every_epoch": False},
    }


def rate(events: list[dict[str, Any]]) -> float:
    """Tokens per second from the end of the first step to the end of the last."""
    steps = [event for event in events if event["event"] == "step"]
    assert len(steps) > 2, events[-1]
    return float(sum(step["tokens"] for step in steps[1:]) / (steps[-1]["t"] - steps[0]["t"]))


def measure_cost(options: argparse.Namespace, browser: Any, trainer: Trainer, folder: Path) -> None:
    """Tokens per second, and per second of the trainer's processor time, without a page and with an open one."""
    config = settings(options, folder, "cost", options.steps)

    def one() -> tuple[float, float]:
        worked = trainer.worked()
        trainer.ask("run", config=config, wait=True)
        events = trainer.events("cost")
        tokens = sum(event["tokens"] for event in events if event["event"] == "step")
        return rate(events), tokens / (trainer.worked() - worked)

    one()  # what a first run alone pays
    rounds = []
    for number in range(options.rounds):
        found = {}
        # by turns in another order, so that a machine that gets slower or faster favours neither
        for shown in (False, True) if number % 2 == 0 else (True, False):
            if shown:
                with open_page(browser, trainer):
                    found[shown] = one()
            else:
                found[shown] = one()
        ratios = [open_ / headless for open_, headless in zip(found[True], found[False], strict=True)]
        rounds.append(ratios)
        rates = f"headless {found[False][0]:.1f}, page open {found[True][0]:.1f} tokens/s, ratio {ratios[0]:.3f}"
        print(f"round {number + 1}: {rates}; per second of processor time: ratio {ratios[1]:.3f}", flush=True)
    by_clock, by_work = (statistics.median(column) for column in zip(*rounds, strict=True))
    print(f"cost: median ratio {by_clock:.3f}; per second of the trainer's processor time {by_work:.3f}\n", flush=True)


def wait_event(trainer: Trainer, name: str, wanted: Callable[[dict[str, Any]], bool], after: float) -> dict[str, Any]:
    """The first event of a kind since a moment."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        for event in trainer.events(name):
            if event["t"] >= round(after, 3) and wanted(event):
                return event
        time.sleep(0.05)
    raise TimeoutError(f"nothing came of it: {trainer.events(name)[-1]}")


def measure_control(options: argparse.Namespace, browser: Any, trainer: Trainer, folder: Path) -> None:
    """From the click to the effect on the run: pause, go on, stop at loss."""
    from training_pro.ui.live.controls import field_id

    delays: dict[str, list[float]] = {"Pause": [], "Resume": [], "Stop at loss": []}
    with open_page(browser, trainer) as page:
        for _ in range(options.rounds):
            trainer.ask("run", config=settings(options, folder, "control", 2000), wait=False)
            wait_event(trainer, "control", lambda event: event["event"] == "step" and event["step"] >= 12, 0.0)
            for label, kind in (("Pause", "paused"), ("Resume", "unpaused")):
                button = page.locator("#tph-pause-button", has_text=label)
                button.wait_for()
                clicked = time.time()
                button.click()
                event = wait_event(trainer, "control", lambda event, kind=kind: event["event"] == kind, clicked)
                delays[label].append(event["t"] - clicked)
            page.fill(f"#{field_id('stop_at_loss')} :is(input, textarea)", "100")
            clicked = time.time()
            page.click(f"#{field_id('stop_at_loss')}-apply")
            event = wait_event(
                trainer, "control", lambda event: event["event"] == "control" and event["name"] == "stop_at_loss", clicked
            )
            delays["Stop at loss"].append(event["t"] - clicked)
            wait_event(trainer, "control", lambda event: event["event"] == "run_ended", clicked)
            seconds = [event["seconds"] for event in trainer.events("control") if event["event"] == "step"]
    step = statistics.median(seconds)
    for label, values in delays.items():
        shown = f"median {statistics.median(values):.2f} s, longest {max(values):.2f} s"
        print(f"control, {label}: {shown}; one step {step:.2f} s (aim: under one step + 0.5 s = {step + 0.5:.2f} s)", flush=True)
    print()


def write_long(adapters: Path, name: str, num_steps: int) -> Path:
    """The diary of a long finished run."""
    from training_pro.config import RunConfig
    from training_pro.runs.store import RunFolder, write_json

    folder = RunFolder(adapters / name)
    folder.path.mkdir(parents=True)
    write_json(folder.parameters, RunConfig().to_dict())
    now = time.time() - num_steps
    events: list[dict[str, Any]] = [
        {"t": now, "event": "run_started", "name": name, "pid": 1, "process_started": 0.0, "resumed_from_step": None},
        {"t": now, "event": "plan", "num_steps": num_steps, "num_epochs": 4.0, "steps_per_epoch": [num_steps // 4] * 4},
    ]
    for step in range(1, num_steps + 1):
        loss = 1.2 + 2.5 / (1 + step / 2000) + 0.3 * ((step * 7919) % 1000) / 1000
        event = {
            "t": now + step,
            "event": "step",
            "step": step,
            "epoch": 4 * step / num_steps,
            "loss": loss,
            "smoothed_loss": loss - 0.15,
        }
        event |= {
            "lr": 3e-4 * (1 - step / num_steps),
            "lr_scale": 1.0,
            "grad_norm": 0.5 + loss / 9,
            "tokens": 4096,
            "trained_tokens": 2100,
        }
        event |= {"padding": 17, "tokens_per_second": 4095.5, "seconds": 1.0001, "time_left": float(num_steps - step)}
        events.append(event)
        if step % (num_steps // 20) == 0:
            events.append({"t": now + step, "event": "evaluation", "step": step, "epoch": event["epoch"], "loss": loss + 0.1})
    events.append(
        {"t": time.time(), "event": "run_ended", "status": "finished", "message": "The training is finished.", "adapter": ""}
    )
    folder.events.write_text("".join(json.dumps(event) + "\n" for event in events), encoding="utf-8")
    return folder.path


def measure_open(options: argparse.Namespace, browser: Any, trainer: Trainer) -> None:
    """A long run: read and drawn by the server; opened in the list; and a page that shows it at its opening."""
    from training_pro.runs.state import read_state
    from training_pro.runs.store import RunFolder
    from training_pro.ui.runs.list import details_html

    path = write_long(trainer.adapters, "long", options.long)
    size = (path / "events.jsonl").stat().st_size / 1e6
    read, drawn, chosen, loaded = [], [], [], []
    work_read, work_drawn, work_chosen = [], [], []
    with open_page(browser, trainer) as page:
        for _ in range(options.rounds):
            begun, worked = time.perf_counter(), time.process_time()
            state = read_state(RunFolder(path))
            read.append(time.perf_counter() - begun)
            work_read.append(time.process_time() - worked)
            details_html(RunFolder(path), state, None)
            drawn.append(time.perf_counter() - begun - read[-1])
            work_drawn.append(time.process_time() - worked - work_read[-1])
            assert len(state.steps) == options.long
            begun = time.perf_counter()
            page.reload()
            page.wait_for_selector("#tph-curve svg")
            loaded.append(time.perf_counter() - begun)
            page.get_by_role("tab", name="Runs").click()
            page.wait_for_selector("#tph-runs tr[data-run='long']")
            page.click("#tph-runs-chosen input")
            entry = page.locator("ul.options li, ul[role=listbox] li").filter(has_text="long ·").first
            entry.wait_for()
            begun, worked = time.perf_counter(), trainer.worked()
            entry.click()
            page.wait_for_selector("#tph-run-details[data-runs='1'] svg")
            chosen.append(time.perf_counter() - begun)
            work_chosen.append(trainer.worked() - worked)
    print(f"open, {options.long:,} steps ({size:.0f} MB of diary), medians of {options.rounds}:")
    parts: list[tuple[str, list[float], list[float]]] = [
        ("diary read", read, work_read),
        ("drawn", drawn, work_drawn),
        ("chosen in the list until shown", chosen, work_chosen),
        ("page loaded until shown", loaded, []),
    ]
    for label, values, work in parts:
        of_processor = f" ({statistics.median(work):.2f} s of processor time)" if work else ""
        print(f"  {label}: {statistics.median(values):.2f} s{of_processor}")
    print(flush=True)


def measure_memory(options: argparse.Namespace, trainer: Trainer) -> None:
    """What a long run takes in the server's memory, however many pages show it, and what a page is sent."""
    if not (trainer.adapters / "long").exists():
        write_long(trainer.adapters, "long", options.long)
    found = trainer.ask("memory", name="long")
    each = found["bytes"] / found["steps"]
    print(
        f"memory: {found['bytes'] / 2**20:.0f} MiB for {found['steps']:,} steps ({each:.0f} bytes a step), charts of {found['html'] / 1e3:.0f} kB\n"
    )


def main() -> None:
    """Measure the parts that are asked for, and print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="", help="folder; default: the embedded model")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=20, help="of the runs whose cost is measured")
    parser.add_argument("--words", type=int, default=20, help="of each reply")
    parser.add_argument("--long", type=int, default=100_000, help="steps of the run that is opened")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(options.model, options.work)
        return
    from browser import CHROMIUM_ARGUMENTS, find_chromium
    from playwright.sync_api import sync_playwright

    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    print(f"{os.cpu_count()} cores{load}\n", flush=True)
    with tempfile.TemporaryDirectory() as temporary, sync_playwright() as playwright:
        folder = Path(temporary)
        trainer = Trainer(options.model, folder)
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=list(CHROMIUM_ARGUMENTS))
        try:
            if "memory" in options.only:  # first, while the process is fresh
                measure_memory(options, trainer)
                import shutil

                shutil.rmtree(trainer.adapters / "long")
            if {"cost", "control"} & set(options.only):
                trainer.ask("load")
            if "cost" in options.only:
                measure_cost(options, browser, trainer, folder)
            if "control" in options.only:
                measure_control(options, browser, trainer, folder)
            if "open" in options.only:
                measure_open(options, browser, trainer)
        finally:
            browser.close()
            trainer.close()


if __name__ == "__main__":
    main()
