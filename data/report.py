"""What preparation found: every number that Check, the run and the README's examples show. Nothing is dropped without a line here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

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
        num_untrained: samples without any trained token, left out.
        num_blocks: blocks that texts were cut into; ``num_small_blocks`` ignored as too small.
        routes: how the replies were found -> number of samples (see data.chat).
        histogram: pairs (upper bound in tokens, number of samples).
        notes: sentences about what was detected or adjusted.
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
    num_untrained: int = 0
    num_blocks: int = 0
    num_small_blocks: int = 0
    routes: dict[str, int] = field(default_factory=dict)
    histogram: list[tuple[int, int]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
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
        lines = [f"{entry['file']}: {entry['rows']} rows, {entry['format']}, {entry['encoding']}" for entry in self.files]
        lines.append(f"{self.num_samples} samples, {self.num_tokens} tokens, {self.num_trained_tokens} of them trained")
        if self.longest:
            lines.append(f"longest samples: {', '.join(map(str, self.longest[:3]))} tokens")
        if self.num_eval_samples:
            lines.append(f"{self.num_eval_samples} samples held out for evaluation")
        if self.num_blocks:
            small = f", {self.num_small_blocks} ignored as too small" if self.num_small_blocks else ""
            lines.append(f"{self.num_blocks} text blocks{small}")
        return lines + self.left_out() + self.notes

    def left_out(self) -> list[str]:
        """What is not trained, in short sentences."""
        lines = []
        if self.num_broken:
            lines.append(
                f"{self.num_broken} broken rows left out, the first: {_place(self.broken[0])}: {self.broken[0]['reason']}"
            )
        if self.num_too_long:
            lines.append(
                f"{self.num_too_long} conversations longer than the cutoff left out, the first: {_place(self.too_long[0])}"
            )
        if self.num_untrained:
            lines.append(f"{self.num_untrained} samples without a trained token left out")
        return lines


def _place(entry: dict[str, Any]) -> str:
    return f"{entry.get('file', '')}:{entry.get('line', '')}"


def histogram(lengths: Sequence[int], num_bins: int = 20) -> list[tuple[int, int]]:
    """Lengths counted in bins of equal width: (upper bound in tokens, number of samples)."""
    if not len(lengths):
        return []
    width = max(1, -(-max(lengths) // num_bins))
    counts: dict[int, int] = {}
    for length in lengths:
        upper = -(-int(length) // width) * width
        counts[upper] = counts.get(upper, 0) + 1
    return [(upper, counts.get(upper, 0)) for upper in range(width, max(counts) + width, width)]
