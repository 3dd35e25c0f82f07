"""The command line: train, check, plan, preview, config, runs, queue, merge, gguf, card, serve. The same engine as the tab, without a page.

``training-pro train run.yaml --set epochs=2`` and, where nothing is installed yet, ``python start.py train run.yaml``.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .cli_export import add_export_commands
from .cli_queue import add_queue_commands

if TYPE_CHECKING:
    from .config import RunConfig
    from .terminal import TrainingDisplay

EXIT_OK, EXIT_FAILED, EXIT_MISTAKE, EXIT_INTERRUPTED = 0, 1, 2, 130


def main(arguments: list[str] | None = None) -> int:
    """Entry of the console script; returns the exit code."""
    parser = build_parser()
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO if options.verbose else logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if not options.verbose:
        _quiet_libraries()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    if not hasattr(options, "run"):
        parser.print_help()
        return EXIT_MISTAKE
    try:
        return int(options.run(options))
    except (ValueError, OSError) as error:
        print(f"\n{error}", file=sys.stderr)
        return EXIT_MISTAKE
    except KeyboardInterrupt:
        print("\nInterrupted.", file=sys.stderr)
        return EXIT_INTERRUPTED


def _quiet_libraries() -> None:
    """Libraries tell users what is meant for their programmers; ``-v`` shows it."""
    import warnings

    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")


def build_parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    parser = argparse.ArgumentParser(prog="training-pro", description="Fine-tune a local language model.")
    parser.add_argument("-v", "--verbose", action="store_true", help="show what the libraries log")
    commands = parser.add_subparsers(title="commands")

    def command(name: str, run: Callable[[argparse.Namespace], int], help: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=help, description=help)
        sub.set_defaults(run=run)
        return sub

    for name, run, help in (
        ("train", run_train, "Train from a YAML file."),
        ("check", run_check, "Look at the data and the plan, and suggest settings, without training."),
        ("plan", run_plan, "Show the plan of the run and a picture of the learning rate, without training."),
        ("preview", run_preview, "Show samples with the tokens that are trained."),
    ):
        sub = command(name, run, help)
        sub.add_argument(
            "config", nargs="?", default="", help="YAML or JSON file with the settings, or a training_parameters.json"
        )
        sub.add_argument("--model", help="folder of a Hugging Face model instead of the one in the file")
        sub.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change a setting, e.g. --set epochs=2")
        if name == "train":
            sub.add_argument("--dry-run", action="store_true", help="prepare, plan and report; do not train")
        if name == "plan":
            sub.add_argument("--picture", metavar="FILE.png", help="draw the learning rate over the run into this file, too")
        if name == "preview":
            sub.add_argument("--num", type=int, default=3, help="number of samples, or packs (default 3)")
            sub.add_argument("--first", type=int, default=1, help="first sample, or pack, to show (default 1)")
    sub = command("config", run_config, "Print settings: a commented example or the JSON schema.")
    group = sub.add_mutually_exclusive_group(required=True)
    group.add_argument("--example", action="store_true", help="YAML with every setting, its default and its meaning")
    group.add_argument("--schema", action="store_true", help="JSON schema, for editors")
    sub = command("runs", run_runs, "List the runs and their state.")
    sub.add_argument("--adapters-dir", default="loras", help="folder of the adapters (default: loras)")
    add_queue_commands(command, read_options)
    add_export_commands(command)
    sub = command("serve", run_serve, "Open the page in a browser, with the embedded model or one of yours.")
    sub.add_argument("--host", default="127.0.0.1")
    sub.add_argument("--port", type=int, default=7866)
    sub.add_argument(
        "--login", default="", metavar="NAME:PASSWORD", help="ask for it; needed where --host lets other machines in"
    )
    sub.add_argument("--model", default="", help="folder of a Hugging Face model (default: the embedded one)")
    sub.add_argument("--data-dir", default="", help="folder whose files are offered as data (default: examples)")
    sub.add_argument("--adapters-dir", default="loras", help="folder of the adapters (default: loras)")
    sub.add_argument("--no-browser", action="store_true", help="do not open a browser")
    return parser


def read_options(options: argparse.Namespace) -> RunConfig:
    """The configuration that a command line means."""
    from .config import RunConfig

    overrides = list(options.set)
    if options.model:
        overrides.append(f"model.path={options.model}")
    config = RunConfig.from_file(options.config, overrides) if options.config else RunConfig.from_overrides(overrides)
    config.require_valid()
    for note in config.notes:
        _say(f"note: {note}")
    return config


def _is_main() -> bool:
    """Whether this is the process that talks, of those that train together."""
    return int(os.environ.get("RANK", 0)) == 0


def _say(text: str) -> None:
    if _is_main():
        print(text, flush=True)


# --- train ---------------------------------------------------------------------------------------------------------------------


def run_train(options: argparse.Namespace) -> int:
    """Train to the end, with a progress bar; Ctrl-C saves and stops, a second one stops at once."""
    if options.dry_run:
        return run_check(options)
    config = read_options(options)
    from .hosts.local import loader
    from .runs.store import RunFolder
    from .terminal import TrainingDisplay
    from .training.errors import RunError

    display = TrainingDisplay(visible=_is_main())
    if {"ACCELERATE_USE_CPU", "MASTER_ADDR"} <= os.environ.keys() and "WORLD_SIZE" not in os.environ:
        _say(
            "note: accelerate launch --cpu starts one process only; for several on CPUs take torchrun --nproc_per_node or --multi_gpu"
        )
    _say("Starting (the libraries take some seconds to load) ...")
    from .training.job import run_job
    from .training.ranks import leave

    def on_folder(folder: RunFolder) -> None:
        display.folder = folder
        _say(f"Run folder: {folder.path}")

    with graceful_interrupt(display):
        try:
            outcome = run_job(config, loader(config, _say), listener=display, on_folder=on_folder)
        except RunError:
            return EXIT_MISTAKE  # the main process says what it was
    display.close(outcome)
    if outcome.status != "failed":
        leave()
    return {"finished": EXIT_OK, "interrupted": EXIT_INTERRUPTED, "discarded": EXIT_INTERRUPTED}.get(outcome.status, EXIT_FAILED)


@contextmanager
def graceful_interrupt(display: TrainingDisplay) -> Iterator[None]:
    """Ctrl-C and a polite kill ask the training to save and stop; a second Ctrl-C, or one before the first step, raises.

    Args:
        display: knows the run's folder and what it is doing.
    """
    from .runs.control import change_control

    asked: list[int] = []

    def ask(number: int, frame: Any) -> None:
        asked.append(number)
        is_first, folder = len(asked) == 1, display.folder
        if not is_first and number == signal.SIGTERM:
            return  # a launcher passes on what the terminal has sent already
        if is_first and not display.visible:
            return  # the main process decides for all
        if is_first and display.is_saving:
            return display.say("The adapter is being saved; one moment.")
        if not is_first or folder is None or not display.is_training:
            raise KeyboardInterrupt
        try:
            change_control(folder.control, stop=True)
        except OSError:
            raise KeyboardInterrupt from None
        display.say("Saving and stopping after this step. Press Ctrl-C again to stop at once.")

    if threading.current_thread() is not threading.main_thread():  # only there signals can be received
        yield
        return
    previous = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


# --- check, preview ------------------------------------------------------------------------------------------------------------


def run_check(options: argparse.Namespace) -> int:
    """Prepare, plan and report."""
    config = read_options(options)
    from .hosts.local import loader
    from .terminal import ReadingBar, check_lines
    from .training.check import check_run

    result = check_run(config, loader(config, _say), progress=ReadingBar())
    print("\n".join(check_lines(result)))
    return EXIT_MISTAKE if result.problems else EXIT_OK


def run_plan(options: argparse.Namespace) -> int:
    """Prepare, and show the plan and the learning rate over the run."""
    config = read_options(options)
    from .hosts.local import loader
    from .matplotgraph import save_schedule
    from .terminal import ReadingBar
    from .terminal_plan import plan_page
    from .training.check import check_run

    result = check_run(config, loader(config, _say), progress=ReadingBar())
    print("\n".join(plan_page(result, sys.stdout.encoding)))
    if options.picture and not result.problems:
        print(save_schedule(Path(options.picture), result.plan) or f"picture: {Path(options.picture).absolute()}")
    return EXIT_MISTAKE if result.problems else EXIT_OK


def run_preview(options: argparse.Namespace) -> int:
    """Show samples as they are trained; the model itself is loaded only where packing asks for its embeddings."""
    config = read_options(options)
    from .data.packing import NEEDS_VECTORS
    from .data.preview import preview
    from .hosts.local import load_model, model_folder
    from .terminal import ReadingBar, preview_lines
    from .train_utils import load_tokenizer
    from .training.setup import prepare_samples

    if config.batching.packing in NEEDS_VECTORS:
        model, tokenizer = load_model(config, _say)
    else:
        model, tokenizer = None, load_tokenizer(model_folder(config, _say))
    prepared, packs = prepare_samples(config, model, tokenizer, progress=ReadingBar())
    page = preview(prepared, tokenizer, capacity=config.data.cutoff, first=options.first - 1, num=options.num, packs=packs)
    print("\n".join(preview_lines(page)))
    return EXIT_OK


# --- the rest ------------------------------------------------------------------------------------------------------------------


def run_config(options: argparse.Namespace) -> int:
    """Print an example or the schema."""
    from .config import RunConfig
    from .config.loading import example_yaml, json_schema

    print(example_yaml(RunConfig) if options.example else json_schema(RunConfig))
    return EXIT_OK


def run_runs(options: argparse.Namespace) -> int:
    """List runs, newest first."""
    from .runs.store import list_runs
    from .runs.summary import summarize

    folders = list_runs(Path(options.adapters_dir))
    if not folders:
        print(f"No runs in {Path(options.adapters_dir).absolute()}.")
    for run in map(summarize, folders):
        loss = "" if run.loss is None else f", loss {run.loss:.3f}"  # a loss that is no number is written as None
        progress = f"step {run.step} of {run.num_steps or '?'}{loss}" if run.step else ""
        print(f"{run.name:30} {run.status or 'adapter':12} {progress}")
    return EXIT_OK


def run_serve(options: argparse.Namespace) -> int:
    """Open the standalone page."""
    from .hosts.standalone import ServeOptions, serve

    serve(
        ServeOptions(options.host, options.port, options.login, not options.no_browser),
        model=options.model,
        data_dir=options.data_dir,
        adapters_dir=options.adapters_dir,
    )
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
