"""Reading and writing configurations: YAML, JSON, command-line overrides, old parameter files."""

from __future__ import annotations

import contextlib
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from .legacy import from_old_parameters, is_old_parameters

if TYPE_CHECKING:
    from .model import RunConfig


_NO_BREAK = 10_000_000  # characters a line


class _Loader(yaml.SafeLoader):
    """YAML that reads 3e-4 as a number, as everybody expects."""


class _Dumper(yaml.SafeDumper):
    """Puts texts in quotes that :class:`_Loader` would read as numbers."""


for _side in (_Loader, _Dumper):
    _side.add_implicit_resolver(
        "tag:yaml.org,2002:float",
        re.compile(r"^[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?$"),
        list("-+0123456789."),
    )


def parse_yaml(text: str, where: str) -> Any:
    """YAML or JSON text to plain values.

    Raises:
        ValueError: the text is not YAML; with the line.
    """
    if text.lstrip().startswith("{"):
        with contextlib.suppress(ValueError):
            return json.loads(text)
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise ValueError(f"{where} is not valid YAML: {error}. Check the indentation near that line.") from error


def read_config(cls: type[RunConfig], path: Path, overrides: list[str]) -> RunConfig:
    """Read a file into a config; relative paths in it stay relative to the working directory.

    Raises:
        ValueError: missing, unreadable, no YAML or JSON, or no mapping.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ValueError(f"There is no configuration file {path} (looked in {Path.cwd()}). Check the name.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"The configuration file {path} cannot be read: {error}. Save it as UTF-8 text.") from error
    return _config_of(cls, text, path, overrides)


def parse_config(cls: type[RunConfig], text: str) -> RunConfig:
    """A config from text that somebody wrote or pasted: YAML, JSON, or old parameters.

    Raises:
        ValueError: no YAML, or no mapping.
    """
    return _config_of(cls, text, Path("YAML"), [])


def _config_of(cls: type[RunConfig], text: str, path: Path, overrides: list[str]) -> RunConfig:
    data = parse_yaml(text, str(path))
    if not isinstance(data, dict):
        got = "nothing" if data is None else type(data).__name__
        raise ValueError(f"{path} holds no settings: it must be sections such as 'data:' with settings below. Got: {got}.")
    notes: list[str] = []
    if is_old_parameters(data):
        data, notes = from_old_parameters(data, datasets_dir=path.parent)
    config = cls.from_dict(apply_overrides(data, overrides, {info.field for info in cls.settings()}))
    config._notes = notes
    return config


def apply_overrides(data: dict[str, Any], overrides: list[str], fields: set[str]) -> dict[str, Any]:
    """Lay ``key=value`` texts over nested settings.

    Args:
        data: nested sections.
        overrides: ``training.epochs=2`` or, as every setting's name is unique, ``epochs=2``; values are read as YAML.
        fields: dotted names of all settings.

    Raises:
        ValueError: an override without '='.
    """
    by_leaf = {field.rsplit(".", 1)[-1]: field for field in fields}
    result = {section: dict(values) if isinstance(values, dict) else values for section, values in data.items()}
    for override in overrides:
        name, equals, text = override.partition("=")
        if not equals:
            raise ValueError(f"--set {override!r} has no '='. Write --set epochs=2.")
        name = name.strip()
        section, _, key = by_leaf.get(name, name).partition(".")
        value = parse_yaml(text, f"--set {override}") if text.strip() else ""
        if not key:
            result[section] = value
            continue
        if not isinstance(result.get(section), dict):
            result[section] = {}
        result[section][key] = value
    return result


def save_yaml(config: RunConfig, path: Path) -> None:
    """Write a config so that :func:`read_config` gives it back."""
    path.write_text(to_yaml(config), encoding="utf-8")


def to_yaml(config: RunConfig) -> str:
    """The config as YAML text."""
    return yaml.dump(config.to_dict(), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


def changes_yaml(config: RunConfig) -> str:
    """What differs from the defaults, as the YAML of a run."""
    nested: dict[str, dict[str, Any]] = {}
    for field, value in config.changes().items():
        section, key = field.split(".")
        nested.setdefault(section, {})[key] = value
    return yaml.dump(nested, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


def one_line_yaml(value: Any) -> str:
    """A value as YAML on one line, as ``--set`` reads it; without double quotes, and with no backslash at its end, where YAML allows."""
    text = yaml.dump(value, Dumper=_Dumper, default_flow_style=True, allow_unicode=True, width=_NO_BREAK)
    text = text.removesuffix("\n").removesuffix("\n...")
    if "\n" in text:
        return json.dumps(value, ensure_ascii=False)
    return "'" + value.replace("'", "''") + "'" if text.endswith("\\") else text


def example_yaml(cls: type[RunConfig]) -> str:
    """A commented YAML with every setting at its default."""
    lines, section = ["# Every setting with its default. Delete what you do not change."], ""
    for info in cls.settings():
        if info.section != section:
            section = info.section
            lines += ["", f"{section}:"]
        unit = f" [{info.unit}]" if info.unit else ""
        choices = f" Choices: {', '.join(info.choices)}." if info.choices and not info.choice_words else ""
        lines.append(f"  # {info.label}{unit}: {info.help}{choices}")
        lines += [f"  #   {name}: {words}" for name, words in info.choice_words.items()]
        value = json.dumps(info.default, ensure_ascii=False)
        lines.append(f"  {info.key}: {value}")
    return "\n".join(lines) + "\n"


def json_schema(cls: type[RunConfig]) -> str:
    """JSON schema of the YAML, for editors that complete and check it."""
    return json.dumps(cls.model_json_schema(), indent=2, ensure_ascii=False)
