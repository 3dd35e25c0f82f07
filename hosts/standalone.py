"""The tab as a page of its own, with the embedded model or a folder of the user's."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import ROOT
from ..config import RunConfig
from ..runs.check_report import CheckReport
from ..runs.registry import RunHandle
from ..ui.host import Host
from ..ui.notices import STRANGERS
from . import engine, files, local
from .exporting import export_result
from .worker import start_run

logger = logging.getLogger(__name__)


_EMBEDDED = "SmolLM2-135M-Instruct (embedded)"
_HOME = ("127.0.0.1", "localhost", "::1")


def make_host(model: str, data_dir: Path, adapters_dir: Path, *, exposure: str = "") -> Host:
    """A host for the tab.

    Args:
        model: folder of the model that is offered first; empty for the embedded one.
        data_dir: where the offered data lie.
        adapters_dir: where adapters go.
        exposure: what strangers could do; see :func:`exposure_words`.
    """

    def complete(config: RunConfig) -> RunConfig:
        path = config.model.path or model
        changes = {"model": config.model.model_copy(update={"path": path})}
        if config.run.adapters_dir == RunConfig().run.adapters_dir:
            changes["run"] = config.run.model_copy(update={"adapters_dir": str(adapters_dir)})  # type: ignore[assignment]
        return config.model_copy(update=changes)  # which keeps what was wrong when the form was read

    def launch(config: RunConfig) -> RunHandle:
        config = complete(config)
        return start_run(config, local.loader(config, logger.info))

    def check(config: RunConfig) -> CheckReport:
        config = complete(config)
        return engine.check(config, local.loader(config, logger.info))

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
        exposure=lambda: exposure,
        complete=complete,
        export=export_result,
        model_name=lambda config: model_title(complete(config).model.path),
    )


def exposure_words(host: str, has_login: bool) -> str:
    """What strangers could do where the page listens for other machines and asks for no login; empty if they cannot.

    Args:
        host: address that the page listens on.
        has_login: whether it asks who they are.
    """
    if host in _HOME or has_login:
        return ""
    return f"This page is open to every machine that reaches it (--host {host}) and asks for no login. {STRANGERS} Add --login NAME:PASSWORD, or leave --host out."


def model_title(model: str) -> str:
    """What a model's folder is called; the embedded one has no folder."""
    return Path(model).name or _EMBEDDED


def _facts(model: str) -> dict[str, Any]:
    """Facts of the model, as far as they are known without loading it."""
    from .facts import model_facts

    loaded = local.loaded_model(model)
    if loaded is not None:
        return model_facts(loaded, model_title(model))
    return {"name": model_title(model), "detail": "is loaded at Check or Start"}


@dataclass(frozen=True)
class ServeOptions:
    """How the page is opened.

    Attributes:
        host: address to listen on; 127.0.0.1 = this machine only.
        port: where.
        login: ``NAME:PASSWORD`` that the page asks for; empty = it asks for none.
        open_browser: open it at once.
    """

    host: str = "127.0.0.1"
    port: int = 7866
    login: str = ""
    open_browser: bool = True

    @property
    def auth(self) -> tuple[str, str] | None:
        """Name and password; None if there is no login.

        Raises:
            ValueError: the login is not of that form.
        """
        if not self.login:
            return None
        name, colon, password = self.login.partition(":")
        if not (name and colon and password):
            raise ValueError("--login: a name and a password are needed. Write it as --login NAME:PASSWORD.")
        return name, password


def serve(options: ServeOptions, *, model: str, data_dir: str, adapters_dir: str) -> None:
    """Open the page and stay until Ctrl-C.

    Raises:
        ValueError: gradio is missing, the port is taken, or the login is not of the form NAME:PASSWORD.
    """
    auth = options.auth
    try:
        from ..ui.page import build_page, launch_options
    except ImportError as error:
        raise ValueError(f"The page needs gradio: pip install 'gradio>=4.37.2' ({error}).") from error
    folder = Path(data_dir).expanduser().absolute() if data_dir else ROOT / "examples"
    exposure = exposure_words(options.host, auth is not None)
    page = build_page(make_host(model, folder, Path(adapters_dir).expanduser().absolute(), exposure=exposure))
    print(f"Training PRO Hybrid: http://{options.host}:{options.port}  (Ctrl-C ends it)", flush=True)
    if exposure:
        print(f"warning: {exposure}", flush=True)
    where = {"server_name": options.host, "server_port": options.port, "inbrowser": options.open_browser, "share": False}
    try:
        page.launch(**where, auth=auth, **launch_options())
    except OSError as error:
        raise ValueError(f"The page cannot use port {options.port}: {error}. Choose another one with --port.") from error
