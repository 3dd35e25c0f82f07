"""RunConfig: all parameters of a run, in sections (settings_model, settings_data, settings_training).

Guarantee: every parameter is declared in one of these sections and nowhere else; a RunConfig can always be made from what a user wrote, and
``problems()`` then lists everything that must be mended, all at once. Price: a config with problems holds defaults where the
user's values were unusable, so ``problems()`` must be asked before a run starts (the job does).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field, PrivateAttr, ValidationError

from .checks import cross_checks, without_effect
from .field import Section, SettingInfo, setting_info
from .problems import ConfigError, Problem, from_pydantic, unknown_key
from .settings_data import DataSettings
from .settings_model import AdapterSettings, ModelSettings
from .settings_training import BatchingSettings, CheckpointSettings, RunSettings, SampleSettings, TrainingSettings


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

    @classmethod
    def from_overrides(cls, overrides: list[str]) -> RunConfig:
        """The defaults with changes.

        Args:
            overrides: texts ``key=value``, as on the command line.

        Raises:
            ValueError: a text without '='.
        """
        from .loading import apply_overrides

        return cls.from_dict(apply_overrides({}, overrides, {info.field for info in cls.settings()}))

    @property
    def notes(self) -> list[str]:
        """What was understood but has no counterpart, when the file came from another trainer."""
        return self._notes

    def without_effect(self) -> list[str]:
        """Sentences on settings that were changed, but do nothing as the others are."""
        return without_effect(self, {info.field: info for info in self.settings()})

    def problems(self) -> list[Problem]:
        """Everything that must be mended before this run can start, all at once."""
        infos = {info.field: info for info in self.settings()}
        reported = {problem.field for problem in self._load_problems}
        return self._load_problems + [problem for problem in cross_checks(self, infos) if problem.field not in reported]

    def value(self, field: str) -> Any:
        """A setting's value by its dotted name."""
        section, key = field.split(".")
        return getattr(getattr(self, section), key)

    def changes(self) -> dict[str, Any]:
        """The settings that differ from their defaults: dotted name -> value."""
        values = ((info, self.value(info.field)) for info in self.settings())
        return {info.field: value for info, value in values if value != info.default}

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
