"""Test-only mends for PyPI's gradio 4.37.2 beside the WebUI's other pins.

The WebUI runs a fork of gradio 4.37.2 that is not on PyPI. Tests run PyPI's 4.37.2, which is too old for the libraries that the
WebUI pins. `install` makes it import and serve a page all the same, and behave like the fork where a tab would notice:

- huggingface_hub 1.x no longer has `HfFolder`, which gradio/oauth.py imports by name. The name comes back with the one method
  that gradio calls, `get_token`.
- pydantic from 2.9 on writes `additionalProperties: true` into JSON schemas; gradio_client/utils.py takes every schema for a
  dict, and `launch()` fails with "argument of type 'bool' is not iterable" on a page with a Plot, File, JSON, ... in an event.
- The fork gives a handler None for a Dropdown or Radio value that is not among the choices, unless allow_custom_value; PyPI's
  passes it on. Tests should see what the WebUI does.

Nothing is imported by `install` itself: each mend waits until the module that it mends has been imported. With any other
gradio than 4.x, or none, nothing is done. Never used outside the tests: the WebUI brings its fork, the standalone page today's
gradio.

In the test's own process call `install()` before the first import of gradio. For subprocesses put this folder on PYTHONPATH: its
sitecustomize.py calls `install()` (and only that; a sitecustomize of the Python installation is run first).
"""

import importlib.abc
import importlib.machinery
import importlib.metadata
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

FOLDER = Path(__file__).resolve().parent


def add_hf_folder(huggingface_hub: Any) -> None:
    """The removed class, reduced to what gradio uses."""
    if "HfFolder" not in vars(huggingface_hub):
        huggingface_hub.HfFolder = type("HfFolder", (), {"get_token": staticmethod(lambda: huggingface_hub.get_token())})


def accept_bool_schemas(client_utils: Any) -> None:
    """`true` and `false` are JSON schemas: anything and nothing."""
    original = client_utils._json_schema_to_python_type

    def schema_to_type(schema: Any, defs: Any) -> str:
        if isinstance(schema, bool):
            return "Any" if schema else "None"
        return original(schema, defs)

    client_utils._json_schema_to_python_type = schema_to_type


def drop_unknown_dropdown_values(module: Any) -> None:
    """Dropdown.preprocess as in the fork: one unknown value -> None, unknown ones of several -> left out."""
    original = module.Dropdown.preprocess

    def preprocess(self: Any, payload: Any) -> Any:
        if payload is not None and not self.allow_custom_value:
            known = [value for _, value in self.choices]
            if isinstance(payload, list):
                payload = [value for value in payload if value in known]
            elif payload not in known:
                payload = None
        return original(self, payload)

    module.Dropdown.preprocess = preprocess


def drop_unknown_radio_values(module: Any) -> None:
    """Radio.preprocess as in the fork: an unknown value -> None."""
    original = module.Radio.preprocess

    def preprocess(self: Any, payload: Any) -> Any:
        return original(self, payload if payload in [value for _, value in self.choices] else None)

    module.Radio.preprocess = preprocess


MENDS: dict[str, Callable[[Any], None]] = {
    "huggingface_hub": add_hf_folder,
    "gradio_client.utils": accept_bool_schemas,
    "gradio.components.dropdown": drop_unknown_dropdown_values,
    "gradio.components.radio": drop_unknown_radio_values,
}


class MendingFinder(importlib.abc.MetaPathFinder):
    """Finds the modules of MENDS as usual, and mends each right after it has been executed."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """The usual spec with a loader that mends; None for every other module."""
        if fullname not in MENDS:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            MENDS[fullname](module)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def needed() -> bool:
    """Whether the gradio that would be imported is a 4.x."""
    try:
        return importlib.metadata.version("gradio").startswith("4.")
    except importlib.metadata.PackageNotFoundError:
        return False


def install() -> bool:
    """Mend what is imported already and arrange for the rest; a second call changes nothing.

    Returns:
        Whether there is anything to mend here.
    """
    if not needed():
        return False
    if any(type(finder).__name__ == MendingFinder.__name__ for finder in sys.meta_path):  # also under another module name
        return True
    sys.meta_path.insert(0, MendingFinder())
    for name, mend in MENDS.items():
        if name in sys.modules:
            mend(sys.modules[name])
    return True
