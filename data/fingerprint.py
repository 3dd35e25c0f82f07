"""What tells prepared data apart: the content of files, and what a tokenizer would do.

Guarantee: a moved or renamed folder of the same files is the same; a tokenizer that was used is the same as before. Price: every file is
read once (about a second a GB).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

CHUNK_BYTES = 1 << 20


def hash_file(digest: Any, file: Path, tick: Callable[[int], None] = lambda num_bytes: None) -> None:
    """Take a file's name and content into a digest.

    Args:
        digest: of hashlib.
        file: the file; one that cannot be read is told by its reader.
        tick: called with the bytes of each piece.
    """
    digest.update(file.name.encode("utf-8", "replace"))
    with contextlib.suppress(OSError), file.open("rb") as stream:
        while chunk := stream.read(CHUNK_BYTES):
            digest.update(chunk)
            tick(len(chunk))


def tokenizer_identity(tokenizer: Any) -> str:
    """Changes when the tokenizer would give other ids or render conversations differently."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    parts: list[Any] = [type(tokenizer).__name__, tokenizer.chat_template, sorted(map(str, tokenizer.special_tokens_map.items()))]
    if backend is not None:
        model = json.loads(backend.to_str())
        model.pop("truncation", None), model.pop("padding", None)
        parts.append(model)
    else:
        parts.append(sorted(tokenizer.get_vocab().items()))
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()
