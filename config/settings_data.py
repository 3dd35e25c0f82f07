"""Settings of the data: what is read, how it becomes samples."""

from __future__ import annotations

from typing import Any

from pydantic import field_validator

from ..data.chat.choice import TRAIN_ON
from ..data.chat.truncation import TOO_LONG
from ..data.exchanges import ENTRIES
from ..data.formats import SOURCES
from ..data.mixing import MIX_UNITS, MIXES
from ..data.origins import as_share
from ..slicing.cuts import CUTS
from ..slicing.languages import AUTO, LANGUAGES
from .field import Section, setting, worded

EOS_PLACES = {
    "every block": "Each block ends with it.",
    "end of section": "Only the last block before a hard cut or the end of the text.",
    "none": "No block ends with it.",
}
_MIXED = {"data.mix": tuple(name for name in MIXES if name != "all")}  # the mixes that have weights


class DataSettings(Section):
    """What is trained on and how it is read."""

    dataset: str = setting("", "Data set", "JSON or JSONL file (or a folder of them) with conversations, instructions or texts.")
    format: str = setting(
        "auto",
        "Data format",
        "How the rows are written.",
        choices={
            "auto": "Each row is recognised by its keys.",
            **{name: f"Rows with {kind.needs}." for name, kind in SOURCES.items()},
        },
    )
    format_file: str = setting(
        "",
        "Format file",
        "Training PRO's format file (formats/*.json with %field% templates), for the format 'template'.",
        advanced=True,
        only_if={"data.format": ("auto", "template")},
    )
    dataset_share: float = setting(
        1.0,
        "Share of the data set",
        "Part of the conversations that is used, drawn by seed over the whole file (0.25 or 25 %).",
        ge=1e-6,
        le=1,
    )
    text_file: str = setting("", "Text file", "Plain text (.txt) or a folder of them, trained as raw text.")
    text_share: float = setting(
        1.0,
        "Share of the text",
        "Part of the text's sections that is used, drawn by seed over the whole file (0.25 or 25 %).",
        ge=1e-6,
        le=1,
    )
    more_datasets: list[str] = setting(
        [],
        "Further data sets",
        "FILE, FILE = WEIGHT or FILE = WEIGHT, PERCENT %, such as recipes.jsonl = 2, 50 %. The percentage is the part that is used.",
        advanced=True,
    )
    mix: str = setting(
        "all",
        "Mix",
        "How several data sets and the text come together.",
        choices=worded(
            MIXES,
            {
                "all": "Everything once, one after the other.",
                "first exhausted": "Mixed by their weights until the first of them is used up.",
                "all exhausted": "Mixed by their weights until each was used whole; smaller ones are repeated.",
            },
        ),
        advanced=True,
    )
    mix_by: str = setting(
        "samples",
        "Weights count",
        "What the weights are shares of.",
        choices=MIX_UNITS,
        advanced=True,
        only_if=_MIXED,
    )
    dataset_weight: float = setting(
        1.0,
        "Weight of the data set",
        "Its part in the mix, beside the other weights.",
        ge=1e-6,
        advanced=True,
        only_if=_MIXED,
    )
    text_weight: float = setting(
        1.0,
        "Weight of the text",
        "Its part in the mix, beside the other weights.",
        ge=1e-6,
        advanced=True,
        only_if=_MIXED,
    )
    encoding: str = setting("auto", "Text encoding", "auto: UTF-8 or detected; or a name such as utf-8, cp1252.", advanced=True)
    train_on: str = setting(
        "replies",
        "Train on",
        "What of a conversation counts. A message with weight 0 or train: false is never trained.",
        choices=worded(
            TRAIN_ON,
            {
                "replies": "Only the assistant's words.",
                "last reply": "Only the assistant's last words.",
                "everything": "The whole conversation.",
            },
        ),
    )
    train_after: str = setting(
        "",
        "Train only after",
        "Nothing up to and with the first place of this text is trained, in each text block and in each conversation, such as "
        "### Response:. \\n is a line break. Samples without it are trained as if it were empty (counted).",
        advanced=True,
    )
    cutoff: int = setting(
        512,
        "Maximum context length (Cutoff)",
        "Longest sample. What happens to longer conversations stands under Too long; texts are cut into blocks of this length.",
        unit="tokens",
        ge=8,
        le=1_048_576,
    )
    entry: str = setting(
        "auto",
        "Sample of a conversation",
        "What of a conversation is one sample.",
        choices=worded(
            ENTRIES,
            {
                "auto": "exchange for batching modes that join neighbours, else conversation.",
                "conversation": "Each conversation.",
                "exchange": "Each user turn with what follows up to the next one, with the system turn; batching joins them again.",
            },
        ),
        advanced=True,
    )
    block_tokens: int = setting(
        0,
        "Length of text blocks",
        "Shorter blocks than the Cutoff allows, such as a quarter of it, give batching modes that join neighbours something to join; "
        "0 = the Cutoff.",
        unit="tokens",
        ge=0,
        advanced=True,
    )
    too_long: str = setting(
        "drop",
        "Too long",
        "What becomes of conversations over the Cutoff.",
        choices=worded(
            TOO_LONG,
            {
                "drop": "Left out, and counted.",
                "cut front": "The oldest exchanges are left out, the system turn stays.",
                "cut end": "The newest exchanges are left out.",
                "windows": "Cut into several that each begin with the system turn.",
                "cut reply": "Cut at the Cutoff, also inside a reply.",
            },
        ),
    )
    overlap: float = setting(
        0.0,
        "Overlap",
        "Share of a text block that an extra block between two neighbours repeats; 0 = off.",
        ge=0,
        le=0.9,
    )
    dementor: bool = setting(
        False,
        "DEMENTOR",
        "Every sentence of a text starts a block that runs as far as the Cutoff allows: the text is learned by heart. Check tells "
        "how many blocks and tokens that makes.",
    )
    stride: int = setting(
        1,
        "Stride",
        "With DEMENTOR: from the start of a block to the start of the next. Larger = fewer blocks.",
        unit="sentences",
        ge=1,
        advanced=True,
        only_if={"data.dementor": (True,)},
    )
    cut_at: str = setting(
        "string",
        "Hard Cut at",
        "What no text block crosses.",
        choices=worded(
            CUTS,
            {
                "string": "The Hard Cut String, which is left out.",
                "regex": "What the Hard Cut String matches as a regular expression; it is left out.",
                "headings": "Markdown headings, which open the next block.",
                "blank lines": "Every empty line.",
            },
        ),
        advanced=True,
    )
    hard_cut: str = setting(
        "\\n\\n\\n",
        "Hard Cut String",
        "Text that separates ideas or chapters: no block crosses it. \\n is a line break; empty = off. With Hard Cut at regex a "
        "regular expression, such as ^Chapter \\d+$.",
        only_if={"data.cut_at": ("string", "regex")},
    )
    min_chars: int = setting(
        0, "Ignore small blocks", "Text blocks of at most this many characters are left out (counted).", unit="characters", ge=0
    )
    min_tokens: int = setting(
        0,
        "Ignore small blocks (tokens)",
        "Text blocks of at most this many tokens, BOS and EOS not counted, are left out (counted).",
        unit="tokens",
        ge=0,
        advanced=True,
    )
    language: str = setting(
        AUTO,
        "Language of the text",
        "Whose abbreviations and quotes decide where sentences end. auto: detected in each text; other: the rules that need no words.",
        choices=(AUTO, *LANGUAGES),
        advanced=True,
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

    @field_validator("dataset_share", "text_share", mode="before")
    @classmethod
    def _percent(cls, value: Any) -> Any:
        """``25 %`` is 0.25."""
        return as_share(value)
