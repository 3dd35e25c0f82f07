"""What the command line and the tab offer after a run: merge, GGUF of an adapter, GGUF of a merged model. One way for both.

Guarantee: what is written appears whole or not at all and nothing is overwritten; the result is told line by line as it comes.
Price: see :mod:`.merge`, :mod:`.gguf_adapter` and :mod:`.gguf_model`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

MERGE, GGUF_ADAPTER, GGUF_MODEL = "merge", "gguf adapter", "gguf model"

Say = Callable[[str], None]


@dataclass(frozen=True)
class ExportWish:
    """What is to be written.

    Attributes:
        kind: MERGE, GGUF_ADAPTER or GGUF_MODEL.
        source: folder of the adapter, of one of its checkpoints, or of a merged model (GGUF_MODEL).
        base: folder of the base model; None: the one that the adapter's files name.
        out: the result's place; None: a usual one.
        dtype: number format; "" = the usual one of the kind.
        like: GGUF_MODEL: any GGUF of its base.
        as_trained: MERGE: into the weights as the run had packed them.
        verify: MERGE: load the result and compare it with base and adapter.
    """

    kind: str
    source: Path
    base: Path | None = None
    out: Path | None = None
    dtype: str = ""
    like: Path | None = None
    as_trained: bool = False
    verify: bool = True


def run_export(wish: ExportWish, say: Say) -> Path:
    """Write what is wished for, and say what came of it.

    Returns:
        The folder or file that was written.

    Raises:
        ValueError: it cannot be done; what, why and the remedy.
        OSError: the disk.
    """
    return {MERGE: _merge, GGUF_ADAPTER: _gguf_adapter, GGUF_MODEL: _gguf_model}[wish.kind](wish, say)


def _merge(wish: ExportWish, say: Say) -> Path:
    from .adapter import find_base, read_adapter
    from .merge import make_wish, merge_adapter

    adapter = read_adapter(wish.source)
    base = find_base(adapter, wish.base)
    say(f"adapter: {adapter.folder} ({adapter.method})")
    say(f"base:    {base}")
    made = make_wish(adapter, base, wish.dtype or "auto", as_trained=wish.as_trained)
    if len(made.adapters) > 1:
        say(f"first:   {', then '.join(first.name for first in made.adapters[:-1])} (it was trained on top of them)")
    merged = merge_adapter(made, wish.out, verify=wish.verify, say=say)
    say(f"merged:  {merged.path} ({merged.dtype}); {merged.peak_words}")
    for line in merged.notes:
        say(line)
    if merged.verification is None:
        say("Not compared with base and adapter, as you asked.")
    else:
        for line in filter(None, (merged.verification.words, merged.verification.warning)):
            say(line)
    return merged.path


def _gguf_adapter(wish: ExportWish, say: Say) -> Path:
    from .adapter import find_base, read_adapter
    from .gguf_adapter import write_gguf_adapter

    adapter = read_adapter(wish.source)
    written = write_gguf_adapter(adapter, find_base(adapter, wish.base), wish.out, wish.dtype or "f32")
    say(f"{written.path}: {written.num_pairs} modules for llama.cpp's {written.architecture}, alpha {written.alpha:g}")
    for line in written.notes:
        say(line)
    say(f'llama-server -m BASE.gguf --lora "{written.path}"')
    say(f'In text-generation-webui: Model tab, llama.cpp loader, extra-flags: --lora "{written.path}"')
    return written.path


def _gguf_model(wish: ExportWish, say: Say) -> Path:
    from .gguf_model import write_gguf_model

    written = write_gguf_model(wish.source, wish.like, wish.out, wish.dtype or "f16")
    say(f"{written.path}: {written.num_tensors} tensors for llama.cpp's {written.architecture}")
    for line in written.notes:
        say(line)
    return written.path
