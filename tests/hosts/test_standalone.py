"""The page of its own: whose model an entry means, who else can open the page, and its login."""

from pathlib import Path

import pytest
from training_pro.config import RunConfig
from training_pro.hosts.standalone import ServeOptions, exposure_words, make_host, model_title


def test_whose_model(tmp_path: Path) -> None:
    host = make_host("/models/tiny", tmp_path, tmp_path / "loras")
    assert host.model_name(RunConfig()) == "tiny"
    assert host.model_name(RunConfig.from_dict({"model": {"path": "/models/other"}})) == "other"
    assert model_title("") == make_host("", tmp_path, tmp_path).model_name(RunConfig()) != ""
    completed = host.complete(RunConfig())
    assert (completed.model.path, completed.run.adapters_dir) == ("/models/tiny", str(tmp_path / "loras"))
    own = RunConfig.from_dict({"run": {"adapters_dir": str(tmp_path / "mine")}})
    assert host.complete(own).run.adapters_dir == str(tmp_path / "mine")
    assert (host.read_only(), host.exposure()) == ("", "")


@pytest.mark.parametrize(
    ("address", "has_login", "is_open"),
    [
        ("127.0.0.1", False, False),
        ("localhost", False, False),
        ("::1", False, False),
        ("0.0.0.0", False, True),
        ("192.168.1.5", False, True),
        ("0.0.0.0", True, False),
    ],
)
def test_what_strangers_could_do(tmp_path: Path, address: str, has_login: bool, is_open: bool) -> None:
    said = exposure_words(address, has_login)
    assert bool(said) is is_open
    if is_open:
        assert f"(--host {address})" in said
        assert "delete runs with their adapters" in said
        assert "--login NAME:PASSWORD" in said
    assert make_host("", tmp_path, tmp_path, exposure=said).exposure() == said


def test_the_login() -> None:
    assert ServeOptions().auth is None
    assert ServeOptions(login="me:pass:word").auth == ("me", "pass:word")
    for text in ("me", "me:", ":word"):
        with pytest.raises(ValueError, match="--login: a name and a password are needed"):
            assert ServeOptions(login=text).auth
