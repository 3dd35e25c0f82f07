"""What preparation found: every number that Check, the run and the README's examples show. Nothing is dropped without a line here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from .origins import Origin
from .sources.report import SourceReport
from .words import counted

if TYPE_CHECKING:
    import numpy as np

    from .selection import Choice

KEPT_EXAMPLES = 50


@dataclass
class DataReport:
    """Counts of one preparation.

    Attributes:
        files: for each file: file, encoding, format, rows, broken.
        num_rows: rows read (conversations, instructions, texts), broken ones not counted.
        num_broken: rows that could not be used; ``broken`` has the first of them with place and reason.
        num_samples: samples to train on; ``num_eval_samples`` are held out.
        num_tokens: tokens of the samples to train on; ``num_trained_tokens`` those with a label.
        longest: the longest samples, in tokens, longest first.
        num_too_long: conversations over the cutoff, left out; ``too_long`` has the first of them.
        num_cut: conversations that were shortened to the cutoff; ``num_cut_replies`` of their replies are not trained.
        num_without_marker: samples without the text of Train only after, trained as if it were not set.
        num_untrained: samples without any trained token, left out.
        num_blocks: blocks that texts were cut into, ``num_overlap_blocks`` of them repeat text of others; ``num_block_tokens`` tokens.
        block_fill: tokens of a block that is no overlap over the longest that it may have, mean; 0 without blocks.
        block_words: what that longest length is.
        num_small_blocks: blocks ignored as too small, of ``num_small_chars`` characters; ``num_small_overlaps`` only repeated others.
        num_cut_sentences: sentences over the cutoff, trained in parts.
        num_duplicates: DEMENTOR blocks equal to the one before, left out.
        routes: how the replies were found -> number of samples (see data.chat).
        reasons: why no better route could be taken, and what of the conversations is not trained -> how often.
        histogram: pairs (upper bound in tokens, number of samples).
        sources: for each data set that is trained on, in the order of data.origins: label, name, rows, samples, tokens stored; weight
            and share as set; used (samples within the share), held_out, at_border (overlap blocks between trained and held-out ones,
            in neither), left_out (by the mix), entries and tokens_in_mix (of an epoch), part (of the epoch's tokens), repeats (how
            often a sample that is trained comes, on average).
        highest_token: largest token id of all samples.
        notes: sentences about what was detected or adjusted.
        unit: what samples are made of where that is not a text: conversations, or exchanges of them.
        seconds: time that preparation took; ``cached`` if it was found prepared.
    """

    files: list[dict[str, Any]] = field(default_factory=list)
    num_rows: int = 0
    num_broken: int = 0
    broken: list[dict[str, Any]] = field(default_factory=list)
    num_samples: int = 0
    num_eval_samples: int = 0
    num_tokens: int = 0
    num_trained_tokens: int = 0
    num_eval_trained_tokens: int = 0
    longest: list[int] = field(default_factory=list)
    num_too_long: int = 0
    too_long: list[dict[str, Any]] = field(default_factory=list)
    num_cut: int = 0
    num_cut_replies: int = 0
    num_without_marker: int = 0
    num_untrained: int = 0
    num_blocks: int = 0
    num_overlap_blocks: int = 0
    num_block_tokens: int = 0
    block_fill: float = 0.0
    block_words: str = "the cutoff"
    num_small_blocks: int = 0
    num_small_chars: int = 0
    num_small_overlaps: int = 0
    num_cut_sentences: int = 0
    num_duplicates: int = 0
    routes: dict[str, int] = field(default_factory=dict)
    reasons: dict[str, int] = field(default_factory=dict)
    histogram: list[tuple[int, int]] = field(default_factory=list)
    sources: list[dict[str, Any]] = field(default_factory=list)
    highest_token: int = -1
    notes: list[str] = field(default_factory=list)
    unit: str = "conversations"
    seconds: float = 0.0
    cached: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Plain values for the diary and the page."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> DataReport:
        """The inverse of :meth:`to_dict`."""
        return cls(**data)

    def lines(self) -> list[str]:
        """The report in short sentences."""
        lines = [
            f"{entry['file']}: {counted(entry['rows'], 'rows')}, {entry['format']}, {entry['encoding']}" for entry in self.files
        ]
        lines.append(
            f"{counted(self.num_samples, 'samples')}, {self.num_tokens} tokens, {self.num_trained_tokens} of them trained"
        )
        if self.longest:
            lines.append(f"longest samples: {', '.join(map(str, self.longest[:3]))} tokens")
        if self.num_eval_samples:
            lines.append(f"{counted(self.num_eval_samples, 'samples')} held out for evaluation")
        if self.num_blocks:
            overlaps = f", {self.num_overlap_blocks} of them overlaps" if self.num_overlap_blocks else ""
            tokens = f"{self.num_block_tokens:,} tokens, filled to {self.block_fill:.0%} of {self.block_words} on average"
            lines.append(f"{counted(self.num_blocks, 'text blocks')}{overlaps}, {tokens}")
        if self.num_cut_sentences:
            lines.append(f"{counted(self.num_cut_sentences, 'sentences')} longer than the cutoff, trained in parts")
        if self.routes:
            lines.append(f"how the replies were found: {', '.join(f'{name} {count}' for name, count in self.routes.items())}")
        return lines + self.left_out() + self.notes

    def source_lines(self) -> list[str]:
        """How much of each data set an epoch trains; nothing where everything is trained once."""
        if len(self.sources) < 2 and all(entry["entries"] + entry["held_out"] == entry["samples"] for entry in self.sources):
            return []
        return [_source_line(entry) for entry in self.sources]

    def left_out(self) -> list[str]:
        """What is not trained, in short sentences."""
        lines = []
        if self.num_broken:
            lines.append(
                f"{counted(self.num_broken, 'broken rows')} left out, the first: {_place(self.broken[0])}: {self.broken[0]['reason']}"
            )
        if self.num_too_long:
            lines.append(
                f"{counted(self.num_too_long, self.unit)} longer than the cutoff left out, the first: {_place(self.too_long[0])}"
            )
        if self.num_cut:
            rest = f"; {counted(self.num_cut_replies, 'replies')} of theirs left out" if self.num_cut_replies else ""
            lines.append(f"{counted(self.num_cut, self.unit)} shortened to the cutoff{rest}")
        if self.num_without_marker:
            lines.append(
                f"{counted(self.num_without_marker, 'samples')} without the text of Train only after, trained without it"
            )
        lines += [f"{count} {reason}" for reason, count in self.reasons.items()]
        if self.num_small_blocks:
            lines.append(
                f"{counted(self.num_small_blocks, 'text blocks')} ({counted(self.num_small_chars, 'characters')}) ignored as too small"
            )
        if self.num_small_overlaps:
            lines.append(f"{counted(self.num_small_overlaps, 'blocks')} of nothing but repeated text ignored as too small")
        if self.num_duplicates:
            lines.append(f"{counted(self.num_duplicates, 'DEMENTOR blocks')} equal to the one before left out")
        if self.num_untrained:
            lines.append(f"{counted(self.num_untrained, 'samples')} without a trained token left out")
        return lines


def _source_line(entry: dict[str, Any]) -> str:
    parts = [f"{entry['samples']:,} samples"]
    if entry["share"] < 1:
        parts.append(f"{entry['used']:,} of them used ({entry['share']:.4g} drawn by seed)")
    if entry["held_out"]:
        parts.append(f"{entry['held_out']:,} held out")
    if entry["at_border"]:
        parts.append(f"{entry['at_border']:,} overlap blocks between these and the others left out")
    if entry["left_out"]:
        parts.append(f"{entry['left_out']:,} left out by the mix")
    if entry["repeats"] > 1:
        parts.append(f"each trained {entry['repeats']:.4g} times an epoch")
    return f"{entry['label']} {entry['name']}: {', '.join(parts)}; {entry['part']:.1%} of the trained data's tokens"


def _place(entry: dict[str, Any]) -> str:
    return f"{entry.get('file', '')}:{entry.get('line', '')}"


def histogram(lengths: Sequence[int] | np.ndarray, num_bins: int = 20) -> list[tuple[int, int]]:
    """Lengths counted in bins of equal width: (upper bound in tokens, number of samples)."""
    import numpy as np

    if not len(lengths):
        return []
    values = np.asarray(lengths)
    width = max(1, -(-int(values.max()) // num_bins))
    counts = np.bincount(-(-values // width))[1:].tolist()
    return [(width * number, count) for number, count in enumerate(counts, start=1)]


def describe(report: DataReport, lengths: np.ndarray, num_trained: np.ndarray, eval_trained: np.ndarray) -> None:
    """Fill in what an epoch trains.

    Args:
        lengths: tokens of each training entry.
        num_trained: tokens of each that have a label.
        eval_trained: the same of the held-out samples.
    """
    import numpy as np

    report.num_samples, report.num_tokens = len(lengths), int(lengths.sum())
    report.num_trained_tokens = int(num_trained.sum(dtype=np.int64))
    longest = np.partition(lengths, -10)[-10:] if len(lengths) > 10 else lengths
    report.longest = [int(length) for length in np.sort(longest)[::-1]]
    report.histogram = histogram(lengths)
    report.num_eval_samples = len(eval_trained)
    report.num_eval_trained_tokens = int(eval_trained.sum(dtype=np.int64))


def describe_sources(
    report: DataReport, origins: Sequence[Origin], source: np.ndarray, lengths: np.ndarray, choice: Choice
) -> None:
    """Fill in what an epoch trains of each data set.

    Args:
        origins: the data sets, in order.
        source: number of the data set of each stored sample.
        lengths: tokens of each stored sample.
        choice: what becomes of the stored samples.
    """
    import numpy as np

    total = max(1, int(lengths[choice.entries].sum()))
    times = np.bincount(choice.entries, minlength=len(source))
    is_held = np.zeros(len(source), dtype=bool)
    is_held[choice.held_out] = True
    for number, (origin, entry) in enumerate(zip(origins, report.sources, strict=True)):
        own = source == number
        tokens, num_entries = int((lengths * times)[own].sum()), int(times[own].sum())
        num_trained, distinct = int(choice.trained[own].sum()), int((times[own] > 0).sum())
        used, held_out = int(choice.used[own].sum()), int(is_held[own].sum())
        entry.update(label=origin.label, name=PurePath(origin.path).name, weight=origin.weight, share=origin.share)
        entry.update(tokens=int(lengths[own].sum()), used=used, held_out=held_out, at_border=used - held_out - num_trained)
        entry.update(left_out=num_trained - distinct, entries=num_entries, tokens_in_mix=tokens)
        entry.update(part=tokens / total, repeats=num_entries / max(1, distinct))


def add_source(report: DataReport, source: SourceReport) -> None:
    """Add the account of the files of one data set."""
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


def nothing_left(report: DataReport, cutoff: int) -> str:
    """Why there is no sample to train on, and the remedy."""
    reasons = []
    if report.num_too_long:
        reasons.append(f"{counted(report.num_too_long, report.unit)} longer than the cutoff of {cutoff} tokens")
    if report.num_untrained:
        reasons.append(f"{counted(report.num_untrained, 'samples')} without a token to train on")
    if report.num_small_blocks:
        reasons.append(f"{counted(report.num_small_blocks, 'text blocks')} ignored as too small")
    why = "; ".join(reasons) or "the files hold no text"
    return f"Data set: nothing is left to train on: {why}. Raise the Cutoff, lower Ignore small blocks, or check the data."
