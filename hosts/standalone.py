"""The tab as a page of its own, with the embedded model or a folder of the user's."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from .. import ROOT
from ..config import RunConfig
from ..runs.registry import RunHandle
from ..ui.host import CheckResult, Host
from . import engine, files, local
from .worker import start_run

logger = logging.getLogger(__name__)


def make_host(model: str, data_dir: Path, adapters_dir: Path) -> Host:
    """A host for the tab.

    Args:
        model: folder of the model that is offered first; empty for the embedded one.
        data_dir: where the offered data lie.
        adapters_dir: where adapters go.
    """

    def complete(config: RunConfig) -> RunConfig:
        path = config.model.path or model
        changes = {"model": config.model.model_copy(update={"path": path})}
        if config.run.adapters_dir == RunConfig().run.adapters_dir:
            changes["run"] = config.run.model_copy(update={"adapters_dir": str(adapters_dir)})  # type: ignore[assignment]
        # problems found while reading the form stay with the config
        completed = config.model_copy(update=changes)
        completed._load_problems = config._load_problems
        return completed

    def launch(config: RunConfig) -> RunHandle:
        config = complete(config)
        return start_run(config, local.loader(config, logger.info))

    def check(config: RunConfig) -> CheckResult:
        config = complete(config)
        return CheckResult(**vars(engine.check(config, local.loader(config, logger.info))))

    def preview(config: RunConfig, first: int, num: int) -> dict[str, Any]:
        config = complete(config)
        return engine.preview(config, local.loader(config, logger.info), first, num).to_dict()

    return Host(
        launch=launch,
        check=check,
        preview=preview,
        model_facts=lambda: _facts(model),
        adapters_dir=lambda: adapters_dir,
        data_sets=lambda: files.data_sets(data_dir),
        text_files=lambda: files.text_files(data_dir),
    )


def _facts(model: str) -> dict[str, Any]:
    """Facts of the model, as far as they are known without loading it."""
    from .facts import model_facts

    loaded = local.loaded_model(model)
    if loaded is not None:
        return model_facts(loaded, Path(model).name or "SmolLM2-135M-Instruct (embedded)")
    return {"name": Path(model).name or "SmolLM2-135M-Instruct (embedded)", "detail": "is loaded at Check or Start"}


def serve(*, host: str, port: int, model: str, data_dir: str, adapters_dir: str, open_browser: bool) -> None:
    """Open the page and stay until Ctrl-C.

    Raises:
        ValueError: gradio is missing, or the port is taken.
    """
    try:
        from ..ui.page import build_page, launch_options
    except ImportError as error:
        raise ValueError(f"The page needs gradio: pip install 'gradio>=4.37.2' ({error}).") from error
    folder = Path(data_dir).expanduser().absolute() if data_dir else ROOT / "examples"
    page_host = make_host(model, folder, Path(adapters_dir).expanduser().absolute())
    page = build_page(page_host)
    print(f"Training PRO Hybrid: http://{host}:{port}  (Ctrl-C ends it)", flush=True)
    try:
        page.queue().launch(server_name=host, server_port=port, inbrowser=open_browser, share=False, **launch_options())
    except OSError as error:
        raise ValueError(f"The page cannot use port {port}: {error}. Choose another one with --port.") from error
