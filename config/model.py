"""RunConfig and its sections: all parameters of a run.

Guarantee: every parameter is declared here and nowhere else; a RunConfig can always be made from what a user wrote, and
``problems()`` then lists everything that must be mended, all at once. Price: a config with problems holds defaults where the
user's values were unusable, so ``problems()`` must be asked before a run starts (the job does).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field, PrivateAttr, ValidationError, field_validator

from ..custom_scheduler import SCHEDULES
from ..data.formats import SOURCES
from ..train_utils import DTYPES, OPTIMIZERS, PRECISIONS, TARGET_PRESETS
from .checks import cross_checks
from .field import Section, SettingInfo, setting, setting_info
from .problems import ConfigError, Problem, from_pydantic, unknown_key

IF_EXISTS = ("stop", "resume", "continue", "replace", "new name")
TRAIN_ON = ("replies", "everything")
EOS_PLACES = ("every block", "end of section", "none")


class ModelSettings(Section):
    """Which model is trained."""

    path: str = setting(
        "",
        "Model",
        "Folder of a Hugging Face model. Empty: the model that is loaded in the WebUI, or the embedded small model elsewhere.",
    )
    dtype: str = setting(
        "auto",
        "Load model in",
        "Number format of the base model's weights. auto: as stored on a GPU, float32 on a CPU.",
        choices=("auto", *DTYPES),
        advanced=True,
    )
    chat_template: str = setting(
        "",
        "Chat template",
        "File (.jinja, or a WebUI .yaml) to use instead of the model's own template. The model gets its own back afterwards.",
        advanced=True,
    )


class AdapterSettings(Section):
    """The adapter (LoRA) that is trained, and its name."""

    name: str = setting(
        "my-lora", "Name", "Name of the adapter and of its folder. Letters, digits, '-' and '_' are safe; no dots."
    )
    if_exists: str = setting(
        "stop",
        "If the name exists",
        "stop: refuse. resume: go on with an unfinished run exactly where it was. continue: train the existing adapter further. "
        "replace: move it into a dated backup first. new name: add a number.",
        choices=IF_EXISTS,
    )
    rank: int = setting(16, "LoRA Rank", "Size of the adapter: 8 for style, 32 and more to teach facts.", ge=1, le=4096)
    alpha: float = setting(
        32, "LoRA Alpha", "Strength of the adapter; the scale is alpha / rank. Usual: 1 to 2 times the rank.", gt=0, le=8192
    )
    dropout: float = setting(
        0.05, "LoRA Dropout", "Share of the adapter's inputs that is dropped while training, against over-fitting.", ge=0, lt=1
    )
    targets: list[str] = setting(
        ["all-linear"],
        "Target modules",
        f"A ready choice ({', '.join(TARGET_PRESETS)}) or names of modules of the model, such as q_proj.",
    )


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


class BatchingSettings(Section):
    """How samples form batches."""

    true_batch_size: int = setting(
        4, "True Batch Size", "Samples that are processed at once. As many as the memory takes.", unit="samples", ge=1, le=4096
    )
    gradient_accumulation: int = setting(
        1,
        "Gradient Accumulation Steps",
        "Batches that are added up before the weights move; a larger batch without more memory.",
        ge=1,
        le=4096,
    )


class TrainingSettings(Section):
    """How long and how fast the weights move."""

    epochs: float = setting(
        3.0, "Epochs", "How often every sample is seen. Parts such as 1.5 are possible.", unit="epochs", gt=0, le=10_000
    )
    learning_rate: float = setting(
        3e-4, "Learning Rate", "3e-4 is a good start for LoRA. 1e-2 is extremely high, 1e-6 extremely low.", gt=0, le=1
    )
    schedule: str = setting(
        "FP_low_epoch_annealing", "LR Scheduler", "How the learning rate changes over the run.", choices=tuple(SCHEDULES)
    )
    warmup_steps: int = setting(
        0, "Warmup Steps", "The learning rate rises from 0 over this many steps.", unit="optimizer steps", ge=0, le=1_000_000
    )
    warmup_share: float = setting(
        0.0, "Warmup Ratio", "The same as a share of the run; counts if Warmup Steps is 0.", ge=0, le=0.9
    )
    optimizer: str = setting(
        "adamw_torch", "Optimizer", "adamw_torch is the safe choice.", choices=tuple(OPTIMIZERS), advanced=True
    )
    weight_decay: float = setting(0.0, "Weight decay", "Pulls weights towards 0; 0 = off.", ge=0, le=1, advanced=True)
    max_grad_norm: float = setting(
        1.0, "Gradient clipping", "Longest gradient that is let through; 0 = off.", ge=0, le=1000, advanced=True
    )
    precision: str = setting(
        "auto",
        "Precision",
        "Number format of the computation. auto: what the device and the model call for.",
        choices=PRECISIONS,
        advanced=True,
    )
    gradient_checkpointing: bool = setting(
        False, "Use Gradient Checkpoint", "Less memory, about a quarter slower; the result is the same."
    )
    seed: int = setting(42, "Seed", "The same seed gives the same run.", ge=0, le=2**31 - 1, advanced=True)


class CheckpointSettings(Section):
    """Saves, evaluations and stops on the way."""

    save_every_steps: int = setting(
        0, "Save every n steps", "A checkpoint every so many steps; 0 = off.", unit="optimizer steps", ge=0
    )
    save_every_epoch: bool = setting(True, "Save at every epoch's end", "A checkpoint at the end of each epoch.")
    keep_last: int = setting(3, "Keep checkpoints", "Older ones are deleted; 0 keeps all.", ge=0)
    eval_every_steps: int = setting(
        0, "Evaluate every n steps", "0: at the end of each epoch, if there is evaluation data.", unit="optimizer steps", ge=0
    )
    stop_at_loss: float = setting(
        0.0, "Stop at loss", "Stop when the smoothed training loss is at or under this; 0 = off.", ge=0, le=100
    )


class SampleSettings(Section):
    """Prompts that the model answers before and after."""

    prompts: list[str] = setting(
        [], "Sample prompts", "Questions that the model answers before and after the training, side by side."
    )
    max_new_tokens: int = setting(
        60, "Longest answer", "Longest answer to a sample prompt.", unit="tokens", ge=1, le=4096, advanced=True
    )


class RunSettings(Section):
    """Where the result goes and how the machine is used."""

    adapters_dir: str = setting(
        "loras", "Adapter folder", "Folder in which each adapter gets a folder of its own. The WebUI sets its own."
    )
    workers: int = setting(
        0, "Data workers", "Extra processes that prepare batches; 0 is right for almost everybody.", ge=0, le=64, advanced=True
    )


class RunConfig(Section):
    """All settings of one run; see the sections for each."""

    model: ModelSettings = Field(default_factory=ModelSettings)
    adapter: AdapterSettings = Field(default_factory=AdapterSettings)
    data: DataSettings = Field(default_factory=DataSettings)
    batching: BatchingSettings = Field(default_factory=BatchingSettings)
    training: TrainingSettings = Field(default_factory=TrainingSettings)
    checkpoints: CheckpointSettings = Field(default_factory=CheckpointSettings)
    samples: SampleSettings = Field(default_factory=SampleSettings)
    run: RunSettings = Field(default_factory=RunSettings)

    _load_problems: list[Problem] = PrivateAttr(default_factory=list)
    _notes: list[str] = PrivateAttr(default_factory=list)

    @classmethod
    def settings(cls) -> list[SettingInfo]:
        """Every setting in the order of the form."""
        infos = []
        for section, field in cls.model_fields.items():
            section_class: Any = field.annotation
            infos += [setting_info(section, key, info) for key, info in section_class.model_fields.items()]
        return infos

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> RunConfig:
        """Make a config from nested sections; unusable values become problems, never exceptions.

        Args:
            data: ``{section: {key: value}}`` as in the YAML.
        """
        infos = {info.field: info for info in cls.settings()}
        clean, problems = _split_unknown(data, infos)
        try:
            config = cls.model_validate(clean)
        except ValidationError as error:
            for entry in error.errors():
                section, key = str(entry["loc"][0]), str(entry["loc"][1])
                info = infos[f"{section}.{key}"]
                problems.append(from_pydantic(dict(entry), info.field, info.label, info.default))
                clean[section].pop(key, None)
            config = cls.model_validate(clean)
        config._load_problems = problems
        return config

    @classmethod
    def from_file(cls, path: str | Path, overrides: list[str] | None = None) -> RunConfig:
        """Read YAML, JSON or an old ``training_parameters.json``.

        Args:
            path: the file.
            overrides: texts ``key=value`` that win over the file, as on the command line.

        Raises:
            ValueError: the file cannot be read or is no mapping.
        """
        from .loading import read_config

        return read_config(cls, Path(path), overrides or [])

    @property
    def notes(self) -> list[str]:
        """What was understood but has no counterpart, when the file came from another trainer."""
        return self._notes

    def problems(self) -> list[Problem]:
        """Everything that must be mended before this run can start, all at once."""
        infos = {info.field: info for info in self.settings()}
        reported = {problem.field for problem in self._load_problems}
        return self._load_problems + [problem for problem in cross_checks(self, infos) if problem.field not in reported]

    def require_valid(self) -> None:
        """Raise all problems as one :class:`ConfigError`."""
        problems = self.problems()
        if problems:
            raise ConfigError(problems)

    def to_dict(self) -> dict[str, Any]:
        """Nested plain values, ready for YAML or JSON."""
        return self.model_dump()


def _split_unknown(data: dict[str, Any], infos: dict[str, SettingInfo]) -> tuple[dict[str, dict[str, Any]], list[Problem]]:
    """Separate known settings from unknown keys and from sections that are no mappings."""
    sections = {info.section for info in infos.values()}
    known = {field: info.label for field, info in infos.items()}
    clean: dict[str, dict[str, Any]] = {section: {} for section in sections}
    problems = []
    for section, values in data.items():
        if section not in sections:
            problems.append(unknown_key(str(section), values, known))
        elif not isinstance(values, dict):
            if values is not None:
                remedy = f"Write '{section}:' and the settings below it, indented."
                problems.append(Problem(section, section, values, "A section holds settings, not a value.", remedy))
        else:
            for key, value in values.items():
                if f"{section}.{key}" in infos:
                    clean[section][key] = value
                else:
                    problems.append(unknown_key(f"{section}.{key}", value, known))
    return clean, problems


__all__ = ["ConfigError", "Problem", "RunConfig"]
