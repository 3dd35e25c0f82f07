"""The command line: train, check, preview, config, runs, serve. The same engine as the tab, without a page.

``training-pro train run.yaml --set epochs=2`` and, where nothing is installed yet, ``python start.py train run.yaml``.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .config import RunConfig

EXIT_OK, EXIT_FAILED, EXIT_MISTAKE, EXIT_INTERRUPTED = 0, 1, 2, 130


def main(arguments: list[str] | None = None) -> int:
    """Entry of the console script; returns the exit code."""
    parser = build_parser()
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO if options.verbose else logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
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
        ("preview", run_preview, "Show samples with the tokens that are trained."),
    ):
        sub = command(name, run, help)
        sub.add_argument("config", help="YAML or JSON file with the settings, or a training_parameters.json")
        sub.add_argument("--model", help="folder of a Hugging Face model instead of the one in the file")
        sub.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change a setting, e.g. --set epochs=2")
        if name == "train":
            sub.add_argument("--dry-run", action="store_true", help="prepare, plan and report; do not train")
        if name == "preview":
            sub.add_argument("--num", type=int, default=3, help="number of samples (default 3)")
    sub = command("config", run_config, "Print settings: a commented example or the JSON schema.")
    group = sub.add_mutually_exclusive_group(required=True)
    group.add_argument("--example", action="store_true", help="YAML with every setting, its default and its meaning")
    group.add_argument("--schema", action="store_true", help="JSON schema, for editors")
    sub = command("runs", run_runs, "List the runs and their state.")
    sub.add_argument("--adapters-dir", default="loras", help="folder of the adapters (default: loras)")
    sub = command("serve", run_serve, "Open the page in a browser, with the embedded model or one of yours.")
    sub.add_argument("--host", default="127.0.0.1")
    sub.add_argument("--port", type=int, default=7866)
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
    config = RunConfig.from_file(options.config, overrides)
    config.require_valid()
    for note in config.notes:
        print(f"note: {note}")
    return config


def _say(text: str) -> None:
    if int(os.environ.get("RANK", 0)) == 0:
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

    display = TrainingDisplay(visible=int(os.environ.get("RANK", 0)) == 0)
    _say("Starting (the libraries take some seconds to load) ...")
    from .training.job import run_job

    def on_folder(folder: RunFolder) -> None:
        display.folder = folder
        _say(f"Run folder: {folder.path}")

    with _graceful_interrupt(display):
        outcome = run_job(config, loader(config, _say), listener=display, on_folder=on_folder)
    display.close(outcome)
    return {"finished": EXIT_OK, "interrupted": EXIT_INTERRUPTED}.get(outcome.status, EXIT_FAILED)


class _graceful_interrupt:
    """The first Ctrl-C asks the training to save and stop; the second one, or one before training, raises."""

    def __init__(self, display: Any) -> None:
        self._display = display
        self._previous: Any = None

    def __enter__(self) -> None:
        self._previous = signal.signal(signal.SIGINT, self._handle)

    def __exit__(self, *details: Any) -> None:
        signal.signal(signal.SIGINT, self._previous)

    def _handle(self, number: int, frame: Any) -> None:
        from .runs.control import change_control, read_control

        folder = self._display.folder
        if folder is None or not self._display.is_training or read_control(folder.control).stop:
            raise KeyboardInterrupt
        change_control(folder.control, stop=True)
        self._display.say("Saving and stopping after this step. Press Ctrl-C again to stop at once.")


# --- check, preview ------------------------------------------------------------------------------------------------------------


def run_check(options: argparse.Namespace) -> int:
    """Prepare, plan and report."""
    config = read_options(options)
    from .hosts.local import loader
    from .terminal import check_lines
    from .training.check import check_run

    result = check_run(config, loader(config, _say), progress=_row_progress)
    print("\n".join(check_lines(result)))
    return EXIT_MISTAKE if result.problems else EXIT_OK


def _row_progress(rows: int, what: str) -> None:
    if rows and rows % 2000 == 0:
        print(f"\r{what}: {rows} rows", end="", file=sys.stderr, flush=True)


def run_preview(options: argparse.Namespace) -> int:
    """Show samples as they are trained."""
    config = read_options(options)
    from .data.prepare import prepare
    from .hosts.local import model_folder
    from .terminal import preview_lines
    from .train_utils import load_tokenizer, read_chat_template

    tokenizer = load_tokenizer(model_folder(config, _say))
    if config.model.chat_template:
        tokenizer.chat_template = read_chat_template(config.model.chat_template)
    prepared = prepare(config.data, tokenizer, seed=config.training.seed, progress=_row_progress)
    print("\n".join(preview_lines(prepared, tokenizer, options.num)))
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
    from .runs.state import read_state
    from .runs.store import list_runs

    folders = list_runs(Path(options.adapters_dir))
    if not folders:
        print(f"No runs in {Path(options.adapters_dir).absolute()}.")
    for folder in folders:
        state = read_state(folder)
        last = state.last_step
        total = state.plan.get("num_steps", "?")
        progress = f"step {last['step']} of {total}, loss {last['smoothed_loss']:.3f}" if last else ""
        print(f"{folder.name:30} {state.status or 'adapter':12} {progress}")
    return EXIT_OK


def run_serve(options: argparse.Namespace) -> int:
    """Open the standalone page."""
    from .hosts.standalone import serve

    serve(
        host=options.host,
        port=options.port,
        model=options.model,
        data_dir=options.data_dir,
        adapters_dir=options.adapters_dir,
        open_browser=not options.no_browser,
    )
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
