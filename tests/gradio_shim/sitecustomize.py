"""Installs the mends in every Python that has this folder on PYTHONPATH.

Python imports the first sitecustomize that it finds; one that this file hides is run first.
"""

import runpy
import sys
from pathlib import Path

_HERE = Path(__file__).resolve().parent

for _folder in sys.path:
    _other = Path(_folder or ".").resolve() / "sitecustomize.py"
    if _other.parent != _HERE and _other.is_file():
        runpy.run_path(str(_other))
        break

import gradio_mends  # noqa: E402

gradio_mends.install()
