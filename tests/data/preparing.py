"""Helpers of the tests of preparation: rows written to files, files prepared."""

import json
from pathlib import Path
from typing import Any

import tiny
from training_pro.config import DataSettings
from training_pro.data.prepare import Prepared, prepare

TEXT = " ".join(tiny.corpus()[:40])


def prepared(tmp_path: Path, tokenizer: Any = None, seed: int = 42, embed: Any = None, **settings: Any) -> Prepared:
    """Prepare with a cache in the test's folder."""
    settings = {key: str(value) if isinstance(value, Path) else value for key, value in settings.items()}
    return prepare(
        DataSettings(**settings), tokenizer or tiny.fresh_tokenizer(), seed=seed, cache_dir=tmp_path / "cache", embed=embed
    )


def written(folder: Path, *rows: object, name: str = "a.jsonl") -> Path:
    path = folder / name
    path.write_text("".join(row if isinstance(row, str) else json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def chat(*contents: str) -> dict:
    roles = ("user", "assistant")
    return {"messages": [{"role": roles[place % 2], "content": content} for place, content in enumerate(contents)]}


def rows_of(dataset: Any) -> list[dict]:
    return [dict(row) for row in dataset]
