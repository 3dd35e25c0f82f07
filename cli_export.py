"""The commands for what comes after a run: merge, gguf, card."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

Command = Callable[[str, Callable[[argparse.Namespace], int], str], argparse.ArgumentParser]


def add_export_commands(command: Command) -> None:
    """Add the commands to the parser of :mod:`.cli`.

    Args:
        command: makes a command of a name, what it runs, and its help.
    """
    merge = command("merge", run_merge, "Merge an adapter into its base: a model folder that everything loads.")
    _add_adapter(merge)
    merge.add_argument("--out", metavar="FOLDER", help="folder of the result (default: BASE-ADAPTER beside the base)")
    merge.add_argument(
        "--dtype", default="auto", choices=("auto", "float32", "bfloat16", "float16"), help="number format (default: as the base)"
    )
    merge.add_argument(
        "--as-trained",
        action="store_true",
        help="merge into the weights as the run had packed them in 4 or 8 bits, not the stored ones",
    )
    merge.add_argument("--no-verify", action="store_true", help="do not load the result and compare it with base and adapter")
    gguf = command(
        "gguf", run_gguf, "Write a LoRA as GGUF, for llama.cpp (--lora), or a merged model as GGUF (--like BASE.gguf)."
    )
    _add_adapter(gguf)
    gguf.add_argument("--out", metavar="FILE.gguf", help="the file (default: in the adapter's folder, or beside the model's)")
    gguf.add_argument(
        "--dtype",
        default="",
        metavar="FORMAT",
        help="f32 or f16 for an adapter (default f32); f32, f16, bf16 or q8_0 for a model (default f16)",
    )
    gguf.add_argument(
        "--like", metavar="BASE.gguf", help="for a merged model: any GGUF of its base, whose vocabulary and settings are taken"
    )
    card = command("card", run_card, "Write the model card (README.md) of an adapter again.")
    card.add_argument("adapter", metavar="ADAPTER", help="folder of the adapter")


def _add_adapter(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "adapter", metavar="ADAPTER", help="folder of the adapter, for example loras/my-lora, or of one of its checkpoints"
    )
    parser.add_argument(
        "--base", metavar="FOLDER", help="folder of the base model (default: the one that the adapter's files name)"
    )


def run_merge(options: argparse.Namespace) -> int:
    """Merge and compare."""
    from .export.commands import MERGE, ExportWish, run_export

    wish = ExportWish(MERGE, Path(options.adapter), _path(options.base), _path(options.out), options.dtype)
    run_export(replace(wish, as_trained=options.as_trained, verify=not options.no_verify), _say)
    return 0


def run_gguf(options: argparse.Namespace) -> int:
    """Write an adapter, or a merged model, for llama.cpp."""
    from .export.commands import GGUF_ADAPTER, GGUF_MODEL, ExportWish, run_export

    source, like = Path(options.adapter), _path(options.like)
    kind = GGUF_MODEL if like or _is_model(source) else GGUF_ADAPTER
    run_export(ExportWish(kind, source, _path(options.base), _path(options.out), options.dtype, like), _say)
    return 0


def _is_model(folder: Path) -> bool:
    return (folder / "config.json").is_file() and not (folder / "adapter_config.json").is_file()


def run_card(options: argparse.Namespace) -> int:
    """Write the card again."""
    from .export.card import NAME, make_card
    from .runs.store import RunFolder

    folder = RunFolder(Path(options.adapter).expanduser().absolute())
    words = make_card(folder)
    _say(words or f"{folder.path / NAME}")
    return 2 if words else 0


def _path(text: Any) -> Path | None:
    return Path(text) if text else None


def _say(text: str) -> None:
    print(text, flush=True)
