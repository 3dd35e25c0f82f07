"""From settings to samples: reads, tokenizes, counts, and keeps the result.

What it does: every row becomes one or more samples (a conversation; blocks of a text), written one by one to a memory-mapped Arrow
file under a fingerprint of the files, the tokenizer and the settings. The next preparation of the same finds it and reads nothing.

Guarantee: Check, preview and training call this same function. A sample is never longer than the cutoff. Whatever is left out is
counted in the report. An interrupted preparation leaves nothing that is taken for a whole one. Price: one Arrow file per set-up
on disk, about 8 bytes a token.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .. import ROOT
from .report import KEPT_EXAMPLES, DataReport, histogram
from .samples import SampleMaker
from .sources import list_files, read_rows
from .sources_report import SourceReport, check_broken_share

FORMAT_VERSION = 1
_SETTINGS = (
    "format",
    "encoding",
    "train_on",
    "cutoff",
    "overlap",
    "hard_cut",
    "min_chars",
    "add_bos",
    "add_eos",
    "max_broken_share",
)

Progress = Callable[[int, str], None]


@dataclass(frozen=True)
class Prepared:
    """What a run trains on.

    Attributes:
        train: datasets.Dataset with input_ids, labels (int32 lists), num_trained, group, place.
        eval: the same for held-out samples, or None.
        lengths: tokens of each training sample, in order.
        report: what was found.
        fingerprint: identifies the data, the tokenizer and the settings.
    """

    train: Any
    eval: Any | None
    lengths: np.ndarray
    report: DataReport
    fingerprint: str


def prepare(
    data_config: Any,
    tokenizer: Any,
    *,
    seed: int = 42,
    cache_dir: Path | None = None,
    progress: Progress | None = None,
    embed: Any = None,
) -> Prepared:
    """Prepare the samples of a run.

    Args:
        data_config: the settings of RunConfig.data.
        tokenizer: of the model that is trained.
        seed: decides which samples are held out.
        cache_dir: where prepared data are kept; the default is the checkout's ``.cache/prepared``.
        progress: called with the number of rows done and what is being read.
        embed: reserved for packers that look at the content.

    Raises:
        ValueError: unusable data; says what, where and the remedy.
    """
    cache = cache_dir or default_cache_dir()
    started = time.monotonic()
    fingerprint = data_fingerprint(data_config, tokenizer)
    folder, cached = cache / fingerprint, True
    if not (folder / "report.json").is_file():
        cached = False
        _prepare_into(folder, data_config, tokenizer, progress or (lambda rows, what: None))
    train, report = _load(folder / "train")
    held_out = None
    if data_config.eval_dataset:
        held_out, eval_report = _load(folder / "eval")
        report.notes += [f"Evaluation data set: {line}" for line in eval_report.left_out()]
    elif data_config.eval_share:
        train, held_out = _split(train, data_config.eval_share, seed)
    _describe(report, train, held_out)
    report.seconds, report.cached = round(time.monotonic() - started, 2), cached
    identity = hashlib.sha256(f"{fingerprint} {data_config.eval_share} {seed if data_config.eval_share else ''}".encode())
    return Prepared(train, held_out, _lengths(train), report, identity.hexdigest()[:16])


def default_cache_dir() -> Path:
    """Where prepared data are kept: TRAINING_PRO_CACHE, the checkout's ``.cache``, or the user's cache if that is not writable."""
    chosen = os.environ.get("TRAINING_PRO_CACHE")
    base = Path(chosen) if chosen else ROOT / ".cache"
    if not chosen and not os.access(ROOT, os.W_OK):
        base = Path.home() / ".cache" / "training_pro"
    return base / "prepared"


# --- fingerprint ---------------------------------------------------------------------------------------------------------------


def data_fingerprint(data_config: Any, tokenizer: Any) -> str:
    """Identifies files (by content), tokenizer and settings; 16 hexadecimal digits."""
    digest = hashlib.sha256(f"{FORMAT_VERSION}".encode())
    digest.update(json.dumps({key: getattr(data_config, key) for key in _SETTINGS}, sort_keys=True, default=str).encode())
    for label, path in (
        ("Data set", data_config.dataset),
        ("Text file", data_config.text_file),
        ("Evaluation data set", data_config.eval_dataset),
    ):
        digest.update(f"|{label}|".encode())
        for file in list_files(Path(path).expanduser(), label=label) if path else []:
            _hash_file(digest, file)
    if data_config.format_file:
        _hash_file(digest, Path(data_config.format_file).expanduser())
    digest.update(tokenizer_identity(tokenizer).encode())
    return digest.hexdigest()[:16]


def _hash_file(digest: Any, file: Path) -> None:
    digest.update(file.name.encode("utf-8", "replace"))
    with contextlib.suppress(OSError), file.open("rb") as stream:  # a file that cannot be read is told by its reader
        while chunk := stream.read(1 << 20):
            digest.update(chunk)


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


# --- writing -------------------------------------------------------------------------------------------------------------------


def _prepare_into(folder: Path, data_config: Any, tokenizer: Any, progress: Progress) -> None:
    """Fill a folder beside its place and move it there whole."""
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        sources = [("Data set", data_config.dataset), ("Text file", data_config.text_file)]
        _write_samples(temporary / "train", sources, data_config, tokenizer, progress)
        if data_config.eval_dataset:
            _write_samples(
                temporary / "eval", [("Evaluation data set", data_config.eval_dataset)], data_config, tokenizer, progress
            )
        (temporary / "report.json").write_text("{}", encoding="utf-8")
        try:
            temporary.replace(folder)
        except OSError:
            if not (folder / "report.json").is_file():  # else another process was faster with the same result
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write_samples(folder: Path, sources: list[tuple[str, str]], data_config: Any, tokenizer: Any, progress: Progress) -> None:
    from datasets import Features, Sequence, Value
    from datasets.arrow_writer import ArrowWriter

    folder.mkdir()
    numbers = {"num_trained": Value("int32"), "group": Value("int32"), "place": Value("int32")}
    features = Features({"input_ids": Sequence(Value("int32")), "labels": Sequence(Value("int32")), **numbers})
    report = DataReport()
    maker = SampleMaker(data_config, tokenizer, report)
    with ArrowWriter(features=features, path=str(folder / "samples.arrow")) as writer:
        for sample in _all_samples(sources, data_config, maker, report, progress):
            writer.write(sample)
        writer.finalize()
    (folder / "report.json").write_text(json.dumps(report.to_dict(), ensure_ascii=False), encoding="utf-8")


def _all_samples(
    sources: list[tuple[str, str]], data_config: Any, maker: SampleMaker, report: DataReport, progress: Progress
) -> Iterator[dict[str, Any]]:
    num_samples = 0
    for label, path in sources:
        if not path:
            continue
        source = SourceReport()
        rows = read_rows(
            Path(path).expanduser(),
            format=data_config.format if label != "Text file" else "auto",
            format_file=data_config.format_file or None,
            encoding=data_config.encoding,
            report=source,
            label=label,
        )
        for number, row in enumerate(rows):
            if number % 100 == 0:
                progress(number, row.file)
            for sample in maker.samples(row, source):
                num_samples += 1
                yield sample
        check_broken_share(source, data_config.max_broken_share, label=label)
        _add_source(report, source)
    if not num_samples:
        raise ValueError(_nothing_left(report, data_config))


def _add_source(report: DataReport, source: SourceReport) -> None:
    for file in source.files:
        kinds = ", ".join(file.formats) or file.layout
        report.files.append(
            {"file": file.name, "encoding": file.encoding, "format": kinds, "rows": file.num_rows, "broken": file.num_broken}
        )
    report.num_rows += source.num_rows
    report.num_broken += source.num_broken
    report.broken += [
        {"file": row.file, "line": row.line, "where": row.where, "reason": row.reason, "excerpt": row.excerpt}
        for row in source.broken[: KEPT_EXAMPLES - len(report.broken)]
    ]
    report.notes += source.notes


def _nothing_left(report: DataReport, data_config: Any) -> str:
    reasons = []
    if report.num_too_long:
        reasons.append(f"{report.num_too_long} conversations are longer than the cutoff of {data_config.cutoff} tokens")
    if report.num_untrained:
        reasons.append(f"{report.num_untrained} samples have no token to train on")
    if report.num_small_blocks:
        reasons.append(f"{report.num_small_blocks} text blocks are ignored as too small")
    why = "; ".join(reasons) or "the files hold no text"
    return f"Data set: nothing is left to train on: {why}. Raise the Cutoff, lower Ignore small blocks, or check the data."


# --- reading back --------------------------------------------------------------------------------------------------------------


def _load(folder: Path) -> tuple[Any, DataReport]:
    from datasets import Dataset

    report = DataReport.from_dict(json.loads((folder / "report.json").read_text(encoding="utf-8")))
    return Dataset.from_file(str(folder / "samples.arrow")), report


def _lengths(dataset: Any) -> np.ndarray:
    """Tokens of each sample, read from the Arrow offsets without touching the tokens."""
    if dataset is None or not len(dataset):
        return np.zeros(0, dtype=np.int64)
    import pyarrow.compute as pc

    column = dataset.with_format("arrow")[:]["input_ids"]
    return np.asarray(pc.list_value_length(column).to_numpy(zero_copy_only=False), dtype=np.int64)


def _split(dataset: Any, share: float, seed: int) -> tuple[Any, Any]:
    """Hold out a share of the conversations and texts; of the samples, where there are too few of those."""
    groups = np.asarray(dataset["group"])
    units = np.unique(groups)
    by_sample = len(units) * share < 1
    if by_sample:
        groups = units = np.arange(len(dataset))
    if len(units) < 2:
        raise ValueError(
            f"Evaluation share: there is only one sample, so none can be held out. Got: {share}. Set it to 0 or add data."
        )
    chosen = np.random.default_rng([seed, 1]).permutation(units)[: min(max(1, round(len(units) * share)), len(units) - 1)]
    held_out = np.isin(groups, chosen)
    return dataset.select(np.flatnonzero(~held_out)), dataset.select(np.flatnonzero(held_out))


def _describe(report: DataReport, train: Any, held_out: Any) -> None:
    lengths = _lengths(train)
    report.num_samples, report.num_tokens = len(train), int(lengths.sum())
    report.num_trained_tokens = int(np.sum(train["num_trained"]))
    report.longest = [int(length) for length in np.sort(lengths)[::-1][:10]]
    report.histogram = histogram(lengths.tolist())
    if held_out is not None:
        report.num_eval_samples = len(held_out)
        report.num_eval_trained_tokens = int(np.sum(held_out["num_trained"]))
