"""The extension under one importable name, whatever its folder is called.

In a checkout (and an editable install) this package is a redirect: its submodules are the checkout's own files, two
folders up. In a plain wheel the files lie beside this one and nothing is redirected.
"""

from pathlib import Path

_HERE = Path(__file__).resolve().parent
ROOT = _HERE if (_HERE / "script.py").is_file() else _HERE.parents[1]
__path__ = [str(ROOT)]
__version__ = "0.1.0"
