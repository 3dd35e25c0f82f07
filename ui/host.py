"""What a host hands the tab: callables and facts, since the tab may import neither the trainer nor the WebUI."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..config import RunConfig
    from ..runs.check_report import CheckReport
    from ..runs.registry import RunHandle


def _nothing() -> str:
    return ""


def _as_it_is(config: RunConfig) -> RunConfig:
    return config


def _no_name(config: RunConfig) -> str:
    return ""


@dataclass(frozen=True)
class Host:
    """A place where the tab lives.

    Attributes:
        launch: start a run in the background. Raises ValueError (ConfigError) for the user's mistakes, RunBusyError if one is on.
        check: prepare, plan and estimate without training; never raises for the user's mistakes.
        preview: (config, first, num) -> samples as they would be trained (see ``data.preview.Preview.to_dict``); never raises likewise.
        model_facts: name, device, dtype, modules (name -> count), context, num_parameters; or problem: a sentence why nothing
            can be trained now (no model, llama.cpp, a LoRA is applied, multi-user mode).
        adapters_dir: where adapters live now (the WebUI can move it).
        data_sets: files and folders to offer as Data set: label -> path.
        text_files: likewise as Text file.
        in_webui: the model is the WebUI's; the form hides Model and Adapter folder.
        read_only: why nothing may be changed here (multi-user mode), in a sentence; "" = everything may. Every action of the tab
            that changes something asks for it on the server's side.
        exposure: what strangers could do, in sentences, where other machines reach the page without a login; "" = they cannot.
        complete: the form's settings with what this place adds (adapter folder, model), as `launch` would take them.
        export: (wish, say) -> what was written: merged models and GGUF of a run's result (see hosts.exporting); None = not here.
        model_name: name of the model that `launch` would train with these settings; "" if that is not known or there is none.
    """

    launch: Callable[[RunConfig], RunHandle]
    check: Callable[[RunConfig], CheckReport]
    preview: Callable[[RunConfig, int, int], dict[str, Any]]
    model_facts: Callable[[], dict[str, Any]]
    adapters_dir: Callable[[], Path]
    data_sets: Callable[[], dict[str, str]]
    text_files: Callable[[], dict[str, str]]
    in_webui: bool = False
    read_only: Callable[[], str] = _nothing
    exposure: Callable[[], str] = _nothing
    complete: Callable[[RunConfig], RunConfig] = _as_it_is
    model_name: Callable[[RunConfig], str] = _no_name
    export: Callable[[dict[str, Any], Callable[[str], None]], Path] | None = None
