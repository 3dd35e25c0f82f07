"""Puts the package's ``__init__.py`` into a plain wheel.

hatchling maps whole folders only, and in an editable install the file must stay where it redirects to the checkout.
"""

from __future__ import annotations

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class WheelHook(BuildHookInterface):
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "standard":
            # the target is prefixed with training_pro, as all files are (pyproject.toml, wheel.sources)
            build_data["force_include"]["import_root/training_pro/__init__.py"] = "__init__.py"
