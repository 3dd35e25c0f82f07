"""Entry for the WebUI: no state, no logic.

The WebUI executes this file by path (user_data/extensions) or imports it as ``extensions.<folder>.script``; in neither case are
relative imports of the rooms possible, so it makes the folder importable as ``training_pro`` and hands over.
"""

import sys
from pathlib import Path

_ROOT = Path(__file__).resolve().parent
_IMPORT_ROOT = str(_ROOT / "import_root")
if "training_pro" not in sys.modules and _IMPORT_ROOT not in sys.path:
    sys.path.insert(0, _IMPORT_ROOT)  # first, so that an installed package of that name does not hide this folder

import training_pro  # noqa: E402

if training_pro.ROOT != _ROOT:
    raise ImportError(
        f"Training PRO Hybrid is enabled twice: {training_pro.ROOT} is already loaded, {_ROOT} is a second copy. "
        f"Disable one of the two in the WebUI's Session tab (or remove one folder) and restart."
    )

from training_pro.hosts.webui import custom_css, custom_js, optional_hook, params, setup, ui  # noqa: E402

__all__ = ["custom_css", "custom_js", "params", "setup", "ui"]


def __getattr__(name: str) -> object:
    """The hook that is here only while a model is being trained."""
    return optional_hook(name)
