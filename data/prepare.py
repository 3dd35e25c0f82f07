"""From settings to samples: reads, tokenizes, counts, and keeps the result.

What it does: every row becomes one or more samples (a conversation; blocks of a text), written to a memory-mapped Arrow file under a
fingerprint of the files, the tokenizer and the settings. The next preparation of the same finds it and reads nothing. Shares, what is
held out and the mix of several data sets are an index table over that file, so that changing them costs nothing.

Guarantee: Check, preview and training call this same function. A sample is never longer than the cutoff. Whatever is left out is
counted in the report. An interrupted preparation leaves nothing that is taken for a whole one. Memory does not grow with the size of the
files. Price: one Arrow file per set-up on disk, about 8 bytes a token; about 200 bytes a sample in memory at the peak.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from .cache import default_cache_dir, filling
from .conversations import Conversations, ConversationWriter
from .exchanges import EXCHANGE
from .exchanges.joins import Joins
from .fingerprint import hash_file, tokenizer_identity
from .mixing import mix
from .origins import DATA_SET, EVALUATION, Origin, origins_of
from .progress import Meter, Progress
from .report import DataReport, add_source, describe, describe_sources, nothing_left
from .samples import PlacedSample, SampleMaker
from .selection import Choice, Units, hold_out, use_shares
from .sources import list_files, read_rows
from .sources.report import SourceReport, check_broken_share
from .stored import SampleWriter, StoredSamples

__all__ = ["Prepared", "data_fingerprint", "default_cache_dir", "prepare", "tokenizer_identity"]

FORMAT_VERSION = 3
# the settings that change stored samples; those that only choose among them are in _CHOOSING
_SETTINGS = (
    "format",
    "encoding",
    "train_on",
    "train_after",
    "cutoff",
    "block_tokens",
    "too_long",
    "overlap",
    "dementor",
    "stride",
    "cut_at",
    "hard_cut",
    "min_chars",
    "min_tokens",
    "language",
    "add_bos",
    "add_eos",
    "max_broken_share",
)
_CHOOSING = ("dataset_share", "text_share", "more_datasets", "dataset_weight", "text_weight", "mix", "mix_by", "eval_share")


@dataclass(frozen=True)
class Prepared:
    """What a run trains on.

    Attributes:
        train: datasets.Dataset with input_ids, labels (int32 lists), num_trained, group, section, place, source, overlap.
        eval: the same for held-out samples, or None.
        lengths: tokens of each training entry, in order; int64.
        report: what was found.
        fingerprint: identifies the data, the tokenizer and the settings.
        entries: stored sample of each training entry; in a mix the same one can come several times.
        vectors: of all stored samples, shape (samples, dimensions), memory-mapped, if ``embed`` was given: ``vectors[entries]``.
        numbers: columns of all stored samples; :meth:`column` has those of the entries.
        joins: lengths of neighbouring entries as one sample.
        conversations: those that samples were made of, by the samples' ``group``.
        eval_conversations: the same of the held-out samples.
    """

    train: Any
    eval: Any | None
    lengths: np.ndarray
    report: DataReport
    fingerprint: str
    entries: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    vectors: np.ndarray | None = None
    numbers: dict[str, np.ndarray] = field(default_factory=dict)
    joins: Joins | None = None
    conversations: Conversations | None = None
    eval_conversations: Conversations | None = None

    def conversation(self, group: int, *, held_out: bool = False) -> dict[str, Any]:
        """``messages`` and ``tools`` of the conversation that samples were made of, as its file has it.

        Args:
            group: the number in the column ``group`` of ``train``.
            held_out: the number is one of ``eval``.

        Raises:
            KeyError: the group is a text.
        """
        known = self.eval_conversations if held_out else self.conversations
        if known is None:
            raise KeyError(group)
        return known[group]

    def column(self, name: str) -> np.ndarray:
        """Numbers of the training entries: num_trained, group, section, place, source or overlap; no token is touched."""
        return self.numbers[name][self.entries]


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
        seed: decides which samples are used, held out, and repeated in a mix.
        cache_dir: where prepared data are kept; the default is the checkout's ``.cache/prepared``.
        progress: called with the share of the bytes that is read, 0 to 1, and words; see :mod:`data.progress`.
        embed: makes vectors of texts for packers that look at the content (see :mod:`data.embedding`); has an ``identity``.

    Raises:
        ValueError: unusable data; says what, where and the remedy.
    """
    cache = cache_dir or default_cache_dir()
    started = time.monotonic()
    origins = origins_of(data_config)
    fingerprint = data_fingerprint(data_config, tokenizer, embed=embed, progress=progress)
    folder, cached = cache / fingerprint, True
    if not (folder / "report.json").is_file():
        cached = False
        _prepare_into(folder, data_config, tokenizer, progress, embed)
    stored, report = StoredSamples(folder / "train"), _load_report(folder / "train")
    choice = _choose(stored, data_config, origins, seed)
    conversations = eval_conversations = Conversations(folder / "train")
    held = stored.select(choice.held_out) if len(choice.held_out) else None
    eval_trained = stored.numbers["num_trained"][choice.held_out]
    if data_config.eval_dataset:
        evaluation, eval_report = StoredSamples(folder / "eval"), _load_report(folder / "eval")
        held, eval_trained = evaluation.dataset, evaluation.numbers["num_trained"]
        eval_conversations = Conversations(folder / "eval")
        report.notes += [f"Evaluation data set: {line}" for line in eval_report.left_out()]
        report.highest_token = max(report.highest_token, eval_report.highest_token)
    entries, lengths = choice.entries, stored.lengths[choice.entries]
    describe(report, lengths, stored.numbers["num_trained"][entries], eval_trained)
    describe_sources(report, origins, stored.numbers["source"], stored.lengths, choice)
    if data_config.mix == "all" and any(origin.weight != 1 for origin in origins):
        report.notes.append("the weights of the data sets are not used, since Mix is 'all': everything is trained once")
    report.seconds, report.cached = round(time.monotonic() - started, 2), cached
    identity = _identity(fingerprint, data_config, seed)
    joins = Joins(entries, stored.lengths, stored.numbers, stored.more_lengths, data_config.cutoff)
    made = Prepared(stored.select(entries), held, lengths, report, identity, entries, stored.vectors, stored.numbers)
    return replace(made, joins=joins, conversations=conversations, eval_conversations=eval_conversations)


def _choose(stored: StoredSamples, data_config: Any, origins: list[Origin], seed: int) -> Choice:
    """Which stored samples are trained, in which order, and which are held out."""
    numbers = stored.numbers
    pairs = np.stack([numbers["group"], numbers["section"]], axis=1)
    is_new = np.any(pairs[1:] != pairs[:-1], axis=1)
    units = Units(numbers["source"], np.concatenate([[0], np.cumsum(is_new)]), numbers["overlap"])
    used = use_shares(units, [origin.share for origin in origins], seed)
    trained, held_out = used, np.zeros(len(used), dtype=bool)
    if data_config.eval_share and not data_config.eval_dataset:
        trained, held_out = hold_out(units, used, data_config.eval_share, seed)
    kept = np.flatnonzero(trained)
    weights = [origin.weight for origin in origins]
    lengths, groups = stored.lengths[kept], units.unit[kept]
    mixed = mix(units.source[kept], lengths, weights, data_config.mix, seed, unit=data_config.mix_by, groups=groups)
    return Choice(used, trained, kept[mixed], np.flatnonzero(held_out))


# --- fingerprint ---------------------------------------------------------------------------------------------------------------


def data_fingerprint(data_config: Any, tokenizer: Any, *, embed: Any = None, progress: Progress | None = None) -> str:
    """Identifies the stored samples: files (by content), tokenizer, settings and embedding; 16 hexadecimal digits."""
    digest = hashlib.sha256(f"{FORMAT_VERSION}".encode())
    settings = {key: getattr(data_config, key) for key in _SETTINGS} | {"entry": data_config.entry == EXCHANGE}
    digest.update(json.dumps(settings, sort_keys=True, default=str).encode())
    files = [(origin.label, _files(origin)) for origin in [*origins_of(data_config), *_evaluation(data_config)]]
    done = [0]

    def tick(num_bytes: int) -> None:
        done[0] += num_bytes
        meter.tick(0, lambda: f"looking for prepared data: {done[0] / 1e6:,.0f} MB compared")

    meter = Meter(progress, 1)
    for label, paths in files:
        digest.update(f"|{label}|".encode())
        for file in paths:
            hash_file(digest, file, tick)
    if data_config.format_file:
        hash_file(digest, Path(data_config.format_file).expanduser())
    digest.update(tokenizer_identity(tokenizer).encode())
    if embed is not None:
        digest.update(f"|{embed.identity}".encode())
    return digest.hexdigest()[:16]


def _identity(fingerprint: str, data_config: Any, seed: int) -> str:
    """The stored samples and what is chosen of them; the seed only where something is drawn."""
    chosen = {key: getattr(data_config, key) for key in _CHOOSING}
    is_drawn = data_config.eval_share or data_config.mix != "all" or any(origin.share < 1 for origin in origins_of(data_config))
    text = json.dumps([fingerprint, chosen, seed if is_drawn else None], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _evaluation(data_config: Any) -> list[Origin]:
    return [Origin(EVALUATION, data_config.eval_dataset)] if data_config.eval_dataset else []


def _files(origin: Origin) -> list[Path]:
    return list_files(Path(origin.path).expanduser(), label=origin.label)


# --- writing -------------------------------------------------------------------------------------------------------------------


def _prepare_into(folder: Path, data_config: Any, tokenizer: Any, progress: Progress | None, embed: Any) -> None:
    """Fill a folder beside its place and move it there whole."""
    origins, evaluation = origins_of(data_config), _evaluation(data_config)
    total = sum(file.stat().st_size for origin in [*origins, *evaluation] for file in _files(origin))
    meter = Meter(progress, total)
    with filling(folder) as temporary, tokenizing_on_all_cores():
        maker = _Preparation(data_config, tokenizer, meter)
        maker.write(temporary / "train", origins, embed)
        if evaluation:
            maker.write(temporary / "eval", evaluation, None)
        (temporary / "report.json").write_text("{}", encoding="utf-8")
    meter.finish("the data are prepared")


@contextmanager
def tokenizing_on_all_cores() -> Iterator[None]:
    """Many texts at once are tokenized in parallel for a while; outside, processes fork, and the library warns of that."""
    name = "TOKENIZERS_PARALLELISM"
    before = os.environ.get(name)
    os.environ[name] = "true"
    try:
        yield
    finally:
        os.environ[name] = before if before is not None else "false"


@dataclass(frozen=True)
class _Preparation:
    """What every data set of a run is prepared with."""

    data_config: Any
    tokenizer: Any
    meter: Meter

    def write(self, folder: Path, origins: list[Origin], embed: Any) -> None:
        """Samples and report of data sets into a new folder."""
        folder.mkdir()
        report = DataReport()
        decode = partial(self.tokenizer.decode, skip_special_tokens=True)
        with SampleWriter(folder, embed, decode) as writer, ConversationWriter(folder) as conversations:
            maker = SampleMaker(self.data_config, self.tokenizer, report, conversations.add)
            for number, origin in enumerate(origins):
                before = writer.num_samples
                num_rows = report.num_rows
                for sample in self._samples(origin, maker, report):
                    writer.add(sample, number)
                report.sources.append({"rows": report.num_rows - num_rows, "samples": writer.num_samples - before})
        if not writer.num_samples:
            raise ValueError(nothing_left(report, self.data_config.cutoff))
        report.highest_token = writer.highest_token
        (folder / "report.json").write_text(json.dumps(report.to_dict(), ensure_ascii=False), encoding="utf-8")

    def _samples(self, origin: Origin, maker: SampleMaker, report: DataReport) -> Iterator[PlacedSample]:
        config, source = self.data_config, SourceReport()
        rows = read_rows(
            Path(origin.path).expanduser(),
            format=config.format if origin.label in (DATA_SET, EVALUATION) else "auto",
            format_file=config.format_file or None,
            encoding=config.encoding,
            report=source,
            label=origin.label,
        )

        def words() -> str:
            return f"{source.files[-1].name}: {source.num_rows + source.num_broken:,} rows" if source.files else origin.path

        def watched() -> Iterator[Any]:
            for row in rows:
                self.meter.tick(source.bytes_done, words)
                yield row

        for sample in maker.samples(watched(), source):
            self.meter.tick(source.bytes_done, words)
            yield sample
        check_broken_share(source, config.max_broken_share, label=origin.label)
        self.meter.done_before += source.bytes_done
        add_source(report, source)


def _load_report(folder: Path) -> DataReport:
    return DataReport.from_dict(json.loads((folder / "report.json").read_text(encoding="utf-8")))
