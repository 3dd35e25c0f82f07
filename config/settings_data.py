"""Settings of the data: what is read, how it becomes samples."""

from __future__ import annotations

from typing import Any

from pydantic import field_validator

from ..data.formats import SOURCES
from .field import Section, setting

TRAIN_ON = ("replies", "everything")
EOS_PLACES = ("every block", "end of section", "none")


class DataSettings(Section):
    """What is trained on and how it is read."""

    dataset: str = setting("", "Data set", "JSON or JSONL file (or a folder of them) with conversations, instructions or texts.")
    format: str = setting("auto", "Data format", "auto looks at each row.", choices=("auto", *SOURCES))
    format_file: str = setting(
        "",
        "Format file",
        "Training PRO's format file (formats/*.json with %field% templates), for the format 'template'.",
        advanced=True,
    )
    text_file: str = setting("", "Text file", "Plain text (.txt) or a folder of them, trained as raw text.")
    encoding: str = setting("auto", "Text encoding", "auto: UTF-8 or detected; or a name such as utf-8, cp1252.", advanced=True)
    train_on: str = setting(
        "replies", "Train on", "replies: only the assistant's words count. everything: the whole conversation.", choices=TRAIN_ON
    )
    cutoff: int = setting(
        512,
        "Maximum context length (Cutoff)",
        "Longest sample. Longer conversations are left out and counted; texts are cut into blocks of this length.",
        unit="tokens",
        ge=8,
        le=1_048_576,
    )
    overlap: float = setting(
        0.0, "Overlap", "Share of a text block that an extra block between two neighbours repeats; 0 = off.", ge=0, le=0.9
    )
    hard_cut: str = setting(
        "\\n\\n\\n",
        "Hard Cut String",
        "Text that separates ideas or chapters: no block crosses it. \\n is a line break; empty = off.",
    )
    min_chars: int = setting(
        0, "Ignore small blocks", "Text blocks of at most this many characters are left out (counted).", unit="characters", ge=0
    )
    add_bos: str = setting(
        "auto",
        "Add BOS token",
        "Begin each text block with the model's BOS token. auto: as its tokenizer does (some use that token to open chat turns only).",
        choices=("auto", "yes", "no"),
        advanced=True,
    )
    add_eos: str = setting(
        "every block", "Add EOS token", "Where text blocks end with the model's EOS token.", choices=EOS_PLACES, advanced=True
    )
    eval_dataset: str = setting("", "Evaluation data set", "File to measure the loss on while training; it is not trained.")
    eval_share: float = setting(
        0.0, "Evaluation share", "Share of the data that is held out for evaluation if there is no evaluation file.", ge=0, le=0.5
    )
    max_broken_share: float = setting(
        0.05,
        "Broken rows allowed",
        "The run refuses to start if a larger share of the rows cannot be read.",
        ge=0,
        le=1,
        advanced=True,
    )

    @field_validator("add_bos", mode="before")
    @classmethod
    def _yes_or_no(cls, value: Any) -> Any:
        """YAML reads yes and no as true and false."""
        return {True: "yes", False: "no"}.get(value, value) if isinstance(value, bool) else value
